package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// expect: this member's agent is down on purpose; its fault starts it again.
func (s *storm) expect(m *cluster.Member) { s.expected[m]++ }

func (s *storm) unexpect(m *cluster.Member) { s.expected[m]-- }

// supervise starts agents that ended by themselves, as systemd would, and writes that down.
func (s *storm) supervise(ctx context.Context) error {
	now := cluster.Mono()
	for _, m := range s.c.Members {
		if m.Running() || s.expected[m] > 0 {
			delete(s.ended, m)
			continue
		}
		at, known := s.ended[m]
		if !known {
			s.ended[m] = now
			s.crashed = append(s.crashed, m.Name)
			s.finding(ctx, "the agent of "+m.Name+" ended by itself")
			continue
		}
		if now-at < restartDelay {
			continue
		}
		delete(s.ended, m)
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// pass lets time pass under supervision.
func (s *storm) pass(ctx context.Context, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for last := cluster.Mono(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-look.C:
			if err := s.supervise(ctx); err != nil {
				return err
			}
			now := cluster.Mono()
			s.stall = max(s.stall, now-last-lookEvery)
			last = now
		}
	}
}

// until waits for a condition under supervision. The error says what was seen last.
func (s *storm) until(ctx context.Context, d time.Duration, cond func(context.Context) (bool, string)) error {
	end := cluster.Mono() + d
	for {
		ok, state := cond(ctx)
		if ok {
			return nil
		}
		if cluster.Mono() > end {
			return fmt.Errorf("not within %s: %s", d, state)
		}
		if err := s.pass(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// evidence keeps what lies on the members' volumes, which are gone with the cluster: logs, states
// and histories, not the data.
func (s *storm) evidence() error {
	var errs []error
	for _, m := range s.c.Members {
		to := filepath.Join(s.c.Dir, "evidence", m.Name)
		errs = append(errs, filepath.WalkDir(m.Volume(), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && d.Name() == "base" {
				return skip(d)
			}
			if d.IsDir() || !worthKeeping(d.Name()) {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil //nolint:nilerr // gone since the directory was read
			}
			relative, err := filepath.Rel(m.Volume(), path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(to, relative)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, relative), data, 0o644)
		}))
	}
	return errors.Join(errs...)
}

func skip(d fs.DirEntry) error {
	if d != nil && d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func worthKeeping(name string) bool {
	for _, part := range []string{".log", ".json", ".history", ".signal", ".conf", "state", "journal", "pg_control", "backup_label"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
