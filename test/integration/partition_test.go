//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// TestPartitionsInAsynchronousMode cuts the links of a primary whose only fence is time.
func TestPartitionsInAsynchronousMode(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{Network: cluster.Namespaces, HAProxy: true, TTL: 5 * time.Second})
	s.chapter("from everyone", func(s *story) { s.cutFromEveryone(tailLost) })
	s.chapter("from etcd alone: every member promises it not to race, so it leads on", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.Partition(s.ctx, cluster.FromEtcd))
		s.undisturbed(w, old, fault, 2*s.Options.TTL)
		s.ok(old.Heal(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("from etcd alone, failsafe mode off: it cannot prove that it leads, so another one does", func(s *story) {
		s.failsafeOff()
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.Partition(s.ctx, cluster.FromEtcd))
		successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
		s.ok(err)
		s.resumed(w, successor)
		s.outage(w, fault)
		s.ok(old.Heal(s.ctx))
		s.judge(tailLost, fault, w, witness)
	})
	s.chapter("from the standbys alone: it still has etcd and its clients", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.Partition(s.ctx, cluster.FromMembers))
		s.ok(s.Holds(s.ctx, 2*s.Options.TTL, "the primary keeps writing", func(ctx context.Context) (bool, string) {
			code := old.Code(ctx, "/primary")
			return code == 200, fmt.Sprintf("/primary answers %d", code)
		}))
		if got := s.outage(w, fault); got > 2*noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.ok(old.Heal(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("a standby from everyone", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		standby := s.Others(primary)[0]
		fault := cluster.Mono()
		s.ok(standby.Partition(s.ctx, cluster.FromEveryone))
		s.ok(s.Holds(s.ctx, s.Options.TTL, "the primary stays", func(ctx context.Context) (bool, string) {
			code := primary.Code(ctx, "/primary")
			return code == 200 && standby.LocalCode(ctx, "/primary") != 200, fmt.Sprintf("/primary answers %d", code)
		}))
		if got := s.outage(w, fault); got > 2*noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.ok(standby.Heal(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
}

// TestPartitionWhereCommitsWaitForAStandby cuts off a primary whose commits wait for a standby.
func TestPartitionWhereCommitsWaitForAStandby(t *testing.T) {
	t.Parallel()
	o := durable(t)
	o.Network = cluster.Namespaces
	s := begin(t, o)
	s.chapter("nobody but the user changes the setting", func(s *story) {
		primary := s.settle()
		s.ok(s.Holds(s.ctx, 2*time.Second, "the user's own setting", func(ctx context.Context) (bool, string) {
			text, err := primary.SQL(ctx, "SHOW synchronous_standby_names")
			return err == nil && text == o.Parameters["synchronous_standby_names"], fmt.Sprint(text, err)
		}))
	})
	s.chapter("from everyone", func(s *story) { s.cutFromEveryone(nothingLost) })
}

// cutFromEveryone isolates the primary: another one takes over, and the old one has stopped by its
// own clock, without hearing from anybody.
func (s *story) cutFromEveryone(p promise) {
	s.Helper()
	w := s.load(cluster.WriterOptions{})
	witness := s.witness()
	old := s.settle()
	fault := cluster.Mono()
	s.ok(old.Partition(s.ctx, cluster.FromEveryone))
	successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
	s.ok(err)
	s.resumed(w, successor)
	s.outage(w, fault)
	s.ok(s.WaitFor(s.ctx, noticeTime, "the isolated server to stop calling itself primary", func(ctx context.Context) (bool, string) {
		code := old.LocalCode(ctx, "/primary")
		return code != 200, fmt.Sprintf("seen from its own machine /primary answers %d", code)
	}))
	s.ok(old.Heal(s.ctx))
	s.judge(p, fault, w, witness)
}
