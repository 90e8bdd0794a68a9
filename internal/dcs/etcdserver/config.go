// Package etcdserver runs one member of an etcd cluster inside pgha's own binary, for those who do
// not want to look after a separate etcd. It is meant to be a process of its own, so that restarting
// an agent is no failure of the store.
//
// A member whose data directory is lost must never come back under its old identity: it has
// forgotten what it voted for and acknowledged. Run refuses that wherever it can find out, from the
// other members or from a note beside the data directory, and says what to do.
package etcdserver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Config is one member's settings. Addresses are host:port.
type Config struct {
	Name    string
	DataDir string

	ListenClient, ListenPeer string
	// AdvertiseClient and AdvertisePeer are what others use. Default: as listened.
	AdvertiseClient, AdvertisePeer string

	// InitialCluster maps each member's name to its peer address.
	InitialCluster map[string]string
	// InitialClusterState is "new" or "existing". It does not matter once there is data.
	InitialClusterState string
	InitialClusterToken string

	// HeartbeatInterval and ElectionTimeout. Defaults 100 ms and 500 ms: the store must have a new
	// leader well before a PostgreSQL lease runs out.
	HeartbeatInterval, ElectionTimeout time.Duration

	ClientTLS, PeerTLS TLS

	// QuotaBytes bounds the database. Default 512 MiB; a cluster's keys need less than one.
	QuotaBytes int64
	// CompactAfter is how long history is kept for watches that lag. Default 1 hour.
	CompactAfter time.Duration
	// LogInfo lets etcd's chatter through, not only its warnings.
	LogInfo bool

	// Ready is called once, when the member serves clients. May be nil.
	Ready func(*Member)

	// noFsync is for tests.
	noFsync bool
}

// TLS secures one of the two listeners. With a CAFile the other side must show a certificate too.
type TLS struct {
	CertFile, KeyFile, CAFile string
}

func (t TLS) scheme() string {
	if t.CertFile != "" {
		return "https"
	}
	return "http"
}

func (t TLS) info() transport.TLSInfo {
	return transport.TLSInfo{
		CertFile: t.CertFile, KeyFile: t.KeyFile, TrustedCAFile: t.CAFile, ClientCertAuth: t.CAFile != "" && t.CertFile != "",
	}
}

func (c *Config) setDefaults() {
	for _, d := range []struct{ value, fallback *string }{
		{&c.AdvertiseClient, &c.ListenClient},
		{&c.AdvertisePeer, &c.ListenPeer},
	} {
		if *d.value == "" {
			*d.value = *d.fallback
		}
	}
	if c.InitialClusterState == "" {
		c.InitialClusterState = embed.ClusterStateFlagNew
	}
	if c.InitialClusterToken == "" {
		c.InitialClusterToken = "pgha"
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = 100 * time.Millisecond
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = 500 * time.Millisecond
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = 512 << 20
	}
	if c.CompactAfter == 0 {
		c.CompactAfter = time.Hour
	}
	if len(c.InitialCluster) == 0 {
		c.InitialCluster = map[string]string{c.Name: c.AdvertisePeer}
	}
}

// validate joins everything that is wrong.
func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for what, value := range map[string]string{"name": c.Name, "data_dir": c.DataDir} {
		if value == "" {
			bad("%s is empty", what)
		}
	}
	for what, addr := range map[string]string{
		"listen_client": c.ListenClient, "listen_peer": c.ListenPeer,
		"advertise_client": c.AdvertiseClient, "advertise_peer": c.AdvertisePeer,
	} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad("%s: %w", what, err)
		}
	}
	if own, ok := c.InitialCluster[c.Name]; !ok {
		bad("initial_cluster does not name this member, %q", c.Name)
	} else if own != c.AdvertisePeer {
		bad("initial_cluster says %s for this member, advertise_peer says %s", own, c.AdvertisePeer)
	}
	if s := c.InitialClusterState; s != embed.ClusterStateFlagNew && s != embed.ClusterStateFlagExisting {
		bad("initial_cluster_state is %q, want new or existing", s)
	}
	if c.ElectionTimeout < 4*c.HeartbeatInterval {
		bad("election_timeout %v is less than four times heartbeat_interval %v", c.ElectionTimeout, c.HeartbeatInterval)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// hasData says whether the member has run here before.
func (c *Config) hasData() (bool, error) {
	entries, err := os.ReadDir(filepath.Join(c.DataDir, "member", "wal"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data directory: %w", err)
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".wal") }), nil
}

// embedded translates the settings. existing: there is data, so the configured state is history.
// The logger is the one that etcd itself gets.
func (c *Config) embedded(existing bool, log *zap.Logger) *embed.Config {
	e := embed.NewConfig()
	e.Name, e.Dir = c.Name, c.DataDir
	client, peer := c.ClientTLS.scheme(), c.PeerTLS.scheme()
	e.ListenClientUrls = []url.URL{{Scheme: client, Host: c.ListenClient}}
	e.ListenPeerUrls = []url.URL{{Scheme: peer, Host: c.ListenPeer}}
	e.AdvertiseClientUrls = []url.URL{{Scheme: client, Host: c.AdvertiseClient}}
	e.AdvertisePeerUrls = []url.URL{{Scheme: peer, Host: c.AdvertisePeer}}
	e.InitialCluster = c.initialCluster()
	e.InitialClusterToken = c.InitialClusterToken
	e.ClusterState = c.InitialClusterState
	if existing {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	e.ClientTLSInfo, e.PeerTLSInfo = c.ClientTLS.info(), c.PeerTLS.info()
	e.TickMs = uint(c.HeartbeatInterval.Milliseconds())
	e.ElectionMs = uint(c.ElectionTimeout.Milliseconds())
	e.PreVote, e.StrictReconfigCheck = true, true
	e.QuotaBackendBytes = c.QuotaBytes
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = c.CompactAfter.String()
	// A small database needs little history: this keeps memory and disk low.
	e.SnapshotCount, e.SnapshotCatchUpEntries = 2000, 500
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	// Agents may look after their connections more often than the default allows.
	e.GRPCKeepAliveMinTime = time.Second
	// Without this every request would be warned of as slow.
	e.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	e.UnsafeNoFsync = c.noFsync
	e.Logger = "zap"
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return e
}

func (c *Config) initialCluster() string {
	parts := make([]string, 0, len(c.InitialCluster))
	for name, addr := range c.InitialCluster {
		parts = append(parts, name+"="+c.PeerTLS.scheme()+"://"+addr)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
