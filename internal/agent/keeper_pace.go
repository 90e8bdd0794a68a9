package agent

import (
	"context"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// rest waits for the next round: for its regular time, for whoever asks for one at once, or for the
// moment at which too few voters are known to hear this leader. /primary stays green then only as long
// as ownership was proven a moment ago, so a primary that has lost its standbys but not the store proves
// it at their pace.
func (k *keeper) rest(ctx context.Context, begun, next election.Instant) error {
	for {
		due := next
		own, _ := k.title()
		if at, ok := k.a.proofDue(own, begun); ok {
			due = min(due, at)
		}
		left := due - Now()
		if left <= 0 && due < next {
			return nil
		}
		t := time.NewTimer(max(left, time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-k.kick:
			t.Stop()
			return nil
		case <-t.C:
			if Now() >= next {
				return nil
			}
		}
	}
}
