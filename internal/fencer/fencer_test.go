package fencer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestConnectStartsAFencerAndSaysWhatItGot(t *testing.T) {
	b := newBench(t)
	c, st := b.connect()
	if st.PID == 0 || st.PID == os.Getpid() || st.Postmaster != 0 || st.Armed || !st.StateLost {
		t.Fatalf("unexpected state %+v", st)
	}
	t.Logf("priority %s, kill method %s, problems %q", st.Priority, st.KillMethod, st.Problems)
	info, err := os.Stat(filepath.Join(b.run, socketName))
	must(t, err)
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("socket mode is %o", got)
	}
	must(t, c.Shutdown(b.ctx()))
	b.expect(c, EventClosed)
	b.wait("fencer and second are gone", func() (bool, string) {
		pids := b.processes()
		return len(pids) == 0, "alive: " + join(pids)
	})
}

func TestDeadlineSilencesEveryProcessOfTheServer(t *testing.T) {
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		t.Run("extra "+joinStrings(mode), func(t *testing.T) {
			b := newBench(t, mode...)
			c, _ := b.connect()
			pid, until := b.primary(c, 20, 300*time.Millisecond)
			st := b.state(c)
			if st.Postmaster != pid || !st.Primary || !st.Armed {
				t.Fatalf("unexpected state %+v", st)
			}
			fenced := b.expect(c, EventFenced)
			b.expect(c, EventExited)
			down := b.expect(c, EventDown)
			if left := b.serverProcesses(); len(left) > 0 {
				t.Errorf("alive after Down: %v", left)
			}
			t.Logf("%s: struck %s after the deadline, down %s after", st.KillMethod, fenced.At-until, down.At-until)
			if fenced.At < until {
				t.Errorf("struck %s too early", until-fenced.At)
			}
			wantErr(t, c.Renew(b.ctx(), 2, 11, Now()+time.Minute), ErrPast)
			wantErr(t, c.Promote(b.ctx(), 2), ErrPast)
			wantErr(t, c.Arm(b.ctx(), Token{Epoch: 2, Until: Now() + time.Minute}), ErrEpoch)
			if st := b.state(c); st.Armed || st.FencedAt != fenced.At || st.Postmaster != 0 {
				t.Errorf("unexpected state %+v", st)
			}
		})
	}
}

func TestRenewalKeepsTheServerAndNeverMovesBackwards(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	pid, _ := b.primary(c, 1, 2*time.Second)
	last := Now()
	for end := Now() + 4*time.Second; Now() < end; nap(50 * time.Millisecond) {
		last = Now() + 2*time.Second
		must(t, c.Renew(b.ctx(), 2, 12, last))
		// Earlier: no effect. It may have passed when the fencer reads it.
		if err := c.Renew(b.ctx(), 2, 12, Now()+10*time.Millisecond); err != nil {
			wantErr(t, err, ErrPast)
		}
	}
	if !alive(pid) {
		t.Fatal("killed in spite of renewals")
	}
	if st := b.state(c); st.Token.LeaderRevision != 12 || st.Token.Epoch != 2 || st.Token.Until != last {
		t.Errorf("unexpected token %+v", st.Token)
	}
	must(t, c.Kill(b.ctx()))
	if left := b.serverProcesses(); len(left) > 0 {
		t.Errorf("alive after Kill: %v", left)
	}
	must(t, c.Disarm(b.ctx(), 2))
}

func TestOtherEpochsAreRefused(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	ctx := b.ctx()
	wantErr(t, c.Renew(ctx, 3, 1, Now()+time.Minute), ErrEpoch)
	wantErr(t, c.Promote(ctx, 3), ErrEpoch)
	wantErr(t, c.Arm(ctx, Token{Epoch: 3, Until: Now() - time.Millisecond}), ErrPast)
	b.arm(c, 3, time.Minute)
	wantErr(t, c.Renew(ctx, 2, 1, Now()+time.Minute), ErrEpoch)
	wantErr(t, c.Renew(ctx, 4, 1, Now()+time.Minute), ErrEpoch)
	wantErr(t, c.Disarm(ctx, 2), ErrEpoch)
	wantErr(t, c.Promote(ctx, 2), ErrEpoch)
	wantErr(t, c.Arm(ctx, Token{Epoch: 2, Until: Now() + time.Minute}), ErrEpoch)
	_, err := c.Start(ctx, StartSpec{Bin: "/bin/true", Args: []string{"true"}, Primary: true, Epoch: 2})
	wantErr(t, err, ErrEpoch)
	wantErr(t, c.Renew(ctx, 3, 1, Now()-time.Second), ErrPast)
	if err := c.Renew(ctx, 3, 1, Now()+24*time.Hour); err == nil {
		t.Error("a deadline a day away was accepted")
	}
	b.arm(c, 4, time.Minute) // a newer one takes over
	wantErr(t, c.Disarm(ctx, 3), ErrEpoch)
	must(t, c.Disarm(ctx, 4))
	must(t, c.Disarm(ctx, 4))
}

func TestDisarmIsRefusedWhileTheServerMayBeWritable(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	b.startStandin(c, 1, false, 0)
	must(t, c.Disarm(b.ctx(), 1)) // a standby
	b.arm(c, 2, time.Minute)
	must(t, c.Promote(b.ctx(), 2))
	wantErr(t, c.Disarm(b.ctx(), 2), ErrWritable)
	b.wait("promotion", func() (bool, string) {
		ctl, err := readControl(b.data)
		return err == nil && ctl.production, "not in production"
	})
	wantErr(t, c.Disarm(b.ctx(), 2), ErrWritable)
	wantErr(t, c.Shutdown(b.ctx()), ErrRunning)
	must(t, c.Kill(b.ctx()))
	must(t, c.Disarm(b.ctx(), 2))
}

func TestDeathOfThePostmasterIsNotDown(t *testing.T) {
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		t.Run("extra "+joinStrings(mode), func(t *testing.T) {
			b := newBench(t, mode...)
			c, _ := b.connect()
			b.arm(c, 1, time.Minute)
			pid := b.startStandin(c, 5, true, 1)
			signalPid(t, pid, syscall.SIGKILL)
			e := b.expect(c, EventExited)
			if e.Pid != pid || !e.Status.Known || e.Status.Signal != int(syscall.SIGKILL) {
				t.Errorf("unexpected event %+v", e)
			}
			b.expect(c, EventDown)
			if left := cwdProcesses(b.data); len(left) > 0 {
				t.Errorf("alive after Down: %v", left)
			}
			if st := b.state(c); !st.Armed {
				t.Error("the end of the server ended the epoch")
			}
			b.startStandin(c, 1, true, 1) // restart in place under the same token
		})
	}
}

func TestExitStatusIsReported(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	for range 20 {
		_, err := c.Start(b.ctx(), StartSpec{Bin: "/bin/sh", Args: []string{"sh", "-c", "exit 3"}})
		must(t, err)
		if e := b.expect(c, EventExited); !e.Status.Known || e.Status.Code != 3 {
			t.Fatalf("unexpected event %+v", e)
		}
		b.expect(c, EventDown)
	}
	if _, err := c.Start(b.ctx(), StartSpec{Bin: "/nowhere", Args: []string{"x"}}); err == nil {
		t.Fatal("a program that is not there was started")
	}
	if st := b.state(c); st.Postmaster != 0 || st.Busy {
		t.Fatalf("unexpected state %+v", st)
	}
}

func TestStartIsRefusedWhileOrphansLive(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	orphan := startForeign(t, b, "standin-child", "far")
	_, err := c.Start(b.ctx(), StartSpec{Bin: "/bin/true", Args: []string{"true"}})
	wantErr(t, err, ErrOrphans)
	if !alive(orphan) {
		t.Fatal("a refused start killed something")
	}
	must(t, c.Kill(b.ctx()))
	if alive(orphan) {
		t.Fatal("alive after Kill")
	}
	b.startStandin(c, 1, false, 0)
	_, err = c.Start(b.ctx(), StartSpec{Bin: "/bin/true", Args: []string{"true"}})
	wantErr(t, err, ErrRunning)
}

func TestStandbyStartWritesStandbySignalAndForgetsPromotion(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	must(t, os.WriteFile(filepath.Join(b.data, promoteFile), nil, 0o600))
	b.startStandin(c, 1, false, 0)
	if _, err := os.Stat(filepath.Join(b.data, standbySignal)); err != nil {
		t.Errorf("standby.signal: %v", err)
	}
	if _, err := os.Stat(filepath.Join(b.data, promoteFile)); err == nil {
		t.Error("promotion request of an earlier life is still there")
	}
	must(t, c.Kill(b.ctx()))
	b.arm(c, 1, time.Minute)
	b.startStandin(c, 1, true, 1)
	if _, err := os.Stat(filepath.Join(b.data, standbySignal)); err == nil {
		t.Error("standby.signal is there under a primary")
	}
}

func TestNewestAgentWins(t *testing.T) {
	b := newBench(t)
	old, _ := b.connect()
	b.arm(old, 1, time.Minute)
	fresh, st := b.connect()
	if !st.Armed || st.Token.Epoch != 1 || st.Token.Lease != 7 {
		t.Errorf("the new agent does not get the token: %+v", st)
	}
	if e := b.expect(old, EventClosed); e.Reason != ErrSuperseded.Error() {
		t.Errorf("unexpected reason %q", e.Reason)
	}
	wantErr(t, old.Renew(b.ctx(), 1, 1, Now()+time.Minute), ErrSuperseded)
	must(t, fresh.Renew(b.ctx(), 1, 1, Now()+time.Minute))
	_, _, err := Connect(b.ctx(), b.opts, Hello{Name: "thawed", Started: 1})
	wantErr(t, err, ErrSuperseded)
	must(t, fresh.Renew(b.ctx(), 1, 1, Now()+time.Minute))
}

func TestServerWritableWithoutTokenIsKilled(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	pid := b.startStandin(c, 2, false, 0)
	promoteByHand := func() time.Duration {
		must(t, os.WriteFile(filepath.Join(b.data, promoteFile), nil, 0o600))
		pid := b.state(c).Postmaster
		at := Now()
		signalPid(t, pid, syscall.SIGUSR1)
		return at
	}
	at := promoteByHand()
	b.expect(c, EventObserved)
	killed := b.expect(c, EventKilled)
	b.expect(c, EventDown)
	if alive(pid) {
		t.Error("alive after Down")
	}
	if took := killed.At - at; took < time.Second || took > 5*time.Second {
		t.Errorf("killed after %s, want a little more than 1 s", took)
	}
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, Now()+2500*time.Millisecond))
	pid = b.startStandin(c, 1, false, 0)
	at = promoteByHand()
	b.expect(c, EventObserved)
	killed = b.expect(c, EventKilled)
	b.expect(c, EventDown)
	t.Logf("with a policy that spared it for 2.5 s: killed after %s", killed.At-at)
	if alive(pid) || killed.At-at < 1500*time.Millisecond {
		t.Errorf("policy did not hold: killed after %s", killed.At-at)
	}
}

// A deadline that passes during a pause ends the right to write again, and nothing else: neither the fencer nor
// its second strikes.
func TestADeadlineThatPassesUnderTheObservingPolicyOnlyEndsTheToken(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	b.waitForSecond(c)
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, 0))
	pid, until := b.primary(c, 2, 500*time.Millisecond)
	if lapsed := b.expect(c, EventLapsed); lapsed.At < until {
		t.Errorf("over %s before the deadline", until-lapsed.At)
	}
	b.expect(c, EventObserved)
	if st := b.state(c); st.Armed || st.FencedAt != 0 || !alive(pid) {
		t.Fatalf("%+v", st)
	}
	wantErr(t, c.Renew(b.ctx(), 2, 1, Now()+time.Minute), ErrEpoch)
	// Back in its title: the next deadline strikes again once the pause is over.
	until = Now() + time.Second
	must(t, c.Arm(b.ctx(), Token{Epoch: 3, LeaderRevision: 8, Until: until}))
	must(t, c.SetPolicy(b.ctx(), PolicyKill, 0))
	if fenced := b.expect(c, EventFenced); fenced.At < until {
		t.Errorf("fenced %s before the deadline", until-fenced.At)
	}
	b.expect(c, EventDown)
}

// The second has nobody to ask when the fencer is gone, and the next fencer finds a deadline that has passed.
func TestTheObservingPolicyOutlivesTheFencer(t *testing.T) {
	b := newBench(t)
	c, st := b.connect()
	b.waitForSecond(c)
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, 0))
	pid, until := b.primary(c, 2, 500*time.Millisecond)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	b.wait("the deadline is long over", func() (bool, string) { return Now() > until+4*secondPatrol, "" })
	if servers := len(b.serverProcesses()); !alive(pid) || len(b.processes()) == servers {
		t.Fatal("the second struck, or left the server without an heir")
	}
	c, _ = b.connect()
	b.wait("the next fencer ends the token", func() (bool, string) {
		st = b.state(c)
		return !st.Armed, fmt.Sprintf("%+v", st)
	})
	if st.FencedAt != 0 || !alive(pid) {
		t.Fatalf("%+v", st)
	}
}

// Whoever has to get a title first has the grace for it from the end of the pause on.
func TestAfterThePauseTheGraceBegins(t *testing.T) {
	b := newBench(t, "--unarmed-grace", "2s")
	c, _ := b.connect()
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, 0))
	pid, _ := b.primary(c, 2, 100*time.Millisecond)
	seen := b.expect(c, EventObserved).At
	b.wait("it was seen writable for longer than the grace", func() (bool, string) { return Now() > seen+2*time.Second, "" })
	resumed := Now()
	must(t, c.SetPolicy(b.ctx(), PolicyKill, 0))
	killed := b.expect(c, EventKilled)
	b.expect(c, EventDown)
	if took := killed.At - resumed; alive(pid) || took < 2*time.Second {
		t.Errorf("killed %s after the end of the pause", took)
	}
}

func TestStaleControlFileDoesNotKillAStartingStandby(t *testing.T) {
	b := newBench(t, "--unarmed-grace", "200ms")
	c, _ := b.connect()
	must(t, writeControl(b.data, controlInProduction))
	// Like a standby that syncs its directory for long: it runs, and the file is the crashed primary's.
	pid, err := c.Start(b.ctx(), StartSpec{Bin: "/bin/sleep", Args: []string{"sleep", "1000"}})
	must(t, err)
	nap(time.Second)
	if !alive(pid) {
		t.Fatal("killed for what an earlier server wrote")
	}
	must(t, writeControl(b.data, controlInProduction))
	b.expect(c, EventKilled)
	b.expect(c, EventDown)
}

func TestIdleFencerLeaves(t *testing.T) {
	b := newBench(t, "--idle-exit", "1s")
	c, _ := b.connect()
	must(t, c.Close())
	b.wait("fencer and second are gone", func() (bool, string) {
		pids := b.processes()
		return len(pids) == 0, "alive: " + join(pids)
	})
}

func TestServerInheritsNothingOfTheFencer(t *testing.T) {
	b := newBench(t)
	c, st := b.connect()
	if st.Priority == priorityNormal {
		t.Fatalf("no priority to inherit: the test means nothing: %+v", st)
	}
	pid, err := c.Start(b.ctx(), StartSpec{Bin: "/bin/sleep", Args: []string{"sleep", "1000"}})
	must(t, err)
	proc := "/proc/" + strconv.Itoa(pid)
	line, err := os.ReadFile(proc + "/stat")
	must(t, err)
	fields := strings.Fields(string(line)[strings.LastIndex(string(line), ")"):])
	if nice, policy := fields[19-2], fields[41-2]; nice != "0" || policy != "0" {
		t.Errorf("nice %s, policy %s", nice, policy)
	}
	if session := fields[6-2]; session != strconv.Itoa(pid) {
		t.Errorf("session %s, want its own", session)
	}
	// Some ways to run a test ignore a signal for everybody below them; that is not the fencer's.
	self, err := os.ReadFile("/proc/self/status")
	must(t, err)
	ours := string(statusField(self, "\nSigIgn:"))
	// The program's loader opens files of its own at first.
	b.wait("the program has started with what it was given", func() (bool, string) {
		status, err := os.ReadFile(proc + "/status")
		must(t, err)
		fds, err := os.ReadDir(proc + "/fd")
		must(t, err)
		blocked, ignored := string(statusField(status, "\nSigBlk:")), string(statusField(status, "\nSigIgn:"))
		seen := fmt.Sprintf("blocked %s, ignored %s, descriptors %v", blocked, ignored, fds)
		return strings.Trim(blocked, "0") == "" && ignored == ours && len(fds) == 3, seen
	})
	want, err := os.ReadFile("/proc/self/oom_score_adj")
	must(t, err)
	if got, err := os.ReadFile(proc + "/oom_score_adj"); err != nil || string(got) != string(want) {
		t.Errorf("oom score %q, want %q, %v", got, want, err)
	}
}

func TestFencerOfAnotherDataDirectoryIsRefused(t *testing.T) {
	b := newBench(t)
	b.connect()
	other := b.opts
	other.DataDir = b.root
	if c, _, err := Connect(b.ctx(), other, Hello{}); err == nil {
		_ = c.Close()
		t.Fatal("connected to the fencer of another server")
	}
}
