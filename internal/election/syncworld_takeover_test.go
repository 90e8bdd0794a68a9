package election

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// ballot is one choice of members whose votes are counted.
func (w *syncWorld) ballot(mask int) (votes []Vote, best *worldNode) {
	e := w.store.Electorate
	for i, n := range w.nodes {
		if mask&(1<<i) == 0 || n == w.leader {
			continue
		}
		if e != nil && w.bug != bugOtherCopy && !e.has(n.name, n.data) {
			continue // no voter, whatever it writes
		}
		vote := Vote{Name: n.name, Data: n.data, Epoch: w.epoch, LeaderRevision: leaderRev, Timeline: n.timeline(), LSN: n.end()}
		if w.bug == bugOtherCopy && e != nil {
			for _, s := range e.Sets {
				if voter, ok := s.Voter(n.name); ok {
					vote.Data = voter.Data
				}
			}
		}
		reign := Reign{ParentTimeline: w.parent, NextTimeline: Timeline(w.epoch)}
		if w.bug != bugDeadBranch && reign.branchOf(n.timeline()) == branchDead {
			continue
		}
		if best == nil || compareVotes(vote, Vote{Timeline: best.timeline(), LSN: best.end()}) > 0 {
			best = n
		}
		votes = append(votes, vote)
	}
	if best != nil && w.bug != bugDeadBranch && best.timeline() < w.parent {
		best = nil // counted, but no winner
	}
	return votes, best
}

// suffices says that a takeover by these votes is allowed, by the key as it is in the store.
func (w *syncWorld) suffices(votes []Vote) bool {
	s := w.store
	if s.Leader != w.leader.name {
		return false
	}
	if s.Electorate == nil { // by time, as a Patroni counts
		n := 0
		for _, vote := range votes {
			if slices.Contains(s.Standbys, vote.Name) {
				n++
			}
		}
		return len(s.Standbys) > 0 && n >= s.Quorum+1
	}
	e := *s.Electorate
	switch {
	case w.bug == bugFromConfig && len(e.Sets) > 0:
		n := len(e.Sets[len(e.Sets)-1].Voters)
		e.Sets = slices.Clone(e.Sets)
		for i := range e.Sets {
			e.Sets[i].Quorum = min(max(1, n-w.policy.Nodes+1), len(e.Sets[i].Voters))
		}
	case w.bug == bugLastSetOnly && len(e.Sets) > 0:
		e.Sets = e.Sets[len(e.Sets)-1:]
	}
	return e.Satisfied(votes)
}

// check tries every takeover that would be allowed at this moment: whoever holds most of the counted
// votes must hold every commit that was ever acknowledged.
func (w *syncWorld) check() string {
	if !w.leader.contains(w.acked) {
		return "the leader itself lacks an acknowledged commit"
	}
	for mask := range 1 << len(w.nodes) {
		votes, best := w.ballot(mask)
		if best == nil || !w.suffices(votes) {
			continue
		}
		if !best.contains(w.acked) {
			return fmt.Sprintf("%s could take over by %v and lacks an acknowledged commit", best.name, votes)
		}
	}
	return ""
}

// takeOver ends the reign by the votes of a random choice that suffices, if there is one.
func (w *syncWorld) takeOver() string {
	first := w.r.IntN(1 << len(w.nodes))
	for i := range 1 << len(w.nodes) {
		votes, best := w.ballot((first + i) % (1 << len(w.nodes)))
		if best == nil || !w.suffices(votes) {
			continue
		}
		if w.bug == bugNotBest {
			best = w.node(votes[w.r.IntN(len(votes))].Name)
		}
		return w.crown(best)
	}
	return ""
}

func (w *syncWorld) node(name string) *worldNode {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *worldNode) bool { return n.name == name })]
}

func (w *syncWorld) crown(n *worldNode) string {
	w.seen = w.store
	w.late = nil // they compare the leader key as well
	v := w.view(n)
	v.Own, v.Local.Role = Own{}, RoleStandby
	sync := *acquired(&v)
	if w.bug == bugNoInherit && sync.Electorate != nil && len(sync.Electorate.Sets) > 0 {
		sync.Electorate.Sets = sync.Electorate.Sets[len(sync.Electorate.Sets)-1:]
	}
	w.takeovers++
	w.revision++
	w.note("%s takes over and publishes %s", n.name, describe(sync))
	w.store = sync
	w.store.ModRevision = w.revision
	w.seen, w.leader, w.unsettled = w.store, n, SyncWrite{}
	w.epoch++
	w.parent = n.timeline()
	for _, o := range w.nodes {
		o.streams = o != n && w.r.IntN(2) == 0
	}
	n.log = append(slices.Clone(n.log), -int(w.epoch)) // the end of recovery is in the log as well
	w.now += time.Second
	v = w.view(n)
	setting := SyncForPromotion(v)
	switch w.bug {
	case bugEmptyPromote:
		setting = SyncSetting{}
	case bugRecompute:
		setting.Wait = max(min(setting.Wait, 1), setting.Wait-1)
	}
	toBePromoted(&v)
	if why := Violation(v, Plan{Actions: []Action{Promote{Sync: setting}}}); why != "" {
		w.refused++
		if w.bug == bugNone {
			return "the guard refuses the promotion: " + why
		}
	}
	w.setting, w.possible, w.inForce, w.barrier = setting, []SyncSetting{setting}, false, 0
	w.note("%s is promoted with %s", n.name, setting)
	return ""
}

// acquired is the sync key with which the rules let a member take over.
func acquired(v *View) *SyncState {
	if v.Store.Cluster.Sync.Electorate == nil {
		return ownSync(v)
	}
	return inheritedSync(v)
}

// run lets a world go on for a while.
func runSyncWorld(seed uint64, bug worldBug, patroni bool, steps int) (*syncWorld, string) {
	w := newSyncWorld(seed, bug)
	if patroni {
		w.nodes[len(w.nodes)-1].patroni = true
	}
	for range steps {
		if why := w.step(); why != "" {
			return w, why
		}
	}
	return w, ""
}

func TestNoAcknowledgedCommitIsLostByAChangeOfTheSet(t *testing.T) {
	for _, patroni := range []bool{false, true} {
		acks, takeovers, confirmed := 0, 0, 0
		for seed := range uint64(250) {
			w, why := runSyncWorld(seed, bugNone, patroni, 300)
			if why != "" {
				t.Fatalf("patroni %t, seed %d: %s\n%s", patroni, seed, why, lines(w.trace))
			}
			acks, takeovers, confirmed = acks+w.acks, takeovers+w.takeovers, confirmed+w.confirmed
		}
		if acks == 0 || takeovers == 0 || confirmed == 0 {
			t.Errorf("nothing happened: %d commits acknowledged, %d takeovers, %d sets confirmed", acks, takeovers, confirmed)
		}
		t.Logf("patroni %t: %d commits acknowledged, %d takeovers, %d sets confirmed", patroni, acks, takeovers, confirmed)
	}
}

// TestDeliberateBugsLoseACommit shows that the world above can fail: each mistake costs an acknowledged
// commit in some run, and those that lie in a plan are refused by the guard.
func TestDeliberateBugsLoseACommit(t *testing.T) {
	for bug, guarded := range map[worldBug]bool{
		bugNoBarrier: false, bugEmptyPromote: true, bugSetFirst: true, bugOneStep: true, bugNotInForce: false, bugNotBest: false,
		bugFromConfig: false, bugLastSetOnly: false, bugNoInherit: false, bugOtherCopy: false, bugRecompute: true, bugUnsettled: false, bugDeadBranch: false,
	} {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2000) {
				w, why := runSyncWorld(seed, bug, false, 300)
				if why == "" {
					continue
				}
				if guarded && w.refused == 0 {
					t.Errorf("the guard refused nothing")
				}
				t.Logf("seed %d: %s", seed, why)
				return
			}
			t.Error("no run lost anything")
		})
	}
}

func lines(trace []string) string {
	out := ""
	for _, l := range trace {
		out += l + "\n"
	}
	return out
}
