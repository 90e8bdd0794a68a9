package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
)

// Bounds of the steps of a start and a stop. A server that is still recovering when startPatience
// is over goes on doing so; it is then the rules that decide what that means.
const (
	startPatience   = 5 * time.Second
	fastPatience    = 60 * time.Second
	immediateWait   = 500 * time.Millisecond
	killPatience    = 20 * time.Second
	promotePatience = 60 * time.Second
	// scriptPatience bounds pre_promote and before_stop: the cluster waits for them.
	scriptPatience = 60 * time.Second
)

// logFile is where the server's own first words go, before its logging is set up.
func (a *Agent) logFile() string { return filepath.Join(a.pg.Options().StateDir, "postgres.log") }

// startStandby starts the server as a standby.
func (a *Agent) startStandby(ctx context.Context, v election.View, upstream, connURL string) error {
	a.setState(election.StateStarting)
	if connURL != "" {
		if err := a.voidVote(ctx, false); err != nil {
			return fmt.Errorf("start standby: %w", err)
		}
	}
	if _, err := a.writeFiles(v, true, upstream, connURL); err != nil {
		return fmt.Errorf("start standby: %w", err)
	}
	if pid, dying, known := a.guard.server(); known && pid == 0 && !dying {
		if err := a.pg.MendWAL(); err != nil {
			a.log.Warn("torn segments not looked for", zap.Error(err)) // the server may do without
		}
	}
	err := a.launch(ctx, fencer.StartSpec{})
	if errors.Is(err, fencer.ErrRunning) || errors.Is(err, fencer.ErrBusy) {
		return errors.Join(err, a.forgetUpstream()) // what runs was started before and has not read the files
	}
	return err
}

// startPrimary starts the server as the primary it was, armed.
func (a *Agent) startPrimary(ctx context.Context, v election.View) error {
	a.setState(election.StateStarting)
	if _, err := a.writeFiles(v, false, "", ""); err != nil {
		return fmt.Errorf("start primary: %w", err)
	}
	epoch, err := a.keeper.ensureArmed(ctx)
	if err != nil {
		return fmt.Errorf("start primary: %w", err)
	}
	return a.launch(ctx, fencer.StartSpec{Primary: true, Epoch: epoch})
}

// launch starts the postmaster and waits until it accepts connections, exits, or has been given
// the usual time.
func (a *Agent) launch(ctx context.Context, spec fencer.StartSpec) error {
	bin, args, env := a.pg.StartArgs()
	spec.Bin, spec.Args, spec.Env = bin, append([]string{bin}, args...), env
	spec.LogFile, spec.Wire = a.logFile(), a.opt.Fencer.Wire
	mark := postgres.LogMark(spec.LogFile)
	if err := a.guard.start(ctx, spec); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	a.facts.with(func(f *facts) { f.reloadOwed = false }) // it has read the files as they are
	deadline := time.NewTimer(startPatience)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if pid, dying, known := a.guard.server(); known && pid == 0 && !dying {
			return a.startFailure(mark)
		}
		rctx, cancel := context.WithTimeout(ctx, readyTimeout)
		ready, _ := a.pg.Ready(rctx)
		cancel()
		if ready == postgres.Accepting {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			a.log.Info("server is still starting", zap.Stringer("answer", ready))
			return nil
		case <-tick.C:
		}
	}
}

// startFailure says why a server that was just started has exited, from its own words.
func (a *Agent) startFailure(mark int64) error {
	return postgres.StartFailure(a.logFile(), mark)
}

// promote arms the fencer, promotes, and returns when the server is a primary.
func (a *Agent) promote(ctx context.Context, v election.View, act election.Promote) error {
	epoch, err := a.keeper.ensureArmed(ctx)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := a.prePromote(ctx); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := a.readyToLead(ctx, v, act.Sync); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := a.guard.promote(ctx, epoch); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	pctx, cancel := context.WithTimeout(ctx, promotePatience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		in, err := a.pg.InRecovery(pctx)
		if err == nil && !in {
			break
		}
		if a.guard.isDown() {
			return errors.New("promote: the server exited")
		}
		select {
		case <-pctx.Done():
			return fmt.Errorf("promote: wait for the end of recovery: %w", pctx.Err())
		case <-tick.C:
		}
	}
	a.lookOnce(ctx)
	a.publish()
	a.lateConfig(ctx, v)
	return nil
}

// lateConfig writes the files of the new role once the server serves; nobody waits for it.
// prePromote runs the user's script, if there is one (row H-055).
func (a *Agent) prePromote(ctx context.Context) error {
	var command string
	a.facts.with(func(f *facts) { command = f.effective.PrePromote })
	if command == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, scriptPatience)
	defer cancel()
	return a.pg.RunCommand(ctx, "pre_promote", command)
}

func (a *Agent) lateConfig(ctx context.Context, v election.View) {
	changed, err := a.writeFiles(v, false, "", "")
	if err == nil && changed.Files {
		err = a.guard.reload(ctx)
	}
	if err != nil {
		a.log.Warn("configuration of the new role not applied", zap.Error(err))
	}
}

// demote silences the server: the immediate way first, then by force, well before the fencer
// would. The title is forgotten when nothing is left that could write.
func (a *Agent) demote(ctx context.Context, v election.View) error {
	a.leaderUntil.Store(0)
	a.setState(election.StateStopping)
	// A demotion must not be called off with the agent's context half way: it has its own bound.
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
	defer cancel()
	if err := a.guard.stop(dctx, fencer.Immediate); err != nil && !errors.Is(err, fencer.ErrNotRunning) {
		a.log.Warn("immediate stop", zap.Error(err))
	}
	wait := immediateWait
	if v.Own.Held() {
		wait = max(0, min(wait, v.Policy.Margin/3))
	}
	wctx, wcancel := context.WithTimeout(dctx, wait)
	err := a.guard.waitDown(wctx)
	wcancel()
	if err != nil {
		if err := a.guard.kill(dctx); err != nil {
			return fmt.Errorf("demote: %w", err)
		}
		if err := a.guard.waitDown(dctx); err != nil {
			return fmt.Errorf("demote: %w", err)
		}
	}
	a.keeper.drop(dctx)
	return nil
}

// stopServer shuts the server down and, if asked, gives the leader key up with a record.
func (a *Agent) stopServer(ctx context.Context, v election.View, act election.StopServer) error {
	a.leaderUntil.Store(0)
	a.setState(election.StateStopping)
	if act.Fast && v.Local.Role == election.RolePrimary && v.Local.Server == election.ServerRunning {
		a.checkpointFirst(ctx)
	}
	if err := a.shutdown(ctx, act.Fast); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if !act.ReleaseAfter {
		return nil
	}
	rctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	return a.release(rctx, "server stopped")
}

// checkpointFirst makes the shutdown short: what it would have to write is written before
// anybody is sent away. Failing is no reason not to stop.
func (a *Agent) checkpointFirst(ctx context.Context) {
	cctx, cancel := context.WithTimeout(ctx, fastPatience)
	defer cancel()
	if err := a.pg.Checkpoint(cctx); err != nil {
		a.log.Warn("checkpoint before the shutdown", zap.Error(err))
	}
}

// shutdown goes down the ladder: fast, immediate, kill. It returns when no process is left.
func (a *Agent) shutdown(ctx context.Context, fast bool) error {
	if a.guard.isDown() {
		return nil
	}
	if fast {
		a.beforeStop(ctx)
		if err := a.stopAndWait(ctx, fencer.Fast, fastPatience); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return err
		}
		a.log.Warn("fast shutdown takes too long, going on with an immediate one")
	}
	if err := a.stopAndWait(ctx, fencer.Immediate, 5*time.Second); err == nil || ctx.Err() != nil {
		return err
	}
	kctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	if err := a.guard.kill(kctx); err != nil {
		return err
	}
	return a.guard.waitDown(kctx)
}

func (a *Agent) stopAndWait(ctx context.Context, mode fencer.StopMode, patience time.Duration) error {
	if err := a.guard.stop(ctx, mode); err != nil && !errors.Is(err, fencer.ErrNotRunning) && !errors.Is(err, fencer.ErrBusy) {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return a.guard.waitDown(wctx)
}

// restartServer stops the server and starts it again in the role it has.
func (a *Agent) restartServer(ctx context.Context, v election.View, act election.RestartServer) (err error) {
	defer func() {
		outcome := ""
		if err != nil {
			outcome = err.Error()
		}
		a.facts.with(func(f *facts) { f.finishCommand(act.Command, outcome) })
	}()
	primary := v.Local.Role == election.RolePrimary
	a.leaderUntil.Store(0)
	if primary {
		a.checkpointFirst(ctx)
	}
	a.setState(election.StateRestarting)
	if err := a.shutdown(ctx, true); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	if primary {
		return a.startPrimary(ctx, v)
	}
	up := a.upstreamNow()
	return a.startStandby(ctx, v, up.Name, up.ConnURL)
}
