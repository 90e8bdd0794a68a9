package config

import (
	"io/fs"
	"time"
)

// Config is the node-local configuration: one file (or directory of files), with environment
// variables merged over it. After Load every default is filled in, also those that follow from
// other settings, so that readers need not know the rules.
type Config struct {
	// Scope is the name of the cluster (C-020).
	Scope string `yaml:"scope"`
	// Name is the name of this member, unique in the cluster (C-019).
	Name string `yaml:"name"`
	// Namespace is the prefix of all keys, with a slash in front and none at the end (C-021).
	// It is empty when the keys begin at the root.
	Namespace string `yaml:"namespace"`

	Log     Log     `yaml:"log"`
	RestAPI RestAPI `yaml:"restapi"`
	Ctl     Ctl     `yaml:"ctl"`
	// Etcd3 is where the consensus store is found. The section may also be called etcd.
	Etcd3 Etcd3 `yaml:"etcd3"`
	// Bootstrap is nil when the file has no such section; such a node never initializes
	// a new cluster (C-039).
	Bootstrap  *Bootstrap `yaml:"bootstrap"`
	PostgreSQL PostgreSQL `yaml:"postgresql"`
	Watchdog   Watchdog   `yaml:"watchdog"`
	Tags       Tags       `yaml:"tags"`
	Pgha       Pgha       `yaml:"pgha"`

	// Ignored lists settings that were given and have no effect, each with the reason,
	// for one log line at the start.
	Ignored []string `yaml:"-"`
	// Warnings lists what is allowed but probably not meant.
	Warnings []Warning `yaml:"-"`

	// origins says for each given setting where it came from: a file and line, or a variable.
	origins map[string]string
}

// Log is section log (C-025 to C-037).
type Log struct {
	// Type is "plain" or "json".
	Type string `yaml:"type"`
	// Level is "debug", "info", "warn" or "error", whatever spelling the file used.
	Level string `yaml:"level"`
	// Dir, if set, is where the log file is written; otherwise the log goes to standard error.
	Dir string `yaml:"dir"`
	// Mode holds the permissions of the log file; zero leaves them to the umask.
	Mode fs.FileMode `yaml:"mode"`
	// FileNum is how many rotated files are kept.
	FileNum int `yaml:"file_num"`
	// FileSize is when a log file is rotated.
	FileSize Bytes `yaml:"file_size"`
	// StaticFields are added to every line of type json.
	StaticFields map[string]string `yaml:"static_fields"`
	// Loggers sets levels of single components.
	Loggers map[string]string `yaml:"loggers"`
	// DeduplicateHeartbeatLogs suppresses identical consecutive heartbeat lines.
	DeduplicateHeartbeatLogs bool `yaml:"deduplicate_heartbeat_logs"`
}

// Credentials is a user name and a password.
type Credentials struct {
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
}

// IsSet says whether a user name was given.
func (c Credentials) IsSet() bool { return c.Username != "" }

// Values of RestAPI.VerifyClient.
const (
	VerifyClientNone     = "none"
	VerifyClientOptional = "optional"
	VerifyClientRequired = "required"
)

// RestAPI is section restapi (C-103 to C-118).
type RestAPI struct {
	// Listen is host:port; an empty host or "*" is any address.
	Listen string `yaml:"listen"`
	// ConnectAddress is what other members and HAProxy use; it defaults to Listen.
	ConnectAddress string      `yaml:"connect_address"`
	Authentication Credentials `yaml:"authentication"`
	// CertFile switches TLS on.
	CertFile        string `yaml:"certfile"`
	KeyFile         string `yaml:"keyfile"`
	KeyFilePassword Secret `yaml:"keyfile_password"`
	// CAFile verifies client certificates, and servers' for requests to peers.
	CAFile string `yaml:"cafile"`
	// VerifyClient is "none", "optional" (unsafe methods need a certificate) or "required".
	VerifyClient string `yaml:"verify_client"`
	// Allowlist limits unsafe methods to these hosts, addresses and networks; empty allows all.
	Allowlist               []string          `yaml:"allowlist"`
	AllowlistIncludeMembers bool              `yaml:"allowlist_include_members"`
	HTTPExtraHeaders        map[string]string `yaml:"http_extra_headers"`
	HTTPSExtraHeaders       map[string]string `yaml:"https_extra_headers"`
	// ServerTokens is "original", "productonly" or "minimal".
	ServerTokens string `yaml:"server_tokens"`
}

// TLS says whether the API is served with TLS.
func (r RestAPI) TLS() bool { return r.CertFile != "" }

// Ctl is section ctl (C-119 to C-124): how this node calls the API of others. Defaults come
// from restapi.
type Ctl struct {
	Authentication Credentials `yaml:"authentication"`
	// Insecure switches the verification of server certificates off.
	Insecure        bool   `yaml:"insecure"`
	CACert          string `yaml:"cacert"`
	CertFile        string `yaml:"certfile"`
	KeyFile         string `yaml:"keyfile"`
	KeyFilePassword Secret `yaml:"keyfile_password"`
}

// Etcd3 is section etcd3 or etcd (C-050 to C-063). Use Endpoints, which applies the precedence
// of its ways to name servers.
type Etcd3 struct {
	Host  string   `yaml:"host"`
	Hosts []string `yaml:"hosts"`
	// URL and Proxy hold no credentials after Load; those have moved to Username and Password.
	URL   string `yaml:"url"`
	Proxy string `yaml:"proxy"`
	// SRV is a domain whose SRV records name the servers.
	SRV        string `yaml:"srv" alias:"discovery_srv,srv_domain"`
	SRVSuffix  string `yaml:"srv_suffix"`
	UseProxies bool   `yaml:"use_proxies"`
	// Protocol is "http" or "https".
	Protocol string `yaml:"protocol"`
	// Port is the default port of Host and Hosts.
	Port     int    `yaml:"port"`
	Username string `yaml:"username"`
	Password Secret `yaml:"password"`
	CACert   string `yaml:"cacert"`
	Cert     string `yaml:"cert"`
	Key      string `yaml:"key"`
}

// WatchdogMode says what to do with a hardware watchdog.
type WatchdogMode string

// Watchdog modes.
const (
	WatchdogOff       WatchdogMode = "off"
	WatchdogAutomatic WatchdogMode = "automatic" // used if it is there
	WatchdogRequired  WatchdogMode = "required"  // no leader without it
)

// Watchdog is section watchdog (C-125 to C-128).
type Watchdog struct {
	Mode   WatchdogMode `yaml:"mode"`
	Device string       `yaml:"device"`
	// SafetyMargin is subtracted from ttl to get the time-out of the device; -1 s means half the ttl.
	SafetyMargin time.Duration `yaml:"safety_margin"`
	// Driver is "default" or "testing".
	Driver string `yaml:"driver"`
}

// WireFence says what to do with the fence on the wire.
type WireFence string

// Wire fences.
const (
	WireFenceOff      WireFence = "off"
	WireFenceAuto     WireFence = "auto"     // used if the kernel allows it
	WireFenceRequired WireFence = "required" // no leader without it
)

// Pgha is section pgha: what Patroni has no name for.
type Pgha struct {
	// StateDir is where the fencer and the agent keep what must outlive them. It lies beside
	// the data directory, never in it: pg_basebackup and pg_rewind would copy it to others.
	StateDir string `yaml:"state_dir"`
	// SafetyMargin is m of the lease arithmetic as configured; zero means the smallest safe
	// one. Use Margin, which applies the floor.
	SafetyMargin time.Duration `yaml:"safety_margin"`
	// WireFence says whether the kernel closes PostgreSQL's port when the lease has run out.
	WireFence WireFence    `yaml:"wire_fence"`
	Etcd      EmbeddedEtcd `yaml:"etcd"`
}

// EmbeddedEtcd is section pgha.etcd: a member of etcd that pgha runs as its own process.
type EmbeddedEtcd struct {
	Enabled bool `yaml:"enabled"`
	// Name is the etcd member's name; it defaults to the name of the pgha member.
	Name    string `yaml:"name"`
	DataDir string `yaml:"data_dir"`
	// Addresses are host:port. The advertised ones default to those listened on.
	ListenClient    string `yaml:"listen_client"`
	ListenPeer      string `yaml:"listen_peer"`
	AdvertiseClient string `yaml:"advertise_client"`
	AdvertisePeer   string `yaml:"advertise_peer"`
	// ClientHosts lists the client addresses of the other members of etcd, for this node's agent.
	ClientHosts []string `yaml:"client_hosts"`
	// InitialCluster maps member names to advertised peer addresses.
	InitialCluster map[string]string `yaml:"initial_cluster"`
	// InitialClusterState is "new" or "existing".
	InitialClusterState string `yaml:"initial_cluster_state"`
	InitialClusterToken string `yaml:"initial_cluster_token"`
	// HeartbeatInterval and ElectionTimeout are etcd's own.
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
	ElectionTimeout   time.Duration `yaml:"election_timeout"`
	// Client TLS.
	CertFile string `yaml:"certfile"`
	KeyFile  string `yaml:"keyfile"`
	CAFile   string `yaml:"cafile"`
	// Peer TLS.
	PeerCertFile string `yaml:"peer_certfile"`
	PeerKeyFile  string `yaml:"peer_keyfile"`
	PeerCAFile   string `yaml:"peer_cafile"`
}

// Bytes is a size in bytes.
type Bytes int64
