package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
)

// keeper alone keeps the agent's lease alive and proves that the leader key is still the one this
// agent wrote. A round is: note the time, one keep-alive of the lease that carries the key, then
// one linearizable read of the key. Only when both were answered, within one raft term, and the
// key bears the own revision, does the time noted move the deadline; and only when the fencer has
// taken the new deadline over does /primary follow (safety review, holes 4, 6 and 11).
type keeper struct {
	a *Agent

	mu sync.Mutex
	// lease of this agent; zero until granted. leaseSent is when its last proven keep-alive (or
	// its grant) was sent.
	lease     election.LeaseID
	leaseTTL  time.Duration
	leaseSent election.Instant
	// own is the title; its zero value is none. claim is set while the title is the bootstrap
	// claim, which keeps the fencer armed but is no leader key.
	own      election.Own
	armEpoch uint64
	claim    bool
	// giving is the revision of a leader key that a hand-over or release may still give away: while
	// that is not resolved, nothing writable starts under it.
	giving int64
	asked  time.Duration // ttl that the lease was asked with
	raft   uint64        // raft term of the last keep-alive; zero: not known

	kick chan struct{}
	// settled is closed when it is known whether the fencer's token is still a title.
	settled chan struct{}
}

func newKeeper(a *Agent) *keeper {
	return &keeper{a: a, kick: make(chan struct{}, 1), settled: make(chan struct{})}
}

// title is the title to the leader key, and the lease.
func (k *keeper) title() (election.Own, election.LeaseID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	own := k.own
	if k.claim {
		own = election.Own{}
	}
	return own, k.lease
}

// term is the raft term in which the lease was last kept alive.
func (k *keeper) term() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.raft
}

// armed is the epoch that the fencer was armed with for this title.
func (k *keeper) armed() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.armEpoch
}

func (k *keeper) setTerm(term uint64) {
	k.mu.Lock()
	k.raft = term
	k.mu.Unlock()
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

func (k *keeper) margin() time.Duration { return k.a.margin() }

// run first settles whether the fencer's token is still a title, then keeps lease and title.
func (k *keeper) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.a.guard.first:
	}
	k.settle(ctx)
	close(k.settled)
	for {
		k.holdPaused(ctx)
		wait := k.round(ctx)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-k.kick:
		case <-t.C:
		}
		t.Stop()
	}
}

// holdPaused keeps an armed fencer from striking while the cluster is paused, whatever the store
// says: a paused primary runs on without etcd (row H-181). Promise 1 rests on the operator then.
func (k *keeper) holdPaused(ctx context.Context) {
	k.mu.Lock()
	epoch, revision := k.armEpoch, k.own.Revision
	k.mu.Unlock()
	if epoch == 0 || !k.a.paused() || k.titleFresh() {
		return
	}
	if err := k.a.guard.renew(ctx, epoch, revision, Now()+k.a.ttl()); err != nil {
		k.a.log.Warn("paused: fencer not held back", zap.Error(err))
	}
}

// now asks for a round at once.
func (k *keeper) now() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// settle takes up the token that the fencer kept while no agent ran: it is a title only if the
// store still shows the very revision, under a lease that lives (safety review, hole 8). It tries
// until the store has answered or the token's deadline is over.
func (k *keeper) settle(ctx context.Context) {
	st, _ := k.a.guard.snapshot()
	tok := st.Token
	if st.Armed {
		// Whatever becomes of the title, this is the epoch to disarm when the server is down.
		k.mu.Lock()
		k.armEpoch = tok.Epoch
		k.mu.Unlock()
	}
	if !st.Armed || tok.LeaderRevision == 0 || tok.Lease == 0 {
		return
	}
	for Now() < tok.Until && ctx.Err() == nil {
		sent := Now()
		cctx, cancel := context.WithTimeout(ctx, min(time.Second, tok.Until-sent))
		ttl, ok, err := k.prove(cctx, election.LeaseID(tok.Lease), tok.LeaderRevision)
		cancel()
		if err != nil {
			k.a.log.Warn("token of the fencer not confirmed yet", zap.Error(err))
			if !sleepCtx(ctx, fencerRetry) {
				return
			}
			continue
		}
		if !ok {
			k.a.log.Warn("token of the fencer is no title any more", zap.Int64("leader_revision", tok.LeaderRevision))
			return
		}
		k.mu.Lock()
		k.lease, k.leaseTTL, k.leaseSent, k.asked = election.LeaseID(tok.Lease), ttl, sent, ttl
		k.own = election.Own{
			Revision: tok.LeaderRevision, Lease: election.LeaseID(tok.Lease), Epoch: tok.Epoch, Sent: sent, TTL: ttl,
		}
		k.armEpoch = tok.Epoch
		own := k.own
		k.mu.Unlock()
		k.a.log.Info("leadership taken up again after a restart of the agent", zap.Int64("leader_revision", tok.LeaderRevision))
		k.extend(ctx, own)
		return
	}
}

// prove makes one round of proof: keep-alive first, then the read of the key, in one raft term.
// ok is false if the store answered that the key is another's, gone, or its lease over.
func (k *keeper) prove(ctx context.Context, lease election.LeaseID, revision int64) (ttl time.Duration, ok bool, err error) {
	ka, err := k.a.store.KeepAlive(ctx, lease)
	if errors.Is(err, dcs.ErrLeaseNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("keep-alive: %w", err)
	}
	p, err := k.a.store.Prove(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("prove ownership: %w", err)
	}
	if p.RaftTerm != ka.RaftTerm {
		// A member that has not heard of the new leader may have sent the keep-alive to the old
		// one, whose word about leases is worth nothing. The next round counts.
		return 0, false, fmt.Errorf("prove ownership: raft term changed from %d to %d in between", ka.RaftTerm, p.RaftTerm)
	}
	k.a.heard()
	k.setTerm(p.RaftTerm)
	if revision != 0 && (!p.Present || p.Leader.ModRevision != revision || p.Leader.Lease != lease) {
		k.a.contradicted(p)
		return 0, false, nil
	}
	return ka.TTL, true, nil
}

// round keeps the lease and proves the title once. It returns how long to wait for the next.
func (k *keeper) round(ctx context.Context) time.Duration {
	ttl := k.a.ttl()
	every := election.RenewEvery(ttl)
	k.mu.Lock()
	lease, own, claim := k.lease, k.own, k.claim
	k.mu.Unlock()
	retry := max(every/8, 50*time.Millisecond)
	if lease == 0 {
		if err := k.grant(ctx, ttl); err != nil {
			k.a.storeTrouble(err)
			return retry
		}
		return every
	}
	if own.Held() && Now() >= own.DemoteAt(k.margin()) && !k.a.paused() {
		// The title is over for this agent, and its server is being silenced. Were the lease kept
		// alive meanwhile, a server that cannot be proven down would block everybody for ever.
		return retry
	}
	sent := Now()
	bound := k.bound(own, ttl)
	cctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	granted, ok, err := k.proveOnce(cctx, lease, own, claim)
	if err != nil {
		k.a.storeTrouble(err)
		k.a.metrics.renewal(false)
		return retry
	}
	if !ok {
		k.lost(ctx, lease)
		return retry
	}
	k.a.metrics.renewal(true)
	k.mu.Lock()
	if k.lease != lease {
		k.mu.Unlock()
		return 0
	}
	k.leaseSent, k.leaseTTL = sent, granted
	k.mu.Unlock()
	if own.Held() {
		own.Sent, own.TTL = sent, min(granted, own.TTL)
		if !k.extend(ctx, own) {
			return retry
		}
	}
	if k.wantsTTL(ttl) && !claim && k.a.jobs.kind() == election.JobNone {
		k.changeTTL(ctx, ttl)
	}
	return max(every-(Now()-sent), 10*time.Millisecond)
}

// proveOnce is a round for what is held: the leader key, the bootstrap claim, or the bare lease.
func (k *keeper) proveOnce(ctx context.Context, lease election.LeaseID, own election.Own, claim bool) (time.Duration, bool, error) {
	switch {
	case own.Held() && !claim:
		return k.prove(ctx, lease, own.Revision)
	case claim:
		ka, err := k.a.store.KeepAlive(ctx, lease)
		if err != nil {
			return 0, !errors.Is(err, dcs.ErrLeaseNotFound), ignore(err, dcs.ErrLeaseNotFound)
		}
		res, err := k.a.store.Apply(ctx, holdsBootstrap(own.Revision))
		if err != nil {
			return 0, false, err
		}
		k.a.heard()
		return ka.TTL, res.Done, nil
	default:
		ka, err := k.a.store.KeepAlive(ctx, lease)
		if err != nil {
			return 0, !errors.Is(err, dcs.ErrLeaseNotFound), ignore(err, dcs.ErrLeaseNotFound)
		}
		k.a.heard()
		k.setTerm(ka.RaftTerm)
		return ka.TTL, true, nil
	}
}

// holdsBootstrap is true while the bootstrap claim of that revision stands. It writes nothing.
func holdsBootstrap(claim int64) dcs.Txn {
	return dcs.Txn{If: []dcs.Cmp{{Key: dcs.KeyInitialize, Kind: dcs.CmpModRevision, Revision: claim}}}
}

// ignore turns one sentinel into no error.
func ignore(err, sentinel error) error {
	if errors.Is(err, sentinel) {
		return nil
	}
	return err
}

// bound is how long one round may take: a third of what is left, so that one call that hangs is
// never the whole lease.
func (k *keeper) bound(own election.Own, ttl time.Duration) time.Duration {
	if !own.Held() {
		return max(ttl/3, time.Second)
	}
	return max((own.DemoteAt(k.margin())-Now())/3, 100*time.Millisecond)
}

// extend hands the new deadline to the fencer. Only when the fencer has taken it over does the
// renewal count, for the title and for /primary (safety review, hole 11): a fencer that is frozen
// or gone lets the title run into its margin, whatever the store says.
func (k *keeper) extend(ctx context.Context, own election.Own) bool {
	m := k.margin()
	k.mu.Lock()
	epoch := k.armEpoch
	k.mu.Unlock()
	if epoch == 0 {
		return true // not armed yet: nothing can be writable
	}
	rctx, cancel := context.WithTimeout(ctx, max(own.TTL/6, fencerPatience))
	defer cancel()
	if err := k.a.guard.renew(rctx, epoch, own.Revision, own.FenceAt(m)); err != nil {
		k.a.log.Error("fencer did not take the new deadline", zap.Error(err))
		k.a.guard.unresponsive(err)
		return false
	}
	k.mu.Lock()
	if k.own.Held() && k.own.Revision == own.Revision {
		k.own.Sent, k.own.TTL = own.Sent, own.TTL
	}
	k.mu.Unlock()
	k.a.refreshLeaderUntil()
	return true
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

// titleFresh says that the title's own line lies ahead, so that nothing need hold the fencer back.
func (k *keeper) titleFresh() bool {
	m := k.margin()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own.Held() && Now() < k.own.DemoteAt(m)
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
	before, beforeTTL, beforeSent := k.lease, k.leaseTTL, k.leaseSent
	k.lease, k.leaseTTL, k.leaseSent, k.asked = g.ID, g.TTL, sent, ttl
	k.own.TTL = min(k.own.TTL, g.TTL)
	own := k.own
	k.mu.Unlock()
	if own.Held() {
		reign := k.a.reign()
		reign.TTL = g.TTL
		if err := k.shorten(cctx, own, sent, g.TTL); err != nil {
			k.mu.Lock()
			k.lease, k.leaseTTL, k.leaseSent, k.asked = before, beforeTTL, beforeSent, 0
			k.mu.Unlock()
			k.a.log.Warn("leader key not moved to the lease with the new ttl", zap.Error(err))
			return
		}
		res, err := k.a.store.Apply(cctx, dcs.RehangLeader(k.a.name(), g.ID, own.Revision, reign))
		if err == nil && !res.Done || errors.Is(err, dcs.ErrUnavailable) {
			k.mu.Lock()
			k.lease, k.leaseTTL, k.leaseSent, k.asked = before, beforeTTL, beforeSent, 0
			k.mu.Unlock()
			k.a.log.Warn("leader key not moved to the lease with the new ttl", zap.Error(err))
			return
		}
		if err != nil {
			// Done or not, the snapshot will show it: a key on the own lease is adopted.
			k.a.log.Warn("it is not known whether the leader key moved to the lease with the new ttl", zap.Error(err))
			return
		}
		k.mu.Lock()
		if k.own.Revision == own.Revision {
			k.own.Revision, k.own.Lease, k.own.TTL, k.own.Sent = res.Revision, g.ID, g.TTL, sent
		}
		k.mu.Unlock()
		k.refreshToken(ctx)
	}
	k.a.facts.with(func(f *facts) { f.memberStale = true })
	k.now()
}

// shorten brings the fencer's deadline forward before the key hangs on a shorter lease. A renewal
// never moves it back, so this takes a new epoch: without it the fencer would let a server whose
// agent dies now write on beyond the new lease's end.
func (k *keeper) shorten(ctx context.Context, own election.Own, sent election.Instant, ttl time.Duration) error {
	next := election.Own{Sent: sent, TTL: ttl}
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
