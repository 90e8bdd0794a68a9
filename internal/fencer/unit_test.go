package fencer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStatCountsFieldsFromTheLastParenthesis(t *testing.T) {
	line := "4711 (a (b) c) D 815 4711 4711 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2"
	got, ok := parseStat([]byte(line))
	if want := (procStat{state: 'D', ppid: 815, tty: true, start: 987654}); !ok || got != want {
		t.Errorf("got %+v %v, want %+v", got, ok, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) ", "1 (x) SS 1", "1 (x) S 1 2 3"} {
		if _, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestOwnCgroup(t *testing.T) {
	const v1 = "30 23 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	for name, tt := range map[string]struct{ mounts, own, want string }{
		"unified":           {"31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/system.slice/x.service\n", "/sys/fs/cgroup/system.slice/x.service"},
		"hybrid":            {v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n", "9:name=systemd:/\n0::/\n", "/sys/fs/cgroup/unified"},
		"part of the tree":  {"31 23 0:26 /pod/c1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/pod/c1/x\n", "/sys/fs/cgroup/x"},
		"no v2 mount":       {v1, "0::/\n", ""},
		"no v2 place":       {"31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "4:cpu:/\n", ""},
		"another container": {"31 23 0:26 /pod/c1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/other\n", ""},
	} {
		if got := ownCgroup(tt.mounts, tt.own); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func newTestShared(t *testing.T) *shared {
	t.Helper()
	sh, fd, err := newShared()
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return sh
}

func TestOnlyOneOfRenewalAndStrikeHappens(t *testing.T) {
	sh := newTestShared(t)
	sh.arm(1, 1)
	word := sh.word.Load()
	if !sh.strike(word) || sh.strike(word) || sh.renew(10, 10) || sh.state() != stateStruck {
		t.Fatalf("state %d", sh.state())
	}
	sh.disarm()
	sh.arm(20, 20)
	if sh.strike(word) {
		t.Error("a strike at an earlier generation hit this one")
	}
	if !sh.renew(30, 30) || sh.until.Load() != 30 {
		t.Error("renewal was lost")
	}
	sh.disarm()
	if sh.renew(40, 40) {
		t.Error("renewed while disarmed")
	}
}

func TestRemainingTakesTheClockThatRanFurther(t *testing.T) {
	sh := newTestShared(t)
	sh.arm(Now()+time.Hour, rawNow()+time.Minute)
	if left := sh.remaining(); left > time.Minute {
		t.Errorf("%s left by the slower clock", left)
	}
	sh.arm(Now()+time.Minute, rawNow()+time.Hour)
	if left := sh.remaining(); left > time.Minute {
		t.Errorf("%s left by the slower clock", left)
	}
}

func TestWakeAtComesNearTheDeadlineInFewSteps(t *testing.T) {
	for _, left := range []time.Duration{-time.Second, 0, time.Millisecond, time.Second, time.Hour} {
		now, end, steps := time.Duration(0), left, 0
		for ; now < end; steps++ {
			next := wakeAt(now, end-now)
			if next <= now || next > max(end, now+1) {
				t.Fatalf("%s: wake at %s of %s", left, next, end)
			}
			now = next
		}
		if steps > 12 {
			t.Errorf("%s: %d steps", left, steps)
		}
	}
}

func TestWritableSinceIgnoresWhatAnEarlierServerWrote(t *testing.T) {
	start := time.Now()
	for name, tt := range map[string]struct {
		c        control
		baseline string
		want     bool
	}{
		"unchanged since the start": {control{production: true, digest: "a", modified: start.Add(time.Hour)}, "a", false},
		"written since the start":   {control{production: true, digest: "b"}, "a", true},
		"recovery":                  {control{digest: "b"}, "a", false},
		"foreign server, old file":  {control{production: true, modified: start.Add(-time.Second)}, "", false},
		"foreign server, new file":  {control{production: true, modified: start.Add(time.Second)}, "", true},
	} {
		if got := tt.c.writableSince(tt.baseline, start); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestStateOfAnotherBootKeepsOnlyTheEpochs(t *testing.T) {
	dir := t.TempDir()
	d := durable{Version: durableVersion, BootID: "a", Armed: true, LastEpoch: 5, EndedEpoch: 4, PromiseUntil: 99}
	must(t, saveDurable(owner{}, dir, d))
	got, found, err := loadDurable(dir, "a")
	if err != nil || !found || !got.Armed || got.PromiseUntil != 99 {
		t.Errorf("same boot: %+v %v %v", got, found, err)
	}
	got, found, err = loadDurable(dir, "b")
	if err != nil || found || got.Armed || got.PromiseUntil != 0 || got.LastEpoch != 5 || got.EndedEpoch != 4 {
		t.Errorf("other boot: %+v %v %v", got, found, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, stateName), []byte("{"), 0o600))
	if _, found, err := loadDurable(dir, "a"); err == nil || found {
		t.Errorf("torn file: %v %v", found, err)
	}
}

func TestScanSparesAnAdministratorButNotTheServersProgram(t *testing.T) {
	b := newBench(t)
	sh := newTestShared(t)
	dev, ino, err := dataDirID(b.data)
	must(t, err)
	sh.dataDev.Store(dev)
	sh.dataIno.Store(ino)
	sh.uid.Store(65534) // nobody: what runs here as root is somebody else's
	scan, err := newScanner(sh)
	must(t, err)
	pid := startForeign(t, b, "hog")
	if found, err := scan.scan(); err != nil || len(found) != 0 {
		t.Errorf("process of another user: found %v, %v", found, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &st))
	sh.exeDev.Store(st.Dev)
	sh.exeIno.Store(st.Ino)
	if found, err := scan.scan(); err != nil || len(found) != 1 || found[0].pid != pid {
		t.Errorf("the server's program: found %v, %v", found, err)
	}
	sh.spare[spareAgent].Store(int64(pid))
	if found, err := scan.scan(); err != nil || len(found) != 0 {
		t.Errorf("spared process: found %v, %v", found, err)
	}
}

func TestDeadlineLoopDoesNotAllocate(t *testing.T) {
	sh := newTestShared(t)
	w, err := newWatcher(sh)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(w.timer); _ = unix.Close(w.kickFD) })
	sh.arm(Now()+time.Hour, rawNow()+time.Hour)
	fds := make([]unix.PollFd, 3)
	if n := testing.AllocsPerRun(50, func() {
		w.kick()
		w.once(fds)
	}); n != 0 && !raceDetector {
		t.Errorf("the loop allocates %v times a round", n)
	}
	dev, ino, err := dataDirID(t.TempDir())
	must(t, err)
	sh.dataDev.Store(dev)
	sh.dataIno.Store(ino)
	if n := testing.AllocsPerRun(5, func() { _, _ = w.silence.scan.scan() }); n != 0 && !raceDetector {
		t.Errorf("a scan allocates %v times", n)
	}
}

func TestCommandLineIsUnderstood(t *testing.T) {
	args := commandLine(Options{Dir: "/r", DataDir: "/d", UID: 1, GID: 2, ExtraArgs: []string{"--scan-only"}})
	got, err := parseCommand(args[1:])
	must(t, err)
	if got.opts.Dir != "/r" || got.opts.DataDir != "/d" || got.opts.UID != 1 || got.opts.GID != 2 || !got.opts.ScanOnly {
		t.Errorf("got %+v", got)
	}
	for _, bad := range [][]string{nil, {"--dir", "x"}, {"--dir", "x", "--data-dir", "y", "z"}, {"--what"}} {
		if _, err := parseCommand(bad); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

// TestStateKnowsOfAStartThatItOvertook: what is read first counts, even if its handler comes later.
func TestStateKnowsOfAStartThatItOvertook(t *testing.T) {
	b := newBench(t)
	c, _ := b.connect()
	overtook := 0
	for range 50 {
		var pid int
		var startErr error
		answered := make(chan struct{})
		started := make(chan struct{})
		go func() {
			defer close(answered)
			close(started)
			pid, startErr = c.Start(b.ctx(), StartSpec{Bin: "/bin/sh", Args: []string{"sh", "-c", "exec sleep 60"}})
		}()
		<-started
		for {
			st := b.state(c)
			select {
			case <-answered:
			default:
				if st.Busy && st.Postmaster == 0 {
					overtook++
				}
				continue
			}
			break
		}
		must(t, startErr)
		if st := b.state(c); st.Busy || st.Postmaster != pid {
			t.Fatalf("after the start: %+v", st)
		}
		must(t, c.Kill(b.ctx()))
	}
	if overtook == 0 {
		t.Fatal("no State was answered while a start was on its way")
	}
}
