package agent

import (
	"testing"
	"time"
)

func TestWhatWaitsForTheSameHeartbeatWakesTogether(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		now, wait, heartbeat, want time.Duration
	}{
		{300 * s, 3 * s, 3 * s, 3 * s},
		{301 * s, 3 * s, 3 * s, 2 * s},
		{301 * s, 10 * s / 3, 3 * s, 2 * s},
		{302*s + 999*time.Millisecond, 10 * s / 3, 3 * s, 3*s + time.Millisecond},
		{301 * s, 2 * s, 3 * s, 2 * s}, // something is due before the heartbeat
		{301 * s, 100 * s, 10 * s, 99 * s},
		{301*s + 1, s / 2, s / 2, s / 2}, // too short to matter
		{301 * s, 0, 3 * s, 0},
		{301 * s, 3 * s, 0, 3 * s},
	} {
		got := inStep(tc.now, tc.wait, tc.heartbeat)
		if got != tc.want {
			t.Errorf("at %s, a wait of %s with a heartbeat of %s: %s, want %s", tc.now, tc.wait, tc.heartbeat, got, tc.want)
		}
		if got > tc.wait {
			t.Errorf("at %s: %s is longer than the wait of %s", tc.now, got, tc.wait)
		}
	}
}
