package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// TestAStartThatTheFencerCarriesOutLate: the agent of a dead primary, cut off and back, asks a frozen
// fencer for a start and gives up waiting. Thawed, the fencer first says what its second process did
// before ("down", of the server that was), and then starts the server. The agent must not take it for
// down then: it would work on the data directory of a running server.
func TestAStartThatTheFencerCarriesOutLate(t *testing.T) {
	t.Parallel()
	for _, bug := range []Bug{NoBug, BugOvertakenStart} {
		t.Run(bug.String(), func(t *testing.T) {
			t.Parallel()
			cfg := Calm(3)
			cfg.Bug = bug
			w := NewWorld(7, cfg, true)
			defer w.Close()
			if !w.runUntil(bootPatience, func() bool { return w.checks.lively() == "" }) {
				t.Fatal("not whole: " + w.checks.lively())
			}
			p := w.node(w.checks.holder)
			mend := w.net.severBoth(p.index, w.store.index())
			p.killAgent(time.Second)
			p.pg.killPostmaster()
			if !w.runUntil(5*time.Second, func() bool { return p.agent != nil && p.agent.p.alive && p.agent.isDown() }) {
				t.Fatalf("no new agent that knows the server down\n%s", strings.Join(w.story, "\n"))
			}
			thaw := p.freezeFencer()
			struck := func() bool { return w.checks.holder != "" && w.checks.holder != p.name }
			if !w.runUntil(time.Minute, struck) {
				t.Fatal("nobody else leads")
			}
			mend()
			if !w.runUntil(time.Minute, func() bool { return *p.fencer.starting > 0 && !p.agent.guard.asking }) {
				t.Fatalf("no start was asked for and given up\n%s", strings.Join(w.story, "\n"))
			}
			thaw()
			w.runUntil(time.Minute, func() bool { return w.violation != nil })
			caught := w.violation != nil
			if caught != (bug != NoBug) || caught && w.violation.Check != DownIsDown {
				t.Errorf("violation: %v\n%s", w.violation, strings.Join(w.story, "\n"))
			}
			if !caught && p.agent.local.Server != election.ServerRunning {
				t.Errorf("the server counts as %v", p.agent.local.Server)
			}
		})
	}
}
