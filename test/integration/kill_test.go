//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/pgha/pgha/test/cluster"
)

// TestKills kills every process of the primary's node, alone and together, in a cluster that
// promises to lose nothing.
func TestKills(t *testing.T) {
	t.Parallel()
	s := begin(t, durable(t))
	for _, kinds := range []cluster.Kind{
		cluster.Postmaster,
		cluster.Server,
		cluster.Agent | cluster.Server,
		cluster.Fencer,
		cluster.Second,
		cluster.Fencers,
		cluster.Agent | cluster.Fencers,
		cluster.Agent | cluster.Fencers | cluster.Server,
		cluster.Node,
	} {
		s.chapter(fmt.Sprintf("kill -9 of %s", kinds), func(s *story) {
			w := s.load(cluster.WriterOptions{})
			witness := s.witness()
			old := s.settle()
			fault := cluster.Mono()
			s.ok(old.Kill9(s.ctx, kinds))
			if kinds&cluster.Server == 0 {
				// The server lives, and somebody must watch over it before the lease has run out:
				// an agent that died is started again by whatever supervises it.
				s.ok(old.Start())
			}
			if kinds&cluster.Agent == 0 || kinds&cluster.Server == 0 {
				s.stillServed(w, old)
			} else {
				successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
				s.ok(err)
				s.resumed(w, successor)
			}
			s.outage(w, fault)
			s.ok(old.PowerOn(s.ctx))
			s.judge(nothingLost, fault, w, witness)
			if kinds&cluster.Fencers != 0 && old.FencerPID() == 0 {
				s.Errorf("%s has no fencer any more", old.Name)
			}
		})
	}
	s.chapter("kill -9 of a standby's node", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		victim := s.Others(primary)[0]
		fault := cluster.Mono()
		s.ok(victim.PowerOff(s.ctx))
		s.ok(w.WaitAcks(s.ctx, 100, noticeTime))
		if got := s.Primary(s.ctx); got != primary {
			s.Errorf("the primary moved although only a standby died")
		}
		if got := s.outage(w, fault); got > 2*noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.ok(victim.PowerOn(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
}

// stillServed waits for writes, wherever they are taken now: on the same server, on the same
// one restarted, or on another.
func (s *story) stillServed(w *cluster.Writer, old *cluster.Member) {
	s.Helper()
	s.ok(w.WaitAcks(s.ctx, 100, promoteTime))
	_, err := s.WaitPrimary(s.ctx, promoteTime)
	s.ok(err)
	acks := w.Ledger.Acks()
	s.Logf("written to %s before and %s after", old.PG(), acks[len(acks)-1].Server)
}

// TestAnOrphanedBackendCannotKeepWriting: a dead postmaster's backend with an agent that lives is
// brought down by the fencer, so no writer of the past stays.
func TestAnOrphanedBackendCannotKeepWriting(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{HAProxy: true})
	w := s.load(cluster.WriterOptions{})
	witness := s.witness()
	old := s.settle()
	before, err := old.Processes(cluster.Backend)
	s.ok(err)
	fault := cluster.Mono()
	s.ok(old.Kill9(s.ctx, cluster.Postmaster))
	s.ok(s.WaitFor(s.ctx, noticeTime, "the orphaned backends to be gone", func(context.Context) (bool, string) {
		alive := 0
		for _, p := range before {
			if p.Alive() {
				alive++
			}
		}
		return alive == 0, fmt.Sprintf("%d of %d alive", alive, len(before))
	}))
	s.stillServed(w, old)
	s.outage(w, fault)
	s.judge(tailLost, fault, w, witness)
}
