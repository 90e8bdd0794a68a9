package fencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one member's directories and the client connected to its fencer.
type bench struct {
	t       *testing.T
	root    string
	run     string
	data    string
	opts    Options
	clients []*Client
	fencers []int // process ids
}

func newBench(t *testing.T, extra ...string) *bench {
	t.Helper()
	root := t.TempDir()
	b := &bench{t: t, root: root, run: filepath.Join(root, "run"), data: filepath.Join(root, "data")}
	must(t, os.MkdirAll(filepath.Join(b.data, "global"), 0o700))
	b.opts = Options{Dir: b.run, DataDir: b.data, ExtraArgs: extra}
	t.Cleanup(b.cleanUp)
	return b
}

// cleanUp ends every process that stands in the bench's directories or has them in its command
// line or environment, by process id.
func (b *bench) cleanUp() {
	for _, c := range b.clients {
		_ = c.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); ; nap(5 * time.Millisecond) {
		pids := b.processes()
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			b.t.Errorf("processes that do not end: %v", pids)
			break
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	if content, _ := os.ReadFile(filepath.Join(b.run, logName)); bytes.Contains(content, []byte("DATA RACE")) ||
		bytes.Contains(content, []byte("panic:")) {
		b.t.Error("the fencer's log has a data race or a panic")
	}
	if b.t.Failed() {
		for _, name := range []string{logName, stateName, "server.log"} {
			content, _ := os.ReadFile(filepath.Join(b.run, name))
			b.t.Logf("%s:\n%s", name, content)
		}
	}
	b.removeCgroups()
}

// removeCgroups removes what this bench's fencers left behind when they were killed.
func (b *bench) removeCgroups() {
	groups, err := findCgroups()
	if err != nil {
		return
	}
	for _, pid := range b.fencers {
		names, _ := filepath.Glob(filepath.Join(groups.base, fmt.Sprintf("pgha-%d-*", pid)))
		for _, name := range names {
			if err := removeCgroup(name); err != nil {
				b.t.Error(err)
			}
		}
	}
}

func (b *bench) processes() []int {
	var pids []int
	entries, err := os.ReadDir("/proc")
	must(b.t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if st, ok := statOf(pid); !ok || st.dead() {
			continue
		}
		cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		if bytes.Contains(cmd, []byte(b.root)) || bytes.Contains(env, []byte(b.root)) || strings.HasPrefix(cwd, b.root) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func statOf(pid int) (procStat, bool) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return procStat{}, false
	}
	return parseStat(line)
}

func alive(pid int) bool {
	st, ok := statOf(pid)
	return ok && !st.dead()
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) connect() (*Client, State) {
	b.t.Helper()
	c, st, err := Connect(b.ctx(), b.opts, Hello{Name: "test"})
	must(b.t, err)
	b.clients = append(b.clients, c)
	b.fencers = append(b.fencers, st.PID)
	return c, st
}

func (b *bench) arm(c *Client, epoch uint64, d time.Duration) time.Duration {
	b.t.Helper()
	until := Now() + d
	must(b.t, c.Arm(b.ctx(), Token{Epoch: epoch, Lease: 7, LeaderRevision: 11, Until: until}))
	return until
}

// primary starts the stand-in at leisure, and then has a newer epoch (2) bring the deadline that the
// test is about: on a busy machine a start may take longer than a lease.
func (b *bench) primary(c *Client, children int, lease time.Duration) (pid int, until time.Duration) {
	b.t.Helper()
	b.arm(c, 1, time.Minute)
	pid = b.startStandin(c, children, true, 1)
	return pid, b.arm(c, 2, lease)
}

// startStandin starts the stand-in and waits until its children live.
func (b *bench) startStandin(c *Client, children int, primary bool, epoch uint64) int {
	b.t.Helper()
	_ = os.Remove(filepath.Join(b.data, "ready"))
	pid, err := c.Start(b.ctx(), StartSpec{
		Bin: b.standin(), Args: []string{"postgres", "standin", b.data, strconv.Itoa(children)},
		Env:     append(os.Environ(), "PGHA_TEST_ROOT="+b.root),
		LogFile: filepath.Join(b.run, "server.log"), Primary: primary, Epoch: epoch,
	})
	must(b.t, err)
	b.wait("stand-in is ready", func() (bool, string) {
		_, err := os.Stat(filepath.Join(b.data, "ready"))
		n := len(b.serverProcesses())
		return err == nil && n == 1+2*children, fmt.Sprintf("ready: %v, processes: %d", err, n)
	})
	return pid
}

// serverProcesses are those of the stand-in or PostgreSQL: what stands in the data directory or was
// started with the mark of this bench, without the fencer's own.
func (b *bench) serverProcesses() []int {
	var pids []int
	for _, pid := range b.processes() {
		cmd, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		words := strings.Split(string(cmd), "\x00")
		if !slices.Contains(words, "fencer") && !slices.Contains(words, "agent") && !slices.Contains(words, "init") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// standin is the test binary under the name by which an unknown postmaster is recognised.
func (b *bench) standin() string {
	b.t.Helper()
	path := filepath.Join(b.root, "postgres")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	self, err := os.Executable()
	must(b.t, err)
	if os.Link(self, path) == nil {
		return path
	}
	content, err := os.ReadFile(self)
	must(b.t, err)
	must(b.t, os.WriteFile(path, content, 0o755))
	return path
}

// wait polls a condition until it holds, and fails with its last words.
func (b *bench) wait(what string, cond func() (bool, string)) {
	b.t.Helper()
	waitFor(b.t, 20*time.Second, what, cond)
}

func waitFor(t *testing.T, limit time.Duration, what string, cond func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; nap(2 * time.Millisecond) {
		ok, last := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %s", what, limit, last)
		}
	}
}

// expect reads events until one of that kind, and returns it.
func (b *bench) expect(c *Client, kind EventKind) Event {
	b.t.Helper()
	var seen []EventKind
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				b.t.Fatalf("no event %q; seen %v, then the end", kind, seen)
			}
			seen = append(seen, e.Kind)
			if e.Kind == kind {
				return e
			}
		case <-timeout:
			b.t.Fatalf("no event %q in time; seen %v", kind, seen)
		}
	}
}

func (b *bench) state(c *Client) State {
	b.t.Helper()
	st, err := c.State(b.ctx())
	must(b.t, err)
	return st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func signalPid(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal %s to %d: %v", sig, pid, err)
	}
}
