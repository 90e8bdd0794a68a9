//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/test/cluster"
)

// TestPause: hands off (row H-174). What becomes of the primary's agent meanwhile is no reason to stop its
// server, and no reason for another primary afterwards.
func TestPause(t *testing.T) {
	t.Parallel()
	for _, mode := range []cluster.Mode{cluster.Asynchronous, cluster.Quorum} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			o := cluster.Options{TTL: 5 * time.Second}
			if err := o.SetMode(mode); err != nil {
				t.Fatal(err)
			}
			s := begin(t, o)
			s.chapter("the fencer is told of a pause and of its end", theFencerIsToldOfAPause)
			s.chapter("the agent of a paused primary is killed: its server leads on", theAgentOfAPausedPrimaryIsKilled)
			s.chapter("the agent of a paused primary is frozen: its server leads on", theAgentOfAPausedPrimaryIsFrozen)
			s.chapter("the pause ends while the primary's agent is dead: another leads", thePauseEndsWithoutTheAgent)
		})
	}
}

// pausedWithout pauses, takes the primary's agent away until the leader key is long gone, and shows that the server
// does not care.
func (s *story) pausedWithout(away func(*cluster.Member)) (primary *cluster.Member, server int) {
	s.Helper()
	primary = s.settle()
	server = primary.PostmasterPID()
	s.patch(map[string]any{"pause": true})
	s.ok(s.WaitFor(s.ctx, noticeTime, "pause everywhere", s.paused(true)))
	away(primary)
	s.ok(s.WaitFor(s.ctx, noticeTime, "the leader key to go", func(ctx context.Context) (bool, string) {
		leader, err := s.Get(ctx, "leader")
		return err == nil && leader == "", leader
	}))
	s.ok(s.Holds(s.ctx, s.Options.TTL, "the server runs on without its agent", func(ctx context.Context) (bool, string) {
		_, err := primary.SQL(ctx, "CREATE TABLE IF NOT EXISTS paused_writes ()")
		return primary.PostmasterPID() == server && server != 0 && err == nil, fmt.Sprint(err)
	}))
	return primary, server
}

// leadsOn ends the pause at once and wants the same server to lead.
func (s *story) leadsOn(primary *cluster.Member, server int) {
	s.Helper()
	s.patch(map[string]any{"pause": nil})
	s.ok(s.WaitFor(s.ctx, noticeTime, "no pause anywhere", s.paused(false)))
	if now := s.settle(); now != primary || now.PostmasterPID() != server {
		s.Errorf("primary %s with server %d, now %s with server %d", primary.Name, server, now.Name, now.PostmasterPID())
	}
}

// theFencerIsToldOfAPause: what it is not told after the pause it would not do for ever.
func theFencerIsToldOfAPause(s *story) {
	policy := func(want fencer.Policy) func(context.Context) (bool, string) {
		return func(context.Context) (bool, string) {
			for _, m := range s.Members {
				text, err := os.ReadFile(filepath.Join(m.StateDir(), "fencer.json"))
				var state struct{ Policy fencer.Policy }
				if err == nil {
					err = json.Unmarshal(text, &state)
				}
				if err != nil || state.Policy != want {
					return false, fmt.Sprintf("%s: %q, %v", m.Name, state.Policy, err)
				}
			}
			return true, ""
		}
	}
	for range 2 {
		s.patch(map[string]any{"pause": true})
		s.ok(s.WaitFor(s.ctx, noticeTime, "every fencer to let its server be", policy(fencer.PolicyObserve)))
		s.patch(map[string]any{"pause": nil})
		s.ok(s.WaitFor(s.ctx, noticeTime, "every fencer to be on its guard", policy(fencer.PolicyKill)))
	}
}

func theAgentOfAPausedPrimaryIsKilled(s *story) {
	primary, server := s.pausedWithout(func(m *cluster.Member) { s.ok(m.Kill9(s.ctx, cluster.Agent)) })
	s.ok(primary.Start())
	s.leadsOn(primary, server)
}

func theAgentOfAPausedPrimaryIsFrozen(s *story) {
	primary, server := s.pausedWithout(func(m *cluster.Member) { s.ok(m.Freeze(s.ctx, cluster.Agent)) })
	s.ok(primary.Thaw(s.ctx))
	s.leadsOn(primary, server)
}

// thePauseEndsWithoutTheAgent: somebody has to lead, and nobody is left to hold up the old server's claim.
func thePauseEndsWithoutTheAgent(s *story) {
	old, _ := s.pausedWithout(func(m *cluster.Member) { s.ok(m.Kill9(s.ctx, cluster.Agent)) })
	s.ok(s.WaitFor(s.ctx, noticeTime, "resume", func(ctx context.Context) (bool, string) {
		answer, err := s.Others(old)[0].HTTP(ctx, http.MethodPatch, "/config", map[string]any{"pause": nil})
		return err == nil && answer.Code == http.StatusOK, fmt.Sprint(answer, err)
	}))
	s.ok(s.WaitFor(s.ctx, healTime, "another primary", func(ctx context.Context) (bool, string) {
		p := s.Primary(ctx)
		return p != nil && p != old, fmt.Sprint(p)
	}))
	s.ok(old.Start())
	s.ok(s.WaitRole(s.ctx, old, "replica", healTime))
	if now := s.settle(); now == old {
		s.Errorf("%s leads again", old.Name)
	}
}
