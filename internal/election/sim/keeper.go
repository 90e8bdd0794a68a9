package sim

import (
	"errors"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// runKeeper first settles whether the fencer's token is a title, then keeps lease and title.
func (a *agent) runKeeper(t *task) {
	for !a.guard.connected {
		t.on(&a.firstFencer, 0)
	}
	a.settle(t)
	a.isSettled = true
	a.settled.raise()
	for {
		a.hang(t)
		begun := a.now()
		a.rest(t, begun, a.now()+a.keepRound(t))
	}
}

// rest waits for the next round: for its regular time, for whoever asks for one, or for the moment at
// which too few voters are known to hear this leader.
func (a *agent) rest(t *task, begun, next election.Instant) {
	for {
		due := next
		own := a.own
		if heard, ok := a.heardAt(own); ok && own.Held() && !a.claim {
			due = min(due, max(election.ProveAt(heard, a.set.Silence), begun+a.set.Silence/4))
		}
		left := due - a.now()
		if left <= 0 && due < next {
			return
		}
		if t.on(&a.kick, max(left, time.Millisecond)) || a.now() >= next {
			return
		}
	}
}

// settle takes up the token that the fencer kept while no agent ran, if the store confirms it.
func (a *agent) settle(t *task) {
	tok, armed := a.guard.tok, a.guard.armed
	if armed {
		// Whatever becomes of the title, this is the epoch to disarm when the server is down.
		a.armEpoch = tok.epoch
	}
	if !armed || tok.rev == 0 || tok.lease == 0 {
		return
	}
	for a.now() < tok.until {
		sent := a.now()
		ttl, ok, err := a.prove(t, min(time.Second, tok.until-sent), tok.lease, tok.rev)
		if err != nil {
			t.sleep(fencerRetry)
			continue
		}
		if !ok {
			a.note("token of the fencer is no title any more")
			return
		}
		a.lease, a.leaseTTL, a.leaseSent = tok.lease, ttl, sent
		a.own = election.Own{Revision: tok.rev, Lease: tok.lease, Epoch: tok.epoch, Sent: sent, TTL: ttl}
		a.armEpoch = tok.epoch
		// A request of that life may still be on its way, and compares the old revision.
		if !a.w.bug(BugEarlierLife) {
			a.giving = tok.rev
			if kept, err := a.resolve(t, a.own, dcs.ErrUnknownOutcome); err != nil || !kept {
				a.own, a.giving = election.Own{}, 0
				return
			}
		}
		a.note("leadership taken up again after a restart of the agent")
		a.adopted = true
		a.extendFence(t, a.own)
		return
	}
}

// prove is one round of proof: keep-alive first, then the read of the key, in one raft term.
func (a *agent) prove(t *task, bound time.Duration, lease election.LeaseID, rev int64) (time.Duration, bool, error) {
	begin := a.now()
	ka, err := a.store.keepAlive(t, bound, lease)
	if errors.Is(err, dcs.ErrLeaseNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if a.w.bug(BugKeepAliveAlone) {
		return ka.TTL, true, nil
	}
	left := bound - (a.now() - begin)
	if left <= 0 {
		return 0, false, dcs.ErrUnavailable
	}
	p, err := a.store.prove(t, left)
	if err != nil {
		return 0, false, err
	}
	if p.RaftTerm != ka.RaftTerm && !a.w.bug(BugIgnoreTerm) {
		return 0, false, errNot("raft term changed")
	}
	a.heard()
	if rev != 0 && (!p.Present || p.Leader.ModRevision != rev || p.Leader.Lease != lease) {
		a.contradicted(p)
		return 0, false, nil
	}
	return ka.TTL, true, nil
}

// keepRound keeps the lease and proves the title once. It returns how long to wait for the next.
func (a *agent) keepRound(t *task) time.Duration {
	ttl := a.ttl
	every := election.RenewEvery(ttl)
	if a.leaseTTL > 0 {
		every = min(every, election.RenewEvery(a.leaseTTL)) // the lease may be shorter than what is asked for by now
	}
	lease, own, claim := a.lease, a.own, a.claim
	retry := max(every/8, 50*time.Millisecond)
	if lease == 0 {
		if err := a.grantLease(t, ttl); err != nil {
			return retry
		}
		return every
	}
	if claim && a.now() >= own.DemoteAt(a.margin()) && a.job.view.Kind != election.JobBootstrap && !a.w.bug(BugKeepClaim) {
		a.drop(t) // nobody came to use it
		return 10 * time.Millisecond
	}
	if own.Held() && a.now() >= own.DemoteAt(a.margin()) {
		// The title is over for this agent, and its server is being silenced. Were the lease kept
		// alive meanwhile, a server that cannot be proven down would block everybody for ever.
		return retry
	}
	sent := a.now()
	granted, ok, err := a.proveOnce(t, a.keepBound(own, ttl), lease, own, claim)
	if a.w.bug(BugSentAtReceive) {
		sent = a.now()
	}
	if err != nil {
		return retry
	}
	if !ok {
		a.lostLease(t, lease)
		return retry
	}
	if a.lease != lease {
		return 0
	}
	a.leaseSent, a.leaseTTL = sent, granted
	if own.Held() {
		own.Sent, own.TTL = sent, min(granted, own.TTL)
		if !a.extendFence(t, own) {
			return retry
		}
	}
	if granted != ttl.Truncate(time.Second) && !claim && a.job.view.Kind == election.JobNone && !a.offering() && !a.winning() {
		a.changeTTL(t, ttl)
	}
	return max(every-(a.now()-sent), 10*time.Millisecond)
}

func (a *agent) proveOnce(t *task, bound time.Duration, lease election.LeaseID, own election.Own, claim bool) (time.Duration, bool, error) {
	if own.Held() && !claim {
		return a.prove(t, bound, lease, own.Revision)
	}
	ka, err := a.store.keepAlive(t, bound, lease)
	if err != nil {
		if errors.Is(err, dcs.ErrLeaseNotFound) {
			return 0, false, nil
		}
		return 0, false, err
	}
	a.leaseTerm = ka.RaftTerm
	if claim {
		res, err := a.store.apply(t, bound, dcs.Txn{If: []dcs.Cmp{{Key: dcs.KeyInitialize, Kind: dcs.CmpModRevision, Revision: own.Revision}}})
		if err != nil {
			return 0, false, err
		}
		a.heard()
		return ka.TTL, res.Done, nil
	}
	a.heard()
	return ka.TTL, true, nil
}

// keepBound is how long one round may take: a third of what is left.
func (a *agent) keepBound(own election.Own, ttl time.Duration) time.Duration {
	if !own.Held() {
		return max(ttl/3, time.Second)
	}
	return max((own.DemoteAt(a.margin())-a.now())/3, 100*time.Millisecond)
}

// fenceAt is the deadline that a title gives.
func (a *agent) fenceAt(own election.Own) election.Instant {
	if a.w.bug(BugNoMargin) {
		return own.Sent + own.TTL
	}
	return own.FenceAt(a.margin())
}

// extendFence hands the new deadline to the fencer and, once it has taken it, to /primary.
// Only then does the renewal count for the title either.
func (a *agent) extendFence(t *task, own election.Own) bool {
	epoch := a.armEpoch
	if epoch == 0 {
		// Not armed yet, so nothing can be writable. But a member that has no fencer cannot come to
		// lead either: its title must run out.
		if a.guard.connected && a.own.Held() && a.own.Revision == own.Revision {
			a.own.Sent, a.own.TTL = own.Sent, own.TTL
			a.refreshUntil()
		}
		return a.guard.connected
	}
	until := a.fenceAt(own)
	if err := a.fenceWithin(t, max(own.TTL/6, 300*time.Millisecond), func(f *fencer) error { return f.renew(epoch, own.Revision, until) }); err != nil {
		if a.w.recording {
			a.tell("fencer did not take the new deadline: %s", err)
		}
		if errors.Is(err, errNoAnswer) && a.n.fencer.p.alive && !a.w.cfg.KeepFencer {
			a.note("the fencer hangs and is replaced")
			a.n.killFencer()
		}
		return false
	}
	if a.own.Held() && a.own.Revision == own.Revision {
		a.own.Sent, a.own.TTL = max(a.own.Sent, own.Sent), own.TTL
	}
	a.guard.tok.until, a.guard.tok.rev, a.guard.ackAt = max(until, a.guard.tok.until), own.Revision, a.now()
	a.refreshUntil()
	return true
}

func (a *agent) grantLease(t *task, ttl time.Duration) error {
	sent := a.now()
	g, err := a.store.grant(t, max(ttl/3, time.Second), ttl)
	if err != nil {
		return err
	}
	a.lease, a.leaseTTL, a.leaseSent, a.leaseTerm = g.ID, g.TTL, sent, grantedTerm
	a.member.stale = true
	a.news.raise()
	return nil
}

// lostLease: the store says that the lease or the key is not what it was.
func (a *agent) lostLease(t *task, lease election.LeaseID) {
	gone, err := a.store.leaseGone(t, storeCall, lease)
	if err == nil && gone && a.lease == lease {
		a.lease = 0
		a.note("lease %d is gone", lease)
	}
	a.news.raise()
}

// winning says that a title is being won at the moment, under the lease as it is.
func (a *agent) winning() bool {
	return a.underway(acquireKey) || a.underway(takeOverKey) || a.underway(adoptKey) || a.underway(claimKey) ||
		a.job.view.Kind == election.JobBootstrap
}

// changeTTL moves to a lease with the new time to live.
func (a *agent) changeTTL(t *task, ttl time.Duration) {
	a.changing = true
	defer func() { a.changing = false }()
	sent := a.now()
	g, err := a.store.grant(t, max(ttl/3, time.Second), ttl)
	if err != nil {
		return
	}
	// The new lease is ours from here on: the watch may show the key on it before the answer to the
	// transaction is here.
	before, beforeTTL, beforeSent := a.lease, a.leaseTTL, a.leaseSent
	a.lease, a.leaseTTL, a.leaseSent, a.leaseTerm = g.ID, g.TTL, sent, grantedTerm
	a.own.TTL = min(a.own.TTL, g.TTL)
	if own := a.own; own.Held() {
		revision, err := a.rehang(t, own, g, sent)
		if err != nil {
			a.lease, a.leaseTTL, a.leaseSent = before, beforeTTL, beforeSent
			return
		}
		if a.own.Revision == own.Revision {
			a.own.Revision, a.own.Lease, a.own.TTL, a.own.Sent = revision, g.ID, g.TTL, sent
		}
		a.refreshToken(t)
	}
	a.member.stale = true
	a.kick.raise()
}

// rehang hangs the leader key on a new lease. An answer that was lost is looked for until the old title
// is over: the key hangs on one of the two leases, and only that one may be kept alive.
func (a *agent) rehang(t *task, own election.Own, g dcs.Grant, sent election.Instant) (int64, error) {
	reign := a.cluster.Reign
	reign.TTL = g.TTL
	if err := a.shorten(t, own, g, sent); err != nil {
		return 0, err
	}
	a.refreshUntil()
	txn := dcs.RehangLeader(a.n.name, g.ID, own.Revision, reign)
	for {
		res, err := a.store.apply(t, storeCall, txn)
		var p dcs.Proof
		if err == nil && !res.Done {
			p, err = a.store.prove(t, storeCall)
		}
		switch {
		case err == nil && res.Done:
			return res.Revision, nil
		case err == nil && p.Present && p.Leader.Lease == g.ID:
			return p.Leader.ModRevision, nil // an earlier try was carried out
		case err == nil:
			return 0, errNot("something changed meanwhile")
		case a.now() >= own.DemoteAt(a.margin()):
			return 0, err
		}
		t.sleep(100 * time.Millisecond)
	}
}

// refreshToken gives the fencer the title as it is now, under the same epoch, for the agent that
// comes after a restart.
func (a *agent) refreshToken(t *task) {
	own, epoch := a.own, a.armEpoch
	if !own.Held() || epoch == 0 {
		return
	}
	tok := token{epoch: epoch, lease: own.Lease, rev: own.Revision, until: a.fenceAt(own)}
	if err := a.fence(t, func(f *fencer) error { return f.arm(tok) }); err == nil {
		tok.until = max(tok.until, a.guard.tok.until) // within an epoch it moves only forward
		a.guard.tok = tok
	}
}

// shorten brings the fencer's deadline before the end of the lease that the key is about to hang on.
// A renewal never moves it back; arming a new epoch does.
func (a *agent) shorten(t *task, own election.Own, g dcs.Grant, sent election.Instant) error {
	next := election.Own{Revision: own.Revision, Lease: g.ID, Sent: sent, TTL: g.TTL}
	until := a.fenceAt(next)
	if a.w.bug(BugShortLeaseKeepsT) || until >= a.guard.tok.until || !a.guard.armed {
		return nil
	}
	epoch, err := a.arm(t, token{lease: own.Lease, rev: own.Revision, until: until})
	if err == nil {
		a.armEpoch = epoch
	}
	return err
}

// freshLease makes sure that the lease was proven a moment ago, before it is put under a key.
func (a *agent) freshLease(t *task) (lease election.LeaseID, sent election.Instant, ttl time.Duration, err error) {
	for a.changing {
		t.sleep(5 * time.Millisecond)
	}
	lease, sent, ttl = a.lease, a.leaseSent, a.leaseTTL
	if lease == 0 {
		return 0, 0, 0, errNot("no lease yet")
	}
	if a.now()-sent < ttl/10 {
		return lease, sent, ttl, nil
	}
	sent = a.now()
	ka, err := a.store.keepAlive(t, storeCall, lease)
	if err != nil {
		return 0, 0, 0, err
	}
	a.leaseSent, a.leaseTTL, a.leaseTerm = sent, ka.TTL, ka.RaftTerm
	return lease, sent, ka.TTL, nil
}

// grantedTerm marks a lease whose grant went through the store's log: no former leader grants one.
const grantedTerm = ^uint64(0)

// sureOf says that the keep-alive, which a title just won counts from, was answered by the leader
// that also carried the transaction out. A former one may answer keep-alives that mean nothing.
func (a *agent) sureOf(term uint64) bool {
	return a.leaseTerm == grantedTerm || a.leaseTerm == term || a.w.bug(BugFreshWithoutTerm)
}

// offering says that the own lease is on offer for a hand-over: it may not be changed meanwhile.
func (a *agent) offering() bool {
	_, made := a.cluster.Offer(a.n.name)
	return made && !a.own.Held()
}

// take records a title that was just won, and arms the fencer with it.
func (a *agent) take(t *task, own election.Own, claim bool) error {
	a.own, a.claim = own, claim
	if a.w.bug(BugPromoteUnarmed) {
		a.news.raise()
		return nil
	}
	epoch, err := a.arm(t, token{lease: own.Lease, rev: own.Revision, until: a.fenceAt(own)})
	if err != nil {
		return err
	}
	if a.own.Revision == own.Revision {
		a.armEpoch = epoch
	}
	a.news.raise()
	return nil
}

// adopt takes up a leader key that hangs on the own lease.
func (a *agent) adopt(t *task, revision int64) error {
	lease, _, _, err := a.freshLease(t)
	if err != nil {
		return err
	}
	sent := a.now()
	granted, ok, err := a.prove(t, storeCall, lease, revision)
	if err != nil {
		return err
	}
	if !ok {
		return errNot("the leader key is not on this agent's lease any more")
	}
	if a.takenUnsure {
		a.takenFromLive(true, true)
	}
	return a.take(t, election.Own{Revision: revision, Lease: lease, Sent: sent, TTL: granted}, false)
}

// ensureArmed gives the fencer the present title again if it does not hold it.
func (a *agent) ensureArmed(t *task) (uint64, error) {
	own, epoch := a.own, a.armEpoch
	if !own.Held() {
		return 0, errNot("no title to the leader key")
	}
	if a.givingAway(own.Revision) {
		return 0, errNot("it is not known yet whether the leader key was given away")
	}
	if a.w.bug(BugPromoteUnarmed) {
		return epoch, nil
	}
	if a.guard.connected && a.guard.armed && a.guard.tok.epoch == epoch && epoch != 0 {
		return epoch, nil
	}
	epoch, err := a.arm(t, token{lease: own.Lease, rev: own.Revision, until: a.fenceAt(own)})
	if err != nil {
		return 0, err
	}
	a.armEpoch = epoch
	if a.givingAway(own.Revision) { // a release that began meanwhile may not have seen this epoch
		_ = a.fence(t, func(f *fencer) error { return f.disarm(epoch) }) // it refuses nothing: no server runs
		return 0, errNot("the leader key is being given away")
	}
	return epoch, nil
}

// drop forgets the title. The server is down or in recovery; the fencer checks that itself.
func (a *agent) drop(t *task) {
	epoch := a.armEpoch
	a.own, a.claim, a.armEpoch, a.giving = election.Own{}, false, 0, 0
	a.setUntil(0)
	if epoch == 0 {
		return
	}
	if err := a.fence(t, func(f *fencer) error { return f.disarm(epoch) }); err != nil {
		if a.w.recording {
			a.tell("fencer not disarmed: %s", err)
		}
		return
	}
	a.guard.armed = false
}
