package agent

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
)

// callbacks runs the user's scripts after events: command, action, role, cluster name (row H-211).
// Nobody waits for them, and a new one ends the one that still runs (row H-212).
type callbacks struct {
	mu     sync.Mutex
	cancel context.CancelFunc
}

// afterJob tells the scripts what a finished job changed (row H-213).
func (a *Agent) afterJob(kind election.JobKind, before election.Role, err error) {
	if err != nil {
		return
	}
	var role string
	a.facts.with(func(f *facts) { role = f.local.Role.String() })
	switch kind {
	case election.JobStart, election.JobClone:
		a.callback("on_start", role)
	case election.JobPromote:
		a.callback("on_role_change", "primary")
	case election.JobStop:
		a.callback("on_stop", before.String())
	case election.JobDemote, election.JobHandOver:
		a.callback("on_stop", before.String())
		a.callback("on_role_change", "replica")
	case election.JobRestart:
		a.callback("on_restart", role)
	case election.JobNone, election.JobBootstrap, election.JobRewind, election.JobCompare:
	}
}

// callback starts one script, if it is configured.
func (a *Agent) callback(action, role string) {
	var command, scope string
	a.facts.with(func(f *facts) {
		c := f.effective.Callbacks
		command = map[string]string{
			"on_start": c.OnStart, "on_stop": c.OnStop, "on_restart": c.OnRestart,
			"on_reload": c.OnReload, "on_role_change": c.OnRoleChange,
		}[action]
		scope = f.cfg.Scope
	})
	if command == "" || a.life == nil {
		return
	}
	ctx, cancel := context.WithCancel(a.life)
	a.calls.mu.Lock()
	if a.calls.cancel != nil && action != "on_reload" {
		a.calls.cancel()
	}
	if action != "on_reload" {
		a.calls.cancel = cancel
	}
	a.calls.mu.Unlock()
	a.wg.Go(func() {
		defer cancel()
		err := a.pg.RunCommand(ctx, action, command, action, role, scope)
		if err != nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("callback failed", zap.String("callback", action), zap.Error(err))
		}
	})
}

// beforeStop runs the user's script before the server is told to stop; its outcome does not matter
// (row H-214).
func (a *Agent) beforeStop(ctx context.Context) {
	var command string
	a.facts.with(func(f *facts) { command = f.effective.BeforeStop })
	if command == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, scriptPatience)
	defer cancel()
	if err := a.pg.RunCommand(ctx, "before_stop", command); err != nil {
		a.log.Warn("before_stop failed", zap.Error(err))
	}
}
