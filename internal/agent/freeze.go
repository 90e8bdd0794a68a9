package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// loadFreeze takes up a freeze that an earlier life of the agent began, before anything may write the
// server's configuration (safety review, hole 2). Whether it voted is not known, so it counts as having.
func (a *Agent) loadFreeze() {
	rec, err := a.pg.FreezeRecord()
	if _, serr := os.Stat(filepath.Join(a.pg.Options().StateDir, "data_id.json")); serr == nil {
		// The state directory is that of the life before, so a record of a freeze would be here.
		a.facts.noVote = true
	}
	switch {
	case err != nil:
		a.log.Error("freeze record cannot be read, the server stays frozen", zap.Error(err))
		a.facts.with(func(f *facts) {
			f.freeze = election.Freeze{Recorded: true, VoteSent: true, RestoreOff: true, Since: Now()}
		})
	case rec != nil:
		a.log.Warn("this member froze its server and may have voted", zap.String("against", rec.Leader),
			zap.Int64("leader_revision", rec.LeaderRevision), zap.Uint64("epoch", rec.Epoch))
		since := rec.Since
		if since == 0 {
			since = Now()
		}
		a.facts.with(func(f *facts) {
			f.freeze = election.Freeze{
				Recorded: true, Epoch: rec.Epoch, LeaderRevision: rec.LeaderRevision, VoteSent: true, RestoreOff: true,
				Since: since, Fruitless: rec.Fruitless,
			}
		})
	}
}

// Bounds of one try to freeze and of one try to prove a setting. What is not proven by then is tried again.
const (
	freezeTime  = 3 * time.Second
	setSyncTime = 5 * time.Second
)

// freezeServer records durably that this member follows the holder of a leader key no longer, stops its
// walreceiver and its restore, and proves that. Where the log then ends may be voted with.
func (a *Agent) freezeServer(ctx context.Context, act election.FreezeServer) error {
	a.filesMu.Lock()
	defer a.filesMu.Unlock()
	rec := postgres.FreezeRecord{Epoch: act.Epoch, LeaderRevision: act.LeaderRevision, Leader: act.Leader, Since: Now()}
	again := false
	a.facts.with(func(f *facts) {
		again = f.freeze.Recorded && f.freeze.LeaderRevision == act.LeaderRevision
		rec.Fruitless = f.freeze.Fruitless
		if again {
			rec.Since = f.freeze.Since
		}
		// What the files follow from here on is nobody.
		f.upstream = upstreamRecord{}
		f.local.Upstream, f.local.UpstreamConnURL = "", ""
	})
	if err := saveUpstream(a.pg.Options().StateDir, upstreamRecord{}); err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	frozen, err := a.pg.Freeze(ctx, rec, a.guard.reload)
	if err != nil {
		if kept, rerr := a.pg.FreezeRecord(); rerr != nil || kept != nil && kept.LeaderRevision == rec.LeaderRevision {
			a.setFrozen(rec, nil)
		}
		return fmt.Errorf("freeze: %w", err)
	}
	a.setFrozen(rec, &frozen)
	if !again {
		a.counters.freezes.Add(1)
	}
	a.log.Warn("frozen: this member follows the leader no longer", zap.String("leader", act.Leader),
		zap.Int64("leader_revision", act.LeaderRevision), zap.Uint32("timeline", uint32(frozen.Timeline)),
		zap.Stringer("lsn", frozen.LSN), zap.Duration("took", frozen.Took))
	a.lookOnce(ctx)
	return nil
}

// voidVote makes sure that no vote that this member cast earlier can arrive any more: before its copy of the
// data is replaced, and before it follows anybody in a life that lost the record of what it did. Such a vote
// would still count for a copy that is gone, while the new one acknowledges commits under the same name
// (safety review, hole 9). Only the store's word that it is done will do.
func (a *Agent) voidVote(ctx context.Context, replaced bool) error {
	needed, count := false, uint64(0)
	a.facts.with(func(f *facts) { needed, count = f.cluster.Sync.Active() && (replaced || !f.noVote), f.votesSent })
	if !needed {
		return nil
	}
	vctx, cancel := context.WithTimeout(ctx, 2*storeCall)
	defer cancel()
	s, err := a.store.Load(vctx)
	if err != nil {
		return fmt.Errorf("void the own vote: %w", err)
	}
	name := a.name()
	seen := dcs.Decode(s)
	vote, _ := seen.Vote(name)
	res, err := a.store.Apply(vctx, dcs.WithdrawVote(name, vote.ModRevision, 0))
	switch {
	case err != nil:
		return fmt.Errorf("void the own vote: %w", err)
	case !res.Done:
		return errors.New("void the own vote: it changed meanwhile")
	}
	a.metrics.write()
	a.facts.with(func(f *facts) {
		f.noVote = true
		f.voteIsOver(count)
	})
	return nil
}

// setFrozen makes a freeze a fact; frozen nil: it is recorded and not proven.
func (a *Agent) setFrozen(rec postgres.FreezeRecord, frozen *postgres.Frozen) {
	a.facts.with(func(f *facts) {
		before := f.freeze
		f.freeze = election.Freeze{
			Recorded: true, Epoch: rec.Epoch, LeaderRevision: rec.LeaderRevision, RestoreOff: true,
			Since: rec.Since, Fruitless: rec.Fruitless, LastThaw: before.LastThaw,
		}
		if before.Recorded && before.LeaderRevision == rec.LeaderRevision {
			f.freeze.VoteSent = before.VoteSent
		}
		if frozen != nil {
			f.freeze.Proven, f.freeze.Timeline, f.freeze.LSN = true, frozen.Timeline, frozen.LSN
		}
		f.local.Freeze = f.freeze
	})
}

// voteGoesOut notes that a vote may be on its way from now on. It is refused unless the server is frozen
// at this moment, exactly as the vote says.
func (f *facts) voteGoesOut(vote election.Vote) bool {
	z := &f.freeze
	if !z.Recorded || !z.Proven || z.Epoch != vote.Epoch || z.LeaderRevision != vote.LeaderRevision ||
		z.LSN != vote.LSN || z.Timeline != vote.Timeline {
		return false
	}
	z.VoteSent = true
	f.votesSent++
	f.local.Freeze = *z
	return true
}

// voteIsOver notes that no vote can arrive any more of those that were sent when the count was taken: a
// newer one may be on its way.
func (f *facts) voteIsOver(count uint64) {
	if f.votesSent == count {
		f.freeze.VoteSent, f.local.Freeze.VoteSent = false, false
	}
}

// thaw ends a freeze that came to nothing. A vote that was sent must be known to be withdrawn before.
func (a *Agent) thaw(ctx context.Context, why string) error {
	a.filesMu.Lock()
	defer a.filesMu.Unlock()
	var before election.Freeze
	a.facts.with(func(f *facts) {
		before = f.freeze
		if before.Recorded && !before.VoteSent {
			f.freeze = election.Freeze{Fruitless: before.Fruitless + 1, LastThaw: Now()}
			f.local.Freeze = f.freeze
		}
	})
	switch {
	case !before.Recorded:
		return nil
	case before.VoteSent:
		return errors.New("thaw: the vote is not known to be withdrawn")
	}
	if err := a.pg.RemoveFreezeRecord(); err != nil {
		a.facts.with(func(f *facts) { f.freeze, f.local.Freeze = before, before })
		return fmt.Errorf("thaw: %w", err)
	}
	a.counters.fruitless.Add(1)
	a.log.Warn("thawed: the freeze came to nothing", zap.String("why", why), zap.Duration("frozen_for", Now()-before.Since),
		zap.Int("fruitless", before.Fruitless+1))
	a.lookOnce(ctx)
	return nil
}

// released notes that the server follows another leader than the one it froze against, or leads itself.
// The record stays until the archive may be used again.
func (f *facts) released(leaderRevision int64) {
	if f.freeze.Recorded && f.freeze.LeaderRevision != leaderRevision {
		f.freeze = election.Freeze{RestoreOff: true}
		f.local.Freeze = f.freeze
	}
}

// tendFreeze gives the archive back once this member streams from the new leader on its timeline: before,
// the old one may have archived log beyond the point where their histories part (safety review, hole 17).
func (a *Agent) tendFreeze(ctx context.Context, v election.View) {
	z, c := v.Local.Freeze, v.Store.Cluster
	leads := v.Own.Held() && v.Local.Server == election.ServerRunning && v.Local.Role == election.RolePrimary
	if z.Recorded && leads {
		// Recorded by a freeze that ended only after this member came to lead.
		a.facts.with(func(f *facts) { f.released(v.Own.Revision) })
	}
	if !z.RestoreOff || z.Recorded {
		return
	}
	leader, ok := c.Member(c.Leader.Name)
	follows := ok && v.Local.Streaming && leader.Role == "primary" && leader.Timeline != 0 && v.Local.Timeline == leader.Timeline
	if !leads && !follows {
		return
	}
	a.once(ctx, "end freeze", fencerCall, func(context.Context) error {
		a.filesMu.Lock()
		defer a.filesMu.Unlock()
		if err := a.pg.RemoveFreezeRecord(); err != nil {
			return fmt.Errorf("end freeze: %w", err)
		}
		a.facts.with(func(f *facts) {
			f.freeze, f.local.Freeze = election.Freeze{}, election.Freeze{}
			f.appliedConfig = 0 // the files are written with the archive again
		})
		return nil
	})
}
