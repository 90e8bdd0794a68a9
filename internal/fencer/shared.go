package fencer

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// armState is the state of the deadline. Together with a generation it makes the one word by which
// renewals and the deadline thread agree: whoever changes it first has decided.
type armState uint64

const (
	stateIdle armState = iota
	stateArmed
	// stateStruck: the deadline passed and the server is being killed. Only the end of the down
	// procedure leads out of it.
	stateStruck
)

// shared is the memory that the fencer and its second have in common. It lies in a memfd, never in
// a file: a store into a mapped file can wait for the disk, and a disk that hangs is one of the
// reasons for which T passes.
type shared struct {
	word     atomic.Uint64 // generation<<2 | armState
	until    atomic.Int64  // T on CLOCK_BOOTTIME, ns
	untilRaw atomic.Int64  // the same instant on CLOCK_MONOTONIC_RAW as of the last renewal

	// letBeUntil is the CLOCK_BOOTTIME before which a deadline that passes lets the server be, ns; 0: there
	// is no such time, letBeForGood: it has no end.
	letBeUntil atomic.Int64

	postmaster atomic.Int64 // pid, 0: none
	dataDev    atomic.Uint64
	dataIno    atomic.Uint64
	exeDev     atomic.Uint64
	exeIno     atomic.Uint64
	uid        atomic.Int64
	spare      [4]atomic.Int64 // pids never to be killed: fencer, second, agent, agent's parent

	// leaving: the fencer ends because it is not needed, not because it was killed.
	leaving atomic.Bool

	cgroupLen atomic.Int64
	cgroup    [512]byte // path of the server's cgroup; written while no server runs
}

const letBeForGood = -1

const (
	spareFencer = iota
	spareSecond
	spareAgent
	spareChild
)

// newShared makes the memory and returns the descriptor that the second inherits.
func newShared() (*shared, int, error) {
	fd, err := unix.MemfdCreate("pgha-fencer", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, -1, fmt.Errorf("shared memory: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		return nil, -1, fmt.Errorf("shared memory: %w", err)
	}
	sh, err := mapShared(fd)
	return sh, fd, err
}

func mapShared(fd int) (*shared, error) {
	mem, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return (*shared)(unsafe.Pointer(&mem[0])), nil
}

func (s *shared) state() armState { return armState(s.word.Load() & 3) }

// arm makes the token count. The times are stored first, so nobody sees an armed word with the
// times of another epoch.
func (s *shared) arm(until, untilRaw time.Duration) {
	gen := s.word.Load() >> 2
	s.word.Store((gen+1)<<2 | uint64(stateIdle))
	s.untilRaw.Store(int64(untilRaw))
	s.until.Store(int64(until))
	s.word.Store((gen+1)<<2 | uint64(stateArmed))
}

// renew moves T forward. It returns false if the deadline thread has struck meanwhile: then the
// renewal did not happen. Readers load until before untilRaw, so the order of the stores lets them
// see an old pair or a mixture that is no later than the new pair, but never one beyond it.
func (s *shared) renew(until, untilRaw time.Duration) bool {
	word := s.word.Load()
	if armState(word&3) != stateArmed {
		return false
	}
	s.untilRaw.Store(int64(untilRaw))
	s.until.Store(int64(until))
	return s.word.Load() == word
}

// disarm ends the generation, from whatever state.
func (s *shared) disarm() {
	gen := s.word.Load() >> 2
	s.word.Store((gen+1)<<2 | uint64(stateIdle))
}

// strike claims the deadline for the generation in word. False: it was renewed into another
// generation, disarmed, or struck already.
func (s *shared) strike(word uint64) bool {
	return s.word.CompareAndSwap(word, word&^3|uint64(stateStruck))
}

// lapse ends the token of the generation in word without a strike. False: as for strike.
func (s *shared) lapse(word uint64) bool {
	return s.word.CompareAndSwap(word, word&^3|uint64(stateIdle))
}

// obey makes the policy known to both processes.
func (s *shared) obey(p Policy, until time.Duration) {
	switch {
	case p != PolicyObserve:
		s.letBeUntil.Store(0)
	case until == 0:
		s.letBeUntil.Store(letBeForGood)
	default:
		s.letBeUntil.Store(int64(until))
	}
}

// spares says that a deadline that passes now lets the server be.
func (s *shared) letsBe() bool {
	until := s.letBeUntil.Load()
	return until == letBeForGood || time.Duration(until) > Now()
}

// remaining is the time to T by whichever clock ran further.
func (s *shared) remaining() time.Duration {
	boot := time.Duration(s.until.Load()) - Now()
	raw := time.Duration(s.untilRaw.Load()) - rawNow()
	return min(boot, raw)
}

// rawDeadline is until, as seen now, on the raw clock.
func rawDeadline(until time.Duration) time.Duration { return rawNow() + until - Now() }

func (s *shared) setCgroup(path string) {
	s.cgroupLen.Store(0)
	if len(path) <= len(s.cgroup) {
		copy(s.cgroup[:], path)
		s.cgroupLen.Store(int64(len(path)))
	}
}

func (s *shared) cgroupPath() string {
	n := s.cgroupLen.Load()
	if n <= 0 || n > int64(len(s.cgroup)) {
		return ""
	}
	return string(s.cgroup[:n])
}
