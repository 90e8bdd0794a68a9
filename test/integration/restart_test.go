//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/pgha/pgha/test/cluster"
)

// TestAnAgentsRestartIsNotNoticed: agents can die and be started again under a running cluster.
func TestAnAgentsRestartIsNotNoticed(t *testing.T) {
	t.Parallel()
	s := begin(t, durable(t))
	for _, role := range []string{"primary", "replica"} {
		s.chapter("the "+role+"'s agent is killed and started again", func(s *story) {
			w := s.load(cluster.WriterOptions{})
			primary := s.settle()
			m := primary
			if role == "replica" {
				m = s.Others(primary)[0]
			}
			server, fencer := m.PostmasterPID(), m.FencerPID()
			if server == 0 || fencer == 0 {
				s.Fatalf("postmaster %d, fencer %d", server, fencer)
			}
			failures := fmt.Sprint(w.Ledger.Failures())
			fault := cluster.Mono()
			old := m.AgentPID()
			s.ok(m.Kill9(s.ctx, cluster.Agent))
			s.ok(m.Start())
			if m.AgentPID() == old {
				s.Fatal("the agent was not restarted")
			}
			s.ok(s.WaitRole(s.ctx, m, role, noticeTime))
			s.ok(s.Holds(s.ctx, s.Options.TTL, "the server runs on", func(context.Context) (bool, string) {
				return m.PostmasterPID() == server && m.FencerPID() == fencer,
					fmt.Sprintf("postmaster %d → %d, fencer %d → %d", server, m.PostmasterPID(), fencer, m.FencerPID())
			}))
			if now := s.settle(); now != primary {
				s.Errorf("the primary moved from %s to %s", primary.Name, now.Name)
			}
			// Leadership, server and clients' sessions all survive. The proxy may cut sessions when
			// the health check has no listener for a moment; more than that would be an outage.
			if got := s.outage(w, fault); got > 4*noise {
				s.Errorf("writes stood still for %s", got)
			}
			s.Logf("failures before: %s, after: %v", failures, w.Ledger.Failures())
			s.judge(nothingLost, fault, w, nil)
		})
	}
	s.chapter("an upgrade of all agents, one after the other, seen by a client without a proxy", func(s *story) {
		primary := s.settle()
		w := s.load(cluster.WriterOptions{DSN: primary.DSN()})
		fault := cluster.Mono()
		for _, m := range s.Members {
			s.ok(m.Kill9(s.ctx, cluster.Agent))
			s.ok(m.Start())
			s.settle()
		}
		if failures := w.Ledger.Failures(); len(failures) > 0 {
			s.Errorf("a session to the server was disturbed: %v", failures)
		}
		if got := s.outage(w, fault); got > noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.judge(nothingLost, fault, w, nil)
	})
}
