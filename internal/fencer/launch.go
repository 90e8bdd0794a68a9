package fencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketName = "fencer.sock"
	lockName   = "fencer.lock"
	readyName  = "fencer.ready"
	stateName  = "fencer.json"
	logName    = "fencer.log"

	dialEvery     = 5 * time.Millisecond
	launchTimeout = 15 * time.Second
	relaunchAfter = 3 * time.Second

	// ownProgram is the program of this process, also after its file was replaced.
	ownProgram = "/proc/self/exe"
)

// dialOrLaunch connects to the fencer of the run directory, and starts one if none listens. Two
// agents may do this at once: the second fencer finds the lock taken and leaves.
func dialOrLaunch(ctx context.Context, opts Options) (*net.UnixConn, error) {
	if err := makeRunDir(opts); err != nil {
		return nil, err
	}
	conn, err := dial(ctx, opts.Dir)
	if err == nil {
		return conn, nil
	}
	if !notListening(err) {
		return nil, err
	}
	if opts.Log != nil {
		opts.Log.Info("starting fencer", slog.String("run_dir", opts.Dir))
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	patience := Now() + opts.Patience
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	for launched := time.Duration(0); ; {
		// Again after a while: the one that was started may have found the lock taken by one that
		// was about to leave.
		if Now() >= patience && (launched == 0 || Now()-launched > relaunchAfter) {
			if err := launch(ctx, opts); err != nil {
				return nil, err
			}
			launched = Now()
		}
		conn, err = dial(ctx, opts.Dir)
		if err == nil || !notListening(err) {
			return conn, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("started fencer does not answer (see %s): %w",
				filepath.Join(opts.Dir, logName), err)
		}
	}
}

func notListening(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// dial goes through a descriptor of the directory, because the path of a socket may have no more
// than 107 bytes.
func dial(ctx context.Context, dir string) (*net.UnixConn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open run directory: %w", err)
	}
	defer func() { _ = d.Close() }()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socketPath(d))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

func socketPath(dir *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + socketName
}

func makeRunDir(opts Options) error {
	err := os.Mkdir(opts.Dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if os.Geteuid() == 0 && opts.UID > 0 {
		if err := os.Chown(opts.Dir, opts.UID, opts.GID); err != nil {
			return fmt.Errorf("make run directory: %w", err)
		}
	}
	return nil
}

// launch starts the fencer so that it is no child of the agent: the first process starts the real
// one in a session of its own and exits. The agent has nothing to reap later.
func launch(ctx context.Context, opts Options) error { return launchWith(ctx, opts, commandLine(opts)) }

func launchWith(ctx context.Context, opts Options, args []string) error {
	binary := opts.Binary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("launch fencer: %w", err)
		}
		binary = self
	}
	logFile, err := owner{uid: opts.UID, gid: opts.GID}.openLog(filepath.Join(opts.Dir, logName))
	if err != nil {
		return fmt.Errorf("launch fencer: %w", err)
	}
	defer func() { _ = logFile.Close() }()
	args = append(args, "--detach")
	cmd := exec.CommandContext(ctx, binary, args...)
	if binary == ownProgram {
		cmd.Args[0] = os.Args[0] // a name that people know
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("launch fencer: %s (see %s): %w", binary, logFile.Name(), err)
	}
	return nil
}

// commandLine are the arguments after the program's name.
func commandLine(opts Options) []string {
	args := []string{
		"fencer", "--dir", absolute(opts.Dir), "--data-dir", absolute(opts.DataDir),
		"--uid", strconv.Itoa(opts.UID), "--gid", strconv.Itoa(opts.GID),
	}
	return append(args, opts.ExtraArgs...)
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}
