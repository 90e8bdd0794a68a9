package fencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Descriptors that the second inherits.
const (
	secondMemory = 3
	secondKick   = 4
	secondFirst  = 5 // pidfd of the fencer
)

const (
	secondRestart = time.Second
	// secondLag is how late the second strikes if the fencer lives: it may only be frozen. Much
	// less than the margin, much more than the fencer needs.
	secondLag = 50 * time.Millisecond
	// secondHelp is the same for a strike that the fencer began and does not finish.
	secondHelp = time.Second
	// secondPatrol is how often a second without a fencer looks whether there is a new one.
	secondPatrol = 100 * time.Millisecond
	// killedTogether is how far apart the deaths of fencer and agent may be that one hand dealt.
	killedTogether = 20 * time.Millisecond
)

// second runs the second process of a fencer: one that shares T by memory and strikes at T if the
// fencer does not, so that killing agent and fencer together still ends in silence at T.
type second struct {
	s    *server
	kick int
}

func newSecond(s *server) *second {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		s.problems = append(s.problems, "second: "+err.Error())
		fd = -1
	}
	return &second{s: s, kick: fd}
}

func (s *server) kickSecond() {
	if s.second != nil && s.second.kick >= 0 {
		kick(s.second.kick)
	}
}

// run keeps one alive. At the end of ctx the last one is left to itself: it sees the fencer's end
// and stays for as long as a token is armed.
func (t *second) run(ctx context.Context) {
	for {
		var exited <-chan struct{}
		c, err := t.start()
		if err != nil {
			t.s.log.Error("second process is missing", slog.String("error", err.Error()))
			exited = nil
		} else {
			exited = c.exited
		}
		restart := time.NewTimer(secondRestart)
		if exited != nil {
			select {
			case <-exited:
				t.s.sh.spare[spareSecond].Store(0)
				t.s.log.Warn("second process ended", slog.Int("pid", c.pid), slog.Any("status", c.status))
			case <-ctx.Done():
				restart.Stop()
				return
			}
		}
		select {
		case <-restart.C:
		case <-ctx.Done():
			restart.Stop()
			return
		}
	}
}

func (t *second) start() (*child, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("second: %w", err)
	}
	defer func() { _ = null.Close() }()
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("second: %w", err)
	}
	defer func() { _ = unix.Close(self) }()
	err2 := os.Stderr.Fd()
	args := slices.Insert(append([]string{os.Args[0]}, t.s.opts.commandLine()...), 2, "--second")
	c, err := t.s.reap.start(ownProgram, args, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{null.Fd(), err2, err2, uintptr(t.s.shFD), uintptr(t.kick), uintptr(self)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("second: %w", err)
	}
	_ = unix.Close(c.pidfd)
	t.s.sh.spare[spareSecond].Store(int64(c.pid))
	return c, nil
}

// lookout is the second process itself.
type lookout struct {
	sh    *shared
	sil   *silencer
	timer int
	ready int
	opts  ServerOptions
	log   *slog.Logger
	// relaunched: once, after the fencer's death.
	relaunched bool
	launching  chan struct{}
}

// runSecond is the whole life of a second process. It ends when the fencer is gone and there is
// nothing left to wait for.
func runSecond(opts ServerOptions) error {
	prepareRuntime()
	if err := unix.CloseRange(secondMemory, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("second: close-on-exec: %w", err)
	}
	sh, err := mapShared(secondMemory)
	if err != nil {
		return err
	}
	sil, err := newSilencer(sh)
	if err != nil {
		return err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("second: timer: %w", err)
	}
	ready, err := unix.Open(filepath.Join(opts.Dir, readyName), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("second: ready lock: %w", err)
	}
	problems := harden()
	runtime.LockOSThread()
	priority, more := takePriority()
	_, _ = sil.scan.scan() // a rehearsal, see watcher.run
	l := &lookout{sh: sh, sil: sil, timer: timer, ready: ready, opts: opts, log: opts.Log}
	l.log.Info("second is ready", slog.String("priority", priority), slog.Any("problems", append(problems, more...)))
	fds := make([]unix.PollFd, 3)
	for l.once(fds) {
	}
	return nil
}

// once looks, acts and waits. It returns false when the process is of no more use.
func (l *lookout) once(fds []unix.PollFd) bool {
	alone := exited(secondFirst, 0)
	if alone {
		l.relaunch()
	}
	// The order matters: if T has passed and there is no new fencer even then, whoever comes later
	// finds T in the past and cannot have renewed it.
	due := l.due(alone)
	if alone && (l.replaced() || l.sh.state() == stateIdle) {
		if l.launching != nil {
			<-l.launching
		}
		return false
	}
	if due {
		l.strike()
		if alone {
			if l.launching != nil {
				<-l.launching
			}
			return false
		}
	}
	fds[0] = unix.PollFd{Fd: secondKick, Events: unix.POLLIN}
	fds[1] = unix.PollFd{Fd: int32(l.timer), Events: unix.POLLIN}
	fds[2] = unix.PollFd{Fd: secondFirst, Events: unix.POLLIN}
	wait := &unix.Timespec{Sec: 3600}
	if alone {
		fds[2].Fd = -1
		*wait = unix.NsecToTimespec(int64(secondPatrol))
	}
	l.setTimer(alone)
	if _, err := unix.Ppoll(fds, wait, nil); err != nil {
		return true
	}
	drain(secondKick)
	drain(l.timer)
	return true
}

// relaunch starts a fencer in the place of one that was killed, if this process is root and there is
// an agent that needs one: the agent is not root any more, and what it starts could have neither the
// priority nor the fence on the wire. It does not wait: T may be near.
func (l *lookout) relaunch() {
	if l.relaunched || l.sh.leaving.Load() || os.Geteuid() != 0 {
		return
	}
	l.relaunched = true
	agent := int(l.sh.spare[spareAgent].Load())
	opts := Options{Dir: l.opts.Dir, DataDir: l.opts.DataDir, UID: l.opts.UID, GID: l.opts.GID, Binary: ownProgram}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nap(killedTogether)
		if !lives(agent) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), launchTimeout)
		defer cancel()
		if err := launchWith(ctx, opts, l.opts.commandLine()); err != nil {
			l.log.Error("no fencer started in the place of the killed one", slog.String("error", err.Error()))
		}
	}()
	l.launching = done
}

// due says that T has passed and the fencer did not finish its work. A strike that the fencer began
// and could not end is finished here.
func (l *lookout) due(alone bool) bool {
	if l.sh.state() == stateIdle || l.sh.state() == stateArmed && l.sh.letsBe() {
		return false // the latter is left to the fencer, this one or the next
	}
	if alone {
		return l.sh.state() == stateStruck || l.sh.remaining() <= 0
	}
	return l.sh.remaining() <= -l.lag()
}

// lag is how long after T a living fencer gets.
func (l *lookout) lag() time.Duration {
	if l.sh.state() == stateStruck {
		return secondHelp
	}
	return secondLag
}

func (l *lookout) setTimer(alone bool) {
	var spec unix.ItimerSpec
	if l.sh.state() != stateIdle {
		left := l.sh.remaining()
		switch {
		case alone:
		case left <= -l.lag():
			left = secondPatrol // the fencer is frozen or at work: look again
		default:
			left += l.lag()
		}
		spec.Value = unix.NsecToTimespec(int64(wakeAt(Now(), left)))
	}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		panic("timerfd_settime: " + err.Error())
	}
}

// strike runs the down procedure on whatever server the memory names.
func (l *lookout) strike() {
	late := -l.sh.remaining()
	pidfd := -1
	if pid := int(l.sh.postmaster.Load()); pid > 0 {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			pidfd = fd
			if !l.sil.scan.cwdMatches(pid) {
				_ = unix.Close(fd)
				pidfd = -1
			}
		}
	}
	l.sil.group = noGroup()
	if path := l.sh.cgroupPath(); path != "" {
		if group, err := openGroupFDs(path); err == nil {
			l.sil.group = group
		}
	}
	l.sil.untilSilent(pidfd, nil)
	l.sil.group.close()
	if pidfd >= 0 {
		_ = unix.Close(pidfd)
	}
	l.log.Warn("second has silenced the server", slog.Duration("late", late))
}

// replaced says that a new fencer has taken over token and server. It has a second of its own.
func (l *lookout) replaced() bool {
	err := unix.Flock(l.ready, unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		_ = unix.Flock(l.ready, unix.LOCK_UN)
		return false
	}
	return errors.Is(err, unix.EWOULDBLOCK)
}
