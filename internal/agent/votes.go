package agent

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// castVote publishes where the frozen log ends. Of an unknown outcome nothing follows: the freeze holds
// until the vote is seen, or known to be withdrawn.
func (a *Agent) castVote(ctx context.Context, v election.View, vote election.Vote) {
	key := fmt.Sprintf("cast vote against %d at %s", vote.LeaderRevision, vote.LSN)
	if a.echo.awaits(key, v.Store.Cluster.Revision) {
		return
	}
	if _, busy := a.inflight.Load(key); busy {
		return
	}
	frozen, before, count := false, false, uint64(0)
	a.facts.with(func(f *facts) {
		before = f.freeze.VoteSent
		frozen = f.voteGoesOut(vote)
		count = f.votesSent
	})
	if !frozen {
		return
	}
	a.once(ctx, key, storeCall, func(ctx context.Context) error {
		res, err := a.store.Apply(ctx, dcs.CastVote(v.Store.Cluster, vote))
		if err != nil || !res.Done {
			if !before && (err == nil || errors.Is(err, dcs.ErrUnavailable)) {
				a.facts.with(func(f *facts) { f.voteIsOver(count) })
			}
			if err == nil {
				err = errors.New("the leader or its electorate changed meanwhile")
			}
			return err
		}
		a.echo.sent(key, res.Revision)
		a.metrics.write()
		a.counters.votes.Add(1)
		a.log.Warn("voted for a takeover", zap.Int64("leader_revision", vote.LeaderRevision), zap.Uint64("epoch", vote.Epoch),
			zap.Uint32("timeline", uint32(vote.Timeline)), zap.Stringer("lsn", vote.LSN))
		return nil
	})
}

// withdrawVote empties the own vote key. Only when that is known to be done does a vote count as
// withdrawn: one that is still on its way cannot arrive after it.
func (a *Agent) withdrawVote(ctx context.Context, v election.View, act election.WithdrawVote) {
	key := fmt.Sprintf("withdraw vote %d", act.Revision)
	if a.echo.awaits(key, v.Store.Cluster.Revision) {
		return
	}
	var count uint64
	a.facts.with(func(f *facts) { count = f.votesSent })
	a.once(ctx, key, storeCall, func(ctx context.Context) error {
		res, err := a.store.Apply(ctx, dcs.WithdrawVote(v.Self.Name, act.Revision, act.LeaderRevision))
		if err != nil {
			return err
		}
		if !res.Done {
			return errors.New("the vote or the leader is not the one seen any more")
		}
		a.echo.sent(key, res.Revision)
		a.metrics.write()
		a.facts.with(func(f *facts) { f.voteIsOver(count) })
		a.log.Info("vote withdrawn", zap.Int64("leader_revision", act.LeaderRevision))
		return nil
	})
}

// takeOver replaces the leader key by the votes that the plan counted. Of an unknown outcome nothing
// follows: if it was done, the key hangs on the own lease, and the snapshot that shows it leads to
// title.adopt.
func (a *Agent) takeOver(ctx context.Context, v election.View, act election.TakeOver) error {
	a.keeper.turn.Lock()
	defer a.keeper.turn.Unlock()
	lease, sent, ttl, err := a.keeper.fresh(ctx)
	if err != nil {
		return err
	}
	act.Reign.Lease, act.Reign.TTL = lease, ttl
	if why := a.race.begin(v.Store.Cluster.Reign.ModRevision, true, a.promisedUntil); why != "" {
		return errors.New("take over: " + why)
	}
	res, err := a.store.Apply(ctx, dcs.TakeOver(v.Self.Name, lease, v.Store.Cluster, act))
	a.race.end(stillOpen(res, err))
	if c := v.Store.Cluster; stillOpen(res, err) && (act.Over != 0 || c.Release.LeaderRevision != c.Reign.ModRevision) {
		a.facts.with(func(f *facts) { f.takenFromLive(err == nil, act.Over == 0) })
	}
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if !res.Done {
		a.log.Info("the takeover was forestalled: the leader, the electorate or a vote changed")
		if p, err := a.store.Prove(ctx); err == nil {
			a.contradicted(p, v.Own.Revision)
		}
		return nil
	}
	a.metrics.write()
	a.counters.takeovers.Add(1)
	a.log.Warn("took over by votes", zap.Int64("revision", res.Revision), zap.Uint64("epoch", act.Reign.Epoch),
		zap.Int64("over", act.Over), zap.Int("votes", len(act.Votes)))
	if a.keeper.term() != res.RaftTerm {
		a.log.Info("leader key taken in another raft term than the lease was renewed in")
		return nil // it hangs on the own lease, so it is adopted, with a proof of its own
	}
	return a.keeper.take(ctx, election.Own{Revision: res.Revision, Lease: lease, Epoch: act.Reign.Epoch, Sent: sent, TTL: ttl}, false)
}
