package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func (v *validator) postgreSQL() {
	p := v.c.PostgreSQL
	if p.Listen == "" {
		v.missing("postgresql.listen", "host:port, e.g. 0.0.0.0:5432")
	} else if _, _, err := splitListen(p.Listen, portPostgreSQL); err != nil {
		v.bad("postgresql.listen", p.Listen, wantHostPort+"5432")
	}
	if p.ConnectAddress == "" {
		v.missing("postgresql.connect_address", "the host:port that other members connect to, e.g. 10.0.0.1:5432")
	} else {
		v.address("postgresql.connect_address", p.ConnectAddress, portPostgreSQL)
	}
	if p.ProxyAddress != "" {
		v.address("postgresql.proxy_address", p.ProxyAddress, portPostgreSQL)
	}
	if p.BinDir != "" && !filepath.IsAbs(p.BinDir) {
		v.bad("postgresql.bin_dir", p.BinDir, "want an absolute path, e.g. /usr/lib/postgresql/17/bin")
	}
	v.binNames(p.BinName)
	v.users(p.Authentication)
	v.postgresOptions(p.PostgresOptions)
}

func (v *validator) binNames(b BinName) {
	for _, bin := range []struct{ key, value string }{
		{"pg_ctl", b.PgCtl},
		{"initdb", b.InitDB},
		{"pg_controldata", b.PgControldata},
		{"pg_basebackup", b.PgBasebackup},
		{"postgres", b.Postgres},
		{"pg_isready", b.PgIsReady},
		{"pg_rewind", b.PgRewind},
	} {
		if bin.value == "" || strings.Contains(bin.value, "/") {
			v.bad("postgresql.bin_name."+bin.key, bin.value, "want the name of a program; its directory goes into postgresql.bin_dir")
		}
	}
}

func (v *validator) users(a Authentication) {
	const section = "postgresql.authentication."
	if a.Replication.Username == "" {
		v.missing(section+"replication.username", "the user that standbys connect as, e.g. replicator")
	}
	for _, user := range []struct {
		key string
		u   User
	}{{"superuser", a.Superuser}, {"replication", a.Replication}, {"rewind", a.Rewind}} {
		path := section + user.key
		if v.origin(path) == "" {
			continue
		}
		if user.u.Username == "" && user.u.Password.IsSet() && user.key != "replication" {
			v.missing(path+".username", "a user name beside the password")
		}
		v.enum(path+".sslmode", user.u.SSLMode, "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
		v.enum(path+".gssencmode", user.u.GSSEncMode, "disable", "prefer", "require")
		v.enum(path+".channel_binding", user.u.ChannelBinding, "disable", "prefer", "require")
		v.enum(path+".sslnegotiation", user.u.SSLNegotiation, "postgres", "direct")
		if strings.ContainsAny(user.u.Password.Reveal(), "\x00\n") {
			v.wrong(path+".password", "want a password without line breaks and zero bytes; quote it if the file ends it with one")
		}
	}
}

// enum is oneOf for a setting that may be left out.
func (v *validator) enum(path, value string, allowed ...string) {
	if value != "" {
		v.oneOf(path, value, allowed...)
	}
}

func (v *validator) postgresOptions(o PostgresOptions) {
	const section = "postgresql"
	v.options(section+".basebackup", o.BaseBackup, "pgdata", "format", "wal-method", "xlog-method", "gzip", "version",
		"dbname", "host", "port", "username", "password")
	v.options(section+".rewind", o.Rewind, "target-pgdata", "source-pgdata", "source-server", "write-recovery-conf", "dry-run",
		"restore-target-wal", "config-file", "no-ensure-shutdown", "version", "help")
	if o.PgCtlTimeout != nil && *o.PgCtlTimeout <= 0 {
		v.bad(section+".pg_ctl_timeout", o.PgCtlTimeout.String(), "want a time above 0, e.g. 60")
	}
	if o.CustomConf != "" && !filepath.IsAbs(o.CustomConf) {
		v.bad(section+".custom_conf", o.CustomConf, "want an absolute path")
	}
	for i, name := range o.CreateReplicaMethods {
		if _, ok := o.Methods[name]; !ok && name != BaseBackupMethod {
			v.warn(fmt.Sprintf("%s.create_replica_methods[%d]", section, i),
				"%s: the file has no section postgresql.%s; unless /config has one, a command of that name is run", quoteValue(name), name)
		}
	}
	v.hba(section+".pg_hba", o.PgHBA)
	v.hba(section+".pg_hba_primary", o.PgHBAPrimary)
	v.hba(section+".pg_hba_replica", o.PgHBAReplica)
	v.hba(section+".pg_hba_standby_leader", o.PgHBAStandbyLeader)
	for _, name := range sortedStringKeys(o.Parameters) {
		v.parameterName(section+".parameters."+name, name)
	}
}

func (v *validator) parameterName(path, name string) {
	if !regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$`).MatchString(name) {
		v.wrong(path, "not the name of a PostgreSQL setting: want letters, digits and underscores")
	}
}

// hba checks that the lines begin like lines of pg_hba.conf. A list without a line for this
// cluster's own connections is the user's affair.
func (v *validator) hba(path string, lines []string) {
	types := []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc", "include", "include_if_exists", "include_dir"}
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if strings.Contains(line, "\n") && len(lines) > 0 {
			continue // several lines in one: the server will say what it thinks of them
		}
		if !slices.Contains(types, strings.ToLower(words[0])) {
			v.found = append(v.found, Problem{
				Path: fmt.Sprintf("%s[%d]", path, i), Value: quoteValue(line),
				Want: "want a line of pg_hba.conf, e.g. host all all 10.0.0.0/8 scram-sha-256", Origin: v.origin(path),
			})
		}
	}
}

// options checks the extra options of a program.
func (v *validator) options(path string, options CommandOptions, forbidden ...string) {
	for _, opt := range options {
		origin := v.origin(join(path, opt.Name))
		if origin == "" {
			origin = v.origin(path)
		}
		switch {
		case slices.Contains(forbidden, opt.Name):
			v.found = append(v.found, Problem{Path: path, Value: quoteValue(opt.Name), Want: "remove this option: pgha sets it", Origin: origin})
		case !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`).MatchString(opt.Name):
			v.found = append(v.found, Problem{
				Path: path, Value: quoteValue(opt.Name), Want: "want the long name of an option, with its value behind a colon, e.g. encoding: UTF8", Origin: origin,
			})
		}
	}
}

func (v *validator) bootstrap() {
	b := v.c.Bootstrap
	if b == nil {
		return
	}
	v.options("bootstrap.initdb", b.InitDB, "pgdata", "nosync", "no-sync", "pwfile", "sync-only", "version", "username")
	v.hba("bootstrap.pg_hba", b.PgHBA)
	if method, ok := b.Methods[b.Method]; b.Method != "initdb" && (!ok || method.Command == "") {
		v.warn("bootstrap.method", "%s: no command in section bootstrap.%s; initdb is used", quoteValue(b.Method), b.Method)
	}
	v.bootstrapDCS(b)
}

// bootstrapDCS reads the section the way the agents will read /config later, and is stricter: here
// the author is present and can correct it.
func (v *validator) bootstrapDCS(b *Bootstrap) {
	const section = "bootstrap.dcs"
	raw, err := encodeJSON(b.DCS)
	if err != nil || b.DCS == nil {
		return // values that come from YAML always have a JSON form
	}
	dyn, warnings, err := ParseDynamic(raw)
	if err != nil {
		v.dynamicProblems(section, raw)
		return
	}
	for _, w := range warnings {
		v.warn(join(section, w.Path), "%s", w.Message)
	}
	nothingLocal := Default()
	for _, w := range Effective(nothingLocal, dyn).Warnings {
		v.warn(join(section, w.Path), "%s", w.Message)
	}
	v.margin(b, dyn)
}

func (v *validator) dynamicProblems(section string, raw []byte) {
	m, err := decodeObject(raw)
	if err != nil {
		v.wrong(section, err.Error())
		return
	}
	r := &dynamicReader{values: m}
	var d Dynamic
	r.timing(&d, pghaLimits())
	r.cluster(&d)
	r.takeover(&d)
	r.standbyCluster()
	r.postgresql(&d.PostgreSQL)
	for _, p := range r.fatal {
		p.Path = join(section, p.Path)
		p.Origin = v.origin(p.Path)
		v.found = append(v.found, p)
	}
}

// margin checks the safety margin against the ttl that the same file gives a new cluster.
func (v *validator) margin(b *Bootstrap, dyn Dynamic) {
	const path = "pgha.safety_margin"
	m := v.c.Pgha.SafetyMargin
	if m == 0 || b.DCS["ttl"] == nil {
		return
	}
	low, high := marginFloor(dyn.TTL), marginCeiling(dyn.TTL)
	if m < low || m > high {
		v.bad(path, m.String(), fmt.Sprintf("want from %s to %s, which a ttl of %s (bootstrap.dcs.ttl) allows, or leave it out", low, high.Round(1e7), dyn.TTL))
	}
}

func sortedStringKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
