package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// stopGrace is how long a helper program may take to end after SIGTERM before SIGKILL.
const stopGrace = 5 * time.Second

// outputTail is how much of a helper's output is kept for messages.
const outputTail = 16 << 10

// helper is one run of a program that comes with PostgreSQL, or of an operator's command.
type helper struct {
	Name  string // for messages
	Path  string
	Args  []string
	Env   []string // added to a small fixed environment
	Stdin string
	// OnLine sees every line of output as it comes, from one goroutine.
	OnLine func(line string)
}

// HelperError is a helper program that failed.
type HelperError struct {
	Program string
	Status  string // as "exit status 1"
	Output  string // the last lines
	Kind    FailureKind
	Hint    string // what an operator may do; empty if nothing is known
}

func (e *HelperError) Error() string {
	msg := e.Program + ": " + e.Status
	if last := lastLines(e.Output, 3); last != "" {
		msg += ": " + last
	}
	if e.Hint != "" {
		msg += " (" + e.Hint + ")"
	}
	return msg
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(strings.Join(lines[max(0, len(lines)-n):], "; "))
}

// run starts a helper program in a process group of its own, as the server's user, and waits for
// it. When ctx ends, the group gets SIGTERM, and SIGKILL after a grace. The kernel kills the
// program should this process die, so it is never left behind.
func (s *Server) run(ctx context.Context, h helper) (output string, err error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", h.Name, err)
	}
	tail := &tailWriter{onLine: h.OnLine}
	cmd := exec.Command(h.Path, h.Args...)
	cmd.Dir = "/"
	cmd.Env = append(helperEnv(), h.Env...)
	if h.Stdin != "" {
		cmd.Stdin = strings.NewReader(h.Stdin)
	}
	cmd.Stdout, cmd.Stderr = tail, tail
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: s.asKid}

	begun := time.Now()
	done := make(chan error, 1)
	started := make(chan error, 1)
	go func() {
		// The death signal fires when the thread that forked ends, so it must live until the wait is over.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return "", fmt.Errorf("%s: %w", h.Name, err)
	}
	err = awaitGroup(ctx, cmd.Process.Pid, done)
	output = tail.String()
	s.log.Debug("helper program ended", zap.String("program", h.Name), zap.Duration("took", time.Since(begun)), zap.Error(err))
	if err == nil {
		return output, nil
	}
	if cause := ctx.Err(); cause != nil {
		return output, fmt.Errorf("%s: stopped: %w", h.Name, cause)
	}
	failed := &HelperError{Program: h.Name, Status: err.Error(), Output: output}
	failed.Kind, failed.Hint = classify(output)
	return output, failed
}

// awaitGroup waits for the leader of a process group, and leaves none of the group alive.
func awaitGroup(ctx context.Context, pid int, done <-chan error) error {
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case err = <-done:
		case <-grace.C:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			err = <-done
		}
		if err == nil {
			err = ctx.Err()
		}
	}
	// A child of the helper may outlive it. The group's id cannot be taken again while it has a member.
	if e := syscall.Kill(-pid, syscall.SIGKILL); e != nil && !errors.Is(e, syscall.ESRCH) && err == nil {
		err = e
	}
	return err
}

// helperEnv is the environment of every helper: nothing of PostgreSQL's own variables comes
// through from the agent, and messages are in the language that classify reads.
func helperEnv() []string {
	env := []string{"LC_ALL=C", "LANG=C", "LC_MESSAGES=C"}
	for _, name := range []string{"PATH", "HOME", "TZ", "LD_LIBRARY_PATH", "TMPDIR", "KRB5_CONFIG", "KRB5CCNAME", "KRB5_CLIENT_KTNAME"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// tailWriter keeps the last bytes of output and hands out whole lines. pg_basebackup and
// pg_rewind end a progress line with a carriage return.
type tailWriter struct {
	mu     sync.Mutex
	tail   []byte
	line   []byte
	onLine func(string)
}

var _ io.Writer = (*tailWriter)(nil)

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tail = append(w.tail, p...)
	if over := len(w.tail) - outputTail; over > 0 {
		w.tail = append(w.tail[:0], w.tail[over:]...)
	}
	if w.onLine == nil {
		return len(p), nil
	}
	w.line = append(w.line, p...)
	for {
		i := bytes.IndexAny(w.line, "\r\n")
		if i < 0 {
			break
		}
		if line := strings.TrimSpace(string(w.line[:i])); line != "" {
			w.onLine(line)
		}
		w.line = append(w.line[:0], w.line[i+1:]...)
	}
	if len(w.line) > outputTail {
		w.line = w.line[:0]
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ReplaceAll(string(w.tail), "\r", "\n")
}

// splitCommand splits an operator's command into words, with quotes and backslashes as in a
// shell, but without its expansions.
func splitCommand(s string) ([]string, error) {
	var words []string
	var b strings.Builder
	quote, in := byte(0), false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
			continue
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(s):
			if i++; quote == '"' && s[i] != '"' && s[i] != '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
		in = true
	}
	if quote != 0 {
		return nil, errors.New("command: the quote is not closed")
	}
	if in {
		words = append(words, b.String())
	}
	if len(words) == 0 {
		return nil, errors.New("command: empty")
	}
	return words, nil
}
