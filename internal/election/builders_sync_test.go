package election

import (
	"slices"
	"time"
)

const (
	syncRev     = 55
	testSilence = 700 * time.Millisecond
)

func dataOf(name string) string { return "data-" + name }

// setOf is a set of the copies that the members have in these tests.
func setOf(wait int, names ...string) VoterSet {
	s := VoterSet{Wait: wait, Quorum: len(names) - wait + 1}
	for _, n := range names {
		s.Voters = append(s.Voters, Voter{Name: n, Data: dataOf(n)})
	}
	return s
}

// inheriting is a set that waits for nothing any more.
func inheriting(quorum int, names ...string) VoterSet {
	s := setOf(0, names...)
	s.Quorum = quorum
	return s
}

// anyOf is the setting of a set in quorum mode.
func anyOf(wait int, names ...string) SyncSetting {
	return SyncSetting{Any: true, Wait: wait, Names: names}
}

// syncOf is the sync key that a publishes for these sets, in reign 1.
func syncOf(sets ...VoterSet) SyncState {
	s := SyncState{Leader: "a", Electorate: &Electorate{Epoch: 1, LeaderData: dataOf("a"), Sets: sets}}
	if len(sets) == 1 {
		s.Standbys, s.Quorum = sets[0].Names(), sets[0].Quorum-1
	}
	return s
}

// publish puts a sync key into the store.
func publish(v *View, s SyncState) {
	s.ModRevision = syncRev
	v.Store.Cluster.Sync = s
}

func synchronous(v View) View {
	v.Policy.Sync = SyncPolicy{Mode: SyncQuorum, Nodes: 1, Silence: testSilence}
	v.Local.DataID = dataOf(v.Self.Name)
	v.Store.Cluster.Members = slices.Clone(v.Store.Cluster.Members)
	for i := range v.Store.Cluster.Members {
		v.Store.Cluster.Members[i].DataID = dataOf(v.Store.Cluster.Members[i].Name)
	}
	publish(&v, syncOf(setOf(1, "b", "c")))
	return v
}

// syncLeader is a, which leads b and c in quorum mode and lacks nothing.
func syncLeader() View {
	v := synchronous(healthyLeader())
	v.Local.Sync = LocalSync{Known: true, Setting: anyOf(1, "b", "c"), InForce: true, Barrier: 90}
	v.Local.Streamed = []Streamed{{Name: "b", At: testNow}, {Name: "c", At: testNow}}
	return v
}

// syncVoter is b, which streams from a in quorum mode.
func syncVoter() View {
	v := synchronous(healthyStandby())
	v.Contact = Contact{Revision: leaderRev, HeardAt: testNow - 100*time.Millisecond}
	return v
}

// lostVoter is b after a has been silent for long enough.
func lostVoter() View {
	v := syncVoter()
	v.Contact = Contact{Revision: leaderRev, HeardAt: testNow - time.Second, Silent: lostAfter}
	return v
}

// heard lets the others answer whether they have lost the leader.
func heard(v *View, lost ...string) {
	v.Probes = Probes{StartedAt: testNow - 150*time.Millisecond, DoneAt: testNow - 50*time.Millisecond}
	for _, m := range v.Store.Cluster.Members {
		if m.Name == v.Self.Name || m.Name == "a" {
			continue
		}
		p := Probe{Name: m.Name, Answered: true, Role: RoleStandby, Timeline: 1, LSN: 100, Priority: 1}
		if slices.Contains(lost, m.Name) {
			p.Lost = leaderRev
		}
		v.Probes.Answers = append(v.Probes.Answers, p)
	}
}

// frozenVoter is b, frozen against a a moment ago.
func frozenVoter() View {
	v := lostVoter()
	v.Local.Streaming, v.Local.Upstream, v.Local.UpstreamConnURL = false, "", ""
	v.Local.Freeze = Freeze{
		Recorded: true, Epoch: 1, LeaderRevision: leaderRev, Proven: true, Timeline: 1, LSN: 100,
		Since: testNow - 100*time.Millisecond,
	}
	return v
}

func voteOf(name string, lsn LSN) Vote {
	return Vote{
		Name: name, Data: dataOf(name), Epoch: 1, LeaderRevision: leaderRev, Timeline: 1, LSN: lsn,
		ModRevision: 70 + int64(name[0]-'a'),
	}
}

// cast puts votes into the store.
func cast(v *View, votes ...Vote) {
	v.Store.Cluster.Votes = slices.Concat(v.Store.Cluster.Votes, votes)
}

// winner is b, frozen, with its own vote and that of c.
func winner() View {
	v := frozenVoter()
	v.Local.Freeze.VoteSent = true
	cast(&v, voteOf("b", 100), voteOf("c", 90))
	return v
}

// gone takes the leader key away, in a way that its holder is proven to be none any more.
func gone(v *View) {
	v.Store.Cluster.Leader = Leader{}
	v.Store.Vacancy = Vacancy{Since: testNow - 500*time.Millisecond, Revision: leaderRev, Lease: leaseOf("a"), LeaseGone: Yes}
}
