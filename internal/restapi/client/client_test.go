package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent is a real API server over a member that is made up. Calls that no test expects panic on
// the nil interface.
type agent struct {
	restapi.Node
	state    *restapi.State
	failsafe func(restapi.FailsafeRequest) restapi.FailsafeReply
	now      func() election.Instant // nil: always 100 s
	pulse    func(from string, revision int64, heard election.Instant)
	caughtUp func(context.Context, election.LSN) (election.LSN, bool)
	got      any
}

func (a *agent) State() *restapi.State                { return a.state }
func (a *agent) LeaderUntil() election.Instant        { return 107 * time.Second }
func (a *agent) Fresh(context.Context) *restapi.State { return a.state }

func (a *agent) Now() election.Instant {
	if a.now != nil {
		return a.now()
	}
	return 100 * time.Second
}

func (a *agent) Pulse(from string, revision int64, heard election.Instant) {
	if a.pulse != nil {
		a.pulse(from, revision, heard)
	}
}

func (a *agent) Failsafe(_ context.Context, r restapi.FailsafeRequest) restapi.FailsafeReply {
	return a.failsafe(r)
}

func (a *agent) CaughtUp(ctx context.Context, lsn election.LSN) (election.LSN, bool) {
	return a.caughtUp(ctx, lsn)
}

func (a *agent) Cluster(context.Context) (restapi.ClusterView, error) {
	return restapi.ClusterView{Scope: "demo", Cluster: election.Cluster{
		Leader:  election.Leader{Present: true, Name: "a"},
		Members: []election.Member{{Name: "a"}, {Name: "b", XlogLocation: 5}},
		Status:  election.Status{Optime: 7},
	}}, nil
}

func (a *agent) PatchConfig(_ context.Context, b json.RawMessage) restapi.Reply {
	a.got = string(b)
	return restapi.ConfigDocument(b)
}

func (a *agent) PutConfig(context.Context, json.RawMessage) restapi.Reply {
	return restapi.WriteFailed()
}

func (a *agent) Switchover(_ context.Context, r restapi.SwitchoverRequest) restapi.Reply {
	a.got = r
	return r.Succeeded("b")
}

func (a *agent) CancelSwitchover(context.Context) restapi.Reply {
	return restapi.NoSwitchoverScheduled()
}

func (a *agent) Restart(_ context.Context, r restapi.RestartRequest) restapi.Reply {
	a.got = r
	return restapi.Restarted()
}

func (a *agent) CancelRestart(context.Context) restapi.Reply { return restapi.RestartCancelled() }
func (a *agent) Reload(context.Context) restapi.Reply        { return restapi.ReloadScheduled() }

func (a *agent) Reinitialize(_ context.Context, r restapi.ReinitializeRequest) restapi.Reply {
	a.got = r
	return restapi.ReinitializeStarted()
}

func newAgent() *agent {
	return &agent{state: &restapi.State{
		Name: "b", Scope: "demo", Version: "4.1.4", PghaVersion: "0.1.0", Incarnation: "i1", Epoch: 7,
		Server: restapi.ServerState{
			ObservedAt: 99 * time.Second, State: election.StateRunning, Role: restapi.RoleReplica, Answering: true,
			Writable: election.No, Version: 150004, Timeline: 3, Received: 96, Replayed: 80, ReplicationState: "streaming",
			SystemID: "7300000000000000001", UpstreamSeen: 98 * time.Second, LatestEnd: 97, DataIncarnation: "d1",
			Frozen: &restapi.Frozen{Epoch: 6, LeaderRevision: 41, Since: 99 * time.Second, Proven: true, Voted: true, Timeline: 3, LSN: 96},
		},
		LostLeader: 41, LeaderRevision: 50, Fencer: restapi.FencerState{PromiseUntil: 105 * time.Second},
		Tags: map[string]any{"nofailover": true}, DCSLastSeen: time.Unix(1777867201, 0), WatchdogFailed: true,
		ViewUntil: 200 * time.Second, TTL: 10 * time.Second, View: restapi.ViewState{
			Leader: "a", Config: json.RawMessage(`{"ttl":10}`), History: json.RawMessage(`[[1,2,"x"]]`),
		},
		Job: &restapi.Job{Kind: "clone"}, Loop: restapi.LoopState{Rule: "r"},
	}}
}

// serve starts the real server over a and returns its api_url.
func serve(t *testing.T, a *agent, change func(*restapi.Options)) string {
	t.Helper()
	o := restapi.Options{Listen: []string{"127.0.0.1:0"}}
	if change != nil {
		change(&o)
	}
	s, err := restapi.New(o, a, nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	scheme := "http://"
	if o.CertFile != "" {
		scheme = "https://"
	}
	return scheme + s.Addrs()[0] + "/patroni"
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestPeerReadsEverythingThatAnAgentSays(t *testing.T) {
	got, err := newClient(t, Options{}).Peer(t.Context(), serve(t, newAgent(), nil))
	if err != nil {
		t.Fatal(err)
	}
	want := PeerStatus{
		Name: "b", Scope: "demo", Version: "4.1.4", State: election.StateRunning, Role: "replica", Answering: true,
		ServerVersion: 150004, Timeline: 3, Received: 96, Replayed: 80, ReplicationState: "streaming",
		Tags: map[string]any{"nofailover": true}, NoFailover: true, WatchdogFailed: true, SystemID: "7300000000000000001",
		DCSLastSeen: time.Unix(1777867201, 0),
		Pgha: PeerPgha{
			Version: "0.1.0", Incarnation: "i1", DataIncarnation: "d1", Epoch: 7, Leader: "a", LeaderRemaining: 7 * time.Second,
			Writable: election.No, ObservedAge: time.Second, UpstreamAge: 2 * time.Second, UpstreamKnown: true,
			LatestEnd: 97, LostLeader: 41, Frozen: PeerFrozen{Frozen: true, Epoch: 6, LeaderRevision: 41, Proven: true, Voted: true},
			PromiseRemaining: 5 * time.Second, Job: "clone", Rule: "r", Timeline: 3,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPeerReadsAPatroni(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       PeerStatus
	}{
		{
			"primary of an old version with wal",
			`{"state":"running","role":"master","server_version":90603,"wal":{"location":67395656},"timeline":2,"patroni":{"version":"1.6.0","scope":"s"}}`,
			PeerStatus{State: "running", Role: "primary", ServerVersion: 90603, Answering: true, Location: 67395656, Timeline: 2, Version: "1.6.0", Scope: "s"},
		},
		{
			"server that does not answer", `{"state":"starting","role":"replica","patroni":{"version":"4.1.4","scope":"s","name":"x"}}`,
			PeerStatus{State: "starting", Role: "replica", Version: "4.1.4", Scope: "s", Name: "x"},
		},
		{
			"fields of strange types",
			`{"state":7,"role":null,"xlog":{"received_location":"12","replayed_location":5},"timeline":-1,"tags":[],"patroni":"x","pgha":3,"watchdog_failed":"x"}`,
			PeerStatus{Answering: true, Replayed: 5},
		},
		{
			"priority zero", `{"tags":{"failover_priority":0}}`,
			PeerStatus{Tags: map[string]any{"failover_priority": 0.0}, NoFailover: true},
		},
		{
			"priority zero but nofailover false", `{"tags":{"failover_priority":0,"nofailover":false}}`,
			PeerStatus{Tags: map[string]any{"failover_priority": 0.0, "nofailover": false}},
		},
		{
			"the word false is true", `{"tags":{"nofailover":"false"}}`,
			PeerStatus{Tags: map[string]any{"nofailover": "false"}, NoFailover: true},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := ParsePeer([]byte(tt.body))
			if diff := cmp.Diff(tt.want, got); diff != "" || !ok {
				t.Errorf("ok %v (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func FuzzParsePeer(f *testing.F) {
	f.Add([]byte(`{"xlog":{"location":1},"pgha":{"job":{"kind":"x"}},"tags":{"nofailover":{}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, ok := ParsePeer(body); !ok && (p.Answering || p.Name != "") {
			t.Errorf("%q: not an object, yet %+v", body, p)
		}
	})
}

// One answers, one refuses, one never answers, one talks nonsense. All are asked at once, and the
// silence costs the timeout and no more.
func TestProbesRunInParallel(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // completes handshakes in the kernel, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer nonsense.Close()
	targets := []Target{
		{"good", serve(t, newAgent(), nil)},
		{"refusing", "http://" + closedPort(t) + "/patroni"},
		{"silent 1", "http://" + silent.Addr().String() + "/patroni"},
		{"silent 2", "http://" + silent.Addr().String() + "/patroni"},
		{"nonsense", nonsense.URL},
		{"no url", ""},
	}
	c := newClient(t, Options{})
	began := time.Now()
	probes := c.ProbeAll(t.Context(), targets, 300*time.Millisecond)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v, want about 300 ms", took)
	}
	kinds := map[string]Kind{"refusing": KindRefused, "silent 1": KindTimeout, "silent 2": KindTimeout, "nonsense": KindBadAnswer}
	for i, p := range probes {
		if p.Name != targets[i].Name || p.Reachable() != (p.Name == "good") {
			t.Errorf("probe %d: got %+v", i, p)
		}
		var e *Error
		if want, ok := kinds[p.Name]; ok && (!errors.As(p.Err, &e) || e.Kind != want) {
			t.Errorf("%s: got %v, want kind %d", p.Name, p.Err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	seen := map[string]bool{}
	for p := range c.Probes(ctx, targets) {
		seen[p.Name] = p.Reachable()
	}
	if len(seen) != len(targets) || !seen["good"] {
		t.Errorf("stream: got %v", seen)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestErrorsSayWhatToDo(t *testing.T) {
	protected := serve(t, newAgent(), func(o *restapi.Options) { o.Username, o.Password = "admin", "secret" })
	listed := serve(t, newAgent(), func(o *restapi.Options) { o.Allowlist = []string{"10.9.9.9"} })
	for _, tt := range []struct {
		name, url  string
		o          Options
		kind       Kind
		text, hint string
	}{
		{"refused", "http://" + closedPort(t), Options{}, KindRefused, "connection refused", "is pgha-agent running"},
		{"unknown host", "http://nobody.invalid:8008", Options{}, KindName, "unknown host", "connect_address"},
		{"no credentials", protected, Options{}, KindUnauthorized, "401: no auth header received", "ctl.authentication"},
		{"wrong credentials", protected, Options{Username: "x", Password: "y"}, KindUnauthorized, "401: not authenticated", "ctl.authentication"},
		{"not in the list", listed, Options{}, KindForbidden, "403: Access is denied", "allowlist"},
		{"no tls there", strings.Replace(protected, "http:", "https:", 1), Options{}, KindTLS, "does not speak TLS", "restapi.certfile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := newClient(t, tt.o).Reload(t.Context(), tt.url)
			if err == nil {
				err = a.Err()
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.text) || !strings.Contains(e.Hint, tt.hint) {
				t.Errorf("got %#v (%v), want kind %d, text %q, hint %q", e, err, tt.kind, tt.text, tt.hint)
			}
		})
	}
	a, err := newClient(t, Options{Username: "admin", Password: "secret"}).Reload(t.Context(), protected)
	if err != nil || a.Code != http.StatusAccepted || a.Text != "reload scheduled" {
		t.Errorf("right credentials: got %+v, %v", a, err)
	}
}

func TestServerCertificatesAreVerifiedUnlessInsecure(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	var e *Error
	if _, err := newClient(t, Options{}).Peer(t.Context(), s.URL); !errors.As(err, &e) || e.Kind != KindTLS || !strings.Contains(e.Hint, "ctl.cacert") {
		t.Errorf("verified: got %v, want a TLS error with a hint", err)
	}
	if _, err := newClient(t, Options{Insecure: true}).Peer(t.Context(), s.URL); err != nil {
		t.Errorf("insecure: %v", err)
	}
	if _, err := New(Options{CAFile: "/nonexistent"}); err == nil {
		t.Error("missing authority: no error")
	}
	if _, err := New(Options{CertFile: "/nonexistent"}); err == nil {
		t.Error("missing certificate: no error")
	}
}

func TestFailsafeCalls(t *testing.T) {
	a := newAgent()
	var got restapi.FailsafeRequest
	reply := restapi.FailsafeReply{Outcome: restapi.FailsafeAccepted, LSN: 77}
	a.failsafe = func(r restapi.FailsafeRequest) restapi.FailsafeReply { got = r; return reply }
	good := serve(t, a, nil)
	c := newClient(t, Options{})
	call := FailsafeCall{
		Name: "a", ConnURL: "c", APIURL: "u", Slots: map[string]election.LSN{"b": 9},
		Extra: restapi.FailsafeExtra{TTLMillis: 3000, Epoch: 7, LeaderRevision: 50, Round: 2},
	}
	answers := c.FailsafeAll(t.Context(), []Target{{"b", good}, {"c", "http://" + closedPort(t)}}, call, time.Second)
	if !answers[0].Accepted || answers[0].LSN != 77 || answers[1].Accepted || answers[1].Err == nil || answers[1].Name != "c" {
		t.Errorf("got %+v", answers)
	}
	want := restapi.FailsafeRequest{
		Name: "a", ConnURL: "c", APIURL: "u", Slots: map[string]election.LSN{"b": 9}, TTL: 3 * time.Second,
		Epoch: 7, LeaderRevision: 50, Round: 2,
		ReceivedAt: 100 * time.Second,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, outcome := range []restapi.FailsafeOutcome{restapi.FailsafeRefused, restapi.FailsafeIAmLeader, restapi.FailsafeOff} {
		reply = restapi.FailsafeReply{Outcome: outcome}
		if got := c.Failsafe(t.Context(), Target{"b", good}, call); got.Accepted || got.Err != nil || got.Text == "" {
			t.Errorf("outcome %d: got %+v, want a refusal with its words", outcome, got)
		}
	}
}

// A page that happens to contain the word is no acceptance.
func TestOnlyTheExactWordAccepts(t *testing.T) {
	for body, code := range map[string]int{"Accepted\n": 200, "accepted": 200, "Accepted": 202, "": 200} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}))
		if got := newClient(t, Options{}).Failsafe(t.Context(), Target{"b", s.URL}, FailsafeCall{}); got.Accepted {
			t.Errorf("%d %q: taken for an acceptance", code, body)
		}
		s.Close()
	}
}

func TestCaughtUpReturnsAtOnceWhenReached(t *testing.T) {
	a := newAgent()
	a.caughtUp = func(ctx context.Context, lsn election.LSN) (election.LSN, bool) {
		if lsn <= 96 {
			return 96, true
		}
		<-ctx.Done()
		return 96, false
	}
	url := serve(t, a, nil)
	c := newClient(t, Options{})
	if got, ok, err := c.CaughtUp(t.Context(), url, 90, 20*time.Second); got != 96 || !ok || err != nil {
		t.Errorf("reached: got %v %v %v", got, ok, err)
	}
	if got, ok, err := c.CaughtUp(t.Context(), url, 97, time.Millisecond); got != 96 || ok || err != nil {
		t.Errorf("not reached: got %v %v %v", got, ok, err)
	}
	patroni := httptest.NewServer(http.NotFoundHandler())
	defer patroni.Close()
	if _, ok, err := c.CaughtUp(t.Context(), patroni.URL, 1, 0); ok || err == nil {
		t.Error("an agent without the endpoint: no error")
	}
}

func TestOrdersReachTheAgentAsMeant(t *testing.T) {
	a := newAgent()
	url := serve(t, a, nil)
	c := newClient(t, Options{})
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		give func() (Answer, error)
		code int
		text string
		got  any
	}{
		{"patch", func() (Answer, error) { return c.PatchConfig(ctx, url, map[string]any{"pause": nil}) }, 200, `{"pause":null}`, `{"pause":null}`},
		{"put", func() (Answer, error) { return c.PutConfig(ctx, url, map[string]any{"a": 1}) }, 502, "the consensus store did not take the change", nil},
		{"switchover", func() (Answer, error) { return c.Switchover(ctx, url, Switchover{Leader: "a"}) }, 200, `Successfully switched over to "b"`, restapi.SwitchoverRequest{Leader: "a"}},
		{"failover", func() (Answer, error) { return c.Failover(ctx, url, Switchover{Candidate: "b"}) }, 200, `Successfully failed over to "b"`, restapi.SwitchoverRequest{Candidate: "b"}},
		{"cancel switchover", func() (Answer, error) { return c.CancelSwitchover(ctx, url) }, 404, "no switchover is scheduled", nil},
		{"restart", func() (Answer, error) { return c.Restart(ctx, url, Restart{Timeout: "5s", RestartPending: true}) }, 200, "restarted successfully", restapi.RestartRequest{Timeout: 5 * time.Second, RestartPending: true}},
		{"restart now", func() (Answer, error) { return c.Restart(ctx, url, Restart{}) }, 200, "restarted successfully", restapi.RestartRequest{}},
		{"cancel restart", func() (Answer, error) { return c.CancelRestart(ctx, url) }, 200, "scheduled restart deleted", nil},
		{"reinitialize", func() (Answer, error) { return c.Reinitialize(ctx, url, true, false) }, 200, "reinitialize started", restapi.ReinitializeRequest{Force: true}},
	} {
		a.got = nil
		answer, err := tt.give()
		if err != nil || answer.Code != tt.code || answer.Text != tt.text {
			t.Errorf("%s: got %d %q %v, want %d %q", tt.name, answer.Code, answer.Text, err, tt.code, tt.text)
		}
		if diff := cmp.Diff(tt.got, a.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestReadingEndpoints(t *testing.T) {
	url := serve(t, newAgent(), nil)
	c := newClient(t, Options{})
	ctx := t.Context()
	cluster, err := c.Cluster(ctx, url)
	if err != nil || len(cluster.Members) != 2 || *cluster.Members[1].Lag != (restapi.Lag{Bytes: 2, Known: true}) || cluster.Members[1].ReplayLag.Known {
		t.Errorf("cluster: got %+v, %v", cluster, err)
	}
	if doc, err := c.Config(ctx, url); err != nil || string(doc) != `{"ttl":10}` {
		t.Errorf("config: got %s, %v", doc, err)
	}
	if rows, err := c.History(ctx, url); err != nil || len(rows) != 1 || len(rows[0]) != 3 {
		t.Errorf("history: got %v, %v", rows, err)
	}
	if why, err := c.Why(ctx, url, 3); err != nil || why.Now.Rule != "r" {
		t.Errorf("why: got %+v, %v", why, err)
	}
	if doc, err := c.Status(ctx, url); err != nil || !json.Valid(doc) {
		t.Errorf("status: got %s, %v", doc, err)
	}
	for check, want := range map[string]bool{"/leader": true, "/sync": false} {
		if ok, err := c.Health(ctx, url, check); ok != want || err != nil {
			t.Errorf("%s: got %v, %v", check, ok, err)
		}
	}
	p, err := c.WaitState(ctx, url, time.Millisecond, func(p PeerStatus, err error) bool { return err == nil && p.State == "running" })
	if err != nil || p.Name != "b" {
		t.Errorf("wait: got %+v, %v", p, err)
	}
}

func TestErrorPagesBecomeTexts(t *testing.T) {
	for page, want := range map[string]string{
		"<!DOCTYPE html>\n<html><body><h1>502 Bad Gateway</h1><p>a &lt;b&gt;</p></body></html>":                        "a <b>",
		"<html><body><h1>Error</h1><p>Error code: 409</p><p>Message: Conflict.</p><p>Explanation: x</p></body></html>": "Conflict.",
		"plain <p>text</p>": "plain <p>text</p>",
		"<html></html>":     "<html></html>",
	} {
		if got := plainText([]byte(page)); got != want {
			t.Errorf("%q: got %q, want %q", page, got, want)
		}
	}
}
