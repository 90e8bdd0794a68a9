package fencer

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper collects every child that ends: those that the fencer started, whose status somebody
// waits for, and orphans that fell to it as subreaper or init. One place calls wait, so nobody's
// status is taken by somebody else.
type reaper struct {
	mu       sync.Mutex
	children map[int]*child
	// missed: reap was called while start held the lock, which lasts as long as the disk takes
	// to deliver the program.
	missed atomic.Bool
}

// child is a process that the fencer started.
type child struct {
	pid    int
	pidfd  int // owned by whoever started it
	exited chan struct{}
	status ExitStatus // valid when exited is closed
}

func newReaper() *reaper { return &reaper{children: make(map[int]*child)} }

// start forks and registers in one step; a child that ends at once is not missed. The lock also
// keeps reap away from the wait by which ForkExec collects a child whose exec failed.
func (r *reaper) start(argv0 string, argv []string, attr *syscall.ProcAttr) (*child, error) {
	r.mu.Lock()
	defer func() {
		r.mu.Unlock()
		if r.missed.Swap(false) {
			r.reap()
		}
	}()
	pidfd := -1
	if attr.Sys == nil {
		attr.Sys = &syscall.SysProcAttr{}
	}
	attr.Sys.PidFD = &pidfd
	pid, err := syscall.ForkExec(argv0, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", argv0, err)
	}
	if pidfd < 0 {
		_ = unix.Kill(pid, unix.SIGKILL) // not yet waited for, so still this process
		return nil, fmt.Errorf("start %s: the kernel gives no pidfd", argv0)
	}
	c := &child{pid: pid, pidfd: pidfd, exited: make(chan struct{})}
	r.children[pid] = c
	return c, nil
}

// reap collects all that have ended. Call it on SIGCHLD, and before asking for a status that must
// be there. It never waits.
func (r *reaper) reap() {
	r.missed.Store(true)
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	r.missed.Store(false)
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if !ws.Exited() && !ws.Signaled() {
			continue
		}
		if c, ok := r.children[pid]; ok {
			c.status = statusOf(ws)
			close(c.exited)
			delete(r.children, pid)
		}
	}
}

// ended returns the status if the child has been collected.
func (c *child) ended() (ExitStatus, bool) {
	select {
	case <-c.exited:
		return c.status, true
	default:
		return ExitStatus{}, false
	}
}

func statusOf(ws unix.WaitStatus) ExitStatus {
	if ws.Signaled() {
		return ExitStatus{Known: true, Signal: int(ws.Signal())}
	}
	return ExitStatus{Known: true, Code: ws.ExitStatus()}
}
