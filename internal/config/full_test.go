package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestTheExampleShowsEverySetting keeps testdata/good/full.yml, which is also the reference for
// users, complete.
func TestTheExampleShowsEverySetting(t *testing.T) {
	data, err := os.ReadFile("testdata/good/full.yml")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := parseFile("full.yml", data)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	var walk func(path string, n *node, typ reflect.Type)
	walk = func(path string, n *node, typ reflect.Type) {
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[Secret]() {
			return
		}
		named, names, _ := fields(reflect.New(typ).Elem())
		for _, name := range names {
			child := n.get(name)
			// One of several users or ways stands for the others.
			shown := child != nil || strings.Contains(text, name+":") ||
				(path == "etcd3" && strings.Contains(text, "# or one of: host, url, proxy, srv with srv_suffix"))
			if !shown && path != "" && name != "use_slots" {
				t.Errorf("%s is not shown", join(path, name))
			}
			if child != nil {
				walk(join(path, name), child, named[name].value.Type())
			}
		}
	}
	walk("", tree, reflect.TypeFor[Config]())
	for _, key := range dynamicKeys() {
		old := strings.HasPrefix(key, "master_") || strings.HasPrefix(key, "permanent_") || key == "pause" || key == "standby_cluster"
		if !old && tree.get("bootstrap").get("dcs").get(key) == nil {
			t.Errorf("bootstrap.dcs.%s is not shown", key)
		}
	}
}

func TestFullExampleHasItsValues(t *testing.T) {
	c := mustLoad(t, "testdata/good/full.yml")
	m := c.Bootstrap.Methods["restore"]
	checks := map[string]bool{
		"bootstrap method": m.Command == "/etc/pgha/restore.sh" && m.Args["stanza"] == "main" && m.RecoveryConf["recovery_target_action"] == "promote",
		"replica method":   c.PostgreSQL.Methods["pgbackrest"].Args["process_max"] == "4" && c.PostgreSQL.Methods["pgbackrest"].NoLeader,
		"initdb": reflect.DeepEqual(c.Bootstrap.InitDB.Args(),
			[]string{"--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"}),
		"parameters": c.PostgreSQL.Parameters["archive_mode"] == "on" && c.PostgreSQL.Parameters["pg_stat_statements.max"] == "10000",
		"log level":  c.Log.Level == "info" && c.Log.Loggers["dcs"] == "debug" && c.Log.Mode == 0o640,
		"tls":        c.RestAPI.TLS(),
		"watchdog":   c.Watchdog.Mode == WatchdogAutomatic,
		"config dir": c.PostgreSQL.ConfigDir == "/etc/postgresql/17/main",
		"no notes":   len(c.Warnings) == 0 && len(c.Ignored) == 0,
	}
	for name, ok := range checks {
		if !ok {
			t.Errorf("%s is wrong", name)
		}
	}
	if hosts, port := c.PostgreSQL.ListenAddresses(); strings.Join(hosts, " ") != "0.0.0.0 ::1" || port != 5432 {
		t.Errorf("listen: got %v, %d", hosts, port)
	}
}

func TestReloadKeepsNothingOfTheLastLoad(t *testing.T) {
	first := mustLoad(t, "testdata/good/minimal.yml")
	first.PostgreSQL.BinName.Postgres = "changed"
	if second := mustLoad(t, "testdata/good/minimal.yml"); second.PostgreSQL.BinName.Postgres != "postgres" {
		t.Error("two loads share memory")
	}
}
