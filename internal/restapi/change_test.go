package restapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/election"
)

// changeRow is one request and what must come of it. A want without text is not compared.
type changeRow struct {
	name, method, path, body string
	paused                   bool
	code                     int
	text                     string
	reaches                  bool // the agent
}

func changeRows() []changeRow {
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	return []changeRow{
		{name: "patch", method: "PATCH", path: "/config", body: `{"ttl":20}`, code: 200, text: `{"ttl":20}`, reaches: true},
		{name: "patch below config", method: "PATCH", path: "/config/x", body: `{"ttl":20}`, code: 200, reaches: true},
		{name: "patch with nothing", method: "PATCH", path: "/config", body: `{}`, code: 400},
		{name: "patch with a list", method: "PATCH", path: "/config", body: `[1]`, code: 400},
		{name: "patch with null", method: "PATCH", path: "/config", body: `null`, code: 400},
		{name: "patch with garbage", method: "PATCH", path: "/config", body: `{`, code: 400},
		{name: "patch with two objects", method: "PATCH", path: "/config", body: `{"a":1}{"b":2}`, code: 400},
		{name: "patch without length", method: "PATCH", path: "/config", code: 411},
		{name: "put", method: "PUT", path: "/config", body: `{"ttl":20}`, code: 200, text: `{"ttl":20}`, reaches: true},
		{name: "reload", method: "POST", path: "/reload", code: 202, text: "reload scheduled", reaches: true},
		{name: "restart", method: "POST", path: "/restart", code: 200, text: "restarted successfully", reaches: true},
		{name: "restart scheduled", method: "POST", path: "/restart", body: `{"schedule":"` + future + `"}`, code: 202, text: "Restart scheduled", reaches: true},
		{name: "restart scheduled in pause", method: "POST", path: "/restart", paused: true, body: `{"schedule":"` + future + `"}`, code: 500, text: "Can't schedule restart in the paused state"},
		{name: "restart now in pause", method: "POST", path: "/restart", paused: true, body: `{}`, code: 200, reaches: true},
		{name: "restart in the past", method: "POST", path: "/restart", body: `{"schedule":"2020-01-01T00:00:00Z"}`, code: 422},
		{name: "restart at nonsense", method: "POST", path: "/restart", body: `{"schedule":"soon"}`, code: 422},
		{name: "restart at null", method: "POST", path: "/restart", body: `{"schedule":null}`, code: 422},
		{name: "restart without zone", method: "POST", path: "/restart", body: `{"schedule":"2099-01-01T00:00:00"}`, code: 400},
		{name: "restart of a bad role", method: "POST", path: "/restart", body: `{"role":"boss"}`, code: 400},
		{name: "restart of a bad version", method: "POST", path: "/restart", body: `{"postgres_version":"15"}`, code: 400},
		{name: "restart with a bad timeout", method: "POST", path: "/restart", body: `{"timeout":"-1"}`, code: 400},
		{name: "restart with an unknown key", method: "POST", path: "/restart", body: `{"foo":1}`, code: 400},
		{name: "restart with everything", method: "POST", path: "/restart", body: `{"role":"replica","postgres_version":"15.1","timeout":"1min","restart_pending":true}`, code: 200, reaches: true},
		{name: "delete restart", method: "DELETE", path: "/restart", code: 200, text: "scheduled restart deleted", reaches: true},
		{name: "reinitialize", method: "POST", path: "/reinitialize", code: 200, text: "reinitialize started", reaches: true},
		{name: "reinitialize with a list", method: "POST", path: "/reinitialize", body: `[]`, code: 400},
		{name: "failover", method: "POST", path: "/failover", body: `{"candidate":"b"}`, code: 200, text: `Successfully failed over to "b"`, reaches: true},
		{name: "failover by the old name", method: "POST", path: "/failover", body: `{"member":"c"}`, code: 200, text: `Failed over to "b" instead of "c"`, reaches: true},
		{name: "failover to nobody", method: "POST", path: "/failover", body: `{"leader":"a"}`, code: 400, text: "Failover could be performed only to a specific candidate"},
		{name: "failover later", method: "POST", path: "/failover", body: `{"candidate":"b","scheduled_at":"` + future + `"}`, code: 400, text: "Failover can't be scheduled"},
		{name: "failover with a leader is a switchover", method: "POST", path: "/failover", body: `{"leader":"a","candidate":"b"}`, code: 200, text: `Successfully switched over to "b"`, reaches: true},
		{name: "switchover", method: "POST", path: "/switchover", body: `{"leader":"a"}`, code: 200, text: `Successfully switched over to "b"`, reaches: true},
		{name: "switchover that went elsewhere", method: "POST", path: "/switchover", body: `{"leader":"a","candidate":"c"}`, code: 200, text: `Switched over to "b" instead of "c"`, reaches: true},
		{name: "switchover later", method: "POST", path: "/switchover", body: `{"leader":"a","scheduled_at":"` + future + `"}`, code: 202, text: "Switchover scheduled", reaches: true},
		{name: "switchover later in pause", method: "POST", path: "/switchover", paused: true, body: `{"leader":"a","scheduled_at":"` + future + `"}`, code: 400, text: "Can't schedule switchover in the paused state"},
		{name: "switchover to anybody in pause", method: "POST", path: "/switchover", paused: true, body: `{"leader":"a"}`, code: 400, text: "Switchover is possible only to a specific candidate in a paused state"},
		{name: "switchover in pause", method: "POST", path: "/switchover", paused: true, body: `{"leader":"a","candidate":"b"}`, code: 200, reaches: true},
		{name: "switchover from nobody", method: "POST", path: "/switchover", body: `{"candidate":"b"}`, code: 400, text: "Switchover could be performed only from a specific leader"},
		{name: "switchover to oneself", method: "POST", path: "/switchover", body: `{"leader":"a","candidate":"a"}`, code: 400, text: "Switchover target and source are the same"},
		{name: "switchover in the past", method: "POST", path: "/switchover", body: `{"leader":"a","scheduled_at":"2020-01-01 00:00+00"}`, code: 422},
		{name: "switchover without zone", method: "POST", path: "/switchover", body: `{"leader":"a","scheduled_at":"2099-01-01 00:00"}`, code: 400},
		{name: "switchover at nonsense", method: "POST", path: "/switchover", body: `{"leader":"a","scheduled_at":"x"}`, code: 422},
		{name: "delete switchover", method: "DELETE", path: "/switchover", code: 200, text: "scheduled switchover deleted", reaches: true},
		{name: "failsafe", method: "POST", path: "/failsafe", body: `{"name":"a"}`, code: 200, text: "Accepted", reaches: true},
		{name: "failsafe with nothing", method: "POST", path: "/failsafe", body: `{}`, code: 400},
		{name: "failsafe for less than no time", method: "POST", path: "/failsafe", body: `{"name":"a","pgha":{"ttl_ms":-1}}`, code: 400},
		{name: "failsafe without a time", method: "POST", path: "/failsafe", body: `{"name":"a","pgha":{"epoch":7}}`, code: 400},
		{name: "failsafe for longer than a promise may last", method: "POST", path: "/failsafe", body: `{"name":"a","pgha":{"ttl_ms":3600001}}`, code: 400},
		{name: "failsafe with a time of a strange form", method: "POST", path: "/failsafe", body: `{"name":"a","pgha":{"ttl_ms":"10s"}}`, code: 400},
		{name: "failsafe of a strange form", method: "POST", path: "/failsafe", body: `{"name":"a","pgha":[]}`, code: 400},
		{name: "failsafe without length", method: "POST", path: "/failsafe", code: 411},
		{name: "sigterm", method: "POST", path: "/sigterm", code: 501},
		{name: "citus", method: "POST", path: "/citus", body: `{"type":"x"}`, code: 501},
		{name: "patroni", method: "POST", path: "/patroni", code: 501},
		{name: "delete config", method: "DELETE", path: "/config", code: 501},
		{name: "strange method", method: "BREW", path: "/restart", code: 501},
		{name: "trace", method: "TRACE", path: "/primary", code: 501},
	}
}

func TestChangesAnswerByRow(t *testing.T) {
	for _, row := range changeRows() {
		t.Run(row.name, func(t *testing.T) {
			node := newFakeNode(func(st *State) { st.Pause = row.paused })
			s := newTestServer(t, node, nil)
			w := ask(s, row.method, row.path, row.body)
			if w.Code != row.code {
				t.Errorf("got %d %q, want %d", w.Code, w.Body, row.code)
			}
			if row.text != "" && w.Body.String() != row.text {
				t.Errorf("got %q, want %q", w.Body, row.text)
			}
			if got := node.calls.Load() > 0; got != row.reaches {
				t.Errorf("reached the agent: got %v, want %v", got, row.reaches)
			}
		})
	}
}

func TestRequestsAreDecoded(t *testing.T) {
	node := newFakeNode(nil)
	var got any
	node.SwitchoverFunc = func(ctx context.Context, r SwitchoverRequest) Reply {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a change was called without a deadline")
		}
		got = r
		return r.Failed()
	}
	node.RestartFunc = func(_ context.Context, r RestartRequest) Reply { got = r; return RestartFailed() }
	node.ReinitializeFunc = func(_ context.Context, r ReinitializeRequest) Reply { got = r; return InProgress("clone") }
	node.FailsafeFunc = func(_ context.Context, r FailsafeRequest) FailsafeReply { got = r; return FailsafeReply{} }
	s := newTestServer(t, node, nil)
	when := time.Date(2099, 1, 2, 3, 4, 5, 0, time.FixedZone("", 2*3600))
	for _, tt := range []struct {
		path, body string
		want       any
	}{
		{"/switchover", `{"leader":"a","candidate":"b","scheduled_at":"2099-01-02T03:04:05+02:00"}`, SwitchoverRequest{Leader: "a", Candidate: "b", ScheduledAt: when}},
		{"/switchover", `{"leader":"a","member":"b","candidate":""}`, SwitchoverRequest{Leader: "a", Candidate: "b"}},
		{"/failover", `{"candidate":"b","leader":null}`, SwitchoverRequest{Candidate: "b"}},
		{
			"/restart", `{"schedule":"2099-01-02 03:04:05 +0200","role":"primary","postgres_version":"9.6.1","timeout":90,"restart_pending":false}`,
			RestartRequest{Schedule: when, Role: "primary", PostgresVersion: "9.6.1", Timeout: 90 * time.Second, RestartPending: true},
		},
		{"/restart", `{"timeout":"2min"}`, RestartRequest{Timeout: 2 * time.Minute}},
		{"/reinitialize", `{"force":true,"from_leader":"true"}`, ReinitializeRequest{Force: true, FromLeader: true}},
		{"/reinitialize", `{"from-leader":1}`, ReinitializeRequest{FromLeader: true}},
		{"/reinitialize", `{"force":null}`, ReinitializeRequest{}},
		{
			"/failsafe", `{"name":"a","conn_url":"c","api_url":"u","slots":{"b":5,"x":"y"},"pgha":{"ttl_ms":3000,"epoch":7,"leader_revision":50,"round":2}}`,
			FailsafeRequest{
				Name: "a", ConnURL: "c", APIURL: "u", Slots: map[string]election.LSN{"b": 5},
				TTL: 3 * time.Second, Epoch: 7, LeaderRevision: 50, Round: 2, ReceivedAt: at,
			},
		},
		{"/failsafe", `{"name":"a","slots":[]}`, FailsafeRequest{Name: "a", ReceivedAt: at}},
		{"/failsafe", `{"name":"a","pgha":{"ttl_ms":3600000}}`, FailsafeRequest{Name: "a", TTL: time.Hour, ReceivedAt: at}},
	} {
		got = nil
		ask(s, http.MethodPost, tt.path, tt.body)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.path, tt.body, diff)
		}
	}
}

func TestFailsafeOutcomes(t *testing.T) {
	for _, tt := range []struct {
		reply FailsafeReply
		code  int
		text  string
		lsn   string
	}{
		{FailsafeReply{Outcome: FailsafeAccepted, LSN: 123}, 200, "Accepted", "123"},
		{FailsafeReply{Outcome: FailsafeAccepted}, 200, "Accepted", ""},
		{FailsafeReply{Outcome: FailsafeIAmLeader}, 500, "Running as a leader", ""},
		{FailsafeReply{Outcome: FailsafeOff}, 502, "failsafe mode is off", ""},
		{FailsafeReply{}, 503, "refused", ""},
		{FailsafeReply{Reason: "a takeover is under way"}, 503, "a takeover is under way", ""},
	} {
		node := newFakeNode(nil)
		node.FailsafeFunc = func(context.Context, FailsafeRequest) FailsafeReply { return tt.reply }
		w := ask(newTestServer(t, node, nil), http.MethodPost, "/failsafe", `{"name":"a"}`)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.text) || w.Header().Get("lsn") != tt.lsn {
			t.Errorf("%+v: got %d %q lsn %q, want %d %q lsn %q", tt.reply, w.Code, w.Body, w.Header().Get("lsn"), tt.code, tt.text, tt.lsn)
		}
	}
}

func TestRepliesHaveTheContractTexts(t *testing.T) {
	over, fail := SwitchoverRequest{Leader: "a", Candidate: "c"}, SwitchoverRequest{Candidate: "c"}
	for _, tt := range []struct {
		reply Reply
		code  int
		text  string
	}{
		{over.Failed(), 503, "Switchover failed"},
		{fail.Failed(), 503, "Failover failed"},
		{over.StatusUnknown(20 * time.Second), 503, "Switchover status unknown after 20 seconds; operation may still be in progress"},
		{over.WriteFailed(), 503, "failed to write failover key into DCS"},
		{fail.Succeeded("c"), 200, `Successfully failed over to "c"`},
		{InProgress("reinitialize"), 503, "reinitialize already in progress"},
		{RestartAlreadyScheduled(), 409, "Another restart is already scheduled"},
		{RestartNotNeeded(), 503, "restart conditions are not satisfied"},
		{StillStarting(), 503, "postgres is still starting"},
		{RestartFailed(), 503, "restart failed"},
		{NoRestartScheduled(), 404, "no restarts are scheduled"},
		{ReinitializeLeader(), 503, "I am the leader, can not reinitialize"},
		{ReinitializeNoLeader(), 503, "Cluster has no leader, can not reinitialize"},
		{NoSwitchoverScheduled(), 404, "no switchover is scheduled"},
	} {
		if tt.reply.Code != tt.code || tt.reply.Text != tt.text {
			t.Errorf("got %d %q, want %d %q", tt.reply.Code, tt.reply.Text, tt.code, tt.text)
		}
	}
}

func TestOperationsAreBounded(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), nil)
	for range maxOperations {
		s.operations <- struct{}{}
	}
	w := ask(s, http.MethodPost, "/restart", "")
	if w.Code != http.StatusServiceUnavailable || !strings.HasSuffix(w.Body.String(), " already in progress") {
		t.Errorf("got %d %q, want 503 and already in progress", w.Code, w.Body)
	}
	if w := ask(s, http.MethodPost, "/failsafe", `{"name":"a"}`); w.Code != http.StatusOK {
		t.Errorf("failsafe beside busy operations: got %d, want 200", w.Code)
	}
}

func TestTooLargeBodyIsRefused(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), func(o *Options) { o.MaxBody = 100 })
	w := ask(s, http.MethodPatch, "/config", `{"a":"`+strings.Repeat("x", 100)+`"}`)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d, want 413", w.Code)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	node := newFakeNode(nil)
	node.RestartFunc = func(context.Context, RestartRequest) Reply { panic("no") }
	s, err := New(Options{Listen: []string{"127.0.0.1:0"}}, node, nil, nopLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background()) //nolint:errcheck // nothing was served
	if w := ask(s, http.MethodPost, "/restart", ""); w.Code != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", w.Code)
	}
	if w := ask(s, http.MethodPost, "/reload", ""); w.Code != http.StatusAccepted {
		t.Errorf("the next request: got %d, want 202", w.Code)
	}
}

func TestCaughtUp(t *testing.T) {
	node := newFakeNode(nil)
	node.CaughtUpFunc = func(ctx context.Context, lsn election.LSN) (election.LSN, bool) {
		if lsn <= 100 {
			return 100, true
		}
		<-ctx.Done()
		return 100, false
	}
	s := newTestServer(t, node, nil)
	for _, tt := range []struct {
		query string
		code  int
		want  string
	}{
		{"lsn=100", 200, `{"caught_up":true,"received_location":100}`},
		{"lsn=0/64", 200, `{"caught_up":true,"received_location":100}`},
		{"lsn=101&wait=1", 202, `{"caught_up":false,"received_location":100}`},
		{"lsn=101", 202, `{"caught_up":false,"received_location":100}`},
		{"", 400, ""},
		{"lsn=-1", 400, ""},
		{"lsn=x/y", 400, ""},
		{"lsn=1&wait=x", 400, ""},
		{"lsn=1&wait=-5", 400, ""},
	} {
		w := ask(s, http.MethodGet, "/pgha/caught-up?"+tt.query, "")
		if w.Code != tt.code || tt.want != "" && w.Body.String() != tt.want {
			t.Errorf("%s: got %d %s, want %d %s", tt.query, w.Code, w.Body, tt.code, tt.want)
		}
	}
}

func TestWhyShowsTheLastDecisions(t *testing.T) {
	s := newTestServer(t, newFakeNode(busyState), nil)
	for query, want := range map[string]int{"": 2, "?last=1": 1, "?last=9": 2} {
		var doc WhyDocument
		if err := json.Unmarshal(ask(s, http.MethodGet, "/pgha/why"+query, "").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Decisions) != want || doc.Decisions[want-1].Rule != "member.clone" {
			t.Errorf("%s: got %+v, want %d decisions, the newest last", query, doc.Decisions, want)
		}
	}
	if w := ask(s, http.MethodGet, "/pgha/why?last=0", ""); w.Code != http.StatusBadRequest {
		t.Errorf("last=0: got %d, want 400", w.Code)
	}
}
