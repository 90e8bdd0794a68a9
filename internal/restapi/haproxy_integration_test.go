//go:build integration

package restapi

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A real HAProxy polls a real server in the three ways that are in use: the shipped haproxy.cfg
// (OPTIONS /), the confd template (HEAD /primary), and GET over a kept connection. It must follow
// every change of the check.
func TestHAProxyFollowsTheChecks(t *testing.T) {
	node := newFakeNode(primaryState).lead(time.Hour)
	s := started(t, node, nil)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stats := filepath.Join(dir, "stats.sock")
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "global\n  stats socket %s\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n  timeout check 1s\n", stats)
	checks := map[string]string{
		"options": "option httpchk\n  http-check expect status 200",
		"head":    "option httpchk HEAD /primary",
		"get":     "option httpchk\n  http-check connect\n  http-check send meth GET uri /primary ver HTTP/1.1 hdr Host a\n  http-check expect status 200",
	}
	for name, check := range checks {
		fmt.Fprintf(&cfg, "backend %s\n  %s\n  server a %s check inter 20ms fall 1 rise 1\n", name, check, s.Addrs()[0])
	}
	fmt.Fprintf(&cfg, "frontend f\n  bind unix@%s\n  default_backend head\n", filepath.Join(dir, "front.sock"))
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(cfg.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "haproxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "/usr/sbin/haproxy", "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	expect := func(want string) {
		t.Helper()
		eventually(t, "all three checks "+want, func() (string, bool) {
			got := haproxyStates(stats)
			said, _ := os.ReadFile(out.Name())
			return fmt.Sprintf("%v\n%s", got, said), got["options"] == want && got["head"] == want && got["get"] == want
		})
	}
	expect("UP")
	node.now.Store(int64(at + 2*time.Hour)) // the deadline passes, nothing else happens
	expect("DOWN")
	node.lead(3 * time.Hour)
	expect("UP")
	if code := fetch(t, s, nil, http.MethodGet, "/primary"); code != http.StatusOK {
		t.Errorf("primary: got %d", code)
	}
}

// haproxyStates asks for the state of server a in each backend.
func haproxyStates(socket string) map[string]string {
	states := map[string]string{}
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return states
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintln(conn, "show stat")
	var answer bytes.Buffer
	_, _ = answer.ReadFrom(conn)
	for line := range strings.Lines(answer.String()) {
		f := strings.Split(line, ",")
		if len(f) > 17 && f[1] == "a" {
			states[f[0]], _, _ = strings.Cut(f[17], " ")
		}
	}
	return states
}
