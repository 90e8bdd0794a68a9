//go:build integration

package integration

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestSwitchovers(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{HAProxy: true, TTL: 5 * time.Second})
	s.chapter("under load, there and back, loses nothing", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		start := cluster.Mono()
		for range 2 {
			old := s.settle()
			candidate := s.Others(old)[0]
			fault := cluster.Mono()
			s.post("/switchover", map[string]any{"leader": old.Name, "candidate": candidate.Name}, http.StatusOK, candidate.Name)
			s.ok(s.WaitRole(s.ctx, candidate, "primary", promoteTime))
			s.resumed(w, candidate)
			if got := s.outage(w, fault); got > 3*time.Second {
				s.Errorf("writes stood still for %s", got)
			}
		}
		s.judge(nothingLost, start, w, witness)
	})
	s.chapter("to whom the agents choose", func(s *story) {
		old := s.settle()
		out, err := s.Pghactl("switchover", s.Options.Scope, "--leader", old.Name, "--force")
		s.ok(err)
		s.Log(out)
		if now := s.settle(); now == old {
			s.Errorf("%s is still the primary", old.Name)
		}
	})
	s.chapter("at a time", func(s *story) {
		old := s.settle()
		candidate := s.Others(old)[1]
		at := time.Now().Add(3 * time.Second)
		s.post("/switchover", map[string]any{
			"leader": old.Name, "candidate": candidate.Name, "scheduled_at": at.Format(time.RFC3339Nano),
		}, http.StatusAccepted, "scheduled")
		s.ok(s.WaitRole(s.ctx, candidate, "primary", promoteTime))
		if early := time.Until(at); early > 0 {
			s.Errorf("it happened %s too early", early)
		}
	})
	s.chapter("a schedule can be withdrawn", func(s *story) {
		old := s.settle()
		s.post("/switchover", map[string]any{
			"leader": old.Name, "scheduled_at": time.Now().Add(time.Hour).Format(time.RFC3339Nano),
		}, http.StatusAccepted, "scheduled")
		answer, err := old.HTTP(s.ctx, http.MethodDelete, "/switchover", nil)
		s.ok(err)
		if answer.Code != http.StatusOK {
			s.Errorf("withdraw: got %v, want 200", answer)
		}
	})
	s.chapter("refused before anything is touched", func(s *story) {
		old := s.settle()
		other := s.Others(old)[0]
		epoch, err := s.Get(s.ctx, "pgha/epoch")
		s.ok(err)
		s.post("/switchover", map[string]any{"leader": other.Name}, http.StatusPreconditionFailed, "leader name does not match")
		s.post("/switchover", map[string]any{"leader": old.Name, "candidate": "nobody"}, http.StatusPreconditionFailed, "candidate does not exist")
		s.post("/switchover", map[string]any{"leader": old.Name, "candidate": old.Name}, http.StatusBadRequest, "same")
		s.post("/switchover", map[string]any{"candidate": other.Name}, http.StatusBadRequest, "leader")
		s.post("/failover", map[string]any{}, http.StatusBadRequest, "")
		if now, err := s.Get(s.ctx, "pgha/epoch"); err != nil || now != epoch {
			s.Errorf("a refused request began a new reign: %s → %s (%v)", epoch, now, err)
		}
	})
	s.chapter("failover by hand while there is a leader", func(s *story) {
		old := s.settle()
		candidate := s.Others(old)[0]
		s.post("/failover", map[string]any{"candidate": candidate.Name}, http.StatusOK, candidate.Name)
		s.ok(s.WaitRole(s.ctx, candidate, "primary", promoteTime))
	})
	s.chapter("failover by hand while there is none", func(s *story) {
		old := s.settle()
		s.patch(map[string]any{"pause": true})
		s.ok(s.WaitFor(s.ctx, noticeTime, "pause everywhere", s.paused(true)))
		s.ok(old.PowerOff(s.ctx))
		candidate := s.Others(old)[0]
		// Nobody takes over by itself in pause, however long the lease is gone.
		s.ok(s.WaitFor(s.ctx, noticeTime, "the leader key to go", func(ctx context.Context) (bool, string) {
			leader, err := s.Get(ctx, "leader")
			return err == nil && leader == "", leader
		}))
		s.ok(s.Holds(s.ctx, s.Options.TTL, "no primary in pause", func(ctx context.Context) (bool, string) {
			p := s.Primary(ctx)
			return p == nil, fmt.Sprint(p)
		}))
		answer, err := candidate.HTTP(s.ctx, http.MethodPost, "/failover", map[string]any{"candidate": candidate.Name})
		s.ok(err)
		s.Log(answer)
		s.ok(s.WaitRole(s.ctx, candidate, "primary", promoteTime))
		answer, err = candidate.HTTP(s.ctx, http.MethodPatch, "/config", map[string]any{"pause": nil})
		s.ok(err)
		if answer.Code != http.StatusOK {
			s.Fatalf("resume: %v", answer)
		}
		s.ok(old.Start())
		s.settle()
	})
}

// post sends a request to the primary's agent and checks code and text of the answer.
func (s *story) post(path string, body map[string]any, code int, text string) {
	s.Helper()
	var primary *cluster.Member
	s.ok(s.WaitFor(s.ctx, noticeTime, "a primary to ask", func(ctx context.Context) (bool, string) {
		primary = s.Primary(ctx)
		return primary != nil, "none"
	}))
	answer, err := primary.HTTP(s.ctx, http.MethodPost, path, body)
	s.ok(err)
	if answer.Code != code || !strings.Contains(answer.Body, text) {
		s.Errorf("POST %s %v: got %d %q, want %d with %q", path, body, answer.Code, answer.Body, code, text)
	}
}

// paused is the condition that every running member knows whether the cluster is paused.
func (s *story) paused(want bool) func(context.Context) (bool, string) {
	return func(ctx context.Context) (bool, string) {
		for _, m := range s.Members {
			if !m.Running() {
				continue
			}
			status, err := m.Status(ctx)
			if err != nil || status.Pause != want {
				return false, fmt.Sprintf("%s: pause %t, %v", m.Name, status.Pause, err)
			}
		}
		return true, ""
	}
}
