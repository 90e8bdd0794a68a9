//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestConfiguration(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{TTL: 5 * time.Second})
	s.chapter("a setting reaches every server by reload", func(s *story) {
		s.patch(parameters(map[string]any{"work_mem": "7MB"}))
		for _, m := range s.Members {
			s.shows(m, "work_mem", "7MB")
		}
	})
	s.chapter("a setting that needs a restart waits for one, and says so", func(s *story) {
		s.patch(parameters(map[string]any{"max_connections": 60}))
		for _, m := range s.Members {
			s.ok(s.WaitFor(s.ctx, noticeTime, "pending restart of "+m.Name, func(ctx context.Context) (bool, string) {
				status, err := m.Status(ctx)
				return err == nil && status.PendingRestart, fmt.Sprintf("%+v, %v", status, err)
			}))
			s.shows(m, "max_connections", "50")
		}
		// The primary first: a standby with less than the primary has would not start.
		primary := s.settle()
		for _, m := range append([]*cluster.Member{primary}, s.Others(primary)...) {
			out, err := s.Pghactl("restart", s.Options.Scope, m.Name, "--force")
			s.ok(err)
			s.Log(out)
			s.shows(m, "max_connections", "60")
		}
		if now := s.settle(); now != primary {
			s.Errorf("the restart moved the primary from %s to %s", primary.Name, now.Name)
		}
	})
	s.chapter("pause keeps hands off, resume takes them back", func(s *story) {
		primary := s.settle()
		s.patch(map[string]any{"pause": true})
		s.ok(s.WaitFor(s.ctx, noticeTime, "pause everywhere", s.paused(true)))
		s.ok(primary.Kill9(s.ctx, cluster.Server))
		s.ok(s.Holds(s.ctx, 2*s.Options.TTL, "no failover in pause", func(ctx context.Context) (bool, string) {
			for _, m := range s.Others(primary) {
				if m.Code(ctx, "/primary") == 200 {
					return false, m.Name + " is primary"
				}
			}
			return true, ""
		}))
		s.patch(map[string]any{"pause": nil})
		s.ok(s.WaitFor(s.ctx, noticeTime, "no pause anywhere", s.paused(false)))
		s.settle()
	})
	s.chapter("the agent of a paused primary is stopped and started: its server never hears of it", func(s *story) {
		primary := s.settle()
		s.patch(map[string]any{"pause": true})
		s.ok(s.WaitFor(s.ctx, noticeTime, "pause everywhere", s.paused(true)))
		server := primary.PostmasterPID()
		s.ok(primary.Stop(s.ctx))
		s.ok(s.Holds(s.ctx, 2*s.Options.TTL, "the server runs on without its agent", func(ctx context.Context) (bool, string) {
			_, err := primary.SQL(ctx, "CREATE TABLE IF NOT EXISTS paused_writes ()")
			return !primary.Running() && primary.PostmasterPID() == server && server != 0 && err == nil, fmt.Sprint(err)
		}))
		s.ok(primary.Start())
		s.ok(s.WaitRole(s.ctx, primary, "primary", noticeTime))
		s.patch(map[string]any{"pause": nil})
		s.ok(s.WaitFor(s.ctx, noticeTime, "no pause anywhere", s.paused(false)))
		if now := s.settle(); now != primary || now.PostmasterPID() != server {
			s.Errorf("primary %s with server %d, now %s with server %d", primary.Name, server, now.Name, now.PostmasterPID())
		}
	})
}

func parameters(values map[string]any) map[string]any {
	return map[string]any{"postgresql": map[string]any{"parameters": values}}
}

// shows waits until a server has a setting in force.
func (s *story) shows(m *cluster.Member, name, want string) {
	s.Helper()
	s.ok(s.WaitFor(s.ctx, healTime, fmt.Sprintf("%s = %s on %s", name, want, m.Name), func(ctx context.Context) (bool, string) {
		got, err := m.SQL(ctx, "SHOW "+name)
		return err == nil && got == want, fmt.Sprint(got, err)
	}))
}
