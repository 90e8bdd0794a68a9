package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// TB is what the package needs of a *testing.T; a program that is no test needs none.
type TB interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Cluster is a run: members, etcd, proxy, network and directory.
type Cluster struct {
	Options Options
	// Dir holds everything of the run: <Dir>/<member>/, <Dir>/etcd-<n>/, haproxy.cfg, logs.
	Dir     string
	Members []*Member
	Etcd    *Etcd
	// Proxy is nil without Options.HAProxy.
	Proxy *Proxy

	ports  *ports
	fabric *fabric
	client *host // where this process and the proxy live in namespaces; nil on loopback
	user   *credential
	guard  *guard
	closed bool
	// writers counts the writers of the run; each has a range of ids of its own.
	writers atomic.Int64
}

// New starts a cluster for a test and takes it down at the test's end. The run directory is kept
// if the test failed.
func New(t TB, options Options) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := Start(ctx, options)
	if err != nil {
		t.Fatalf("start cluster: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.Options.KeepDir = true
			t.Logf("the run's directory is kept: %s", c.Dir)
		}
		if err := c.Close(); err != nil {
			t.Logf("close cluster: %v", err)
		}
	})
	return c
}

// Start prepares a run and starts etcd, the proxy and, unless Options.Idle, every agent. It does
// not wait for a primary. On error everything is taken down again.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Options: options, ports: &ports{taken: map[string]bool{}}}
	if err := c.build(ctx); err != nil {
		c.Options.KeepDir = true
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) build(ctx context.Context) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if err := c.makeAddresses(); err != nil {
		return err
	}
	if err := c.layoutEtcd(); err != nil {
		return err
	}
	for _, m := range c.Members {
		if err := m.prepare(); err != nil {
			return err
		}
	}
	if err := c.Etcd.start(ctx); err != nil {
		return err
	}
	if c.Options.HAProxy {
		if err := c.startProxy(ctx); err != nil {
			return err
		}
	}
	if c.Options.Idle {
		return nil
	}
	return c.StartAll()
}

// makeDir makes the run's directory, which the PostgreSQL user must be able to walk through.
func (c *Cluster) makeDir() error {
	dir, err := os.MkdirTemp(c.Options.Dir, "pgha-"+c.Options.Scope+"-")
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if c.Dir, err = filepath.EvalSymlinks(dir); err != nil { // /proc shows resolved paths
		return fmt.Errorf("run directory: %w", err)
	}
	if err := os.Chmod(c.Dir, 0o755); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if os.Geteuid() == 0 {
		if c.user, err = lookupUser(c.Options.PostgresUser); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(c.Dir, marker), []byte(c.Options.Scope+"\n"), 0o644); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	c.guard, err = startGuard(c.Dir, c.Options.KeepDir)
	return err
}

// marker is a file that only run directories have.
const marker = "pgha-run"

// makeAddresses gives every member its address, and in namespaces its port on the fabric.
func (c *Cluster) makeAddresses() error {
	if c.Options.Network == Namespaces {
		var err error
		if c.fabric, err = newFabric(); err != nil {
			return err
		}
		if c.client, err = c.fabric.attach("client", 1); err != nil {
			return err
		}
	}
	block := c.Options.Block
	if block == "" {
		block = randomBlock()
	}
	for i, name := range c.Options.Names {
		m := &Member{Name: name, c: c, dir: filepath.Join(c.Dir, name), Address: fmt.Sprintf("%s.%d", block, 11+i)}
		c.Members = append(c.Members, m)
		if c.fabric != nil {
			h, err := c.fabric.attach(name, 11+i)
			if err != nil {
				return err
			}
			m.host, m.Address, m.PGPort, m.RESTPort = h, h.address, 5432, 8008
			continue
		}
		var err error
		if m.PGPort, err = c.ports.pick(m.Address, 5432); err != nil {
			return err
		}
		if m.RESTPort, err = c.ports.pick(m.Address, 8008); err != nil {
			return err
		}
	}
	return nil
}

// StartAll starts the agent of every member.
func (c *Cluster) StartAll() error {
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Member finds a member by name; an unknown name is a mistake in the test.
func (c *Cluster) Member(name string) *Member {
	for _, m := range c.Members {
		if m.Name == name {
			return m
		}
	}
	panic(fmt.Sprintf("cluster: no member %q", name))
}

// Others are all members but the named ones.
func (c *Cluster) Others(not ...*Member) []*Member {
	return slices.DeleteFunc(slices.Clone(c.Members), func(m *Member) bool { return slices.Contains(not, m) })
}

// Dial connects as a client of the cluster would: from the clients' namespace if there is one.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.client == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return c.client.ns.dial(ctx, network, address)
}

// Run runs a program (psql, pghactl …) from the clients' namespace and returns its output.
func (c *Cluster) Run(name string, args ...string) (string, error) {
	var ns *namespace
	if c.client != nil {
		ns = c.client.ns
	}
	return ns.output(name, args...)
}

// CtlConfig is the file that pghactl needs to find this cluster.
func (c *Cluster) CtlConfig() string { return c.Members[0].ConfigFile() }

// Pghactl runs the operator's tool against this cluster.
func (c *Cluster) Pghactl(args ...string) (string, error) {
	return c.Run(c.Options.Ctl, append([]string{"-c", c.CtlConfig()}, args...)...)
}

// Release leaves the cluster running when this process ends.
func (c *Cluster) Release() error {
	c.closed = true
	return c.guard.dismiss()
}

// Close kills everything of the run, waits until it is gone, and removes the directory unless
// Options.KeepDir. It is safe to call twice.
func (c *Cluster) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if c.Etcd != nil {
		errs = append(errs, c.Etcd.closeClient())
	}
	if c.Dir != "" {
		_, err := sweep(ctx, func() ([]Process, error) { return ours(c.Dir) })
		errs = append(errs, err)
		for _, m := range c.Members {
			errs = append(errs, m.unmount(), m.openWire())
		}
	}
	errs = append(errs, c.guard.dismiss())
	c.fabric.close()
	if c.Dir != "" && !c.Options.KeepDir {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// Down ends a run that was released: it kills everything of it and removes its directory.
func Down(ctx context.Context, dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("take down: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
		return fmt.Errorf("take down: not a run's directory: %w", err)
	}
	if _, err := sweep(ctx, func() ([]Process, error) { return ours(dir) }); err != nil {
		return fmt.Errorf("take down: %w", err)
	}
	return os.RemoveAll(dir)
}

// chown gives a path to the PostgreSQL user when this process is root.
func (c *Cluster) chown(path string) error {
	if c.user == nil {
		return nil
	}
	if err := os.Chown(path, int(c.user.uid), int(c.user.gid)); err != nil {
		return fmt.Errorf("give %s to the PostgreSQL user: %w", path, err)
	}
	return nil
}

// mountTmpfs puts a small file system at path.
func mountTmpfs(path string, size int64) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return fmt.Errorf("small volume: %w", err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", size)); err != nil {
		return fmt.Errorf("small volume at %s: %w", path, err)
	}
	return nil
}

func names(members []*Member) string {
	var out []string
	for _, m := range members {
		out = append(out, m.Name)
	}
	return strings.Join(out, ", ")
}
