package fencer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The stand-in behaves like the worst postmaster: its children have sessions of their own, ignore
// SIGTERM, and survive it. It keeps postmaster.pid and pg_control like a real one.

// playPostmaster: data directory, number of children. SIGINT ends it at once and leaves the
// children behind; SIGTERM is ignored; SIGUSR1 promotes if the request is there.
func playPostmaster(args []string) error {
	dir := args[0]
	children, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGHUP)
	pidFile := fmt.Sprintf("%d\n%s\n%d\n5432\n", os.Getpid(), dir, time.Now().Unix())
	if err := os.WriteFile("postmaster.pid", []byte(pidFile), 0o600); err != nil {
		return err
	}
	state := uint32(controlInProduction)
	if _, err := os.Stat(standbySignal); err == nil {
		state = 5
	}
	if err := writeControl(dir, state); err != nil {
		return err
	}
	for range children {
		if _, err := spawnBackend(""); err != nil {
			return err
		}
	}
	if err := os.WriteFile("ready", nil, 0o600); err != nil {
		return err
	}
	for sig := range signals {
		switch sig {
		case syscall.SIGINT:
			return nil
		case syscall.SIGUSR1:
			if os.Remove(promoteFile) != nil {
				continue
			}
			if err := errors.Join(os.Remove(standbySignal), writeControl(dir, controlInProduction)); err != nil {
				return err
			}
		}
	}
	return nil
}

// playBackend ignores SIGTERM and has one more child, which leaves the data directory.
func playBackend(args []string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	if len(args) == 0 {
		if _, err := spawnBackend("/"); err != nil {
			return err
		}
	}
	for {
		_ = unix.Pause()
	}
}

func spawnBackend(dir string) (int, error) {
	args := []string{"standin-child"}
	if dir != "" {
		args = append(args, "far")
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", args...)
	cmd.Dir = dir
	cmd.Env = os.Environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// writeControl replaces the state in pg_control and touches the rest, as PostgreSQL does.
func writeControl(dir string, state uint32) error {
	head := make([]byte, 8192)
	binary.NativeEndian.PutUint32(head[controlStateOffset:], state)
	binary.NativeEndian.PutUint64(head[24:], uint64(time.Now().UnixNano()))
	return os.WriteFile(filepath.Join(dir, "global", "pg_control"), head, 0o600)
}

// playAgent: run directory, data directory, epoch, duration of one lease. It connects, arms,
// renews three times per lease, and prints what it does.
func playAgent(args []string) error {
	ctx := context.Background()
	lease, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	epoch, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	c, _, err := Connect(ctx, Options{Dir: args[0], DataDir: args[1]}, Hello{Name: "agent"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.Arm(ctx, Token{Epoch: epoch, Until: Now() + lease}); err != nil {
		return err
	}
	fmt.Println("armed")
	for tick := range time.Tick(lease / 3) {
		_ = tick
		if err := c.Renew(ctx, epoch, 1, Now()+lease); err != nil {
			fmt.Println("refused", strings.ReplaceAll(err.Error(), "\n", " "))
			return err
		}
		fmt.Println("renewed")
	}
	return nil
}

// playInit: run directory, data directory, agent command.
func playInit(args []string) error {
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	code, err := RunInit(context.Background(), InitOptions{
		ServerOptions: ServerOptions{Dir: args[0], DataDir: args[1], ScanOnly: true},
		Command:       args[2:],
		StopTimeout:   5 * time.Second,
	})
	fmt.Println("init ends with", code, err)
	os.Exit(code)
	return nil
}
