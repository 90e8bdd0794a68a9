package agent

import (
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// frozenState is the freeze as peers and operators see it; nil: not frozen.
func (f *facts) frozenState() *restapi.Frozen {
	z := f.freeze
	if !z.Recorded {
		return nil
	}
	return &restapi.Frozen{
		Epoch: z.Epoch, LeaderRevision: z.LeaderRevision, Since: z.Since, Proven: z.Proven, Voted: z.VoteSent,
		Timeline: z.Timeline, LSN: z.LSN,
	}
}

// syncState is what a leader shows of its electorate; zero where it leads no synchronous cluster.
func (f *facts) syncState(v election.View) restapi.SyncState {
	e := f.cluster.Sync.Electorate
	if !v.Own.Held() || f.cluster.Sync.Leader != v.Self.Name || e == nil || len(e.Sets) == 0 {
		return restapi.SyncState{}
	}
	set := e.Sets[len(e.Sets)-1]
	s := restapi.SyncState{Voters: set.Names(), Wait: set.Wait, Quorum: set.Quorum, Lowered: f.obs.Lowered}
	if v.Local.Sync.Known {
		s.InForce = election.KnownBool(v.Local.Sync.InForce)
	}
	return s
}

// failsafeUntil is how long failsafe mode counts as active here: after a promise to the primary, or as the
// primary after a round in which everybody promised.
func (f *facts) failsafeUntil(v election.View) election.Instant {
	until := f.failsafe.promised
	if f.failsafe.okAt != 0 && v.Own.Held() && f.failsafe.okAt >= v.Own.Sent {
		until = max(until, f.failsafe.okAt+v.Own.TTL)
	}
	return until
}
