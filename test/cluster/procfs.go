package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process as /proc shows it. PID and Start together name it for ever; a PID alone
// may be another process a moment later.
type Process struct {
	PID, PPID int
	Start     uint64 // clock ticks after boot
	State     byte   // R S D T t Z X
	Comm      string
	Args      []string
	CWD       string
}

func (p Process) String() string {
	return fmt.Sprintf("%d %c %.120s", p.PID, p.State, strings.Join(p.Args, " "))
}

// readProcess reads one process. A process that ends while it is read gives fs.ErrNotExist.
func readProcess(pid int) (Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			err = fs.ErrNotExist
		}
		return Process{}, err
	}
	p, err := parseStat(stat)
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	// Kernel threads, zombies and other users' processes have no readable arguments: empty is right.
	if args, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(args) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
	}
	p.CWD, _ = os.Readlink(filepath.Join(dir, "cwd"))
	return p, nil
}

// parseStat reads /proc/PID/stat. The command may contain blanks and brackets: it ends at the last
// closing bracket.
func parseStat(stat []byte) (Process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("stat without a command: %q", stat)
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("stat too short: %q", stat)
	}
	pid, err1 := strconv.Atoi(string(bytes.TrimSpace(stat[:open])))
	ppid, err2 := strconv.Atoi(string(fields[1]))
	start, err3 := strconv.ParseUint(string(fields[19]), 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Process{}, fmt.Errorf("stat: %w", err)
	}
	return Process{PID: pid, PPID: ppid, Start: start, State: fields[0][0], Comm: string(stat[open+1 : end])}, nil
}

// processes lists every live process of the machine. Zombies are dead: they are left out.
func processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p, err := readProcess(pid)
		if err != nil || p.dead() {
			continue // gone while we read
		}
		all = append(all, p)
	}
	return all, nil
}

func (p Process) dead() bool { return p.State == 'Z' || p.State == 'X' }

// Alive is true while this very process, not a later one of the same id, can still run.
func (p Process) Alive() bool {
	now, err := readProcess(p.PID)
	return err == nil && now.Start == p.Start && !now.dead()
}

// Stopped is true when every thread of the process is stopped: only then does nothing of it run.
func (p Process) Stopped() bool {
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.PID), "task"))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "task", task.Name(), "stat"))
		if err != nil {
			return false
		}
		t, err := parseStat(stat)
		if err != nil || (t.State != 'T' && t.State != 't') {
			return false
		}
	}
	return true
}

// Signal sends to exactly this process. A process that is gone is no error.
func (p Process) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.Alive() { // the pidfd pins whoever has the id now; make sure it is the one we mean
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d: %w", p.PID, err)
	}
	return nil
}

// CPU is the processor time used so far, and RSS the resident memory in bytes.
func (p Process) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "stat"))
	if err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", p.PID, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time of %d: stat too short", p.PID)
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	const ticksPerSecond = 100 // USER_HZ, fixed on every Linux that Go runs on
	return time.Duration(user+system) * time.Second / ticksPerSecond, errors.Join(err1, err2)
}

// RSS is the resident memory in bytes.
func (p Process) RSS() (int64, error) {
	statm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "statm"))
	if err != nil {
		return 0, fmt.Errorf("memory of %d: %w", p.PID, err)
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, fmt.Errorf("memory of %d: statm too short", p.PID)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// descendants adds every process below the given ones.
func withDescendants(roots, all []Process) []Process {
	in := map[int]bool{}
	for _, p := range roots {
		in[p.PID] = true
	}
	out := append([]Process(nil), roots...)
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if !in[p.PID] && in[p.PPID] {
				in[p.PID], grew = true, true
				out = append(out, p)
			}
		}
	}
	return out
}

// mentions is true if the process works in dir, or one of its arguments names dir or something
// below it.
func (p Process) mentions(dir string) bool {
	if within(p.CWD, dir) {
		return true
	}
	for _, arg := range p.Args {
		for rest := arg; ; {
			i := strings.Index(rest, dir)
			if i < 0 {
				break
			}
			rest = rest[i+len(dir):]
			if rest == "" || strings.ContainsRune("/,;. \"'", rune(rest[0])) {
				return true
			}
		}
	}
	return false
}

func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}
