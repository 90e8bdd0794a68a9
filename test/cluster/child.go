package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// spec is a program to start.
type spec struct {
	name string // for messages
	path string
	args []string
	env  []string // added to a clean environment
	dir  string
	log  string // appended to
	user *credential
	ns   *namespace
}

// child is a program that this process started and reaps.
type child struct {
	name string
	proc Process
	log  string
	done chan struct{} // closed after the program has been reaped
	err  error         // how it ended; read only after done
}

// credential of the user that runs PostgreSQL.
type credential struct {
	uid, gid uint32
	home     string
}

func lookupUser(name string) (*credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	return &credential{uint32(uid), uint32(gid), u.HomeDir}, nil
}

// start starts a program in a session of its own, so that a Ctrl-C at the terminal reaches only
// this process, which then decides.
func start(s spec) (*child, error) {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	cmd := exec.Command(s.path, s.args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C", "TZ=UTC"}, s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.user != nil {
		cmd.Env = append(cmd.Env, "HOME="+s.user.home)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.user.uid, Gid: s.user.gid, Groups: []uint32{s.user.gid}}
	}
	if err := s.ns.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	proc, err := readProcess(cmd.Process.Pid) // at worst a zombie, never gone: nobody has reaped it
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	c := &child{name: s.name, proc: proc, log: s.log, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) running() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// kill sends SIGKILL and waits until the program has been reaped.
func (c *child) kill(ctx context.Context) error {
	if !c.running() {
		return nil
	}
	if err := c.proc.Signal(unix.SIGKILL); err != nil {
		return err
	}
	return c.wait(ctx)
}

// terminate asks for an orderly end and waits for it.
func (c *child) terminate(ctx context.Context) error {
	if !c.running() {
		return nil
	}
	if err := c.proc.Signal(unix.SIGTERM); err != nil {
		return err
	}
	return c.wait(ctx)
}

func (c *child) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s (pid %d) did not end: %w", c.name, c.proc.PID, ctx.Err())
	}
}

// tail is the last lines of a file, for messages. A missing file is an empty one.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
