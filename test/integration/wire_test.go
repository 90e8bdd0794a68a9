//go:build integration

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// wired are options for an asynchronous cluster, in which nothing but time keeps a second server from
// acknowledging, with or without the fence on the wire.
func wired(fence string) cluster.Options {
	return cluster.Options{
		Network: cluster.Namespaces, HAProxy: true, TTL: 5 * time.Second,
		Config: func(_ string, config map[string]any) { config["pgha"] = map[string]any{"wire_fence": fence} },
	}
}

// TestTheWireIsClosedWhenNoProcessIsLeftToFence kills agent and both fencer processes of the primary
// together, and starts none of them again; and it freezes the node and lets the server run on before
// its fencer. Without the fence on the wire the same faults show two servers that acknowledge.
func TestTheWireIsClosedWhenNoProcessIsLeftToFence(t *testing.T) {
	for _, fence := range []string{"required", "off"} {
		t.Run("wire_fence "+fence, func(t *testing.T) {
			s := begin(t, wired(fence))
			s.chapter("agent and both fencer processes are killed", func(s *story) {
				s.wireStory(fence, func(old *cluster.Member) { s.ok(old.Kill9(s.ctx, cluster.Agent|cluster.Fencers)) },
					func(*cluster.Member) {},
					func(old *cluster.Member) { s.ok(old.Start()) })
			})
			s.chapter("the node stands still, and the server goes on before its fencer", func(s *story) {
				s.wireStory(fence, func(old *cluster.Member) { s.ok(old.Freeze(s.ctx, cluster.Node)) },
					func(old *cluster.Member) { s.ok(old.ThawOnly(s.ctx, cluster.Server)) },
					func(old *cluster.Member) { s.ok(old.Thaw(s.ctx)) })
			})
		})
	}
}

// wireStory tells one fault of the primary: it begins, another member leads, the old server is given
// the time to acknowledge beside it, and the fault ends.
func (s *story) wireStory(fence string, begin, wake, end func(*cluster.Member)) {
	s.Helper()
	w := s.load(cluster.WriterOptions{})
	witness := s.witness()
	old := s.settle()
	server := old.PostmasterPID()
	fault := cluster.Mono()
	begin(old)
	successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
	s.ok(err)
	s.resumed(w, successor)
	wake(old)
	woken := cluster.Mono()
	s.ok(s.WaitFor(s.ctx, noticeTime, "a second of the new reign", func(context.Context) (bool, string) {
		return cluster.Mono()-woken > time.Second, "not yet"
	}))
	if pid := old.PostmasterPID(); pid != server {
		s.Fatalf("the old server is not there any more (process %d, it was %d): nothing is shown", pid, server)
	}
	late := lateAcks(witness.Ledger, old, successor)
	end(old)
	s.outage(w, fault)
	s.settle()
	clients, sessions := w.Stop(), witness.Stop()
	if fence == "off" {
		// The deliberate gap: a test that finds nothing here would find nothing above.
		if late == 0 || len(sessions.Overlaps) == 0 {
			s.Errorf("without the fence no second writer was seen, so this test shows nothing: %s", sessions)
		}
		s.Logf("without the fence: %d acknowledgements of the old server after the new one's first; %s", late, sessions)
		return
	}
	if late = lateAcks(witness.Ledger, old, successor); late > 0 || len(sessions.Overlaps)+len(clients.Overlaps) > 0 {
		s.Errorf("%d acknowledgements of the old server after the new one's first: %s", late, sessions)
	}
	s.Logf("client: %s; witness: %s", clients, sessions)
	if lost, err := s.Verify(s.ctx, successor, w.Ledger); err != nil || len(beforeTail(w.Ledger.Acks(), lost, fault)) > 0 {
		s.Errorf("rows are missing: %v, %v", lost, err)
	}
}

// lateAcks counts what the old server acknowledged after the new one's first acknowledgement.
func lateAcks(l *cluster.Ledger, old, successor *cluster.Member) int {
	late, led := 0, false
	for _, a := range l.Acks() {
		switch a.Server {
		case successor.PG():
			led = true
		case old.PG():
			if led {
				late++
			}
		}
	}
	return late
}

// TestNoLeaderWithoutARequiredFence: a member that may not close the wire stands back, and says why.
func TestNoLeaderWithoutARequiredFence(t *testing.T) {
	t.Parallel()
	o := wired("required")
	o.Network, o.AsPostgres, o.Names = cluster.Loopback, true, []string{"a"}
	s := &story{t, cluster.New(t, o), t.Context()}
	s.ok(s.WaitFor(s.ctx, bootTime, "the member to say what it lacks", func(ctx context.Context) (bool, string) {
		out, err := s.Pghactl("why")
		return err == nil && strings.Contains(out, "pgha.wire_fence: required"), fmt.Sprint(out, err)
	}))
	s.ok(s.Holds(s.ctx, s.Options.TTL, "nobody leads", func(ctx context.Context) (bool, string) {
		p := s.Primary(ctx)
		return p == nil, fmt.Sprint(p)
	}))
}
