package election

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// PatroniTTL is the least time to live that a Patroni can be configured with, and so the least promise
// that is worth anything to one that leads.
const PatroniTTL = 20 * time.Second

// failsafeWanted is the set that a failsafe round must ask, as the members are now: all that can be
// asked, and this member itself. With failsafe mode off it is empty, so that it bars nobody.
func failsafeWanted(v *View) []FailsafeMember {
	if !v.Policy.FailsafeMode {
		return nil
	}
	out := make([]FailsafeMember, 0, len(v.Store.Cluster.Members)+1)
	for i := range v.Store.Cluster.Members {
		m := &v.Store.Cluster.Members[i]
		if m.APIURL != "" {
			out = append(out, FailsafeMember{Name: m.Name, APIURL: m.APIURL})
		}
	}
	// Without itself in it a leader could not use the set.
	if self, ok := failsafeMember(v.Store.Cluster.Failsafe, v.Self.Name); ok && !inFailsafe(out, v.Self.Name) {
		out = append(out, self)
	}
	sortFailsafe(out)
	return out
}

func sortFailsafe(list []FailsafeMember) {
	slices.SortFunc(list, func(a, b FailsafeMember) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.APIURL, b.APIURL))
	})
}

func failsafeMember(list []FailsafeMember, name string) (FailsafeMember, bool) {
	for _, m := range list {
		if m.Name == name {
			return m, true
		}
	}
	return FailsafeMember{}, false
}

// failsafeStale says that the set in the store is not the one it should be. While failsafe mode is on, a
// set without this member in it is none.
func failsafeStale(v *View) bool {
	if !v.Policy.FailsafeMode {
		return len(v.Store.Cluster.Failsafe) != 0
	}
	have, want := slices.Clone(v.Store.Cluster.Failsafe), failsafeWanted(v)
	sortFailsafe(have)
	if !inFailsafe(want, v.Self.Name) {
		return false // this member's own key is not there yet
	}
	return !slices.Equal(have, want)
}

// failsafeReady says that there is a set that this leader wrote or confirmed in this reign: nobody else
// can have changed it since, so that nobody outside it can take the key.
func (v *View) failsafeReady() bool {
	c := &v.Store.Cluster
	return v.Policy.FailsafeMode && c.FailsafeRev != 0 && c.Leader.Present && c.Leader.ModRevision == v.Own.Revision &&
		v.bars()
}

// bars says that the failsafe set keeps everybody outside it from the key, and that no write on its way
// may end that.
func (v *View) bars() bool {
	return inFailsafe(v.Store.Cluster.Failsafe, v.Self.Name) && !v.Failsafe.Opening
}

// MembersToAsk are the members whose promises let this leader lead on without the store: all of the
// failsafe set but itself, and those of a set whose writing is of unknown outcome.
func MembersToAsk(v View) []FailsafeMember { return v.membersToAsk() }

func (v *View) membersToAsk() []FailsafeMember {
	var out []FailsafeMember
	for _, list := range [][]FailsafeMember{v.Store.Cluster.Failsafe, v.Failsafe.Unsettled} {
		for _, m := range list {
			if m.Name != v.Self.Name && !slices.Contains(out, m) {
				out = append(out, m)
			}
		}
	}
	sortFailsafe(out)
	return out
}

// RoundMisses says why a round in which all of the members asked have promised does not let this leader lead
// on; empty: it does. What counts is the set as it is, or may be, when the round has ended.
func RoundMisses(v View, asked []FailsafeMember) string {
	if !v.bars() {
		return "the failsafe set was given up during the round"
	}
	for _, m := range v.membersToAsk() {
		if !slices.Contains(asked, m) {
			return m.Name + " became a member of the failsafe set during the round"
		}
	}
	return ""
}

// restsOnPromises says that the title lasts longer than the lease is proven for, or may do so any moment.
// Until it is proven again the failsafe set stays: whom it does not name has promised nothing.
func (v *View) restsOnPromises() bool {
	return v.Failsafe.Asking || v.Own.Held() && v.Own.Promised > v.Own.Sent
}

// failsafeDue says that it is time for a round: the store has been silent for longer than a renewal may
// take, and the last round is a third of the time to live ago, or failed a while ago.
func (v *View) failsafeDue() bool {
	if !v.titleGood() || !v.failsafeReady() || v.Failsafe.Asking || v.Stopping {
		return false
	}
	late := v.Own.TTL/3 + v.Own.TTL/12
	return v.Now-v.Own.Sent > late && v.Now-v.Own.since() >= min(late, v.Own.TTL/3) &&
		(v.Failsafe.DoneAt == 0 || v.Now-v.Failsafe.DoneAt >= v.Own.TTL/12)
}

// MayPromise says why this member must not promise a primary without a store, of that name, to stay out
// of the race; empty: it may. The promise must be on disk with the fencer before it is given, and no
// race may begin between this question and that.
func MayPromise(v View, asker string) string {
	c := &v.Store.Cluster
	vote, _ := c.Vote(v.Self.Name)
	switch {
	case asker == v.Self.Name:
		return "it asks itself"
	case v.Own.Held():
		return "it holds the leader key itself"
	case v.Racing:
		return "it has tried to take the leader key, and does not know the outcome yet"
	case !v.Fencer.Alive:
		return "its fencer does not answer, which would keep the promise"
	case v.writable():
		return "its own server is a primary"
	case v.Local.Freeze.Recorded || v.Local.Freeze.VoteSent || vote.Standing() && v.bound():
		return "it is frozen against the leader, or has voted for its end"
	case v.Fresh() && c.Leader.Present && c.Leader.Name != asker:
		return fmt.Sprintf("%s holds the leader key", c.Leader.Name)
	}
	return ""
}

// PromiseLength is for how long a promise holds, counted from the receipt of the request: asked is the
// time to live that the primary named, zero if it named none.
func PromiseLength(v View, asked time.Duration) time.Duration {
	return max(asked, LongestPromise(v.Store.Cluster, v.Policy.TTL))
}

// LongestPromise is what a member of this cluster promises to a primary that names no time to live, and so
// what it has to wait out when the record of its promises is lost.
func LongestPromise(c Cluster, ttl time.Duration) time.Duration {
	length := max(ttl, c.Reign.TTL)
	for _, m := range c.Members {
		if !m.IsPgha() {
			length = max(length, PatroniTTL)
		}
	}
	return length
}

// promised says that this member has promised not to race yet.
func (v *View) promised() bool { return v.Fencer.PromiseUntil > v.Now }

// failsafeRules let a leader lead on while it cannot reach the store. They stand before everything that
// a title is needed for, jobs included: what is asked for here keeps that title good.
func failsafeRules() []rule {
	return []rule{
		{
			id: "leader.failsafe",
			doc: "The store has been silent for longer than a renewal may take, and failsafe mode is on: every member of the failsafe set is asked not to race. " +
				"If all promise, the title lasts for another time to live; a refusal, or silence, changes nothing.",
			when: (*View).failsafeDue,
			then: func(v *View) Plan {
				who := v.membersToAsk()
				p := trouble(fmt.Sprintf("etcd has not answered for %s, %d members are asked not to race", ago(v.Now-v.Own.Sent), len(who)),
					"an answer from a majority of etcd", AskPromises{Members: who})
				if v.Failsafe.Refused != "" {
					p.Reason += "; the last time refused by " + v.Failsafe.Refused
				}
				p.Wake = freezeWake
				return p
			},
			steady: false,
		},
	}
}
