package model

import (
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// effectKind is what an action comes to in the world.
type effectKind uint8

const (
	effNothing effectKind = iota
	effProbe
	effAskLease
	effSend
	effAdopt
	effForget
	effCancel
	effFollow
	effJob
	effFreeze
	effThaw
	effSetSync
	effPromises
	effRelease
)

// effect is an action, compiled once for each view that leads to it.
type effect struct {
	kind  effectKind
	txn   ref
	lease leaseID
	rev   revision
	arg   uint8
	epoch uint8
	set   setting
	job   job
}

// planned is a decision, kept for the next time that the same is known.
type planned struct {
	plan    election.Plan
	effects []effect
	// asks: a round of probes is wanted.
	asks bool
	// atOnce: some effect happens in the moment of the decision and cannot be late.
	atOnce bool
	// barred: this member could not lead, as peers are told.
	barred bool
	// lost is the revision of the leader key that peers are told this member has lost.
	lost revision
	// refused: the core's own second look found the plan wrong.
	refused bool
}

// plan asks the real core, once for each distinct knowledge.
func (w *world) plan(k viewKey) *planned {
	if p, ok := w.plans[k]; ok {
		return p
	}
	v := w.view(&k)
	w.bendView(&v)
	w.decides++
	p := &planned{plan: election.Decide(v), barred: election.CannotLead(v) != "", lost: revision(election.LostLeader(v))}
	p.refused = p.plan.Rule == "guard.refused" || p.plan.Rule == "decide.none"
	w.bendPlan(&v, &p.plan)
	w.rules[p.plan.Rule]++
	for _, a := range p.plan.Actions {
		e := w.compile(&k, &v, a)
		p.asks = p.asks || e.kind == effProbe
		if e.kind != effNothing && e.kind != effProbe {
			p.effects = append(p.effects, e)
			p.atOnce = p.atOnce || e.kind != effSend && e.kind != effJob && e.kind != effAskLease
		}
	}
	w.plans[k] = p
	return p
}

// compile turns an action into its effect. What is left out here the world does not have: slots,
// configuration files, checkpoints, bootstrap, commands, and the two keys status and history, which
// decisions may not rest on being fresh.
func (w *world) compile(k *viewKey, v *election.View, a election.Action) effect {
	switch a := a.(type) {
	case election.ProbePeers:
		return effect{kind: effProbe}
	case election.AskLease:
		return effect{kind: effAskLease, lease: leaseID(a.Lease)}
	case election.AdoptHandOver:
		return effect{kind: effAdopt, rev: revision(a.Revision)}
	case election.ForgetLeader:
		return effect{kind: effForget}
	case election.CancelJob:
		return effect{kind: effCancel}
	case election.Follow:
		return effect{kind: effFollow, arg: plusOne(a.Upstream)}
	case election.FreezeServer:
		return effect{kind: effFreeze, rev: revision(a.LeaderRevision), epoch: uint8(a.Epoch)}
	case election.Thaw:
		return effect{kind: effThaw}
	case election.SetSync:
		return effect{kind: effSetSync, set: packSetting(a.Setting)}
	case election.AskPromises:
		return effect{kind: effPromises}
	case election.ReleaseLeader:
		return effect{kind: effRelease}
	default: // a job, a transaction, or nothing that this world has
	}
	if j := w.compileJob(v, a); j.kind != jobNone {
		j.decided = k.snap
		return effect{kind: effJob, job: j}
	}
	if t, ok := w.build(v, a); ok {
		return effect{kind: effSend, txn: w.internTxn(t)}
	}
	return effect{}
}

func (w *world) compileJob(v *election.View, a election.Action) job {
	rev := revision(v.Store.Cluster.Leader.ModRevision)
	switch a := a.(type) {
	case election.StartStandby:
		return job{kind: jobStandby, arg: plusOne(a.Upstream), forRev: rev}
	case election.StartPrimary:
		return job{kind: jobStart, forRev: rev}
	case election.Promote:
		return job{kind: jobPromote, forRev: revision(v.Own.Revision), set: packSetting(a.Sync)}
	case election.Demote:
		return job{kind: jobDemote, forRev: rev}
	case election.StopServer:
		return job{kind: jobStop, forRev: rev, flag: flag(a.ReleaseAfter)}
	case election.HandOver:
		return job{kind: jobHandOver, forRev: revision(v.Store.Cluster.Failover.ModRevision), arg: plusOne(a.Candidate), sync: w.keepSync(a.Sync)}
	case election.CompareHistory:
		return job{kind: jobCompare, forRev: rev, arg: plusOne(a.Leader)}
	case election.Rewind:
		return job{kind: jobRewind, forRev: rev, arg: plusOne(a.Source)}
	case election.Clone:
		return job{kind: jobClone, forRev: rev, arg: plusOne(a.Source)}
	default:
		return job{}
	}
}

// build makes the transaction of an action by the real builders.
func (w *world) build(v *election.View, a election.Action) (transaction, bool) {
	c, own := v.Store.Cluster, v.Own.Revision
	t := transaction{owner: indexOf(v.Self.Name), name: a.String()}
	switch a := a.(type) {
	case election.AcquireLeader:
		t.kind, t.next, t.epoch = txnAcquire, uint8(a.Reign.NextTimeline), uint8(a.Reign.Epoch)
		reign := a.Reign
		reign.Lease = v.Lease
		t.txn = dcs.AcquireLeaderWithSync(v.Self.Name, v.Lease, c, reign, a.Sync)
	case election.TakeOver:
		t.kind, t.next, t.epoch = txnTakeOver, uint8(a.Reign.NextTimeline), uint8(a.Reign.Epoch)
		a.Reign.Lease = v.Lease
		t.txn = dcs.TakeOver(v.Self.Name, v.Lease, c, a)
	case election.CastVote:
		t.kind, t.txn = txnVote, dcs.CastVote(c, a.Vote)
	case election.WithdrawVote:
		t.kind, t.txn = txnWithdraw, dcs.WithdrawVote(v.Self.Name, a.Revision, a.LeaderRevision)
	case election.WriteSync:
		t.kind, t.txn = txnSync, dcs.WriteSync(own, c.Sync.ModRevision, a.State)
	case election.DeleteSync:
		t.kind, t.txn = txnSync, dcs.DeleteSync(own, c.Sync.ModRevision)
	case election.OfferLease:
		t.txn = dcs.PutOffer(election.Offer{Name: v.Self.Name, Lease: v.Lease, Incarnation: "1", For: a.For})
	case election.WithdrawOffer:
		t.txn = dcs.WithdrawOffer(v.Self.Name, a.Revision)
	case election.NameCandidate:
		f := c.Failover
		f.Candidate = a.Candidate
		t.txn = dcs.ReplaceFailover(a.Revision, f)
	case election.ClearFailover:
		t.txn = dcs.ClearFailover(a.Revision)
	case election.WriteFailsafe:
		t.txn = dcs.WriteFailsafe(own, c.FailsafeRev, a.Members)
	default:
		return t, false
	}
	w.bendTxn(&t)
	return t, true
}

// decide is one decision of a member and what it sets off.
func (w *world) decide(s *State, i int, what sight) bool {
	return w.carry(s, i, w.sees(s, i, what))
}

// acts says that anything follows from a plan, were it only that it is wrong.
func (p *planned) acts() bool { return p.refused || len(p.effects) > 0 }

// carry sets off what a member planned.
func (w *world) carry(s *State, i int, p *planned) bool {
	if p.refused {
		s.broken = uint8(violRefused)
		return true
	}
	for n := range p.effects {
		w.perform(s, i, &p.effects[n])
	}
	return true
}

func (w *world) perform(s *State, i int, e *effect) {
	m := &s.m[i]
	switch e.kind {
	case effAskLease:
		if m.gap.lease == e.lease {
			// That it is still there is no news: it is asked again.
			if !s.leaseAlive(e.lease) {
				m.gap.gone = uint8(election.Yes)
			}
		}
	case effSend:
		w.send(s, i, e.txn)
	case effAdopt:
		w.adopt(s, i, e.rev)
	case effForget:
		w.drop(s, i)
	case effCancel:
		w.cancelJob(s, i)
	case effFollow:
		w.follow(s, i, e.arg)
	case effJob:
		if m.job.kind == jobNone {
			m.job = e.job
			if w.atOnce(s, e.job.kind) {
				w.jobStep(s, i)
			}
		}
	case effFreeze:
		w.freeze(s, i, e.epoch, e.rev)
	case effThaw:
		w.thaw(s, i)
	case effSetSync:
		w.changeSync(s, i, e.set)
	case effPromises:
		if m.round.asking == 0 && w.spend(s, budRounds) {
			m.round = round{asking: 1}
		}
	case effRelease:
		w.startRelease(s, i)
	default: // asked for by a step of its own
	}
}

// send hands a transaction to the store, unless the same is under way or just done.
func (w *world) send(s *State, i int, t ref) {
	m, tx := &s.m[i], w.txn(t)
	free := -1
	for n := range m.req {
		r := &m.req[n]
		switch {
		case r.status == reqNone:
			free = n
		case w.txn(r.txn).name == tx.name, r.status != reqEcho && w.exclude(w.txn(r.txn), tx):
			return
		case r.status == reqEcho && free < 0:
			free = n
		}
	}
	if free < 0 {
		w.clipped["requests under way"]++
		return
	}
	if tx.kind == txnAcquire || tx.kind == txnTakeOver {
		// The lease is kept alive right before it is put under a key.
		if !s.leaseAlive(m.lease) || m.lease == 0 {
			return
		}
		s.leases[i].age[m.lease.generation()] = fresh
		m.racing = 1
	}
	if tx.kind == txnVote {
		if !w.spend(s, budVote) {
			return
		}
		m.voteSent = 1
	}
	if over := w.content(m.snap).sync.seen(); tx.kind == txnSync && (m.writing == 0 || m.over != over) {
		m.writing, m.over = 1, over
	}
	m.req[free] = request{txn: t, status: reqSent}
}

// exclude: a vote and its withdrawal are never under way at once, or the answer to an older withdrawal
// would be taken for one to a newer vote.
func (w *world) exclude(a, b *transaction) bool {
	about := func(t *transaction) bool { return t.kind == txnVote || t.kind == txnWithdraw }
	return about(a) && about(b) && w.cfg.Bug != BugVotesOverlap
}

// adopt takes up a key that hangs on the own lease, after a proof of its own.
func (w *world) adopt(s *State, i int, rev revision) {
	m, l := &s.m[i], w.content(s.store).leader
	if w.cfg.Bug == BugStaleLease && int(l.name) == i+1 {
		l.lease = m.lease // by value
	}
	if l.rev != rev || l.lease != m.lease || m.lease == 0 || !s.leaseAlive(l.lease) {
		return
	}
	if m.giving != 0 {
		return // it is not known yet whether it was given away
	}
	s.leases[i].age[l.lease.generation()] = fresh
	m.own = title{rev: rev, lease: l.lease, promised: over}
	if r := w.content(m.snap).reign; int(r.holder) == i+1 {
		m.own.next = r.next
	}
	w.arm(s, i)
}

// arm gives the fencer the present title.
func (w *world) arm(s *State, i int) bool {
	m := &s.m[i]
	a := min(m.own.age, m.own.promised)
	if a >= strikes {
		return false
	}
	m.tok = token{armed: 1, rev: m.own.rev, lease: m.own.lease, age: a}
	return true
}

// drop forgets the title. The fencer refuses to be disarmed while the server may be writable.
func (w *world) drop(s *State, i int) {
	m := &s.m[i]
	m.own = title{promised: over}
	if w.cfg.Bug == BugReleaseForgotten {
		m.giving = 0
	}
	if m.server == serverDown || m.server == serverStandby || w.cfg.Bug == BugDisarmEarly || w.cfg.Bug == BugDownEarly {
		m.tok = token{}
	}
}

func (s *State) leaseAlive(l leaseID) bool {
	return l != 0 && s.leases[l.member()].alive&(1<<l.generation()) != 0
}

// startRelease begins to give the leader key up: disarmed first, then one transaction.
func (w *world) startRelease(s *State, i int) {
	m := &s.m[i]
	if m.own.rev == 0 || m.giving != 0 || m.server != serverDown && w.cfg.Bug != BugDownEarly {
		return
	}
	rec := election.Release{Name: nameOf(i), Reason: "released"}
	var status *election.Status
	if m.clean != 0 {
		rec.Checkpoint, rec.Timeline = lsnOf(m.wal.n), election.Timeline(m.wal.timeline())
		st := dcs.WithOptime(w.content(m.snap).cluster().Status, lsnOf(m.wal.n))
		status = &st
	}
	t := transaction{kind: txnRelease, owner: i, name: "release leader", txn: dcs.ReleaseLeader(int64(m.own.rev), rec, status)}
	m.tok = token{}
	m.giving, m.gave = 1, m.own.rev
	w.send(s, i, w.internTxn(t))
}

// atOnce says of a job that its decision may as well come when it takes effect: decisions are made at any
// moment anyway. What may make a server writable, or destroys data, can be overtaken by events between
// the two, and takes its time where there are any that matter.
func (w *world) atOnce(s *State, k jobKind) bool {
	switch k {
	case jobStandby, jobCompare, jobDemote:
		return true
	case jobStart, jobPromote, jobRewind, jobClone:
		return !w.cfg.Clock && s.left[budReigns] == 0 && s.left[budAgentKill] == 0
	default:
		return false
	}
}
