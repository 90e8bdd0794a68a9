package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// postmasterFile is postmaster.pid: where the server that holds this data directory can be
// reached. It stays behind after a crash, so it proves nothing by itself.
type postmasterFile struct {
	PID       int
	Port      string
	SocketDir string // first of unix_socket_directories; empty if none
	Host      string // first of listen_addresses; empty if none
}

func (s *Server) readPostmasterFile() (postmasterFile, error) {
	b, err := os.ReadFile(s.inData("postmaster.pid"))
	if err != nil {
		return postmasterFile{}, err
	}
	lines := strings.Split(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return postmasterFile{}, fmt.Errorf("postmaster.pid: first line %q: want a process id", lines[0])
	}
	// A single-user server writes its id as a negative number.
	pm := postmasterFile{PID: max(pid, -pid)}
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	pm.Port, pm.SocketDir, pm.Host = line(3), line(4), line(5)
	return pm, nil
}

// holdsDataDir says whether a process of this id is alive and works in the data directory, as
// every process of a server does. Where that cannot be seen, it is taken to be.
func (s *Server) holdsDataDir(pid int) bool {
	if pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	// The state follows the command name, which is in parentheses and may hold any byte.
	rest := strings.TrimPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	if strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") {
		return false
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return true
	}
	own, err := os.Stat(s.opt.DataDir)
	return err != nil || os.SameFile(cwd, own)
}
