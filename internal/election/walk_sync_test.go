package election

import (
	"testing"
	"time"
)

// voterStates are what a voter may have done so far, by its record and by the store.
var voterStates = []func(*View){
	func(*View) {},
	func(v *View) {
		v.Local.Freeze = Freeze{Recorded: true, Epoch: 1, LeaderRevision: leaderRev, Since: testNow - time.Second}
	},
	func(v *View) {
		v.Local.Freeze = Freeze{
			Recorded: true, Epoch: 1, LeaderRevision: leaderRev, Proven: true, Timeline: 1, LSN: 100, Since: testNow - 3*time.Second, VoteSent: true,
		}
	},
	func(v *View) {
		v.Local.Freeze = Freeze{
			Recorded: true, Epoch: 1, LeaderRevision: leaderRev, Proven: true, Timeline: 1, LSN: 100, Since: testNow - time.Second, VoteSent: true,
		}
		cast(v, voteOf("b", 100), voteOf("c", 90))
	},
	func(v *View) { cast(v, voteOf("b", 100)) },
	func(v *View) { cast(v, Vote{Name: "b", ModRevision: 80}) },
}

// electorates are what may stand in the sync key.
var electorates = []SyncState{
	{},
	syncOf(setOf(1, "b", "c")),
	syncOf(setOf(1, "b", "c"), setOf(1, "b", "d")),
	syncOf(),
	{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}},
	{Leader: "b", Electorate: &Electorate{Epoch: 1, LeaderData: dataOf("b"), Sets: []VoterSet{setOf(1, "a", "c")}}},
	{Leader: "b", Standbys: []string{"a", "c"}, Quorum: 1},
}

// TestExhaustiveWalkOfAVoter tries every state of the vote with every state of key, title and server.
func TestExhaustiveWalkOfAVoter(t *testing.T) {
	views, hit := 0, make(map[RuleID]bool)
	walk([]DataState{DataCluster}, []bool{true, false}, func(l Local) {
		for key := range keyStates {
			for title := range titleStates {
				for _, sync := range electorates {
					for i, state := range voterStates {
						v := lostVoter()
						l.DataID, l.Sync = dataOf("b"), LocalSync{Known: true, Setting: anyOf(1, "a", "c"), InForce: i%2 == 0, Barrier: 90}
						v.Local = l
						walkKey(&v, key)
						if key == keyOther { // the one that the votes are against; keyOtherStarting is a Patroni's
							v.Store.Cluster.Leader.ModRevision = leaderRev
						}
						walkTitle(&v, title)
						publish(&v, sync)
						if sync.Leader == "" {
							v.Store.Cluster.Sync = SyncState{}
						}
						if sync.Leader == "b" && v.Store.Cluster.Reign.Epoch != 0 {
							v.Store.Cluster.Reign.Holder = "b"
						}
						state(&v)
						if i%2 == 1 {
							heard(&v, "c")
						}
						for mask := range 8 {
							w := v
							w.Policy.Pause, w.Stopping, w.Policy.Sync.TimeOnly = mask&1 != 0, mask&2 != 0, mask&4 != 0
							views++
							p, ok := mustBeSound(t, w)
							if !ok {
								t.Fatalf("after %d views", views)
							}
							hit[p.Rule] = true
						}
					}
				}
			}
		}
	})
	for _, id := range []RuleID{
		"freeze.take_over", "freeze.vote", "freeze.prove", "freeze.withdraw", "freeze.thaw", "freeze.ask", "freeze.freeze", "freeze.start", "stop.withdraw_vote",
		"race.wait_votes", "leader.promote", "leader.crash_release",
	} {
		if !hit[id] {
			t.Errorf("the walk never met %s", id)
		}
	}
	t.Logf("%d views, %d rules", views, len(hit))
}
