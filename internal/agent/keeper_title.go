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
	k.a.poke()
	return nil
}

// adopt takes up a leader key that hangs on the own lease: nobody else ever puts a key under it.
func (k *keeper) adopt(ctx context.Context, revision int64) error {
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
	return k.take(ctx, election.Own{Revision: revision, Lease: lease, Sent: sent, TTL: granted}, false)
}

// ensureArmed gives the fencer the present title again if it does not hold it.
func (k *keeper) ensureArmed(ctx context.Context) (uint64, error) {
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
		return epoch, nil
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
	return epoch, nil
}

// giveAway notes that the leader key of a revision may be given away from now on; settled ends that.
func (k *keeper) giveAway(revision int64) {
	k.mu.Lock()
	k.giving = revision
	k.mu.Unlock()
}

func (k *keeper) givingAway(revision int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.giving != 0 && k.giving == revision
}

// burn resolves a hand-over or release whose outcome is not known. A read would not do: the request
// may still be on its way. Writing the key anew under the same lease makes its revision another, so
// that the old request can never be carried out; if that fails, it was carried out already.
func (k *keeper) burn(ctx context.Context, own election.Own) (kept bool, err error) {
	txn := dcs.Txn{
		If:   []dcs.Cmp{{Key: dcs.KeyLeader, Kind: dcs.CmpModRevision, Revision: own.Revision}},
		Then: []dcs.Op{{Key: dcs.KeyLeader, Value: []byte(k.a.name()), Lease: own.Lease}},
	}
	for {
		actx, cancel := context.WithTimeout(ctx, storeCall)
		res, err := k.a.store.Apply(actx, txn)
		cancel()
		if err == nil {
			k.mu.Lock()
			if res.Done && k.own.Revision == own.Revision {
				k.own.Revision = res.Revision
			}
			k.giving = 0
			k.mu.Unlock()
			if res.Done {
				k.refreshToken(ctx)
			}
			return res.Done, nil
		}
		if !sleepCtx(ctx, 100*time.Millisecond) {
			return false, fmt.Errorf("outcome not known: %w", ctx.Err())
		}
	}
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
