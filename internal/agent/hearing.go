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
	sets, _ := a.takeoverSets()
	if !slices.ContainsFunc(sets, func(s election.VoterSet) bool { return hasVoter(s, from) }) {
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
	a.keeper.pace.heard(a.keeper)
}

func hasVoter(set election.VoterSet, name string) bool {
	return slices.ContainsFunc(set.Voters, func(v election.Voter) bool { return strings.EqualFold(v.Name, name) })
}

// takeoverSets are the sets of voters that may take over from this leader without waiting for its lease,
// and the silence after which they may; none where no such takeover is possible. Of several sets in the
// sync key it is the last: a change under way ends with that one. A key that was sent and is not seen yet
// may be the one in force, so its last set counts as well.
func (a *Agent) takeoverSets() (sets []election.VoterSet, silence time.Duration) {
	a.facts.with(func(f *facts) {
		if syncPolicyOf(f.dynamic).TimeOnly || f.dynamic.Pause {
			return
		}
		silence = f.silence()
		sets = lastSet(nil, f.cluster.Sync)
		if f.syncWrite.Sent && f.syncWrite.Over == f.cluster.Sync.ModRevision {
			for _, sent := range f.syncSent {
				sets = lastSet(sets, sent)
			}
		}
	})
	return sets, silence
}

func lastSet(sets []election.VoterSet, s election.SyncState) []election.VoterSet {
	if !s.Active() || s.Electorate == nil || len(s.Electorate.Sets) == 0 {
		return sets
	}
	return append(sets, s.Electorate.Sets[len(s.Electorate.Sets)-1])
}

// reached is the last moment at which so many voters of the set heard the leader of a revision that the
// others are too few to take over; zero: never.
func (h *hearing) reached(set election.VoterSet, revision int64) election.Instant {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revision != revision {
		return 0
	}
	return set.Reached(h.at)
}

// proofDue is when ownership should be proven after the round that was begun last, unless enough voters
// are heard of by then; ok is false where that does not matter.
func (a *Agent) proofDue(own election.Own, begun election.Instant) (due election.Instant, ok bool) {
	if !own.Held() {
		return 0, false
	}
	sets, silence := a.takeoverSets()
	for _, set := range sets {
		at := max(election.ProveAt(a.hearing.reached(set, own.Revision), silence), begun+silence/paceOfSilence)
		if !ok || at < due {
			due, ok = at, true
		}
	}
	return due, ok
}
