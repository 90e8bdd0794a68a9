package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/memory"
	"github.com/pgha/pgha/internal/election"
)

// TestSnapshotsReadAsTheCodecReadsThem compares, at each revision of some runs, what is put together
// from what changed with what the codec makes of the whole.
func TestSnapshotsReadAsTheCodecReadsThem(t *testing.T) {
	t.Parallel()
	compared := 0
	for seed := range uint64(6) {
		w := NewWorld(seed, Random(seed), false)
		rev := int64(0)
		w.faultStep()
		for end := w.now + 3*time.Minute; w.now < end && w.violation == nil; {
			w.run(20 * time.Millisecond)
			if w.store.rev == rev {
				continue
			}
			rev = w.store.rev
			got, want := *w.store.decoded(), dcs.Decode(*w.store.snapshot())
			for _, k := range w.store.keys {
				w.store.overlay(&want, k)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d, revision %d: (-codec +put together)\n%s", seed, rev, diff)
			}
			compared++
		}
		w.Close()
	}
	if compared < 100 {
		t.Errorf("got %d revisions to compare, want more", compared)
	}
}

// TestStoreAgreesWithTheOneInMemory gives both the same random transactions.
func TestStoreAgreesWithTheOneInMemory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := NewWorld(1, Calm(1), false)
	defer w.Close()
	other := memory.NewServer(func() time.Duration { return 0 }).Store("/service/demo")
	var leases []election.LeaseID
	for range 3 {
		g, err := other.Grant(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if mine := w.store.grant(10 * time.Second); mine != g {
			t.Fatalf("got lease %v, want %v", mine, g)
		}
		leases = append(leases, g.ID)
	}
	leases = append(leases, 0, 9999)
	keys := []string{dcs.KeyLeader, dcs.KeyStatus, dcs.KeyFailover, dcs.MemberKey("a")}
	for i := range 3000 {
		txn := dcs.Txn{}
		for range rng.IntN(3) {
			c := dcs.Cmp{Key: keys[rng.IntN(4)], Kind: dcs.CmpKind(rng.IntN(3)), Value: []byte("1"), Lease: leases[rng.IntN(3)]}
			if kv, ok := w.store.get(c.Key); ok && rng.IntN(2) == 0 {
				c.Revision = kv.mod
			}
			txn.If = append(txn.If, c)
		}
		used := map[string]bool{}
		for range 1 + rng.IntN(2) {
			key := keys[rng.IntN(4)]
			if used[key] {
				continue
			}
			used[key] = true
			txn.Then = append(txn.Then, dcs.Op{Key: key, Value: fmt.Append(nil, rng.IntN(3)), Lease: leases[rng.IntN(5)], Delete: rng.IntN(4) == 0})
		}
		for j := range txn.Then {
			if txn.Then[j].Delete {
				txn.Then[j].Lease = 0
			}
		}
		got, gotErr := w.store.apply(txn)
		want, wantErr := other.Apply(t.Context(), txn)
		if got != want || errors.Is(gotErr, dcs.ErrLeaseNotFound) != errors.Is(wantErr, dcs.ErrLeaseNotFound) {
			t.Fatalf("transaction %d %+v: got %+v, %v, want %+v, %v", i, txn, got, gotErr, want, wantErr)
		}
		snap, err := other.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(snap, *w.store.snapshot()); diff != "" && len(snap.KVs)+len(w.store.keys) > 0 {
			t.Fatalf("after transaction %d %+v: (-memory +simulated)\n%s", i, txn, diff)
		}
	}
}

// TestAWatchThatIsBehindCausesNoFloodOfWrites: what was written and is not shown yet is not written again
// and again.
func TestAWatchThatIsBehindCausesNoFloodOfWrites(t *testing.T) {
	t.Parallel()
	cfg := Calm(3)
	cfg.Failsafe = true
	w := NewWorld(1, cfg, false)
	defer w.Close()
	if !w.runUntil(bootPatience, func() bool { return w.checks.lively() == "" }) {
		t.Fatalf("the cluster is not made: %s", w.checks.lively())
	}
	for _, wt := range w.store.watchers {
		wt.lag = 5 * time.Second
	}
	before, revision := w.store.tries, w.store.decoded().FailsafeRev
	w.change("failsafe mode off", func(s *settings) { s.Failsafe = false })
	w.run(20 * time.Second)
	if w.store.decoded().FailsafeRev == revision {
		t.Error("the failsafe set was not changed")
	}
	if n := w.store.tries - before; n > 60 {
		t.Errorf("got %d transactions in 20 s, want a few", n)
	}
}
