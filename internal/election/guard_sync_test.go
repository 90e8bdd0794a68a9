package election

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestGuardRefusesWhatCostsACommit doctors a plan or a View for each sacred rule of the synchronous modes
// and of failsafe; the View as it was is the control.
func TestGuardRefusesWhatCostsACommit(t *testing.T) {
	one := func(sets ...VoterSet) Action { return WriteSync{State: syncOf(sets...)} }
	over := victory(leaderRev, voteOf("b", 100), voteOf("c", 90))[0]
	same := func(*View) {}
	promotable := func() View {
		v := syncLeader()
		toBePromoted(&v)
		return v
	}
	withdrawn := func() View {
		v := frozenVoter()
		cast(&v, Vote{Name: "b", ModRevision: 80})
		return v
	}
	replaced := func() View { v := winner(); reign2(&v); return v }
	free := func() View { v := vacant(); v.Fencer.PromiseUntil = 0; return v }
	follow, start := Follow{Upstream: "c", ConnURL: urlOf("c")}, StartStandby{Upstream: "c"}
	for _, tc := range []struct {
		name   string
		view   func() View
		good   Action
		doctor func(*View)
		bad    Action
		want   string
	}{
		{"a set before its barrier (B3)", syncLeader, one(setOf(1, "b", "c")), func(v *View) { publish(v, syncOf()); v.Local.Sync.Barrier = 101 }, nil, "miss"},
		{"a set by a barrier that was read for another copy (hole 9)", syncLeader, one(setOf(1, "b", "c")), func(v *View) {
			publish(v, syncOf())
			v.Local.Sync.Copies = []Voter{{"b", "old"}, {"c", "old"}}
		}, nil, "miss"},
		{"a set whose setting is not proven", syncLeader, one(setOf(1, "b", "c")), func(v *View) { publish(v, syncOf()); v.Local.Sync.InForce = false }, nil, "not proven"},
		{"a set replaced in one step (B14)", syncLeader, one(setOf(1, "b", "c"), setOf(1, "b")), same, one(setOf(1, "b")), "miss"},
		{"fewer votes than the setting needs (B20)", syncLeader, one(setOf(1, "b", "c")), same, one(inheriting(1, "b", "c")), "miss"},
		{"a set by one that does not lead", syncLeader, one(), func(v *View) { v.Own = Own{} }, nil, "does not lead"},
		{"a set in another's name", syncLeader, one(), func(v *View) { v.Self.Name = "b" }, nil, "another leader"},
		{"a set for another copy", syncLeader, one(), func(v *View) { v.Local.DataID = "fresh" }, nil, "another copy"},
		{"Patroni members told of one set of two", syncLeader, one(setOf(1, "b", "c"), setOf(1, "b")), same, WriteSync{State: SyncState{
			Leader: "a", Standbys: []string{"b"}, Electorate: &Electorate{Epoch: 1, LeaderData: dataOf("a"), Sets: []VoterSet{setOf(1, "b", "c"), setOf(1, "b")}},
		}}, "Patroni members"},
		{"commits that wait for nobody under a published set (B13)", syncLeader, SetSync{Setting: anyOf(1, "b", "c")}, same, SetSync{}, "miss"},
		{"commits that wait for too few (B13)", syncLeader, SetSync{Setting: anyOf(2, "b", "c")}, func(v *View) { publish(v, syncOf(setOf(2, "b", "c"))) }, SetSync{Setting: anyOf(1, "b", "c")}, "miss"},
		{"a setting of everybody", syncLeader, SetSync{Setting: anyOf(1, "b", "c")}, func(v *View) { publish(v, syncOf()) }, SetSync{Setting: anyOf(1, "*")}, "anybody"},
		{"a setting while the key may change (B21)", syncLeader, SetSync{Setting: anyOf(2, "b", "c")}, func(v *View) { v.Store.SyncWrite = SyncWrite{true, syncRev} }, nil, "may change"},
		{"the key removed while the mode is on", func() View { v := syncLeader(); v.Policy.Sync.Mode = SyncOff; return v }, DeleteSync{}, func(v *View) { v.Policy.Sync.Mode = SyncOn }, nil, "mode is on"},
		{"a promotion without a setting (B4)", promotable, Promote{Sync: anyOf(1, "b", "c")}, same, Promote{}, "miss"},
		{"a start without a setting", func() View { v := syncLeader(); v.Local.Server = ServerDown; return v }, StartPrimary{}, func(v *View) { v.Local.Sync.Setting = SyncSetting{} }, nil, "miss"},
		{"a takeover of a quorum less one", winner, over, func(v *View) { publish(v, syncOf(setOf(1, "b", "c"), setOf(1, "b", "d"))) }, nil, "every published set"},
		{"a takeover without the own vote", winner, over, same, victory(leaderRev, voteOf("c", 90))[0], "own vote"},
		{"a takeover by one that holds less (B18)", winner, over, func(v *View) { v.Local.Freeze.LSN = 80 }, nil, "holds less"},
		{"a takeover by a vote that was withdrawn (B1)", winner, over, func(v *View) { v.Store.Cluster.Votes[1] = Vote{Name: "c", ModRevision: 72} }, nil, "not in the store"},
		{"a takeover by a vote that was cast again", winner, over, func(v *View) { v.Store.Cluster.Votes[1].ModRevision++ }, nil, "not in the store"},
		{"a takeover by a vote with another copy (B11)", winner, over, func(v *View) {
			publish(v, syncOf(VoterSet{Voters: []Voter{{"b", dataOf("b")}, {"c", "fresh"}}, Wait: 1, Quorum: 2}))
		}, nil, "every published set"},
		{"a takeover in another reign", winner, over, func(v *View) { v.Store.Cluster.Reign.Epoch = 2 }, nil, "another reign"},
		{"a takeover over another key", winner, over, gone, nil, "another leader key"},
		{"a takeover against a Patroni", winner, over, func(v *View) { v.Store.Cluster.Reign.ModRevision = 20 }, nil, "another's followed"},
		{"a takeover where a Patroni wrote the key (hole 18)", winner, over, func(v *View) { v.Store.Cluster.Sync.Electorate = nil }, nil, "no electorate"},
		{"a takeover by one that is not proven frozen", winner, over, func(v *View) { v.Local.Freeze.Proven = false }, nil, "not frozen itself"},
		{"a takeover by the leader", winner, over, func(v *View) { v.Own = Own{Revision: 95} }, nil, "holder of a title"},
		{"a takeover without a lease", winner, over, func(v *View) { v.Lease = 0 }, nil, "without a lease"},
		{"a takeover by a vote of a branch left aside", winner, over, func(v *View) {
			v.Store.Cluster.Reign.ParentTimeline, v.Store.Cluster.Reign.NextTimeline = 0, 2
		}, nil, "left aside"},
		{"a takeover that forgets the old quorums (B3)", winner, over, same, func() Action {
			o := over.(TakeOver)
			o.Sync = SyncState{Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{setOf(1, "a", "c")}}}
			return o
		}(), "forgets"},
		{"a takeover that tells Patroni members whom to follow", winner, over, same, func() Action {
			o := over.(TakeOver)
			o.Sync.Standbys = []string{"c"}
			return o
		}(), "tells Patroni members"},
		{"a vote before the freeze is proven (B10)", frozenVoter, CastVote{Vote: voteOf("b", 100)}, func(v *View) { v.Local.Freeze.Proven = false }, nil, "not proven frozen"},
		{"a vote below the end of the log", frozenVoter, CastVote{Vote: voteOf("b", 100)}, same, CastVote{Vote: voteOf("b", 99)}, "where the frozen log ends"},
		{"a vote with another copy", frozenVoter, CastVote{Vote: voteOf("b", 100)}, func(v *View) { v.Local.DataID = "fresh" }, nil, "another copy"},
		{"a vote in another reign", frozenVoter, CastVote{Vote: voteOf("b", 100)}, func(v *View) { v.Store.Cluster.Reign.ModRevision = 95 }, nil, "another reign"},
		{"a vote by a server that is down", frozenVoter, CastVote{Vote: voteOf("b", 100)}, func(v *View) { v.Local.Server = ServerDown }, nil, "no running standby"},
		{"a thaw while the vote stands", withdrawn, Thaw{}, func(v *View) { cast(v); v.Store.Cluster.Votes = []Vote{voteOf("b", 100)} }, nil, "vote stands"},
		{"a thaw while a vote may arrive (B21)", withdrawn, Thaw{}, func(v *View) { v.Local.Freeze.VoteSent = true }, nil, "still arrive"},
		{"a thaw while nobody leads", withdrawn, Thaw{}, gone, nil, "nobody leads"},
		{"a withdrawal that asks for nothing", winner, WithdrawVote{Revision: 71, LeaderRevision: leaderRev}, same, WithdrawVote{Revision: 71}, "without asking"},
		{"a frozen member that follows (B2)", replaced, follow, func(v *View) { v.Local.Freeze.LeaderRevision = 95 }, nil, "frozen against"},
		{"a frozen member that starts to follow (B2)", replaced, start, func(v *View) { v.Local.Freeze.LeaderRevision = 95 }, nil, "frozen against"},
		{"a member that follows while its vote stands", replaced, follow, func(v *View) { v.Store.Cluster.Reign.ModRevision = leaderRev }, nil, "not over"},
		{"a primary that freezes", frozenVoter, FreezeServer{}, func(v *View) { v.Local.Role = RolePrimary }, nil, "is frozen"},
		{"a promise broken (B16)", free, AcquireLeader{}, func(v *View) { v.Fencer.PromiseUntil = testNow + 1 }, nil, "promise"},
		{"the key of a synchronous cluster by time", free, AcquireLeader{}, func(v *View) { publish(v, syncOf(setOf(1, "b"))) }, nil, "by time alone"},
		{"the key of a synchronous cluster under the old electorate", free, AcquireLeader{}, func(v *View) { publish(v, syncOf(setOf(1, "b"))); v.Policy.Sync.TimeOnly = true }, nil, "electorate of another"},
		{"a hand-over under the old electorate", syncLeader, HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{Leader: "b"}}, same, HandOver{Candidate: "b", OfferRevision: 92}, "electorate of another"},
		{"a hand-over that forgets who holds everything", syncLeader, HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{Leader: "b"}}, same, HandOver{
			Candidate: "b", OfferRevision: 92, Sync: &SyncState{Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{setOf(1, "c")}}},
		}, "miss"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := tc.view()
			if why := Violation(v, Plan{Actions: []Action{tc.good}}); why != "" {
				t.Fatalf("the control is refused: %s", why)
			}
			tc.doctor(&v)
			bad := tc.bad
			if bad == nil {
				bad = tc.good
			}
			if why := Violation(v, Plan{Actions: []Action{bad}}); !strings.Contains(why, tc.want) || why == "" {
				t.Errorf("got %q, want a refusal that says %q", why, tc.want)
			}
		})
	}
}

// TestCountingAndTryingAgree holds the two ways to ask whether a quorum can miss a commit against each
// other, which know nothing of each other.
func TestCountingAndTryingAgree(t *testing.T) {
	names := []string{"b", "c", "d", "e", "f"}
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, len(names), rapid.ID).Draw(t, label)
		}
		s := SyncSetting{Any: true, Names: some("names")}
		s.Wait = rapid.IntRange(0, len(s.Names)+1).Draw(t, "wait")
		set := VoterSet{}
		for _, n := range some("voters") {
			set.Voters = append(set.Voters, Voter{Name: n, Data: dataOf(n)})
		}
		set.Quorum = rapid.IntRange(1, len(set.Voters)).Draw(t, "quorum")
		if tried, counted := !escapes(s, set), meets(s, set, "a"); tried != counted {
			t.Fatalf("%s against %d of %v: tried %t, counted %t", s, set.Quorum, set.Voters, tried, counted)
		}
		if s.Wait > 0 && s.Wait <= len(s.Names) && tooLargeToTry(s, set) != escapes(s, set) {
			t.Fatalf("%s against %d of %v: the large way differs", s, set.Quorum, set.Voters)
		}
	})
}
