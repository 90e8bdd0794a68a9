package dcs_test

import (
	"context"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/memory"
	"github.com/pgha/pgha/internal/election"
)

// world is one store in memory and two members' leases.
type world struct {
	t      *testing.T
	ctx    context.Context
	s      *memory.Store
	a, b   election.LeaseID
	server *memory.Server
	now    *time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	now := new(time.Duration)
	server := memory.NewServer(func() time.Duration { return *now })
	w := &world{t: t, ctx: t.Context(), s: server.Store("/service/demo"), server: server, now: now}
	w.a, w.b = w.grant(), w.grant()
	return w
}

func (w *world) grant() election.LeaseID {
	w.t.Helper()
	g, err := w.s.Grant(w.ctx, 10*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	return g.ID
}

func (w *world) vote(name string) (election.Vote, bool) {
	c := w.seen()
	return c.Vote(name)
}

func (w *world) seen() election.Cluster {
	w.t.Helper()
	snap, err := w.s.Load(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return dcs.Decode(snap)
}

func (w *world) value(key string) string {
	w.t.Helper()
	snap, err := w.s.Load(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	kv, ok := snap.Get(key)
	if !ok {
		return "(absent)"
	}
	return string(kv.Value)
}

func (w *world) done(txn dcs.Txn) int64 {
	w.t.Helper()
	res, err := w.s.Apply(w.ctx, txn)
	if err != nil || !res.Done {
		w.t.Fatalf("got %+v, %v for %+v", res, err, txn)
	}
	return res.Revision
}

func (w *world) refused(why string, txn dcs.Txn) {
	w.t.Helper()
	res, err := w.s.Apply(w.ctx, txn)
	if err != nil || res.Done {
		w.t.Errorf("%s: got %+v, %v, want it refused", why, res, err)
	}
}

func (w *world) lead(name string, lease election.LeaseID) int64 {
	w.t.Helper()
	return w.done(dcs.AcquireLeader(name, lease, w.seen(), election.Reign{Epoch: w.seen().Reign.Epoch + 1, Holder: name}))
}

func TestAcquireLeaderComparesWhatTheDecisionWasMadeFrom(t *testing.T) {
	w := newWorld(t)
	before := w.seen()
	reign := election.Reign{Epoch: 1, Holder: "a", NextTimeline: 2}
	rev := w.lead("a", w.a)
	w.refused("somebody leads", dcs.AcquireLeader("b", w.b, w.seen(), reign))
	w.done(dcs.ReleaseLeader(rev, election.Release{Name: "a"}, nil))
	w.refused("a reign passed meanwhile", dcs.AcquireLeader("b", w.b, before, reign))
	stale := w.seen()
	rev = w.lead("a", w.a)
	w.done(dcs.WriteFailsafe(rev, 0, []election.FailsafeMember{{Name: "a", APIURL: "u"}}))
	w.done(dcs.ReleaseLeader(rev, election.Release{Name: "a"}, nil))
	stale.Reign = w.seen().Reign
	w.refused("a failsafe set was published meanwhile", dcs.AcquireLeader("b", w.b, stale, reign))
	w.lead("b", w.b)
	if c := w.seen(); c.Leader.Name != "b" || c.Leader.Lease != w.b || c.Release.Name != "a" {
		t.Errorf("got %+v, want b on its lease, and nothing else cleared", c)
	}
}

func TestOnlyTheHoldersRevisionMayWrite(t *testing.T) {
	w := newWorld(t)
	old := w.lead("a", w.a)
	// The key is written again by somebody of the same name: name and lease prove nothing.
	rev := w.done(dcs.RehangLeader("a", w.a, old, w.seen().Reign))
	status := election.Status{Optime: 5}
	for why, txn := range map[string]dcs.Txn{
		"take over":  dcs.TakeOver("b", w.b, w.seen(), election.TakeOver{Over: old}),
		"vote":       dcs.CastVote(election.Cluster{Leader: election.Leader{ModRevision: old}, Reign: w.seen().Reign}, election.Vote{Name: "b"}),
		"withdraw":   dcs.WithdrawVote("b", 0, old),
		"rehang":     dcs.RehangLeader("a", w.b, old, w.seen().Reign),
		"release":    dcs.ReleaseLeader(old, election.Release{Name: "a"}, &status),
		"hand over":  dcs.HandOver(dcs.HandOverSpec{LeaderRevision: old, Seen: w.seen()}),
		"status":     dcs.WriteStatus(old, status, true),
		"history":    dcs.WriteHistory(old, nil),
		"failsafe":   dcs.WriteFailsafe(old, 0, nil),
		"sync":       dcs.WriteSync(old, 0, election.SyncState{Leader: "a"}),
		"no sync":    dcs.DeleteSync(old, 0),
		"failover":   dcs.ClearFailoverAsLeader(old, 0),
		"config":     dcs.RestoreConfig(old, []byte("{}")),
		"initialize": dcs.WriteInitialize(old, election.Initialize{}, "1234567890"),
		"offer":      dcs.PutOffer(election.Offer{Name: "b", Lease: w.b, For: old}),
	} {
		w.refused(why, txn)
	}
	w.done(dcs.WriteStatus(rev, status, true))
	if w.value("status") != `{"optime":5}` || w.value("optime/leader") != "5" {
		t.Errorf("got %s and %s", w.value("status"), w.value("optime/leader"))
	}
	final := dcs.WithOptime(election.Status{Optime: 1, Slots: []election.SlotPosition{{Name: "s", LSN: 3}}}, 9)
	w.done(dcs.ReleaseLeader(rev, election.Release{Name: "a", Checkpoint: 9, LeaderRevision: 12345}, &final))
	if c := w.seen(); c.Leader.Present || c.Release.LeaderRevision != rev || c.Release.Checkpoint != 9 || c.Status.Optime != 9 || len(c.Status.Slots) != 1 {
		t.Errorf("got %+v, want a release of revision %d", c, rev)
	}
}

func TestHandOverIsRefusedWhenAnythingMoved(t *testing.T) {
	setup := func(t *testing.T) (*world, dcs.HandOverSpec) {
		w := newWorld(t)
		rev := w.lead("a", w.a)
		w.done(dcs.WriteSync(rev, 0, election.SyncState{Leader: "a", Standbys: []string{"b"}}))
		w.done(dcs.WriteFailover(election.FailoverRequest{Leader: "a", Candidate: "b"}))
		w.done(dcs.PutOffer(election.Offer{Name: "b", Lease: w.b, Incarnation: "i", For: rev}))
		seen := w.seen()
		offer, _ := seen.Offer("b")
		return w, dcs.HandOverSpec{
			LeaderRevision: rev, Offer: offer, Seen: seen, Reign: election.Reign{Epoch: 2, Holder: "b"},
			Release: election.Release{Name: "a"}, Sync: &election.SyncState{Leader: "b", Standbys: []string{"a"}}, ClearFailover: true,
		}
	}
	for why, disturb := range map[string]func(*world, dcs.HandOverSpec){
		"the offer hangs on another lease": func(w *world, h dcs.HandOverSpec) {
			w.done(dcs.PutOffer(election.Offer{Name: "b", Lease: w.grant(), Incarnation: "i", For: h.LeaderRevision}))
		},
		"the offer was withdrawn":       func(w *world, h dcs.HandOverSpec) { w.done(dcs.WithdrawOffer("b", h.Offer.ModRevision)) },
		"the candidate's lease ran out": func(w *world, _ dcs.HandOverSpec) { _ = w.s.Revoke(w.ctx, w.b) },
		"another operator asked for another": func(w *world, _ dcs.HandOverSpec) {
			w.done(dcs.WriteFailover(election.FailoverRequest{Candidate: "c"}))
		},
		"the electorate changed": func(w *world, h dcs.HandOverSpec) {
			w.done(dcs.WriteSync(h.LeaderRevision, h.Seen.Sync.ModRevision, election.SyncState{Leader: "a"}))
		},
		"the leader key moved": func(w *world, h dcs.HandOverSpec) {
			w.done(dcs.RehangLeader("a", w.a, h.LeaderRevision, w.seen().Reign))
		},
	} {
		w, spec := setup(t)
		disturb(w, spec)
		w.refused(why, dcs.HandOver(spec))
	}
	w, spec := setup(t)
	w.done(dcs.HandOver(spec))
	c := w.seen()
	if c.Leader.Name != "b" || c.Leader.Lease != w.b || c.Sync.Leader != "b" || !c.Failover.IsZero() || len(c.Offers) != 0 || w.value("failover") != "{}" {
		t.Errorf("got %+v", c)
	}
}

func TestABootstrapperThatDiesDoesNotBlockTheCluster(t *testing.T) {
	w := newWorld(t)
	claim := w.done(dcs.BootstrapClaim("a", "ia", w.a))
	w.refused("somebody bootstraps", dcs.BootstrapClaim("b", "ib", w.b))
	seen := w.seen().Initialize
	if seen.Runner != "a" || !seen.RunnerEver || seen.ModRevision != claim {
		t.Fatalf("got %+v, want a at it", seen)
	}
	w.refused("the runner lives", dcs.BootstrapReclaim("b", "ib", w.b, seen))
	w.refused("the runner lives", dcs.ClearBootstrap(claim))
	if err := w.s.Revoke(w.ctx, w.a); err != nil { // a dies
		t.Fatal(err)
	}
	if seen = w.seen().Initialize; seen.Runner != "" || !seen.RunnerEver {
		t.Fatalf("got %+v, want a runner that died", seen)
	}
	again := w.done(dcs.BootstrapReclaim("b", "ib", w.b, seen))
	w.refused("a second reclaim", dcs.BootstrapReclaim("c", "ic", w.b, seen))
	// The dead one comes back and believes that it is still at it.
	late := w.grant()
	w.refused("finish of a lost claim", dcs.BootstrapFinish(dcs.FinishSpec{Self: "a", Lease: late, Claim: claim, SystemID: "1111111111", Seen: w.seen()}))
	w.refused("cancel of a lost claim", dcs.BootstrapCancel(claim))
	w.done(dcs.BootstrapFinish(dcs.FinishSpec{
		Self: "b", Lease: w.b, Claim: again, SystemID: "2222222222", Config: []byte(`{"ttl":10}`), Seen: w.seen(), Reign: election.Reign{Epoch: 1, Holder: "b"},
	}))
	c := w.seen()
	if c.Initialize.SystemID != "2222222222" || c.Leader.Name != "b" || c.Leader.Lease != w.b || c.ConfigRev == 0 || !c.HistorySeen ||
		w.value(dcs.KeyBootstrap) != "(absent)" || w.value(dcs.KeyClaim) != "(absent)" {
		t.Errorf("got %+v", c)
	}
}

func TestAPatronisBootstrapIsNeverReclaimed(t *testing.T) {
	w := newWorld(t)
	w.done(dcs.BootstrapClaim("a", "ia", w.a))
	if err := w.s.Revoke(w.ctx, w.a); err != nil {
		t.Fatal(err)
	}
	// A Patroni deletes the key and races for it again; pgha's notes are left behind.
	w.done(dcs.Txn{Then: []dcs.Op{{Key: dcs.KeyInitialize, Delete: true}}})
	w.done(dcs.Txn{If: []dcs.Cmp{{Key: dcs.KeyInitialize}}, Then: []dcs.Op{{Key: dcs.KeyInitialize}}})
	seen := w.seen().Initialize
	if seen.State != election.BootstrapRunning || seen.RunnerEver {
		t.Errorf("got %+v, want a bootstrap by nobody that pgha knows", seen)
	}
	w.refused("reclaim", dcs.BootstrapReclaim("b", "ib", w.b, seen))
}

func TestBootstrapKeepsAConfigurationThatExists(t *testing.T) {
	for value, want := range map[string]string{`{"ttl":20}`: `{"ttl":20}`, `rubbish`: `{"ttl":10}`} {
		w := newWorld(t)
		w.done(dcs.PutConfig([]byte(value)))
		claim := w.done(dcs.BootstrapClaim("a", "ia", w.a))
		snap, _ := w.s.Load(w.ctx)
		stored, _ := snap.Get(dcs.KeyConfig)
		w.done(dcs.BootstrapFinish(dcs.FinishSpec{
			Self: "a", Lease: w.a, Claim: claim, SystemID: "1111111111", Config: []byte(`{"ttl":10}`),
			ConfigRevision: stored.ModRevision, Seen: w.seen(),
		}))
		if got := w.value(dcs.KeyConfig); got != want {
			t.Errorf("over %s: got %s, want %s", value, got, want)
		}
	}
}

func TestFailoverAndConfigAreReplacedOnlyAsSeen(t *testing.T) {
	w := newWorld(t)
	w.done(dcs.ReplaceFailover(0, election.FailoverRequest{Candidate: "b"}))
	first := w.seen().Failover.ModRevision
	w.done(dcs.WriteFailover(election.FailoverRequest{Candidate: "c"}))
	w.refused("clear of an earlier request", dcs.ClearFailover(first))
	w.done(dcs.ClearFailover(w.seen().Failover.ModRevision))
	if w.value("failover") != "{}" {
		t.Errorf("got %s, want {}", w.value("failover"))
	}
	w.done(dcs.ReplaceConfig(0, []byte("{}")))
	w.refused("config made meanwhile", dcs.ReplaceConfig(0, []byte("{}")))
	w.done(dcs.ReplaceConfig(w.seen().ConfigRev, []byte(`{"ttl":5}`)))
	w.refused("adopt under a leader", func() dcs.Txn { w.lead("a", w.a); return dcs.AdoptInitialize(w.seen().Initialize, "1234567890") }())
}

func TestOnceKnowsWhatMayBeSentAgain(t *testing.T) {
	seen := election.Cluster{Reign: election.Reign{ModRevision: 4}}
	for _, tc := range []struct {
		name string
		txn  dcs.Txn
		want bool
	}{
		{"acquire after a reign", dcs.AcquireLeader("a", 1, seen, election.Reign{}), true},
		{"the very first acquire", dcs.AcquireLeader("a", 1, election.Cluster{}, election.Reign{}), false},
		{"rehang", dcs.RehangLeader("a", 1, 5, election.Reign{}), true},
		{"release", dcs.ReleaseLeader(5, election.Release{}, nil), true},
		{"hand over", dcs.HandOver(dcs.HandOverSpec{LeaderRevision: 5}), true},
		{"status compares, but writes another key", dcs.WriteStatus(5, election.Status{}, false), false},
		{"unguarded", dcs.PutConfig(nil), false},
		{"finish", dcs.BootstrapFinish(dcs.FinishSpec{Claim: 5}), true},
		{"claim", dcs.BootstrapClaim("a", "i", 1), false},
		{"take over", dcs.TakeOver("b", 1, seen, election.TakeOver{Over: 5}), true},
		{"a vote over one that was withdrawn", dcs.CastVote(election.Cluster{Votes: []election.Vote{{Name: "b", ModRevision: 3}}}, election.Vote{Name: "b"}), true},
		{"withdrawal", dcs.WithdrawVote("b", 3, 5), true},
	} {
		if got := dcs.Once(tc.txn); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestAKeyThatIsWrittenAnewTakesItsReignAlong(t *testing.T) {
	own := election.Own{Revision: 7, Lease: 3}
	for _, tc := range []struct {
		reign int64
		puts  int
	}{{7, 2}, {5, 1}} {
		txn := dcs.RewriteLeader(election.Cluster{Reign: election.Reign{Epoch: 2, ModRevision: tc.reign}}, own, "a")
		if len(txn.If) != 2 || txn.If[0].Key != dcs.KeyLeader || txn.If[0].Revision != 7 ||
			txn.If[1].Key != dcs.KeyEpoch || txn.If[1].Revision != tc.reign {
			t.Errorf("reign of revision %d: conditions %+v", tc.reign, txn.If)
		}
		if len(txn.Then) != tc.puts || txn.Then[0].Lease != 3 || string(txn.Then[0].Value) != "a" {
			t.Errorf("reign of revision %d: writes %+v", tc.reign, txn.Then)
		}
	}
}
