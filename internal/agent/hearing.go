package agent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

var _ restapi.PulseObserver = (*Agent)(nil)

// hearing is what a leader knows of its voters: when each of them last heard it. A takeover by votes
// does not wait for the lease, so /primary must turn red by this before the voters freeze (safety
// review, hole 12).
type hearing struct {
	mu       sync.Mutex
	revision int64
	at       map[string]election.Instant
}

// Pulse notes that a voter heard this leader: the last question of it that was answered here was asked
// at or after heard.
func (a *Agent) Pulse(from string, revision int64, heard election.Instant) {
	own, _ := a.keeper.title()
	if !own.Held() || own.Revision != revision {
		return
	}
	set, _, ok := a.takeoverSet()
	if !ok || !slices.ContainsFunc(set.Voters, func(v election.Voter) bool { return strings.EqualFold(v.Name, from) }) {
		return
	}
	h := &a.hearing
	h.mu.Lock()
	if h.revision != revision {
		h.revision, h.at = revision, make(map[string]election.Instant)
	}
	name := strings.ToLower(from)
	h.at[name] = max(h.at[name], heard)
	h.mu.Unlock()
	a.refreshLeaderUntil()
}

// takeoverSet is the set of voters that may take over from this leader without waiting for its lease,
// and the silence after which they may; ok is false where no such takeover is possible. Of several
// published sets it is the last: a change under way ends with that one, and it is in force before and
// after.
func (a *Agent) takeoverSet() (set election.VoterSet, silence time.Duration, ok bool) {
	a.facts.with(func(f *facts) {
		p := syncPolicyOf(f.dynamic)
		e := f.cluster.Sync.Electorate
		if !f.cluster.Sync.Active() || p.TimeOnly || f.dynamic.Pause || e == nil || len(e.Sets) == 0 {
			return
		}
		set, silence, ok = e.Sets[len(e.Sets)-1], f.silence(), true
	})
	return set, silence, ok
}

// reached is the last moment at which so many voters of the set heard the leader of a revision that the
// others are too few to take over; zero: never.
func (h *hearing) reached(set election.VoterSet, revision int64) election.Instant {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revision != revision {
		return 0
	}
	var at []election.Instant
	for _, v := range set.Voters {
		if t, ok := h.at[strings.ToLower(v.Name)]; ok {
			at = append(at, t)
		}
	}
	need := max(1, len(set.Voters)+1-set.Quorum)
	if len(at) < need {
		return 0
	}
	slices.Sort(at)
	return at[len(at)-need]
}

// seenUntil is how long a leader may say that it leads, as far as its voters are concerned. They freeze
// no sooner than the silence after they last heard it; a quarter of that is left over for clocks and
// for a voter that asks late. A proof of ownership counts for half the silence, and a successor by votes
// is not green before that (greenFrom).
func seenUntil(own election.Own, reached election.Instant, silence time.Duration) election.Instant {
	return max(own.Sent+silence/2, reached+silence*3/4)
}

// proofDue is when ownership should be proven after the round that was begun last, unless enough voters
// are heard of by then; ok is false where that does not matter.
func (a *Agent) proofDue(own election.Own, begun election.Instant) (due election.Instant, ok bool) {
	if !own.Held() {
		return 0, false
	}
	set, silence, ok := a.takeoverSet()
	if !ok {
		return 0, false
	}
	return max(a.hearing.reached(set, own.Revision)+silence/2, begun+silence/paceOfSilence), true
}
