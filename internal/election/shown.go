package election

import (
	"slices"
	"strings"
	"time"
)

// A takeover by votes does not wait for the lease, so in the synchronous modes a leader may show itself as
// one only while its voters cannot have frozen, and its successor only when that time is over (safety
// review, hole 12). The fractions of the silence here belong together: with each clock up to 6 % off,
// ShownUntil of the old leader ends before ShownFrom of the new one begins.

// Lost says that a leader has been silent for long enough to be voted against: for the silence, and for
// several questions, because one lost packet is no dead node.
func (c Contact) Lost(now Instant, silence time.Duration) bool {
	return c.Revision != 0 && c.Silent >= lostAfter && now-c.HeardAt >= silence
}

// Reached is the last moment at which so many voters of the set heard the leader that the others are too
// few to take over; zero: never. heard is by name in lower case.
func (s VoterSet) Reached(heard map[string]Instant) Instant {
	var room [8]Instant
	at := room[:0]
	for _, v := range s.Voters {
		if t, ok := heard[strings.ToLower(v.Name)]; ok {
			at = append(at, t)
		}
	}
	need := max(1, len(s.Voters)+1-s.Quorum)
	if len(at) < need {
		return 0
	}
	slices.Sort(at)
	return at[len(at)-need]
}

// ShownUntil is how long a leader may show itself, as far as its voters are concerned. They freeze no
// sooner than the silence after they last heard it; a quarter of that is left over for clocks and for a
// voter that asks late. A proof of ownership counts for a little less than half of it.
func ShownUntil(own Own, reached Instant, silence time.Duration) Instant {
	return max(own.Sent+silence*7/16, reached+silence*3/4)
}

// ProveAt is when a leader proves its ownership early, unless enough voters are heard of by then. A voter
// asks every quarter of the silence and tells of its question before: just before it asks again, the last
// known is half of the silence ago, though all is well. So the moment lies a little later than that. No
// safety rests on it: what a leader may show ends at ShownUntil whether it proves or not, and its title at
// its own lines. It decides only how long a proof may take before a leader with silent voters turns red: three
// sixteenths of the silence.
func ProveAt(reached Instant, silence time.Duration) Instant { return reached + silence*9/16 }

// ShownFrom is when a leader that took over by votes may first show itself. If the key was vacant nobody
// needed to be silent before, so the old leader may have been heard a moment ago.
func ShownFrom(now Instant, silence time.Duration, vacant bool) Instant {
	if vacant {
		return now + silence*7/8
	}
	return now + silence/2
}
