//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// TestADivergedPrimaryComesBack: rows that only the old primary has are an asynchronous cluster's
// accepted loss, but not a silent one.
func TestADivergedPrimaryComesBack(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{Network: cluster.Namespaces, TTL: 4 * time.Second})
	s.chapter("by pg_rewind, and says what was lost", func(s *story) {
		old, successor, lost := s.diverge()
		s.ok(old.Start())
		s.settle()
		s.follows(old, successor, lost)
		if !old.Logged("rewind") {
			s.Errorf("the log of %s does not mention a rewind", old.Name)
		}
		s.ok(s.WaitLog(s.ctx, old, noticeTime, "lost"))
	})
	s.chapter("by a clone, where pg_rewind cannot", func(s *story) {
		old, successor, lost := s.diverge()
		s.ok(old.Reconfigure(func(config map[string]any) {
			config["postgresql"].(map[string]any)["bin_dir"] = s.withoutRewind(old)
		}))
		s.ok(old.Start())
		s.settle()
		s.follows(old, successor, lost)
	})
}

// withoutRewind makes a directory with PostgreSQL's programs in which pg_rewind fails.
func (s *story) withoutRewind(m *cluster.Member) string {
	s.Helper()
	dir := filepath.Join(m.Dir(), "bin")
	s.ok(os.MkdirAll(dir, 0o755))
	programs, err := os.ReadDir(s.Options.PostgresBin)
	s.ok(err)
	for _, p := range programs {
		if p.Name() != "pg_rewind" {
			s.ok(os.Symlink(filepath.Join(s.Options.PostgresBin, p.Name()), filepath.Join(dir, p.Name())))
		}
	}
	s.ok(os.WriteFile(filepath.Join(dir, "pg_rewind"), []byte("#!/bin/sh\necho 'pg_rewind: error: told to fail by the test' >&2\nexit 1\n"), 0o755))
	return dir
}

// diverge makes a primary acknowledge rows that no standby gets, and takes its power.
func (s *story) diverge() (old, successor *cluster.Member, lost int) {
	s.Helper()
	old = s.settle()
	w := s.load(cluster.WriterOptions{DSN: old.DSN()})
	s.ok(w.WaitAcks(s.ctx, 20, noticeTime))
	// Rows from here on stay with the old primary.
	s.ok(old.Partition(s.ctx, cluster.FromMembers))
	s.ok(w.WaitAcks(s.ctx, 50, noticeTime))
	s.ok(old.PowerOff(s.ctx))
	w.Stop()
	s.ok(old.Heal(s.ctx))
	successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
	s.ok(err)
	missing, err := s.Verify(s.ctx, successor, w.Ledger)
	s.ok(err)
	if len(missing) < 50 {
		s.Fatalf("no divergence: only %d rows are missing on %s", len(missing), successor.Name)
	}
	return old, successor, len(missing)
}

// follows checks that the member streams and has the successor's rows, not its own.
func (s *story) follows(old, successor *cluster.Member, lost int) {
	s.Helper()
	s.Logf("%d acknowledged rows were on %s alone", lost, old.Name)
	var last [2]string
	s.ok(s.WaitFor(s.ctx, noticeTime, "equal tables", func(ctx context.Context) (bool, string) {
		for i, m := range []*cluster.Member{old, successor} {
			count, err := m.SQL(ctx, "SELECT count(*) || ' rows, sum ' || sum(id) FROM ledger")
			if err != nil {
				return false, err.Error()
			}
			last[i] = count
		}
		return last[0] == last[1], fmt.Sprint(last)
	}))
}
