package fencer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// restore takes over what the fencer before left: the token first of all. A deadline that passed
// while no fencer ran is armed like any other, and the deadline thread strikes at once.
func (s *server) restore() {
	d, found, err := loadDurable(s.opts.Dir, s.boot)
	if err != nil {
		// Unreadable is like absent: the agent waits out promises, and a writable server is
		// killed after the grace for adopted ones.
		s.problems = append(s.problems, err.Error())
	}
	s.d, s.stateLost = d, !found
	if !found {
		s.d.LostAt = Now()
	}
	s.sh.obey(d.Policy, d.PolicyUntil)
	if d.Armed {
		s.sh.arm(d.Token.Until, d.UntilRaw)
		s.log.Info("token restored", slog.Uint64("epoch", d.Token.Epoch), slog.Duration("left", s.sh.remaining()))
	}
}

// adopt finds a server that runs already, or what a dead postmaster left.
func (s *server) adopt() {
	dev, ino, err := dataDirID(s.opts.DataDir)
	if err != nil {
		return // nothing can run in a directory that is not there
	}
	s.sh.dataDev.Store(dev)
	s.sh.dataIno.Store(ino)
	last := s.d.Server
	if last != nil {
		s.sh.exeDev.Store(last.ExeDev)
		s.sh.exeIno.Store(last.ExeIno)
	}
	r := s.findPostmaster(last)
	if r == nil {
		if last != nil && last.Cgroup != "" {
			s.staleGroups = append(s.staleGroups, last.Cgroup)
		}
		s.d.Server = nil
		s.killOrphans()
		return
	}
	s.recall(r, last)
	if s.sh.state() == stateIdle && !r.promoted {
		// A promotion request that nobody carried out yet must not be found by chance.
		s.own.warn(s.log, s.own.removeDurably(filepath.Join(s.opts.DataDir, promoteFile)))
	}
	s.log.Info("postmaster adopted", slog.Int("pid", r.pid), slog.Bool("known", r.known),
		slog.Bool("primary", r.primary), slog.Bool("promoted", r.promoted))
	s.adoptRunning(r)
}

// recall completes an adopted server with what the fencer before wrote down. A server that was
// just being started (no pid yet) is taken to be that one.
func (s *server) recall(r *running, last *durableServer) {
	r.adopted, r.adoptedAt = true, Now()
	s.identify(r)
	if last == nil || last.Pid != 0 && (last.Pid != r.pid || last.Start != r.start) {
		return
	}
	r.known = true
	r.primary, r.promoted, r.control = last.Primary, last.Promoted, last.Control
	if last.Cgroup == "" || !inCgroup(r.pid, last.Cgroup) {
		return
	}
	group, err := openCgroup(last.Cgroup)
	if err != nil {
		s.problems = append(s.problems, err.Error())
		return
	}
	r.cgroup = group
}

// findPostmaster looks first for the process that was written down, then for the one that
// postmaster.pid names (one started by hand or by another manager).
func (s *server) findPostmaster(last *durableServer) *running {
	if last != nil && last.Pid != 0 {
		if start, err := processStart(last.Pid); err == nil && start == last.Start {
			if r := s.openPostmaster(last.Pid); r != nil {
				return r
			}
		}
	}
	f, err := readPidFile(filepath.Join(s.opts.DataDir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	// The file is written right after the start. A process that began later got the number anew.
	began, err := startTime(f.pid)
	if err != nil || began.After(f.started.Add(2*time.Second)) {
		return nil
	}
	return s.openPostmaster(f.pid)
}

// openPostmaster takes hold of a process and then makes sure that it is the server's, so that the
// process id cannot change its meaning in between.
func (s *server) openPostmaster(pid int) *running {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	s.scanMu.Lock()
	ours := s.scan.cwdMatches(pid) && s.scan.runsServerProgram(pid)
	s.scanMu.Unlock()
	began, err := startTime(pid)
	if !ours || err != nil || exited(pidfd, 0) {
		_ = unix.Close(pidfd)
		return nil
	}
	return &running{pid: pid, pidfd: pidfd, since: began}
}

// killOrphans silences the backends of a postmaster that died while no fencer ran: they may still
// acknowledge. A server program with a living parent outside (initdb, pg_rewind, somebody's single
// user session) is none of them and stays; it only stands in the way of a start.
func (s *server) killOrphans() {
	s.scanMu.Lock()
	defer s.scanMu.Unlock()
	found, err := s.scan.scan()
	if err != nil {
		s.problems = append(s.problems, err.Error())
		return
	}
	self := os.Getpid()
	for _, p := range found {
		orphan := p.ppid == 1 || p.ppid == self
		if p.byCwd && orphan && s.scan.runsServerProgram(p.pid) {
			s.log.Warn("orphan of a dead postmaster found", slog.Int("pid", p.pid))
			s.watch.ask(reasonOrphans)
			return
		}
	}
}

// pidFile is the head of postmaster.pid: process id, data directory, start time.
type pidFile struct {
	pid     int
	started time.Time
}

func readPidFile(path string) (pidFile, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return pidFile{}, fmt.Errorf("postmaster.pid: %w", err)
	}
	return parsePidFile(content)
}

func parsePidFile(content []byte) (pidFile, error) {
	lines := bytes.Split(content, []byte{'\n'})
	if len(lines) < 3 {
		return pidFile{}, errors.New("postmaster.pid: fewer than three lines")
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(lines[0])))
	if err != nil || pid == 0 {
		return pidFile{}, fmt.Errorf("postmaster.pid: process id %q", lines[0])
	}
	if pid < 0 {
		// A minus sign marks a stand-alone backend.
		return pidFile{}, errors.New("postmaster.pid: a stand-alone backend")
	}
	secs, err := strconv.ParseInt(string(bytes.TrimSpace(lines[2])), 10, 64)
	if err != nil {
		return pidFile{}, fmt.Errorf("postmaster.pid: start time %q", lines[2])
	}
	return pidFile{pid: pid, started: time.Unix(secs, 0)}, nil
}

// startTime of a process on the wall clock, exact to a clock tick as long as nobody set the clock.
func startTime(pid int) (time.Time, error) {
	ticks, err := processStart(pid)
	if err != nil {
		return time.Time{}, err
	}
	const ticksPerSecond = 100 // USER_HZ, the same on every architecture that Go runs on
	age := Now() - time.Duration(ticks)*time.Second/ticksPerSecond
	return time.Now().Add(-age), nil
}
