package deploy_test

import (
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/config"
)

func noted(c *config.Config) []string {
	notes := c.Ignored
	for _, warning := range c.Warnings {
		notes = append(notes, warning.Path+": "+warning.Message)
	}
	return notes
}

// What we give people to start from must be accepted by the agent, without a warning.
func TestExamplesAreValidConfigurations(t *testing.T) {
	for _, name := range []string{"a", "b", "c"} {
		got, err := config.Load("examples/"+name+".yml", nil)
		if err != nil {
			t.Errorf("examples/%s.yml: %v", name, err)
			continue
		}
		if notes := noted(got); got.Name != name || len(notes) > 0 {
			t.Errorf("examples/%s.yml: name %q, notes %q", name, got.Name, notes)
		}
		if endpoints := got.Etcd3.Endpoints(); len(endpoints) != 3 {
			t.Errorf("examples/%s.yml: etcd endpoints %q", name, endpoints)
		}
	}
}

func TestExampleInTheReadmeIsAValidConfiguration(t *testing.T) {
	_, text, _ := strings.Cut(readFile(t, "../README.md"), "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	if !found {
		t.Fatal("no YAML in README.md")
	}
	got, err := config.Parse("README.md", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if notes := noted(got); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	if endpoints := got.Etcd3.Endpoints(); len(endpoints) != 3 {
		t.Errorf("etcd endpoints %q", endpoints)
	}
}

// The file inside the image is complete only with what the entrypoint makes of the environment.
func TestImageIsConfiguredByItsEntrypoint(t *testing.T) {
	stdout, stderr, status := runEntrypoint(t,
		"PATRONI_NAME=a", "POSTGRES_USER=admin", "POSTGRES_PASSWORD=x", "PATRONI_REPLICATION_PASSWORD=y")
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	got, err := config.Load("docker/pgha.yml", strings.Split(stdout, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if notes := noted(got); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	if got.PostgreSQL.ConnectAddress != "a:5432" || got.RestAPI.ConnectAddress != "a:8008" {
		t.Errorf("addresses %q, %q", got.PostgreSQL.ConnectAddress, got.RestAPI.ConnectAddress)
	}
	if user := got.PostgreSQL.Authentication.Superuser.Username; user != "admin" {
		t.Errorf("superuser %q", user)
	}
}

func TestComposeEtcdFilesAreValidConfigurations(t *testing.T) {
	for _, name := range []string{"etcd1", "etcd2", "etcd3"} {
		got, err := config.LoadClient("compose/"+name+".yml", nil)
		if err != nil {
			t.Errorf("%s.yml: %v", name, err)
			continue
		}
		etcd := got.Pgha.Etcd
		if !etcd.Enabled || etcd.AdvertiseClient != name+":2379" || etcd.DataDir != "/var/lib/pgha/etcd" {
			t.Errorf("%s.yml: %+v", name, etcd)
		}
	}
}
