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
	// victims are the processes killed in this down procedure.
	victims []victim
	visit   func(pid int)
	stat    unix.Stat_t
}

const maxPid = 1 << 22 // PID_MAX_LIMIT on 64 bit

func newScanner(sh *shared) (*scanner, error) {
	proc, err := openProcfs()
	if err != nil {
		return nil, err
	}
	s := &scanner{
		sh:      sh,
		proc:    proc,
		found:   make([]process, 0, 4096),
		all:     make([]process, 0, 16384),
		ours:    make([]uint64, maxPid/64),
		victims: make([]victim, 0, 4096),
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
// means the same one, and remembers it until it is gone: a descendant outside the data directory
// is not found again once its parent is dead, and a process that has let go of its directory is
// not quite gone yet. It returns false if the kernel forbids it.
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
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == unix.EPERM {
		_ = unix.Close(fd)
		return false
	}
	if len(s.victims) == cap(s.victims) {
		_ = unix.Close(fd) // the next scan finds it, if it stands in the data directory
		return true
	}
	s.victims = append(s.victims, victim{pid: p.pid, pidfd: fd})
	return true
}

func (s *scanner) same(p process) bool {
	if p.byCwd {
		return s.cwdMatches(p.pid)
	}
	st, ok := s.proc.statLine(p.pid)
	return ok && (st.ppid == p.ppid || st.ppid == 1 || s.spared(st.ppid))
}

// victim is a killed process that may not be dead yet.
type victim struct{ pid, pidfd int }

// bury drops the victims that are dead.
func (s *scanner) bury() {
	kept := s.victims[:0]
	for _, v := range s.victims {
		if exited(v.pidfd, 0) {
			_ = unix.Close(v.pidfd)
			continue
		}
		kept = append(kept, v)
	}
	s.victims = kept
}

func (s *scanner) isVictim(pid int) bool {
	for _, v := range s.victims {
		if v.pid == pid {
			return true
		}
	}
	return false
}

// release forgets the victims at the end of a down procedure: only stuck ones are left.
func (s *scanner) release() {
	for _, v := range s.victims {
		_ = unix.Close(v.pidfd)
	}
	s.victims = s.victims[:0]
}

// stuck says that a killed process sits in uninterruptible sleep. It will never again execute an
// instruction in user mode, so it is silent; but it still holds files, so nothing may be started.
func (s *scanner) stuck(pid int) bool {
	st, ok := s.proc.statLine(pid)
	if !ok || st.state != 'D' {
		return false
	}
	_, pending := s.proc.statusFields(pid)
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
