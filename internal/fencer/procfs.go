package fencer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// procStat are the fields of /proc/<pid>/stat that matter here.
type procStat struct {
	state byte
	ppid  int
	tty   bool
	start int64 // clock ticks since boot
}

// parseStat reads a stat line. The program's name stands in parentheses and may itself contain
// parentheses and blanks, so fields are counted from the last one.
func parseStat(line []byte) (procStat, bool) {
	i := bytes.LastIndexByte(line, ')')
	if i < 0 || i+2 >= len(line) {
		return procStat{}, false
	}
	var st procStat
	field := 3
	rest := line[i+2:]
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, ' ')
		word := rest
		if end >= 0 {
			word, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		switch field {
		case 3:
			if len(word) != 1 {
				return procStat{}, false
			}
			st.state = word[0]
		case 4:
			st.ppid = int(atoi(word))
		case 7:
			st.tty = atoi(word) != 0
		case 22:
			st.start = atoi(word)
			return st, true
		}
		field++
	}
	return procStat{}, false
}

// atoi without allocation; anything but digits ends the number.
func atoi(b []byte) int64 {
	var n int64
	neg := false
	for i, c := range b {
		if i == 0 && c == '-' {
			neg = true
			continue
		}
		if c < '0' || c > '9' || n > 1<<52 {
			break
		}
		n = n*10 + int64(c-'0')
	}
	if neg {
		return -n
	}
	return n
}

// dead says that the state letter is one that never runs again: zombies have no memory, no
// descriptors and no working directory.
func (st procStat) dead() bool { return st.state == 'Z' || st.state == 'X' || st.state == 'x' }

// lives says that a process is there and no zombie.
func lives(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	st, ok := parseStat(line)
	return ok && !st.dead()
}

// processStart is the start time of a process in clock ticks since boot. Together with the process
// id it names a process for good.
func processStart(pid int) (int64, error) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("process start: %w", err)
	}
	st, ok := parseStat(line)
	if !ok {
		return 0, fmt.Errorf("process start: cannot parse stat of %d", pid)
	}
	return st.start, nil
}

// procfs reads /proc without allocating, since it is used by the thread that strikes. One
// goroutine at a time.
type procfs struct {
	fd    int
	dents [32 << 10]byte
	line  [2048]byte
	path  [64]byte
}

func openProcfs() (*procfs, error) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &procfs{fd: fd}, nil
}

// each calls fn with every process id.
func (p *procfs) each(fn func(pid int)) error {
	if _, err := unix.Seek(p.fd, 0, unix.SEEK_SET); err != nil {
		return fmt.Errorf("scan /proc: %w", err)
	}
	for {
		n, err := unix.Getdents(p.fd, p.dents[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("scan /proc: %w", err)
		}
		if n <= 0 {
			return nil
		}
		for buf := p.dents[:n]; len(buf) >= 19; {
			// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
			reclen := int(binary.NativeEndian.Uint16(buf[16:18]))
			if reclen < 19 || reclen > len(buf) {
				break
			}
			if name := buf[19:reclen]; name[0] >= '1' && name[0] <= '9' {
				fn(int(atoi(name)))
			}
			buf = buf[reclen:]
		}
	}
}

// name builds "<pid><suffix>\0" in the path buffer.
func (p *procfs) name(pid int, suffix string) *byte {
	b := strconv.AppendInt(p.path[:0], int64(pid), 10)
	b = append(b, suffix...)
	b = append(b, 0)
	return &b[0]
}

// stat of a name below /proc/<pid>; it follows the magic links cwd and exe.
func (p *procfs) stat(pid int, suffix string, st *unix.Stat_t) bool {
	_, _, errno := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(p.fd),
		uintptr(unsafe.Pointer(p.name(pid, suffix))), uintptr(unsafe.Pointer(st)), 0, 0, 0)
	return errno == 0
}

// read fills the line buffer with a small file below /proc/<pid>.
func (p *procfs) read(pid int, suffix string) []byte {
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(p.fd),
		uintptr(unsafe.Pointer(p.name(pid, suffix))), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return nil
	}
	n, err := unix.Read(int(fd), p.line[:])
	_ = unix.Close(int(fd))
	if err != nil || n <= 0 {
		return nil
	}
	return p.line[:n]
}

// readlink of a magic link into the line buffer.
func (p *procfs) readlink(pid int, suffix string) []byte {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(p.fd),
		uintptr(unsafe.Pointer(p.name(pid, suffix))), uintptr(unsafe.Pointer(&p.line[0])), uintptr(len(p.line)), 0, 0)
	if errno != 0 {
		return nil
	}
	return p.line[:n]
}

func (p *procfs) statLine(pid int) (procStat, bool) { return parseStat(p.read(pid, "/stat")) }

// statusFields finds the effective uid and whether SIGKILL is pending.
func (p *procfs) statusFields(pid int) (uid int, killPending bool) {
	uid = -1
	status := p.read(pid, "/status")
	if f := statusField(status, "\nUid:"); f != nil {
		// real, effective, saved, file system
		if _, after, ok := bytes.Cut(f, []byte{'\t'}); ok {
			uid = int(atoi(after))
		}
	}
	for _, key := range [...]string{"\nSigPnd:", "\nShdPnd:"} {
		if f := statusField(status, key); len(f) >= 3 {
			// Hexadecimal mask; SIGKILL is bit 8, the lowest bit of the third digit from the end.
			killPending = killPending || hexDigit(f[len(f)-3])&1 != 0
		}
	}
	return uid, killPending
}

func statusField(status []byte, key string) []byte {
	i := bytes.Index(status, []byte(key))
	if i < 0 {
		return nil
	}
	rest := status[i+len(key):]
	if end := bytes.IndexByte(rest, '\n'); end >= 0 {
		rest = rest[:end]
	}
	return bytes.TrimLeft(rest, "\t ")
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0
}
