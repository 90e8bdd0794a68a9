package fencer

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// agentProcess is a client in a process of its own, so that it can be frozen and killed.
type agentProcess struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	done  chan struct{}
}

func (b *bench) startAgent(epoch string, lease time.Duration) *agentProcess {
	b.t.Helper()
	a := &agentProcess{done: make(chan struct{})}
	a.cmd = exec.CommandContext(b.t.Context(), "/proc/self/exe", "agent", b.run, b.data, epoch, lease.String())
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	must(b.t, err)
	must(b.t, a.cmd.Start())
	go func() {
		defer close(a.done)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			a.mu.Lock()
			a.lines = append(a.lines, scan.Text())
			a.mu.Unlock()
		}
	}()
	b.t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
		_ = a.cmd.Wait()
	})
	b.wait("agent process has armed", func() (bool, string) { return a.count("armed") == 1, a.said() })
	return a
}

func (a *agentProcess) count(word string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, l := range a.lines {
		if strings.HasPrefix(l, word) {
			n++
		}
	}
	return n
}

func (a *agentProcess) said() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.lines, "; ")
}

// readDurable reads what the fencer wrote down.
func (b *bench) readDurable() durable {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.run, stateName))
	must(b.t, err)
	d, err := decodeDurable(content)
	must(b.t, err)
	return d
}

// waitSilent waits until no process of the server is left and returns when that was.
func (b *bench) waitSilent() time.Duration {
	b.t.Helper()
	b.wait("server is silent", func() (bool, string) {
		pids := b.serverProcesses()
		return len(pids) == 0, "alive: " + join(pids)
	})
	return Now()
}

// startArmed has a stand-in run as a primary that an agent in another process renews.
func startArmed(b *bench, lease time.Duration) (*agentProcess, State) {
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	b.startStandin(c, 3, true, 1)
	must(b.t, c.Close())
	b.clients = nil
	a := b.startAgent("2", lease)
	b.wait("renewals", func() (bool, string) { return a.count("renewed") > 2, "too few" })
	return a, st
}

func TestFrozenAgentIsFencedAtTheDeadline(t *testing.T) {
	b := newBench(t)
	a, _ := startArmed(b, 900*time.Millisecond)
	signalPid(t, a.cmd.Process.Pid, syscall.SIGSTOP)
	at := b.waitSilent()
	b.wait("fence is written down", func() (bool, string) {
		d := b.readDurable()
		return d.FencedAt != 0 && !d.Armed, fmt.Sprintf("%+v", d)
	})
	d := b.readDurable()
	t.Logf("struck %s after the deadline, silence seen after %s", d.FencedAt-d.Token.Until, at-d.Token.Until)
	if late := d.FencedAt - d.Token.Until; late < 0 || late > time.Second {
		t.Errorf("struck %s after the deadline", late)
	}
	signalPid(t, a.cmd.Process.Pid, syscall.SIGCONT)
	b.wait("thawed agent is refused", func() (bool, string) { return a.count("refused") == 1, a.said() })
}

func TestKilledAgentIsFencedAtTheDeadline(t *testing.T) {
	b := newBench(t)
	a, _ := startArmed(b, 900*time.Millisecond)
	signalPid(t, a.cmd.Process.Pid, syscall.SIGKILL)
	at := b.waitSilent()
	if d := b.readDurable(); at < d.Token.Until {
		t.Errorf("silent %s before the deadline", d.Token.Until-at)
	}
}

func TestKilledFencerIsReplacedAndTheTokenLivesOn(t *testing.T) {
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		t.Run("extra "+joinStrings(mode), func(t *testing.T) {
			b := newBench(t, mode...)
			c, st := b.connect()
			pid, _ := b.primary(c, 3, 4*time.Second)
			method := b.state(c).KillMethod
			signalPid(t, st.PID, syscall.SIGKILL)
			b.expect(c, EventClosed)
			began := Now()
			c, st = b.connect()
			t.Logf("replaced in %s", Now()-began)
			if !st.Armed || st.Token.Epoch != 2 || st.Token.Lease != 7 || st.Postmaster != pid ||
				!st.Adopted || !st.Primary || st.KillMethod != method || st.StateLost {
				t.Fatalf("unexpected state %+v", st)
			}
			must(t, c.Renew(b.ctx(), 2, 11, Now()+4*time.Second))
			must(t, c.Arm(b.ctx(), Token{Epoch: 2, Lease: 7, LeaderRevision: 12, Until: Now() + 4*time.Second}))
			wantErr(t, c.Disarm(b.ctx(), 2), ErrWritable)
			b.wait("second of the dead fencer is gone", func() (bool, string) {
				n := 0
				for _, pid := range b.processes() {
					cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
					if bytes.Contains(cmd, []byte("--second")) {
						n++
					}
				}
				return n == 1, fmt.Sprint(n)
			})
			if !alive(pid) {
				t.Fatal("server is gone")
			}
			fenced := b.expect(c, EventFenced)
			if e := b.expect(c, EventExited); e.Status.Known || e.Pid != pid {
				t.Errorf("unexpected event %+v", e)
			}
			b.expect(c, EventDown)
			if left := b.serverProcesses(); len(left) > 0 {
				t.Errorf("alive after Down: %v", left)
			}
			t.Logf("struck %s after the deadline", fenced.At-b.readDurable().Token.Until)
		})
	}
}

func TestSecondStrikesWhenAgentAndFencerAreKilled(t *testing.T) {
	b := newBench(t)
	a, st := startArmed(b, 1500*time.Millisecond)
	signalPid(t, st.PID, syscall.SIGKILL)
	signalPid(t, a.cmd.Process.Pid, syscall.SIGKILL)
	until := b.readDurable().Token.Until
	at := b.waitSilent()
	t.Logf("silence seen %s after the deadline", at-until)
	// The file may be one renewal behind.
	if at < until-10*time.Millisecond || at > until+3*time.Second {
		t.Errorf("silent %s after the deadline", at-until)
	}
	b.wait("second leaves", func() (bool, string) {
		pids := b.processes()
		return len(pids) == 0, "alive: " + join(pids)
	})
	// Whoever comes later learns that the epoch is over.
	c, st := b.connect()
	b.wait("old deadline is dealt with", func() (bool, string) {
		st = b.state(c)
		return !st.Armed && st.FencedAt != 0, fmt.Sprintf("%+v", st)
	})
	wantErr(t, c.Arm(b.ctx(), Token{Epoch: 2, Until: Now() + time.Minute}), ErrEpoch)
}

func TestSecondStrikesWhenTheFencerIsFrozen(t *testing.T) {
	b := newBench(t)
	c, st := b.connect()
	b.waitForSecond(c)
	_, until := b.primary(c, 3, 500*time.Millisecond)
	signalPid(t, st.PID, syscall.SIGSTOP)
	at := b.waitSilent()
	t.Logf("silence seen %s after the deadline", at-until)
	if at < until {
		t.Errorf("silent %s before the deadline", until-at)
	}
	signalPid(t, st.PID, syscall.SIGCONT)
	b.expect(c, EventFenced)
	b.expect(c, EventDown)
}

func (b *bench) waitForSecond(c *Client) int {
	b.t.Helper()
	pid := 0
	b.wait("second is ready", func() (bool, string) {
		pid = b.state(c).SecondPID
		content, _ := os.ReadFile(filepath.Join(b.run, logName))
		ready := slices.ContainsFunc(strings.Split(string(content), "\n"), func(l string) bool {
			return strings.Contains(l, "second is ready") && strings.Contains(l, fmt.Sprintf(`"fencer_pid":%d,`, pid))
		})
		return pid != 0 && ready, string(content)
	})
	return pid
}

func TestKilledSecondIsReplaced(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	pid := b.waitForSecond(c)
	signalPid(t, pid, syscall.SIGKILL)
	b.wait("another second", func() (bool, string) {
		now := b.state(c).SecondPID
		return now != 0 && now != pid, fmt.Sprint(now)
	})
	b.waitForSecond(c)
}

func TestDeadlineThatPassedWithoutAnyFencerIsMadeGood(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	_, until := b.primary(c, 3, 500*time.Millisecond)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	b.wait("deadline", func() (bool, string) { return Now() > until, "" })
	if len(b.serverProcesses()) == 0 {
		t.Fatal("the server is gone too early for this test to mean anything")
	}
	began := Now()
	c, _ = b.connect()
	at := b.waitSilent()
	t.Logf("silence seen %s after the deadline", at-until)
	if at-began > 5*time.Second {
		t.Errorf("silent only %s after the new fencer was asked for", at-began)
	}
	b.wait("epoch has ended", func() (bool, string) {
		st := b.state(c)
		return !st.Armed && st.FencedAt != 0, fmt.Sprintf("%+v", st)
	})
}

func TestAdoptedWritableServerWithoutTokenGetsABoundedGrace(t *testing.T) {
	b := newBench(t, "--no-second", "--adopt-grace", "1500ms")
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	pid := b.startStandin(c, 2, true, 1)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	must(t, os.Remove(filepath.Join(b.run, stateName)))
	began := Now()
	c, st = b.connect()
	// Without the file, the stand-in is known only by postmaster.pid and its name.
	if st.Postmaster != pid || !st.Adopted || st.Armed || !st.StateLost {
		t.Fatalf("unexpected state %+v", st)
	}
	killed := b.expect(c, EventKilled)
	b.expect(c, EventDown)
	t.Logf("killed after %s", killed.At-began)
	if killed.At-began < 1400*time.Millisecond {
		t.Error("killed too early for an agent to arm")
	}
	if left := b.serverProcesses(); len(left) > 0 {
		t.Errorf("alive after Down: %v", left)
	}
}

func TestAdoptedWritableServerIsSparedWhenTheAgentArms(t *testing.T) {
	b := newBench(t, "--no-second", "--adopt-grace", "1500ms")
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	pid := b.startStandin(c, 2, true, 1)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	must(t, os.Remove(filepath.Join(b.run, stateName)))
	c, _ = b.connect()
	b.expect(c, EventObserved)
	b.arm(c, 1, time.Minute)
	nap(2 * time.Second)
	if !alive(pid) {
		t.Fatal("killed although armed")
	}
	wantErr(t, c.Disarm(b.ctx(), 1), ErrWritable)
}

func TestOrphansFoundByANewFencerAreKilled(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	pid := b.startStandin(c, 3, true, 1)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	signalPid(t, pid, syscall.SIGKILL)
	c, _ = b.connect()
	b.wait("orphans in the data directory are gone", func() (bool, string) {
		pids := cwdProcesses(b.data)
		return len(pids) == 0, "alive: " + join(pids)
	})
	b.wait("fencer is at rest", func() (bool, string) {
		st := b.state(c)
		return !st.Busy && st.Postmaster == 0, fmt.Sprintf("%+v", st)
	})
}

// TestDeadlineUnderLoad measures; it asserts only what no machine should miss.
func TestDeadlineUnderLoad(t *testing.T) {
	for range 4 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "hog")
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		b := newBench(t, append(mode, "--no-second")...)
		c, _ := b.connect()
		var late, down []time.Duration
		for epoch := range uint64(8) {
			b.arm(c, 2*epoch+1, time.Minute)
			b.startStandin(c, 10, true, 2*epoch+1)
			until := b.arm(c, 2*epoch+2, 200*time.Millisecond) // a newer epoch brings its own deadline
			late = append(late, b.expect(c, EventFenced).At-until)
			down = append(down, b.expect(c, EventDown).At-until)
		}
		slices.Sort(late)
		slices.Sort(down)
		t.Logf("%v, priority %s, 4 hogs, 21 processes: struck median %s worst %s; silent median %s worst %s after the deadline",
			mode, b.state(c).Priority, late[len(late)/2], late[len(late)-1], down[len(down)/2], down[len(down)-1])
		if late[0] < 0 || late[len(late)-1] > 2*time.Second {
			t.Errorf("lateness %v", late)
		}
	}
}

func TestConnectGivesUpOnAFrozenFencer(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	must(t, c.Close())
	signalPid(t, st.PID, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := Connect(ctx, b.opts, Hello{})
	wantErr(t, err, context.DeadlineExceeded)
	signalPid(t, st.PID, syscall.SIGCONT)
	// The connection that was given up may be taken for a newer one, until its end is read.
	b.wait("the fencer answers again", func() (bool, string) {
		c, _, err := Connect(b.ctx(), b.opts, Hello{Name: "test"})
		if err == nil {
			err = c.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
}

func TestNoCgroupIsLeftBehind(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	if st.KillMethod != "cgroup" {
		t.Fatalf("no cgroup to leave behind: the test means nothing: %+v", st)
	}
	left := func() []string {
		groups, err := findCgroups()
		must(t, err)
		names, err := filepath.Glob(filepath.Join(groups.base, fmt.Sprintf("pgha-%d-*", st.PID)))
		must(t, err)
		return names
	}
	b.startStandin(c, 1, false, 0)
	if got := left(); len(got) != 1 {
		t.Errorf("cgroups of a running server: %v", got)
	}
	must(t, c.Kill(b.ctx()))
	b.wait("cgroup is removed", func() (bool, string) { return len(left()) == 0, fmt.Sprint(left()) })
	b.startStandin(c, 1, false, 0)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	for _, pid := range b.serverProcesses() {
		signalPid(t, pid, syscall.SIGKILL)
	}
	b.waitSilent()
	b.connect() // the next fencer, of this member or another, cleans up
	b.wait("cgroup of a killed fencer is removed", func() (bool, string) { return len(left()) == 0, fmt.Sprint(left()) })
}
