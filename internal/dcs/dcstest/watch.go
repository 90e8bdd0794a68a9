package dcstest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
)

// follower reads a watch until what it waits for has come.
type follower struct {
	updates  <-chan dcs.Update
	last     dcs.Update
	vanished []dcs.KV
}

func follow(t *testing.T, s dcs.Store) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	f := &follower{updates: s.Watch(ctx)}
	f.until(t, "the first list", func() bool { return f.last.Err == nil })
	return f
}

func (f *follower) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case u, ok := <-f.updates:
			if !ok {
				t.Fatalf("the watch ended while waiting for %s; last: %+v", what, f.last)
			}
			f.last = u
			f.vanished = append(f.vanished, u.Vanished...)
			if cond() {
				return
			}
		case <-timeout.C:
			t.Fatalf("never came: %s; last: %+v; vanished: %+v", what, f.last, f.vanished)
		}
	}
}

func (f *follower) value(key string) string {
	kv, ok := f.last.Snapshot.Get(key)
	if !ok {
		return "(absent)"
	}
	return string(kv.Value)
}

// gone gives the newest deletion of a key that was seen.
func (f *follower) gone(key string) (dcs.KV, bool) {
	for _, kv := range slices.Backward(f.vanished) {
		if kv.Key == key {
			return kv, true
		}
	}
	return dcs.KV{}, false
}

func testWatch(t *testing.T, h Harness) {
	s, other := open(t, h), open(t, h)
	must(t, other, set("config", "{}", 0))
	f := follow(t, s)
	if f.value("config") != "{}" {
		t.Fatalf("first update: got %+v, want the present state", f.last)
	}
	for i := range 5 {
		rev := must(t, other, set("status", fmt.Sprint(i), 0))
		f.until(t, "the change", func() bool { return f.value("status") == fmt.Sprint(i) })
		if f.last.Snapshot.Revision < rev || f.value("config") != "{}" || f.last.Snapshot.ClusterID == 0 {
			t.Errorf("got %+v, want a whole snapshot at %d", f.last.Snapshot, rev)
		}
	}
	// Two keys of one transaction are never seen apart.
	must(t, other, dcs.Txn{Then: []dcs.Op{{Key: "history", Value: []byte("1")}, {Key: "sync", Value: []byte("1")}}})
	f.until(t, "the transaction", func() bool {
		if (f.value("history") == "1") != (f.value("sync") == "1") {
			t.Errorf("half a transaction: %+v", f.last.Snapshot)
		}
		return f.value("sync") == "1"
	})
}

func testVanished(t *testing.T, h Harness) {
	s, other := open(t, h), open(t, h)
	f := follow(t, s)
	id := grant(t, other, 60*time.Second)
	first := must(t, other, set(dcs.KeyLeader, "a", id))
	must(t, other, remove(dcs.KeyLeader))
	f.until(t, "the deletion", func() bool { _, ok := f.gone(dcs.KeyLeader); return ok })
	if kv, _ := f.gone(dcs.KeyLeader); kv.Lease != id || kv.ModRevision != first || string(kv.Value) != "a" {
		t.Errorf("got %+v, want the value deleted: a at %d on lease %d", kv, first, id)
	}
	short := grant(t, other, h.TTL)
	second := must(t, other, set(dcs.KeyLeader, "b", short))
	f.vanished = nil
	h.Pass(t, h.TTL)
	f.until(t, "the expiry", func() bool { _, ok := f.gone(dcs.KeyLeader); return ok })
	if kv, _ := f.gone(dcs.KeyLeader); kv.Lease != short || kv.ModRevision != second {
		t.Errorf("got %+v, want b at %d on lease %d", kv, second, short)
	}
	if f.value(dcs.KeyLeader) != "(absent)" {
		t.Errorf("got %+v, want no leader", f.last.Snapshot)
	}
}

func testSlowReader(t *testing.T, h Harness) {
	s, other := open(t, h), open(t, h)
	f := follow(t, s)
	const times = 20
	for i := range times {
		must(t, other, set(dcs.KeyLeader, fmt.Sprint(i), 0))
		must(t, other, remove(dcs.KeyLeader))
	}
	must(t, other, set("config", "end", 0))
	f.until(t, "the last change", func() bool { return f.value("config") == "end" })
	if len(f.vanished) != times {
		t.Errorf("got %d deletions, want %d", len(f.vanished), times)
	}
}

func testInterrupted(t *testing.T, h Harness) {
	s, other := open(t, h), open(t, h)
	old, fresh := grant(t, other, 60*time.Second), grant(t, other, 60*time.Second)
	must(t, other, set(dcs.KeyLeader, "a", old))
	f := follow(t, s)
	mend := h.Interrupt(t, s)
	f.until(t, "word of the interruption", func() bool { return f.last.Err != nil })
	// The key moves to another lease before it goes: the old lease says nothing about its end.
	moved := must(t, other, set(dcs.KeyLeader, "a", fresh))
	must(t, other, remove(dcs.KeyLeader))
	must(t, other, set("config", "after", 0))
	mend()
	f.until(t, "the state after it, and the deletion", func() bool {
		_, ok := f.gone(dcs.KeyLeader)
		return ok && f.last.Err == nil && f.value("config") == "after"
	})
	if kv, _ := f.gone(dcs.KeyLeader); kv.Lease != fresh || kv.ModRevision != moved {
		t.Errorf("got %+v, want lease %d at %d", kv, fresh, moved)
	}
	must(t, other, set("config", "later", 0))
	f.until(t, "a change after the mend", func() bool { return f.value("config") == "later" })
}

func testCompacted(t *testing.T, h Harness) {
	s, other := open(t, h), open(t, h)
	old, fresh := grant(t, other, 60*time.Second), grant(t, other, 60*time.Second)
	must(t, other, set(dcs.KeyLeader, "a", old))
	f := follow(t, s)
	mend := h.Interrupt(t, s)
	f.until(t, "word of the interruption", func() bool { return f.last.Err != nil })
	must(t, other, set(dcs.KeyLeader, "a", fresh))
	must(t, other, remove(dcs.KeyLeader))
	must(t, other, set("config", "after", 0))
	h.Compact(t)
	mend()
	f.until(t, "the state after it, and the loss", func() bool {
		_, ok := f.gone(dcs.KeyLeader)
		return ok && f.last.Err == nil && f.value("config") == "after"
	})
	if kv, _ := f.gone(dcs.KeyLeader); kv.Lease != 0 || kv.ModRevision != 0 {
		t.Errorf("got %+v, want nothing but the key: the deletion was not seen", kv)
	}
	must(t, other, set("config", "later", 0))
	f.until(t, "a change after the mend", func() bool { return f.value("config") == "later" })
}

func testRestart(t *testing.T, h Harness) {
	if h.Restart == nil {
		return
	}
	s := open(t, h)
	must(t, s, set("config", "before", 0))
	f := follow(t, s)
	h.Restart(t)
	eventually(t, "the store takes writes again", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.Apply(ctx, set("config", "after", 0))
		return err == nil, fmt.Sprint(err)
	})
	f.until(t, "a change after the restart", func() bool { return f.last.Err == nil && f.value("config") == "after" })
}

func testClose(t *testing.T, h Harness) {
	s := h.Open(t)
	updates := s.Watch(t.Context())
	<-updates
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case _, ok := <-updates:
			if !ok {
				return
			}
		case <-timeout.C:
			t.Fatal("the watch did not end")
		}
	}
}
