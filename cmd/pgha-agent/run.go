package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/fencer"
)

// What SIGTERM does to PostgreSQL.
const (
	stopServer = "stop"
	keepServer = "keep"
)

// restStop bounds the end of the REST server, which goes last.
const restStop = 2 * time.Second

// etcdVersionLook is when etcd is asked for its version: nothing waits for the answer.
const etcdVersionLook = 3 * time.Second

// runAgent is the agent's life, or that of process 1 of a container, which runs the agent as its
// child.
func runAgent(ctx context.Context, path string, f flags) error {
	// The path is passed on to processes that work elsewhere, and used again at a reload.
	path, err := absolute(path)
	if err != nil {
		return err
	}
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	who, err := findOwner(c)
	if err != nil {
		return err
	}
	if err := prepareDirs(c, who); err != nil {
		return err
	}
	if os.Getpid() == 1 && !f.underInit {
		return runAsInit(ctx, c, who, path, f)
	}
	log, closeLog, err := newLogger(c.Log)
	if err != nil {
		return err
	}
	defer closeLog()
	// The agent is idle most of its life; a smaller heap costs it nothing that anybody notices.
	debug.SetGCPercent(50)
	if err := launchFencer(ctx, c, who); err != nil {
		return err
	}
	if err := errors.Join(who.become(), fencer.DropWireRight()); err != nil {
		return err
	}
	return serve(ctx, c, who, path, f, log)
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// runAsInit makes this process the fencer and the init of the container (safety review, hole 7).
func runAsInit(ctx context.Context, c *config.Config, who owner, path string, f flags) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := []string{self, "--under-init", "--on-stop=" + f.onStop}
	if path != "" {
		command = append(command, path)
	}
	code, err := fencer.RunInit(ctx, fencer.InitOptions{
		ServerOptions: fencer.ServerOptions{
			Dir: c.Pgha.StateDir, DataDir: c.PostgreSQL.DataDir, UID: who.uid, GID: who.gid,
		},
		Command: command,
	})
	if err != nil {
		return err
	}
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// launchFencer starts the fencer while this process may still be root, so that it can have the
// priority and the memory lock that only root gives.
func launchFencer(ctx context.Context, c *config.Config, who owner) error {
	cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	opts := fencerOptions(c, who)
	client, st, err := fencer.Connect(cctx, opts, fencer.Hello{Name: c.Name})
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 && st.Wire == fencer.WireFailed && !runsAsRoot(st.PID) {
		// The one that runs was started by an agent that had given up being root. Another one takes
		// over token and server within a moment.
		for _, pid := range []int{st.SecondPID, st.PID} {
			if pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if again, _, err := fencer.Connect(cctx, opts, fencer.Hello{Name: c.Name}); err == nil {
			return errors.Join(again.Close(), client.Close())
		}
	}
	return client.Close()
}

// runsAsRoot says whether a process has at least not given up being root.
func runsAsRoot(pid int) bool {
	var st syscall.Stat_t
	return syscall.Stat("/proc/"+strconv.Itoa(pid), &st) != nil || st.Uid == 0
}

func fencerOptions(c *config.Config, who owner) fencer.Options {
	o := fencer.Options{Dir: c.Pgha.StateDir, DataDir: c.PostgreSQL.DataDir}
	if c.Pgha.WireFence != config.WireFenceOff {
		addrs, port := c.PostgreSQL.ListenAddresses()
		o.Wire = fencer.ListensAt(addrs, port)
	}
	if os.Geteuid() == 0 {
		o.UID, o.GID = who.uid, who.gid
	}
	return o
}

// serve wires the parts and runs them until a signal or a failure ends them.
func serve(ctx context.Context, c *config.Config, who owner, path string, f flags, log *zap.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts, err := wire(c, who, path, log)
	if err != nil {
		return err
	}
	defer parts.close()
	if err := parts.rest.Start(); err != nil {
		return err
	}
	defer func() {
		sctx, scancel := context.WithTimeout(context.Background(), restStop)
		defer scancel()
		_ = parts.rest.Stop(sctx)
	}()
	log.Info("agent started", zap.String("version", version()), zap.String("name", c.Name), zap.String("scope", c.Scope), zap.Int("pid", os.Getpid()))
	etcdDone := parts.superviseEtcd(ctx, c, path, log)
	defer func() {
		cancel()
		<-etcdDone
	}()
	fixProcs()
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(sigs)
	done := make(chan error, 1)
	actx, acancel := context.WithCancel(ctx)
	defer acancel()
	go func() { done <- parts.agent.Run(actx) }()
	notify(log, daemon.SdNotifyReady)
	versions := time.AfterFunc(etcdVersionLook, func() { parts.warnEtcd(ctx, log) })
	defer versions.Stop()
	settled := time.AfterFunc(settleTime, trimMemory)
	defer settled.Stop()
	for stopping := false; ; {
		select {
		case err := <-done:
			notify(log, daemon.SdNotifyStopping)
			return ignoreCanceled(err)
		case s := <-sigs:
			log.Info("signal", zap.Stringer("signal", s))
			switch {
			case s == syscall.SIGHUP:
				parts.reload(c, path, log)
			case s == syscall.SIGUSR1, s == syscall.SIGTERM && (f.onStop == keepServer || parts.agent.Paused()), stopping:
				// The server, the fencer and the key stay; the next agent takes them up. SIGUSR1 is
				// for a service manager that can name another signal for a restart than for a stop.
				notify(log, daemon.SdNotifyStopping)
				parts.agent.HandsOff(ctx)
				acancel()
			default:
				stopping = true
				notify(log, daemon.SdNotifyStopping)
				parts.agent.Stop()
			}
		}
	}
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Debug("service manager not told", zap.Error(err))
	}
}
