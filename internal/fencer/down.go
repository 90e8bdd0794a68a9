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
	// group is the server's own cgroup, if it has one.
	group groupFDs
	// lingering are the stuck processes of the last pass.
	lingering []int
	one       [1]byte
	buf       [256]byte
}

func newSilencer(sh *shared) (*silencer, error) {
	scan, err := newScanner(sh)
	if err != nil {
		return nil, err
	}
	return &silencer{scan: scan, sh: sh, group: noGroup(), lingering: make([]int, 0, 64), one: [1]byte{'1'}}, nil
}

// strike is one blow, in an order in which nothing can slip through: the cgroup at once and by the
// kernel, where there is one; else stop the postmaster, so that it makes no more children, kill the
// children, and only then the postmaster (its death would scatter them). Postmaster is its pidfd
// or -1. It returns how many processes are not silent yet.
func (k *silencer) strike(postmaster, blow int) int {
	if k.group.kill >= 0 {
		_, _ = unix.Write(k.group.kill, k.one[:])
	}
	last := 0
	if blow == 0 && postmaster >= 0 && unix.PidfdSendSignal(postmaster, unix.SIGSTOP, nil, 0) == nil {
		last = int(k.sh.postmaster.Load())
	}
	alive := k.killFound(last)
	if postmaster >= 0 {
		_ = unix.PidfdSendSignal(postmaster, unix.SIGKILL, nil, 0)
	}
	return alive + k.count(blow)
}

// killFound kills what a scan finds, except the process last, which the caller kills by descriptor.
// It returns how many living processes are not among the victims.
func (k *silencer) killFound(last int) int {
	k.scan.bury()
	found, err := k.scan.scan()
	if err != nil {
		// Without /proc nothing is proven; say that something lives, and try again.
		return 1
	}
	alive := 0
	for _, p := range found {
		switch {
		case p.pid == last:
			alive++
		case k.scan.isVictim(p.pid):
		case k.scan.kill(p):
			if !k.scan.isVictim(p.pid) {
				alive++ // gone meanwhile, or one too many to remember: the next scan tells
			}
		case k.scan.runsServerProgram(p.pid):
			alive++
		}
		// What the kernel forbids to kill and is not the server's program belongs to another
		// user, who stands in the data directory. It cannot acknowledge anything.
	}
	return alive
}

// stuckAfter is the number of blows (a little more than 0.1 s) after which a victim in
// uninterruptible sleep counts as stuck. Many pass through that state for a moment on their way
// out, and a Down that waits for them spares the agent a refused start.
const stuckAfter = 40

// count returns how many victims are neither dead nor stuck.
func (k *silencer) count(blow int) int {
	alive := 0
	if blow < stuckAfter && k.group.populated(k.buf[:]) {
		alive++ // on its way out, and perhaps no longer to be seen by its directory
	}
	k.lingering = k.lingering[:0]
	for _, v := range k.scan.victims {
		switch {
		case exited(v.pidfd, 0):
		case blow >= stuckAfter && k.scan.stuck(v.pid):
			if len(k.lingering) < cap(k.lingering) {
				k.lingering = append(k.lingering, v.pid)
			}
		default:
			alive++
		}
	}
	return alive
}

// untilSilent strikes until two scans in a row find nothing alive. Between is called after each
// blow.
func (k *silencer) untilSilent(postmaster int, between func()) {
	empty := 0
	for blow := 0; ; blow++ {
		if k.strike(postmaster, blow) == 0 {
			empty++
		} else {
			empty = 0
		}
		if between != nil {
			between()
		}
		if empty == 2 {
			k.scan.release()
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
