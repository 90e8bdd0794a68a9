package agent

import (
	"context"
	"errors"
	"syscall"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
)

// What the agent asks its fencer to do to the server.

func (g *fencerConn) promote(ctx context.Context, epoch uint64) error {
	return g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Promote(ctx, epoch) })
}

func (g *fencerConn) stop(ctx context.Context, mode fencer.StopMode) error {
	return g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Stop(ctx, mode) })
}

// reload has the server read its files again. One that failed is owed: what was written before it would
// otherwise seem to be in force, and never be asked for again.
func (g *fencerConn) reload(ctx context.Context) error {
	n := g.reloads.Add(1)
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Signal(ctx, syscall.SIGHUP) })
	if err == nil || errors.Is(err, fencer.ErrNotRunning) { // a server that starts reads them anyway
		g.mu.Lock()
		g.reloaded.Store(max(g.reloaded.Load(), n))
		g.mu.Unlock()
	}
	return err
}

func (g *fencerConn) reloadOwed() bool { return g.reloaded.Load() < g.reloads.Load() }

// promise records durably that this member does not race before until. Only its return without error
// means that the record is written.
func (g *fencerConn) promise(ctx context.Context, until election.Instant) error {
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Promise(ctx, until) })
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.told++
	g.state.PromiseUntil = max(g.state.PromiseUntil, until)
	g.mu.Unlock()
	return nil
}

// kill runs the down procedure; it returns when no process is left.
func (g *fencerConn) kill(ctx context.Context) error {
	return g.with(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Kill(ctx) })
}

// policy tells the fencer what becomes of a server without a token, and remembers it: what was told before
// a pause must be told again after it.
func (g *fencerConn) policy(ctx context.Context, p fencer.Policy) error {
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.SetPolicy(ctx, p, 0) })
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told++
	if err != nil {
		g.state.Policy = policyUnknown // it may have been taken over, and is told until there is an answer
		return err
	}
	g.state.Policy = p
	return nil
}

// policyUnknown is neither policy.
const policyUnknown fencer.Policy = "unknown"
