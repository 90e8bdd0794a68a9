package agent

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/election"
)

// Now reads CLOCK_BOOTTIME, the one clock of the lease arithmetic: it counts suspended time and
// nobody can set it.
func Now() election.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had this clock since 2.6.39; without it no deadline could be kept.
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return time.Duration(ts.Nano())
}
