package cluster

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper is a harmless process to be killed and frozen.
func sleeper(t *testing.T) (*child, Process) {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	c, err := start(spec{name: "sleeper", path: path, args: []string{"600"}, log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c, c.proc
}

func TestFreezeIsProvenAndThawed(t *testing.T) {
	_, p := sleeper(t)
	if p.Stopped() {
		t.Fatal("a running process counts as stopped")
	}
	if err := stopAll(t.Context(), []Process{p}); err != nil {
		t.Fatal(err)
	}
	if !p.Stopped() || !p.Alive() {
		t.Fatalf("after the freeze: stopped %t, alive %t", p.Stopped(), p.Alive())
	}
	if err := contAll(t.Context(), []Process{p}); err != nil {
		t.Fatal(err)
	}
	if p.Stopped() {
		t.Fatal("still stopped after the thaw")
	}
}

func TestKillIsProvenAndAnotherProcessWithTheSameIDIsLeftAlone(t *testing.T) {
	c, p := sleeper(t)
	impostor := p
	impostor.Start++ // an older process whose id is now p's
	if impostor.Alive() {
		t.Fatal("a process of another start time counts as alive")
	}
	if err := impostor.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !c.running() {
		t.Fatal("the signal hit a process that was not meant")
	}
	if err := killAll(t.Context(), []Process{p}); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Fatal("alive after the kill")
	}
}

func TestAFaultThatDoesNotHappenIsAnError(t *testing.T) {
	_, p := sleeper(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := proveGone(ctx, []Process{p}); err == nil || !strings.Contains(err.Error(), "still alive") {
		t.Fatalf("got %v, want the living process named", err)
	}
}

func TestMentionsNeedsTheWholeDirectoryName(t *testing.T) {
	tests := []struct {
		args []string
		cwd  string
		want bool
	}{
		{[]string{"x", "/run/a/c.yml"}, "/", true},
		{[]string{"x", "--dir=/run/a"}, "/", true},
		{[]string{"x"}, "/run/a/data", true},
		{[]string{"x", "/run/ab/c.yml"}, "/", false},
		{[]string{"x", "/run/ab,/run/a/y"}, "/", true},
		{[]string{"x"}, "/run/ab", false},
		{nil, "", false},
	}
	for _, test := range tests {
		if got := (Process{Args: test.args, CWD: test.cwd}).mentions("/run/a"); got != test.want {
			t.Errorf("%v in %s: got %t, want %t", test.args, test.cwd, got, test.want)
		}
	}
}

func TestParseStatSurvivesBracketsAndBlanksInTheCommand(t *testing.T) {
	line := "42 (a) b (c)) T 7 1 1 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 999 0 0"
	p, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != 42 || p.Comm != "a) b (c)" || p.State != 'T' || p.PPID != 7 || p.Start != 999 {
		t.Errorf("got %+v", p)
	}
	if _, err := parseStat([]byte("42 (a) T 7")); err == nil {
		t.Error("a short line was accepted")
	}
}
