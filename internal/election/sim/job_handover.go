package sim

import (
	"errors"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

const (
	shutdownPatience = 30 * time.Second
	caughtUpPatience = 5 * time.Second
)

// handOver is a planned change of the leader: clean shutdown, wait until the candidate has the end
// of the shutdown checkpoint, give the key to the lease it offered in one transaction.
func (a *agent) handOver(t *task, v *election.View, act election.HandOver) error {
	target := a.w.node(act.Candidate)
	if target == nil {
		return errNot("hand over: no such member")
	}
	o := a.w.net.rpc(t, target.index, 4*probeTime, func(c *call) {
		if target.agent == nil || !target.agent.p.alive {
			c.refuse()
			return
		}
		target.agent.p.run(c.reply)
	})
	if o != answered {
		return errNot("hand over: the candidate does not answer")
	}
	before := a.n.disk.ctl.checkpoint
	a.checkpointFirst(t)
	a.setUntil(0)
	a.setState(election.StateStopping)
	a.publish()
	if err := a.fence(t, func(f *fencer) error { f.n.pg.stopFast(); return nil }); err != nil {
		return err
	}
	end, err := a.waitShutDown(t, before)
	if err != nil {
		return a.settleDown(t, err)
	}
	if err := a.waitCaughtUp(t, target, end); err != nil {
		return a.settleDown(t, err)
	}
	if err := a.giveKey(t, v, act, end); err != nil {
		return a.settleDown(t, err)
	}
	a.note("leader key handed over to %s", act.Candidate)
	t.shielded = true
	if !a.waitDown(t, fastPatience) {
		if err := a.killServer(t, killPatience); err != nil {
			return err
		}
	}
	a.drop(t)
	return nil
}

// settleDown brings down what is left after a hand-over that failed half way.
func (a *agent) settleDown(t *task, cause error) error {
	t.shielded = true
	if !a.waitDown(t, fastPatience) {
		_ = a.killServer(t, killPatience)
	}
	t.shielded = false
	return cause
}

// waitShutDown waits until pg_control says that this run has shut down cleanly.
func (a *agent) waitShutDown(t *task, before election.LSN) (election.LSN, error) {
	limit := a.now() + shutdownPatience
	for {
		c := a.n.disk.ctl
		switch {
		case a.w.bug(BugHandOverEarly):
			return a.n.disk.end(), nil
		case c.state == shutDown && c.checkpoint > before:
			return c.end, nil
		case a.isDown() && c.state != shutDown:
			return 0, errNot("hand over: no clean shutdown")
		case a.now() > limit || !t.sleep(5*time.Millisecond):
			return 0, errNot("hand over: the shutdown takes too long")
		}
	}
}

// waitCaughtUp waits until the candidate says that it has received the log up to end.
func (a *agent) waitCaughtUp(t *task, target *node, end election.LSN) error {
	if a.w.bug(BugHandOverEarly) {
		return nil
	}
	limit := a.now() + caughtUpPatience
	for a.now() < limit {
		var got election.LSN
		o := a.w.net.rpc(t, target.index, time.Second, func(c *call) {
			if b := target.agent; b != nil {
				b.p.run(func() {
					if target.pg.state == srvStandby {
						got = target.pg.receivedLSN()
					}
					c.reply()
				})
			}
		})
		if o == answered && got >= end {
			return nil
		}
		if !t.sleep(5 * time.Millisecond) {
			break
		}
	}
	return errNot("hand over: the candidate did not receive the shutdown checkpoint")
}

// giveKey puts the leader key under the candidate's lease. After an outcome that is not known the
// server stays down until a read says which it was.
func (a *agent) giveKey(t *task, v *election.View, act election.HandOver, end election.LSN) error {
	c, own, ctl := v.Store.Cluster, a.own, a.n.disk.ctl
	if a.claim || !own.Held() || own.Revision != v.Own.Revision {
		return errNot("hand over: the leader key is not this member's any more")
	}
	offer, ok := c.Offer(act.Candidate)
	if !ok || offer.ModRevision != act.OfferRevision {
		return errNot("hand over: the offer is not the one decided on")
	}
	status := dcs.WithOptime(c.Status, ctl.checkpoint)
	txn := dcs.HandOver(dcs.HandOverSpec{
		LeaderRevision: own.Revision, Offer: offer, Seen: c, Status: &status, Sync: act.Sync, ClearFailover: true,
		Release: election.Release{Name: v.Self.Name, Checkpoint: end, Timeline: ctl.tl, Reason: "switchover to " + act.Candidate},
		Reign: election.Reign{
			Epoch: c.Reign.Epoch + 1, Holder: act.Candidate, ParentTimeline: ctl.tl,
			NextTimeline: max(c.Reign.NextTimeline, ctl.tl) + 1, LSN: end, Lease: offer.Lease,
			TTL: max(v.Policy.TTL, c.Reign.TTL),
		},
	})
	a.giving = own.Revision
	res, err := a.store.apply(t, storeCall, txn)
	switch {
	case err == nil && res.Done:
		return nil
	case err == nil:
		a.giving = 0
		return errNot("hand over: something changed meanwhile")
	}
	kept, berr := a.resolve(t, own, err)
	switch {
	case berr != nil:
		return berr
	case kept:
		return errNot("hand over: the transaction was not carried out")
	}
	return nil
}

func (a *agent) givingAway(revision int64) bool { return a.giving != 0 && a.giving == revision }

// resolve finds out whether a request that was to give the key away was carried out. A read would not
// do: the request may still be on its way. Writing the key anew under the same lease makes its
// revision another, so that the old request can never be carried out; if that fails, it was carried
// out already.
func (a *agent) resolve(t *task, own election.Own, cause error) (kept bool, err error) {
	if errors.Is(cause, dcs.ErrUnavailable) || a.w.bug(BugUnknownIsFailure) {
		a.giving = 0
		return true, nil
	}
	if a.w.bug(BugReadOutcome) {
		return a.readOutcome(t, own)
	}
	for {
		revision, settled := a.burnOnce(t, own)
		if settled {
			a.giving = 0
			if revision != 0 && a.own.Revision == own.Revision {
				a.own.Revision = revision
				a.refreshToken(t)
			}
			return revision != 0, nil
		}
		if !t.sleep(100 * time.Millisecond) {
			return false, errNot("the outcome is not known")
		}
	}
}

// burnOnce gives the revision under which the key is still held, zero if it is not; settled is false if
// that is not known yet.
func (a *agent) burnOnce(t *task, own election.Own) (revision int64, settled bool) {
	var c election.Cluster
	if err := a.store.call(t, storeCall, false, func() error {
		c = *a.w.store.decoded()
		return nil
	}); err != nil {
		return 0, false
	}
	switch {
	case !c.Leader.Present || c.Leader.Lease != own.Lease || c.Leader.Name != a.n.name:
		return 0, true
	case c.Leader.ModRevision != own.Revision:
		return c.Leader.ModRevision, true // an earlier try of this was carried out
	}
	res, err := a.store.apply(t, storeCall, dcs.RewriteLeader(c, own, a.n.name))
	if err != nil || !res.Done {
		return 0, false // looked at again
	}
	return res.Revision, true
}

// readOutcome is what resolve must not do.
func (a *agent) readOutcome(t *task, own election.Own) (bool, error) {
	for {
		p, err := a.store.prove(t, storeCall)
		if err == nil {
			a.giving = 0
			return p.Present && p.Leader.ModRevision == own.Revision, nil
		}
		if !t.sleep(100 * time.Millisecond) {
			return false, errNot("the outcome is not known")
		}
	}
}
