package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// localWith loads the smallest good file with more lines in its section postgresql.
func localWith(t *testing.T, lines string) *Config {
	t.Helper()
	text := `
scope: main
name: a
restapi: {listen: "10.0.0.1:8008"}
etcd3: {host: 10.0.0.1}
postgresql:
  listen: "10.0.0.1,::1:5433"
  connect_address: 10.0.0.1:5433
  data_dir: /data/pg
  authentication: {replication: {username: replicator}}
` + lines
	c, err := Parse("test.yml", []byte(text), nil)
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return c
}

func effectiveOf(t *testing.T, localLines, dynamic string) EffectivePostgres {
	t.Helper()
	d, _ := parseOK(t, dynamic)
	return Effective(localWith(t, localLines), d)
}

func TestParametersMergeOneByOne(t *testing.T) {
	e := effectiveOf(t, "  parameters: {work_mem: 8MB, Log_Min_Duration: 5}\n",
		`{"postgresql":{"parameters":{"work_mem":"4MB","shared_buffers":"1GB","jit":false,"random_page_cost":1.1,"gone":null}}}`)
	p := e.For(RoleReplica, 17).Parameters
	for name, want := range map[string]string{"work_mem": "8MB", "shared_buffers": "1GB", "jit": "off", "random_page_cost": "1.1", "log_min_duration": "5"} {
		if p[name] != want {
			t.Errorf("%s = %q, want %q", name, p[name], want)
		}
	}
	if _, ok := p["gone"]; ok {
		t.Error("a null parameter is set")
	}
}

func TestOptionsOfTheFileWinOverThoseOfTheCluster(t *testing.T) {
	const dynamic = `{"postgresql":{
		"use_pg_rewind": false, "pg_ctl_timeout": 30, "pg_hba": ["local all all peer"], "pg_ident": ["x y z"], "use_unix_socket": true,
		"pre_promote": "/dyn", "before_stop": "/dyn", "callbacks": {"on_start": "/dyn", "on_stop": "/dyn"}, "basebackup": ["verbose"],
		"remove_data_directory_on_rewind_failure": true, "recovery_conf": {"restore_command": "dyn"}, "krbsrvname": "dyn", "custom_conf": "/dyn"}}`
	e := effectiveOf(t, "", dynamic)
	if e.UsePgRewind || e.PgCtlTimeout != 30*time.Second || len(e.PgHBA) != 1 || len(e.PgIdent) != 1 || !e.UseUnixSocket || e.PrePromote != "/dyn" ||
		e.BeforeStop != "/dyn" || e.Callbacks.OnStop != "/dyn" || len(e.BaseBackup) != 1 || !e.RemoveDataDirectoryOnRewindFailure ||
		e.RecoveryConf["restore_command"] != "dyn" || e.KrbSrvName != "dyn" || e.CustomConf != "/dyn" {
		t.Errorf("cluster alone: got %+v", e)
	}
	e = effectiveOf(t, `
  use_pg_rewind: true
  pg_ctl_timeout: 90
  pg_hba: [local all all trust, host all all all scram-sha-256]
  pg_ident: []
  use_unix_socket: false
  pre_promote: /loc
  callbacks: {on_start: /loc}
  basebackup: {max-rate: 1M}
  remove_data_directory_on_rewind_failure: off
  recovery_conf: {recovery_end_command: loc}
`, dynamic)
	if !e.UsePgRewind || e.PgCtlTimeout != 90*time.Second || len(e.PgHBA) != 2 || len(e.PgIdent) != 0 || e.UseUnixSocket || e.PrePromote != "/loc" ||
		e.BeforeStop != "/dyn" || e.Callbacks != (Callbacks{OnStart: "/loc"}) || e.RemoveDataDirectoryOnRewindFailure {
		t.Errorf("file over cluster: got %+v", e)
	}
	if diff := cmp.Diff(CommandOptions{{Name: "max-rate", Value: "1M", HasValue: true}}, e.BaseBackup); diff != "" {
		t.Errorf("basebackup (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"recovery_end_command": "loc"}, e.RecoveryConf); diff != "" {
		t.Errorf("recovery_conf (-want +got):\n%s", diff)
	}
}

func TestDefaultsOfTheServer(t *testing.T) {
	e := effectiveOf(t, "", `{}`)
	if !e.UsePgRewind || !e.UseSlots || e.PgCtlTimeout != time.Minute || e.PgHBA != nil || !e.ManageHBA || e.HBAFile != "/data/pg/pg_hba.conf" ||
		len(e.CreateReplicaMethods) != 1 || e.CreateReplicaMethods[0].Name != BaseBackupMethod {
		t.Errorf("got %+v", e)
	}
	want := map[string]string{
		"listen_addresses": "10.0.0.1,::1", "port": "5433", "cluster_name": "main", "wal_level": "replica", "hot_standby": "on",
		"max_connections": "100", "max_wal_senders": "10", "max_prepared_transactions": "0", "max_locks_per_transaction": "64",
		"track_commit_timestamp": "off", "max_replication_slots": "10", "max_worker_processes": "8", "wal_log_hints": "on",
	}
	if diff := cmp.Diff(want, e.CommandLine); diff != "" {
		t.Errorf("command line (-want +got):\n%s", diff)
	}
	want["wal_keep_size"] = "128MB"
	want["hba_file"], want["ident_file"] = "/data/pg/pg_hba.conf", "/data/pg/pg_ident.conf"
	if diff := cmp.Diff(want, e.For(RolePrimary, 17).Parameters); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

func TestSharedSettingsComeFromTheClusterAlone(t *testing.T) {
	e := effectiveOf(t, "  parameters: {max_connections: 500, port: 1, cluster_name: x, wal_keep_size: 9GB, data_directory: /other}\n  use_slots: true\n",
		`{"postgresql":{"use_slots":false,"parameters":{"max_connections":200,"listen_addresses":"*","config_file":"/x"}}}`)
	p := e.For(RoleReplica, 15).Parameters
	if p["max_connections"] != "200" || e.CommandLine["max_connections"] != "200" || p["port"] != "5433" || p["cluster_name"] != "main" ||
		p["listen_addresses"] != "10.0.0.1,::1" || p["wal_keep_size"] != "128MB" || e.UseSlots {
		t.Errorf("got %v", p)
	}
	for _, name := range []string{"data_directory", "config_file"} {
		if _, ok := p[name]; ok {
			t.Errorf("%s would move the server away from its directory", name)
		}
	}
	if len(e.Warnings) != 7 {
		t.Errorf("got %d warnings, want 7: %v", len(e.Warnings), e.Warnings)
	}
}

func TestSharedSettingsHaveMinimums(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"wal_level", `"hot_standby"`, "replica"},
		{"wal_level", `"logical"`, "logical"},
		{"wal_level", `"minimal"`, "replica"},
		{"hot_standby", `false`, "on"},
		{"hot_standby", `"yes"`, "on"},
		{"max_connections", `24`, "100"},
		{"max_connections", `25`, "25"},
		{"max_connections", `"300"`, "300"},
		{"max_connections", `"many"`, "100"},
		{"max_connections", `1000000`, "100"},
		{"max_connections", `[5]`, "100"},
		{"max_wal_senders", `2`, "10"},
		{"max_prepared_transactions", `0`, "0"},
		{"max_prepared_transactions", `-1`, "0"},
		{"max_locks_per_transaction", `31`, "64"},
		{"track_commit_timestamp", `true`, "on"},
		{"track_commit_timestamp", `"maybe"`, "off"},
		{"max_replication_slots", `3`, "10"},
		{"max_worker_processes", `1`, "8"},
		{"wal_log_hints", `"off"`, "off"},
		{"wal_keep_size", `"15MB"`, "128MB"},
		{"wal_keep_size", `16`, "16MB"},
		{"wal_keep_size", `"1GB"`, "1024MB"},
		{"wal_keep_size", `null`, "128MB"},
	} {
		e := effectiveOf(t, "", `{"postgresql":{"parameters":{"`+tt.name+`":`+tt.value+`}}}`)
		if got := e.For(RolePrimary, 17).Parameters[tt.name]; got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestBothSpellingsOfKeptWALAgree(t *testing.T) {
	for _, tt := range []struct{ dynamic, size, segments string }{
		{`{}`, "128MB", "8"},
		{`{"wal_keep_segments":10}`, "160MB", "10"},
		{`{"wal_keep_size":"100MB"}`, "100MB", "7"},
		{`{"wal_keep_size":"1GB","wal_keep_segments":1}`, "1024MB", "64"},
	} {
		e := effectiveOf(t, "", `{"postgresql":{"parameters":`+tt.dynamic+`}}`)
		new17, old12 := e.For(RolePrimary, 17).Parameters, e.For(RolePrimary, 12).Parameters
		if new17["wal_keep_size"] != tt.size || old12["wal_keep_segments"] != tt.segments {
			t.Errorf("%s: got %q and %q", tt.dynamic, new17["wal_keep_size"], old12["wal_keep_segments"])
		}
		if new17["wal_keep_segments"] != "" || old12["wal_keep_size"] != "" {
			t.Errorf("%s: a version gets the other's spelling", tt.dynamic)
		}
	}
}

func TestSettingsByRole(t *testing.T) {
	e := effectiveOf(t, `
  parameters: {archive_mode: on}
  parameters_primary: {archive_timeout: 60, max_connections: 5}
  pg_hba: [local all all peer]
  pg_hba_replica: [local all all trust]
`, `{"postgresql":{"parameters_primary":{"archive_timeout":30,"work_mem":"1MB"},"parameters_standby_leader":{"work_mem":"2MB"},"pg_ident_primary":["a b c"]}}`)
	primary, replica, leader := e.For(RolePrimary, 17), e.For(RoleReplica, 17), e.For(RoleStandbyLeader, 17)
	if p := primary.Parameters; p["archive_timeout"] != "60" || p["work_mem"] != "1MB" || p["max_connections"] != "100" || p["archive_mode"] != "on" {
		t.Errorf("primary: got %v", p)
	}
	if p := replica.Parameters; p["archive_timeout"] != "" || p["work_mem"] != "" {
		t.Errorf("replica: got %v", p)
	}
	if leader.Parameters["work_mem"] != "2MB" || replica.PgHBA[0] != "local all all trust" || primary.PgHBA[0] != "local all all peer" ||
		len(primary.PgIdent) != 1 || len(replica.PgIdent) != 0 {
		t.Errorf("got %v, %v, %v", primary, replica, leader)
	}
}

func TestFilesElsewhereAreLeftAlone(t *testing.T) {
	e := effectiveOf(t, "  parameters: {hba_file: /etc/pg_hba.conf, ident_file: pg_ident.conf}\n  config_dir: /conf\n", `{}`)
	if e.ManageHBA || e.HBAFile != "/etc/pg_hba.conf" || !e.ManageIdent || e.IdentFile != "/conf/pg_ident.conf" {
		t.Errorf("got %q %t, %q %t", e.HBAFile, e.ManageHBA, e.IdentFile, e.ManageIdent)
	}
}

func TestRecoverySettings(t *testing.T) {
	const section = "  recovery_conf: {restore_command: from section, recovery_target_time: now, primary_conninfo: x, archive_cleanup_command: clean}\n"
	e := effectiveOf(t, section, `{}`)
	if diff := cmp.Diff(map[string]string{"restore_command": "from section", "archive_cleanup_command": "clean"}, e.RecoveryConf); diff != "" {
		t.Errorf("the section (-want +got):\n%s", diff)
	}
	e = effectiveOf(t, section, `{"postgresql":{"parameters":{"restore_command":"from parameters","primary_slot_name":"x"}}}`)
	if diff := cmp.Diff(map[string]string{"restore_command": "from parameters"}, e.RecoveryConf); diff != "" {
		t.Errorf("parameters replace the section (-want +got):\n%s", diff)
	}
	for _, name := range []string{"restore_command", "primary_slot_name"} {
		if v, ok := e.Parameters[name]; ok {
			t.Errorf("%s = %q is left among the parameters", name, v)
		}
	}
	e = effectiveOf(t, section, `{"standby_cluster":{"restore_command":"from remote"}}`)
	if diff := cmp.Diff(map[string]string{"restore_command": "from remote", "archive_cleanup_command": "clean"}, e.RecoveryConf); diff != "" {
		t.Errorf("a standby cluster's own (-want +got):\n%s", diff)
	}
}

func TestReplicaMethods(t *testing.T) {
	const local = `
  create_replica_methods: [pgbackrest, tool, basebackup]
  pgbackrest: {command: pgbackrest restore, keep_data: yes, no_params: true, process_max: 4}
`
	const dynamic = `{"postgresql":{"create_replica_methods":["other"],"other":{"command":"x"},"tool":{"no_leader":true,"level":3}}}`
	want := []ReplicaMethodCall{
		{"pgbackrest", ReplicaMethod{Command: "pgbackrest restore", KeepData: true, NoParams: true, Args: map[string]string{"process_max": "4"}}},
		{"tool", ReplicaMethod{Command: "tool", NoLeader: true, Args: map[string]string{"level": "3"}}},
		{BaseBackupMethod, ReplicaMethod{}},
	}
	if diff := cmp.Diff(want, effectiveOf(t, local, dynamic).CreateReplicaMethods); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	standby := strings.TrimSuffix(dynamic, "}") + `,"standby_cluster":{"host":"h","create_replica_methods":["other"]}}`
	if got := effectiveOf(t, local, standby).CreateReplicaMethods; len(got) != 1 || got[0].Command != "x" {
		t.Errorf("standby cluster: got %v", got)
	}
	standby = `{"standby_cluster":{"host":"h"}}`
	if got := effectiveOf(t, local, standby).CreateReplicaMethods; len(got) != 1 || got[0].Name != BaseBackupMethod {
		t.Errorf("standby cluster without methods: got %v", got)
	}
}

func TestLocalOnlyOptionsInTheClusterHaveNoEffect(t *testing.T) {
	d, warnings := parseOK(t, `{"postgresql":{"listen":"x","connect_address":"y","data_dir":"/","config_dir":"/","pgpass":"/","proxy_address":"z","authentication":{},
		"use_pg_rewind":"perhaps","use_pg_rewnd":true,"pg_hba":["a",{"b":1}],"whatever":3}}`)
	if d.PostgreSQL.UsePgRewind != nil || d.PostgreSQL.PgHBA != nil {
		t.Errorf("a bad value is used: %+v", d.PostgreSQL)
	}
	if len(warnings) != 10 {
		t.Errorf("got %d warnings, want 10: %v", len(warnings), warnings)
	}
}

func TestEffectiveSettingsDoNotShareMemoryWithTheirSources(t *testing.T) {
	local := localWith(t, "  parameters: {work_mem: 8MB}\n")
	d, _ := parseOK(t, `{"postgresql":{"parameters":{"max_connections":200}}}`)
	e := Effective(local, d)
	files := e.For(RolePrimary, 17)
	files.Parameters["work_mem"], e.Parameters["max_connections"] = "changed", "changed"
	if e.Parameters["work_mem"] != "8MB" || local.PostgreSQL.Parameters["work_mem"] != "8MB" || d.PostgreSQL.Parameters["max_connections"] != "200" {
		t.Error("a change to the result changed a source")
	}
}

func TestAMethodThatIsListedNeedsNoOtherMark(t *testing.T) {
	for _, list := range []string{"[tool, basebackup]", "tool, basebackup"} {
		e := effectiveOf(t, "  create_replica_methods: "+list+"\n  tool: {level: 3}\n", `{}`)
		want := ReplicaMethodCall{"tool", ReplicaMethod{Command: "tool", Args: map[string]string{"level": "3"}}}
		if diff := cmp.Diff(want, e.CreateReplicaMethods[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", list, diff)
		}
	}
}
