package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// busyNode is an agent in the middle of a clone, as far as the real server asks one. The methods
// that it does not have are not reached by this test.
type busyNode struct{ restapi.Node }

func (busyNode) Now() election.Instant                       { return time.Hour }
func (busyNode) LeaderUntil() election.Instant               { return 0 }
func (n busyNode) Fresh(context.Context) *restapi.State      { return n.State() }
func (busyNode) Reload(context.Context) restapi.Reply        { return restapi.ReloadScheduled() }
func (busyNode) CancelRestart(context.Context) restapi.Reply { return restapi.NoRestartScheduled() }

func (busyNode) Reinitialize(context.Context, restapi.ReinitializeRequest) restapi.Reply {
	return restapi.InProgress("reinitialize")
}

func (busyNode) State() *restapi.State {
	at := time.Date(2031, 5, 4, 1, 0, 0, 0, time.UTC)
	return &restapi.State{
		Name: "c", Scope: "demo", Version: "4.1.4", PghaVersion: "0.1.0",
		Server: restapi.ServerState{
			State: election.StateCreating, Role: "replica",
			Frozen: &restapi.Frozen{Epoch: 7, LeaderRevision: 50, Since: time.Hour - 2*time.Second, Proven: true, Voted: true, Timeline: 2, LSN: 0x4000000},
		},
		LostLeader: 50, Fencer: restapi.FencerState{PromiseUntil: time.Hour + 3*time.Second},
		Sync: restapi.SyncState{Voters: []string{"b"}, Wait: 1, Quorum: 1, InForce: election.No},
		Job:  &restapi.Job{Kind: "clone", Detail: "from a", Started: time.Hour - time.Minute, Done: 1 << 30, Total: 4 << 30, Rate: 100 << 20},
		Decisions: []restapi.Decision{
			{At: at, Rule: "older", Reason: "first"},
			{At: at.Add(time.Second), Rule: "newer", Reason: "second", Change: "a leader", Actions: []string{"clone"}, Result: "running"},
		},
		Loop: restapi.LoopState{Rule: "newer", Reason: "second", LastAt: time.Hour - time.Second, Problems: []string{"slow disk"}},
	}
}

// TestRealAgentAnswersAreUnderstood runs the agents' own server, so that a renamed field on either
// side is found here.
func TestRealAgentAnswersAreUnderstood(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := restapi.New(restapi.Options{Listeners: []net.Listener{listener}}, busyNode{}, nil, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	agents, err := openAgents(settings{})
	if err != nil {
		t.Fatal(err)
	}
	e, _, _ := offline()
	s := &session{env: e, agents: agents}
	m := member{Member: election.Member{Name: "c", APIURL: "http://" + listener.Addr().String() + "/patroni", PghaVersion: "0.1.0"}}

	why, err := s.whyOf(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2031, 5, 4, 1, 0, 0, 0, time.UTC)
	wantWhy := whyDocument{
		Name: "c", Now: ruleNow{Rule: "newer", Reason: "second", AgeMS: 1000, Problems: []string{"slow disk"}},
		bonds: bonds{
			Frozen:     &frozenView{Epoch: 7, LeaderRevision: 50, AgeMS: 2000, Proven: true, Voted: true, Timeline: 2, LSN: 0x4000000},
			LostLeader: 50, PromiseMS: 3000, Sync: &syncLeaderDoc{Voters: []string{"b"}, Wait: 1, Quorum: 1, InForce: "no"},
		},
		Decisions: []decision{
			{At: at.Add(time.Second), Rule: "newer", Reason: "second", Change: "a leader", Actions: []string{"clone"}, Result: "running"},
			{At: at, Rule: "older", Reason: "first", Actions: []string{}},
		},
	}
	if diff := cmp.Diff(wantWhy, why, cmp.AllowUnexported(whyDocument{})); diff != "" {
		t.Errorf("why (-want +got):\n%s", diff)
	}
	st, err := s.statusOf(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	wantJob := &jobView{Kind: "clone", Detail: "from a", Done: 1 << 30, Total: 4 << 30, Rate: 100 << 20}
	if diff := cmp.Diff(wantJob, st.job()); diff != "" || st.State != "creating replica" || st.Patroni.Version != "4.1.4" {
		t.Errorf("status %+v, job (-want +got):\n%s", st, diff)
	}
	for _, tc := range []struct {
		method, path string
		body         any
		code         int
		text         string
	}{
		{http.MethodPost, "/reload", nil, http.StatusAccepted, "reload scheduled"},
		{http.MethodPost, "/reinitialize", map[string]any{}, http.StatusServiceUnavailable, "reinitialize already in progress"},
		{http.MethodDelete, "/restart", nil, http.StatusNotFound, "no restarts are scheduled"},
		{http.MethodPost, "/switchover", map[string]any{"leader": ""}, http.StatusBadRequest, ""},
	} {
		r, err := s.ask(t.Context(), m, tc.method, tc.path, tc.body)
		if err != nil || r.Code != tc.code || tc.text != "" && r.Text != tc.text {
			t.Errorf("%s %s: %d %q, %v; want %d %q", tc.method, tc.path, r.Code, r.Text, err, tc.code, tc.text)
		}
	}
}
