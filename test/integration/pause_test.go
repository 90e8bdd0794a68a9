//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/test/cluster"
)

// TestPause: hands off (row H-174).
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
		})
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
