package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// offline is a world without a store, for commands that need none.
func offline() (*env, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	clock := newFakeClock()
	return &env{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, now: clock.Now, etcDir: "/nonexistent", openAgents: openAgents}, &stdout, &stderr
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	e, _, _ := offline()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "pghactl ") {
			t.Errorf("%s: wants a short text, a long text and an example", cmd.CommandPath())
		}
		for line := range strings.SplitSeq(cmd.Long+"\n"+cmd.Example, "\n") {
			if textWidth(line) > 110 {
				t.Errorf("%s: help line is too long: %q", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRootCmd(e))
}

func TestHelpIsDataAndExitsWithZero(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help", "list"}, {"switchover", "--help"}} {
		e, stdout, stderr := offline()
		if code := run(t.Context(), e, args); code != exitDone {
			t.Errorf("%q: exit status %d, stderr %s", args, code, stderr)
		}
		if !strings.Contains(stdout.String(), "Usage:") || stderr.Len() > 0 {
			t.Errorf("%q: stdout %q, stderr %q", args, stdout, stderr)
		}
	}
}

func TestCompletionScriptsAreWritten(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		e, stdout, stderr := offline()
		if code := run(t.Context(), e, []string{"completion", shell}); code != exitDone {
			t.Errorf("%s: exit status %d: %s", shell, code, stderr)
		}
		if !strings.Contains(stdout.String(), "pghactl") {
			t.Errorf("%s: no script", shell)
		}
	}
}

func TestTheAdviceNearestToTheCauseIsPrinted(t *testing.T) {
	inner := withHint(errAborted, "inner advice")
	var b bytes.Buffer
	reportError(&b, withHint(inner, "outer advice"))
	want := "pghactl: error: aborted, nothing was changed\npghactl: hint: inner advice\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
