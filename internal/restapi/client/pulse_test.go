package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// clock is one clock for both sides, so that a test can compare what they say.
func clock() func() election.Instant {
	began := time.Now()
	return func() election.Instant { return time.Hour + time.Since(began) }
}

// slowProxy passes bytes to addr, each piece so much later than it came.
func slowProxy(t *testing.T, addr string, there, back time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	pass := func(from, to net.Conn, delay time.Duration) {
		defer to.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			time.Sleep(delay) // the network's, not the test's
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	open.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				_ = in.Close()
				return
			}
			open.Go(func() { pass(in, out, there) })
			open.Go(func() { pass(out, in, back) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return l.Addr().String()
}

// What the leader learns from a voter's question must never be younger than the truth: the voter
// counts from the moment at which it asked, however long the network took for either direction.
func TestLeaderLearnsWhenItWasHeardAndNeverTooYoung(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct{ there, back time.Duration }{{0, 0}, {60 * ms, 0}, {0, 60 * ms}, {40 * ms, 20 * ms}} {
		t.Run(fmt.Sprintf("%s there, %s back", tt.there, tt.back), func(t *testing.T) {
			now := clock()
			a := newAgent()
			a.now = now
			type report struct {
				from        string
				revision    int64
				heard, told election.Instant
			}
			reports := make(chan report, 10)
			a.pulse = func(from string, revision int64, heard election.Instant) {
				reports <- report{from, revision, heard, now()}
			}
			direct := serve(t, a, nil)
			through := slowProxy(t, strings.TrimSuffix(strings.TrimPrefix(direct, "http://"), "/patroni"), tt.there, tt.back)
			p := newClient(t, Options{}).Pulser(PulserOptions{Name: "c", Now: now, Timeout: 5 * time.Second})
			t.Cleanup(p.Close)
			var last Pulse
			for i := range 4 {
				pulse, err := p.Ask(t.Context(), "http://"+through, 50)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					if len(reports) != 0 {
						t.Fatalf("the first question tells of an answer: %+v", <-reports)
					}
					last = pulse
					continue
				}
				got := <-reports
				trip := last.Received - last.Sent
				if got.from != "c" || got.revision != 50 || got.heard > last.Sent || got.heard < last.Sent-trip {
					t.Errorf("asked at %s, heard at %s: the leader learned %+v", last.Sent, last.Received, got)
				}
				if naive := got.told - (pulse.Sent - last.Sent); tt.there > 0 && naive <= last.Sent {
					t.Errorf("the network was not slow: the test shows nothing")
				}
				last = pulse
			}
			if last.Revision != 50 || last.Epoch != 7 || last.Role != "replica" || last.Lost != 41 || last.Leader {
				t.Errorf("got %+v", last)
			}
		})
	}
}

// A voter that takes another key for the leader's, or an agent that has no title to that key, must not
// become evidence that this leader was heard.
func TestOnlyTheHolderOfTheKeyIsToldThatItWasHeard(t *testing.T) {
	a := newAgent()
	a.now = clock()
	var told atomic.Int64
	a.pulse = func(string, int64, election.Instant) { told.Add(1) }
	url := serve(t, a, nil)
	p := newClient(t, Options{}).Pulser(PulserOptions{Name: "c", Now: a.now, Timeout: 5 * time.Second})
	t.Cleanup(p.Close)
	for i, tt := range []struct {
		revision int64
		told     int64 // after this question
	}{{49, 0}, {49, 0}, {50, 0}, {50, 1}, {51, 1}, {50, 1}, {50, 2}} {
		if _, err := p.Ask(t.Context(), url, tt.revision); err != nil {
			t.Fatal(err)
		}
		if got := told.Load(); got != tt.told {
			t.Fatalf("question %d, for revision %d: %d reports, want %d", i, tt.revision, got, tt.told)
		}
	}
}

// Connections stay open, also encrypted ones; credentials stay at home.
func TestPulsesShareOneConnection(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		var opened atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("credentials were sent")
			}
			fmt.Fprint(w, `{"at":1,"revision":50}`)
		}))
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened.Add(1)
			}
		}
		if encrypted {
			s.StartTLS()
		} else {
			s.Start()
		}
		p := newClient(t, Options{Insecure: true, Username: "u", Password: "p"}).Pulser(PulserOptions{Name: "c", Now: clock(), Timeout: 5 * time.Second})
		for range 20 {
			if _, err := p.Ask(t.Context(), s.URL, 50); err != nil {
				t.Fatal(err)
			}
		}
		if got := opened.Load(); got != 1 {
			t.Errorf("encrypted %v: %d connections for 20 questions, want one", encrypted, got)
		}
		p.Close()
		s.Close()
	}
}

func TestPulseErrors(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // completes handshakes in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answering := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	p := newClient(t, Options{}).Pulser(PulserOptions{Name: "c", Now: clock(), Timeout: 200 * time.Millisecond})
	t.Cleanup(p.Close)
	for name, tt := range map[string]struct {
		url  string
		kind Kind
	}{
		"silent":         {"http://" + silent.Addr().String(), KindTimeout},
		"refused":        {"http://" + closedPort(t), KindRefused},
		"older agent":    {answering(404, `{"error":{}}`), KindStatus},
		"Patroni":        {answering(200, `{"state":"running","role":"primary"}`), KindBadAnswer},
		"red Patroni":    {answering(503, `{"state":"running"}`), KindStatus},
		"nonsense":       {answering(200, "hello"), KindBadAnswer},
		"endless answer": {answering(200, strings.Repeat(" ", 1<<20)), KindBadAnswer},
	} {
		var e *Error
		if _, err := p.Ask(t.Context(), tt.url, 50); !errors.As(err, &e) || e.Kind != tt.kind {
			t.Errorf("%s: got %v, want kind %d", name, err, tt.kind)
		}
	}
	if _, err := p.Ask(t.Context(), "nonsense", 50); err == nil {
		t.Error("an address that is none: no error")
	}
	for i := range 3 * maxPulseTargets {
		_, _ = p.Ask(t.Context(), fmt.Sprintf("http://127.0.0.1:1/%d", i), 50) // nobody listens there
	}
	if n := len(p.last); n > maxPulseTargets {
		t.Errorf("%d agents are remembered, want at most %d", n, maxPulseTargets)
	}
}

func TestPulserIsSafeForConcurrentUse(t *testing.T) {
	a := newAgent()
	a.now = clock()
	url := serve(t, a, nil)
	p := newClient(t, Options{}).Pulser(PulserOptions{Name: "c", Now: a.now, Timeout: 10 * time.Second})
	t.Cleanup(p.Close)
	var asking sync.WaitGroup
	for i := range 8 {
		asking.Go(func() {
			for range 20 {
				if _, err := p.Ask(t.Context(), url, 50+int64(i%2)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	asking.Wait()
}

// answerer plays a server's port: it reads the request, compares it, and sends the answer.
func answerer(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			request := make([]byte, 8)
			if _, err := io.ReadFull(c, request); err != nil || string(request) != "\x00\x00\x00\x08\x04\xd2\x16\x2f" {
				t.Errorf("got request %q, %v", request, err)
			}
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func TestAskPostgres(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, tt := range []struct {
		name, addr, want string
	}{
		{"encrypts", answerer(t, "S"), ""},
		{"does not encrypt", answerer(t, "N"), ""},
		{"reports an error", answerer(t, "Ecould not fork"), ""},
		{"another protocol", answerer(t, "HTTP/1.1 400"), "no PostgreSQL server"},
		{"hangs up", answerer(t, ""), "EOF"},
		{"refused", closedPort(t), "refused"},
		{"silent", silent.Addr().String(), "deadline exceeded"},
		{"no address", "nonsense", "missing port"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if tt.name == "silent" {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		}
		err := AskPostgres(ctx, tt.addr)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- AskPostgres(ctx, silent.Addr().String()) }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("called off: got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a question that was called off still waits")
	}
}

// The cost of one question with its answer, both sides and the loopback between them included.
func BenchmarkPulse(b *testing.B) {
	now := clock()
	a := newAgent()
	a.now = now
	s, err := restapi.New(restapi.Options{Listen: []string{"127.0.0.1:0"}}, a, nil, zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop(context.Background()) }()
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	c, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	p := c.Pulser(PulserOptions{Name: "c", Now: now, Timeout: 10 * time.Second})
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Ask(context.Background(), "http://"+s.Addrs()[0], 50); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAskPostgres(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		request := make([]byte, 8)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, request)
			_, _ = io.WriteString(c, "N")
			_ = c.Close()
		}
	})
	defer serving.Wait()
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := AskPostgres(context.Background(), l.Addr().String()); err != nil {
			b.Fatal(err)
		}
	}
}
