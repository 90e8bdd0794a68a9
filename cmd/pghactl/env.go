package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/dcs"
)

// store is the part of the consensus store that an operator's tool needs.
type store interface {
	Load(ctx context.Context) (dcs.Snapshot, error)
	Apply(ctx context.Context, txn dcs.Txn) (dcs.TxnResult, error)
	Close() error
}

// agents talks to the REST API of the members.
type agents interface {
	// Do sends one request to the agent behind apiURL (as published in its member key) and
	// returns its answer whatever the status is. A nil body sends none. The error is
	// errNoContact if the request certainly never reached the agent.
	Do(ctx context.Context, apiURL, method, path string, body any) (reply, error)
}

// reply is an agent's answer.
type reply struct {
	Code int
	Body []byte
	Text string // the body as a line for people
}

// env is the world around a command. Tests give another one.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	// stdinTTY says whether questions can be asked, stderrTTY whether a line may be redrawn,
	// stdoutTTY whether the screen may be cleared.
	stdinTTY, stdoutTTY, stderrTTY bool

	version string // of this program
	now     func() time.Time
	environ []string // NAME=value
	// pause waits; it returns early, with the context's error, when the context ends.
	pause func(context.Context, time.Duration) error

	configDir string // of the user: ~/.config
	etcDir    string // /etc/pgha

	openStore  func(context.Context, settings) (store, error)
	openAgents func(settings) (agents, error)
	// edit opens an editor on a file and returns when the user has closed it.
	edit func(ctx context.Context, path string) error
}

func osEnv() *env {
	e := &env{
		stdin:     os.Stdin,
		stdout:    os.Stdout,
		stderr:    os.Stderr,
		stdinTTY:  isTerminal(os.Stdin),
		stdoutTTY: isTerminal(os.Stdout),
		stderrTTY: isTerminal(os.Stderr),
		version:   buildVersion(),
		now:       time.Now,
		environ:   os.Environ(),
		pause:     pauseFor,
		configDir: userConfigDir(os.Getenv),
		etcDir:    "/etc/pgha",
	}
	e.openStore = openEtcd
	e.openAgents = openAgents
	e.edit = func(ctx context.Context, path string) error { return runEditor(ctx, os.Getenv, path) }
	return e
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func userConfigDir(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		return dir
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".config")
	}
	return ""
}

// runEditor opens the user's editor on the terminal.
func runEditor(ctx context.Context, getenv func(string) string, path string) error {
	words := strings.Fields(getenv("EDITOR"))
	if len(words) == 0 {
		for _, name := range []string{"editor", "vi"} {
			if found, err := exec.LookPath(name); err == nil {
				words = []string{found}
				break
			}
		}
	}
	if len(words) == 0 {
		return withHint(fmt.Errorf("no editor found"),
			"set EDITOR, or change single values with -s NAME=VALUE")
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], path)...) //nolint:forbidigo // an editor may be killed
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run editor %s: %w", words[0], err)
	}
	return nil
}

// getenv is the value of an environment variable, empty if it is not set.
func (e *env) getenv(name string) string {
	value := ""
	for _, entry := range e.environ {
		if n, v, ok := strings.Cut(entry, "="); ok && n == name {
			value = v // the last one counts
		}
	}
	return value
}

// say prints talk.
func (e *env) say(format string, args ...any) {
	fmt.Fprintf(e.stderr, format+"\n", args...)
}
