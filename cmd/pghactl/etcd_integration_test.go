//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
)

// freeAddress binds a port below the ephemeral range, where no outgoing connection can take it.
func freeAddress(t *testing.T) string {
	t.Helper()
	for port := 24000 + os.Getpid()%4000; port < 32000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			address := l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func startEtcd(t *testing.T) string {
	t.Helper()
	address := freeAddress(t)
	var log bytes.Buffer
	cmd := exec.Command("etcd", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls", "http://"+address, "--advertise-client-urls", "http://"+address,
		"--listen-peer-urls", "http://127.0.0.1:0", "--unsafe-no-fsync")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed above
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return address
}

func TestAgainstRealEtcd(t *testing.T) {
	address := startEtcd(t)
	command := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		e := osEnv()
		e.stdin, e.stdout, e.stderr = strings.NewReader(""), &stdout, &stderr
		e.stdinTTY, e.stdoutTTY, e.stderrTTY = false, false, false
		e.environ, e.configDir, e.etcDir = nil, "", t.TempDir()
		code := run(t.Context(), e, append([]string{"-d", address}, args...))
		return code, stdout.String(), stderr.String()
	}
	st, err := openEtcd(t.Context(), settings{scope: "demo", namespace: "/service", etcd: etcdSettings{endpoints: []string{"http://" + address}}})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	put := dcs.Txn{Then: []dcs.Op{
		{Key: "initialize", Value: []byte("7321456789012345678")},
		{Key: "leader", Value: []byte("a")},
		{Key: "config", Value: []byte(`{"ttl":10,"loop_wait":3,"retry_timeout":3}`)},
		{Key: "members/a", Value: []byte(`{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","role":"primary","version":"4.1.4","timeline":1}`)},
	}}
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err = st.Apply(ctx, put)
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("etcd does not take the first keys: %v", err)
		}
		if err := pauseFor(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list", "demo"}, exitDone, "a       10.0.0.1  Leader  running   1"},
		{[]string{"edit-config", "demo", "-s", "ttl=12", "--force"}, exitDone, "+ttl: 12"},
		{[]string{"show-config", "demo"}, exitDone, "ttl: 12"},
		{[]string{"dsn", "demo"}, exitDone, "host=10.0.0.1 port=5432"},
		{[]string{"remove", "demo", "--force", "--leader", "a"}, exitDone, "4 keys"},
		{[]string{"list", "demo"}, exitFailed, ""},
	} {
		code, stdout, stderr := command(tc.args...)
		if code != tc.code || !strings.Contains(stdout, tc.want) {
			t.Errorf("%v: exit status %d, want %d with %q\n%s%s", tc.args, code, tc.code, tc.want, stdout, stderr)
		}
	}
}
