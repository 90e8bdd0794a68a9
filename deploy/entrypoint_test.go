package deploy_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stub writes a program that says how it was called.
func stub(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// runEntrypoint runs the entrypoint with a stand-in for the agent, which prints its arguments and
// its environment.
func runEntrypoint(t *testing.T, environment ...string) (stdout, stderr string, status int) {
	t.Helper()
	bin := t.TempDir()
	stub(t, bin, "pgha-agent", `echo "args=$*"; env`+"\n")
	stub(t, bin, "hostname", "echo box\n")
	cmd := exec.CommandContext(t.Context(), "docker/entrypoint", "/etc/pgha/pgha.yml")
	cmd.Env = append([]string{"PATH=" + bin + ":/usr/bin:/bin", "PGHA_RUN_DIR=" + t.TempDir()}, environment...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return out.String(), errOut.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), 0
}

func TestEntrypointFillsInTheEnvironment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("p'a$(id)\"ss word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name        string
		environment []string
		want        []string
		absent      []string
	}{
		{
			name:        "name and addresses are those of the container",
			environment: []string{"POSTGRES_PASSWORD=x"},
			want: []string{
				"args=/etc/pgha/pgha.yml", "PATRONI_NAME=box",
				"PATRONI_POSTGRESQL_CONNECT_ADDRESS=box:5432", "PATRONI_RESTAPI_CONNECT_ADDRESS=box:8008",
				"PATRONI_SUPERUSER_USERNAME=postgres", "PATRONI_SUPERUSER_PASSWORD=x",
				"PATRONI_REPLICATION_USERNAME=replicator",
			},
		},
		{
			name:        "an address of its own wins over the host name",
			environment: []string{"PGHA_ADDRESS=10.1.2.3", "PATRONI_NAME=a"},
			want:        []string{"PATRONI_NAME=a", "PATRONI_POSTGRESQL_CONNECT_ADDRESS=10.1.2.3:5432"},
			absent:      []string{"PGHA_ADDRESS="},
		},
		{
			name:        "the names of the official image are understood",
			environment: []string{"POSTGRES_USER=admin", "POSTGRES_PASSWORD=x", "POSTGRES_DB=shop"},
			want:        []string{"PATRONI_SUPERUSER_USERNAME=admin", "POSTGRES_DB=shop"},
		},
		{
			name:        "the agent's own names win over those of the official image",
			environment: []string{"POSTGRES_USER=admin", "PATRONI_SUPERUSER_USERNAME=root", "POSTGRES_PASSWORD=x"},
			want:        []string{"PATRONI_SUPERUSER_USERNAME=root"},
		},
		{
			name:        "a secret is read from a file without being interpreted",
			environment: []string{"PATRONI_REPLICATION_PASSWORD_FILE=" + secret, "POSTGRES_PASSWORD_FILE=" + secret},
			want: []string{
				"PATRONI_REPLICATION_PASSWORD=p'a$(id)\"ss word", "PATRONI_SUPERUSER_PASSWORD=p'a$(id)\"ss word",
			},
			absent: []string{"PASSWORD_FILE="},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, status := runEntrypoint(t, test.environment...)
			if status != 0 {
				t.Fatalf("exit status %d: %s", status, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains("\n"+stdout, "\n"+want+"\n") {
					t.Errorf("no line %q in\n%s", want, stdout)
				}
			}
			for _, absent := range test.absent {
				if strings.Contains(stdout, absent) {
					t.Errorf("%q in\n%s", absent, stdout)
				}
			}
		})
	}
}

func TestEntrypointRefusesUnclearSecrets(t *testing.T) {
	tests := []struct {
		name        string
		environment []string
		want        string
	}{
		{
			name:        "value and file at once",
			environment: []string{"POSTGRES_PASSWORD=x", "POSTGRES_PASSWORD_FILE=/dev/null"},
			want:        "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are set",
		},
		{
			name:        "a file that is not there",
			environment: []string{"PGHA_RESTAPI_PASSWORD_FILE=/nowhere"},
			want:        "PGHA_RESTAPI_PASSWORD_FILE: cannot read /nowhere",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, status := runEntrypoint(t, test.environment...)
			if status != 1 || !strings.Contains(stderr, test.want) || stdout != "" {
				t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
			}
		})
	}
}

func TestScriptsOfTheImageAreValidShell(t *testing.T) {
	for _, script := range []string{"docker/entrypoint", "docker/post-bootstrap"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		info, err := os.Stat(script)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable", script)
		}
	}
}

func TestPostBootstrapMakesTheNamedDatabaseOnly(t *testing.T) {
	tests := []struct{ name, database, want string }{
		{"no name", "", ""},
		{"the database that is always there", "postgres", ""},
		{"a name", "shop", "--set database=shop postgres://x"},
		{"a name that must be quoted", "my 'shop'", "--set database=my 'shop' postgres://x"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bin, run := t.TempDir(), t.TempDir()
			stub(t, bin, "psql", `echo "$@"; cat`+"\n")
			cmd := exec.CommandContext(t.Context(), "docker/entrypoint")
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "PGHA_RUN_DIR=" + run, "POSTGRES_DB=" + test.database}
			// The agent gives the script none of its own variables; the directory stands for /run/pgha.
			stub(t, bin, "pgha-agent", "exec env -i PATH=$PATH PGHA_RUN_DIR="+run+" docker/post-bootstrap postgres://x\n")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), test.want) || (test.want == "" && len(out) > 0) {
				t.Errorf("got %q, want %q", out, test.want)
			}
		})
	}
}
