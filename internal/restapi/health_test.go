package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// healthRow says which checks answer 200 for one situation; all others of checks answer 503.
type healthRow struct {
	name   string
	rows   string // of the interface
	leader bool
	state  func(*State)
	green  []string
	red    []string // besides the usual ones
}

// checks are asked in every situation.
func checks() []string {
	return []string{
		"/", "/primary", "/master", "/read-write", "/leader", "/standby-leader", "/standby_leader", "/replica",
		"/read-only", "/sync", "/synchronous", "/quorum", "/async", "/asynchronous", "/read-only-sync",
		"/read-only-synchronous", "/read-only-quorum", "/health", "/nonsense",
	}
}

func join(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func healthRows() []healthRow {
	primary := []string{"/", "/primary", "/master", "/read-write"}
	readOnly := []string{"/read-only", "/read-only-sync", "/read-only-synchronous", "/read-only-quorum"}
	replica := []string{"/replica", "/read-only", "/health"}
	async := []string{"/async", "/asynchronous"}
	with := func(changes ...func(*State)) func(*State) {
		return func(st *State) {
			for _, c := range changes {
				c(st)
			}
		}
	}
	noView := func(st *State) { st.ViewUntil = at }
	pause := func(st *State) { st.Pause = true }
	standbyCluster := func(st *State) { st.View.StandbyCluster = true }
	role := func(r string) func(*State) { return func(st *State) { st.Server.Role = r } }
	down := func(st *State) { st.Server.State, st.Server.Answering = election.StateStopped, false }
	return []healthRow{
		{
			name: "leader with a running primary", rows: "R-013 R-014 R-018 R-022 R-023 R-025", leader: true, state: primaryState,
			green: join(primary, readOnly, []string{"/leader", "/health", "/primary/x", "/x-master-y", "/?lag=1", "/primary?tag_az=no", "/leader?tag_az=no", "/health?tag_az=eu-1"}),
			red:   []string{"/health?tag_az=no", "/read-only?tag_az=no", "/replica?x"},
		},
		{
			name: "leader whose server is still in recovery", rows: "R-013 R-014", leader: true,
			green: []string{"/leader", "/replica", "/read-only", "/health", "/async", "/asynchronous"},
		},
		{
			name: "leader whose server has not been asked yet", rows: "R-013", leader: true,
			state: with(primaryState, func(st *State) { st.Server.Writable, st.Server.Answering = election.Unknown, false }),
			green: join(primary, readOnly, []string{"/leader"}),
		},
		{
			name: "leader without a view", rows: "R-013 R-024", leader: true, state: with(primaryState, noView),
			green: join(primary, []string{"/leader", "/read-only", "/health"}),
		},
		{
			name: "primary whose lease deadline has passed", rows: "R-013 R-014", state: primaryState,
			green: []string{"/health"},
		},
		{
			name: "primary in pause without a view", rows: "R-016", state: with(primaryState, pause, noView),
			green: join(primary, []string{"/leader", "/read-only", "/health"}),
		},
		{
			name: "primary in pause with a view and without the key", rows: "R-016", state: with(primaryState, pause),
			green: []string{"/health"},
		},
		{
			name: "standby leader in pause without a view", rows: "R-016",
			state: with(pause, noView, standbyCluster, role(RoleStandbyLeader)),
			green: []string{"/standby-leader", "/standby_leader", "/leader", "/read-only", "/health"},
		},
		{
			name: "standby leader", rows: "R-014 R-015 R-018 R-022 R-023", leader: true, state: with(standbyCluster, role(RoleStandbyLeader)),
			green: join(readOnly, []string{"/leader", "/standby-leader", "/standby_leader", "/health", "/x-standby-leader"}),
		},
		{
			name: "owner of a standby cluster's key that still calls itself replica", rows: "R-015 R-017", leader: true, state: standbyCluster,
			green: join(readOnly, []string{"/leader", "/standby-leader", "/standby_leader", "/health"}),
		},
		{
			name: "former primary that owns a standby cluster's key", rows: "R-013 R-015", leader: true, state: with(primaryState, standbyCluster),
			green: []string{"/leader", "/health"},
		},
		{
			name: "asynchronous replica", rows: "R-017 R-018 R-021 R-029 R-030 R-031 R-032",
			green: join(replica, async, []string{
				"/replica?lag=0", "/replica?lag=10MB", "/replica?lag=nonsense", "/replica?replication_state=streaming",
				"/replica?tag_az=eu-1", "/replica?tag_weight=10&tag_ssd=true", "/replica?tag_az=eu-1&tag_az=no",
				"/read-only?lag=1", "/async?lag=1MB", "/a/replica/b",
			}),
			red: []string{
				"/replica?replication_state=in%20archive%20recovery", "/replica?tag_az=us", "/replica?tag_none=x",
				"/replica?tag_ssd=True", "/replica?tag_az=no&tag_az=eu-1", "/async?tag_az=us", "/replica?replication_state=",
				"/read-only-async", "/sync/x", "/async/",
			},
		},
		{
			name: "replica behind", rows: "R-029",
			state: func(st *State) { st.Server.Replayed -= 5 << 20 },
			green: join(replica, async, []string{"/replica?lag=5MB", "/replica?lag=5120kB", "/replica?lag=1GB", "/replica?lag=5242880"}),
			red:   []string{"/replica?lag=0", "/replica?lag=4MB", "/read-only?lag=5242879", "/async?lag=1B", "/replica?lag=-1"},
		},
		{
			name: "replica behind what the walreceiver has heard", rows: "R-029",
			state: with(noView, func(st *State) { st.Server.LatestEnd += 2 << 20 }),
			green: join(replica, []string{"/replica?lag=2MB"}),
			red:   []string{"/replica?lag=1MB"},
		},
		{
			name: "replica without a view whose known optime is old", rows: "R-029",
			state: with(noView, func(st *State) { st.View.LeaderOptime += 2 << 20 }),
			green: join(replica, []string{"/replica?lag=1MB"}),
		},
		{
			name: "synchronous replica", rows: "R-019 R-021 R-022", state: func(st *State) { st.View.SyncStandby = true },
			green: join(replica, []string{"/sync", "/synchronous", "/read-only-sync", "/read-only-synchronous", "/sync?lag=1MB"}),
			red:   []string{"/sync?tag_az=us"},
		},
		{
			name: "quorum replica", rows: "R-020 R-021 R-023", state: func(st *State) { st.View.QuorumStandby = true },
			green: join(replica, []string{"/quorum", "/read-only-quorum"}),
		},
		{
			name: "synchronous replica without a view", rows: "R-024", state: with(noView, func(st *State) { st.View.SyncStandby = true }),
			green: replica,
		},
		{
			name: "replica with noloadbalance", rows: "R-017", state: func(st *State) { st.NoLoadBalance = true; st.View.SyncStandby = true },
			green: []string{"/health"},
		},
		{
			name: "replica that is starting", rows: "R-017 R-025", state: func(st *State) { st.Server.State = election.StateStarting },
		},
		{name: "server down", rows: "R-017 R-025", state: down},
		{
			name: "leader whose primary is down", rows: "R-013 R-014", leader: true,
			state: with(primaryState, down, func(st *State) { st.Server.Writable = election.No }),
			green: []string{"/leader"},
		},
		{
			name: "replica that does not answer", rows: "R-025 R-041", state: func(st *State) { st.Server.Answering = false },
		},
		{
			name: "replica that nobody looked at for long", rows: "R-041", state: func(st *State) { st.Server.ObservedAt = at - 21*time.Second },
		},
		{name: "member that knows nothing", rows: "R-013 to R-025", state: func(st *State) { *st = State{} }},
	}
}

func TestHealthChecksAnswerByRow(t *testing.T) {
	for _, row := range healthRows() {
		t.Run(row.name, func(t *testing.T) {
			node := newFakeNode(row.state)
			if row.leader {
				node.lead(time.Second)
			}
			s := newTestServer(t, node, nil)
			want := map[string]int{}
			for _, path := range join(checks(), row.red) {
				want[path] = http.StatusServiceUnavailable
			}
			for _, path := range row.green {
				want[path] = http.StatusOK
			}
			for path, code := range want {
				w := ask(s, http.MethodGet, path, "")
				if w.Code != code {
					t.Errorf("GET %s: got %d, want %d (%s)", path, w.Code, code, row.rows)
				}
				var body map[string]any
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body["patroni"] == nil {
					t.Errorf("GET %s: body %q is no member status", path, w.Body)
				}
				for _, method := range []string{http.MethodHead, http.MethodOptions} {
					w := ask(s, method, path, "")
					if w.Code != code || w.Body.Len() != 0 {
						t.Errorf("%s %s: got %d with %d bytes, want %d and none", method, path, w.Code, w.Body.Len(), code)
					}
				}
			}
			if n := node.calls.Load(); n != 0 {
				t.Errorf("health checks called the agent %d times, want none", n)
			}
		})
	}
}

func TestHeadAndOptionsAreHealthChecksOnEveryPath(t *testing.T) {
	s := newTestServer(t, newFakeNode(primaryState).lead(time.Second), nil)
	for _, path := range []string{"/patroni", "/cluster", "/config", "/metrics", "/liveness", "/history", "/failsafe", "/pgha/why"} {
		for _, method := range []string{http.MethodHead, http.MethodOptions} {
			if w := ask(s, method, path, ""); w.Code != http.StatusServiceUnavailable || w.Body.Len() != 0 {
				t.Errorf("%s %s: got %d with %d bytes, want 503 and none (row R-003)", method, path, w.Code, w.Body.Len())
			}
		}
	}
}

func TestLiveness(t *testing.T) {
	late := func(d time.Duration) func(*State) { return func(st *State) { st.NextLoop = at - d } }
	for _, tt := range []struct {
		name  string
		state func(*State)
		want  int
	}{
		{"loop on time", nil, 200},
		{"standby late by less than two ttl", late(19 * time.Second), 200},
		{"standby late by two ttl", late(20 * time.Second), 503},
		{"primary late by less than ttl", func(st *State) { primaryState(st); late(9 * time.Second)(st) }, 200},
		{"primary late by ttl", func(st *State) { primaryState(st); late(10 * time.Second)(st) }, 503},
		{"paused", func(st *State) { st.Pause = true; late(time.Hour)(st) }, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, newFakeNode(tt.state), nil)
			if w := ask(s, http.MethodGet, "/liveness", ""); w.Code != tt.want || w.Body.Len() != 0 {
				t.Errorf("got %d with %d bytes, want %d and none", w.Code, w.Body.Len(), tt.want)
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	behind := func(st *State) { st.Server.Replayed -= 3 << 20 }
	blind := func(st *State) { st.ViewUntil = at; st.Server.LatestEnd = 0 }
	for _, tt := range []struct {
		name   string
		leader bool
		state  func(*State)
		path   string
		want   int
	}{
		{"leader", true, func(st *State) { *st = State{} }, "/readiness", 200},
		{"streaming standby", false, nil, "/readiness", 200},
		{"standby from the archive", false, func(st *State) { st.Server.ReplicationState = "in archive recovery" }, "/readiness", 503},
		{"standby beyond maximum lag", false, behind, "/readiness", 503},
		{"standby within lag parameter", false, behind, "/readiness?lag=3MB", 200},
		{"standby beyond lag parameter", false, behind, "/readiness?lag=2MB", 503},
		{"received counts with mode=write", false, behind, "/readiness?mode=write", 200},
		{"replayed counts with mode=apply", false, behind, "/readiness?mode=apply", 503},
		{"nothing to compare with", false, blind, "/readiness", 503},
		{"nothing to compare with in failsafe", false, func(st *State) { blind(st); st.FailsafeUntil = at + 1 }, "/readiness", 200},
		{"starting", false, func(st *State) { st.Server.State = election.StateStarting }, "/readiness", 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := newFakeNode(tt.state)
			if tt.leader {
				node.lead(time.Second)
			}
			if w := ask(newTestServer(t, node, nil), http.MethodGet, tt.path, ""); w.Code != tt.want || w.Body.Len() != 0 {
				t.Errorf("got %d with %d bytes, want %d and none (rows R-027, R-028)", w.Code, w.Body.Len(), tt.want)
			}
		})
	}
}

// The agent does nothing at all between the two requests: it hangs. Time alone turns the check.
func TestPrimaryTurnsRedByItselfWhenTheDeadlinePasses(t *testing.T) {
	node := newFakeNode(primaryState).lead(time.Second)
	s := newTestServer(t, node, nil)
	for _, path := range []string{"/", "/primary", "/leader", "/read-write", "/read-only"} {
		node.now.Store(int64(at + time.Second - 1))
		if w := ask(s, http.MethodGet, path, ""); w.Code != http.StatusOK {
			t.Fatalf("%s a nanosecond before the deadline: got %d, want 200", path, w.Code)
		}
		for _, late := range []time.Duration{0, 1, time.Hour} {
			node.now.Store(int64(at + time.Second + late))
			if w := ask(s, http.MethodGet, path, ""); w.Code != http.StatusServiceUnavailable {
				t.Fatalf("%s %v past the deadline: got %d, want 503", path, late, w.Code)
			}
		}
	}
}

// Everything that could hang hangs: a reload holds the server's lock, every place for operations
// and polls is taken, and the agent answers no call. Health checks must not notice.
func TestHealthChecksAnswerWhileEverythingElseHangs(t *testing.T) {
	release := make(chan struct{})
	node := newFakeNode(primaryState).lead(time.Second)
	node.FreshFunc = func(context.Context) *State { <-release; return nil }
	s := newTestServer(t, node, nil)
	s.mu.Lock()
	for range maxOperations {
		s.operations <- struct{}{}
	}
	for range maxPolls {
		s.polls <- struct{}{}
	}
	done := make(chan string)
	go func() {
		defer close(done)
		for _, path := range []string{"/", "/primary", "/health", "/liveness", "/readiness"} {
			if w := ask(s, http.MethodGet, path, ""); w.Code != http.StatusOK {
				done <- fmt.Sprintf("GET %s: got %d, want 200", path, w.Code)
			}
		}
	}()
	deadline := time.After(10 * time.Second)
	for open := true; open; {
		select {
		case problem, more := <-done:
			if open = more; more {
				t.Error(problem)
			}
		case <-deadline:
			t.Fatal("health checks hang")
		}
	}
	close(release)
	s.mu.Unlock()
}

func TestHealthBodyFollowsTheState(t *testing.T) {
	node := newFakeNode(nil)
	s := newTestServer(t, node, nil)
	first := ask(s, http.MethodGet, "/health", "").Body.Bytes()
	if again := ask(s, http.MethodGet, "/health", "").Body.Bytes(); !bytes.Equal(first, again) {
		t.Errorf("same state, other body:\n%s\n%s", first, again)
	}
	unlocked := func() any {
		var body map[string]any
		if err := json.Unmarshal(ask(s, http.MethodGet, "/health", "").Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		return body["cluster_unlocked"]
	}
	node.now.Store(int64(at + 8*time.Second)) // the view runs out, nothing is published
	if got := unlocked(); got != true {
		t.Errorf("cluster_unlocked after the view ran out: got %v, want true", got)
	}
	node.publish(func(st *State) { st.ViewUntil = at + time.Hour })
	if got := unlocked(); got != nil {
		t.Errorf("cluster_unlocked with a new view: got %v, want none", got)
	}
}
