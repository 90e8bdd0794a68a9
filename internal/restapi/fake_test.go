package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/election"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode answers what a test puts into it. Every call beyond the three of Observer is counted.
type fakeNode struct {
	state atomic.Pointer[State]
	now   atomic.Int64
	until atomic.Int64
	calls atomic.Int64

	FreshFunc        func(context.Context) *State
	ClusterFunc      func(context.Context) (ClusterView, error)
	PatchConfigFunc  func(context.Context, json.RawMessage) Reply
	PutConfigFunc    func(context.Context, json.RawMessage) Reply
	SwitchoverFunc   func(context.Context, SwitchoverRequest) Reply
	RestartFunc      func(context.Context, RestartRequest) Reply
	ReinitializeFunc func(context.Context, ReinitializeRequest) Reply
	FailsafeFunc     func(context.Context, FailsafeRequest) FailsafeReply
	CaughtUpFunc     func(context.Context, election.LSN) (election.LSN, bool)
	PulseFunc        func(from string, revision int64, heard election.Instant)
}

var (
	_ Node          = (*fakeNode)(nil)
	_ PulseObserver = (*fakeNode)(nil)
)

// at is the instant of all tests unless they move it.
const at = 1000 * time.Second

func newFakeNode(change func(*State)) *fakeNode {
	n := &fakeNode{}
	n.now.Store(int64(at))
	n.publish(change)
	return n
}

func (n *fakeNode) publish(change func(*State)) {
	st := replicaState()
	if change != nil {
		change(st)
	}
	n.state.Store(st)
}

func (n *fakeNode) lead(left time.Duration) *fakeNode {
	n.until.Store(int64(at + left))
	return n
}

func (n *fakeNode) State() *State                 { return n.state.Load() }
func (n *fakeNode) Now() election.Instant         { return election.Instant(n.now.Load()) }
func (n *fakeNode) LeaderUntil() election.Instant { return election.Instant(n.until.Load()) }

func (n *fakeNode) Pulse(from string, revision int64, heard election.Instant) {
	if n.PulseFunc != nil {
		n.PulseFunc(from, revision, heard)
	}
}

func (n *fakeNode) Fresh(ctx context.Context) *State {
	n.calls.Add(1)
	if n.FreshFunc == nil {
		return n.state.Load()
	}
	return n.FreshFunc(ctx)
}

func (n *fakeNode) Cluster(ctx context.Context) (ClusterView, error) {
	n.calls.Add(1)
	if n.ClusterFunc == nil {
		return ClusterView{}, errors.New("consensus store unavailable")
	}
	return n.ClusterFunc(ctx)
}

func (n *fakeNode) PatchConfig(ctx context.Context, b json.RawMessage) Reply {
	n.calls.Add(1)
	if n.PatchConfigFunc == nil {
		return ConfigDocument(b)
	}
	return n.PatchConfigFunc(ctx, b)
}

func (n *fakeNode) PutConfig(ctx context.Context, b json.RawMessage) Reply {
	n.calls.Add(1)
	if n.PutConfigFunc == nil {
		return ConfigDocument(b)
	}
	return n.PutConfigFunc(ctx, b)
}

func (n *fakeNode) Switchover(ctx context.Context, r SwitchoverRequest) Reply {
	n.calls.Add(1)
	if n.SwitchoverFunc == nil {
		if !r.ScheduledAt.IsZero() {
			return r.Scheduled()
		}
		return r.Succeeded("b")
	}
	return n.SwitchoverFunc(ctx, r)
}

func (n *fakeNode) CancelSwitchover(context.Context) Reply {
	n.calls.Add(1)
	return SwitchoverCancelled()
}

func (n *fakeNode) Restart(ctx context.Context, r RestartRequest) Reply {
	n.calls.Add(1)
	if n.RestartFunc == nil {
		if !r.Schedule.IsZero() {
			return RestartScheduled()
		}
		return Restarted()
	}
	return n.RestartFunc(ctx, r)
}

func (n *fakeNode) CancelRestart(context.Context) Reply {
	n.calls.Add(1)
	return RestartCancelled()
}

func (n *fakeNode) Reload(context.Context) Reply {
	n.calls.Add(1)
	return ReloadScheduled()
}

func (n *fakeNode) Reinitialize(ctx context.Context, r ReinitializeRequest) Reply {
	n.calls.Add(1)
	if n.ReinitializeFunc == nil {
		return ReinitializeStarted()
	}
	return n.ReinitializeFunc(ctx, r)
}

func (n *fakeNode) Failsafe(ctx context.Context, r FailsafeRequest) FailsafeReply {
	n.calls.Add(1)
	if n.FailsafeFunc == nil {
		return FailsafeReply{Outcome: FailsafeAccepted, LSN: 50331648}
	}
	return n.FailsafeFunc(ctx, r)
}

func (n *fakeNode) CaughtUp(ctx context.Context, lsn election.LSN) (election.LSN, bool) {
	n.calls.Add(1)
	if n.CaughtUpFunc == nil {
		return lsn, true
	}
	return n.CaughtUpFunc(ctx, lsn)
}

// replicaState is a healthy streaming standby of member a.
func replicaState() *State {
	return &State{
		Name: "b", Scope: "demo", Version: "4.1.4", PghaVersion: "0.1.0", Incarnation: "i1", Epoch: 7,
		Server: ServerState{
			ObservedAt: at, State: election.StateRunning, Role: RoleReplica, Answering: true,
			Writable: election.No, StartTime: time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC),
			Version: 150004, Timeline: 3, Received: 50331648, Replayed: 50331648,
			ReplayedTimestamp: time.Date(2026, 5, 4, 4, 0, 0, 0, time.UTC), LatestEnd: 50331648,
			ReplicationState: "streaming", SystemID: "7300000000000000001", DataIncarnation: "d1",
			UpstreamSeen: at - 40*time.Millisecond,
		},
		Tags:             map[string]any{"az": "eu-1", "weight": 10, "ssd": true},
		FailoverPriority: 1,
		ViewUntil:        at + 8*time.Second,
		View: ViewState{
			Leader: "a", LeaderOptime: 50331648, MaximumLag: 1 << 20, FailsafeMode: true, FailsafeMember: true,
			MemberAPIURLs: []string{"http://127.0.0.1:8008/patroni", "http://127.0.0.2:8008/patroni"},
			Config:        json.RawMessage(`{"ttl":10,"loop_wait":3}`),
			History:       json.RawMessage(`[[1,25165824,"no recovery target specified","2026-05-04T03:00:00+00:00","a"]]`),
			Failsafe:      json.RawMessage(`{"a":"http://127.0.0.1:8008/patroni"}`),
		},
		DCSLastSeen: time.Date(2026, 5, 4, 4, 0, 1, 0, time.UTC),
		TTL:         10 * time.Second,
		NextLoop:    at + 3*time.Second,
		Loop:        LoopState{Count: 42, LastAt: at - 100*time.Millisecond, Rule: "replica.follow", Reason: "a leads and is streamed from"},
	}
}

// primaryState is a healthy primary that holds the leader key.
func primaryState(st *State) {
	st.Name = "a"
	st.Server.Role = RolePrimary
	st.Server.Writable = election.Yes
	st.Server.Location = 50331648
	st.Server.Received, st.Server.Replayed, st.Server.LatestEnd = 0, 0, 0
	st.Server.ReplayedTimestamp = time.Time{}
	st.Server.ReplicationState = ""
	st.Server.UpstreamSeen = 0
	addr := "127.0.0.2"
	st.Replication = []ReplicationRow{{
		Username: "replicator", ApplicationName: "b", ClientAddr: &addr, State: "streaming", SyncState: "async",
	}}
}

// newTestServer serves node on a free port; its New listens there as well, for the tests that need
// a real connection.
func newTestServer(t testing.TB, node Node, change func(*Options)) *Server {
	t.Helper()
	o := Options{Listen: []string{"127.0.0.1:0"}}
	if change != nil {
		change(&o)
	}
	log := nopLogger()
	if t, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	}
	s, err := New(o, node, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends one request through the handler, without a connection.
func ask(s *Server, method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	var r *http.Request
	if body == "" {
		r = httptest.NewRequest(method, target, nil)
	} else {
		r = httptest.NewRequest(method, target, strings.NewReader(body))
		r.Header.Set("Content-Length", "1") // as a real request has one; the value is not used
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.serve(w, r)
	return w
}

func nopLogger() *zap.Logger { return zap.NewNop() }
