package agent

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs/memory"
	"github.com/pgha/pgha/internal/election"
)

// claiming is an agent that runs no loop, and its keeper.
func claiming() (*Agent, *keeper) {
	a := &Agent{log: zap.NewNop(), news: make(chan struct{}, 1), metrics: newMetrics(nil, "")}
	a.facts.configure(&config.Config{Name: "a"}, config.DefaultDynamic())
	a.guard.init(a)
	a.keeper = newKeeper(a)
	return a, a.keeper
}

// A bootstrap claim is no title that a decision could give up. One that nobody came to use must not keep the
// agent from ever having a lease again, and so a member key.
func TestABootstrapClaimThatRanOutLeavesTheAgentALease(t *testing.T) {
	const ttl = 10 * time.Second
	now := time.Second
	server := memory.NewServer(func() time.Duration { return now })
	a, k := claiming()
	a.store, a.facts.dynamic.TTL = server.Store("/service/test"), ttl
	k.round(t.Context())
	_, lease := k.title()
	// The claim was made, and the store out of reach until both were over.
	k.own, k.claim = election.Own{Revision: 5, Lease: lease, Epoch: 1, Sent: Now() - ttl, TTL: ttl}, true
	now += 2 * ttl
	for range 5 {
		k.round(t.Context())
	}
	_, fresh := k.title()
	if gone, err := a.store.LeaseGone(t.Context(), fresh); fresh == 0 || fresh == lease || gone || err != nil {
		t.Errorf("lease %d, then %d, gone: %t, error %v", lease, fresh, gone, err)
	}
	if k.claimRevision() != 0 {
		t.Error("the claim is still held")
	}
}

// While the job runs that the claim was made for, it decides what becomes of it.
func TestABootstrapClaimInUseIsLeftToItsJob(t *testing.T) {
	a, k := claiming()
	a.store = memory.NewServer(func() time.Duration { return 0 }).Store("/service/test")
	a.jobs.job.Kind = election.JobBootstrap
	k.lease, k.own, k.claim = 7, election.Own{Revision: 5, Lease: 7, Epoch: 1, Sent: Now() - time.Minute, TTL: time.Second}, true
	k.round(t.Context())
	if k.claimRevision() != 5 {
		t.Error("the claim was given up under its job")
	}
}
