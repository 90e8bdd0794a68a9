package fencer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// Main is the command "fencer": args are those after that word. The command line is made by Connect
// and by the fencer itself; in a container the entry point calls RunInit instead.
func Main(ctx context.Context, args []string) error {
	cmd, err := parseCommand(args)
	if err != nil {
		return err
	}
	cmd.opts.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil)).With(slog.Int("fencer_pid", os.Getpid()))
	switch {
	case cmd.detach:
		return detach(args)
	case cmd.second:
		return runSecond(cmd.opts)
	default:
		return Run(ctx, cmd.opts)
	}
}

type command struct {
	opts           ServerOptions
	detach, second bool
}

func parseCommand(args []string) (command, error) {
	var c command
	flags := flag.NewFlagSet("fencer", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.opts.Dir, "dir", "", "run directory of the member")
	flags.StringVar(&c.opts.DataDir, "data-dir", "", "PostgreSQL data directory")
	flags.IntVar(&c.opts.UID, "uid", 0, "user of PostgreSQL; 0: this process's")
	flags.IntVar(&c.opts.GID, "gid", 0, "group of PostgreSQL")
	flags.DurationVar(&c.opts.UnarmedGrace, "unarmed-grace", 0, "how long a server may be writable without a token")
	flags.DurationVar(&c.opts.AdoptGrace, "adopt-grace", 0, "the same for one that was found writable")
	flags.DurationVar(&c.opts.IdleExit, "idle-exit", 0, "exit after so long without agent and server")
	flags.BoolVar(&c.opts.ScanOnly, "scan-only", false, "do not use cgroups")
	flags.BoolVar(&c.opts.NoSecond, "no-second", false, "do not keep a second process")
	flags.StringVar(&c.opts.OOMScore, "oom-score", "", "oom_score_adj for the server; empty: that of this process")
	flags.BoolVar(&c.detach, "detach", false, "start the fencer in the background and exit")
	flags.BoolVar(&c.second, "second", false, "be the second process (internal)")
	if err := flags.Parse(args); err != nil {
		return command{}, fmt.Errorf("fencer: %w", err)
	}
	if flags.NArg() > 0 {
		return command{}, fmt.Errorf("fencer: unexpected argument %q", flags.Arg(0))
	}
	if c.opts.Dir == "" || c.opts.DataDir == "" {
		return command{}, errors.New("fencer: --dir and --data-dir are needed")
	}
	return c, nil
}

// commandLine are the arguments after the program's name.
func (o ServerOptions) commandLine() []string {
	return []string{
		"fencer", "--dir", o.Dir, "--data-dir", o.DataDir, "--uid", strconv.Itoa(o.UID), "--gid", strconv.Itoa(o.GID),
		"--unarmed-grace", o.UnarmedGrace.String(), "--adopt-grace", o.AdoptGrace.String(),
		"--idle-exit", o.IdleExit.String(), "--scan-only=" + strconv.FormatBool(o.ScanOnly),
		"--oom-score", o.OOMScore,
	}
}

// detach starts the same command in a session of its own and leaves, so that whoever called has no
// child to wait for.
func detach(args []string) error {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--detach" })
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("fencer: detach: %w", err)
	}
	out := os.Stderr.Fd()
	_, err = syscall.ForkExec(ownProgram, append([]string{os.Args[0], "fencer"}, args...), &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{null.Fd(), out, out},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return errors.Join(err, null.Close())
}
