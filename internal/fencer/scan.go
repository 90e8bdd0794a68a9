package fencer

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// process is one that belongs to the server.
type process struct {
	pid, ppid int
	state     byte
	// byCwd: found by its working directory, so it will be found again while it lives. A
	// descendant that went elsewhere is known only through its parent.
	byCwd bool
}

// scanner finds the processes of one server: those whose working directory is the data directory
// (every process of PostgreSQL stays there, and so do the commands that it runs), and their
// descendants. The parent alone would not do: each backend has a session of its own, and once the
// postmaster is dead its parent is whoever reaps (safety review, hole 7).
type scanner struct {
	sh    *shared
	proc  *procfs
	found []process
	all   []process
	ours  []uint64 // bitmap of process ids
	far   []farProcess
	visit func(pid int)
	stat  unix.Stat_t
}

const maxPid = 1 << 22 // PID_MAX_LIMIT on 64 bit

func newScanner(sh *shared) (*scanner, error) {
	proc, err := openProcfs()
	if err != nil {
		return nil, err
	}
	s := &scanner{
		sh:    sh,
		proc:  proc,
		found: make([]process, 0, 4096),
		all:   make([]process, 0, 16384),
		ours:  make([]uint64, maxPid/64),
		far:   make([]farProcess, 0, 256),
	}
	s.visit = s.look
	return s, nil
}

// scan returns the living processes of the server. The slice is valid until the next scan.
func (s *scanner) scan() ([]process, error) {
	for _, p := range s.found {
		s.mark(p.pid, false)
	}
	s.found, s.all = s.found[:0], s.all[:0]
	if s.sh.dataIno.Load() == 0 {
		return nil, nil
	}
	if err := s.proc.each(s.visit); err != nil {
		return nil, err
	}
	s.addDescendants()
	return s.found, nil
}

func (s *scanner) look(pid int) {
	if s.spared(pid) {
		return
	}
	st, ok := s.proc.statLine(pid)
	if !ok || st.dead() {
		return
	}
	p := process{pid: pid, ppid: st.ppid, state: st.state}
	if s.cwdMatches(pid) && s.isServer(pid, st) {
		p.byCwd = true
		s.found = append(s.found, p)
		s.mark(pid, true)
		return
	}
	s.all = append(s.all, p)
}

func (s *scanner) addDescendants() {
	for changed := true; changed; {
		changed = false
		for i := range s.all {
			p := &s.all[i]
			if p.pid != 0 && s.marked(p.ppid) {
				s.found = append(s.found, *p)
				s.mark(p.pid, true)
				p.pid = 0
				changed = true
			}
		}
	}
}

func (s *scanner) cwdMatches(pid int) bool {
	return s.proc.stat(pid, "/cwd", &s.stat) &&
		s.stat.Ino == s.sh.dataIno.Load() && s.stat.Dev == s.sh.dataDev.Load()
}

// isServer tells the server's processes from an administrator who stands in the data directory:
// the server's program always counts; something else does not if it has a terminal or another
// user. Where a fact cannot be read, it counts as the server's.
func (s *scanner) isServer(pid int, st procStat) bool {
	if s.runsServerProgram(pid) {
		return true
	}
	if st.tty {
		return false
	}
	want := s.sh.uid.Load()
	if want <= 0 {
		return true
	}
	uid, _ := s.proc.statusFields(pid)
	return uid < 0 || int64(uid) == want
}

// runsServerProgram compares the executable with that of the known server, or by name if there
// has been none yet.
func (s *scanner) runsServerProgram(pid int) bool {
	if ino := s.sh.exeIno.Load(); ino != 0 {
		if s.proc.stat(pid, "/exe", &s.stat) && s.stat.Ino == ino && s.stat.Dev == s.sh.exeDev.Load() {
			return true
		}
	}
	return isPostgresName(s.proc.readlink(pid, "/exe"))
}

func isPostgresName(exe []byte) bool {
	exe = bytes.TrimSuffix(exe, []byte(" (deleted)"))
	base := exe[bytes.LastIndexByte(exe, '/')+1:]
	return bytes.Equal(base, []byte("postgres")) || bytes.Equal(base, []byte("postmaster"))
}

func (s *scanner) spared(pid int) bool {
	for i := range s.sh.spare {
		if s.sh.spare[i].Load() == int64(pid) {
			return true
		}
	}
	return false
}

func (s *scanner) mark(pid int, on bool) {
	if pid <= 0 || pid >= maxPid {
		return
	}
	if on {
		s.ours[pid/64] |= 1 << (pid % 64)
	} else {
		s.ours[pid/64] &^= 1 << (pid % 64)
	}
}

func (s *scanner) marked(pid int) bool {
	return pid > 0 && pid < maxPid && s.ours[pid/64]&(1<<(pid%64)) != 0
}

// kill sends SIGKILL to a process that was found, after making sure that the process id still
// means the same one. It returns false if the kernel forbids it. A descendant outside the data
// directory cannot be found a second time once its parent is dead, so it is remembered until it
// is gone.
func (s *scanner) kill(p process) bool {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		if err == unix.ESRCH || err == unix.EINVAL {
			return true
		}
		// No descriptor left: a signal by number is better than none. The number was valid a
		// moment ago.
		return unix.Kill(p.pid, unix.SIGKILL) != unix.EPERM
	}
	if !s.same(p) {
		_ = unix.Close(fd)
		return true
	}
	forbidden := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == unix.EPERM
	if p.byCwd || forbidden || len(s.far) == cap(s.far) {
		_ = unix.Close(fd)
	} else {
		s.far = append(s.far, farProcess{pid: p.pid, pidfd: fd})
	}
	return !forbidden
}

func (s *scanner) same(p process) bool {
	if p.byCwd {
		return s.cwdMatches(p.pid)
	}
	st, ok := s.proc.statLine(p.pid)
	return ok && (st.ppid == p.ppid || st.ppid == 1 || s.spared(st.ppid))
}

// farProcess is a killed descendant that may not be dead yet.
type farProcess struct{ pid, pidfd int }

// farAlive counts the remembered descendants that are neither gone nor stuck.
func (s *scanner) farAlive() int {
	alive := 0
	kept := s.far[:0]
	for _, f := range s.far {
		st, ok := s.proc.statLine(f.pid)
		switch {
		case exited(f.pidfd, 0) || !ok:
			_ = unix.Close(f.pidfd)
			continue
		case s.stuck(process{pid: f.pid, state: st.state}):
		default:
			alive++
		}
		kept = append(kept, f)
	}
	s.far = kept
	return alive
}

// forgetFar drops the stuck ones at the end of a down procedure.
func (s *scanner) forgetFar() {
	for _, f := range s.far {
		_ = unix.Close(f.pidfd)
	}
	s.far = s.far[:0]
}

// stuck says that a killed process sits in uninterruptible sleep. It will never again execute an
// instruction in user mode, so it is silent; but it still holds files, so nothing may be started.
func (s *scanner) stuck(p process) bool {
	if p.state != 'D' {
		return false
	}
	_, pending := s.proc.statusFields(p.pid)
	return pending
}

// dataDirID is the identity of a data directory: two names may lead to it.
func dataDirID(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("data directory: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return st.Dev, st.Ino, nil
}
