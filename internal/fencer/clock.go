package fencer

import (
	"time"

	"golang.org/x/sys/unix"
)

// Now is CLOCK_BOOTTIME, the clock of every absolute time in this package. It counts the time that
// the machine was suspended and is not set by anybody.
func Now() time.Duration { return readClock(unix.CLOCK_BOOTTIME) }

// rawNow is CLOCK_MONOTONIC_RAW, which no time service slews. Its zero differs from that of Now;
// only differences are compared.
func rawNow() time.Duration { return readClock(unix.CLOCK_MONOTONIC_RAW) }

func readClock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		// Both clocks exist on every kernel that has pidfds. Without a clock there is no
		// deadline, and a server without a deadline must not be: the process dies, and its
		// second strikes.
		panic("clock_gettime: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
