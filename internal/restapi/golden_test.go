package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgha/pgha/internal/election"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// exchange writes down one answer: status, the headers that are part of the contract, body.
func exchange(t *testing.T, w *httptest.ResponseRecorder) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(http.StatusText(w.Code) + "\n")
	for _, h := range []string{"Content-Type", "Www-Authenticate", "Lsn", "Server", "X-Extra"} {
		if v := w.Header().Get(h); v != "" {
			b.WriteString(h + ": " + v + "\n")
		}
	}
	b.WriteByte('\n')
	if json.Valid(w.Body.Bytes()) {
		if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	} else {
		b.Write(w.Body.Bytes())
	}
	return b.Bytes()
}

func busyState(st *State) {
	st.Server.State, st.Server.Answering, st.Server.Role = election.StateCreating, false, "uninitialized"
	st.Server.Version = 0
	st.Pause, st.WatchdogFailed = true, true
	st.FailsafeUntil = at + time.Second
	st.ViewUntil = at
	st.PendingRestart = true
	st.PendingRestartReason = map[string]ChangedValue{"max_connections": {Old: "100", New: "200"}}
	st.ScheduledRestart = &ScheduledRestart{
		Schedule: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), Role: RoleReplica, PostgresVersion: "15.9",
		Timeout: 90 * time.Second, RestartPending: true,
	}
	st.Job = &Job{
		Kind: "clone", Detail: "pg_basebackup from a", Started: at - 2*time.Second, Done: 250 << 20, Total: 1000 << 20,
		Rate: 125 << 20, ETA: 6 * time.Second,
	}
	st.Fencer = FencerState{
		Connected: true, PID: 17, Armed: true, Epoch: 7, Until: at + 5*time.Second, Postmaster: 99, Priority: "rr",
		KillMethod: "cgroup", FencedAt: at - time.Minute, PromiseUntil: at + 4*time.Second, Problems: []string{"no realtime priority"},
	}
	st.Decisions = []Decision{
		{At: time.Date(2026, 5, 4, 3, 0, 0, 0, time.UTC), Rule: "vacant.not_ahead", Reason: "a is ahead by 96 bytes", Change: "a gone or behind", Result: "nothing done"},
		{At: time.Date(2026, 5, 4, 3, 0, 1, 0, time.UTC), Rule: "member.clone", Reason: "the data directory is empty", Actions: []string{"clone from a"}},
	}
}

// syncLeader is a primary whose commits wait for one of two voters.
func syncLeader(st *State) {
	primaryState(st)
	st.LeaderRevision = 50
	st.Sync = SyncState{Voters: []string{"b", "c"}, Wait: 1, Quorum: 2, InForce: election.Yes, Lowered: 1}
	st.Counters = Counters{FailsafeRoundsOK: 4, FailsafeRoundsFailed: 1, SyncWaitsCancelled: 3}
}

// voter is a standby that lost its leader, froze and voted, and promised something before that.
func voter(st *State) {
	st.LostLeader = 50
	st.Server.ReplicationState = ""
	st.Server.Frozen = &Frozen{
		Epoch: 7, LeaderRevision: 50, Since: at - 1500*time.Millisecond, Proven: true, Timeline: 3, LSN: 50331648, Voted: true,
	}
	st.Fencer = FencerState{Connected: true, PromiseUntil: at + 4*time.Second}
	st.Counters = Counters{VotesCast: 2, Freezes: 3, FruitlessFreezes: 1, VoteTakeovers: 1, PromisesGiven: 5}
}

func testCluster() ClusterView {
	scheduled := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	return ClusterView{
		Scope: "demo", Pause: true, SynchronousMode: "on",
		Cluster: election.Cluster{
			Leader: election.Leader{Present: true, Name: "a"},
			Status: election.Status{Optime: 0x3000060},
			Sync:   election.SyncState{Leader: "a", Standbys: []string{"B"}},
			Failover: election.FailoverRequest{
				Leader: "a", Candidate: "b", ScheduledAt: scheduled,
			},
			Members: []election.Member{
				{Name: "c", State: election.StateStarting, Role: RoleReplica, ConnURL: "postgres://[::1]/postgres"},
				{
					Name: "b", State: election.StateRunning, Role: RoleReplica, APIURL: "http://10.0.0.2:8008/patroni",
					ConnURL: "postgres://10.0.0.2:6432/postgres", Timeline: 3, ReplicationState: "streaming", PendingRestart: true,
					XlogLocation: 0x3000060, ReceiveLSN: 0x3000060, ReplayLSN: 0x3000000,
				},
				{
					Name: "a", State: election.StateRunning, Role: RolePrimary, APIURL: "http://10.0.0.1:8008/patroni",
					ConnURL: "postgres://10.0.0.1:5432/postgres", Timeline: 3, XlogLocation: 0x3000060,
				},
			},
		},
		Members: map[string]json.RawMessage{
			"b": json.RawMessage(`{"tags":{"nofailover":true},"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}},"scheduled_restart":{"schedule":"2027-01-02T03:04:05+00:00"}}`),
			"c": json.RawMessage(`not json`), "a": json.RawMessage(`{"tags":{}}`),
		},
	}
}

func TestAnswersAreGolden(t *testing.T) {
	leader := func() *fakeNode { return newFakeNode(primaryState).lead(7 * time.Second) }
	replica := func() *fakeNode { return newFakeNode(nil) }
	busy := func() *fakeNode { return newFakeNode(busyState) }
	for _, tt := range []struct {
		file   string
		node   *fakeNode
		method string
		path   string
		body   string
	}{
		{"primary_ok.txt", leader(), "GET", "/primary", ""},
		{"primary_red.txt", replica(), "GET", "/primary", ""},
		{"replica_ok.txt", newFakeNode(func(st *State) { st.View.QuorumStandby = true }), "GET", "/replica", ""},
		{"busy.txt", busy(), "GET", "/health", ""},
		{"patroni_primary.txt", leader(), "GET", "/patroni", ""},
		{"patroni_replica.txt", newFakeNode(func(st *State) { st.View.SyncStandby = true }), "GET", "/patroni", ""},
		{"patroni_busy.txt", busy(), "GET", "/patroni", ""},
		{"patroni_nothing.txt", newFakeNode(func(st *State) { *st = State{} }), "GET", "/patroni", ""},
		{"cluster.txt", replica(), "GET", "/cluster", ""},
		{"config.txt", replica(), "GET", "/config", ""},
		{"config_missing.txt", newFakeNode(func(st *State) { st.View.Config = nil }), "GET", "/config", ""},
		{"history.txt", replica(), "GET", "/history/x", ""},
		{"history_missing.txt", newFakeNode(func(st *State) { st.View.History = nil }), "GET", "/history", ""},
		{"failsafe.txt", replica(), "GET", "/failsafe", ""},
		{"failsafe_missing.txt", newFakeNode(func(st *State) { st.View.Failsafe = nil }), "GET", "/failsafe", ""},
		{"post_failsafe.txt", replica(), "POST", "/failsafe", `{"name":"a","conn_url":"","api_url":""}`},
		{"why.txt", busy(), "GET", "/pgha/why", ""},
		{"status_primary.txt", leader(), "GET", "/pgha/status", ""},
		{"status_busy.txt", busy(), "GET", "/pgha/status", ""},
		{"caught_up.txt", replica(), "GET", "/pgha/caught-up?lsn=0/3000060&wait=10", ""},
		{"pgha_not_found.txt", replica(), "GET", "/pgha/x", ""},
		{"unsupported.txt", replica(), "POST", "/primary", ""},
		{"why_sync_leader.txt", newFakeNode(syncLeader).lead(7 * time.Second), "GET", "/pgha/why", ""},
		{"why_voter.txt", newFakeNode(voter), "GET", "/pgha/why", ""},
		{"patroni_voter.txt", newFakeNode(voter), "GET", "/patroni", ""},
		{"status_sync_leader.txt", newFakeNode(syncLeader).lead(7 * time.Second), "GET", "/pgha/status", ""},
		{"metrics_sync_leader.txt", newFakeNode(syncLeader).lead(7 * time.Second), "GET", "/metrics", ""},
		{"metrics_voter.txt", newFakeNode(voter), "GET", "/metrics", ""},
		{"pulse.txt", newFakeNode(syncLeader).lead(7 * time.Second), "GET", "/pgha/pulse?from=b&for=50", ""},
		{"pulse_voter.txt", newFakeNode(voter), "GET", "/pgha/pulse", ""},
		{"metrics_primary.txt", leader(), "GET", "/metrics", ""},
		{"metrics_replica.txt", replica(), "GET", "/metrics", ""},
		{"metrics_busy.txt", busy(), "GET", "/metrics", ""},
	} {
		t.Run(tt.file, func(t *testing.T) {
			tt.node.ClusterFunc = func(context.Context) (ClusterView, error) { return testCluster(), nil }
			s := newTestServer(t, tt.node, nil)
			golden(t, tt.file, exchange(t, ask(s, tt.method, tt.path, tt.body)))
		})
	}
}

func TestMetricsOfTheAgentAreServedBesideOurs(t *testing.T) {
	registry := prometheus.NewRegistry()
	decisions := prometheus.NewCounter(prometheus.CounterOpts{Name: "pgha_decisions_total", Help: "Decisions."})
	registry.MustRegister(decisions)
	s := newTestServer(t, newFakeNode(nil), nil)
	s.metrics = metricsHandler(s.node, registry)
	body := ask(s, http.MethodGet, "/metrics", "").Body.String()
	for _, want := range []string{"pgha_decisions_total 0", `patroni_replica{name="b",scope="demo"} 1`} {
		if !bytes.Contains([]byte(body), []byte(want)) {
			t.Errorf("metrics lack %q", want)
		}
	}
}

func TestClusterThatCanNotBeLoadedIsAnError(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), nil)
	if w := ask(s, http.MethodGet, "/cluster", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", w.Code)
	}
}

func TestClusterRolesFollowTheMode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*ClusterView)
		a, b   string
	}{
		{"synchronous", func(*ClusterView) {}, "leader", "sync_standby"},
		{"quorum", func(v *ClusterView) { v.SynchronousMode = "quorum" }, "leader", "quorum_standby"},
		{"asynchronous", func(v *ClusterView) { v.SynchronousMode = "" }, "leader", "replica"},
		{"sync key without a leader", func(v *ClusterView) { v.Cluster.Sync.Leader = "" }, "leader", "replica"},
		{"standby cluster", func(v *ClusterView) { v.StandbyCluster = true }, "standby_leader", "sync_standby"},
		{"no leader", func(v *ClusterView) { v.Cluster.Leader = election.Leader{} }, "replica", "sync_standby"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := testCluster()
			tt.change(&v)
			doc := DescribeCluster(v)
			if got := [2]string{doc.Members[0].Role, doc.Members[1].Role}; got != [2]string{tt.a, tt.b} {
				t.Errorf("roles of a and b: got %v, want %s and %s", got, tt.a, tt.b)
			}
		})
	}
}

func TestInSync(t *testing.T) {
	set := func(names ...string) election.VoterSet {
		var s election.VoterSet
		for _, n := range names {
			s.Voters = append(s.Voters, election.Voter{Name: n, Data: "d"})
		}
		return s
	}
	electorate := func(sets ...election.VoterSet) *election.Electorate { return &election.Electorate{Sets: sets} }
	for _, tt := range []struct {
		name string
		s    election.SyncState
		want bool
	}{
		{"no key", election.SyncState{}, false},
		{"listed", election.SyncState{Leader: "a", Standbys: []string{"b"}}, true},
		{"listed in other letters", election.SyncState{Leader: "a", Standbys: []string{"B"}}, true},
		{"list without a leader", election.SyncState{Standbys: []string{"b"}}, false},
		{"not listed, though a voter", election.SyncState{Leader: "a", Standbys: []string{"c"}, Electorate: electorate(set("b"), set("b"))}, false},
		{"nobody yet", election.SyncState{Leader: "a", Electorate: electorate()}, false},
		{"first set, not in force yet", election.SyncState{Leader: "a", Electorate: electorate(set("b"))}, false},
		{"before and after a change", election.SyncState{Leader: "a", Electorate: electorate(set("b"), set("b", "c"))}, true},
		{"only after a change", election.SyncState{Leader: "a", Electorate: electorate(set("c"), set("b", "c"))}, false},
		{"only before it", election.SyncState{Leader: "a", Electorate: electorate(set("b", "c"), set("c"))}, false},
		{"the leader itself", election.SyncState{Leader: "B", Electorate: electorate(set("b"), set("b"))}, false},
	} {
		if got := InSync(tt.s, "b"); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestPatroniLooksAnewOnlyWhenTheLastLookIsOld(t *testing.T) {
	node := newFakeNode(nil)
	node.FreshFunc = func(ctx context.Context) *State {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("Fresh was called without a deadline")
		}
		st := replicaState()
		st.Server.Replayed++
		return st
	}
	s := newTestServer(t, node, nil)
	replayed := func() int64 {
		var body struct {
			Xlog struct {
				Replayed int64 `json:"replayed_location"`
			} `json:"xlog"`
		}
		if err := json.Unmarshal(ask(s, http.MethodGet, "/patroni", "").Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		return body.Xlog.Replayed
	}
	if got := replayed(); got != 50331648 || node.calls.Load() != 0 {
		t.Errorf("right after a look: got %d and %d calls, want 50331648 and none", got, node.calls.Load())
	}
	node.now.Add(int64(time.Second))
	if got := replayed(); got != 50331649 || node.calls.Load() != 1 {
		t.Errorf("a second later: got %d and %d calls, want 50331649 and one", got, node.calls.Load())
	}
}
