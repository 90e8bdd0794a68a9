package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
)

// armed is the epoch that the fencer was armed with for this title.
func (k *keeper) armed() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.armEpoch
}

// claimRevision is the revision of the bootstrap claim this life of the agent made, zero if none.
func (k *keeper) claimRevision() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.claim {
		return 0
	}
	return k.own.Revision
}

// refreshToken gives the fencer the title as it is now, under the same epoch, for the agent that
// comes after a restart: it must find the lease that the key really hangs on.
func (k *keeper) refreshToken(ctx context.Context) {
	k.arming.Lock()
	defer k.arming.Unlock()
	k.mu.Lock()
	own, epoch := k.own, k.armEpoch
	k.mu.Unlock()
	if !own.Held() || epoch == 0 {
		return
	}
	if _, err := k.a.guard.arm(ctx, fencer.Token{
		Epoch: epoch, Lease: int64(own.Lease), LeaderRevision: own.Revision, Until: own.FenceAt(k.margin()),
	}); err != nil {
		k.a.log.Error("fencer did not take the new lease", zap.Error(err))
	}
}

// take records a title that was just won, and arms the fencer with it.
func (k *keeper) take(ctx context.Context, own election.Own, claim bool) error {
	k.mu.Lock()
	k.own, k.claim = own, claim
	k.mu.Unlock()
	if err := k.armTitle(ctx, own); err != nil {
		return err
	}
	if sets, _ := k.a.takeoverSets(); len(sets) > 0 {
		k.now() // only a proof of a moment ago lets this member show itself as the leader
	}
	k.a.poke()
	return nil
}

// armTitle arms the fencer with a title that was just won, unless somebody who needed it armed was faster.
func (k *keeper) armTitle(ctx context.Context, own election.Own) error {
	k.arming.Lock()
	defer k.arming.Unlock()
	if st, _ := k.a.guard.snapshot(); st.Armed && st.Token.LeaderRevision == own.Revision && st.Token.Epoch == k.armed() {
		return nil
	}
	// The title is there whatever is left of the caller's patience; the call has its own bound.
	epoch, err := k.a.guard.arm(context.WithoutCancel(ctx), fencer.Token{
		Lease: int64(own.Lease), LeaderRevision: own.Revision, Until: own.FenceAt(k.margin()),
	})
	if err != nil {
		return fmt.Errorf("arm the fencer: %w", err)
	}
	k.mu.Lock()
	if k.own.Revision == own.Revision {
		k.armEpoch = epoch
	}
	k.mu.Unlock()
	return nil
}

// adopt takes up a leader key that hangs on the own lease: nobody else ever puts a key under it.
func (k *keeper) adopt(ctx context.Context, revision int64) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	lease, _, _, err := k.fresh(ctx)
	if err != nil {
		return err
	}
	sent := Now()
	granted, ok, err := k.prove(ctx, lease, revision)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("the leader key is not on this agent's lease any more")
	}
	own := election.Own{Revision: revision, Lease: lease, Sent: sent, TTL: granted}
	k.mu.Lock()
	gave := k.gave == revision
	k.mu.Unlock()
	if gave {
		// A release or hand-over of this very key was given up on and may still be on its way.
		revision, settled := k.burnOnce(ctx, own)
		if !settled || revision == 0 {
			return errors.New("it is not known whether the leader key was given away")
		}
		own.Revision = revision
	}
	k.a.facts.with((*facts).adopted)
	return k.take(ctx, own, false)
}

// ensureArmed gives the fencer the present title again if it does not hold it.
func (k *keeper) ensureArmed(ctx context.Context) (uint64, error) {
	k.arming.Lock()
	defer k.arming.Unlock()
	k.mu.Lock()
	own, epoch := k.own, k.armEpoch
	k.mu.Unlock()
	if !own.Held() {
		return 0, errors.New("no title to the leader key")
	}
	if k.givingAway(own.Revision) {
		return 0, errors.New("it is not known yet whether the leader key was given away")
	}
	st, alive := k.a.guard.snapshot()
	if alive && st.Armed && st.Token.Epoch == epoch && epoch != 0 {
		return epoch, k.a.guard.mayLead(ctx)
	}
	epoch, err := k.a.guard.arm(ctx, fencer.Token{
		Lease: int64(own.Lease), LeaderRevision: own.Revision, Until: own.FenceAt(k.margin()),
	})
	if err != nil {
		return 0, fmt.Errorf("arm the fencer: %w", err)
	}
	k.mu.Lock()
	k.armEpoch = epoch
	k.mu.Unlock()
	if k.givingAway(own.Revision) { // a release that began meanwhile may not have seen this epoch
		return 0, errors.Join(errors.New("the leader key is being given away"), k.a.guard.disarm(ctx, epoch))
	}
	return epoch, k.a.guard.mayLead(ctx)
}

// giveAway notes that the leader key of a revision may be given away from now on; settled ends that.
func (k *keeper) giveAway(revision int64) {
	k.mu.Lock()
	k.giving = revision
	if revision != 0 {
		k.gave = revision
	}
	k.mu.Unlock()
}

func (k *keeper) givingAway(revision int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.giving != 0 && k.giving == revision
}

// burn resolves a hand-over or release whose outcome is not known. A read alone would not do: the request
// may still be on its way. Writing the key anew under the same lease makes its revision another, so
// that the old request can never be carried out; if that fails, it was carried out already. The reign is
// written with it, since votes are cast against the one revision that both keys bear.
func (k *keeper) burn(ctx context.Context, own election.Own) (kept bool, err error) {
	for {
		revision, settled := k.burnOnce(ctx, own)
		if settled {
			k.mu.Lock()
			if revision != 0 && k.own.Revision == own.Revision {
				k.own.Revision = revision
			}
			k.giving = 0
			k.mu.Unlock()
			if revision != 0 {
				k.refreshToken(ctx)
			}
			return revision != 0, nil
		}
		if !sleepCtx(ctx, 100*time.Millisecond) {
			return false, fmt.Errorf("outcome not known: %w", ctx.Err())
		}
	}
}

// burnOnce returns the revision under which the key is still held, zero if it is not; settled is false if
// that is not known yet.
func (k *keeper) burnOnce(ctx context.Context, own election.Own) (revision int64, settled bool) {
	bctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	s, err := k.a.store.Load(bctx)
	if err != nil {
		return 0, false
	}
	c := dcs.Decode(s)
	switch {
	case !c.Leader.Present || c.Leader.Lease != own.Lease || c.Leader.Name != k.a.name():
		return 0, true
	case c.Leader.ModRevision != own.Revision:
		return c.Leader.ModRevision, true // an earlier try of this was carried out
	}
	res, err := k.a.store.Apply(bctx, dcs.RewriteLeader(c, own, k.a.name()))
	if err != nil || !res.Done {
		return 0, false // looked at again
	}
	return res.Revision, true
}

// reclaim writes the key of a title anew that an earlier life of this agent held: a hand-over, a release
// or a change of the sync key of that life may still be on its way, and compares the old revision. It
// returns the title as it is now, or none.
func (k *keeper) reclaim(ctx context.Context, own election.Own) election.Own {
	k.giveAway(own.Revision)
	kept, err := k.burn(ctx, own)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil || !kept {
		k.a.log.Warn("the leader key went while no agent ran", zap.Error(err))
		k.own, k.giving = election.Own{}, 0
	}
	return k.own
}

// rearm is called when the connection to a fencer stands anew: a fencer that restarted has its
// token from its file; if it has none, it gets it again.
func (k *keeper) rearm(ctx context.Context) {
	select {
	case <-k.settled:
	default:
		return
	}
	k.mu.Lock()
	own := k.own
	k.mu.Unlock()
	if !own.Held() {
		return
	}
	if _, err := k.ensureArmed(ctx); err != nil {
		k.a.log.Error("fencer not armed again", zap.Error(err))
		return
	}
	k.now()
}

// drop forgets the title. The server is down or in recovery; the fencer checks that itself.
func (k *keeper) drop(ctx context.Context) {
	k.mu.Lock()
	epoch := k.armEpoch
	k.own, k.claim, k.giving = election.Own{}, false, 0
	if k.a.paused() && !k.a.guard.isDown() {
		// Hands off: the server is left as it is, and holdPaused keeps the fencer from it.
		k.mu.Unlock()
		k.a.leaderUntil.Store(0)
		return
	}
	k.armEpoch = 0
	k.mu.Unlock()
	k.a.leaderUntil.Store(0)
	if err := k.a.guard.disarm(ctx, epoch); err != nil {
		k.a.log.Warn("fencer not disarmed", zap.Error(err))
	}
}
