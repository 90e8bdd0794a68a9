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

// term is the raft term in which the lease was last kept alive.
func (k *keeper) term() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.raft
}

func (k *keeper) setTerm(term uint64) {
	k.mu.Lock()
	k.raft = term
	k.mu.Unlock()
}

// grant makes a lease.
func (k *keeper) grant(ctx context.Context, ttl time.Duration) error {
	sent := Now()
	cctx, cancel := context.WithTimeout(ctx, max(ttl/3, time.Second))
	defer cancel()
	g, err := k.a.store.Grant(cctx, ttl)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	k.mu.Lock()
	k.lease, k.leaseTTL, k.leaseSent, k.asked = g.ID, g.TTL, sent, ttl
	k.mu.Unlock()
	k.a.facts.with(func(f *facts) { f.memberStale = true })
	k.a.poke()
	return nil
}

// wantsTTL says that the lease was asked for with another time to live than is configured now. What
// the store granted is no measure: it may have a minimum of its own.
func (k *keeper) wantsTTL(ttl time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked != 0 && k.asked != ttl
}

// lost: the store says that the lease or the key is not what it was.
func (k *keeper) lost(ctx context.Context, lease election.LeaseID) {
	gone, err := k.a.store.LeaseGone(ctx, lease)
	if err != nil || !gone {
		k.a.poke()
		return
	}
	k.mu.Lock()
	if k.lease == lease {
		k.lease = 0
	}
	k.mu.Unlock()
	k.a.log.Warn("lease is gone", zap.Int64("lease", int64(lease)))
	k.a.poke()
}

// changeTTL moves to a lease with the new time to live. The old lease is kept until the key is
// known to hang on the new one, and the smaller of both counts until then (safety review, hole 4).
func (k *keeper) changeTTL(ctx context.Context, ttl time.Duration) {
	if !k.turn.TryLock() {
		return // a title is being won: the next round sees to it
	}
	defer k.turn.Unlock()
	sent := Now()
	cctx, cancel := context.WithTimeout(ctx, max(ttl/3, time.Second))
	defer cancel()
	g, err := k.a.store.Grant(cctx, ttl)
	if err != nil {
		k.a.log.Warn("lease with the new ttl not granted", zap.Error(err))
		return
	}
	// The new lease is ours from here on: the watch may show the key on it before the answer to
	// the transaction is here.
	k.mu.Lock()
	before, beforeTTL, beforeSent, beforeAsked := k.lease, k.leaseTTL, k.leaseSent, k.asked
	k.lease, k.leaseTTL, k.leaseSent, k.asked = g.ID, g.TTL, sent, ttl
	k.own.TTL = min(k.own.TTL, g.TTL)
	own := k.own
	k.mu.Unlock()
	if own.Held() {
		revision, err := k.rehang(ctx, own, g, sent)
		if err != nil {
			k.mu.Lock()
			k.lease, k.leaseTTL, k.leaseSent, k.asked = before, beforeTTL, beforeSent, beforeAsked // the next round tries again
			k.mu.Unlock()
			k.a.log.Warn("leader key not moved to the lease with the new ttl", zap.Error(err))
			return
		}
		k.mu.Lock()
		if k.own.Revision == own.Revision {
			k.own.Revision, k.own.Lease, k.own.TTL, k.own.Sent = revision, g.ID, g.TTL, sent
		}
		k.mu.Unlock()
		k.refreshToken(ctx)
	}
	k.a.facts.with(func(f *facts) { f.memberStale = true })
	k.now()
}

// rehang hangs the leader key on a new lease. An answer that was lost is looked for until the old title
// is over: the key hangs on one of the two leases, and only that one may be kept alive.
func (k *keeper) rehang(ctx context.Context, own election.Own, g dcs.Grant, sent election.Instant) (int64, error) {
	reign := k.a.reign()
	reign.TTL = g.TTL
	if err := k.shorten(ctx, own, sent, g.TTL); err != nil {
		return 0, err
	}
	k.a.refreshLeaderUntil() // /primary must not outlast the shorter lease, whatever else stands still
	txn := dcs.RehangLeader(k.a.name(), g.ID, own.Revision, reign)
	for {
		actx, cancel := context.WithTimeout(ctx, storeCall)
		res, err := k.a.store.Apply(actx, txn)
		var p dcs.Proof
		if err == nil && !res.Done {
			p, err = k.a.store.Prove(actx)
		}
		cancel()
		switch {
		case err == nil && res.Done:
			return res.Revision, nil
		case err == nil && p.Present && p.Leader.Lease == g.ID:
			return p.Leader.ModRevision, nil // an earlier try was carried out
		case err == nil:
			return 0, errors.New("something changed meanwhile")
		case Now() >= own.DemoteAt(k.margin()):
			return 0, err
		}
		if !sleepCtx(ctx, 100*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// shorten brings the fencer's deadline forward before the key hangs on a shorter lease. A renewal
// never moves it back, so this takes a new epoch: without it the fencer would let a server whose
// agent dies now write on beyond the new lease's end.
func (k *keeper) shorten(ctx context.Context, own election.Own, sent election.Instant, ttl time.Duration) error {
	next := election.Own{Sent: sent, TTL: ttl}
	k.arming.Lock()
	defer k.arming.Unlock()
	k.mu.Lock()
	epoch := k.armEpoch
	k.mu.Unlock()
	st, _ := k.a.guard.snapshot()
	if epoch == 0 || !st.Armed || st.Token.Until <= next.FenceAt(k.margin()) {
		return nil
	}
	epoch, err := k.a.guard.arm(ctx, fencer.Token{
		Lease: int64(own.Lease), LeaderRevision: own.Revision, Until: next.FenceAt(k.margin()),
	})
	if err != nil {
		return fmt.Errorf("bring the deadline forward: %w", err)
	}
	k.mu.Lock()
	k.armEpoch = epoch
	k.mu.Unlock()
	return nil
}

// fresh makes sure that the lease was proven a moment ago, before it is put under a key.
func (k *keeper) fresh(ctx context.Context) (lease election.LeaseID, sent election.Instant, ttl time.Duration, err error) {
	k.mu.Lock()
	lease, sent, ttl = k.lease, k.leaseSent, k.leaseTTL
	k.mu.Unlock()
	if lease == 0 {
		return 0, 0, 0, errors.New("no lease yet")
	}
	if Now()-sent < ttl/10 && k.term() != 0 {
		return lease, sent, ttl, nil
	}
	sent = Now()
	ka, err := k.a.store.KeepAlive(ctx, lease)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("keep-alive: %w", err)
	}
	k.mu.Lock()
	k.leaseSent, k.leaseTTL, k.raft = sent, ka.TTL, ka.RaftTerm
	k.mu.Unlock()
	return lease, sent, ka.TTL, nil
}
