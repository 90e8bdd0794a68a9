//go:build integration

package integration

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

var failsafeOff = regexp.MustCompile(`(?m)^patroni_failsafe_mode_enabled\{.*\} 0$`)

// TestLossOfEtcd takes etcd away in degrees.
func TestLossOfEtcd(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{HAProxy: true, EtcdMembers: 3, TTL: 10 * time.Second})
	s.chapter("its leader", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		fault := cluster.Mono()
		_, err := s.Etcd.KillLeader(s.ctx)
		s.ok(err)
		s.undisturbed(w, old, fault, s.Options.TTL)
		s.ok(s.Etcd.Restore(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("its majority, for less than the lease", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		fault := cluster.Mono()
		_, err := s.Etcd.FreezeMajority(s.ctx)
		s.ok(err)
		s.undisturbed(w, old, fault, s.Options.TTL*9/10)
		s.ok(s.Etcd.Restore(s.ctx))
		s.undisturbed(w, old, fault, s.Options.TTL)
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("its majority, for longer, with failsafe mode off: read only until it is back", func(s *story) {
		s.failsafeOff()
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		fault := cluster.Mono()
		_, err := s.Etcd.KillMajority(s.ctx)
		s.ok(err)
		s.ok(s.WaitFor(s.ctx, s.Options.TTL+noticeTime, "no member to call itself primary", func(ctx context.Context) (bool, string) {
			p := s.Primary(ctx)
			return p == nil, fmt.Sprint("primary: ", p)
		}))
		s.ok(s.Holds(s.ctx, time.Second, "nobody writes", func(context.Context) (bool, string) {
			acks := w.Ledger.Acks()
			last := cluster.Mono() - acks[len(acks)-1].Received
			return last > 100*time.Millisecond || cluster.Mono()-fault < s.Options.TTL, fmt.Sprint("last write ", last, " ago")
		}))
		s.ok(s.Etcd.Restore(s.ctx))
		s.settle()
		s.ok(w.WaitAcks(s.ctx, 50, promoteTime))
		s.outage(w, fault)
		s.judge(nothingLost, fault, w, witness)
	})
}

// failsafeOff switches failsafe mode off and waits until every member knows.
func (s *story) failsafeOff() {
	s.Helper()
	s.patch(map[string]any{"failsafe_mode": false})
	s.ok(s.WaitFor(s.ctx, noticeTime, "failsafe mode to be off everywhere", func(ctx context.Context) (bool, string) {
		for _, m := range s.Members {
			answer, err := m.HTTP(ctx, "GET", "/metrics", nil)
			if err != nil || !failsafeOff.MatchString(answer.Body) {
				return false, fmt.Sprint(m.Name, err)
			}
		}
		return true, ""
	}))
}

// undisturbed checks for a while that the primary stays and no write fails.
func (s *story) undisturbed(w *cluster.Writer, primary *cluster.Member, fault, d time.Duration) {
	s.Helper()
	s.ok(s.Holds(s.ctx, d, "the primary stays", func(ctx context.Context) (bool, string) {
		code := primary.Code(ctx, "/primary")
		return code == 200, fmt.Sprintf("/primary of %s answers %d", primary.Name, code)
	}))
	s.ok(w.WaitAcks(s.ctx, 20, noticeTime))
	if got := s.outage(w, fault); got > 2*noise {
		s.Errorf("writes stood still for %s", got)
	}
}

// patch changes the cluster's dynamic configuration through the first member that takes it.
func (s *story) patch(change map[string]any) {
	s.Helper()
	s.ok(s.WaitFor(s.ctx, noticeTime, "PATCH /config", func(ctx context.Context) (bool, string) {
		answer, err := s.Members[0].HTTP(ctx, "PATCH", "/config", change)
		return err == nil && answer.Code == 200, fmt.Sprint(answer, err)
	}))
}
