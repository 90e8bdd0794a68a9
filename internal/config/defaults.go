package config

import (
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Default gives the settings that hold when the file names none. Those that follow from other
// settings (state_dir from data_dir and so on) are filled in by Load.
func Default() *Config {
	return &Config{
		Namespace: "/service",
		Log:       Log{Type: "plain", Level: "info", FileNum: 4, FileSize: 25_000_000},
		RestAPI:   RestAPI{VerifyClient: VerifyClientNone, ServerTokens: "original"},
		Etcd3:     Etcd3{Protocol: "http", Port: portEtcd},
		PostgreSQL: PostgreSQL{
			Database:       "postgres",
			ConfigBaseName: "postgresql",
			BinName: BinName{
				PgCtl: "pg_ctl", InitDB: "initdb", PgControldata: "pg_controldata", PgBasebackup: "pg_basebackup",
				Postgres: "postgres", PgIsReady: "pg_isready", PgRewind: "pg_rewind",
			},
		},
		Watchdog: Watchdog{
			Mode: WatchdogAutomatic, Device: "/dev/watchdog", SafetyMargin: 5 * time.Second, Driver: "default",
		},
		Pgha: Pgha{WireFence: WireFenceAuto, Etcd: EmbeddedEtcd{
			InitialClusterState: "new", InitialClusterToken: "pgha",
			HeartbeatInterval: 100 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond,
		}},
	}
}

func addressable(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() }

// complete fills in what follows from other settings and brings spellings into one form.
func (c *Config) complete() {
	c.Namespace = cleanNamespace(c.Namespace)
	c.Log.Level = logLevel(c.Log.Level)
	for name, level := range c.Log.Loggers {
		c.Log.Loggers[name] = logLevel(level)
	}
	c.RestAPI.VerifyClient = strings.ToLower(c.RestAPI.VerifyClient)
	c.RestAPI.ServerTokens = strings.ToLower(c.RestAPI.ServerTokens)
	if standsAlone(c.RestAPI.Listen) {
		c.RestAPI.Listen = withPort(c.RestAPI.Listen, portRestAPI)
	}
	setDefault(&c.RestAPI.ConnectAddress, c.RestAPI.Listen)
	c.RestAPI.ConnectAddress = withPort(c.RestAPI.ConnectAddress, portRestAPI)
	if own := c.Ctl.Authentication; !own.IsSet() && !own.Password.IsSet() {
		c.Ctl.Authentication = c.RestAPI.Authentication
	}
	setDefault(&c.Ctl.CACert, c.RestAPI.CAFile)
	c.Watchdog.Mode = watchdogMode(c.Watchdog.Mode)
	c.Pgha.WireFence = wireFence(c.Pgha.WireFence)
	if b := c.Bootstrap; b != nil {
		setDefault(&b.Method, "initdb")
	}
	c.completePostgreSQL()
	c.completeEmbeddedEtcd()
	c.completeEtcd()
}

func (c *Config) completePostgreSQL() {
	p := &c.PostgreSQL
	for _, dir := range []*string{&p.DataDir, &p.ConfigDir, &p.BinDir, &c.Pgha.StateDir, &c.Pgha.Etcd.DataDir} {
		if *dir != "" {
			*dir = filepath.Clean(*dir)
		}
	}
	if p.DataDir != "" {
		setDefault(&p.ConfigDir, p.DataDir)
		setDefault(&c.Pgha.StateDir, p.DataDir+".pgha")
		setDefault(&p.Pgpass, filepath.Join(c.Pgha.StateDir, "pgpass"))
	}
	p.ConnectAddress = withPort(p.ConnectAddress, portPostgreSQL)
	p.ProxyAddress = withPort(p.ProxyAddress, portPostgreSQL)
	if p.Authentication.Rewind.Username == "" {
		p.Authentication.Rewind = p.Authentication.Superuser
	}
	p.nameMethods()
}

// nameMethods gives replica methods without a command their name for one.
func (o *PostgresOptions) nameMethods() {
	for name, method := range o.Methods {
		setDefault(&method.Command, name)
		o.Methods[name] = method
	}
}

func (c *Config) completeEmbeddedEtcd() {
	e := &c.Pgha.Etcd
	if !e.Enabled {
		return
	}
	setDefault(&e.Name, c.Name)
	setDefault(&e.ListenClient, hostPort("127.0.0.1", portEtcd))
	setDefault(&e.ListenPeer, hostPort("127.0.0.1", portEtcdPeer))
	if standsAlone(e.ListenClient) {
		e.ListenClient = withPort(e.ListenClient, portEtcd)
	}
	if standsAlone(e.ListenPeer) {
		e.ListenPeer = withPort(e.ListenPeer, portEtcdPeer)
	}
	setDefault(&e.AdvertiseClient, e.ListenClient)
	setDefault(&e.AdvertisePeer, e.ListenPeer)
	e.AdvertiseClient, e.AdvertisePeer = withPort(e.AdvertiseClient, portEtcd), withPort(e.AdvertisePeer, portEtcdPeer)
	if len(e.InitialCluster) == 0 && e.Name != "" {
		e.InitialCluster = map[string]string{e.Name: e.AdvertisePeer}
	}
	for name, addr := range e.InitialCluster {
		e.InitialCluster[name] = withPort(addr, portEtcdPeer)
	}
	// Without a section of its own the client finds the members that are known here.
	if c.Etcd3.named() {
		return
	}
	c.Etcd3.Hosts = append([]string{e.AdvertiseClient}, e.ClientHosts...)
	if e.CertFile != "" {
		c.Etcd3.Protocol = "https"
		setDefault(&c.Etcd3.CACert, e.CAFile)
		setDefault(&c.Etcd3.Cert, e.CertFile)
		setDefault(&c.Etcd3.Key, e.KeyFile)
	}
}

func (c *Config) completeEtcd() {
	e := &c.Etcd3
	e.Protocol = strings.ToLower(e.Protocol)
	for _, field := range []*string{&e.URL, &e.Proxy} {
		u, err := url.Parse(*field)
		if err != nil || u.Host == "" {
			continue
		}
		if u.Scheme == "http" || u.Scheme == "https" {
			e.Protocol = u.Scheme
		}
		if u.User == nil {
			continue
		}
		setDefault(&e.Username, u.User.Username())
		if password, ok := u.User.Password(); ok && !e.Password.IsSet() {
			e.Password = NewSecret(password)
		}
		u.User = nil
		*field = u.String()
	}
}

// named says whether the section names any server.
func (e Etcd3) named() bool {
	return e.Host != "" || len(e.Hosts) > 0 || e.URL != "" || e.Proxy != "" || e.SRV != ""
}

// Endpoints gives the URLs of the servers. It is empty if they are found by SRV records only.
func (e Etcd3) Endpoints() []string {
	switch {
	case e.Proxy != "":
		return []string{e.endpoint(e.Proxy)}
	case e.URL != "":
		return []string{e.endpoint(e.URL)}
	}
	hosts := e.Hosts
	if len(hosts) == 0 && e.Host != "" {
		hosts = []string{e.Host}
	}
	list := make([]string, 0, len(hosts))
	for _, host := range hosts {
		if endpoint := e.endpoint(host); !slices.Contains(list, endpoint) {
			list = append(list, endpoint)
		}
	}
	return list
}

// endpoint completes an address with protocol and port, and drops a path.
func (e Etcd3) endpoint(address string) string {
	protocol, rest, ok := strings.Cut(address, "://")
	if !ok {
		protocol, rest = e.Protocol, address
	}
	rest, _, _ = strings.Cut(rest, "/")
	return protocol + "://" + withPort(rest, e.Port)
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// withPort adds the default port to an address that has none. What is no address stays as it is,
// for Validate to name.
func withPort(address string, port int) string {
	host, p, err := SplitHostPort(address, port)
	if err != nil {
		return address
	}
	return hostPort(host, p)
}

// cleanNamespace brings a prefix of keys into the form /a/b; the root is the empty text.
func cleanNamespace(s string) string {
	s = regexp.MustCompile(`/+`).ReplaceAllString("/"+s, "/")
	return strings.TrimRight(s, "/")
}

// logLevel maps the names of levels to the four there are. An unknown one stays, for Validate.
func logLevel(s string) string {
	switch strings.ToUpper(s) {
	case "DEBUG":
		return "debug"
	case "INFO":
		return "info"
	case "WARN", "WARNING":
		return "warn"
	case "ERROR", "FATAL", "CRITICAL":
		return "error"
	default:
		return s
	}
}

// wireFence: an unquoted off is a boolean to YAML.
func wireFence(w WireFence) WireFence {
	switch strings.ToLower(string(w)) {
	case "off", "false", "no":
		return WireFenceOff
	default:
		return WireFence(strings.ToLower(string(w)))
	}
}

func watchdogMode(m WatchdogMode) WatchdogMode {
	switch strings.ToLower(string(m)) {
	case "off", "disable", "disabled", "false", "no", "0":
		return WatchdogOff
	case "auto", "automatic", "true", "on", "yes", "1":
		return WatchdogAutomatic
	case "require", "required":
		return WatchdogRequired
	default:
		return m
	}
}
