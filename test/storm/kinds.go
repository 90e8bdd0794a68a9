package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/test/cluster"
)

// allKinds are the faults of the storm with their weights.
func allKinds() []kind {
	return slices.Concat(processKinds(), networkKinds(), storeKinds(), diskKinds(), operatorKinds(), twiceKinds())
}

func processKinds() []kind {
	const (
		agent, server = cluster.Agent, cluster.Server
		fencers       = cluster.Fencers
	)
	return []kind{
		{name: "kill postmaster", weight: 4, begin: kill(cluster.Postmaster)},
		{name: "kill server", weight: 2, begin: kill(server)},
		{name: "kill agent", weight: 4, begin: kill(agent)},
		{name: "kill agent+server", weight: 3, begin: kill(agent | server)},
		{name: "kill fencer", weight: 2, begin: kill(cluster.Fencer)},
		{name: "kill second fencer", weight: 1, begin: kill(cluster.Second)},
		{name: "kill fencers", weight: 2, begin: kill(fencers)},
		{name: "kill agent+fencer", weight: 2, begin: kill(agent | cluster.Fencer)},
		{name: "kill agent+fencers", weight: 2, begin: killSupervised},
		{name: "kill node", weight: 6, begin: kill(cluster.Node)},
		{name: "freeze agent", weight: 5, begin: freeze(agent)},
		{name: "freeze server", weight: 2, begin: freeze(server)},
		{name: "freeze fencer", weight: 2, begin: freeze(cluster.Fencer)},
		{name: "freeze agent+fencer", weight: 2, begin: freeze(agent | cluster.Fencer)},
		{name: "freeze node", weight: 5, begin: freeze(cluster.Node)},
		{name: "upgrade agent", weight: 3, begin: upgrade},
		{name: "stop node", weight: 2, begin: stopNode},
	}
}

// kill sends SIGKILL to processes of one member.
func kill(kinds cluster.Kind) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		m := sc.victim()
		sc.moves = m == sc.primary && (kinds&cluster.Server != 0 || kinds&cluster.Fencers != 0 || sc.outlasts())
		return sc.down(ctx, m, kinds)
	}
}

// killSupervised kills agent and both fencers of a member whose server lives on. Nobody is left to
// bring that down, so it is part of the deal that the agent is started again before the lease has
// run out: here within an eighth of it.
func killSupervised(ctx context.Context, sc *scene) error {
	m := sc.victim()
	sc.moves = m == sc.primary
	if err := sc.down(ctx, m, cluster.Agent|cluster.Fencers); err != nil {
		return err
	}
	if err := sc.s.pass(ctx, min(sc.hold, sc.s.o.ttl/8)); err != nil {
		return err
	}
	return sc.endNow(ctx)
}

// freeze stops processes of one member and lets them run again.
func freeze(kinds cluster.Kind) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		m := sc.victim()
		if m.Frozen() {
			return fmt.Errorf("%w: %s is frozen already", errVoid, m.Name)
		}
		if err := sc.lives(m, kinds); err != nil {
			return err
		}
		sc.moves = m == sc.primary && (sc.outlasts() || sc.synchronous() && kinds&cluster.Server != 0)
		if err := m.Freeze(ctx, kinds); err != nil {
			return err
		}
		sc.undoLater(func(ctx context.Context) error {
			if !m.Frozen() {
				return fmt.Errorf("%s did not stay frozen", m.Name)
			}
			return m.Thaw(ctx)
		})
		return nil
	}
}

// upgrade makes the agent leave server, fencer and leader key as they are, and starts the next one.
func upgrade(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if err := sc.lives(m, cluster.Agent); err != nil || m.Frozen() {
		return orVoid(err, m)
	}
	found, err := m.Processes(cluster.Agent)
	if err != nil {
		return err
	}
	server, agent := m.PostmasterPID(), m.AgentPID()
	sc.s.expect(m)
	sc.undoLater(func(context.Context) error { sc.s.unexpect(m); return m.Start() })
	for _, p := range found {
		if err := p.Signal(unix.SIGUSR1); err != nil {
			return err
		}
	}
	select {
	case <-m.Exited():
	case <-time.After(10 * time.Second):
		return fmt.Errorf("the agent of %s (%d) did not make way for the next one within 10 s", m.Name, agent)
	}
	if now := m.PostmasterPID(); now != server && !sc.second {
		return fmt.Errorf("the agent of %s made way, but took the server with it: %d, then %d", m.Name, server, now)
	}
	return sc.endNow(ctx)
}

// endNow ends a fault that does not last as long as the others of its step.
func (sc *scene) endNow(ctx context.Context) error {
	err := sc.end(ctx)
	sc.undo, sc.hold = nil, min(sc.hold, sc.s.o.ttl)
	return err
}

// stopNode stops the agent, and its server with it, in good order, and starts it again later.
func stopNode(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if err := sc.lives(m, cluster.Agent); err != nil || m.Frozen() {
		return orVoid(err, m)
	}
	sc.moves = m == sc.primary
	sc.s.expect(m)
	sc.undoLater(func(context.Context) error { sc.s.unexpect(m); return m.Start() })
	if err := m.Stop(ctx); err != nil {
		return err
	}
	if left, err := m.Processes(cluster.Server); err != nil || len(left) > 0 {
		return fmt.Errorf("stopped %s, and its server still runs: %v (error: %w)", m.Name, left, err)
	}
	return nil
}

func orVoid(err error, m *cluster.Member) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s is frozen", errVoid, m.Name)
}

func operatorKinds() []kind {
	return []kind{
		{name: "switchover", weight: 4, begin: switchover},
		{name: "switchover, then kill", weight: 5, alone: true, begin: switchoverAndKill},
		{name: "failover by hand", weight: 2, begin: failoverByHand},
		{name: "pause", weight: 4, alone: true, begin: pause},
	}
}

// switchover asks for another primary and demands to get it.
func switchover(ctx context.Context, sc *scene) error {
	to := sc.candidate(ctx)
	sc.moves, sc.what, sc.hold = true, "to "+to.Name, 0
	return sc.operate(ctx, sc.primary, "/switchover", map[string]any{"leader": sc.primary.Name, "candidate": to.Name})
}

func failoverByHand(ctx context.Context, sc *scene) error {
	to := sc.candidate(ctx)
	sc.moves, sc.what, sc.hold = true, "to "+to.Name, 0
	return sc.operate(ctx, to, "/failover", map[string]any{"candidate": to.Name})
}

// operate sends an operator's command. In a healthy cluster it has to succeed; beside another
// fault any answer will do.
func (sc *scene) operate(ctx context.Context, m *cluster.Member, path string, body map[string]any) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	answer, err := m.HTTP(ctx, http.MethodPost, path, body)
	if sc.second {
		if err != nil {
			return fmt.Errorf("%w: %s of %s is not answered", errVoid, path, m.Name)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("POST %s to %s: %w", path, m.Name, err)
	}
	if answer.Code != http.StatusOK {
		return fmt.Errorf("POST %s to %s in a healthy cluster: %d %s", path, m.Name, answer.Code, answer.Body)
	}
	return nil
}

func (sc *scene) other() *cluster.Member {
	others := sc.s.c.Others(sc.primary)
	return others[sc.rng.IntN(len(others))]
}

// candidate draws a standby that may become the primary: in the synchronous mode the one that
// commits wait for.
func (sc *scene) candidate(ctx context.Context) *cluster.Member {
	if sc.s.o.mode == cluster.Synchronous {
		for _, m := range sc.s.c.Others(sc.primary) {
			if m.Code(ctx, "/sync") == http.StatusOK {
				return m
			}
		}
	}
	return sc.other()
}

// switchoverAndKill kills something of the old primary or of the candidate while they change.
func switchoverAndKill(ctx context.Context, sc *scene) error {
	to := sc.candidate(ctx)
	victim := []*cluster.Member{sc.primary, to}[sc.rng.IntN(2)]
	// The hand-over may have the server down at that moment; the agent is always there to be killed.
	kinds := []cluster.Kind{cluster.Agent, cluster.Agent | cluster.Server, cluster.Node}[sc.rng.IntN(3)]
	delay := between(sc.rng, 0, 1500*time.Millisecond)
	sc.moves, sc.what = true, fmt.Sprintf("%s to %s, kill %s of %s after %s", sc.primary.Name, to.Name, kinds, victim.Name, round(delay))
	sc.s.command(ctx, sc.primary, "/switchover", map[string]any{"leader": sc.primary.Name, "candidate": to.Name})
	if err := sc.s.pass(ctx, delay); err != nil {
		return err
	}
	return sc.down(ctx, victim, kinds)
}

// pause takes the agents' hands off, lets the primary's agent die meanwhile or not, and resumes.
func pause(ctx context.Context, sc *scene) error {
	sc.what = "nothing else"
	if err := sc.s.setPause(ctx, true); err != nil {
		return err
	}
	sc.undoLater(func(ctx context.Context) error { return sc.s.setPause(ctx, nil) })
	switch sc.rng.IntN(3) {
	case 0:
		sc.what = "and the primary's agent is killed"
		return sc.down(ctx, sc.primary, cluster.Agent)
	case 1:
		sc.what = "and the primary's server is killed"
		sc.moves = true
		return sc.down(ctx, sc.primary, cluster.Server)
	}
	return nil
}

// setPause changes the cluster's dynamic configuration and waits until every running agent knows.
func (s *storm) setPause(ctx context.Context, value any) error {
	want := value == true
	err := s.until(ctx, s.o.heal, func(ctx context.Context) (bool, string) {
		for _, m := range s.c.Members {
			hctx, cancel := context.WithTimeout(ctx, time.Second)
			answer, err := m.HTTP(hctx, http.MethodPatch, "/config", map[string]any{"pause": value})
			cancel()
			if err == nil && answer.Code == http.StatusOK {
				return true, ""
			}
		}
		return false, "no agent took the change"
	})
	if err != nil {
		return fmt.Errorf("set pause to %v: %w", value, err)
	}
	err = s.until(ctx, s.o.heal, func(ctx context.Context) (bool, string) {
		for _, m := range s.c.Members {
			if !m.Running() {
				continue
			}
			status, err := m.Status(ctx)
			if err != nil || status.Pause != want {
				return false, fmt.Sprintf("%s: pause %t, error %v", m.Name, status.Pause, err)
			}
		}
		return true, ""
	})
	if err != nil {
		return fmt.Errorf("pause %t is not known everywhere: %w", want, err)
	}
	return nil
}
