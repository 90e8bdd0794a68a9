package fencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// InitOptions configure the fencer as the first process of a container.
type InitOptions struct {
	ServerOptions
	// Command is the agent: program (a path) and arguments.
	Command []string
	// AsOwner runs the agent as the PostgreSQL user instead of this process's.
	AsOwner bool
	// StopTimeout bounds the fast shutdown of a server that the agent left running when the
	// container ends; after it the server is killed. 0: 60 s.
	StopTimeout time.Duration
}

const (
	defaultStopTimeout = 60 * time.Second
	firstBackOff       = 100 * time.Millisecond
	lastBackOff        = 10 * time.Second
	healthyRun         = 60 * time.Second
	stopPoll           = 20 * time.Millisecond
)

// agentSignals are those that an operator or a container runtime sends to an agent.
func agentSignals() []os.Signal {
	return []os.Signal{
		syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
	}
}

// RunInit is Run for process 1: it also starts the agent as its child, starts it again when it
// crashes, passes signals on to it, and reaps whatever ends. If process 1 were the agent, its death
// would take the whole container along (safety review, hole 7).
//
// It ends when the agent exits with status 0, or in any way after SIGTERM, SIGINT or SIGQUIT. A
// server that is left then is shut down (fast) first. The result is the exit status for the
// container: the agent's, or 128 plus the number of the signal that ended it.
func RunInit(ctx context.Context, opts InitOptions) (int, error) {
	if len(opts.Command) == 0 {
		return 0, errors.New("fencer as init: no agent command")
	}
	setDefault(&opts.StopTimeout, defaultStopTimeout)
	s, err := newServer(opts.ServerOptions)
	if err != nil {
		return 0, fmt.Errorf("fencer as init: %w", err)
	}
	s.inits = true
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, agentSignals()...)
	defer signal.Stop(signals)
	k := &keeper{s: s, opts: opts, signals: signals, backOff: firstBackOff}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.run(ctx)
		close(s.quit)
	}()
	err = s.serve(ctx)
	<-ended
	return k.code, errors.Join(err, k.err)
}

// keeper keeps the agent running.
type keeper struct {
	s       *server
	opts    InitOptions
	signals chan os.Signal

	backOff  time.Duration
	stopping bool
	code     int
	err      error
}

func (k *keeper) run(ctx context.Context) {
	for first := true; ; first = false {
		c, err := k.start()
		if err != nil {
			if first {
				// A command that cannot be run will not run later.
				k.code, k.err = 127, err
				return
			}
			k.s.log.Error("agent not started", slog.String("error", err.Error()))
		} else {
			began := Now()
			k.attend(ctx, c)
			if Now()-began > healthyRun {
				k.backOff = firstBackOff
			}
		}
		if ctx.Err() != nil {
			return
		}
		if k.stopping || err == nil && k.code == 0 {
			break
		}
		k.pause(ctx)
		if k.stopping {
			break
		}
	}
	k.stopServer(ctx)
}

func (k *keeper) start() (*child, error) {
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	}
	if k.opts.AsOwner {
		attr.Sys.Credential = k.s.own.credential()
	}
	c, err := k.s.reap.start(k.opts.Command[0], k.opts.Command, attr)
	if err != nil {
		return nil, err
	}
	k.s.own.warn(k.s.log, resetOOM(c.pid, k.s.oom))
	k.s.sh.spare[spareChild].Store(int64(c.pid))
	k.s.log.Info("agent started", slog.Int("pid", c.pid))
	return c, nil
}

// attend waits for the end of the agent and passes signals on.
func (k *keeper) attend(ctx context.Context, c *child) {
	defer func() {
		k.s.sh.spare[spareChild].Store(0)
		_ = unix.Close(c.pidfd)
	}()
	for {
		select {
		case sig := <-k.signals:
			k.note(sig)
			_ = unix.PidfdSendSignal(c.pidfd, sig.(syscall.Signal), nil, 0)
		case <-c.exited:
			k.code = c.status.Code
			if c.status.Signal != 0 {
				k.code = 128 + c.status.Signal
			}
			k.s.log.Info("agent ended", slog.Int("pid", c.pid), slog.Int("code", k.code))
			return
		case <-ctx.Done():
			return
		}
	}
}

func (k *keeper) note(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		k.stopping = true
	}
}

// pause waits before the next start, longer each time.
func (k *keeper) pause(ctx context.Context) {
	timer := time.NewTimer(k.backOff)
	defer timer.Stop()
	k.backOff = min(2*k.backOff, lastBackOff)
	for !k.stopping {
		select {
		case <-timer.C:
			return
		case sig := <-k.signals:
			k.note(sig)
		case <-ctx.Done():
			return
		}
	}
}

// stopServer ends what the agent left: the end of process 1 would kill it without a checkpoint.
func (k *keeper) stopServer(ctx context.Context) {
	if err := k.s.stop(Fast); err != nil && !errors.Is(err, ErrNotRunning) {
		k.s.own.warn(k.s.log, err)
	}
	limit := time.NewTimer(k.opts.StopTimeout)
	defer limit.Stop()
	tick := time.NewTicker(stopPoll)
	defer tick.Stop()
	for !k.s.serverGone() {
		select {
		case <-tick.C:
		case <-limit.C:
			k.s.log.Error("server did not stop in time and is killed")
			k.s.own.warn(k.s.log, k.s.kill(ctx.Done()))
		case <-ctx.Done():
			return
		}
	}
}

func (s *server) serverGone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv == nil && !s.watch.busy()
}
