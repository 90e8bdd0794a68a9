package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ServerRole selects the role-specific settings of C-080, C-082 and C-084.
type ServerRole uint8

// Roles. A server being promoted counts as primary, one being demoted as replica.
const (
	RoleReplica ServerRole = iota
	RolePrimary
	RoleStandbyLeader
)

// EffectivePostgres is what holds for the local server: the file merged with /config.
type EffectivePostgres struct {
	// Parameters go into postgresql.conf in every role, with the controlled settings among
	// them. Use For, which adds what depends on role and version.
	Parameters map[string]string
	// CommandLine holds the settings that are passed as arguments, too (C-190).
	CommandLine map[string]string
	// PgHBA and PgIdent are the whole contents of the files; nil leaves the file alone.
	PgHBA   []string
	PgIdent []string
	// HBAFile and IdentFile are where the server reads them. Lists are written only to a file
	// in the configuration directory under its usual name (C-081).
	HBAFile     string
	IdentFile   string
	ManageHBA   bool
	ManageIdent bool

	Callbacks            Callbacks
	CreateReplicaMethods []ReplicaMethodCall
	BaseBackup           CommandOptions
	RecoveryConf         map[string]string
	CustomConf           string
	PgCtlTimeout         time.Duration
	UsePgRewind          bool
	Rewind               CommandOptions

	RemoveDataDirectoryOnRewindFailure     bool
	RemoveDataDirectoryOnDivergedTimelines bool
	UseUnixSocket                          bool
	UseUnixSocketRepl                      bool

	PrePromote string
	BeforeStop string
	KrbSrvName string
	UseSlots   bool

	// Warnings name settings that were given and do not count.
	Warnings []Warning

	parametersByRole map[ServerRole]map[string]string
	hbaByRole        map[ServerRole][]string
	identByRole      map[ServerRole][]string
}

// ReplicaMethodCall is one way to make a replica. Name basebackup is pg_basebackup.
type ReplicaMethodCall struct {
	Name string
	ReplicaMethod
}

// BaseBackupMethod is the name of the built-in replica method.
const BaseBackupMethod = "basebackup"

// ServerFiles is what is written for one role and version.
type ServerFiles struct {
	Parameters map[string]string
	PgHBA      []string
	PgIdent    []string
}

// For gives the settings for a role and a major version of PostgreSQL.
func (e EffectivePostgres) For(role ServerRole, major int) ServerFiles {
	f := ServerFiles{Parameters: maps.Clone(e.Parameters), PgHBA: e.PgHBA, PgIdent: e.PgIdent}
	maps.Copy(f.Parameters, e.parametersByRole[role])
	if major < 13 {
		delete(f.Parameters, "wal_keep_size")
	} else {
		delete(f.Parameters, "wal_keep_segments")
	}
	if lines := e.hbaByRole[role]; lines != nil {
		f.PgHBA = lines
	}
	if lines := e.identByRole[role]; lines != nil {
		f.PgIdent = lines
	}
	return f
}

// Effective merges the local file with /config (C-003 to C-005, C-170 to C-188): an option in the
// file wins over the same option in /config, parameters one by one, lists as a whole. Settings
// that all members must share are taken from /config alone.
func Effective(local *Config, dyn Dynamic) EffectivePostgres {
	m := &merger{local: &local.PostgreSQL, dyn: &dyn.PostgreSQL}
	l, g := m.local, m.dyn
	e := EffectivePostgres{
		PgHBA:        firstList(l.PgHBA, g.PgHBA),
		PgIdent:      firstList(l.PgIdent, g.PgIdent),
		Callbacks:    mergeCallbacks(l.Callbacks, g.Callbacks),
		BaseBackup:   firstList(l.BaseBackup, g.BaseBackup),
		CustomConf:   first(l.CustomConf, g.CustomConf),
		PgCtlTimeout: firstOf(60*time.Second, l.PgCtlTimeout, g.PgCtlTimeout),
		UsePgRewind:  firstOf(true, l.UsePgRewind, g.UsePgRewind),
		Rewind:       firstList(l.Rewind, g.Rewind),

		RemoveDataDirectoryOnRewindFailure:     firstOf(false, l.RemoveDataDirectoryOnRewindFailure, g.RemoveDataDirectoryOnRewindFailure),
		RemoveDataDirectoryOnDivergedTimelines: firstOf(false, l.RemoveDataDirectoryOnDivergedTimelines, g.RemoveDataDirectoryOnDivergedTimelines),
		UseUnixSocket:                          firstOf(false, l.UseUnixSocket, g.UseUnixSocket),
		UseUnixSocketRepl:                      firstOf(false, l.UseUnixSocketRepl, g.UseUnixSocketRepl),

		PrePromote: first(l.PrePromote, g.PrePromote),
		BeforeStop: first(l.BeforeStop, g.BeforeStop),
		KrbSrvName: first(l.KrbSrvName, g.KrbSrvName),
		UseSlots:   firstOf(true, g.UseSlots),

		parametersByRole: map[ServerRole]map[string]string{
			RolePrimary:       m.roleParameters("parameters_primary", l.ParametersPrimary, g.ParametersPrimary),
			RoleReplica:       m.roleParameters("parameters_replica", l.ParametersReplica, g.ParametersReplica),
			RoleStandbyLeader: m.roleParameters("parameters_standby_leader", l.ParametersStandbyLeader, g.ParametersStandbyLeader),
		},
		hbaByRole: map[ServerRole][]string{
			RolePrimary:       firstList(l.PgHBAPrimary, g.PgHBAPrimary),
			RoleReplica:       firstList(l.PgHBAReplica, g.PgHBAReplica),
			RoleStandbyLeader: firstList(l.PgHBAStandbyLeader, g.PgHBAStandbyLeader),
		},
		identByRole: map[ServerRole][]string{
			RolePrimary:       firstList(l.PgIdentPrimary, g.PgIdentPrimary),
			RoleReplica:       firstList(l.PgIdentReplica, g.PgIdentReplica),
			RoleStandbyLeader: firstList(l.PgIdentStandbyLeader, g.PgIdentStandbyLeader),
		},
	}
	e.Parameters = m.parameters()
	m.shared(&e)
	m.derived(&e, local)
	m.recovery(&e, dyn.StandbyCluster)
	m.replicaMethods(&e, dyn.StandbyCluster)
	e.Warnings = m.warnings
	return e
}

// merger merges the two sources and keeps what there is to say about it.
type merger struct {
	local    *PostgreSQL
	dyn      *PostgresOptions
	warnings []Warning
}

func (m *merger) warn(path, message string) {
	m.warnings = append(m.warnings, Warning{Path: path, Message: message})
}

// parameters merges the settings that each member may have its own way.
func (m *merger) parameters() map[string]string {
	out := map[string]string{}
	for name, value := range m.dyn.Parameters {
		if !isControlled(name) && !slices.Contains(forbiddenGUCs(), name) {
			out[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.local.Parameters)) {
		path := "postgresql.parameters." + name
		switch {
		case slices.Contains(derivedGUCs(), name):
			m.warn(path, "ignored: it follows from postgresql.listen and scope")
		case isControlled(name):
			m.warn(path, "ignored: "+whyDynamic)
		case slices.Contains(forbiddenGUCs(), name):
			m.warn(path, "ignored: it follows from postgresql.data_dir")
		default:
			out[name] = m.local.Parameters[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.dyn.Parameters)) {
		if slices.Contains(derivedGUCs(), name) || slices.Contains(forbiddenGUCs(), name) {
			m.warn("postgresql.parameters."+name, "ignored in /config: it follows from the settings of each member")
		}
	}
	for _, name := range []string{"fsync", "full_page_writes"} {
		if on, err := parseBool(out[name]); err == nil && !on {
			m.warn("postgresql.parameters."+name, "off: a crash can lose or corrupt what was committed")
		}
	}
	return out
}

// roleParameters merges settings for one role; the shared ones are refused there (C-080).
func (m *merger) roleParameters(section string, local, dyn map[string]string) map[string]string {
	out := maps.Clone(dyn)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, local)
	for _, name := range slices.Sorted(maps.Keys(out)) {
		if isControlled(name) || slices.Contains(forbiddenGUCs(), name) {
			m.warn("postgresql."+section+"."+name, "ignored: it must not depend on the role")
			delete(out, name)
		}
	}
	return out
}

// shared adds the settings that must agree between members: from /config, with their defaults
// and minimums. A bad value gives way to the default (C-009).
func (m *merger) shared(e *EffectivePostgres) {
	e.CommandLine = map[string]string{}
	given := map[string]bool{}
	for _, c := range controlledGUCs() {
		value := c.value
		if text, ok := m.dyn.Parameters[c.name]; ok {
			checked, err := c.check(text)
			if err == nil {
				value, given[c.name] = checked, true
			} else {
				m.warn("postgresql.parameters."+c.name, quoteValue(text)+": "+err.Error()+"; using "+c.value)
			}
		}
		e.Parameters[c.name] = value
		if c.commandLine {
			e.CommandLine[c.name] = value
		}
	}
	keepWAL(e.Parameters, given["wal_keep_size"], given["wal_keep_segments"])
}

// derived adds what follows from settings with another name.
func (m *merger) derived(e *EffectivePostgres, local *Config) {
	hosts, port := local.PostgreSQL.ListenAddresses()
	for i, host := range hosts {
		if host == "" {
			hosts[i] = "*"
		}
	}
	e.CommandLine["listen_addresses"] = strings.Join(hosts, ",")
	e.CommandLine["port"] = strconv.Itoa(port)
	e.CommandLine["cluster_name"] = local.Scope
	for _, name := range derivedGUCs() {
		e.Parameters[name] = e.CommandLine[name]
	}
	dir := local.PostgreSQL.ConfigDir
	e.HBAFile, e.ManageHBA = configFile(e.Parameters["hba_file"], dir, "pg_hba.conf")
	e.IdentFile, e.ManageIdent = configFile(e.Parameters["ident_file"], dir, "pg_ident.conf")
	e.Parameters["hba_file"], e.Parameters["ident_file"] = e.HBAFile, e.IdentFile
}

// configFile resolves the path of a file of the server, and says whether it is the one that
// pgha writes.
func configFile(given, dir, name string) (path string, managed bool) {
	usual := filepath.Join(dir, name)
	if given == "" {
		return usual, true
	}
	if !filepath.IsAbs(given) {
		given = filepath.Join(dir, given)
	}
	return filepath.Clean(given), filepath.Clean(given) == usual
}

// recovery collects the settings of a standby. Those found among the parameters replace the
// section; a standby cluster's own come on top, on all its members (C-089, C-167, C-168).
func (m *merger) recovery(e *EffectivePostgres, standby *StandbyCluster) {
	section := m.local.RecoveryConf
	if section == nil {
		section = m.dyn.RecoveryConf
	}
	e.RecoveryConf = map[string]string{}
	for name, value := range section {
		if !ownedRecovery(name) {
			e.RecoveryConf[name] = value
		}
	}
	fromParameters := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(e.Parameters)) {
		switch {
		case ownedRecovery(name):
			m.warn("postgresql.parameters."+name, "ignored: the agent sets it")
			delete(e.Parameters, name)
		case slices.Contains(recoveryGUCs(), name):
			fromParameters[name] = e.Parameters[name]
			delete(e.Parameters, name)
		}
	}
	if len(fromParameters) > 0 {
		e.RecoveryConf = fromParameters
	}
	if standby == nil {
		return
	}
	if standby.RestoreCommand != "" {
		e.RecoveryConf["restore_command"] = standby.RestoreCommand
	}
	if standby.ArchiveCleanupCommand != "" {
		e.RecoveryConf["archive_cleanup_command"] = standby.ArchiveCleanupCommand
	}
}

// replicaMethods resolves the names of the methods to their sections (C-086, C-166).
func (m *merger) replicaMethods(e *EffectivePostgres, standby *StandbyCluster) {
	names := firstList(m.local.CreateReplicaMethods, m.dyn.CreateReplicaMethods)
	if standby != nil {
		names = standby.CreateReplicaMethods
	}
	if len(names) == 0 {
		names = []string{BaseBackupMethod}
	}
	for _, name := range names {
		method, ok := m.local.Methods[name]
		if !ok {
			method, ok = m.dyn.Methods[name]
		}
		if !ok {
			method = ReplicaMethod{Command: name}
			if name == BaseBackupMethod {
				method = ReplicaMethod{}
			}
		}
		e.CreateReplicaMethods = append(e.CreateReplicaMethods, ReplicaMethodCall{Name: name, ReplicaMethod: method})
	}
}

func mergeCallbacks(local, dyn Callbacks) Callbacks {
	if local != (Callbacks{}) {
		return local // option by option: callbacks are one option
	}
	return dyn
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// firstList gives the first list that was given at all, even if it is empty.
func firstList[L ~[]T, T any](lists ...L) L {
	for _, list := range lists {
		if list != nil {
			return list
		}
	}
	return nil
}

func firstOf[T any](def T, values ...*T) T {
	for _, v := range values {
		if v != nil {
			return *v
		}
	}
	return def
}
