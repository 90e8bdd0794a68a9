package fencer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// container is the fencer as process 1 of a PID namespace.
type container struct {
	*bench
	cmd *exec.Cmd
	out lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func startContainer(t *testing.T, b *bench, agent ...string) *container {
	t.Helper()
	must(t, os.MkdirAll(b.run, 0o700))
	c := &container{bench: b}
	c.cmd = exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"init", b.run, b.data}, agent...)...)
	c.cmd.Env = append(os.Environ(), "PGHA_TEST_ROOT="+b.root)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Setsid: true,
	}
	must(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // and with it all of the namespace
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("output of the container:\n%s", c.out.String())
		}
	})
	return c
}

// code waits for the end of the container.
func (c *container) code() int {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.t.Fatal(err)
		}
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		c.t.Fatal("the container does not end")
		return 0
	}
}

func (c *container) lines(word string) int { return strings.Count(c.out.String(), word) }

func TestInitRestartsACrashingAgentReapsAndPassesItsStatusOn(t *testing.T) {
	b := newBench(t)
	script := filepath.Join(b.root, "agent.sh")
	must(t, os.WriteFile(script, []byte(`#!/bin/sh
(sleep 0.05 &) # an orphan that somebody must reap
n=$(cat "$1" 2>/dev/null || echo 0); n=$((n+1)); echo $n >"$1"
trap 'echo got hup' HUP
trap 'exit 7' TERM
echo run $n
[ $n -lt 3 ] && exit 1
while :; do sleep 0.02; done
`), 0o700))
	c := startContainer(t, b, script, filepath.Join(b.root, "count"))
	c.wait("third run", func() (bool, string) { return c.lines("run 3") == 1, c.out.String() })
	must(t, c.cmd.Process.Signal(syscall.SIGHUP))
	c.wait("signal is passed on", func() (bool, string) { return c.lines("got hup") == 1, c.out.String() })
	c.wait("no zombie", func() (bool, string) {
		var zombies []int
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil {
				if st, ok := statOf(pid); ok && st.state == 'Z' && st.ppid == c.cmd.Process.Pid {
					zombies = append(zombies, pid)
				}
			}
		}
		return len(zombies) == 0, join(zombies)
	})
	must(t, c.cmd.Process.Signal(syscall.SIGTERM))
	if got := c.code(); got != 7 {
		t.Errorf("exit status %d, want the agent's 7", got)
	}
}

func TestInitEndsAtOnceWhenTheAgentCannotBeRun(t *testing.T) {
	b := newBench(t)
	c := startContainer(t, b, "/nowhere/agent")
	if got := c.code(); got != 127 {
		t.Errorf("exit status %d, want 127", got)
	}
}

// playContained is an agent in a container: it starts a stand-in as primary if there is none, renews,
// and at SIGTERM leaves without stopping it.
func playContained(args []string) error {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	ctx := context.Background()
	c, st, err := Connect(ctx, Options{Dir: args[0], DataDir: args[1]}, Hello{})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	epoch := st.Token.Epoch
	if st.Postmaster == 0 {
		epoch++
		if err := c.Arm(ctx, Token{Epoch: epoch, Until: Now() + time.Minute}); err != nil {
			return err
		}
		spec := StartSpec{Bin: args[2], Args: []string{"postgres", "standin", args[1], "2"}, Primary: true, Epoch: epoch}
		if _, err := c.Start(ctx, spec); err != nil {
			return err
		}
	}
	fmt.Printf("agent %d serves, adopted %d\n", os.Getpid(), st.Postmaster)
	<-term
	return nil
}

func TestInitKeepsTheServerThroughADeadAgentAndStopsItInTheEnd(t *testing.T) {
	b := newBench(t)
	self, err := os.Executable()
	must(t, err)
	c := startContainer(t, b, self, "contained", b.run, b.data, b.standin())
	// A grandchild is seen in the data directory until it has left it, so the server's processes are
	// those that were there when there was no other.
	var server []int
	c.wait("server runs", func() (bool, string) {
		server = cwdProcesses(b.data)
		_, err := os.Stat(filepath.Join(b.data, "ready"))
		return err == nil && c.lines("adopted 0") == 1 && len(server) == 3, c.out.String()
	})
	killed := false
	for _, pid := range b.processes() {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if words := strings.Split(string(cmd), "\x00"); len(words) > 1 && words[1] == "contained" {
			signalPid(t, pid, syscall.SIGKILL)
			killed = true
		}
	}
	if !killed {
		t.Fatal("agent not found")
	}
	c.wait("second agent", func() (bool, string) { return c.lines("serves") == 2, c.out.String() })
	after := cwdProcesses(b.data)
	for _, pid := range server {
		if !slices.Contains(after, pid) {
			t.Errorf("server processes were %v, are %v", server, after)
		}
	}
	must(t, c.cmd.Process.Signal(syscall.SIGTERM))
	if got := c.code(); got != 0 {
		t.Errorf("exit status %d", got)
	}
	if out := c.out.String(); !strings.Contains(out, "init ends with 0") {
		t.Error("the end was not orderly")
	}
}
