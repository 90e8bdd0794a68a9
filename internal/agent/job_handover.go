package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
)

// Bounds of a hand-over. If one is passed before the key is given away, the server is started
// again in place: nothing is lost but time.
const (
	shutdownPatience = 30 * time.Second
	caughtUpPatience = 5 * time.Second
)

// handOver is a planned change of the leader (safety review, hole 16): checkpoint, clean
// shutdown, wait until the candidate has the end of the shutdown checkpoint, hand the key over to
// the lease that it offered, in one transaction. Once pg_control says "shut down" no process can
// write any more, so the archiver may go on draining meanwhile.
func (a *Agent) handOver(ctx context.Context, v election.View, act election.HandOver) error {
	c := v.Store.Cluster
	target, ok := c.Member(act.Candidate)
	if !ok {
		return fmt.Errorf("hand over: %s is not a member any more", act.Candidate)
	}
	if err := a.candidateReachable(ctx, target); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	before, err := a.pg.Control()
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	a.checkpointFirst(ctx)
	start := Now()
	a.leaderUntil.Store(0)
	a.setState(election.StateStopping)
	a.publish()
	a.beforeStop(ctx)
	if err := a.guard.stop(ctx, fencer.Fast); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	end, control, err := a.waitShutDown(ctx, before)
	if err != nil {
		return a.settleDown(ctx, fmt.Errorf("hand over: %w", err))
	}
	stopped := Now() - start
	if err := a.waitCaughtUp(ctx, target, end); err != nil {
		return a.settleDown(ctx, fmt.Errorf("hand over: %w", err))
	}
	caught := Now() - start
	if err := a.giveKey(ctx, v, act, end, control); err != nil {
		return a.settleDown(ctx, err)
	}
	a.log.Info("leader key handed over", zap.String("to", act.Candidate), zap.Duration("shutdown", stopped),
		zap.Duration("caught_up", caught), zap.Duration("handed_over", Now()-start), zap.Stringer("checkpoint_end", end))
	if err := a.settleDown(ctx, nil); err != nil {
		return fmt.Errorf("after the hand-over: %w", err)
	}
	a.keeper.drop(context.WithoutCancel(ctx))
	return nil
}

// settleDown ends a hand-over that failed after the server was told to stop: what is left of it is
// brought down, so that the next decision starts from a known state.
func (a *Agent) settleDown(ctx context.Context, cause error) error {
	ctx = context.WithoutCancel(ctx)
	wctx, cancel := context.WithTimeout(ctx, fastPatience)
	err := a.guard.waitDown(wctx)
	cancel()
	if err == nil {
		return cause
	}
	// A context of its own: what is left of the wait's is nothing.
	kctx, cancel := context.WithTimeout(ctx, killPatience)
	defer cancel()
	return errors.Join(cause, a.guard.kill(kctx))
}

// candidateReachable refuses before anything is touched if the candidate does not answer.
func (a *Agent) candidateReachable(ctx context.Context, m election.Member) error {
	pctx, cancel := context.WithTimeout(ctx, 4*probeTime)
	defer cancel()
	s, err := a.peers.Peer(pctx, m.APIURL)
	if err != nil {
		return fmt.Errorf("candidate %s does not answer: %w", m.Name, err)
	}
	if !s.Answering || s.Role == "primary" {
		return fmt.Errorf("candidate %s is no running standby", m.Name)
	}
	return nil
}

// waitShutDown waits until pg_control says that this run has shut down cleanly.
func (a *Agent) waitShutDown(ctx context.Context, before postgres.ControlData) (election.LSN, postgres.ControlData, error) {
	wctx, cancel := context.WithTimeout(ctx, shutdownPatience)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		c, err := a.pg.Control()
		if err == nil && c.State == postgres.ControlShutDown && c.Checkpoint > before.Checkpoint {
			end, err := a.pg.ShutdownCheckpointEnd(c)
			if err == nil {
				return end, c, nil
			}
			return 0, c, err
		}
		if a.guard.isDown() && (err != nil || c.State != postgres.ControlShutDown) {
			return 0, c, errors.New("the server went down without a clean shutdown")
		}
		select {
		case <-wctx.Done():
			return 0, c, fmt.Errorf("clean shutdown: %w", wctx.Err())
		case <-tick.C:
		}
	}
}

// waitCaughtUp waits until the candidate has received the log up to end. A Patroni is asked again
// and again; a pgha member answers when it is there.
func (a *Agent) waitCaughtUp(ctx context.Context, m election.Member, end election.LSN) error {
	if m.IsPgha() {
		got, ok, err := a.peers.CaughtUp(ctx, m.APIURL, end, caughtUpPatience)
		if err != nil {
			return fmt.Errorf("candidate %s: %w", m.Name, err)
		}
		if !ok {
			return fmt.Errorf("candidate %s received the log up to %s only, the shutdown checkpoint ends at %s", m.Name, got, end)
		}
		return nil
	}
	wctx, cancel := context.WithTimeout(ctx, caughtUpPatience)
	defer cancel()
	for {
		s, err := a.peers.Peer(wctx, m.APIURL)
		if err == nil && max(s.Received, s.Replayed) >= end {
			return nil
		}
		if !sleepCtx(wctx, 50*time.Millisecond) {
			return fmt.Errorf("candidate %s did not receive the shutdown checkpoint: %w", m.Name, errors.Join(err, wctx.Err()))
		}
	}
}

// giveKey puts the leader key under the candidate's lease, or releases it to a Patroni. After an
// outcome that is not known the server stays down until a read says which it was.
func (a *Agent) giveKey(ctx context.Context, v election.View, act election.HandOver, end election.LSN, ctl postgres.ControlData) error {
	c := v.Store.Cluster
	own, _ := a.keeper.title()
	if !own.Held() || own.Revision != v.Own.Revision {
		return errors.New("hand over: the leader key is not this member's any more")
	}
	status := dcs.WithOptime(c.Status, ctl.Checkpoint)
	rec := election.Release{Name: v.Self.Name, Checkpoint: end, Timeline: ctl.Timeline, Reason: "switchover to " + act.Candidate}
	var txn dcs.Txn
	if act.OfferRevision == 0 {
		txn = dcs.ReleaseLeader(own.Revision, rec, &status)
	} else {
		offer, ok := c.Offer(act.Candidate)
		if !ok || offer.ModRevision != act.OfferRevision {
			return errors.New("hand over: the offer is not the one decided on")
		}
		txn = dcs.HandOver(dcs.HandOverSpec{
			LeaderRevision: own.Revision, Offer: offer, Seen: c, Release: rec, Status: &status, ClearFailover: true,
			Sync: act.Sync,
			Reign: election.Reign{
				Epoch: c.Reign.Epoch + 1, Holder: act.Candidate, ParentTimeline: ctl.Timeline,
				NextTimeline: max(c.Reign.NextTimeline, ctl.Timeline) + 1, LSN: end, Lease: offer.Lease,
				TTL: max(v.Policy.TTL, c.Reign.TTL),
			},
		})
	}
	a.keeper.giveAway(own.Revision)
	gctx, cancel := context.WithTimeout(ctx, storeCall)
	res, err := a.store.Apply(gctx, txn)
	cancel()
	switch {
	case err == nil && res.Done:
		a.metrics.write()
		return nil
	case err == nil:
		a.keeper.giveAway(0)
		return a.whatChanged(ctx, txn)
	case errors.Is(err, dcs.ErrUnavailable):
		a.keeper.giveAway(0)
		return fmt.Errorf("hand over: %w", err)
	}
	kept, berr := a.keeper.burn(ctx, own)
	switch {
	case berr != nil:
		return fmt.Errorf("hand over: %w", berr)
	case kept:
		return fmt.Errorf("hand over: not carried out: %w", err)
	}
	a.log.Info("leader key was handed over after all", zap.String("to", act.Candidate))
	return nil
}

// whatChanged names the conditions of a transaction that do not hold.
func (a *Agent) whatChanged(ctx context.Context, txn dcs.Txn) error {
	lctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	s, err := a.store.Load(lctx)
	if err != nil {
		return fmt.Errorf("hand over: something changed meanwhile: %w", err)
	}
	var changed []string
	for _, c := range txn.If {
		kv, _ := s.Get(c.Key)
		switch {
		case c.Kind == dcs.CmpModRevision && kv.ModRevision != c.Revision:
			changed = append(changed, fmt.Sprintf("%s (revision %d, was %d)", c.Key, kv.ModRevision, c.Revision))
		case c.Kind == dcs.CmpLease && kv.Lease != c.Lease:
			changed = append(changed, fmt.Sprintf("%s (lease)", c.Key))
		}
	}
	return fmt.Errorf("hand over: changed meanwhile: %s", strings.Join(changed, ", "))
}
