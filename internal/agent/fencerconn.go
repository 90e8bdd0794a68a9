package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
)

// How the fencer is talked to. None of these bounds moves a deadline: T is the fencer's own.
const (
	fencerCall    = 2 * time.Second
	fencerConnect = 5 * time.Second
	fencerRetry   = 100 * time.Millisecond
	// secondPatience is what the second of a killed fencer gets to start another.
	secondPatience = 500 * time.Millisecond
	// fencerPatience is the least time that a renewal waits for the fencer.
	fencerPatience = 300 * time.Millisecond
)

// fencerConn owns the connection to the fencer: it makes it, makes it again when it breaks, and
// keeps what the fencer last said.
type fencerConn struct {
	a *Agent

	mu     sync.Mutex
	client *fencer.Client
	state  fencer.State
	ackAt  election.Instant
	// dying: the postmaster's exit was reported, its silence not yet.
	dying bool
	// unanswered: a start was asked for and not answered, and what was heard since may be older than it.
	unanswered bool
	// exited and downed are the last postmasters of which that was reported: an event may overtake
	// the answer to the start that it belongs to, or be late and speak of an earlier server.
	exited, downed int
	askedAt        election.Instant // when the state was last asked for out of doubt
	// told counts what changed the state here: an answer about the state that was overtaken by an
	// event, or by a call of our own, is old news.
	told uint64
	// reloads counts what the server was to read again, reloaded up to which of them it was told.
	reloads, reloaded atomic.Uint64
	// first is closed when the fencer has been reached once.
	first chan struct{}
	once  sync.Once
	// down is replaced and closed at each Down event, so that a job can wait for it.
	down chan struct{}
}

func (g *fencerConn) init(a *Agent) {
	g.a = a
	g.first = make(chan struct{})
	g.down = make(chan struct{})
}

// view is the fencer as decisions see it.
func (g *fencerConn) view() election.Fencer {
	g.mu.Lock()
	defer g.mu.Unlock()
	lacks := ""
	if !g.wireHolds() {
		lacks = noWire
	}
	return election.Fencer{
		Alive: g.client != nil, Armed: g.state.Armed, Epoch: g.state.Token.Epoch,
		Until: g.state.Token.Until, Revision: g.state.Token.LeaderRevision, AckAt: g.ackAt, Lacks: lacks,
	}
}

const noWire = "its fencer cannot close the wire (pgha.wire_fence: required)"

// wireHolds says that the fence on the wire is there, if the configuration insists on it. Callers
// hold mu.
func (g *fencerConn) wireHolds() bool {
	return g.a.opt.Config.Pgha.WireFence != config.WireFenceRequired || g.state.Wire.Works()
}

// mayLead asks the fencer, which has been armed, whether it has all that the configuration asks for.
func (g *fencerConn) mayLead(ctx context.Context) error {
	if g.a.opt.Config.Pgha.WireFence != config.WireFenceRequired {
		return nil
	}
	g.refresh(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.wireHolds() {
		return errors.New(noWire)
	}
	return nil
}

// snapshot is the last known state, and whether the connection stands.
func (g *fencerConn) snapshot() (fencer.State, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.client != nil
}

// server says whether a postmaster runs, is dying, or is proven down; known is false without word
// from the fencer.
func (g *fencerConn) server() (pid int, dying, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Postmaster, g.dying || g.state.Busy, g.client != nil
}

// run connects, listens, and connects again. It ends with ctx.
func (g *fencerConn) run(ctx context.Context) error {
	for {
		c, st, err := g.connect(ctx)
		switch {
		case ctx.Err() != nil:
			if c != nil {
				_ = c.Close()
			}
			return ctx.Err()
		case errors.Is(err, fencer.ErrSuperseded):
			return fmt.Errorf("another agent of this member is running: %w", err)
		case err != nil:
			g.a.log.Error("fencer not reachable", zap.Error(err))
			if !sleepCtx(ctx, fencerRetry) {
				return ctx.Err()
			}
			continue
		}
		g.mu.Lock()
		g.client, g.state, g.ackAt = c, st, Now()
		g.dying, g.unanswered = st.Busy, st.Starting
		g.mu.Unlock()
		g.once.Do(func() { close(g.first) })
		g.a.log.Info("fencer connected", zap.Int("fencer_pid", st.PID), zap.Bool("armed", st.Armed),
			zap.Int("postmaster", st.Postmaster), zap.String("priority", st.Priority),
			zap.String("kill_method", st.KillMethod), zap.String("wire", string(st.Wire)), zap.Strings("problems", st.Problems))
		g.a.keeper.rearm(ctx)
		g.a.lookNow()
		g.a.poke()
		// Events ends with the connection: by the fencer's death, or by ours.
		unhook := context.AfterFunc(ctx, func() { _ = c.Close() })
		for ev := range c.Events() {
			g.event(ev)
		}
		unhook()
		g.mu.Lock()
		g.client = nil
		g.mu.Unlock()
		_ = c.Close()
		g.a.poke()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (g *fencerConn) connect(ctx context.Context) (*fencer.Client, fencer.State, error) {
	cctx, cancel := context.WithTimeout(ctx, fencerConnect)
	defer cancel()
	opts := g.a.opt.Fencer
	g.mu.Lock()
	second := g.state.SecondPID
	g.mu.Unlock()
	// Its second may be root, which this process is not any more.
	if second > 0 && !errors.Is(syscall.Kill(second, 0), syscall.ESRCH) {
		opts.Patience = secondPatience
	}
	return fencer.Connect(cctx, opts, fencer.Hello{Name: g.a.opt.Config.Name, Incarnation: g.a.opt.Incarnation})
}

func (g *fencerConn) event(ev fencer.Event) {
	log := g.a.log.With(zap.Int("pid", ev.Pid), zap.String("fencer_reason", ev.Reason))
	g.mu.Lock()
	g.told++
	switch ev.Kind {
	case fencer.EventExited:
		g.exited = ev.Pid
		if ev.Pid == g.state.Postmaster || g.state.Postmaster == 0 {
			g.state.Postmaster, g.dying = 0, true
		}
		log.Warn("postmaster exited", zap.Bool("status_known", ev.Status.Known), zap.Int("code", ev.Status.Code), zap.Int("signal", ev.Status.Signal))
	case fencer.EventDown:
		g.downed = ev.Pid
		if g.state.Postmaster == 0 || ev.Pid == g.state.Postmaster || ev.Pid == 0 {
			// After an unanswered start only a State says that no server comes up: this one went down
			// before it, perhaps.
			g.state.Postmaster, g.dying, g.state.Busy = 0, false, g.unanswered
			g.state.Lingering = ev.Lingering
		}
		close(g.down)
		g.down = make(chan struct{})
		log.Info("server is down")
	case fencer.EventFenced:
		g.dying = true
		g.state.FencedAt = ev.At
		g.ended(ev.Epoch)
		log.Error("the fencer silenced the server: its deadline passed")
	case fencer.EventLapsed:
		g.ended(ev.Epoch)
		log.Warn("the fencer's deadline passed during the pause: the server runs on without a fence")
	case fencer.EventKilled:
		g.dying = true
		log.Error("the fencer silenced a writable server without a title")
	case fencer.EventObserved:
		log.Warn("the fencer sees a writable server without a title and lets it be")
	case fencer.EventClosed:
		log.Warn("fencer connection closed")
	}
	g.mu.Unlock()
	g.a.lookNow()
	g.a.poke()
}

// ended: the token of an epoch counts no more; an event may come after the answer to the next arm. Callers
// hold mu.
func (g *fencerConn) ended(epoch uint64) {
	if epoch == 0 || epoch == g.state.Token.Epoch {
		g.state.Armed = false
	}
}

// with runs one call on the connection, bounded.
func (g *fencerConn) with(ctx context.Context, fn func(context.Context, *fencer.Client) error) error {
	g.mu.Lock()
	c := g.client
	g.mu.Unlock()
	if c == nil {
		return errors.New("the fencer is not connected")
	}
	return fn(ctx, c)
}

func (g *fencerConn) call(ctx context.Context, fn func(context.Context, *fencer.Client) error) error {
	cctx, cancel := context.WithTimeout(ctx, fencerCall)
	defer cancel()
	return g.with(cctx, fn)
}

// arm gives the fencer a token with a fresh epoch and returns that epoch.
func (g *fencerConn) arm(ctx context.Context, t fencer.Token) (uint64, error) {
	g.mu.Lock()
	if t.Epoch == 0 {
		t.Epoch = g.state.LastEpoch + 1
	}
	g.mu.Unlock()
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Arm(ctx, t) })
	if errors.Is(err, fencer.ErrEpoch) || errors.Is(err, fencer.ErrPast) {
		// The epoch remembered here has ended meanwhile: take the next one after the fencer's own.
		g.refresh(ctx)
		st, _ := g.snapshot()
		t.Epoch = st.LastEpoch + 1
		err = g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Arm(ctx, t) })
	}
	if err != nil {
		return 0, err
	}
	g.took(t)
	return t.Epoch, nil
}

// took notes a token that the fencer has taken. Within an epoch it moves its deadline only forward,
// whatever it is told: one that is to lie earlier needs an epoch of its own.
func (g *fencerConn) took(t fencer.Token) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Armed && g.state.Token.Epoch == t.Epoch {
		t.Until = max(t.Until, g.state.Token.Until)
	}
	g.told++
	g.state.Armed, g.state.Token = true, t
	g.state.LastEpoch = max(g.state.LastEpoch, t.Epoch)
	g.ackAt = Now()
}

// unresponsive makes way for a new fencer when the present one does not answer: it is killed if this
// user may do that, and the next one adopts the server with the same token. If not, the title runs
// out, and the second fencer strikes.
func (g *fencerConn) unresponsive(err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	g.mu.Lock()
	pid := g.state.PID
	g.mu.Unlock()
	if pid <= 1 {
		return
	}
	if kerr := syscall.Kill(pid, syscall.SIGKILL); kerr != nil {
		g.a.log.Error("the fencer hangs and cannot be replaced", zap.Int("fencer_pid", pid), zap.Error(kerr))
		return
	}
	g.a.log.Warn("the fencer hangs and is replaced", zap.Int("fencer_pid", pid))
}

// renew moves the deadline; it returns once the fencer has taken it over.
func (g *fencerConn) renew(ctx context.Context, epoch uint64, revision int64, until election.Instant) error {
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Renew(ctx, epoch, revision, until) })
	if err != nil {
		return err
	}
	g.renewed(epoch, revision, until)
	return nil
}

// renewed notes a renewal that the fencer has taken.
func (g *fencerConn) renewed(epoch uint64, revision int64, until election.Instant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told++
	g.ackAt = Now()
	if t := &g.state.Token; t.Epoch == epoch {
		t.Until, t.LeaderRevision = max(t.Until, until), revision
	}
}

// disarm is for a server that is down or in recovery; the fencer checks that itself.
func (g *fencerConn) disarm(ctx context.Context, epoch uint64) error {
	if epoch == 0 {
		return nil
	}
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error { return c.Disarm(ctx, epoch) })
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.told++
	g.state.Armed = false
	g.mu.Unlock()
	return nil
}

func (g *fencerConn) start(ctx context.Context, spec fencer.StartSpec) error {
	var pid int
	g.mu.Lock()
	g.told++
	g.exited, g.downed = 0, 0 // process ids come back, in a container soon
	g.mu.Unlock()
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error {
		var err error
		pid, err = c.Start(ctx, spec)
		return err
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fencer.ErrClosed) {
			// The request may still be on its way: until the fencer says otherwise, a server may come up.
			g.mu.Lock()
			g.state.Busy, g.unanswered = true, true
			g.mu.Unlock()
		}
		return err
	}
	g.mu.Lock()
	g.told++
	g.state.Busy, g.unanswered = false, false // by this start, if anything: none succeeds while a server goes down
	switch pid {
	case g.downed:
		g.state.Postmaster, g.dying = 0, false
	case g.exited:
		g.state.Postmaster, g.dying = 0, true
	default:
		g.state.Postmaster, g.dying = pid, false
	}
	g.mu.Unlock()
	g.a.lookNow()
	return nil
}

// spares says that the fencer, if there is one, has been told to let the server be.
func (g *fencerConn) spares() bool {
	st, alive := g.snapshot()
	return !alive || st.Policy == fencer.PolicyObserve
}

// isDown says that no process of the server is left, by the fencer's word.
func (g *fencerConn) isDown() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.client != nil && g.state.Postmaster == 0 && !g.dying && !g.state.Busy
}

// waitDown waits until the server is proven down, or ctx ends.
func (g *fencerConn) waitDown(ctx context.Context) error {
	for {
		g.mu.Lock()
		down, ch := g.client != nil && g.state.Postmaster == 0 && !g.dying && !g.state.Busy, g.down
		g.mu.Unlock()
		if down {
			return nil
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the server to be down: %w", ctx.Err())
		case <-ch:
		case <-t.C:
			// The event may have gone to a connection that broke: ask.
			g.refresh(ctx)
		}
		t.Stop()
	}
}

// doubt asks the fencer again when it has been said for a while that the server is going down or
// coming up: the event that ends that may have been lost with a connection.
func (g *fencerConn) doubt(ctx context.Context) {
	g.mu.Lock()
	due := Now()-g.askedAt > time.Second
	if due {
		g.askedAt = Now()
	}
	g.mu.Unlock()
	if due {
		g.refresh(ctx)
	}
}

// refresh asks the fencer for its state. If something changed it meanwhile, the answer may be older
// and is not taken: a server that went down in between would seem to run for ever, and one that was
// started in between to be down.
func (g *fencerConn) refresh(ctx context.Context) {
	var st fencer.State
	g.mu.Lock()
	told := g.told
	g.mu.Unlock()
	err := g.call(ctx, func(ctx context.Context, c *fencer.Client) error {
		var err error
		st, err = c.State(ctx)
		return err
	})
	if err != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.told != told {
		return
	}
	g.state = st
	g.dying, g.unanswered = st.Busy, st.Starting
}

func sleepCtx(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
