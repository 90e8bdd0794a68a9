package fencer

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

type noteKind uint8

const (
	noteExited noteKind = iota
	noteFenced
	noteLapsed
	noteDown
)

// downReason says who asked for the down procedure.
type downReason uint32

const (
	reasonNone downReason = iota
	reasonExit
	reasonDeadline
	reasonUnarmed
	reasonAsked
	reasonOrphans
)

// note is what the deadline thread tells the rest of the fencer.
type note struct {
	kind   noteKind
	reason downReason
	at     time.Duration
	until  time.Duration // the deadline, of noteFenced and noteLapsed
	server int           // pidfd that the note is about, -1: none was watched
}

// watcher is the deadline thread: one goroutine locked to one thread of real-time priority. It
// waits in the kernel for the deadline, the end of the postmaster, or a kick; it takes no lock that
// others hold while they work, and reads no disk.
type watcher struct {
	sh      *shared
	silence *silencer
	timer   int // timerfd on CLOCK_BOOTTIME
	kickFD  int // eventfd
	notes   chan note

	// server is the pidfd of the postmaster to watch, -1: none. Set by watch, taken back by the
	// thread itself.
	server atomic.Int32
	// groupKill and groupEvents are the files of its cgroup, or -1.
	groupKill, groupEvents atomic.Int32

	want   atomic.Uint32 // downReason asked for
	active atomic.Int32  // down procedures begun and not yet dealt with by the reader of notes
	stop   atomic.Bool

	priority string
	problems []string
	ready    chan struct{}
	done     chan struct{}

	lingering atomic.Pointer[[]int]
}

func newWatcher(sh *shared) (*watcher, error) {
	silence, err := newSilencer(sh)
	if err != nil {
		return nil, err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("deadline timer: %w", err)
	}
	kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("deadline thread: %w", err)
	}
	w := &watcher{
		sh: sh, silence: silence, timer: timer, kickFD: kick,
		notes: make(chan note, 64), ready: make(chan struct{}), done: make(chan struct{}),
	}
	w.server.Store(-1)
	w.setGroup(noGroup())
	return w, nil
}

// kick makes the thread look at the state again.
func (w *watcher) kick() { kick(w.kickFD) }

func kick(fd int) {
	one := [8]byte{1}
	_, _ = unix.Write(fd, one[:])
}

func drain(fd int) {
	var buf [8]byte
	_, _ = unix.Read(fd, buf[:])
}

func (w *watcher) setGroup(g groupFDs) {
	w.groupKill.Store(int32(g.kill))
	w.groupEvents.Store(int32(g.events))
}

// watch hands a postmaster over. The descriptors stay open until its noteDown has been dealt with.
func (w *watcher) watch(pidfd int, group groupFDs) {
	w.setGroup(group)
	w.server.Store(int32(pidfd))
	w.kick()
}

// ask requests the down procedure; noteDown follows.
func (w *watcher) ask(reason downReason) {
	w.want.Store(uint32(reason))
	w.kick()
}

// busy says that a down procedure is asked for, at work, or not dealt with.
func (w *watcher) busy() bool { return w.want.Load() != 0 || w.active.Load() != 0 }

func (w *watcher) run() {
	runtime.LockOSThread() // never unlocked: the priority ends with the thread
	w.priority, w.problems = takePriority()
	// A rehearsal brings code and buffers of the strike into memory.
	_, _ = w.silence.scan.scan()
	close(w.ready)
	defer close(w.done)
	fds := make([]unix.PollFd, 3)
	for !w.stop.Load() {
		w.once(fds)
	}
}

// once is the loop's body: act on what is due, then wait.
func (w *watcher) once(fds []unix.PollFd) {
	if w.deadlinePassed() && !w.lapse() {
		w.down(reasonDeadline)
		return
	}
	if reason := downReason(w.want.Load()); reason != reasonNone {
		w.down(reason)
		return
	}
	pidfd := w.server.Load()
	fds[0] = unix.PollFd{Fd: int32(w.kickFD), Events: unix.POLLIN}
	fds[1] = unix.PollFd{Fd: int32(w.timer), Events: unix.POLLIN}
	fds[2] = unix.PollFd{Fd: pidfd, Events: unix.POLLIN} // negative: ignored
	w.setTimer()
	if _, err := unix.Ppoll(fds, nil, nil); err != nil {
		return // EINTR: look again
	}
	if fds[0].Revents != 0 {
		drain(w.kickFD)
	}
	if fds[1].Revents != 0 {
		drain(w.timer)
	}
	if fds[2].Revents != 0 && !w.deadlinePassed() {
		w.down(reasonExit)
	}
}

func (w *watcher) deadlinePassed() bool {
	return w.sh.state() == stateArmed && w.sh.remaining() <= 0
}

// lapse ends a token whose deadline has passed while the policy is to let the server be (pause mode):
// what is left is a writable server without a token, which is the guard's. It returns false if the
// server is to be brought down.
func (w *watcher) lapse() bool {
	if !w.sh.letsBe() {
		return false
	}
	until := time.Duration(w.sh.until.Load())
	word := w.sh.word.Load()
	if armState(word&3) == stateArmed && w.sh.remaining() <= 0 && w.sh.lapse(word) {
		w.tell(note{kind: noteLapsed, at: Now(), until: until, server: -1})
	}
	return true
}

// setTimer arms the timer for T, or for shortly before it: the raw clock may run faster than the
// timer's, by less than a tenth. Each early wake-up leaves a fifth of what is left to look at.
func (w *watcher) setTimer() {
	var spec unix.ItimerSpec
	if w.sh.state() == stateArmed {
		spec.Value = unix.NsecToTimespec(int64(wakeAt(Now(), w.sh.remaining())))
	}
	if err := unix.TimerfdSettime(w.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		panic("timerfd_settime: " + err.Error()) // no timer, no deadline; see Now
	}
}

// directWait is the last stretch, waited for in one piece: a drift of a tenth of it is small
// against the margin.
const directWait = 10 * time.Millisecond

func wakeAt(now, left time.Duration) time.Duration {
	if left > directWait {
		left -= left / 5
	}
	return now + max(left, 1)
}

// claim turns an expired token into a strike, once.
func (w *watcher) claim() bool {
	word := w.sh.word.Load()
	return armState(word&3) == stateArmed && w.sh.remaining() <= 0 && w.sh.strike(word)
}

// down kills the server and returns when it is silent.
func (w *watcher) down(reason downReason) {
	until := time.Duration(w.sh.until.Load())
	if reason == reasonDeadline && !w.claim() {
		return
	}
	w.active.Add(1)
	pidfd := w.server.Load()
	w.silence.group = groupFDs{kill: int(w.groupKill.Load()), events: int(w.groupEvents.Load())}
	struck := Now()
	gone := false
	told := false
	w.silence.untilSilent(int(pidfd), func() {
		// The deadline can pass while another down procedure is at work, and be held up by it.
		if reason == reasonDeadline && !told || w.claim() {
			w.tell(note{kind: noteFenced, at: struck, until: until, server: int(pidfd)})
			reason, told = reasonDeadline, true
		}
		if !gone && exited(int(pidfd), 0) {
			w.tell(note{kind: noteExited, reason: reason, at: Now(), server: int(pidfd)})
			gone = true
		}
	})
	// A process that has let go of files and directory may still need a moment to be gone, and
	// until then its number in postmaster.pid keeps the next server from starting.
	if !gone && exited(int(pidfd), exitPatience) {
		w.tell(note{kind: noteExited, reason: reason, at: Now(), server: int(pidfd)})
	}
	lingering := append([]int(nil), w.silence.lingering...)
	w.lingering.Store(&lingering)
	w.want.Store(uint32(reasonNone)) // whoever asked meanwhile got what was asked for
	// A start that ran at the same time may have handed over a postmaster that this procedure did
	// not know: that one stays.
	if pidfd >= 0 && w.server.CompareAndSwap(pidfd, -1) {
		w.setGroup(noGroup())
	}
	w.silence.group = noGroup()
	w.tell(note{kind: noteDown, reason: reason, at: Now(), server: int(pidfd)})
}

// exitPatience is for a killed process that is not stuck: it needs microseconds, unless the machine
// is short of CPU.
const exitPatience = 100 * time.Millisecond

// exited says that the process of a pidfd is gone or a zombie, or is so within the patience.
func exited(pidfd int, patience time.Duration) bool {
	if pidfd < 0 {
		return false
	}
	fds := [1]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds[:], int(patience.Milliseconds()))
	return err == nil && n == 1
}

// tell never blocks: the channel has room for far more than can happen between two strikes, and
// the deadline is not to wait for a reader.
func (w *watcher) tell(n note) {
	select {
	case w.notes <- n:
	default:
	}
}

func (w *watcher) halt() {
	w.stop.Store(true)
	w.kick()
	<-w.done
}
