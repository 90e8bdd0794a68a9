package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs/etcd"
	"github.com/pgha/pgha/internal/dcs/etcdserver"
	"github.com/pgha/pgha/internal/fencer"
)

func newEtcdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "etcd CONFIG.yml",
		Short: "Run the embedded etcd member of this node (section pgha.etcd)",
		Long: `Runs a member of an etcd cluster from etcd's own server, in a process of its own that survives
restarts of the agent. The agent starts it by itself where pgha.etcd.enabled is set.

SIGTERM stops it in good order, unless the other members would lose their majority; SIGINT stops it
in any case.`,
		Example:       "  pgha-agent etcd /etc/pgha/node1.yml",
		Args:          cobra.ExactArgs(1),
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error { return runEtcd(cmd.Context(), args[0]) },
	}
}

// runEtcd is the life of an etcd member.
func runEtcd(ctx context.Context, path string) error {
	c, err := config.LoadClient(path, os.Environ())
	if err != nil {
		return err
	}
	if !c.Pgha.Etcd.Enabled {
		return errors.New("pgha.etcd.enabled: false: set it, or run the agent with an etcd of your own")
	}
	who, err := findOwner(c)
	if err != nil {
		return err
	}
	if err := prepareDirs(c, who); err != nil {
		return err
	}
	if err := errors.Join(who.become(), fencer.DropWireRight()); err != nil {
		return err
	}
	lock, ok, err := lockFile(etcdLock(c))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("the embedded etcd member of %s runs already (lock %s)", c.Name, etcdLock(c))
	}
	defer func() { _ = lock.Close() }()
	log, closeLog, err := newLogger(config.Log{Type: c.Log.Type, Level: c.Log.Level})
	if err != nil {
		return err
	}
	defer closeLog()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan *etcdserver.Member, 1)
	settings := etcdSettings(c)
	settings.Ready = func(m *etcdserver.Member) { ready <- m }
	go stopOnSignal(ctx, cancel, ready, log)
	return etcdserver.Run(ctx, settings, log)
}

// stopOnSignal ends the member: on SIGINT at once, on SIGTERM only if the others keep a majority.
func stopOnSignal(ctx context.Context, cancel context.CancelFunc, ready <-chan *etcdserver.Member, log *zap.Logger) {
	sigs := make(chan os.Signal, 2)
	signal.Notify(sigs, syscall.SIGTERM, syscall.SIGINT)
	var member *etcdserver.Member
	for {
		select {
		case <-ctx.Done():
			return
		case member = <-ready:
		case s := <-sigs:
			if s == syscall.SIGINT || member == nil {
				cancel()
				return
			}
			cctx, ccancel := context.WithTimeout(ctx, 3*time.Second)
			err := member.CanStop(cctx)
			ccancel()
			if err == nil {
				cancel()
				return
			}
			log.Error("not stopping: send SIGINT to stop in any case", zap.Error(err))
		}
	}
}

func etcdSettings(c *config.Config) etcdserver.Config {
	e := c.Pgha.Etcd
	return etcdserver.Config{
		// A directory below the configured one, whose parent is ours to write a note into.
		Name: e.Name, DataDir: filepath.Join(e.DataDir, "etcd"), ListenClient: e.ListenClient, ListenPeer: e.ListenPeer,
		AdvertiseClient: e.AdvertiseClient, AdvertisePeer: e.AdvertisePeer, InitialCluster: e.InitialCluster,
		InitialClusterState: e.InitialClusterState, InitialClusterToken: e.InitialClusterToken,
		HeartbeatInterval: e.HeartbeatInterval, ElectionTimeout: e.ElectionTimeout,
		ClientTLS: etcdserver.TLS{CertFile: e.CertFile, KeyFile: e.KeyFile, CAFile: e.CAFile},
		PeerTLS:   etcdserver.TLS{CertFile: e.PeerCertFile, KeyFile: e.PeerKeyFile, CAFile: e.PeerCAFile},
	}
}

// etcdLock lies in etcd's own directory, so that a node that runs nothing but etcd needs no other.
func etcdLock(c *config.Config) string { return filepath.Join(c.Pgha.Etcd.DataDir, "pgha.lock") }

// lockFile takes an exclusive lock that the kernel gives back when its holder dies.
func lockFile(path string) (*os.File, bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, true, nil
}

// etcdLook is how long an etcd that was started gets to take its lock.
const etcdLook = 2 * time.Second

// superviseEtcd keeps the embedded etcd of this node running, as a process that outlives the agent.
func (p *parts) superviseEtcd(ctx context.Context, c *config.Config, path string, log *zap.Logger) <-chan struct{} {
	done := make(chan struct{})
	if !c.Pgha.Etcd.Enabled {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-etcdEnded(c):
				if err != nil {
					log.Error("embedded etcd not watched", zap.Error(err))
				} else if err := startEtcd(c, path); err != nil {
					log.Error("embedded etcd not started", zap.Error(err))
				} else {
					log.Info("embedded etcd started", zap.String("data_dir", c.Pgha.Etcd.DataDir))
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(etcdLook):
			}
		}
	}()
	return done
}

// etcdEnded tells when nobody holds the lock of the etcd member any more. Waiting for the lock itself
// costs nothing while etcd runs, and its end is known at once. The wait is not called off: it ends
// with this process at the latest.
func etcdEnded(c *config.Config) <-chan error {
	ended := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(etcdLock(c), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
		if err == nil {
			for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
				err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
			}
			_ = f.Close()
		}
		ended <- err
	}()
	return ended
}

// startEtcd starts the member in a session of its own, with its log beside the fencer's.
func startEtcd(c *config.Config, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(c.Pgha.StateDir, "etcd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(self, "etcd", path) //nolint:noctx // it outlives the agent
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // reaped if it ends before the agent does
	return nil
}

// etcdMover gives a function that moves the leadership of the embedded etcd off this node: a node
// that is lost should not take the consensus store's leader with it. Nil without embedded etcd.
func etcdMover(c *config.Config, store *etcd.Store, log *zap.Logger) func(context.Context) error {
	if !c.Pgha.Etcd.Enabled || len(c.Pgha.Etcd.InitialCluster) < 2 {
		return nil
	}
	return func(ctx context.Context) error {
		admin := store.Admin()
		members, err := admin.MemberList(ctx)
		if err != nil {
			return err
		}
		self := slices.IndexFunc(members, func(m etcd.Member) bool { return m.Name == c.Pgha.Etcd.Name })
		if self < 0 {
			return nil
		}
		var healthy []uint64
		leads := false
		for _, st := range admin.Status(ctx) {
			if st.Err != nil {
				continue
			}
			leads = leads || st.Leader == members[self].ID
			if st.Member != members[self].ID {
				healthy = append(healthy, st.Member)
			}
		}
		if !leads || len(healthy) == 0 {
			return nil
		}
		log.Info("moving etcd's leadership off the primary's node")
		return admin.MoveLeader(ctx, healthy[0])
	}
}
