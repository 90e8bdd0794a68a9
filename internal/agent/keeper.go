package agent

import (
	"cmp"
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
	// gave is the last such revision; it outlives the title, since the request may outlive it.
	gave  int64
	asked time.Duration // ttl that the lease was asked with
	raft  uint64        // raft term of the last keep-alive; zero: not known

	// arming is held while the fencer is armed or renewed, so that two who need it armed do not end each
	// other's epoch. It is taken before mu.
	arming sync.Mutex

	// turn is held by whatever wins a title, from the choice of its lease until the fencer is armed, and
	// by a change of the lease: done at once, the fencer would get the deadline of another lease.
	turn sync.Mutex

	pace pace
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
		begun := Now()
		wait := k.round(ctx)
		if err := k.rest(ctx, begun, Now()+inStep(Now(), wait, k.a.loopWait())); err != nil {
			return err
		}
	}
}

// holdPaused keeps an armed fencer from striking while the cluster is paused, whatever the store
// says: a paused primary runs on without etcd (row H-181). Promise 1 rests on the operator then.
func (k *keeper) holdPaused(ctx context.Context) {
	k.mu.Lock()
	epoch, revision := k.armEpoch, k.own.Revision
	k.mu.Unlock()
	st, alive := k.a.guard.snapshot()
	if epoch == 0 || !k.a.paused() || k.titleFresh() || alive && !st.Armed {
		return
	}
	revision = cmp.Or(revision, st.Token.LeaderRevision) // what it was last armed for stays known
	if err := k.a.guard.renew(ctx, epoch, revision, Now()+k.a.ttl()); err != nil {
		k.a.log.Warn("paused: fencer not held back", zap.Error(err))
	}
}

// HandsOff is called before an agent ends that leaves a paused cluster's server running (row H-180):
// nobody will renew the fencer's deadline meanwhile, so it is lifted. The token stays with the fencer
// for the agent that comes next.
func (a *Agent) HandsOff(ctx context.Context) {
	if !a.paused() || a.guard.isDown() {
		return
	}
	hctx, cancel := context.WithTimeout(ctx, 2*fencerCall)
	defer cancel()
	err := a.guard.policy(hctx, fencer.PolicyObserve)
	if err == nil {
		err = a.guard.disarm(hctx, a.keeper.armed())
	}
	if err != nil {
		a.log.Warn("paused: the fencer keeps its deadline, and will silence the server then", zap.Error(err))
		return
	}
	a.log.Warn("paused: the server runs on without agent or fence; start the agent before the pause ends")
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
	left := st.Policy == fencer.PolicyObserve // by an agent that ended during a pause
	if !st.Armed && !left || tok.LeaderRevision == 0 || tok.Lease == 0 {
		return
	}
	until := tok.Until
	if left {
		// The deadline has no meaning during a pause: as long as the store has the key on its lease, the title
		// is there, whatever T was.
		until = max(until, Now()+k.a.ttl())
	}
	for Now() < until && ctx.Err() == nil {
		sent := Now()
		cctx, cancel := context.WithTimeout(ctx, min(time.Second, until-sent))
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
		if st.Armed {
			k.armEpoch = tok.Epoch
		} else {
			k.armEpoch = 0
		}
		own := k.own
		k.mu.Unlock()
		if own = k.reclaim(ctx, own); !own.Held() {
			return
		}
		k.a.log.Info("leadership taken up again after a restart of the agent", zap.Int64("leader_revision", tok.LeaderRevision))
		if !st.Armed {
			if _, err := k.ensureArmed(ctx); err != nil {
				k.a.log.Error("fencer not armed again", zap.Error(err))
			}
		}
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
		k.a.contradicted(p, revision)
		return 0, false, nil
	}
	return ka.TTL, true, nil
}

// round keeps the lease and proves the title once. It returns how long to wait for the next.
func (k *keeper) round(ctx context.Context) time.Duration {
	ttl := k.a.ttl()
	k.mu.Lock()
	lease, own, claim, granted := k.lease, k.own, k.claim, k.leaseTTL
	k.mu.Unlock()
	every := election.RenewEvery(ttl)
	for _, shorter := range []time.Duration{granted, own.TTL} {
		if shorter > 0 { // the lease that counts, not the one that is asked for by now
			every = min(every, election.RenewEvery(shorter))
		}
	}
	retry := max(every/8, 50*time.Millisecond)
	if lease == 0 {
		if err := k.grant(ctx, ttl); err != nil {
			k.a.storeTrouble(err)
			return retry
		}
		return every
	}
	if claim && Now() >= own.DemoteAt(k.margin()) && k.a.jobs.kind() != election.JobBootstrap {
		// Nobody came to use it, and it is no title that a decision could give up: without this the
		// agent would never have a lease again.
		k.drop(ctx)
		return 0
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
	if k.wantsTTL(ttl) && !claim && k.a.jobs.kind() == election.JobNone && !k.a.offering() {
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
	k.arming.Lock()
	defer k.arming.Unlock()
	epoch := k.armed()
	if epoch == 0 {
		// Not armed yet, so nothing can be writable. But a member that has no fencer cannot come to
		// lead either: its title must run out.
		_, alive := k.a.guard.snapshot()
		if alive {
			k.prolong(own)
		}
		return alive
	}
	rctx, cancel := context.WithTimeout(ctx, max(own.TTL/6, fencerPatience))
	defer cancel()
	if st, alive := k.a.guard.snapshot(); alive && !st.Armed && k.a.paused() {
		return k.armLapsed(rctx, own)
	}
	if err := k.a.guard.renew(rctx, epoch, own.Revision, own.FenceAt(m)); err != nil {
		k.a.log.Error("fencer did not take the new deadline", zap.Error(err))
		k.a.guard.unresponsive(err)
		return false
	}
	k.prolong(own)
	return true
}

// armLapsed arms the fencer anew whose deadline passed during a pause, while the title outlived it: its
// proof is of a moment ago. Callers hold arming.
func (k *keeper) armLapsed(ctx context.Context, own election.Own) bool {
	epoch, err := k.a.guard.arm(ctx, fencer.Token{
		Lease: int64(own.Lease), LeaderRevision: own.Revision, Until: own.FenceAt(k.margin()),
	})
	if err != nil {
		k.a.log.Error("paused: fencer not armed again", zap.Error(err))
		return false
	}
	k.mu.Lock()
	k.armEpoch = epoch
	k.mu.Unlock()
	k.prolong(own)
	return true
}

// prolong lets the title count from a new proof.
func (k *keeper) prolong(own election.Own) {
	k.mu.Lock()
	if k.own.Held() && k.own.Revision == own.Revision {
		k.own.Sent, k.own.TTL = max(k.own.Sent, own.Sent), min(k.own.TTL, own.TTL)
		k.own.Promised = max(k.own.Promised, own.Promised)
		k.a.failsafe.proven(k.own)
	}
	k.mu.Unlock()
	k.a.refreshLeaderUntil()
}

// titleFresh says that the title's own line lies ahead, so that nothing need hold the fencer back.
func (k *keeper) titleFresh() bool {
	m := k.margin()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.own.Held() && Now() < k.own.DemoteAt(m)
}
