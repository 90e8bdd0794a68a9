package fencer

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	standbySignal = "standby.signal"
	promoteFile   = "promote"
)

// start starts a postmaster. Writable only with a token, checked as the last thing before the
// process is made and once more after.
func (s *server) start(spec StartSpec) (int, error) {
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if err := s.mayStart(spec); err != nil {
		return 0, err
	}
	if err := s.prepareDataDir(spec); err != nil {
		return 0, err
	}
	s.setEndpoint(spec.Wire, true)
	r, err := s.newRunning(spec)
	if err != nil {
		return 0, err
	}
	if err := s.fork(spec, r); err != nil {
		s.abandon(r)
		return 0, err
	}
	s.own.warn(s.log, resetOOM(r.pid, s.oom))
	s.identify(r)
	s.adoptRunning(r)
	// The deadline may have passed between the check and now, and its strike may have scanned
	// /proc just before the process was there.
	if spec.Primary && s.checkToken(spec.Epoch) != nil || s.sh.state() == stateStruck {
		s.watch.ask(reasonAsked)
	}
	_ = s.save() // a failure shows in State.Problems
	s.log.Info("postmaster started", slog.Int("pid", r.pid), slog.Bool("primary", spec.Primary))
	return r.pid, nil
}

// mayStart refuses while anything of the data directory lives.
func (s *server) mayStart(spec StartSpec) error {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv != nil {
		return fmt.Errorf("%w: postmaster %d", ErrRunning, srv.pid)
	}
	if s.watch.busy() {
		return ErrBusy
	}
	if spec.Primary {
		if err := s.checkToken(spec.Epoch); err != nil {
			return err
		}
	}
	dev, ino, err := dataDirID(s.opts.DataDir)
	if err != nil {
		return err
	}
	s.sh.dataDev.Store(dev)
	s.sh.dataIno.Store(ino)
	if pids := s.living(); len(pids) > 0 {
		return fmt.Errorf("%w: %v", ErrOrphans, pids)
	}
	return nil
}

// living are the processes of the data directory, those in uninterruptible sleep included.
func (s *server) living() []int {
	s.scanMu.Lock()
	defer s.scanMu.Unlock()
	found, err := s.scan.scan()
	if err != nil {
		return []int{-1}
	}
	var pids []int
	for _, p := range found {
		pids = append(pids, p.pid)
	}
	return pids
}

// prepareDataDir decides, on disk, what the server will be.
func (s *server) prepareDataDir(spec StartSpec) error {
	signal := filepath.Join(s.opts.DataDir, standbySignal)
	if spec.Primary {
		if err := s.own.removeDurably(signal); err != nil {
			return fmt.Errorf("remove %s: %w", standbySignal, err)
		}
	} else if err := s.own.createDurably(signal); err != nil {
		return fmt.Errorf("write %s: %w", standbySignal, err)
	}
	// PostgreSQL removes a promotion request of an earlier life as well; here it is certain for
	// every version.
	if err := s.own.removeDurably(filepath.Join(s.opts.DataDir, promoteFile)); err != nil {
		return fmt.Errorf("remove promotion request: %w", err)
	}
	return s.removeStalePidFile()
}

// removeStalePidFile removes postmaster.pid if the process id in it is now somebody else's.
// PostgreSQL would refuse to start then: in a container the same small numbers come back after
// every restart. No process of the data directory lives (mayStart has looked), and while the
// number is in use no other postmaster can have replaced the file, so it is the file that was read.
func (s *server) removeStalePidFile() error {
	path := filepath.Join(s.opts.DataDir, "postmaster.pid")
	f, err := readPidFile(path)
	if err != nil {
		return nil //nolint:nilerr // none, or nothing that can be judged: PostgreSQL will say
	}
	if unix.Kill(f.pid, 0) == unix.ESRCH {
		return nil // PostgreSQL finds that out itself
	}
	s.log.Info("removing postmaster.pid of another process", slog.Int("pid", f.pid))
	if err := s.own.removeDurably(path); err != nil {
		return fmt.Errorf("remove stale postmaster.pid: %w", err)
	}
	return nil
}

// newRunning makes the record of the server to be, and writes it down before the server exists: a
// fencer that dies in between leaves to the next one what it was about to do.
func (s *server) newRunning(spec StartSpec) (*running, error) {
	r := &running{pidfd: -1, primary: spec.Primary, known: true}
	c, err := readControl(s.opts.DataDir)
	switch {
	case err == nil:
		r.control = c.digest
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if s.groups.usable() {
		if r.cgroup, err = s.groups.fresh(); err != nil {
			s.log.Warn("no cgroup for this start", slog.String("error", err.Error()))
		}
	}
	s.mu.Lock()
	s.d.Server = r.durable()
	s.mu.Unlock()
	_ = s.save() // a failure shows in State.Problems
	return r, nil
}

func (r *running) durable() *durableServer {
	d := &durableServer{
		Pid: r.pid, Start: r.start, Primary: r.primary, Promoted: r.promoted,
		Control: r.control, ExeDev: r.exeDev, ExeIno: r.exeIno,
	}
	if r.cgroup != nil {
		d.Cgroup = r.cgroup.path
	}
	return d
}

func (s *server) abandon(r *running) {
	s.mu.Lock()
	s.d.Server = nil
	s.sh.setCgroup("")
	if r.cgroup != nil {
		r.cgroup.close()
		s.staleGroups = append(s.staleGroups, r.cgroup.path)
	}
	s.mu.Unlock()
	s.saveSoon()
}

// fork makes the process: a session, the user and a cgroup of its own, and the data directory as
// working directory from the first instant, so that a scan finds it.
func (s *server) fork(spec StartSpec, r *running) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer func() { _ = null.Close() }()
	out := os.Stderr.Fd()
	if spec.LogFile != "" {
		log, err := s.own.openLog(spec.LogFile)
		if err != nil {
			return fmt.Errorf("start server: %w", err)
		}
		defer func() { _ = log.Close() }()
		out = log.Fd()
	}
	env := spec.Env
	if env == nil {
		env = os.Environ()
	}
	attr := func() *syscall.ProcAttr {
		return &syscall.ProcAttr{
			Dir: s.opts.DataDir, Env: env, Files: []uintptr{null.Fd(), out, out},
			Sys: &syscall.SysProcAttr{Setsid: true, Credential: s.own.credential()},
		}
	}
	if r.cgroup != nil {
		s.sh.setCgroup(r.cgroup.path)
		a := attr()
		a.Sys.UseCgroupFD, a.Sys.CgroupFD = true, int(r.cgroup.dir.Fd())
		if done, err := s.forkChecked(spec, a, r); done {
			return err
		}
		s.log.Warn("start into a cgroup failed, going without", slog.String("cgroup", r.cgroup.path))
		s.sh.setCgroup("")
		r.cgroup.close()
		s.own.warn(s.log, removeCgroup(r.cgroup.path))
		r.cgroup = nil
	}
	_, err = s.forkChecked(spec, attr(), r)
	return err
}

// forkChecked looks at the token last. Done is false if the failure may be the cgroup's, so that
// another attempt without it makes sense.
func (s *server) forkChecked(spec StartSpec, attr *syscall.ProcAttr, r *running) (done bool, err error) {
	if spec.Primary {
		if err := s.checkToken(spec.Epoch); err != nil {
			return true, err
		}
	}
	c, err := s.reap.start(spec.Bin, spec.Args, attr)
	if err != nil {
		missing := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOEXEC)
		return missing || !attr.Sys.UseCgroupFD, err
	}
	r.child, r.pid, r.pidfd = c, c.pid, c.pidfd
	r.since = time.Now()
	return true, nil
}

// identify adds what can be read of a process that runs.
func (s *server) identify(r *running) {
	if start, err := processStart(r.pid); err == nil {
		r.start = start
	}
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(r.pid)+"/exe", &st) == nil {
		r.exeDev, r.exeIno = st.Dev, st.Ino
	}
}

// adoptRunning makes a process the server at hand and gives it to the deadline thread.
func (s *server) adoptRunning(r *running) {
	s.mu.Lock()
	s.srv = r
	s.d.Server = r.durable()
	s.sh.exeDev.Store(r.exeDev)
	s.sh.exeIno.Store(r.exeIno)
	s.sh.postmaster.Store(int64(r.pid))
	group := noGroup()
	if r.cgroup != nil {
		group = r.cgroup.fds
		s.sh.setCgroup(r.cgroup.path)
	}
	s.mu.Unlock()
	s.watch.watch(r.pidfd, group)
	s.wakeGuard()
}

// promote writes the request that PostgreSQL looks for, and signals. The token is checked before
// the request is written, because any SIGUSR1 that the postmaster gets from its own children lets
// it find the request; and again after, because writing may have waited for the disk. If the
// deadline passed meanwhile the server is being killed, and the request is taken back.
func (s *server) promote(epoch uint64) error {
	s.opMu.Lock()
	defer s.opMu.Unlock()
	if err := s.checkToken(epoch); err != nil {
		return err
	}
	s.mu.Lock()
	r := s.srv
	if r != nil {
		r.promoted = true
		s.d.Server = r.durable()
	}
	s.mu.Unlock()
	if r == nil {
		return ErrNotRunning
	}
	// Known to the next fencer before it is true.
	_ = s.save() // a failure shows in State.Problems
	path := filepath.Join(s.opts.DataDir, promoteFile)
	if err := s.checkToken(epoch); err != nil {
		return err
	}
	err := s.own.do(func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return fmt.Errorf("request promotion: %w", err)
	}
	if err := s.checkToken(epoch); err != nil {
		return errors.Join(err, s.own.removeDurably(path))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != r {
		return ErrNotRunning
	}
	if err := unix.PidfdSendSignal(r.pidfd, unix.SIGUSR1, nil, 0); err != nil {
		return fmt.Errorf("request promotion: %w", err)
	}
	s.log.Info("promotion requested", slog.Uint64("epoch", epoch), slog.Int("pid", r.pid))
	return nil
}

// notWritable proves that the running server, if any, cannot be written to. Callers hold opMu.
func (s *server) notWritable() error {
	s.mu.Lock()
	r := s.srv
	s.mu.Unlock()
	if r == nil {
		if s.watch.busy() {
			return ErrBusy
		}
		return nil
	}
	if r.primary || r.promoted {
		return fmt.Errorf("%w: postmaster %d was started or promoted to be", ErrWritable, r.pid)
	}
	c, err := readControl(s.opts.DataDir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWritable, err)
	}
	if c.writableSince(r.control, r.since) {
		return fmt.Errorf("%w: pg_control says in production", ErrWritable)
	}
	if !r.known {
		// Nobody knows how it was started; only recovery that has begun is a proof, and
		// standby.signal that it does not end by itself.
		_, err := os.Stat(filepath.Join(s.opts.DataDir, standbySignal))
		if err != nil || c.production {
			return fmt.Errorf("%w: postmaster %d was not started here", ErrWritable, r.pid)
		}
	}
	return nil
}

// kill runs the down procedure and waits for its end, or until the one who asked is gone.
func (s *server) kill(gone <-chan struct{}) error {
	s.opMu.Lock()
	defer s.opMu.Unlock()
	s.mu.Lock()
	none := s.srv == nil
	s.mu.Unlock()
	if none {
		dev, ino, err := dataDirID(s.opts.DataDir)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		s.sh.dataDev.Store(dev)
		s.sh.dataIno.Store(ino)
	}
	s.watch.ask(reasonAsked)
	for {
		s.mu.Lock()
		end := s.downCh
		busy := s.watch.busy()
		s.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-end:
		case <-gone:
			return ErrClosed
		}
	}
}

func (o owner) warn(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("not done", slog.String("error", err.Error()))
	}
}
