package postgres

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/postgres/conf"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func readSettings(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := conf.ParseFile(string(b))
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, b)
	}
	return conf.SettingsMap(s)
}

// One real data directory serves all steps, because each looks at what the one before left.
func TestWriteConfigRendersWhatTheServerTakes(t *testing.T) {
	t.Parallel()
	n := newNode(t, "node one", func(o *Options) { o.Scope = "it's" })
	if err := n.InitDB(t.Context(), InitOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	p := n.parameters()
	maps.Copy(p, map[string]string{
		"Work_Mem": "7MB", "max_connections": "10", "wal_level": "minimal", "wal_keep_segments": "4",
		"hot_standby": "off", "port": "1", "primary_conninfo": "host=evil", "log_line_prefix": `a "%p" 'x\y'`,
		"nosuch_setting": "1", "random_page_cost": "many", "auto_explain.log_min_duration": "5s", "bad name": "x",
	})
	base := "max_connections = 77\nwal_receiver_timeout = 9s\n"
	if err := os.WriteFile(n.inData("postgresql.conf"), []byte(base), 0o600); err != nil {
		t.Fatal(err)
	}
	auto := "# Do not edit\nwork_mem = '1MB'\nprimary_conninfo = 'host=old'\nrecovery_target_time = 'x'\n"
	if err := os.WriteFile(n.inData("postgresql.auto.conf"), []byte(auto), 0o600); err != nil {
		t.Fatal(err)
	}
	ch := n.configure(ConfigSpec{Parameters: p})
	if _, ok := ch.Dropped["nosuch_setting"]; !ok || len(ch.Dropped) != 2 || ch.Dropped["random_page_cost"] == "" {
		t.Errorf("dropped %v", ch.Dropped)
	}
	if b, err := os.ReadFile(n.inData("postgresql.base.conf")); err != nil || string(b) != base {
		t.Errorf("the original file was not kept: %q, %v", b, err)
	}
	if b, err := os.ReadFile(n.inData("postgresql.auto.conf")); err != nil || string(b) != "# Do not edit\nwork_mem = '1MB'\n" {
		t.Errorf("postgresql.auto.conf: %q, %v", b, err)
	}
	got := readSettings(t, n.inData("postgresql.conf"))
	for k, want := range map[string]string{
		"work_mem": "7MB", "max_connections": "25", "wal_level": "replica", "wal_keep_size": "64MB", "hot_standby": "on",
		"cluster_name": "it's", "log_line_prefix": `a "%p" 'x\y'`, "auto_explain.log_min_duration": "5s",
		"hba_file": n.inData("pg_hba.conf"),
	} {
		if got[k] != want {
			t.Errorf("%s = %q, want %q", k, got[k], want)
		}
	}
	for _, k := range []string{"primary_conninfo", "nosuch_setting", "bad name", "wal_keep_segments"} {
		if v, ok := got[k]; ok {
			t.Errorf("%s = %q", k, v)
		}
	}
	if again := n.configure(ConfigSpec{Parameters: p}); again.Files || again.RestartNeeded {
		t.Errorf("nothing changed, but %+v", again)
	}
	n.launch()
	for setting, want := range map[string]string{
		"wal_receiver_timeout": "9s", "wal_retrieve_retry_interval": "100ms", "cluster_name": "it's",
		"log_line_prefix": `a "%p" 'x\y'`, "wal_log_hints": "on", "data_checksums": "on",
	} {
		if got := n.sql("SHOW " + setting); got != want {
			t.Errorf("the server has %s = %q, want %q", setting, got, want)
		}
	}
	if got := n.sql("SHOW password_encryption"); got != "scram-sha-256" {
		t.Errorf("password_encryption %s", got)
	}
	delete(p, "Work_Mem")
	if ch := n.configure(ConfigSpec{Parameters: p}); ch.RestartNeeded || !slices.Equal(ch.Settings, []string{"work_mem"}) {
		t.Errorf("%+v", ch)
	}
	n.pm.Stop()
	n.standbySteps(p)
}

// standbySteps renders the same directory as a standby.
func (n *node) standbySteps(p map[string]string) {
	t := n.t
	t.Helper()
	p["max_connections"], p["max_wal_senders"] = "200", "20"
	n.configure(ConfigSpec{Parameters: p})
	n.launch()
	n.pm.Stop()
	p["max_connections"], p["max_wal_senders"] = "50", "5"
	src := Source{Name: "b", Host: "10.1.2.3", Port: "5433", Slot: "node_one"}
	spec := ConfigSpec{
		Standby: true, Parameters: p, Upstream: &src, HBA: testHBA,
		RecoveryConf: map[string]string{"restore_command": "cp x '%f'", "recovery_target_time": "2020-01-01", "recovery_min_apply_delay": "1min"},
	}
	ch, err := n.WriteConfig(spec)
	if err != nil {
		t.Fatal(err)
	}
	if ch.Raised["max_connections"] != "200" || ch.Raised["max_wal_senders"] != "20" || len(ch.Raised) != 2 {
		t.Errorf("raised %v", ch.Raised)
	}
	_, args, _ := n.StartArgs()
	if !slices.Contains(args, "--max_connections=200") || !slices.Contains(args, "--cluster_name=it's") {
		t.Errorf("command line %q", args)
	}
	got := readSettings(t, n.inData("postgresql.conf"))
	if got["restore_command"] != "cp x '%f'" || got["recovery_min_apply_delay"] != "1min" || got["recovery_target_time"] != "" ||
		got["recovery_target_timeline"] != "latest" || got["primary_slot_name"] != "node_one" {
		t.Errorf("%v", got)
	}
	info, err := conf.ParseConnInfo(got["primary_conninfo"])
	if err != nil || info["host"] != "10.1.2.3" || info["application_name"] != "node one" || info["user"] != "repl" ||
		info["dbname"] != "postgres" || info["passfile"] != n.opt.PassFile || info["password"] != "" || info["sslmode"] != "prefer" {
		t.Errorf("%v, %v", info, err)
	}
	pass, err := os.ReadFile(n.opt.PassFile)
	if err != nil || string(pass) != "10.1.2.3:5433:*:repl:re\\\\pl\\:\"x\n" {
		t.Errorf("%q, %v", pass, err)
	}
	if st, err := os.Stat(n.opt.PassFile); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	src.Host, src.Slot = "10.1.2.4", ""
	if ch, err := n.WriteConfig(spec); err != nil || ch.RestartNeeded || !slices.Equal(ch.Settings, []string{"primary_conninfo", "primary_slot_name"}) {
		t.Errorf("re-pointing: %+v, %v", ch, err)
	}
	spec.Frozen = true
	if ch, err := n.WriteConfig(spec); err != nil || ch.RestartNeeded || !slices.Equal(ch.Settings, []string{"primary_conninfo", "restore_command"}) {
		t.Errorf("freezing: %+v, %v", ch, err)
	}
	left, err := filepath.Glob(n.inData("*new-*"))
	check, err2 := filepath.Glob(n.inData("*.check"))
	if err != nil || err2 != nil || len(left)+len(check) != 0 {
		t.Errorf("left behind: %v %v", left, check)
	}
}

func TestConfigRefusesLinesThatAreMoreThanOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n")
	if err := n.InitDB(t.Context(), InitOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	// A fresh directory has no setting to keep, which is no error.
	if ch := n.configure(ConfigSpec{KeepSync: true}); !ch.Files {
		t.Errorf("%+v", ch)
	}
	if _, err := n.WriteConfig(ConfigSpec{HBA: []string{"local all all peer\nhost all all all trust"}}); err == nil {
		t.Error("two lines in one item were written")
	}
}

func TestInitDBRefusesOptionsThatPghaSets(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n")
	for _, name := range []string{"pgdata", "--pwfile", "nosync", "sync-only", "version", "D"} {
		if err := n.InitDB(t.Context(), InitOptions{Options: []Option{{Name: name, Value: "x"}}}, nil); err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := n.DataDir(); st != DataMissing || err != nil {
		t.Errorf("%s, %v", st, err)
	}
}

func TestPostBootstrapMakesRolesWithoutSecretsInTheLog(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n")
	var made int64
	if err := n.InitDB(t.Context(), InitOptions{}, func(done, _ int64) { made = done }); err != nil || made < 0 {
		t.Fatal(err, made)
	}
	n.configure(ConfigSpec{})
	n.launch()
	out := filepath.Join(filepath.Dir(n.opt.DataDir), "out")
	script := filepath.Join(filepath.Dir(n.opt.DataDir), "post init.sh")
	text := "#!/bin/sh\nset -e\necho \"$1\" > " + out + "\npsql -Atc 'show synchronous_commit' \"$2\" >> " + out + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := BootstrapSpec{
		Command: "'" + script + "' \"a b\"",
		AppUser: `app"user`, AppPassword: "geheim\u00e4", AppDatabase: "app db",
	}
	for range 2 { // it may be repeated
		if err := n.PostBootstrap(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "a b\nlocal\n" {
		t.Errorf("%q, %v", b, err)
	}
	roles := n.sql(`SELECT string_agg(rolname || ':' || rolsuper || rolreplication || left(rolpassword, 13), ' ' ORDER BY rolname)
		FROM pg_authid WHERE rolcanlogin`)
	want := `app"user:falsefalseSCRAM-SHA-256 postgres:truetrueSCRAM-SHA-256 repl:falsetrueSCRAM-SHA-256 rewinder:falsefalseSCRAM-SHA-256`
	if roles != want {
		t.Errorf("%s", roles)
	}
	dsn, err := conf.RenderConnInfo(map[string]string{
		"host": "127.0.0.1", "port": n.source().Port, "user": spec.AppUser, "password": spec.AppPassword, "dbname": spec.AppDatabase, "sslmode": "disable",
	})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := pgtest.Query(t.Context(), dsn, "SELECT current_user || ' ' || current_database()"); err != nil || who != `app"user app db` {
		t.Errorf("%q, %v", who, err)
	}
	for _, secret := range []string{"geheim", "re wind", `re\pl`, "su:per"} {
		if strings.Contains(n.pm.Log(), secret) {
			t.Errorf("%q is in the server's log", secret)
		}
	}
}
