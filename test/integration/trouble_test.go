//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/test/cluster"
)

// TestTroubles breaks the surroundings of one member. Each time the cluster must go on, and the
// member must say what is wrong: in its log, in `pghactl list` and in `why`.
func TestTroubles(t *testing.T) {
	t.Parallel()
	const small = 400 << 20
	s := begin(t, cluster.Options{
		HAProxy: true, TTL: 4 * time.Second,
		Volumes:    map[string]int64{"a": small, "b": small, "c": small},
		Parameters: map[string]any{"max_wal_size": "64MB", "wal_keep_size": "16MB", "max_slot_wal_keep_size": "64MB"},
	})
	s.chapter("the primary's disk is full", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		old := s.settle()
		fault := cluster.Mono()
		free, err := old.FillVolume()
		s.ok(err)
		s.Cleanup(func() { s.ok(free()) })
		s.fillWAL(old)
		s.says(old, "space")
		s.ok(w.WaitAcks(s.ctx, 50, promoteTime))
		s.outage(w, fault)
		s.ok(free())
		s.judge(tailLost, fault, w, nil)
	})
	s.chapter("a clone's directory cannot be written", func(s *story) {
		m := s.wipe(s.standby())
		s.ok(m.SetReadOnly(true))
		s.Cleanup(func() { s.ok(m.SetReadOnly(false)) })
		s.ok(m.Start())
		// Without a place for its own state the agent does not even start; its last words must do.
		s.ok(s.WaitLog(s.ctx, m, noticeTime, m.Volume(), "read-only"))
		s.unharmed(m)
		s.ok(m.SetReadOnly(false))
		s.recovers(m)
	})
	s.chapter("the replication password is wrong", func(s *story) {
		m := s.wipe(s.standby())
		s.ok(m.Reconfigure(func(config map[string]any) {
			auth := config["postgresql"].(map[string]any)["authentication"].(map[string]any)
			auth["replication"].(map[string]any)["password"] = "wrong"
		}))
		s.ok(m.Start())
		s.says(m, "password authentication failed")
		s.unharmed(m)
		s.recovers(m)
	})
	s.chapter("PostgreSQL's port is taken", func(s *story) {
		m := s.standby()
		s.ok(m.PowerOff(s.ctx))
		squatter, err := net.Listen("tcp", m.PG())
		s.ok(err)
		s.ok(m.Start())
		s.says(m, "uses the port")
		s.unharmed(m)
		s.ok(squatter.Close())
		s.recovers(m)
	})
	s.chapter("PostgreSQL's programs are missing", func(s *story) {
		m := s.standby()
		s.ok(m.PowerOff(s.ctx))
		s.ok(m.Reconfigure(func(config map[string]any) {
			config["postgresql"].(map[string]any)["bin_dir"] = "/nonexistent/bin"
		}))
		s.ok(m.Start())
		s.ok(s.WaitLog(s.ctx, m, noticeTime, "/nonexistent/bin"))
		s.unharmed(m)
		s.recovers(m)
	})
	s.chapter("garbage in etcd", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		fault := cluster.Mono()
		for _, key := range []string{"config", "status", "history", "failover", "sync", "members/ghost", "pgha/epoch"} {
			_, err := s.Etcd.Client().Put(s.ctx, s.Key(key), "{garbage \xff\x00")
			s.ok(err)
		}
		s.ok(s.Holds(s.ctx, 2*s.Options.TTL, "the primary stays", func(ctx context.Context) (bool, string) {
			code := primary.Code(ctx, "/primary")
			return code == 200, fmt.Sprintf("/primary answers %d", code)
		}))
		for _, m := range s.Members {
			if !m.Running() {
				s.Errorf("the agent of %s ended", m.Name)
			}
		}
		s.ok(s.WaitLog(s.ctx, primary, noticeTime, "config"))
		if got := s.outage(w, fault); got > 2*noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.judge(nothingLost, fault, w, nil)
	})
}

// fillWAL makes the server write log until it finds no space for it and panics. A table that
// cannot grow is an error of one statement; log that cannot be written is the end of the server.
func (s *story) fillWAL(m *cluster.Member) {
	s.Helper()
	s.ok(s.WaitFor(s.ctx, healTime, "the server to run out of space for its log", func(ctx context.Context) (bool, string) {
		_, err := m.SQL(ctx, "SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 10000))) FROM generate_series(1, 1000)")
		var refused *pgconn.PgError
		return err != nil && !errors.As(err, &refused), fmt.Sprint("it still works, error ", err)
	}))
}

// standby is some standby of a settled cluster.
func (s *story) standby() *cluster.Member {
	s.Helper()
	return s.Others(s.settle())[0]
}

// wipe takes a member's power and its disk.
func (s *story) wipe(m *cluster.Member) *cluster.Member {
	s.Helper()
	s.ok(m.PowerOff(s.ctx))
	s.ok(os.RemoveAll(m.DataDir()))
	s.ok(os.RemoveAll(m.StateDir()))
	return m
}

// says waits until the trouble can be read where people look: the log, `why` and `pghactl list`.
func (s *story) says(m *cluster.Member, words string) {
	s.Helper()
	s.ok(s.WaitLog(s.ctx, m, noticeTime, words))
	s.ok(s.WaitFor(s.ctx, noticeTime, fmt.Sprintf("why of %s to say %q", m.Name, words), func(ctx context.Context) (bool, string) {
		why := m.Why(ctx)
		return strings.Contains(strings.ToLower(why), words), why
	}))
	out, err := s.Pghactl("list")
	if err != nil {
		s.Errorf("pghactl list: %v", err)
	}
	s.Logf("list:\n%s", out)
}

// unharmed checks that the others have a primary that one of them follows.
func (s *story) unharmed(sick *cluster.Member) {
	s.Helper()
	primary, err := s.WaitHealthy(s.ctx, len(s.Members)-2, healTime)
	s.ok(err)
	if primary == sick {
		s.Errorf("%s is sick and primary", sick.Name)
	}
}

// recovers restores the member's configuration, starts its agent anew and waits for health.
func (s *story) recovers(m *cluster.Member) {
	s.Helper()
	if m.Running() {
		s.ok(m.PowerOff(s.ctx))
	}
	s.ok(m.WriteConfig())
	s.ok(m.Start())
	s.settle()
}
