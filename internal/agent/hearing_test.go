package agent

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// A leader may show itself as one for as long as too few voters can have lost it. The test asks every
// choice of voters that may have: whatever the numbers, so many that a takeover needs must not have been
// silent for the whole silence.
func TestReachedLeavesTooFewForATakeover(t *testing.T) {
	const silence = 700 * time.Millisecond
	heardAt := map[string]election.Instant{"b": 10 * time.Second, "c": 11 * time.Second, "d": 12 * time.Second}
	for quorum := 1; quorum <= 3; quorum++ {
		set := voters(quorum, "b", "c", "d").Sets[0]
		h := hearing{revision: 7, at: heardAt}
		until := election.ShownUntil(election.Own{}, h.reached(set, 7), silence)
		lost := 0
		for _, v := range set.Voters {
			if until >= heardAt[v.Name]+silence {
				lost++
			}
		}
		if lost >= quorum {
			t.Errorf("quorum %d: green until %s, when %d voters can have frozen", quorum, until, lost)
		}
		if until <= 10*time.Second {
			t.Errorf("quorum %d: green until %s only, though all voters heard the leader", quorum, until)
		}
	}
	h := hearing{revision: 7, at: map[string]election.Instant{"b": 10 * time.Second}}
	if got := h.reached(voters(1, "b", "c").Sets[0], 7); got != 0 {
		t.Errorf("one voter of two, where one vote is enough: reached at %s, want never", got)
	}
	if got := h.reached(voters(2, "b", "c").Sets[0], 7); got != 10*time.Second {
		t.Errorf("one voter of two, where two votes are needed: reached at %s, want 10s", got)
	}
	if got := h.reached(voters(2, "b", "c").Sets[0], 8); got != 0 {
		t.Errorf("what was heard of another key counts: %s", got)
	}
}

// Voters that ask in time must not make the leader prove its title, and those that fall silent must while
// it is still shown as one.
func TestAProofIsDueBetweenTheNextQuestionAndTheEndOfTheShow(t *testing.T) {
	const silence, reached = 700 * time.Millisecond, 10 * time.Second
	due := election.ProveAt(reached, silence)
	if next := reached + 2*silence/paceOfSilence; due < next+silence/20 {
		t.Errorf("due at %s, when all is well the next question may come at %s", due, next)
	}
	if until := election.ShownUntil(election.Own{}, reached, silence); due > until-silence/8 {
		t.Errorf("due at %s, shown until %s", due, until)
	}
}

func TestRaceAndPromiseExcludeEachOther(t *testing.T) {
	none := func() election.Instant { return 0 }
	promised := func() election.Instant { return Now() + time.Minute }
	var r race
	if why := r.begin(5, false, promised); why == "" {
		t.Error("a race by time is begun in spite of a promise")
	}
	if why := r.begin(5, true, promised); why != "" {
		t.Errorf("a takeover by votes is barred by a promise: %s", why)
	}
	if !r.open() {
		t.Error("a race in flight is not open")
	}
	if why := r.begin(5, false, none); why == "" {
		t.Error("a second race is begun beside the first")
	}
	r.end(false)
	if r.open() {
		t.Error("a race that certainly came to nothing is still open")
	}
	if why := r.begin(5, false, none); why != "" {
		t.Fatal(why)
	}
	r.end(true)
	r.moved(5)
	if !r.open() {
		t.Error("a race of unknown outcome is closed by a snapshot of the reign that it compared")
	}
	if why := r.begin(5, false, none); why != "" {
		t.Fatal(why)
	}
	r.end(false)
	if !r.open() {
		t.Error("the second try came to nothing, but the first may still be carried out")
	}
	r.moved(6)
	if r.open() {
		t.Error("a race over a reign that has ended is open")
	}
}
