package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// proofTimeout bounds how long a signal may take to show its effect. A process in
// uninterruptible disk sleep can take a while on a busy machine.
const proofTimeout = 10 * time.Second

// ourPrograms are the commands that a run may have started. Only these are ever killed by
// searching: an editor or pager that looks at a log of the run is none of our business.
func ourPrograms() []string {
	return []string{
		"pgha-agent", "pghactl", "etcd", "haproxy", "postgres", "postmaster", "initdb", "pg_ctl",
		"pg_basebackup", "pg_rewind", "pg_controldata", "pg_checksums", "pg_isready", "psql", "pgbench",
	}
}

// ours finds the processes that belong to a directory of the run, with all their descendants,
// and never this process itself.
func ours(dir string) ([]Process, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var roots []Process
	for _, p := range all {
		if p.PID != os.Getpid() && p.isOneOf(ourPrograms()) && p.mentions(dir) {
			roots = append(roots, p)
		}
	}
	return slices.DeleteFunc(withDescendants(roots, all), func(p Process) bool { return p.PID == os.Getpid() }), nil
}

// isOneOf looks at the command name and at the name that the program was started by: a program
// that starts itself again through /proc/self/exe has the command name "exe". The kernel cuts
// command names to 15 bytes; every name that we look for is shorter.
func (p Process) isOneOf(programs []string) bool {
	return slices.Contains(programs, p.Comm) || len(p.Args) > 0 && slices.Contains(programs, filepath.Base(p.Args[0]))
}

// killAll sends SIGKILL and returns when every one of the processes is gone.
func killAll(ctx context.Context, victims []Process) error {
	for _, p := range victims {
		if err := p.Signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	return proveGone(ctx, victims)
}

func proveGone(ctx context.Context, victims []Process) error {
	state, ok := poll(ctx, proofTimeout, func(context.Context) (bool, string) {
		left := living(victims)
		return len(left) == 0, describeProcesses(left)
	})
	if !ok {
		return fmt.Errorf("kill: still alive after %s: %s", proofTimeout, state)
	}
	return nil
}

// stopAll sends SIGSTOP and returns when every thread of every process is stopped.
func stopAll(ctx context.Context, victims []Process) error {
	for _, p := range victims {
		if err := p.Signal(unix.SIGSTOP); err != nil {
			return err
		}
	}
	state, ok := poll(ctx, proofTimeout, func(context.Context) (bool, string) {
		running := slices.DeleteFunc(living(victims), Process.Stopped)
		return len(running) == 0, describeProcesses(running)
	})
	if !ok {
		return fmt.Errorf("freeze: still running after %s: %s", proofTimeout, state)
	}
	return nil
}

// contAll undoes stopAll, in the order given.
func contAll(ctx context.Context, victims []Process) error {
	for _, p := range victims {
		if err := p.Signal(unix.SIGCONT); err != nil {
			return err
		}
	}
	state, ok := poll(ctx, proofTimeout, func(context.Context) (bool, string) {
		still := slices.DeleteFunc(living(victims), func(p Process) bool { return !p.Stopped() })
		return len(still) == 0, describeProcesses(still)
	})
	if !ok {
		return fmt.Errorf("thaw: still stopped after %s: %s", proofTimeout, state)
	}
	return nil
}

// sweep kills everything that find returns, again and again until it returns nothing twice: a
// process killed in the middle of a fork leaves a child that the first look did not see. All are
// stopped before any is killed, so that none can react to the death of another.
func sweep(ctx context.Context, find func() ([]Process, error)) (int, error) {
	killed := 0
	for empty := 0; empty < 2; {
		victims, err := find()
		if err != nil {
			return killed, err
		}
		if len(victims) == 0 {
			empty++
			continue
		}
		empty = 0
		killed += len(victims)
		for _, p := range victims {
			if err := p.Signal(unix.SIGSTOP); err != nil {
				return killed, err
			}
		}
		if err := killAll(ctx, victims); err != nil {
			return killed, err
		}
	}
	return killed, nil
}

func living(all []Process) []Process {
	var out []Process
	for _, p := range all {
		if p.Alive() {
			out = append(out, p)
		}
	}
	return out
}

func describeProcesses(all []Process) string {
	if len(all) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}
