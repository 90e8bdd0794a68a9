package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// least is an environment that is just enough for an agent.
func least() []string {
	return []string{
		"PATRONI_SCOPE=main",
		"PATRONI_NAME=a",
		"PATRONI_RESTAPI_LISTEN=10.0.0.1:8008",
		"PATRONI_ETCD3_HOSTS='10.0.0.1:2379', '10.0.0.2:2379'",
		"PATRONI_POSTGRESQL_LISTEN=10.0.0.1:5432",
		"PATRONI_POSTGRESQL_CONNECT_ADDRESS=10.0.0.1:5432",
		"PATRONI_POSTGRESQL_DATA_DIR=/data/pg",
		"PATRONI_REPLICATION_USERNAME=replicator",
		"PATRONI_REPLICATION_PASSWORD=rep-pass",
	}
}

func mustLoad(t *testing.T, path string, environ ...string) *Config {
	t.Helper()
	c, err := Load(path, environ)
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return c
}

func TestVariablesAloneAreEnough(t *testing.T) {
	c := mustLoad(t, "", least()...)
	want := []string{"http://10.0.0.1:2379", "http://10.0.0.2:2379"}
	if diff := cmp.Diff(want, c.Etcd3.Endpoints()); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if c.Pgha.StateDir != "/data/pg.pgha" || c.PostgreSQL.Authentication.Replication.Password.Reveal() != "rep-pass" {
		t.Errorf("got %+v", c)
	}
}

func TestVariablesWinOverTheFileAndPghaOverPatroni(t *testing.T) {
	file := "testdata/good/minimal.yml"
	if got := mustLoad(t, file).Name; got != "a" {
		t.Errorf("file: got %q", got)
	}
	if got := mustLoad(t, file, "PATRONI_NAME=b").Name; got != "b" {
		t.Errorf("PATRONI_ over the file: got %q", got)
	}
	if got := mustLoad(t, file, "PGHA_NAME=c", "PATRONI_NAME=b").Name; got != "c" {
		t.Errorf("PGHA_ over PATRONI_: got %q", got)
	}
	if got := mustLoad(t, file, "PGHA_NAME=").Name; got != "a" {
		t.Errorf("an empty variable is no variable: got %q", got)
	}
	// A variable replaces one setting, not the section around it.
	c := mustLoad(t, file, "PATRONI_REPLICATION_PASSWORD=other")
	if u := c.PostgreSQL.Authentication.Replication; u.Username != "replicator" || u.Password.Reveal() != "other" {
		t.Errorf("got user %q, password changed: %t", u.Username, u.Password.Reveal() == "other")
	}
}

func TestEveryVariableReachesAKnownSetting(t *testing.T) {
	for _, v := range append(variables(), ownVariables()...) {
		root := newMap("")
		keys := strings.Split(v.path, ".")
		root.at(keys[:len(keys)-1], "").set(keys[len(keys)-1], newText("1", v.name))
		if n := root.get("etcd"); n != nil {
			root.remove("etcd")
			root.set("etcd3", n)
		}
		d := newDecoder()
		d.ignoredKeys = ignoredKeys()
		d.structure("", root, addressable(Default()))
		for _, p := range d.problems {
			if strings.Contains(p.Want, "unknown") {
				t.Errorf("%s: %v", v.name, p)
			}
		}
	}
}

func TestVariablesOfEveryShape(t *testing.T) {
	c := mustLoad(t, "testdata/good/minimal.yml",
		"PGHA_STATE_DIR=/state", "PGHA_SAFETY_MARGIN=2.5", "PGHA_WIRE_FENCE=Required", "PATRONI_LOG_STATIC_FIELDS={a: b, c: 1}", "PATRONI_LOG_TYPE=json",
		"PATRONI_LOG_LOGGERS=dcs: DEBUG, restapi: WARNING", "PATRONI_LOGLEVEL=DEBUG", "PATRONI_LOG_MODE=0600", "PATRONI_LOG_FILE_SIZE=1MB",
		"PATRONI_RESTAPI_USERNAME=admin", "PATRONI_RESTAPI_PASSWORD=12 34#", "PATRONI_RESTAPI_ALLOWLIST=[10.0.0.0/8, host1]",
		"PATRONI_RESTAPI_ALLOWLIST_INCLUDE_MEMBERS=Yes", "PATRONI_CTL_INSECURE=on", "PATRONI_SUPERUSER_USERNAME=postgres", "PATRONI_SUPERUSER_SSLMODE=require",
		"PATRONI_POSTGRESQL_BIN_PG_ISREADY=isready", "PATRONI_ETCD3_USE_PROXIES=0", "PATRONI_NAMESPACE=db//x/",
		"PGHA_EMBEDDED_ETCD_ENABLED=1", "PGHA_EMBEDDED_ETCD_DATA_DIR=/etcd", "PGHA_EMBEDDED_ETCD_ADVERTISE_PEER=10.0.0.1:2380",
		"PGHA_EMBEDDED_ETCD_INITIAL_CLUSTER=a=10.0.0.1:2380,b=10.0.0.2:2380,c=10.0.0.3",
	)
	checks := map[string]bool{
		"state_dir":       c.Pgha.StateDir == "/state",
		"safety_margin":   c.Pgha.SafetyMargin == 2500*time.Millisecond,
		"wire_fence":      c.Pgha.WireFence == WireFenceRequired,
		"static_fields":   c.Log.StaticFields["a"] == "b" && c.Log.StaticFields["c"] == "1",
		"loggers":         c.Log.Loggers["dcs"] == "debug" && c.Log.Loggers["restapi"] == "warn",
		"level":           c.Log.Level == "debug",
		"mode":            c.Log.Mode == 0o600,
		"file_size":       c.Log.FileSize == 1<<20,
		"password":        c.RestAPI.Authentication.Password.Reveal() == "12 34#",
		"ctl default":     c.Ctl.Authentication.Username == "admin",
		"allowlist":       slices.Equal(c.RestAPI.Allowlist, []string{"10.0.0.0/8", "host1"}),
		"include members": c.RestAPI.AllowlistIncludeMembers,
		"insecure":        c.Ctl.Insecure,
		"rewind default":  c.PostgreSQL.Authentication.Rewind.Username == "postgres",
		"sslmode":         c.PostgreSQL.Authentication.Superuser.SSLMode == "require",
		"bin name":        c.PostgreSQL.BinName.PgIsReady == "isready",
		"namespace":       c.Namespace == "/db/x",
		"initial cluster": c.Pgha.Etcd.InitialCluster["c"] == "10.0.0.3:2380",
		"etcd name":       c.Pgha.Etcd.Name == "a",
	}
	for name, ok := range checks {
		if !ok {
			t.Errorf("%s is wrong", name)
		}
	}
}

func TestProblemsOfVariablesNameTheVariable(t *testing.T) {
	_, err := Load("testdata/good/minimal.yml", []string{"PATRONI_POSTGRESQL_LISTEN=foo", "PGHA_EMBEDDED_ETCD_ENABLED=perhaps"})
	want := `pgha.etcd.enabled: "perhaps": want true or false (PGHA_EMBEDDED_ETCD_ENABLED)
postgresql.listen: "foo": want host:port, e.g. 10.0.0.1:5432 (PATRONI_POSTGRESQL_LISTEN)`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("got %T, want two Problems", err)
	}
}

func TestMissingFileFallsBackToTheEnvironment(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yml")
	if _, err := Load(missing, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without variables: got %v", err)
	}
	c := mustLoad(t, missing, least()...)
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Message, "does not exist") {
		t.Errorf("got warnings %v", c.Warnings)
	}
	// A whole file in a variable switches the others off.
	text, err := os.ReadFile("testdata/good/minimal.yml")
	if err != nil {
		t.Fatal(err)
	}
	c = mustLoad(t, missing, "PATRONI_CONFIGURATION="+string(text), "PATRONI_NAME=other")
	if c.Name != "a" {
		t.Errorf("got name %q, want a", c.Name)
	}
	if _, err := Load("", nil); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("nothing at all: got %v", err)
	}
}

func TestConfigurationVariableDoesNotReplaceAFile(t *testing.T) {
	c := mustLoad(t, "testdata/good/minimal.yml", "PATRONI_CONFIGURATION=scope: other")
	if c.Scope != "main" {
		t.Errorf("got scope %q", c.Scope)
	}
}

func TestVariablesOfContainerPlatformsAreNotSettings(t *testing.T) {
	c := mustLoad(t, "testdata/good/minimal.yml",
		"PGHA_ETCD3_PORT=tcp://10.96.0.7:2379", "PGHA_ETCD3_PORT_2379_TCP_PORT=2379", "PGHA_SERVICE_HOST=10.0.0.9", "PATRONI_SERVICE_PORT=80",
		"PATRONI_CONSUL_SERVICE_HOST=10.0.0.9", "PATRONI_VERSION=4.0.6")
	if c.Etcd3.Port != 2379 || len(c.Warnings) != 0 {
		t.Errorf("got port %d and warnings %v", c.Etcd3.Port, c.Warnings)
	}
}

func TestMisspeltVariablesAreWarnedOf(t *testing.T) {
	c := mustLoad(t, "testdata/good/minimal.yml", "PGHA_STATEDIR=/x", "PATRONI_RESTAPI_CONECT_ADDRESS=1")
	want := []Warning{
		{"PATRONI_RESTAPI_CONECT_ADDRESS", "unknown variable, did you mean PATRONI_RESTAPI_CONNECT_ADDRESS?"},
		{"PGHA_STATEDIR", "unknown variable, did you mean PGHA_STATE_DIR?"},
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestOtherStoreInVariablesIsRefused(t *testing.T) {
	environ := slices.DeleteFunc(least(), func(s string) bool { return strings.HasPrefix(s, "PATRONI_ETCD3") })
	_, err := Load("", append(environ, "PATRONI_ZOOKEEPER_HOSTS=a:2181"))
	if err == nil || !strings.HasPrefix(err.Error(), "zookeeper: unsupported consensus store") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestChildrenDoNotInheritTheVariables(t *testing.T) {
	got := StripEnviron([]string{"PATH=/bin", "PATRONI_SUPERUSER_PASSWORD=x", "PGHA_NAME=a", "PGHOST=h"})
	if diff := cmp.Diff([]string{"PATH=/bin", "PGHOST=h"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDirectoryIsMergedInOrderOfNames(t *testing.T) {
	c := mustLoad(t, "testdata/good/directory")
	if c.Name != "b" || c.PostgreSQL.ConnectAddress != "10.0.0.2:5432" || c.PostgreSQL.Listen != "10.0.0.1:5432" {
		t.Errorf("got name %q, connect_address %q, listen %q", c.Name, c.PostgreSQL.ConnectAddress, c.PostgreSQL.Listen)
	}
	if _, err := Load(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "no *.yml") {
		t.Errorf("empty directory: got %v", err)
	}
}

func TestSrvVariableReplacesItsOldNameInTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(file, []byte("etcd3: {discovery_srv: old.example.org}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := slices.DeleteFunc(least(), func(s string) bool { return strings.HasPrefix(s, "PATRONI_ETCD3") })
	if got := mustLoad(t, file, environ...).Etcd3.SRV; got != "old.example.org" {
		t.Errorf("alias: got %q", got)
	}
	if got := mustLoad(t, file, append(environ, "PATRONI_ETCD3_SRV=new.example.org")...).Etcd3.SRV; got != "new.example.org" {
		t.Errorf("variable: got %q", got)
	}
}

func TestClientNeedsNoServerSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ctl.yml")
	text := "scope: main\netcd3: {host: 10.0.0.1}\nctl: {insecure: true}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadClient(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Etcd3.Endpoints(); len(got) != 1 || got[0] != "http://10.0.0.1:2379" {
		t.Errorf("got %v", got)
	}
}
