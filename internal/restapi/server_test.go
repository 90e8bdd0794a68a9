package restapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

func started(t *testing.T, node Node, change func(*Options)) *Server {
	t.Helper()
	s := newTestServer(t, node, change)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually waits for a condition and prints what it last said.
func eventually(t *testing.T, what string, check func() (state string, ok bool)) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		state, ok := check()
		if ok {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: still %s", what, state)
		case <-tick.C:
		}
	}
}

func TestStartAndStopMayBeRepeated(t *testing.T) {
	s := started(t, newFakeNode(nil), nil)
	if err := s.Start(); err != nil {
		t.Errorf("second start: %v", err)
	}
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := s.Start(); err == nil {
		t.Error("start after stop: no error")
	}
	if err := s.Reload(t.Context(), Options{Listen: []string{"127.0.0.1:0"}}); err == nil {
		t.Error("reload after stop: no error")
	}
}

func TestStopWithoutStartFreesThePort(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), nil)
	addr := s.Addrs()[0]
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestStopEndsLongPollsAndChanges(t *testing.T) {
	node := newFakeNode(nil)
	entered := make(chan struct{}, 2)
	node.CaughtUpFunc = func(ctx context.Context, _ election.LSN) (election.LSN, bool) {
		entered <- struct{}{}
		<-ctx.Done()
		return 0, false
	}
	node.RestartFunc = func(ctx context.Context, _ RestartRequest) Reply {
		entered <- struct{}{}
		<-ctx.Done()
		return RestartFailed()
	}
	s := started(t, node, nil)
	codes := make(chan int, 2)
	go func() { codes <- fetch(t, s, nil, "GET", "/pgha/caught-up?lsn=5&wait=30000") }()
	go func() { codes <- fetch(t, s, nil, "POST", "/restart") }()
	<-entered
	<-entered
	began := time.Now()
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("stop took %v", took)
	}
	if sum := <-codes + <-codes; sum != 202+503 {
		t.Errorf("codes add up to %d, want 202 and 503", sum)
	}
}

func TestChangeGoesOnWhenItsClientLeaves(t *testing.T) {
	node := newFakeNode(nil)
	var outcome error
	node.SwitchoverFunc = func(ctx context.Context, r SwitchoverRequest) Reply {
		outcome = ctx.Err()
		return r.Succeeded("b")
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	ask(newTestServer(t, node, nil), "POST", "/switchover", `{"leader":"a"}`, func(r *http.Request) { *r = *r.WithContext(gone) })
	if node.calls.Load() != 1 || outcome != nil {
		t.Errorf("%d calls, context %v: the change ended with its client", node.calls.Load(), outcome)
	}
}

// The deadlines of a connection suit health checks; what waits longer must outlive them.
func TestWaitingRequestsOutliveTheDeadlinesOfTheConnection(t *testing.T) {
	const deadline = 30 * time.Millisecond
	node := newFakeNode(nil)
	wait := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*deadline)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	node.CaughtUpFunc = func(ctx context.Context, _ election.LSN) (election.LSN, bool) {
		return 0, errors.Is(wait(ctx), context.DeadlineExceeded)
	}
	node.RestartFunc = func(ctx context.Context, _ RestartRequest) Reply {
		_ = wait(ctx)
		return Restarted()
	}
	s := newTestServer(t, node, nil)
	s.http.ReadTimeout, s.http.WriteTimeout = deadline, deadline
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if code := fetch(t, s, nil, "GET", "/pgha/caught-up?lsn=5&wait=20000"); code != 200 {
		t.Errorf("long poll: got %d, want 200", code)
	}
	if code := fetch(t, s, nil, "POST", "/restart"); code != 200 {
		t.Errorf("change: got %d, want 200", code)
	}
}

func TestGivenListenersAreUsed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := started(t, newFakeNode(nil), func(o *Options) { o.Listen, o.Listeners = []string{"127.0.0.1:1"}, []net.Listener{l} })
	if s.Addrs()[0] != l.Addr().String() {
		t.Fatalf("addresses: got %v, want %v", s.Addrs(), l.Addr())
	}
	// A reload that names the same addresses keeps them: nobody could bind port 1 again.
	if err := s.Reload(t.Context(), Options{Listen: []string{"127.0.0.1:1"}, Username: "a", Password: "b"}); err != nil {
		t.Fatal(err)
	}
	if code := fetch(t, s, nil, "GET", "/health"); code != 200 {
		t.Errorf("health: got %d", code)
	}
	if code := fetch(t, s, nil, "POST", "/reload"); code != 401 {
		t.Errorf("change after reload: got %d, want 401", code)
	}
}

func TestReloadMovesToOtherAddresses(t *testing.T) {
	s := started(t, newFakeNode(nil), func(o *Options) { o.Listen = []string{"127.0.0.1:0", "localhost:0"} })
	old := s.Addrs()
	if len(old) != 2 {
		t.Fatalf("addresses: got %v, want two", old)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := s.Reload(t.Context(), Options{Listen: []string{"127.0.0.2:0", taken.Addr().String()}}); err == nil {
		t.Fatal("reload to a taken address: no error")
	}
	if got := s.Addrs(); strings.Join(got, " ") != strings.Join(old, " ") {
		t.Errorf("addresses after a failed reload: got %v, want %v", got, old)
	}
	if err := s.Reload(t.Context(), Options{Listen: []string{"127.0.0.2:0"}}); err != nil {
		t.Fatal(err)
	}
	if code := fetch(t, s, nil, "GET", "/health"); code != 200 {
		t.Errorf("health at the new address: got %d", code)
	}
	if conn, err := net.Dial("tcp", old[0]); err == nil {
		_ = conn.Close()
		t.Errorf("%s is still open", old[0])
	}
}

func serial(t *testing.T, s *Server) (int64, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.Addrs()[0], &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestCertificatesAreReadAgainWhenTheyChange(t *testing.T) {
	ca := newAuthority(t, "ca")
	certFile, keyFile := ca.issue(t, "server", 10)
	s := started(t, newFakeNode(nil), func(o *Options) { o.CertFile, o.KeyFile = certFile, keyFile })
	// The files are looked at once a second; a test need not wait for that.
	look := func() {
		src := s.settings.Load().tls
		src.mu.Lock()
		src.checked = time.Time{}
		src.mu.Unlock()
	}
	expect := func(want int64) {
		t.Helper()
		look()
		eventually(t, "the new certificate", func() (string, bool) {
			got, err := serial(t, s)
			return fmt.Sprintf("serial %d, error %v, want %d", got, err, want), got == want
		})
	}
	expect(10)
	ca.issue(t, "server", 11)
	expect(11)
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(11)
	ca.issue(t, "server", 12)
	expect(12)
}

func TestReloadTurnsTLSOnAndOff(t *testing.T) {
	ca := newAuthority(t, "ca")
	certFile, keyFile := ca.issue(t, "server", 10)
	s := started(t, newFakeNode(nil), nil)
	plain := Options{Listen: s.opts.Listen}
	secure := plain
	secure.CertFile, secure.KeyFile = certFile, keyFile
	for _, tt := range []struct {
		o   Options
		tls *tls.Config
	}{{secure, ca.clientTLS(t, "", "")}, {plain, nil}, {secure, ca.clientTLS(t, "", "")}} {
		if err := s.Reload(t.Context(), tt.o); err != nil {
			t.Fatal(err)
		}
		if code := fetch(t, s, tt.tls, "GET", "/health"); code != 200 {
			t.Errorf("tls %v: got %d", tt.tls != nil, code)
		}
	}
}

func TestExtraHeadersAndServerTokens(t *testing.T) {
	for tokens, want := range map[string]string{"": "", "original": "", "ProductOnly": "Patroni", "Minimal": "Patroni/4.1.4"} {
		s := newTestServer(t, newFakeNode(nil), func(o *Options) {
			o.ServerTokens = tokens
			o.ExtraHeaders = map[string]string{"x-extra": "yes"}
			o.ExtraTLSHeaders = map[string]string{"x-secure": "yes"}
		})
		for _, path := range []string{"/health", "/patroni", "/metrics", "/pgha/why"} {
			h := ask(s, "GET", path, "").Header()
			if h.Get("Server") != want || h.Get("X-Extra") != "yes" || h.Get("X-Secure") != "" {
				t.Errorf("%s with tokens %q: got headers %v", path, tokens, h)
			}
		}
	}
}

// What HAProxy sends for a plain "option httpchk", byte for byte, and what it must see.
func TestLoadBalancersUnderstandTheAnswers(t *testing.T) {
	s := started(t, newFakeNode(primaryState).lead(time.Minute), nil)
	for _, tt := range []struct{ send, want string }{
		{"OPTIONS / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"OPTIONS /replica HTTP/1.0\r\n\r\n", "HTTP/1.0 503 Service Unavailable\r\n"},
		{"HEAD /primary HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"GET /primary HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"GET //primary HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n"},
	} {
		conn, err := net.Dial("tcp", s.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(conn, tt.send)
		answer, err := io.ReadAll(conn) // to the end: the server closes
		_ = conn.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte(tt.want)) {
			t.Errorf("%q: got %q (%v), want it to begin with %q", tt.send, answer, err, tt.want)
		}
		if _, body, _ := bytes.Cut(answer, []byte("\r\n\r\n")); !strings.HasPrefix(tt.send, "GET") && len(body) != 0 {
			t.Errorf("%q: got a body %q", tt.send, body)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := started(t, newFakeNode(nil), func(o *Options) { o.MaxConnections = 2 })
	var held []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", s.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	eventually(t, "two connections", func() (string, bool) {
		n := s.conns.Load()
		return fmt.Sprint(n), n == 2
	})
	if code := fetch(t, s, nil, "GET", "/health"); code != 0 {
		t.Errorf("a third connection: got %d, want none", code)
	}
	for _, c := range held {
		_ = c.Close()
	}
	eventually(t, "an answer when the others are gone", func() (string, bool) {
		code := fetch(t, s, nil, "GET", "/health")
		return fmt.Sprint(code), code == 200
	})
}

func TestConnectionsMayBeReused(t *testing.T) {
	s := started(t, newFakeNode(nil), nil)
	conn, err := net.Dial("tcp", s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, path := range []string{"/health", "/primary", "/patroni"} {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
