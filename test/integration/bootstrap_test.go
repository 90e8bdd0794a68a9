//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestThreeEmptyNodesBecomeOneCluster(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{Etcd: cluster.EtcdEmbedded})
	s.oneSystem()
	out, err := s.Pghactl("list", "-o", "json")
	s.ok(err)
	t.Log(out)
}

// oneSystem checks that all members carry the same database, the one that etcd names.
func (s *story) oneSystem() {
	s.Helper()
	want, err := s.Get(s.ctx, "initialize")
	s.ok(err)
	for _, m := range s.Members {
		got, err := m.SQL(s.ctx, "SELECT system_identifier FROM pg_control_system()")
		s.ok(err)
		if got != want || want == "" {
			s.Errorf("%s carries system %s, etcd says %q", m.Name, got, want)
		}
	}
}

// runs is true while the member has a helper process of that name.
func runs(m *cluster.Member, program string) bool {
	found, err := m.Processes(cluster.Node)
	if err != nil {
		return false
	}
	for _, p := range found {
		if p.Comm == program {
			return true
		}
	}
	return false
}

// TestBootstrapSurvivesPowerLossAtAnyMoment takes the power from a node in the middle of each step
// of the first start, and gives it back.
func TestBootstrapSurvivesPowerLossAtAnyMoment(t *testing.T) {
	t.Parallel()
	moments := []struct {
		name string
		when func(ctx context.Context, m *cluster.Member) bool
	}{
		{"initdb is running", func(_ context.Context, m *cluster.Member) bool { return runs(m, "initdb") }},
		{"the new server runs but is no primary yet", func(ctx context.Context, m *cluster.Member) bool {
			return m.PostmasterPID() != 0 && m.Code(ctx, "/primary") != 200
		}},
		{"a base backup is running", func(_ context.Context, m *cluster.Member) bool { return runs(m, "pg_basebackup") }},
	}
	for _, moment := range moments {
		t.Run(moment.name, func(t *testing.T) {
			s := begin(t, cluster.Options{Idle: true, TTL: 3 * time.Second})
			s.ok(s.StartAll())
			var victim *cluster.Member
			s.ok(s.WaitFor(s.ctx, bootTime, moment.name, func(ctx context.Context) (bool, string) {
				for _, m := range s.Members {
					if m.Running() && moment.when(ctx, m) {
						victim = m
						return true, m.Name
					}
				}
				return false, "not yet"
			}))
			s.ok(victim.PowerOff(s.ctx))
			t.Logf("power taken from %s", victim.Name)
			s.ok(victim.Start())
			s.settle()
			s.oneSystem()
		})
	}
}

// TestBootstrapSurvivesRandomPowerLoss does the same at moments that nobody chose.
func TestBootstrapSurvivesRandomPowerLoss(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := begin(t, cluster.Options{Idle: true, TTL: 3 * time.Second})
	for round := range 4 {
		s.ok(s.StartAll())
		victim := s.Members[random.IntN(len(s.Members))]
		after := time.Duration(random.IntN(2500)) * time.Millisecond
		s.ok(s.Holds(s.ctx, after, "agents run", func(context.Context) (bool, string) {
			for _, m := range s.Members {
				if !m.Running() {
					return false, fmt.Sprintf("the agent of %s ended by itself", m.Name)
				}
			}
			return true, ""
		}))
		t.Logf("round %d: power taken from %s after %s", round, victim.Name, after)
		s.ok(victim.PowerOff(s.ctx))
	}
	s.ok(s.StartAll())
	s.settle()
	s.oneSystem()
}
