package election

import (
	"time"

	"pgregory.net/rapid"
)

func anySet(t *rapid.T) VoterSet {
	s := chance(t, "set", setOf(1, "b", "c"), setOf(1, "b"), setOf(2, "b", "c"), setOf(1, "a", "c"), inheriting(2, "b", "c"), inheriting(1, "a", "b"), setOf(1, "c", "d"))
	if chance(t, "recloned", false, false, false, true) {
		s.Voters = append([]Voter{}, s.Voters...)
		s.Voters[0].Data = "fresh"
	}
	return s
}

func anySyncState(t *rapid.T) SyncState {
	if chance(t, "no sync", true, false, false) {
		return SyncState{}
	}
	s := SyncState{Leader: chance(t, "sync leader", "a", "a", "b", "c"), ModRevision: syncRev}
	if chance(t, "by a Patroni", false, false, true) {
		s.Standbys, s.Quorum = chance(t, "voters", []string{"b", "c"}, []string{"b"}, []string{"a", "c"}, nil), chance(t, "quorum", 0, 1)
		return s
	}
	e := &Electorate{Epoch: chance(t, "published in", uint64(1), 1, 4), LeaderData: chance(t, "leader data", dataOf(s.Leader), dataOf(s.Leader), "fresh")}
	for range rapid.IntRange(0, 3).Draw(t, "sets") {
		e.Sets = append(e.Sets, anySet(t))
	}
	if len(e.Sets) == 1 {
		s.Standbys, s.Quorum = e.Sets[0].Names(), e.Sets[0].Quorum-1
	}
	s.Electorate = e
	return s
}

func anySetting(t *rapid.T) SyncSetting {
	return chance(t, "setting", SyncSetting{}, anyOf(1, "b", "c"), anyOf(1, "a", "c"), anyOf(2, "b", "c"), SyncSetting{Wait: 1, Names: []string{"c"}}, anyOf(1, StrictPlaceholder))
}

func anyVote(t *rapid.T, name string) Vote {
	v := voteOf(name, chance(t, "vote lsn", LSN(100), 99, 101))
	v.Epoch, v.LeaderRevision = chance(t, "vote epoch", uint64(1), 1, 4), chance(t, "vote against", int64(leaderRev), leaderRev, 20, 95)
	v.Data, v.Timeline = chance(t, "vote data", v.Data, v.Data, "fresh"), chance(t, "vote timeline", Timeline(1), 1, 2, 3)
	if chance(t, "withdrawn", false, false, false, true) {
		return Vote{Name: name, ModRevision: v.ModRevision}
	}
	return v
}

// anySynchronous draws everything that the synchronous modes and failsafe add to a View.
func anySynchronous(t *rapid.T, v *View) {
	c := &v.Store.Cluster
	c.Sync = anySyncState(t)
	for i := range c.Members {
		m := &c.Members[i]
		m.DataID = chance(t, "member data", dataOf(m.Name), dataOf(m.Name), dataOf(m.Name), "fresh", "")
		m.Tags.NoSync = chance(t, "nosync", false, false, false, true)
	}
	for _, name := range []string{"b", "c"} {
		if chance(t, "votes", true, false) {
			c.Votes = append(c.Votes, anyVote(t, name))
		}
	}
	if chance(t, "reign of the leader", true, true, false) {
		c.Reign.ModRevision, c.Reign.Epoch = leaderRev, 1
	}
	if c.Reign.Epoch != 0 && c.Sync.Leader != "" && chance(t, "its sync key", true, false) {
		c.Reign.Holder = c.Sync.Leader
	}
	c.Reign.ParentTimeline = chance(t, "parent", Timeline(0), 1, 2)
	c.FailsafeRev = chance(t, "failsafe revision", int64(0), 60)
	v.Policy.Sync = SyncPolicy{
		Mode: chance(t, "mode", SyncOff, SyncOn, SyncQuorum), Strict: chance(t, "strict", false, true), Nodes: chance(t, "nodes", 0, 1, 2),
		MaximumLag: chance(t, "sync lag", uint64(0), 10), Silence: testSilence, TimeOnly: chance(t, "time only", false, false, false, true),
	}
	v.Local.DataID = chance(t, "own data", dataOf("b"), dataOf("b"), dataOf("b"), "fresh", "")
	v.Local.Sync = LocalSync{
		Known: chance(t, "sync known", true, true, false), Setting: anySetting(t), Foreign: chance(t, "foreign", false, false, true),
		InForce: chance(t, "in force", true, false), Barrier: chance(t, "barrier", LSN(0), 90, 101),
	}
	v.Local.Streamed = []Streamed{{Name: "a", At: anyInstant(t, "a streamed")}, {Name: "c", At: anyInstant(t, "c streamed")}}
	if chance(t, "frozen", true, false) {
		v.Local.Freeze = Freeze{
			Recorded: chance(t, "recorded", true, true, false), Epoch: chance(t, "frozen in", uint64(1), 1, 4),
			LeaderRevision: chance(t, "frozen against", int64(leaderRev), leaderRev, 20, 95), Proven: chance(t, "proven", true, false),
			Timeline: chance(t, "frozen timeline", Timeline(1), 1, 2, 0), LSN: chance(t, "frozen lsn", LSN(100), 100, 0), Since: anyInstant(t, "frozen since"),
			VoteSent: chance(t, "vote sent", true, false), Fruitless: chance(t, "fruitless", 0, 1, 9), LastThaw: anyInstant(t, "thawed"),
		}
	}
	v.Contact = Contact{Revision: chance(t, "asked", int64(leaderRev), leaderRev, 95), HeardAt: anyInstant(t, "heard"), Silent: chance(t, "silent", 0, 3, 9)}
	for i := range v.Probes.Answers {
		v.Probes.Answers[i].Lost = chance(t, "lost", int64(0), leaderRev)
	}
	v.Store.SyncWrite = SyncWrite{Sent: chance(t, "sync sent", false, true), Over: chance(t, "sync sent over", int64(0), syncRev)}
	v.Racing = chance(t, "racing", false, true)
	v.Fencer.PromiseUntil = testNow + chance(t, "promise", -time.Second, -time.Second, time.Second)
	v.Own.Promised = chance(t, "promised at", 0, 0, v.Own.Sent+time.Second)
	if !v.Own.Held() {
		v.Own.Promised = 0
	}
	v.Failsafe = FailsafeRound{DoneAt: anyInstant(t, "round"), Asking: chance(t, "asking", false, true)}
}
