package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/fencer/wire"
)

// Passwords of the run's PostgreSQL roles. They protect nothing: the servers listen on loopback
// or in a namespace, for the minutes of a test.
const (
	superuser           = "postgres"
	superuserPassword   = "super-secret"
	replicationPassword = "replication-secret"
	rewindPassword      = "rewind-secret"
)

// Member is one node: agent, fencer, PostgreSQL and, if embedded, an etcd member.
type Member struct {
	Name     string
	Address  string // literal IP, of PostgreSQL, REST and embedded etcd
	PGPort   int
	RESTPort int

	c      *Cluster
	dir    string
	host   *host // nil on loopback
	agent  *child
	etcd   *EtcdMember // nil without an embedded etcd
	frozen []Process
	volume bool
	logged int64 // where in the log the present part of the story begins
}

// ConfigFile is the member's YAML file.
func (m *Member) ConfigFile() string { return filepath.Join(m.dir, m.Name+".yml") }

// LogFile holds what the agent (and whatever it starts without a log of its own) wrote.
func (m *Member) LogFile() string { return filepath.Join(m.dir, "agent.log") }

// Dir is everything of the member; removing it is losing the node.
func (m *Member) Dir() string { return m.dir }

// Volume is the directory that holds DataDir: a small file system of its own if asked for.
func (m *Member) Volume() string { return filepath.Join(m.dir, "volume") }

// DataDir is PostgreSQL's data directory.
func (m *Member) DataDir() string { return filepath.Join(m.Volume(), "data") }

// StateDir is where agent and fencer keep their own state.
func (m *Member) StateDir() string { return m.DataDir() + ".pgha" }

// API is the address of the member's REST server.
func (m *Member) API() string { return fmt.Sprintf("%s:%d", m.Address, m.RESTPort) }

// PG is the address of the member's PostgreSQL.
func (m *Member) PG() string { return fmt.Sprintf("%s:%d", m.Address, m.PGPort) }

func (m *Member) namespace() *namespace {
	if m.host == nil {
		return nil
	}
	return m.host.ns
}

// prepare makes the member's directories and configuration.
func (m *Member) prepare() error {
	if err := os.MkdirAll(m.Volume(), 0o755); err != nil {
		return fmt.Errorf("prepare %s: %w", m.Name, err)
	}
	if size := m.c.Options.Volumes[m.Name]; size > 0 {
		if err := mountTmpfs(m.Volume(), size); err != nil {
			return err
		}
		m.volume = true
	}
	sockets := filepath.Join(m.dir, "s")
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return fmt.Errorf("prepare %s: %w", m.Name, err)
	}
	for _, dir := range []string{m.dir, m.Volume(), sockets} {
		if err := m.c.chown(dir); err != nil {
			return err
		}
	}
	return m.WriteConfig()
}

func (m *Member) unmount() error {
	if !m.volume {
		return nil
	}
	if err := unix.Unmount(m.Volume(), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount the volume of %s: %w", m.Name, err)
	}
	m.volume = false
	return nil
}

// openWire removes the fence that the kernel keeps for a member whose processes are all killed: on
// loopback it would stay. A namespace takes it along when it ends.
func (m *Member) openWire() error {
	if m.host != nil || m.PGPort == 0 || os.Geteuid() != 0 {
		return nil
	}
	conn, err := wire.Dial()
	if err != nil {
		return nil //nolint:nilerr // then there was no fence either
	}
	return errors.Join(conn.Lift(wire.NewEndpoint([]string{m.Address}, m.PGPort)), conn.Close())
}

// Start starts the agent. A member that runs is left alone.
func (m *Member) Start() error {
	if m.agent.running() {
		return nil
	}
	s := spec{
		name: "agent " + m.Name, path: m.c.Options.Agent, args: []string{m.ConfigFile()},
		dir: m.dir, log: m.LogFile(), ns: m.namespace(),
	}
	if m.c.Options.AsPostgres {
		s.user = m.c.user
	}
	if m.c.Options.Env != nil {
		s.env = m.c.Options.Env(m.Name)
	}
	agent, err := start(s)
	if err != nil {
		return err
	}
	if m.c.Options.AsPostgres {
		if err := m.c.chown(m.LogFile()); err != nil {
			return err
		}
	}
	m.agent = agent
	return nil
}

// PowerOn starts the embedded etcd, if the member has one, and then the agent.
func (m *Member) PowerOn(ctx context.Context) error {
	if m.etcd != nil {
		if err := m.etcd.Start(ctx); err != nil {
			return err
		}
	}
	return m.Start()
}

// Stop sends SIGTERM to the agent and waits until it has ended.
func (m *Member) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return m.agent.terminate(ctx)
}

// Running is true while the agent runs.
func (m *Member) Running() bool { return m.agent.running() }

// AgentPID is the process id of the agent, 0 if it does not run.
func (m *Member) AgentPID() int {
	if !m.agent.running() {
		return 0
	}
	return m.agent.proc.PID
}

// Exited is closed when the agent that was started last has ended.
func (m *Member) Exited() <-chan struct{} { return m.agent.done }

// PostmasterPID is the id of the running postmaster of this data directory, 0 if there is none.
func (m *Member) PostmasterPID() int {
	data, err := os.ReadFile(filepath.Join(m.DataDir(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	p, err := readProcess(pid)
	if err != nil || p.dead() || p.CWD != m.DataDir() {
		return 0
	}
	return pid
}

// FencerPID is the id of the member's fencer, 0 if there is none.
func (m *Member) FencerPID() int {
	found, err := m.Processes(Fencer)
	if err != nil || len(found) == 0 {
		return 0
	}
	return found[0].PID
}

// SetReadOnly remounts the member's small volume read-only, as a kernel does after a disk error,
// or writable again. Nothing may have a file there open for writing.
func (m *Member) SetReadOnly(readOnly bool) error {
	if !m.volume {
		return fmt.Errorf("remount volume of %s: it has no small volume of its own", m.Name)
	}
	flags := uintptr(unix.MS_REMOUNT)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("tmpfs", m.Volume(), "tmpfs", flags, ""); err != nil {
		return fmt.Errorf("remount volume of %s: %w", m.Name, err)
	}
	probe := filepath.Join(m.Volume(), "probe")
	err := os.WriteFile(probe, nil, 0o600)
	if readOnly != errors.Is(err, unix.EROFS) {
		return fmt.Errorf("remount volume of %s: asked for read only %t, but a write says otherwise (error: %w)", m.Name, readOnly, err)
	}
	if readOnly {
		return nil
	}
	return os.Remove(probe)
}

// FillVolume writes a file until the member's small volume is full. The second result frees it.
func (m *Member) FillVolume() (free func() error, err error) {
	if !m.volume {
		return nil, fmt.Errorf("fill volume of %s: it has no small volume of its own", m.Name)
	}
	path := filepath.Join(m.Volume(), "filler")
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("fill volume: %w", err)
	}
	defer func() { _ = file.Close() }()
	for size := 1 << 20; size >= 512; {
		_, err := file.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return nil, fmt.Errorf("fill volume: %w", err)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.Volume(), &fs); err != nil {
		return nil, fmt.Errorf("fill volume: %w", err)
	}
	if left := int64(fs.Bavail) * fs.Bsize; left > 64<<10 {
		return nil, fmt.Errorf("fill volume of %s: %d bytes are still free", m.Name, left)
	}
	return func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("free volume: %w", err)
		}
		return nil
	}, nil
}
