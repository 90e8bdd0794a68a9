package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Etcd is the consensus store of a run.
type Etcd struct {
	Members []*EtcdMember

	c      *Cluster
	client *clientv3.Client
}

// EtcdMember is one etcd process, external or embedded.
type EtcdMember struct {
	Name             string
	Address          string
	Client, Peer     int // ports
	etcd             *Etcd
	member           *Member // the node it lives on, if embedded
	host             *host   // its own namespace, if external and in namespaces
	proc             *child
	frozen           []Process
	dir, config, log string
}

// layoutEtcd gives every etcd member its place, before any configuration is written.
func (c *Cluster) layoutEtcd() error {
	c.Etcd = &Etcd{c: c}
	for i := range c.Options.EtcdMembers {
		e := &EtcdMember{etcd: c.Etcd, Name: fmt.Sprintf("e%d", i+1), Client: 2379, Peer: 2380}
		c.Etcd.Members = append(c.Etcd.Members, e)
		if err := e.layout(c, i); err != nil {
			return fmt.Errorf("etcd member %s: %w", e.Name, err)
		}
	}
	return nil
}

func (e *EtcdMember) layout(c *Cluster, i int) (err error) {
	if c.Options.Etcd == EtcdEmbedded {
		m := c.Members[i]
		e.Name, e.Address, e.member, m.etcd = m.Name, m.Address, m, e
		e.dir, e.config, e.log = filepath.Join(m.dir, "etcd"), m.ConfigFile(), filepath.Join(m.dir, "etcd.log")
	} else {
		e.dir = filepath.Join(c.Dir, "etcd-"+e.Name)
		e.log, e.config = e.dir+".log", e.dir+".yml"
		e.Address = strings.TrimSuffix(c.Members[0].Address, ".11") + fmt.Sprintf(".%d", 101+i)
		if c.fabric != nil {
			if e.host, err = c.fabric.attach(e.Name, 101+i); err != nil {
				return err
			}
			e.Address = e.host.address
		}
	}
	if c.fabric != nil {
		return nil
	}
	if e.Client, err = c.ports.pick(e.Address, 2379); err != nil {
		return err
	}
	e.Peer, err = c.ports.pick(e.Address, 2380)
	return err
}

// Endpoints are host:port of every client address.
func (e *Etcd) Endpoints() []string {
	var out []string
	for _, m := range e.Members {
		out = append(out, m.endpoint())
	}
	return out
}

func (e *EtcdMember) endpoint() string { return fmt.Sprintf("%s:%d", e.Address, e.Client) }
func (e *EtcdMember) peer() string     { return fmt.Sprintf("%s:%d", e.Address, e.Peer) }

// section is the member's pgha.etcd configuration.
func (e *EtcdMember) section() map[string]any {
	initial := map[string]any{}
	for _, m := range e.etcd.Members {
		initial[m.Name] = m.peer()
	}
	return map[string]any{
		"enabled": true, "name": e.Name, "data_dir": e.dir,
		"listen_client": e.endpoint(), "listen_peer": e.peer(),
		"advertise_client": e.endpoint(), "advertise_peer": e.peer(),
		"initial_cluster": initial, "initial_cluster_state": "new", "initial_cluster_token": filepath.Base(e.etcd.c.Dir),
	}
}

// start starts every member and waits until all answer.
func (e *Etcd) start(ctx context.Context) error {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: e.Endpoints(), DialTimeout: 2 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			// A member that was killed and started again must be seen at once.
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 50 * time.Millisecond}, MinConnectTimeout: time.Second,
		}), grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return e.c.Dial(ctx, "tcp", strings.TrimPrefix(address, "//"))
		})},
	})
	if err != nil {
		return fmt.Errorf("etcd client: %w", err)
	}
	e.client = client
	if e.c.Options.Idle && e.c.Options.Etcd == EtcdEmbedded {
		return nil // embedded members are the program under test: an idle run has none
	}
	for _, m := range e.Members {
		if err := m.spawn(); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		if err := m.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (e *EtcdMember) spawn() error {
	c := e.etcd.c
	s := spec{name: "etcd " + e.Name, log: e.log, dir: c.Dir}
	switch {
	case c.Options.Etcd == EtcdSeparate:
		if err := e.writeConfig(); err != nil {
			return err
		}
		s.path, s.args = c.Options.Agent, []string{"etcd", e.config}
		if e.host != nil {
			s.ns = e.host.ns
		}
	case e.member != nil:
		// Embedded: its data belongs to the user that the agent drops to.
		s.path, s.args, s.dir, s.ns = c.Options.Agent, []string{"etcd", e.config}, e.member.dir, e.member.namespace()
		if c.Options.AsPostgres {
			s.user = c.user
		}
	default:
		var initial []string
		for _, m := range e.etcd.Members {
			initial = append(initial, m.Name+"=http://"+m.peer())
		}
		s.path = c.Options.Etcdd
		s.args = []string{
			"--name", e.Name, "--data-dir", e.dir, "--heartbeat-interval", "100", "--election-timeout", "500",
			"--listen-client-urls", "http://" + e.endpoint(), "--advertise-client-urls", "http://" + e.endpoint(),
			"--listen-peer-urls", "http://" + e.peer(), "--initial-advertise-peer-urls", "http://" + e.peer(),
			"--initial-cluster", strings.Join(initial, ","), "--initial-cluster-token", filepath.Base(c.Dir),
			"--enable-v2=false", "--log-level", "warn",
		}
		if e.host != nil {
			s.ns = e.host.ns
		}
	}
	proc, err := start(s)
	if err != nil {
		return err
	}
	e.proc = proc
	return nil
}

// writeConfig writes what `pgha-agent etcd` needs of a node that runs nothing else.
func (e *EtcdMember) writeConfig() error {
	data, err := yaml.Marshal(map[string]any{
		"scope": e.etcd.c.Options.Scope, "name": e.Name, "log": map[string]any{"level": "WARNING"},
		"postgresql": map[string]any{"data_dir": e.dir + ".none"},
		"pgha":       map[string]any{"state_dir": e.dir + ".state", "etcd": e.section()},
	})
	if err != nil {
		return fmt.Errorf("configuration of etcd member %s: %w", e.Name, err)
	}
	if err := os.WriteFile(e.config, data, 0o644); err != nil {
		return fmt.Errorf("configuration of etcd member %s: %w", e.Name, err)
	}
	return nil
}

// Start starts a member that was killed, and waits until it serves again. A member that runs
// (an agent may have started its embedded one) is only waited for.
func (e *EtcdMember) Start(ctx context.Context) error {
	running, err := e.processes()
	if err != nil {
		return err
	}
	if len(running) == 0 {
		if err := e.spawn(); err != nil {
			return err
		}
	}
	// Without a majority no member can answer; the caller that starts the last one learns.
	if e.etcd.majority() {
		return e.WaitReady(ctx)
	}
	return nil
}

func (e *Etcd) majority() bool {
	running := 0
	for _, m := range e.Members {
		if found, err := m.processes(); err == nil && len(found) > 0 && len(m.frozen) == 0 {
			running++
		}
	}
	return running*2 > len(e.Members)
}

// processes of this etcd member: searched, since an agent may have started it.
func (e *EtcdMember) processes() ([]Process, error) {
	if e.member != nil {
		return e.member.Processes(EtcdProcess)
	}
	if !e.proc.running() {
		return nil, nil
	}
	return []Process{e.proc.proc}, nil
}

// WaitReady waits until the member answers a linearizable read.
func (e *EtcdMember) WaitReady(ctx context.Context) error {
	died := false
	state, ok := poll(ctx, 20*time.Second, func(ctx context.Context) (bool, string) {
		if died = e.proc != nil && !e.proc.running(); died {
			return true, fmt.Sprintf("it ended: %v", e.proc.err)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		status, err := e.etcd.client.Status(ctx, e.endpoint())
		if err != nil {
			return false, err.Error()
		}
		return status.Leader != 0, fmt.Sprintf("leader %x", status.Leader)
	})
	if !ok || died {
		return fmt.Errorf("etcd member %s is not ready: %s\n%s", e.Name, state, tail(e.log, 15))
	}
	return nil
}

// Leader is the member that leads etcd now.
func (e *Etcd) Leader(ctx context.Context) (*EtcdMember, error) {
	var leader *EtcdMember
	state, ok := poll(ctx, 10*time.Second, func(ctx context.Context) (bool, string) {
		var errs []error
		for _, m := range e.Members {
			ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			status, err := e.client.Status(ctx, m.endpoint())
			cancel()
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if status.Header.MemberId == status.Leader {
				leader = m
				return true, m.Name
			}
		}
		return false, fmt.Sprintf("no leader: %v", errors.Join(errs...))
	})
	if !ok {
		return nil, fmt.Errorf("etcd leader: %s", state)
	}
	return leader, nil
}

// Client is a client of the whole store, for tests that write keys themselves.
func (e *Etcd) Client() *clientv3.Client { return e.client }

// Key is the full name of a cluster key.
func (c *Cluster) Key(name string) string { return "/service/" + c.Options.Scope + "/" + name }

// Get is the value of a cluster key, empty if it is absent.
func (c *Cluster) Get(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := c.Etcd.client.Get(ctx, c.Key(name))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(answer.Kvs) == 0 {
		return "", nil
	}
	return string(answer.Kvs[0].Value), nil
}

// Revision of the store: it grows by one with every write and by none with a keep-alive.
func (e *Etcd) Revision(ctx context.Context) (int64, error) {
	answer, err := e.client.Get(ctx, "revision")
	if err != nil {
		return 0, fmt.Errorf("etcd revision: %w", err)
	}
	return answer.Header.Revision, nil
}

func (e *Etcd) closeClient() error {
	if e.client == nil {
		return nil
	}
	return e.client.Close()
}

// Wipe removes a dead member's data: the loss of its disk.
func (e *EtcdMember) Wipe() error { return os.RemoveAll(e.dir) }
