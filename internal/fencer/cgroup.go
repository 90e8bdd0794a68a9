package fencer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups makes a fresh cgroup v2 for each start of the server, so that the kernel can kill all of
// it in one step, with no race against a fork. A used one is never used again: after one
// cgroup.kill some kernels kill everything that is started into the same cgroup later.
type cgroups struct {
	base  string // where the fencer's own cgroup is; empty: none usable
	count int
}

// serverCgroup is the cgroup of one run of the server.
type serverCgroup struct {
	path string
	dir  *os.File // for the start
	fds  groupFDs
}

// groupFDs are open files of a server's cgroup, so that no path has to be resolved in a strike.
type groupFDs struct{ kill, events int }

func noGroup() groupFDs { return groupFDs{kill: -1, events: -1} }

func openGroupFDs(path string) (groupFDs, error) {
	kill, err := unix.Open(filepath.Join(path, "cgroup.kill"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return noGroup(), fmt.Errorf("cgroup: open cgroup.kill: %w", err)
	}
	events, err := unix.Open(filepath.Join(path, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(kill)
		return noGroup(), fmt.Errorf("cgroup: open cgroup.events: %w", err)
	}
	return groupFDs{kill: kill, events: events}, nil
}

func (g groupFDs) close() {
	for _, fd := range []int{g.kill, g.events} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// populated says that a process other than a zombie is in the cgroup.
func (g groupFDs) populated(buf []byte) bool {
	if g.events < 0 {
		return false
	}
	n, err := unix.Pread(g.events, buf, 0)
	return err == nil && n > 0 && bytes.Contains(buf[:n], []byte("populated 1"))
}

// findCgroups looks for a cgroup v2 in which this process may make children. The error says why
// there is none; the scan of /proc does the work then.
func findCgroups() (*cgroups, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return &cgroups{}, fmt.Errorf("cgroup: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return &cgroups{}, fmt.Errorf("cgroup: %w", err)
	}
	base := ownCgroup(string(mounts), string(own))
	if base == "" {
		return &cgroups{}, errors.New("cgroup: no cgroup v2 mounted")
	}
	g := &cgroups{base: base}
	probe, err := g.fresh()
	if err != nil {
		return &cgroups{}, err
	}
	probe.close()
	g.removeAbandoned()
	return g, removeCgroup(probe.path)
}

// removeAbandoned removes the empty cgroups of fencers that were killed. One with a process in it
// cannot be removed.
func (g *cgroups) removeAbandoned() {
	names, err := filepath.Glob(filepath.Join(g.base, "pgha-*-*-*"))
	if err != nil {
		return
	}
	for _, name := range names {
		pid, err := strconv.Atoi(strings.Split(filepath.Base(name), "-")[1])
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = removeCgroup(name)
		}
	}
}

// ownCgroup combines the mount table with the process's place in the v2 hierarchy. In a cgroup
// namespace, or where only a part is mounted, the mount's root is a prefix of the place.
func ownCgroup(mounts, own string) string {
	place := ""
	for line := range strings.Lines(own) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			place = rest
		}
	}
	if place == "" {
		return ""
	}
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(line, " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 5 || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		root, point := fields[3], fields[4]
		if root == "/" {
			return filepath.Join(point, place)
		}
		if rel, ok := strings.CutPrefix(place, root); ok {
			return filepath.Join(point, rel)
		}
	}
	return ""
}

func (g *cgroups) usable() bool { return g.base != "" }

// fresh makes the cgroup for the next start.
func (g *cgroups) fresh() (*serverCgroup, error) {
	g.count++
	// Process id and boot time make the name new even after a restart of the fencer.
	return g.make(strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(int64(Now()), 36) + "-" + strconv.Itoa(g.count))
}

func (g *cgroups) make(name string) (*serverCgroup, error) {
	path := filepath.Join(g.base, "pgha-"+name)
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	c, err := openCgroup(path)
	if err != nil {
		return nil, errors.Join(err, removeCgroup(path))
	}
	return c, nil
}

// openCgroup opens what is needed to start into and to kill, also for a cgroup that an earlier
// fencer made.
func openCgroup(path string) (*serverCgroup, error) {
	fds, err := openGroupFDs(path)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		fds.close()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return &serverCgroup{path: path, dir: dir, fds: fds}, nil
}

func (c *serverCgroup) close() {
	_ = c.dir.Close()
	c.fds.close()
}

// removeCgroup fails with EBUSY while a process is in it, a stuck one included.
func removeCgroup(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

// inCgroup says whether a process is in the cgroup of that path.
func inCgroup(pid int, path string) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	own, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return false
	}
	return path != "" && ownCgroup(string(mounts), string(own)) == path
}
