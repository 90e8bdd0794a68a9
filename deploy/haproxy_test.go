package deploy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A stand-in of one member: a server that says its name to whoever connects, and an agent that
// answers checks as it is told.
type member struct {
	name         string
	sql, agent   net.Listener
	primary      atomic.Bool
	replica      atomic.Bool
	silent       atomic.Bool
	stop         chan struct{}
	openSessions atomic.Int64
}

// listen picks a free port below the range that outgoing connections use.
func listen(t *testing.T) net.Listener {
	t.Helper()
	var last error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err == nil {
			return listener
		}
		last = err
	}
	t.Fatalf("no free port: %v", last)
	return nil
}

func startMember(t *testing.T, name string) *member {
	t.Helper()
	m := &member{name: name, sql: listen(t), agent: listen(t), stop: make(chan struct{})}
	sessions := make(chan struct{})
	go func() {
		defer close(sessions)
		m.serveSQL()
	}()
	server := &http.Server{Handler: http.HandlerFunc(m.check), ReadHeaderTimeout: time.Second}
	checks := make(chan struct{})
	go func() {
		defer close(checks)
		_ = server.Serve(m.agent)
	}()
	t.Cleanup(func() {
		close(m.stop)
		_ = m.sql.Close()
		_ = server.Close()
		<-sessions
		<-checks
	})
	return m
}

func (m *member) serveSQL() {
	for {
		conn, err := m.sql.Accept()
		if err != nil {
			return
		}
		m.openSessions.Add(1)
		go func() {
			defer m.openSessions.Add(-1)
			defer conn.Close()
			_, _ = io.WriteString(conn, m.name+"\n")
			_, _ = io.Copy(io.Discard, conn) // until the proxy or the client hangs up
		}()
	}
}

func (m *member) check(w http.ResponseWriter, r *http.Request) {
	if m.silent.Load() {
		select {
		case <-m.stop:
		case <-r.Context().Done():
		}
		return
	}
	healthy := (r.URL.Path == "/primary" && m.primary.Load()) || (r.URL.Path == "/replica" && m.replica.Load())
	if r.Method != http.MethodOptions || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// startHAProxy runs the configuration as it is shipped, but for addresses and ports, and returns
// the addresses of the primary, of the replicas and of the statistics.
func startHAProxy(t *testing.T, members ...*member) (primary, replicas, stats string) {
	t.Helper()
	config := readFile(t, "haproxy/haproxy.cfg")
	replace := func(old, replacement string, times int) {
		if got := strings.Count(config, old); got != times {
			t.Fatalf("haproxy.cfg has %q %d times, want %d", old, got, times)
		}
		config = strings.ReplaceAll(config, old, replacement)
	}
	dir := t.TempDir()
	replace("/tmp/haproxy.sock", filepath.Join(dir, "sock"), 1)
	addresses := make([]string, 0, 3)
	for _, bind := range []string{":5000", ":5001", ":7000"} {
		listener := listen(t)
		addresses = append(addresses, listener.Addr().String())
		replace("bind "+bind+"\n", "bind "+listener.Addr().String()+"\n", 1)
		_ = listener.Close()
	}
	for _, m := range members {
		replace(fmt.Sprintf("server %s %s:5432", m.name, m.name),
			fmt.Sprintf("server %s 127.0.0.1:%d port %d", m.name, port(m.sql), port(m.agent)), 2)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command("haproxy", "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return addresses[0], addresses[1], addresses[2]
}

// session connects through the proxy and returns the connection and the member it leads to.
func session(t *testing.T, address string) (net.Conn, string, error) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return nil, "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	name, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		_ = conn.Close()
		return nil, "", err
	}
	return conn, strings.TrimSpace(name), nil
}

// waitFor connects again and again until it is led to the wanted member, and returns that session
// and how long it took.
func waitFor(t *testing.T, address, want string, limit time.Duration) (net.Conn, time.Duration) {
	t.Helper()
	start := time.Now()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	last := "no connection was tried"
	for time.Since(start) < limit {
		conn, got, err := session(t, address)
		switch {
		case err != nil:
			last = err.Error()
		case got == want:
			return conn, time.Since(start)
		default:
			last = "led to " + got
			_ = conn.Close()
		}
		<-ticker.C
	}
	t.Fatalf("not led to %s within %v: last state: %s", want, limit, last)
	return nil, 0
}

// waitCut waits until the proxy ends a session.
func waitCut(t *testing.T, conn net.Conn, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	_ = conn.SetReadDeadline(start.Add(limit))
	_, err := conn.Read(make([]byte, 1))
	_ = conn.Close()
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as the read returned it
		t.Fatalf("the session is still open after %v", limit)
	}
	return time.Since(start)
}

// The limits are generous beside what the comments of haproxy.cfg promise: they are the bound that
// must hold on a loaded machine.
func TestHAProxyFollowsThePrimary(t *testing.T) {
	a, b, c := startMember(t, "a"), startMember(t, "b"), startMember(t, "c")
	a.primary.Store(true)
	b.replica.Store(true)
	c.replica.Store(true)
	primary, replicas, stats := startHAProxy(t, a, b, c)

	old, _ := waitFor(t, primary, "a", 5*time.Second)
	reader, _ := waitFor(t, replicas, "c", 5*time.Second)
	defer reader.Close()

	// A switchover: a says no, b says yes.
	a.primary.Store(false)
	b.replica.Store(false)
	b.primary.Store(true)
	cut := waitCut(t, old, time.Second)
	next, found := waitFor(t, primary, "b", time.Second)
	t.Logf("answer changed: old session cut after %v, new primary reached %v later", cut, found)

	// The machine of b goes silent: its agent accepts connections and says nothing.
	b.silent.Store(true)
	c.replica.Store(false)
	c.primary.Store(true)
	cut = waitCut(t, next, 2*time.Second)
	last, found := waitFor(t, primary, "c", time.Second)
	defer last.Close()
	t.Logf("member went silent: session cut after %v, new primary reached %v later", cut, found)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+stats+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), `haproxy_server_status{proxy="primary",server="c",state="UP"} 1`) {
		t.Errorf("GET /metrics: %s, no server c that is UP", response.Status)
	}
}

func TestHAProxyConfigurationIsValid(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "haproxy", "-c", "-f", "haproxy/haproxy.cfg").CombinedOutput()
	if err != nil {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
	// Names that cannot be looked up here are no fault of the file; any other warning is.
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "[WARNING]") && !strings.Contains(line, "could not resolve address") {
			t.Error(strings.TrimSpace(line))
		}
	}
}
