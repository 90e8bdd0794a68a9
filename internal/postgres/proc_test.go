package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func TestHelperIsStoppedWithAllItsChildren(t *testing.T) {
	s := newNode(t, "n").Server
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pids []string
	// The shell ignores SIGTERM; its child does not see the terminal at all.
	_, err := s.run(ctx, helper{
		Name: "stubborn", Path: "/bin/sh",
		Args: []string{"-c", "sleep 1000 & echo $! $$; exec sleep 1000"},
		OnLine: func(line string) {
			pids = strings.Fields(line)
			cancel()
		},
	})
	if !errors.Is(err, context.Canceled) || len(pids) != 2 {
		t.Fatalf("%v, %v", err, pids)
	}
	for _, p := range pids {
		pid, err := strconv.Atoi(p)
		if err != nil {
			t.Fatal(err)
		}
		pgtest.Wait(t, "process "+p+" is gone", func() (bool, string) {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || strings.Contains(string(b), ") Z "), string(b)
		})
	}
}

func TestHelperThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	s := newNode(t, "n").Server
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := time.Now()
	_, err := s.run(ctx, helper{
		Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 1; done"},
		OnLine: func(string) { cancel() },
	})
	if took := time.Since(begun); !errors.Is(err, context.Canceled) || took > 3*stopGrace {
		t.Fatalf("%v after %s", err, took)
	}
}

func TestHelperRunsAsTheServersUserInACleanEnvironment(t *testing.T) {
	s := newNode(t, "n").Server
	t.Setenv("PGHOST", "elsewhere")
	t.Setenv("PATRONI_SUPERUSER_PASSWORD", "secret")
	out, err := s.run(t.Context(), helper{Name: "env", Path: "/bin/sh", Args: []string{"-c", "id -un; env"}, Env: []string{"X=1"}})
	if err != nil || os.Geteuid() == 0 && !strings.HasPrefix(out, "postgres\n") {
		t.Errorf("%s, %v", out, err)
	}
	if strings.Contains(out, "PGHOST") || strings.Contains(out, "secret") || !strings.Contains(out, "LC_ALL=C\n") || !strings.Contains(out, "X=1\n") {
		t.Errorf("%s", out)
	}
	_, args, env := s.StartArgs()
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PG") || strings.Contains(e, "secret") }) || args[0] != "-D" {
		t.Errorf("%q %q", args, env)
	}
}

func TestHelperFailureKeepsTheLastOutput(t *testing.T) {
	s := newNode(t, "n").Server
	_, err := s.run(t.Context(), helper{Name: "loud", Path: "/bin/sh", Args: []string{"-c", "seq 1 100000; echo 'No space left on device' >&2; exit 3"}})
	var h *HelperError
	if !errors.As(err, &h) || h.Kind != FailureDiskFull || h.Status != "exit status 3" || len(h.Output) > outputTail || !strings.Contains(h.Error(), "No space left") {
		t.Errorf("%v", err)
	}
	if _, err := s.run(t.Context(), helper{Name: "missing", Path: "/nonexistent/x"}); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("%v", err)
	}
}

func TestCommandsAreSplitAsAShellWould(t *testing.T) {
	for in, want := range map[string][]string{
		`/a/b c`:                {"/a/b", "c"},
		`  'a b' "c \" d" e\ f`: {"a b", `c " d`, "e f"},
		`a "" ''`:               {"a", "", ""},
		`"\n" '\n'`:             {`\n`, `\n`},
		`a"b"'c'`:               {"abc"},
	} {
		got, err := splitCommand(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "  ", `"a`, `'`} {
		if got, err := splitCommand(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestProgressLinesAreRead(t *testing.T) {
	var done, total int64
	p := func(d, t int64) { done, total = d, t }
	reportProgress("  22536/1234567 kB (1%), 0/1 tablespace", p)
	if done != 22536<<10 || total != 1234567<<10 {
		t.Errorf("%d %d", done, total)
	}
	reportProgress("waiting for checkpoint", p)
	reportProgress("1/x kB", p)
	reportProgress("1/2 kB", nil)
	if done != 22536<<10 {
		t.Errorf("%d", done)
	}
}
