package fencer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ServerOptions configure a fencer process.
type ServerOptions struct {
	// Dir and DataDir as in Options.
	Dir, DataDir string
	// UID and GID of the PostgreSQL user; 0: those of this process.
	UID, GID int
	// UnarmedGrace is how long a server may be writable without a token before it is killed;
	// 0: 1 s.
	UnarmedGrace time.Duration
	// AdoptGrace is the same for a server that was writable when this fencer found it; 0: 10 s.
	AdoptGrace time.Duration
	// IdleExit ends a fencer that has neither agent nor server nor token for so long; 0: 60 s.
	IdleExit time.Duration
	// ScanOnly leaves cgroups alone.
	ScanOnly bool
	// OOMScore is the oom_score_adj that the server gets back; empty: that of this process.
	OOMScore string
	// NoSecond does without the second process. The death of the fencer is then a hole in the
	// time fence until the agent has started another.
	NoSecond bool
	// Log may be nil.
	Log *slog.Logger
}

const (
	defaultUnarmedGrace = time.Second
	// defaultAdoptGrace bounds how long an adopted writable server may run on without a token.
	// After the death of a fencer the next one restores the token from its file, so this grace
	// is not what a running primary lives by. It is for a server that nobody ever armed: one
	// started by hand or by another manager. 10 s is one default ttl: time for an agent to
	// start, connect and prove ownership or set PolicyObserve, but an end to a writer whose
	// owner cannot prove anything; such a server must not run on for ever.
	defaultAdoptGrace = 10 * time.Second
	defaultIdleExit   = 60 * time.Second

	lockPatience = 2 * time.Second
	lockRetry    = 10 * time.Millisecond
	tidyEvery    = 1024
)

// errTaken: another fencer holds the run directory.
var errTaken = errors.New("another fencer serves this run directory")

// running is the postmaster at hand.
type running struct {
	pid     int
	pidfd   int
	start   int64 // clock ticks since boot
	since   time.Time
	child   *child // nil if adopted
	adopted bool
	// adoptedAt on CLOCK_BOOTTIME; foundWritable: it was writable at the first look after that.
	adoptedAt     time.Duration
	looked        bool
	foundWritable bool

	primary, promoted bool
	known             bool // primary and promoted are facts, not defaults
	control           string
	cgroup            *serverCgroup
	exeDev, exeIno    uint64

	writableSince time.Duration // first seen writable without a token; 0: not
	observed      bool          // EventObserved has been sent
	condemned     bool          // about to be killed for it
	exitTold      bool          // EventExited has been sent
}

// server is the fencer process.
//
// Locks: opMu is held through start, promote, disarm and kill, which may wait for the disk. wire.mu
// is held while the fence on the wire and the token change together. mu guards the fields below it
// and is never held across anything that can block. They are taken in this order, and the deadline
// thread takes none.
type server struct {
	opts ServerOptions
	own  owner
	log  *slog.Logger
	boot string
	oom  []byte // oom_score_adj before harden

	lock     *os.File // held from the start: there is one fencer
	ready    *os.File // held from when token and server are taken over
	dir      *os.File
	listener *net.UnixListener

	sh      *shared
	shFD    int
	watch   *watcher
	wire    wireFence
	reap    *reaper
	groups  *cgroups
	second  *second
	scanMu  sync.Mutex
	scan    *scanner
	saveMu  sync.Mutex
	dirty   chan struct{}
	wake    chan struct{} // for the guard of unarmed servers
	quit    chan struct{}
	inits   bool
	handled atomic.Uint64

	opMu sync.Mutex

	mu          sync.Mutex
	d           durable
	srv         *running
	starting    int // starts read and not done
	policyBy    *agentConn
	policyID    uint64 // of the request that set the policy
	agent       *agentConn
	idleSince   time.Duration
	stateLost   bool
	lastExitPid int
	lastExit    ExitStatus
	problems    []string
	saveProblem string
	downCh      chan struct{} // closed and replaced at the end of each down procedure
	staleGroups []string
	quitting    bool
}

// Run serves as the fencer of a run directory until Shutdown, or until it has been idle for
// IdleExit, or ctx ends. It leaves a running PostgreSQL alone. It takes the process over: see the
// package comment. If another fencer serves the directory it returns nil at once.
func Run(ctx context.Context, opts ServerOptions) error {
	s, err := newServer(opts)
	if errors.Is(err, errTaken) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fencer: %w", err)
	}
	return s.serve(ctx)
}

func newServer(opts ServerOptions) (*server, error) {
	prepareRuntime()
	setDefault(&opts.UnarmedGrace, defaultUnarmedGrace)
	setDefault(&opts.AdoptGrace, defaultAdoptGrace)
	setDefault(&opts.IdleExit, defaultIdleExit)
	opts.Dir, opts.DataDir = absolute(opts.Dir), absolute(opts.DataDir)
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s := &server{
		opts: opts, own: owner{uid: opts.UID, gid: opts.GID}, log: opts.Log,
		reap: newReaper(), groups: &cgroups{}, idleSince: Now(),
		dirty: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		quit: make(chan struct{}), downCh: make(chan struct{}),
	}
	// What this process inherited by somebody's mistake is not for the server to inherit.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		s.problems = append(s.problems, fmt.Sprintf("close-on-exec: %v", err))
	}
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("new session: %w", err) // EPERM: it has one already
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		s.problems = append(s.problems, fmt.Sprintf("child subreaper: %v", err))
	}
	var err error
	if s.lock, err = s.takeLock(lockName); err != nil {
		return nil, err
	}
	if err := keepWireRight(); err != nil {
		return nil, err
	}
	if s.opts.OOMScore == "" {
		score, _ := os.ReadFile("/proc/self/oom_score_adj")
		s.opts.OOMScore = strings.TrimSpace(string(score))
	}
	s.oom = []byte(s.opts.OOMScore)
	s.problems = append(s.problems, harden()...)
	favourOtherThreads()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	return s, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// takeLock opens a lock file of the run directory and locks it. The one who held it may be dying
// just now, and a second process looks at the ready lock by taking it for an instant, hence the
// patience.
func (s *server) takeLock(name string) (*os.File, error) {
	var f *os.File
	err := s.own.do(func() error {
		var err error
		f, err = os.OpenFile(filepath.Join(s.opts.Dir, name), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for until := Now() + lockPatience; ; nap(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), f.Close())
		}
		if Now() > until {
			return nil, errors.Join(errTaken, f.Close())
		}
	}
}

// prepare builds the parts. The deadline thread begins when it knows token and server: a deadline
// that has passed must find something to strike. Until then, and even if a disk holds this up, the
// second of the fencer before keeps watch; the ready lock relieves it. The socket comes last, so
// nothing is renewed before.
func (s *server) prepare() error {
	var err error
	if s.boot, err = bootID(); err != nil {
		return err
	}
	if s.sh, s.shFD, err = newShared(); err != nil {
		return err
	}
	s.sh.spare[spareFencer].Store(int64(os.Getpid()))
	s.sh.uid.Store(int64(s.serverUID()))
	if s.scan, err = newScanner(s.sh); err != nil {
		return err
	}
	if s.watch, err = newWatcher(s.sh); err != nil {
		return err
	}
	s.findGroups()
	s.restore()
	s.adopt()
	s.wire.recall(s)
	go s.watch.run()
	<-s.watch.ready
	s.problems = append(s.problems, s.watch.problems...)
	if s.ready, err = s.takeLock(readyName); err != nil {
		return err
	}
	return s.listen()
}

func (s *server) serverUID() int {
	if s.own.foreign() {
		return s.own.uid
	}
	return os.Geteuid()
}

func (s *server) findGroups() {
	if s.opts.ScanOnly {
		return
	}
	groups, err := findCgroups()
	if err != nil {
		s.problems = append(s.problems, err.Error())
	}
	s.groups = groups
}

func (s *server) listen() error {
	err := s.own.do(func() error {
		var err error
		if s.dir, err = os.Open(s.opts.Dir); err != nil {
			return err
		}
		path := socketPath(s.dir)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		s.listener.SetUnlinkOnClose(false)
		// The run directory is 0700, so nobody slips in before this.
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// serve runs until quit or the end of ctx.
func (s *server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	parts := []func(context.Context){s.accept, s.saver, s.guard}
	if !s.opts.NoSecond {
		s.second = newSecond(s)
		parts = append(parts, s.second.run)
	}
	for _, part := range parts {
		wg.Go(func() { part(ctx) })
	}
	s.log.Info("fencer is ready", slog.Any("state", s.state()))
	s.loop(ctx)
	s.sh.leaving.Store(true)
	s.closeAgent("fencer exits")
	cancel()
	_ = s.listener.Close()
	wg.Wait()
	s.watch.halt()
	s.removeStaleGroups()
	s.wire.close()
	err := s.own.do(func() error { return os.Remove(socketPath(s.dir)) })
	return errors.Join(err, s.dir.Close(), s.ready.Close(), s.lock.Close())
}

// loop deals with what the deadline thread and the kernel tell. Nothing in it waits for the disk.
func (s *server) loop(ctx context.Context) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGPIPE)
	if !s.inits { // else they are the agent's
		signal.Notify(signals, agentSignals()...)
	}
	defer signal.Stop(signals)
	s.reap.reap()
	look := time.NewTimer(s.lookAfter())
	defer look.Stop()
	for {
		select {
		case n := <-s.watch.notes:
			s.handle(n)
		case sig := <-signals:
			switch {
			case sig == syscall.SIGCHLD:
				s.reap.reap()
			case (sig == syscall.SIGTERM || sig == syscall.SIGINT) && !s.inits && s.idle():
				return
			default:
				s.log.Info("signal ignored", slog.String("signal", sig.String()))
			}
		case <-look.C:
			s.removeStaleGroups()
			if !s.inits && s.idleFor() > s.opts.IdleExit {
				s.log.Info("fencer is idle and exits")
				return
			}
			look.Reset(s.lookAfter())
		case <-s.quit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// removeStaleGroups tries again where a killed process in uninterruptible sleep held a cgroup.
func (s *server) removeStaleGroups() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staleGroups = slices.DeleteFunc(s.staleGroups, func(path string) bool { return removeCgroup(path) == nil })
}

func (s *server) lingering() []int {
	if p := s.watch.lingering.Load(); p != nil {
		return *p
	}
	return nil
}

func (r downReason) String() string {
	switch r {
	case reasonExit:
		return "the postmaster exited"
	case reasonDeadline:
		return "the deadline passed"
	case reasonUnarmed:
		return "writable without a token"
	case reasonAsked:
		return "asked for"
	case reasonOrphans:
		return "processes without a postmaster were found"
	default:
		return "none"
	}
}

// tidy collects garbage at a moment when the deadline is far; see prepareRuntime.
func (s *server) tidy() {
	if s.handled.Add(1)%tidyEvery != 0 {
		return
	}
	if s.sh.state() == stateIdle || s.sh.state() == stateArmed && s.sh.remaining() > time.Second {
		collectGarbage()
	}
}
