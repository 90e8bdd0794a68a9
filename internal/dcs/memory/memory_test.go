package memory_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/dcstest"
	"github.com/pgha/pgha/internal/dcs/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *clock) read() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

func TestConformance(t *testing.T) {
	dcstest.Run(t, func(t *testing.T) dcstest.Harness {
		c := &clock{}
		server := memory.NewServer(c.read)
		return dcstest.Harness{
			TTL:  3 * time.Second,
			Open: func(*testing.T) dcs.Store { return server.Store("/service/demo") },
			Pass: func(_ *testing.T, d time.Duration) { c.pass(d); server.Expire() },
			Compact: func(*testing.T) {
				server.Compact()
			},
			Interrupt: func(_ *testing.T, s dcs.Store) func() {
				h := s.(*memory.Store)
				h.SetFaults(memory.Faults{Partition: true})
				return func() { h.SetFaults(memory.Faults{}) }
			},
			LoseAnswer: func(_ *testing.T, s dcs.Store, done bool) func() {
				h := s.(*memory.Store)
				fate := memory.UnknownNotDone
				if done {
					fate = memory.UnknownDone
				}
				h.SetFaults(memory.Faults{Writes: fate})
				return func() { h.SetFaults(memory.Faults{}) }
			},
			Restart: func(*testing.T) { server.SetDown(true); server.SetDown(false) },
		}
	})
}

func TestLeasesExpireInSynctestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		begin := time.Now()
		server := memory.NewServer(func() time.Duration { return time.Since(begin) })
		go func() { _ = server.RunExpiry(ctx) }()
		s := server.Store("/service/demo")
		updates := s.Watch(ctx)
		<-updates
		g, err := s.Grant(ctx, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(ctx, dcs.PutMember("a", g.ID, []byte("{}"))); err != nil {
			t.Fatal(err)
		}
		<-updates
		u := <-updates
		if len(u.Vanished) != 1 || u.Vanished[0].Lease != g.ID || time.Since(begin) != 3*time.Second {
			t.Errorf("got %+v after %v, want the member gone after 3 s", u, time.Since(begin))
		}
	})
}

func TestAWriteMayBeCarriedOutLater(t *testing.T) {
	c := &clock{}
	server := memory.NewServer(c.read)
	s, other := server.Store("/service/demo"), server.Store("/service/demo/")
	s.SetFaults(memory.Faults{Writes: memory.UnknownLater})
	if _, err := s.Apply(t.Context(), dcs.PutConfig([]byte("late"))); !errors.Is(err, dcs.ErrUnknownOutcome) {
		t.Fatalf("got %v, want ErrUnknownOutcome", err)
	}
	if snap, _ := other.Load(t.Context()); len(snap.KVs) != 0 {
		t.Fatalf("got %+v before its time", snap)
	}
	s.Deliver()
	if snap, _ := other.Load(t.Context()); len(snap.KVs) != 1 {
		t.Errorf("got %+v, want the late write", snap)
	}
}

func TestWatchesThatAreLateOrBlind(t *testing.T) {
	c := &clock{}
	server := memory.NewServer(c.read)
	s, other := server.Store("/service/demo"), server.Store("/service/demo")
	var cursor memory.Cursor
	next := func() (dcs.Update, bool) { return s.Next(&cursor) }
	if u, ok := next(); !ok || u.Err != nil {
		t.Fatalf("got %+v, %v, want the present", u, ok)
	}
	put := func(value string) {
		t.Helper()
		if _, err := other.Apply(t.Context(), dcs.PutConfig([]byte(value))); err != nil {
			t.Fatal(err)
		}
	}
	s.SetFaults(memory.Faults{WatchHeld: true})
	put("1")
	if u, ok := next(); ok {
		t.Errorf("a blind watch told %+v", u)
	}
	if snap, _ := s.Load(t.Context()); len(snap.KVs) != 1 {
		t.Errorf("a read saw %+v: only the watch is blind", snap)
	}
	s.SetFaults(memory.Faults{WatchDelay: time.Second})
	if u, ok := next(); ok {
		t.Errorf("a late watch told %+v at once", u)
	}
	c.pass(time.Second)
	if u, ok := next(); !ok || len(u.Snapshot.KVs) != 1 {
		t.Errorf("got %+v, %v after the delay", u, ok)
	}
	s.SetFaults(memory.Faults{})
	if u, ok := next(); ok {
		t.Errorf("told %+v twice", u)
	}
	server.Replace()
	u, ok := next()
	if !ok || u.Snapshot.ClusterID == 1 || len(u.Vanished) != 1 || u.Vanished[0].ModRevision != 0 {
		t.Errorf("after a replacement: got %+v, %v, want a new cluster id and an unexplained loss", u, ok)
	}
}

func TestANewLeaderOfTheStoreGivesLeasesTheirFullTime(t *testing.T) {
	c := &clock{}
	server := memory.NewServer(c.read)
	s := server.Store("/service/demo")
	g, err := s.Grant(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.pass(9 * time.Second)
	server.NewLeader()
	c.pass(9 * time.Second)
	if gone, err := s.LeaseGone(t.Context(), g.ID); gone || err != nil {
		t.Errorf("got %v, %v, want it alive", gone, err)
	}
	server.SetDown(true)
	c.pass(9 * time.Second)
	if _, err := s.LeaseGone(t.Context(), g.ID); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("got %v from a store that is down", err)
	}
	server.SetDown(false)
	if gone, err := s.LeaseGone(t.Context(), g.ID); !gone || err != nil {
		t.Errorf("got %v, %v, want it gone", gone, err)
	}
}
