package sim

import (
	"slices"

	"github.com/pgha/pgha/internal/election"
)

// bendSync changes what the core is told, for the bugs of the synchronous modes that live there.
func (w *World) bendSync(v *election.View) {
	if w.bug(BugForgetFreeze) {
		v.Store.Cluster.Votes = slices.DeleteFunc(slices.Clone(v.Store.Cluster.Votes), func(o election.Vote) bool { return o.Name == v.Self.Name && !v.Local.Freeze.Recorded })
	}
	if w.cfg.Bug != BugQuorumByConfig || v.Store.Cluster.Sync.Electorate == nil {
		return
	}
	e := *v.Store.Cluster.Sync.Electorate
	e.Sets = slices.Clone(e.Sets)
	for i, s := range e.Sets {
		wait := min(max(v.Policy.Sync.Nodes, 1), len(s.Voters))
		if v.Policy.Sync.Mode == election.SyncOn {
			wait = len(s.Voters)
		}
		e.Sets[i].Quorum = len(s.Voters) - wait + 1
	}
	v.Store.Cluster.Sync.Electorate = &e
}

// bendSyncPlan changes what the core said.
func (w *World) bendSyncPlan(a *agent, v *election.View, p *election.Plan) {
	switch w.cfg.Bug {
	case BugPublishEarly, BugLoosenFirst, BugReplaceAtOnce:
		for i, act := range p.Actions {
			if write, ok := act.(election.WriteSync); ok {
				p.Actions[i] = w.bendWrite(v, write)
			}
		}
	case BugWinnerBehind:
		if v.Local.Freeze.Proven && !v.Own.Held() && (p.Rule == "freeze.wait_votes" || p.Rule == "freeze.yield" || p.Rule == "race.wait_votes") {
			if act, ok := anyWinner(v, a.lease); ok {
				p.Actions = []election.Action{act}
			}
		}
	}
}

// bendWrite turns one step of a change of the set into another.
func (w *World) bendWrite(v *election.View, write election.WriteSync) election.Action {
	e := write.State.Electorate
	switch {
	case e == nil:
	case w.bug(BugPublishEarly) && len(e.Sets) > 1:
		next := *e
		next.Sets = e.Sets[len(e.Sets)-1:]
		write.State.Electorate = &next
	case w.bug(BugLoosenFirst) && len(e.Sets) == 0 && v.Local.Sync.Setting.Wait > 0:
		return election.SetSync{}
	case w.bug(BugReplaceAtOnce) && len(e.Sets) > 1:
		last := e.Sets[len(e.Sets)-1]
		return election.SetSync{Setting: election.SyncSetting{Any: v.Policy.Sync.Mode == election.SyncQuorum, Wait: last.Wait, Names: last.Names()}}
	}
	return write
}

// anyWinner is a takeover by whoever counts enough votes, however far the others are.
func anyWinner(v *election.View, lease election.LeaseID) (election.TakeOver, bool) {
	votes := election.CountVotes(*v)
	e, ok := election.VotingElectorate(*v)
	if !ok || lease == 0 || !e.Satisfied(votes) || !slices.ContainsFunc(votes, func(o election.Vote) bool { return o.Name == v.Self.Name }) {
		return election.TakeOver{}, false
	}
	c := &v.Store.Cluster
	reign := election.Reign{
		Epoch: c.Reign.Epoch + 1, Holder: v.Self.Name, ParentTimeline: v.Local.Timeline,
		NextTimeline: max(c.Reign.NextTimeline, v.Local.Timeline) + 1, LSN: v.Local.LSN, Lease: lease,
	}
	next := election.Electorate{Epoch: reign.Epoch, LeaderData: v.Local.DataID}
	return election.TakeOver{
		Reign: reign, Over: c.Leader.ModRevision, Votes: votes, Sync: election.SyncState{Leader: v.Self.Name, Electorate: &next},
	}, true
}
