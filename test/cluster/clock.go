package cluster

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Mono is CLOCK_MONOTONIC: one clock for all writers, faults and processes of this machine.
func Mono() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("cluster: CLOCK_MONOTONIC is not readable: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// pollEvery is how often waits look again. Short against every wait, long against the CPU.
const pollEvery = 20 * time.Millisecond

// poll calls cond until it is true, its context ends, or the timeout passes. The last state that
// cond described is returned in every case.
func poll(ctx context.Context, timeout time.Duration, cond func(context.Context) (bool, string)) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	state := "never looked"
	for {
		done, now := cond(ctx)
		if ctx.Err() == nil || done {
			// A condition cut off by the deadline describes the deadline, not the cluster.
			state = now
		}
		if done {
			return state, true
		}
		select {
		case <-ctx.Done():
			return state, false
		case <-tick.C:
		}
	}
}
