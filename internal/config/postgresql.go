package config

import "time"

// PostgreSQL is section postgresql of the node-local file (C-065 to C-102). What may also be set
// in /config is in the embedded PostgresOptions; ask Effective for the outcome of both.
type PostgreSQL struct {
	// Listen is addr[,addr…]:port. Use ListenAddresses to take it apart.
	Listen string `yaml:"listen"`
	// ConnectAddress is the host:port that other members and clients use.
	ConnectAddress string `yaml:"connect_address"`
	// ProxyAddress, if set, is published as proxy_url.
	ProxyAddress string `yaml:"proxy_address"`
	DataDir      string `yaml:"data_dir"`
	// ConfigDir defaults to DataDir.
	ConfigDir string `yaml:"config_dir"`
	// BinDir is empty when programs are found in PATH.
	BinDir  string  `yaml:"bin_dir"`
	BinName BinName `yaml:"bin_name"`
	// Pgpass is the password file that the agent writes; it defaults to a file in the state directory.
	Pgpass string `yaml:"pgpass"`
	// Database is where the agent connects to, and part of the published conn_url.
	Database string `yaml:"database"`
	// ConfigBaseName is the first part of the name of postgresql.conf.
	ConfigBaseName string         `yaml:"config_base_name"`
	Authentication Authentication `yaml:"authentication"`

	PostgresOptions `yaml:",inline"`
}

// BinName holds the names of PostgreSQL's programs (C-071).
type BinName struct {
	PgCtl         string `yaml:"pg_ctl"`
	InitDB        string `yaml:"initdb"`
	PgControldata string `yaml:"pg_controldata"`
	PgBasebackup  string `yaml:"pg_basebackup"`
	Postgres      string `yaml:"postgres"`
	PgIsReady     string `yaml:"pg_isready"`
	PgRewind      string `yaml:"pg_rewind"`
}

// Authentication holds the database users of the agent (C-075 to C-077).
type Authentication struct {
	Superuser   User `yaml:"superuser"`
	Replication User `yaml:"replication"`
	// Rewind is a copy of Superuser when the file has none.
	Rewind User `yaml:"rewind"`
}

// User is one database user with libpq's connection settings (C-078).
type User struct {
	Username       string `yaml:"username"`
	Password       Secret `yaml:"password"`
	SSLMode        string `yaml:"sslmode"`
	SSLCert        string `yaml:"sslcert"`
	SSLKey         string `yaml:"sslkey"`
	SSLPassword    Secret `yaml:"sslpassword"`
	SSLRootCert    string `yaml:"sslrootcert"`
	SSLCRL         string `yaml:"sslcrl"`
	SSLCRLDir      string `yaml:"sslcrldir"`
	GSSEncMode     string `yaml:"gssencmode"`
	ChannelBinding string `yaml:"channel_binding"`
	SSLNegotiation string `yaml:"sslnegotiation"`
}

// PostgresOptions are the postgresql settings that may be given both in the file and in /config.
// A nil pointer, slice or map means "not given here".
type PostgresOptions struct {
	// Parameters are settings of postgresql.conf by lower-case name.
	Parameters              map[string]string `yaml:"parameters" config:"gucs"`
	ParametersPrimary       map[string]string `yaml:"parameters_primary" config:"gucs"`
	ParametersReplica       map[string]string `yaml:"parameters_replica" config:"gucs"`
	ParametersStandbyLeader map[string]string `yaml:"parameters_standby_leader" config:"gucs"`
	// PgHBA holds the lines of pg_hba.conf; the role-specific lists replace it.
	PgHBA                []string  `yaml:"pg_hba" config:"lines"`
	PgHBAPrimary         []string  `yaml:"pg_hba_primary" config:"lines"`
	PgHBAReplica         []string  `yaml:"pg_hba_replica" config:"lines"`
	PgHBAStandbyLeader   []string  `yaml:"pg_hba_standby_leader" config:"lines"`
	PgIdent              []string  `yaml:"pg_ident" config:"lines"`
	PgIdentPrimary       []string  `yaml:"pg_ident_primary" config:"lines"`
	PgIdentReplica       []string  `yaml:"pg_ident_replica" config:"lines"`
	PgIdentStandbyLeader []string  `yaml:"pg_ident_standby_leader" config:"lines"`
	Callbacks            Callbacks `yaml:"callbacks"`
	// CreateReplicaMethods names the ways to make a replica, in order of preference.
	CreateReplicaMethods []string `yaml:"create_replica_methods" alias:"create_replica_method"`
	// Methods holds the sections of custom replica methods by name.
	Methods map[string]ReplicaMethod `yaml:",inline" config:"rest"`
	// BaseBackup holds extra options of pg_basebackup.
	BaseBackup CommandOptions `yaml:"basebackup"`
	// RecoveryConf holds extra settings of a standby.
	RecoveryConf map[string]string `yaml:"recovery_conf" config:"gucs"`
	// CustomConf is a file included in place of the base configuration.
	CustomConf   string         `yaml:"custom_conf"`
	PgCtlTimeout *time.Duration `yaml:"pg_ctl_timeout"`
	UsePgRewind  *bool          `yaml:"use_pg_rewind"`
	// Rewind holds extra options of pg_rewind.
	Rewind                                 CommandOptions `yaml:"rewind"`
	RemoveDataDirectoryOnRewindFailure     *bool          `yaml:"remove_data_directory_on_rewind_failure"`
	RemoveDataDirectoryOnDivergedTimelines *bool          `yaml:"remove_data_directory_on_diverged_timelines"`
	UseUnixSocket                          *bool          `yaml:"use_unix_socket"`
	UseUnixSocketRepl                      *bool          `yaml:"use_unix_socket_repl"`
	// PrePromote is run after the lock is taken; a failure gives the lock back.
	PrePromote string `yaml:"pre_promote"`
	// BeforeStop is run before a stop signal.
	BeforeStop string `yaml:"before_stop"`
	KrbSrvName string `yaml:"krbsrvname"`
	// UseSlots counts in /config only (C-004).
	UseSlots *bool `yaml:"use_slots"`
}

// Callbacks are commands run after events (C-085).
type Callbacks struct {
	OnStart      string `yaml:"on_start"`
	OnStop       string `yaml:"on_stop"`
	OnRestart    string `yaml:"on_restart"`
	OnReload     string `yaml:"on_reload"`
	OnRoleChange string `yaml:"on_role_change"`
}

// ReplicaMethod is the section of a custom replica method (C-087).
type ReplicaMethod struct {
	// Command defaults to the name of the method.
	Command string `yaml:"command"`
	// NoLeader: the method works without a running source.
	NoLeader bool `yaml:"no_leader" alias:"no_master"`
	// NoParams: the command is run without --scope, --datadir and so on.
	NoParams bool `yaml:"no_params"`
	// KeepData: the data directory is not emptied first.
	KeepData bool `yaml:"keep_data"`
	// Args are passed on as --key=value.
	Args map[string]string `yaml:",inline" config:"rest"`
}

// Bootstrap is section bootstrap (C-039 to C-049).
type Bootstrap struct {
	// DCS is what /config gets at first, as written; InitialDynamic adds the defaults.
	DCS map[string]any `yaml:"dcs"`
	// Method is "initdb" or the name of a section in Methods.
	Method string `yaml:"method"`
	// InitDB holds options of initdb.
	InitDB CommandOptions `yaml:"initdb"`
	// PgHBA is used where postgresql.pg_hba is not given.
	PgHBA []string `yaml:"pg_hba" config:"lines"`
	// PostBootstrap is run once on the new primary.
	PostBootstrap string `yaml:"post_bootstrap" alias:"post_init"`
	// Methods holds the sections of custom bootstrap methods by name.
	Methods map[string]BootstrapMethod `yaml:",inline" config:"rest"`
}

// BootstrapMethod is the section of a custom bootstrap method (C-046 to C-049).
type BootstrapMethod struct {
	Command string `yaml:"command"`
	// NoParams drops --scope and --datadir.
	NoParams bool `yaml:"no_params"`
	// KeepExistingRecoveryConf leaves recovery settings that the command produced.
	KeepExistingRecoveryConf bool `yaml:"keep_existing_recovery_conf"`
	// RecoveryConf is written before the first start.
	RecoveryConf map[string]string `yaml:"recovery_conf" config:"gucs"`
	// Args are passed on as --key=value.
	Args map[string]string `yaml:",inline" config:"rest"`
}

// CommandOption is one option of initdb, pg_basebackup or pg_rewind.
type CommandOption struct {
	Name string
	// Value counts only when HasValue is set.
	Value    string
	HasValue bool
}

// CommandOptions is written as a list of names and {name: value}, or as a map.
type CommandOptions []CommandOption

// Args returns the options as command line arguments.
func (o CommandOptions) Args() []string {
	args := make([]string, 0, len(o))
	for _, opt := range o {
		if opt.HasValue {
			args = append(args, "--"+opt.Name+"="+opt.Value)
		} else {
			args = append(args, "--"+opt.Name)
		}
	}
	return args
}
