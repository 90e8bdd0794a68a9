//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/pgha/pgha/test/cluster"
)

// TestFreezes stops processes without killing them: what a starved or paused machine looks like.
func TestFreezes(t *testing.T) {
	t.Parallel()
	s := begin(t, durable(t))
	s.chapter("the primary's agent, for longer than the lease", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		server := old.PostmasterPID()
		fault := cluster.Mono()
		s.ok(old.Freeze(s.ctx, cluster.Agent))
		successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
		s.ok(err)
		if !old.Frozen() {
			s.Fatal("the agent did not stay frozen")
		}
		s.ok(s.WaitFor(s.ctx, noticeTime, "the fencer to bring the old server down", func(context.Context) (bool, string) {
			pid := old.PostmasterPID()
			return pid != server, fmt.Sprintf("postmaster %d", pid)
		}))
		s.resumed(w, successor)
		s.outage(w, fault)
		s.ok(old.Thaw(s.ctx))
		s.judge(nothingLost, fault, w, witness)
	})
	s.chapter("the primary's agent, for shorter than the lease", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		server := old.PostmasterPID()
		fault := cluster.Mono()
		s.ok(old.Freeze(s.ctx, cluster.Agent))
		s.ok(s.Holds(s.ctx, s.Options.TTL/5, "the old server runs", func(context.Context) (bool, string) {
			return old.PostmasterPID() == server && old.Frozen(), fmt.Sprint(old.PostmasterPID())
		}))
		s.ok(old.Thaw(s.ctx))
		s.ok(s.Holds(s.ctx, s.Options.TTL, "the primary stays", func(context.Context) (bool, string) {
			return old.PostmasterPID() == server, "the server was restarted"
		}))
		s.ok(s.WaitRole(s.ctx, old, "primary", noticeTime))
		s.outage(w, fault)
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("the primary's whole node", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.Freeze(s.ctx, cluster.Node))
		successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
		s.ok(err)
		s.resumed(w, successor)
		s.outage(w, fault)
		if !old.Frozen() {
			s.Fatal("the node did not stay frozen")
		}
		s.ok(old.Thaw(s.ctx))
		s.judge(nothingLost, fault, w, witness)
	})
	s.chapter("the fencer alone", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.Freeze(s.ctx, cluster.Fencer))
		// A primary whose fencer gives no answer must not go on for ever: it steps down or
		// gets a new fencer. Either way writes are served in the end.
		s.ok(s.WaitFor(s.ctx, promoteTime, "another primary or another fencer", func(ctx context.Context) (bool, string) {
			p := s.Primary(ctx)
			if p != nil && p != old {
				return true, p.Name
			}
			return !old.Frozen(), "neither"
		}))
		s.stillServed(w, old)
		s.outage(w, fault)
		s.ok(old.Thaw(s.ctx))
		s.judge(nothingLost, fault, w, witness)
	})
}
