package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWatchingGoesOnOverErrorsUntilInterrupted(t *testing.T) {
	e, stdout, _ := offline()
	e.stdoutTTY = true
	looks := 0
	ctx, cancel := context.WithCancel(t.Context())
	var waited []time.Duration
	e.pause = func(ctx context.Context, d time.Duration) error {
		waited = append(waited, d)
		if looks == 3 {
			cancel()
		}
		return ctx.Err()
	}
	a := &app{env: e}
	err := a.repeat(ctx, watchOptions{every2: true}, func(_ context.Context, w io.Writer) error {
		if looks++; looks == 2 {
			return errors.New("the store is away")
		}
		_, err := io.WriteString(w, "table\n")
		return err
	})
	if err != nil {
		t.Fatalf("got %v, want no error: an interrupt is how watching ends", err)
	}
	want := clearScreen + "table\n" + clearScreen + "pghactl: error: the store is away\n" + clearScreen + "table\n"
	if stdout.String() != want {
		t.Errorf("got %q, want %q", stdout.String(), want)
	}
	if len(waited) != 3 || waited[0] != 2*time.Second {
		t.Errorf("waited %v, want 2s three times", waited)
	}
	if got := (&watchOptions{seconds: 0.5}).interval(); got != 500*time.Millisecond {
		t.Errorf("-w 0.5 waits %v", got)
	}
}

func TestElapsedTimeIsDrawnOnATerminalAndWipedAtTheEnd(t *testing.T) {
	var b bytes.Buffer
	clock := newFakeClock()
	drawn := make(chan struct{}, 1)
	s := &session{env: &env{
		stderr: &b, stderrTTY: true, now: clock.Now,
		pause: func(ctx context.Context, _ time.Duration) error {
			select {
			case drawn <- struct{}{}:
			default:
			}
			clock.Advance(time.Second)
			<-ctx.Done()
			return ctx.Err()
		},
	}}
	stop := s.showElapsed(t.Context(), "switchover")
	<-drawn
	stop()
	if want := "\r\x1b[Kswitchover: 0s\r\x1b[K"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestEditorComesFromTheEnvironmentWithItsArguments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("ttl: 10\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	getenv := func(string) string { return "sed -i s/10/20/" }
	if err := runEditor(t.Context(), getenv, path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "ttl: 20\n" {
		t.Errorf("got %q, %v", text, err)
	}
	if err := runEditor(t.Context(), func(string) string { return "false" }, path); err == nil {
		t.Error("an editor that fails is no error")
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pauseFor(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := pauseFor(t.Context(), time.Nanosecond); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestUserConfigDir(t *testing.T) {
	for want, vars := range map[string]map[string]string{
		"/x":              {"XDG_CONFIG_HOME": "/x", "HOME": "/home/u"},
		"/home/u/.config": {"HOME": "/home/u"},
		"":                {},
	} {
		if got := userConfigDir(func(name string) string { return vars[name] }); got != want {
			t.Errorf("%v: got %q, want %q", vars, got, want)
		}
	}
}

func TestOnlyASwitchOnATerminalIsAsked(t *testing.T) {
	for name, tc := range map[string]struct {
		tty, force bool
		typed      string
		want       error
	}{
		"yes":               {true, false, "yes\n", nil},
		"y without newline": {true, false, "y", nil},
		"anything else":     {true, false, "ok\n", errAborted},
		"nothing":           {true, false, "\n", errAborted},
		"end of input":      {true, false, "", errAborted},
		"force":             {false, true, "", nil},
	} {
		e, _, _ := offline()
		e.stdin, e.stdinTTY = strings.NewReader(tc.typed), tc.tty
		if err := newAsker(e, tc.force).confirm("Sure?"); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
