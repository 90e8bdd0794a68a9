package agent

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
)

// What is remembered of the fencer's deadline decides whether a shorter lease needs a new epoch: it must never
// lie before the fencer's own, which within an epoch moves only forward.
func TestTheDeadlineThatIsRememberedIsTheFencersOwn(t *testing.T) {
	const early, late election.Instant = 5 * time.Second, 30 * time.Second
	for _, tc := range []struct {
		name string
		next func(*fencerConn)
		want election.Instant
	}{
		{"a renewal", func(g *fencerConn) { g.renewed(4, 11, late+1) }, late + 1},
		{"a renewal that is behind, after a lease was changed", func(g *fencerConn) { g.renewed(4, 11, early) }, late},
		{"a renewal of an epoch that is over", func(g *fencerConn) { g.renewed(3, 11, late+1) }, late},
		{"the same epoch again", func(g *fencerConn) { g.took(fencer.Token{Epoch: 4, LeaderRevision: 11, Until: early}) }, late},
		{"a new epoch", func(g *fencerConn) { g.took(fencer.Token{Epoch: 5, LeaderRevision: 11, Until: early}) }, early},
	} {
		g := &fencerConn{}
		g.took(fencer.Token{Epoch: 4, LeaderRevision: 10, Until: late})
		tc.next(g)
		if st, _ := g.snapshot(); st.Token.Until != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, st.Token.Until, tc.want)
		}
	}
}

// A policy whose answer was lost may count or not: it is told again, whichever it was.
func TestAPolicyWithoutAnswerIsUnknown(t *testing.T) {
	g := &fencerConn{}
	g.state.Policy = fencer.PolicyKill
	if err := g.policy(t.Context(), fencer.PolicyObserve); err == nil || g.state.Policy != policyUnknown {
		t.Errorf("without a fencer: %v, policy %q", err, g.state.Policy)
	}
	g.state.Token.Epoch, g.state.Armed = 5, true
	g.ended(4) // late news of an earlier token
	if !g.state.Armed {
		t.Error("an event of an earlier token ended this one")
	}
	if g.ended(5); g.state.Armed {
		t.Error("armed after the end")
	}
}

// What was written to the server's files and not read by it would seem to be in force.
func TestAReloadThatFailedIsOwed(t *testing.T) {
	g := &fencerConn{}
	if err := g.reload(t.Context()); err == nil || !g.reloadOwed() {
		t.Errorf("without a fencer: %v, owed %t", err, g.reloadOwed())
	}
}
