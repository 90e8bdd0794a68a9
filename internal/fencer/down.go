package fencer

import (
	"time"

	"golang.org/x/sys/unix"
)

// silencer carries out the down procedure (safety review, hole 7). The fencer and its second each
// have one; to run it twice does no harm.
type silencer struct {
	scan *scanner
	sh   *shared
	// cgroupKill is the open cgroup.kill of the server's own cgroup, or -1.
	cgroupKill int
	// lingering are the stuck processes of the last pass.
	lingering []int
	one       [1]byte
}

func newSilencer(sh *shared) (*silencer, error) {
	scan, err := newScanner(sh)
	if err != nil {
		return nil, err
	}
	return &silencer{scan: scan, sh: sh, cgroupKill: -1, lingering: make([]int, 0, 64), one: [1]byte{'1'}}, nil
}

// strike is one blow, in an order in which nothing can slip through: the cgroup at once and by the
// kernel, where there is one; else stop the postmaster, so that it makes no more children, kill the
// children, and only then the postmaster (its death would scatter them). Postmaster is its pidfd
// or -1. It returns how many processes were not silent yet.
func (k *silencer) strike(postmaster int) int {
	if k.cgroupKill >= 0 {
		_, _ = unix.Write(k.cgroupKill, k.one[:])
	}
	last := 0
	if postmaster >= 0 && unix.PidfdSendSignal(postmaster, unix.SIGSTOP, nil, 0) == nil {
		last = int(k.sh.postmaster.Load())
	}
	alive := k.pass(last)
	if postmaster >= 0 {
		_ = unix.PidfdSendSignal(postmaster, unix.SIGKILL, nil, 0)
	}
	return alive
}

// pass kills what a scan finds, except the process last, which the caller kills by descriptor.
func (k *silencer) pass(last int) int {
	found, err := k.scan.scan()
	if err != nil {
		// Without /proc nothing is proven; say that something lives, and try again.
		return 1
	}
	alive := k.scan.farAlive()
	k.lingering = k.lingering[:0]
	for _, p := range found {
		switch {
		case k.scan.stuck(p):
			if len(k.lingering) < cap(k.lingering) {
				k.lingering = append(k.lingering, p.pid)
			}
		case p.pid == last:
			alive++
		case k.scan.kill(p) || k.scan.runsServerProgram(p.pid):
			alive++
		}
		// What the kernel forbids to kill and is not the server's program belongs to another
		// user, who stands in the data directory. It cannot acknowledge anything.
	}
	return alive
}

// untilSilent strikes until two scans in a row find nothing alive. Between is called after each
// blow.
func (k *silencer) untilSilent(postmaster int, between func()) {
	empty := 0
	for blow := 0; ; blow++ {
		if k.strike(postmaster) == 0 {
			empty++
		} else {
			empty = 0
		}
		if between != nil {
			between()
		}
		if empty == 2 {
			k.scan.forgetFar()
			return
		}
		nap(pause(blow))
	}
}

// pause grows from 0.5 ms, since most servers are gone in a few milliseconds, to 50 ms, since a
// stuck disk may take minutes.
func pause(blow int) time.Duration {
	switch {
	case blow < 20:
		return 500 * time.Microsecond
	case blow < 60:
		return 5 * time.Millisecond
	default:
		return 50 * time.Millisecond
	}
}

// nap sleeps in the kernel with the thread's own priority, not by a timer of the Go runtime.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil)
}
