// Package dcstest is the conformance suite of dcs.Store: what pgha relies on, whatever the store.
package dcstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Harness is a store under test and the hands that move the world around it.
type Harness struct {
	// Open gives a further handle on the one store, for one agent.
	Open func(t *testing.T) dcs.Store
	// Pass lets time go by for leases: a clock is moved, or really waited for.
	Pass func(t *testing.T, d time.Duration)
	// TTL is the shortest lease worth testing with.
	TTL time.Duration
	// Compact makes the store forget its history.
	Compact func(t *testing.T)
	// Interrupt breaks the handle's connections until the returned function mends them. Other
	// handles are not affected.
	Interrupt func(t *testing.T, s dcs.Store) (mend func())
	// LoseAnswer makes the answer to the handle's next write get lost. done says whether the write
	// itself is carried out. The returned function ends that.
	LoseAnswer func(t *testing.T, s dcs.Store, done bool) (mend func())
	// Restart stops and starts the store, keeping its content. Nil if that means nothing.
	Restart func(t *testing.T)
}

const patience = 15 * time.Second

// Run runs the whole suite. make gives a fresh, empty store.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	tests := []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"an empty store loads as nothing and proves nobody", testEmpty},
		{"a put is read back with its lease and revision", testPut},
		{"of many who acquire an absent leader key one wins", testAcquireRace},
		{"a transaction whose conditions fail writes nothing", testConditions},
		{"a handed over key hangs on the candidate's lease", testHandOver},
		{"an expired lease deletes its keys and is gone", testExpiry},
		{"a lease that is kept alive keeps its keys", testKeepAlive},
		{"a put under a lease that is gone is refused", testDeadLease},
		{"revoking a lease deletes its keys", testRevoke},
		{"a watch delivers the present and then each change", testWatch},
		{"a watch tells the lease of a deleted key", testVanished},
		{"a watch never merges deletions away for a slow reader", testSlowReader},
		{"a watch catches up after an interruption, with the last lease of what went", testInterrupted},
		{"a watch that lost history does not guess the lease of what went", testCompacted},
		{"a watch survives a restart of the store", testRestart},
		{"the outcome of a write whose answer is lost is unknown", testUnknownOutcome},
		{"an unreachable store is unavailable within the deadline", testUnavailable},
		{"closing a store ends its watches", testClose},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, newHarness(t)) })
	}
}

func ctxOf(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, h Harness) dcs.Store {
	t.Helper()
	s := h.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func load(t *testing.T, s dcs.Store) dcs.Snapshot {
	t.Helper()
	snap, err := s.Load(ctxOf(t))
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return snap
}

func grant(t *testing.T, s dcs.Store, ttl time.Duration) election.LeaseID {
	t.Helper()
	g, err := s.Grant(ctxOf(t), ttl)
	if err != nil {
		t.Fatalf("grant: %v", err)
	}
	if g.ID == 0 || g.TTL < ttl {
		t.Fatalf("grant of %v gave %+v", ttl, g)
	}
	return g.ID
}

func apply(t *testing.T, s dcs.Store, txn dcs.Txn) dcs.TxnResult {
	t.Helper()
	res, err := s.Apply(ctxOf(t), txn)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return res
}

func must(t *testing.T, s dcs.Store, txn dcs.Txn) int64 {
	t.Helper()
	res := apply(t, s, txn)
	if !res.Done {
		t.Fatalf("transaction was not done: %+v", txn)
	}
	return res.Revision
}

func set(key, value string, lease election.LeaseID) dcs.Txn {
	return dcs.Txn{Then: []dcs.Op{{Key: key, Value: []byte(value), Lease: lease}}}
}

func remove(key string) dcs.Txn { return dcs.Txn{Then: []dcs.Op{{Key: key, Delete: true}}} }

func testEmpty(t *testing.T, h Harness) {
	s := open(t, h)
	snap := load(t, s)
	if len(snap.KVs) != 0 || snap.Revision <= 0 || snap.ClusterID == 0 || snap.RaftTerm == 0 {
		t.Errorf("got %+v, want no key, and a revision, a cluster id and a term", snap)
	}
	p, err := s.Prove(ctxOf(t))
	if err != nil || p.Present {
		t.Errorf("got %+v, %v, want no leader", p, err)
	}
}

func testPut(t *testing.T, h Harness) {
	s := open(t, h)
	id := grant(t, s, 60*time.Second)
	rev := must(t, s, set(dcs.KeyLeader, "a", id))
	must(t, s, set(dcs.KeyInitialize, "", 0))
	p, err := s.Prove(ctxOf(t))
	if err != nil {
		t.Fatal(err)
	}
	want := dcs.KV{Key: dcs.KeyLeader, CreateRevision: rev, ModRevision: rev, Lease: id}
	got := p.Leader
	got.Value = nil
	if !p.Present || string(p.Leader.Value) != "a" || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", p.Leader, want)
	}
	kv, ok := load(t, s).Get(dcs.KeyInitialize)
	if !ok || len(kv.Value) != 0 {
		t.Errorf("got %+v, %v, want an empty value that exists", kv, ok)
	}
	again := must(t, s, set(dcs.KeyLeader, "a", id))
	kv, _ = load(t, s).Get(dcs.KeyLeader)
	if kv.ModRevision != again || kv.CreateRevision != rev {
		t.Errorf("got %+v, want it made at %d and changed at %d", kv, rev, again)
	}
}

func testAcquireRace(t *testing.T, h Harness) {
	const racers = 5
	var wg sync.WaitGroup
	results := make([]dcs.TxnResult, racers)
	for i := range racers {
		s := open(t, h)
		id := grant(t, s, 60*time.Second)
		seen := dcs.Decode(load(t, s))
		wg.Go(func() {
			name := fmt.Sprintf("member%d", i)
			res, err := s.Apply(ctxOf(t), dcs.AcquireLeader(name, id, seen, election.Reign{Epoch: 1, Holder: name}))
			if err != nil {
				t.Errorf("acquire: %v", err)
			}
			results[i] = res
		})
	}
	wg.Wait()
	winner := -1
	for i, r := range results {
		if r.Done && winner >= 0 {
			t.Fatalf("two won: %+v", results)
		}
		if r.Done {
			winner = i
		}
	}
	if winner < 0 {
		t.Fatalf("nobody won: %+v", results)
	}
	c := dcs.Decode(load(t, open(t, h)))
	name := fmt.Sprintf("member%d", winner)
	if c.Leader.Name != name || c.Reign.Holder != name || c.Leader.ModRevision != results[winner].Revision || c.Reign.ModRevision != c.Leader.ModRevision {
		t.Errorf("got %+v and %+v, want %s at %d", c.Leader, c.Reign, name, results[winner].Revision)
	}
}

func testConditions(t *testing.T, h Harness) {
	s := open(t, h)
	id := grant(t, s, 60*time.Second)
	rev := must(t, s, set("sync", "x", id))
	for name, c := range map[string]dcs.Cmp{
		"absent, but it exists":       {Key: "sync"},
		"another revision":            {Key: "sync", Revision: rev - 1},
		"exists, but it is absent":    {Key: "leader", Revision: rev},
		"another value":               {Key: "sync", Kind: dcs.CmpValue, Value: []byte("y")},
		"empty value, but absent":     {Key: "leader", Kind: dcs.CmpValue},
		"another lease":               {Key: "sync", Kind: dcs.CmpLease, Lease: id + 1},
		"no lease, but absent":        {Key: "leader", Kind: dcs.CmpLease},
		"the revision of another key": {Key: "config", Revision: rev},
	} {
		res := apply(t, s, dcs.Txn{If: []dcs.Cmp{c}, Then: []dcs.Op{{Key: "sync", Value: []byte("z")}, {Key: "history", Value: []byte("z")}}})
		if res.Done {
			t.Errorf("%s: the transaction was done", name)
		}
	}
	if kv, _ := load(t, s).Get("sync"); string(kv.Value) != "x" || kv.ModRevision != rev {
		t.Errorf("got %+v, want it untouched", kv)
	}
	ok := apply(t, s, dcs.Txn{
		If: []dcs.Cmp{
			{Key: "sync", Revision: rev},
			{Key: "sync", Kind: dcs.CmpValue, Value: []byte("x")},
			{Key: "sync", Kind: dcs.CmpLease, Lease: id},
			{Key: "leader"},
		},
		Then: []dcs.Op{{Key: "sync", Delete: true}, {Key: "history", Value: []byte("[]")}},
	})
	if _, there := load(t, s).Get("sync"); !ok.Done || there {
		t.Errorf("got done %v and key %v, want the deletion", ok.Done, there)
	}
}

func testHandOver(t *testing.T, h Harness) {
	a, b := open(t, h), open(t, h)
	la, lb := grant(t, a, 60*time.Second), grant(t, b, 60*time.Second)
	rev := must(t, a, dcs.AcquireLeader("a", la, dcs.Decode(load(t, a)), election.Reign{Epoch: 1, Holder: "a"}))
	must(t, b, dcs.PutOffer(election.Offer{Name: "b", Lease: lb, Incarnation: "i", For: rev}))
	must(t, b, dcs.WriteFailover(election.FailoverRequest{Leader: "a", Candidate: "b"}))
	seen := dcs.Decode(load(t, a))
	offer, _ := seen.Offer("b")
	spec := dcs.HandOverSpec{
		LeaderRevision: rev, Offer: offer, Seen: seen, ClearFailover: true,
		Reign: election.Reign{Epoch: 2, Holder: "b"}, Release: election.Release{Name: "a", Checkpoint: 77}, Status: &election.Status{Optime: 77},
	}
	// The candidate renewed its offer meanwhile: the transaction must not be done.
	must(t, b, dcs.PutOffer(election.Offer{Name: "b", Lease: lb, Incarnation: "i2", For: rev}))
	if res := apply(t, a, dcs.HandOver(spec)); res.Done {
		t.Fatal("handed over to an offer that had changed")
	}
	seen = dcs.Decode(load(t, a))
	spec.Offer, _ = seen.Offer("b")
	spec.Seen = seen
	done := must(t, a, dcs.HandOver(spec))
	c := dcs.Decode(load(t, a))
	if c.Leader.Name != "b" || c.Leader.Lease != lb || c.Leader.ModRevision != done || c.Reign.Epoch != 2 ||
		c.Release.LeaderRevision != rev || !c.Failover.IsZero() || len(c.Offers) != 0 || c.Status.Optime != 77 {
		t.Errorf("got %+v", c)
	}
}

func testExpiry(t *testing.T, h Harness) {
	s := open(t, h)
	id, other := grant(t, s, h.TTL), grant(t, s, 100*h.TTL)
	must(t, s, set(dcs.KeyLeader, "a", id))
	must(t, s, set(dcs.MemberKey("a"), "{}", other))
	if gone, err := s.LeaseGone(ctxOf(t), id); gone || err != nil {
		t.Fatalf("lease gone at once: %v, %v", gone, err)
	}
	h.Pass(t, h.TTL)
	eventually(t, "the lease is gone", func() (bool, string) {
		gone, err := s.LeaseGone(ctxOf(t), id)
		return gone && err == nil, fmt.Sprint(gone, err)
	})
	snap := load(t, s)
	if _, ok := snap.Get(dcs.KeyLeader); ok {
		t.Error("the leader key outlived its lease")
	}
	if _, ok := snap.Get(dcs.MemberKey("a")); !ok {
		t.Error("a key on another lease went as well")
	}
	if _, err := s.KeepAlive(ctxOf(t), id); !errors.Is(err, dcs.ErrLeaseNotFound) {
		t.Errorf("keep-alive of a gone lease: got %v, want ErrLeaseNotFound", err)
	}
	if gone, err := s.LeaseGone(ctxOf(t), other); gone || err != nil {
		t.Errorf("the living lease: got %v, %v", gone, err)
	}
}

func testKeepAlive(t *testing.T, h Harness) {
	s := open(t, h)
	id := grant(t, s, h.TTL)
	must(t, s, set(dcs.KeyLeader, "a", id))
	for range 4 {
		h.Pass(t, h.TTL/2)
		k, err := s.KeepAlive(ctxOf(t), id)
		if err != nil || k.TTL < h.TTL || k.RaftTerm == 0 {
			t.Fatalf("keep-alive: got %+v, %v", k, err)
		}
	}
	if p, err := s.Prove(ctxOf(t)); err != nil || !p.Present {
		t.Errorf("got %+v, %v, want the key alive after twice its time to live", p, err)
	}
}

func testDeadLease(t *testing.T, h Harness) {
	s := open(t, h)
	id := grant(t, s, 60*time.Second)
	if err := s.Revoke(ctxOf(t), id); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(ctxOf(t), set(dcs.KeyLeader, "a", id))
	if !errors.Is(err, dcs.ErrLeaseNotFound) {
		t.Errorf("got %v, want ErrLeaseNotFound", err)
	}
	if err := s.Revoke(ctxOf(t), id); !errors.Is(err, dcs.ErrLeaseNotFound) {
		t.Errorf("second revoke: got %v, want ErrLeaseNotFound", err)
	}
}

func testRevoke(t *testing.T, h Harness) {
	s := open(t, h)
	id := grant(t, s, 60*time.Second)
	must(t, s, set(dcs.KeyLeader, "a", id))
	must(t, s, set(dcs.MemberKey("a"), "{}", id))
	if err := s.Revoke(ctxOf(t), id); err != nil {
		t.Fatal(err)
	}
	if snap := load(t, s); len(snap.KVs) != 0 {
		t.Errorf("got %+v, want nothing left", snap.KVs)
	}
}

func testUnknownOutcome(t *testing.T, h Harness) {
	for _, done := range []bool{true, false} {
		s, other := open(t, h), open(t, h)
		key := fmt.Sprintf("pgha/test-%v", done)
		load(t, s) // so that the connection stands
		mend := h.LoseAnswer(t, s, done)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := s.Apply(ctx, set(key, "x", 0))
		cancel()
		mend()
		if !errors.Is(err, dcs.ErrUnknownOutcome) {
			t.Errorf("done %v: got %v, want ErrUnknownOutcome", done, err)
		}
		if _, there := load(t, other).Get(key); there != done {
			t.Errorf("got key %v, want %v", there, done)
		}
	}
}

func testUnavailable(t *testing.T, h Harness) {
	s := open(t, h)
	load(t, s)
	mend := h.Interrupt(t, s)
	defer mend()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Load(ctx); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("load: got %v, want ErrUnavailable", err)
	}
	if _, err := s.KeepAlive(ctx, 1); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("keep-alive: got %v, want ErrUnavailable", err)
	}
	if _, err := s.LeaseGone(ctx, 1); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("lease gone: got %v, want ErrUnavailable", err)
	}
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("took %v, with a deadline of 1 s", took)
	}
}

// eventually waits for a condition, and prints its last state if it never holds.
func eventually(t *testing.T, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so after %v: %s; last state: %s", patience, what, state)
		}
		<-tick.C
	}
}
