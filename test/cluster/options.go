package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// EtcdKind says which program the consensus store is.
type EtcdKind uint8

const (
	// EtcdExternal is the etcd binary of the machine, on addresses of its own.
	EtcdExternal EtcdKind = iota
	// EtcdEmbedded is `pgha-agent etcd` beside each of the first EtcdMembers members.
	EtcdEmbedded
	// EtcdSeparate is `pgha-agent etcd` on addresses of its own: a newer etcd than most machines have.
	EtcdSeparate
)

// NetworkKind says how members reach each other.
type NetworkKind uint8

const (
	// Loopback gives every member an address in 127.0.0.0/8. Needs no privilege.
	Loopback NetworkKind = iota
	// Namespaces puts every member, every external etcd and the clients (this process, HAProxy)
	// into network namespaces of their own, joined by a bridge in one more. Needs root. Nothing
	// is visible from the machine's own network, and nothing is left behind.
	Namespaces
)

// Options of a cluster. The zero value is a cluster of three members on loopback with one
// external etcd.
type Options struct {
	// Scope is the cluster's name. Default "it".
	Scope string
	// Names of the members. Default a, b, c.
	Names []string
	// Etcd program and number of its members. Default: one external member; three if embedded.
	Etcd        EtcdKind
	EtcdMembers int
	// HAProxy starts a proxy with a primary and a replica port.
	HAProxy bool
	// ProxyAddress and the ports are asked for; other ports are taken if these are busy.
	ProxyAddress                       string
	ProxyPrimaryPort, ProxyReplicaPort int
	Network                            NetworkKind
	// Block is the first three octets of the loopback addresses. Default random.
	Block                       string
	TTL, LoopWait, RetryTimeout time.Duration
	// DCS is merged over bootstrap.dcs, Parameters over its postgresql.parameters.
	DCS, Parameters map[string]any
	// Config has the last word on a member's YAML.
	Config func(member string, config map[string]any)
	// Env adds variables (NAME=value) to the environment of a member's agent and all that it starts.
	Env func(member string) []string
	// Mode is set by SetMode.
	Mode Mode
	// AsPostgres starts the agents as the PostgreSQL user. Without it they start as whoever this
	// process is, and as root give up its rights by themselves.
	AsPostgres bool
	// Volumes gives a member's data a small file system of its own, of so many bytes.
	Volumes map[string]int64
	// Dir is the parent of the run's directory. Default the temporary directory.
	Dir string
	// KeepDir leaves logs and data behind.
	KeepDir bool
	// Idle prepares everything and starts no agent.
	Idle bool
	// Programs; see findPrograms.
	Agent, Ctl, Etcdd, Proxy, PostgresBin string
	// PostgresUser runs PostgreSQL when this process is root.
	PostgresUser string
}

func (o Options) withDefaults() (Options, error) {
	if o.Scope == "" {
		o.Scope = "it"
	}
	if len(o.Names) == 0 {
		o.Names = defaultNames()
	}
	if o.EtcdMembers == 0 {
		o.EtcdMembers = 1
		if o.Etcd == EtcdEmbedded {
			o.EtcdMembers = 3
		}
	}
	if o.Etcd == EtcdEmbedded && o.EtcdMembers > len(o.Names) {
		o.EtcdMembers = len(o.Names)
	}
	setDuration(&o.TTL, 5*time.Second)
	setDuration(&o.LoopWait, time.Second)
	setDuration(&o.RetryTimeout, time.Second)
	setString(&o.PostgresUser, "postgres")
	setString(&o.PostgresBin, postgresBin())
	setString(&o.Dir, os.TempDir())
	if o.Network == Namespaces && os.Geteuid() != 0 {
		return o, fmt.Errorf("cluster options: network namespaces need root")
	}
	return o, o.findPrograms()
}

// findPrograms fails early and by name: a missing program must not show up as a timeout later.
func (o *Options) findPrograms() error {
	if o.Agent == "" || o.Ctl == "" {
		dir, err := BinDir()
		if err != nil {
			return err
		}
		setString(&o.Agent, filepath.Join(dir, "pgha-agent"))
		setString(&o.Ctl, filepath.Join(dir, "pghactl"))
	}
	setString(&o.Etcdd, firstProgram("etcd", "/usr/bin/etcd", "/usr/local/bin/etcd"))
	setString(&o.Proxy, firstProgram("haproxy", "/usr/sbin/haproxy", "/usr/local/sbin/haproxy"))
	need := []string{filepath.Join(o.PostgresBin, "postgres")}
	if !o.Idle {
		need = append(need, o.Agent)
	}
	if o.Etcd == EtcdExternal {
		need = append(need, o.Etcdd)
	}
	if o.HAProxy {
		need = append(need, o.Proxy)
	}
	for _, path := range need {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("cluster options: program missing: %w", err)
		}
	}
	return nil
}

// BinDir is where the programs under test are: $PGHA_BIN, or bin/ of the repository.
func BinDir() (string, error) {
	if dir := os.Getenv("PGHA_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "bin"), nil
}

// RepoRoot is the nearest directory upwards with a go.mod.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("repository root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("repository root: no go.mod above the working directory")
		}
		dir = parent
	}
}

// postgresBin is $PGHA_POSTGRES_BIN or the newest PostgreSQL that Debian has installed.
func postgresBin() string {
	if dir := os.Getenv("PGHA_POSTGRES_BIN"); dir != "" {
		return dir
	}
	found, err := filepath.Glob("/usr/lib/postgresql/[0-9]*/bin")
	if err != nil || len(found) == 0 {
		return "/usr/lib/postgresql/15/bin"
	}
	return found[len(found)-1]
}

func firstProgram(name string, paths ...string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return paths[0]
}

func setString(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func setDuration(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}
