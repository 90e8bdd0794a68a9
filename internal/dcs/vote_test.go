package dcs_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// voting is a world in which a leads b and c synchronously, both have voted against it, and b is about to
// take over.
func voting(t *testing.T) (*world, election.TakeOver) {
	t.Helper()
	w := newWorld(t)
	rev := w.lead("a", w.a)
	w.done(dcs.WriteSync(rev, 0, election.SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}, Electorate: electorate("a", 2, "b", "c")}))
	for _, name := range []string{"b", "c"} {
		w.done(dcs.CastVote(w.seen(), vote(w, name)))
	}
	seen := w.seen()
	return w, election.TakeOver{
		Over: rev, Votes: seen.Votes, Reign: election.Reign{Epoch: 2, Holder: "b", NextTimeline: 2},
		Sync: election.SyncState{Leader: "b", Electorate: electorate("b", 2, "b", "c")},
	}
}

func electorate(leader string, quorum int, voters ...string) *election.Electorate {
	set := election.VoterSet{Wait: len(voters) - quorum + 1, Quorum: quorum}
	for _, v := range voters {
		set.Voters = append(set.Voters, election.Voter{Name: v, Data: "data-" + v})
	}
	return &election.Electorate{Epoch: 1, LeaderData: "data-" + leader, Sets: []election.VoterSet{set}}
}

func vote(w *world, name string) election.Vote {
	c := w.seen()
	return election.Vote{Name: name, Data: "data-" + name, Epoch: c.Reign.Epoch, LeaderRevision: c.Reign.ModRevision, Timeline: 1, LSN: 100}
}

func TestTakeOverIsRefusedWhenAnythingItCountsOnMoved(t *testing.T) {
	for why, disturb := range map[string]func(*world, election.TakeOver){
		"a counted vote was withdrawn (hole 1)": func(w *world, to election.TakeOver) {
			w.done(dcs.WithdrawVote("c", to.Votes[1].ModRevision, to.Over))
		},
		"a counted vote was withdrawn and cast again": func(w *world, to election.TakeOver) {
			w.done(dcs.WithdrawVote("c", to.Votes[1].ModRevision, to.Over))
			w.done(dcs.CastVote(w.seen(), vote(w, "c")))
		},
		"the own vote was cast again": func(w *world, _ election.TakeOver) { w.done(dcs.CastVote(w.seen(), vote(w, "b"))) },
		"the leader changed the electorate": func(w *world, to election.TakeOver) {
			w.done(dcs.WriteSync(to.Over, w.seen().Sync.ModRevision, election.SyncState{Leader: "a"}))
		},
		"the leader rehung its key": func(w *world, to election.TakeOver) {
			w.done(dcs.RehangLeader("a", w.a, to.Over, w.seen().Reign))
		},
		"the leader gave its key up": func(w *world, to election.TakeOver) {
			w.done(dcs.ReleaseLeader(to.Over, election.Release{Name: "a"}, nil))
		},
		"a failsafe set was published": func(w *world, to election.TakeOver) {
			w.done(dcs.WriteFailsafe(to.Over, 0, []election.FailsafeMember{{Name: "a", APIURL: "u"}}))
		},
		"another was faster": func(w *world, to election.TakeOver) { w.done(dcs.TakeOver("c", w.grant(), w.seen(), to)) },
	} {
		w, to := voting(t)
		seen := w.seen()
		disturb(w, to)
		w.refused(why, dcs.TakeOver("b", w.b, seen, to))
	}
	w, to := voting(t)
	w.done(dcs.TakeOver("b", w.b, w.seen(), to))
	c := w.seen()
	if c.Leader.Name != "b" || c.Leader.Lease != w.b || c.Reign.Epoch != 2 || c.Reign.ModRevision != c.Leader.ModRevision || c.Sync.Leader != "b" || len(c.Votes) != 2 {
		t.Errorf("got %+v, want b with a reign and a sync key of its own, and the votes where they were", c)
	}
}

func TestTakeOverOfAnAbsentKey(t *testing.T) {
	w, to := voting(t)
	seen := w.seen()
	w.done(dcs.ReleaseLeader(to.Over, election.Release{Name: "a"}, nil))
	to.Over = 0
	w.done(dcs.TakeOver("b", w.b, seen, to))
	w.refused("the key is there", dcs.TakeOver("c", w.grant(), seen, to))
}

func TestALateVoteCannotArriveAfterItsWithdrawal(t *testing.T) {
	w := newWorld(t)
	rev := w.lead("a", w.a)
	late := dcs.CastVote(w.seen(), vote(w, "b")) // sent, and no answer came
	w.done(dcs.WithdrawVote("b", 0, rev))
	w.refused("a vote cast before it was withdrawn", late)
	if got, _ := w.vote("b"); got.Standing() || got.ModRevision == 0 {
		t.Errorf("got %+v, want the trace of a withdrawn vote", got)
	}
	w.done(dcs.CastVote(w.seen(), vote(w, "b")))
	w.refused("the same, after another vote", late)
	w.refused("a withdrawal of another vote", dcs.WithdrawVote("b", 0, rev))
	stands, _ := w.vote("b")
	w.done(dcs.RehangLeader("a", w.a, rev, w.seen().Reign))
	w.refused("a withdrawal towards a leader that was followed by another", dcs.WithdrawVote("b", stands.ModRevision, rev))
	w.done(dcs.WithdrawVote("b", stands.ModRevision, 0))
}

func TestAVoteIsCastOnlyAgainstWhatWasSeen(t *testing.T) {
	for why, disturb := range map[string]func(*world, int64){
		"the leader changed the electorate": func(w *world, rev int64) { w.done(dcs.WriteSync(rev, 0, election.SyncState{Leader: "a"})) },
		"the leader rehung its key":         func(w *world, rev int64) { w.done(dcs.RehangLeader("a", w.a, rev, w.seen().Reign)) },
		"the key went":                      func(w *world, rev int64) { w.done(dcs.ReleaseLeader(rev, election.Release{}, nil)) },
	} {
		w := newWorld(t)
		rev := w.lead("a", w.a)
		txn := dcs.CastVote(w.seen(), vote(w, "b"))
		disturb(w, rev)
		w.refused(why, txn)
	}
}

func TestAcquireLeaderComparesAndMayWriteTheSyncKey(t *testing.T) {
	w := newWorld(t)
	rev := w.lead("a", w.a)
	w.done(dcs.ReleaseLeader(rev, election.Release{Name: "a"}, nil))
	before := w.seen()
	rev = w.lead("a", w.a)
	w.done(dcs.WriteSync(rev, 0, election.SyncState{Leader: "a"}))
	w.done(dcs.ReleaseLeader(rev, election.Release{Name: "a"}, nil))
	before.Reign = w.seen().Reign
	reign := election.Reign{Epoch: before.Reign.Epoch + 1, Holder: "b"}
	w.refused("the electorate was published meanwhile", dcs.AcquireLeader("b", w.b, before, reign))
	w.done(dcs.AcquireLeaderWithSync("b", w.b, w.seen(), reign, &election.SyncState{Leader: "b"}))
	if got := w.value("sync"); got != `{"leader":"b","quorum":0,"sync_standby":null}` {
		t.Errorf("got %s", got)
	}
}

// TestAcquireByHandNeedsTheRequestThatWasSeen: whom an operator names may lead although it lacks commits, and
// the operator may have thought better of it.
func TestAcquireByHandNeedsTheRequestThatWasSeen(t *testing.T) {
	for _, asked := range []election.FailoverRequest{{Candidate: "b"}, {Leader: "a", Candidate: "b"}} {
		w := newWorld(t)
		w.done(dcs.WriteFailover(asked))
		before := w.seen()
		w.done(dcs.WriteFailover(election.FailoverRequest{Leader: "a"}))
		reign := election.Reign{Epoch: before.Reign.Epoch + 1, Holder: "b"}
		w.refused("the request was replaced", dcs.AcquireLeader("b", w.b, before, reign))
		w.done(dcs.AcquireLeader("b", w.b, w.seen(), reign))
	}
}

// TestAnElectorateThatIsNotUnderstoodIsNone: what cannot be read must never be believed in part.
func TestAnElectorateThatIsNotUnderstoodIsNone(t *testing.T) {
	good := `{"epoch":1,"leader_data":"d","sets":[{"voters":[{"name":"b","data":"x"},{"name":"c","data":"y"}],"wait":1,"quorum":2}]}`
	decode := func(part string) *election.Electorate {
		value := `{"leader":"a","quorum":1,"sync_standby":"b,c","pgha":` + part + `}`
		return dcs.Decode(dcs.Snapshot{KVs: []dcs.KV{{Key: dcs.KeySync, Value: []byte(value), ModRevision: 7}}}).Sync.Electorate
	}
	if diff := cmp.Diff(1, len(decode(good).Sets)); diff != "" {
		t.Fatal(diff)
	}
	for _, bad := range []string{
		`null`, `5`, `[]`, `{}`, `{"epoch":0,"sets":[]}`, `{"epoch":1}`, `{"epoch":1,"sets":{}}`, `{"epoch":1,"sets":[{}]}`,
		`{"epoch":1,"sets":[{"voters":[],"wait":0,"quorum":1}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":"x"}],"wait":0,"quorum":0}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":"x"}],"wait":0,"quorum":2}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":"x"}],"wait":2,"quorum":1}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":""}],"wait":1,"quorum":1}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b"}],"wait":1,"quorum":1}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":"x"},{"name":"b","data":"y"}],"wait":1,"quorum":2}]}`,
		`{"epoch":1,"sets":[{"voters":["b"],"wait":1,"quorum":1}]}`,
		`{"epoch":1,"sets":[{"voters":[{"name":"b","data":"x"}],"wait":1}]}`,
		`{"epoch":-1,"sets":[]}`,
	} {
		if e := decode(bad); e != nil {
			t.Errorf("%s was read as %+v", bad, e)
		}
	}
	// A Patroni keeps the fields it knows, and drops the rest.
	if e := dcs.Decode(dcs.Snapshot{KVs: []dcs.KV{{Key: dcs.KeySync, Value: []byte(`{"leader":"a","quorum":1,"sync_standby":"b,c"}`)}}}).Sync.Electorate; e != nil {
		t.Errorf("an electorate out of nothing: %+v", e)
	}
}
