package model

import "github.com/pgha/pgha/internal/election"

// process carries a request out in the store; the agent has no answer yet.
func (w *world) process(s *State, i, r int) bool {
	q := &s.m[i].req[r]
	tx := w.txn(q.txn)
	w.checkTxn(s, q.txn)
	q.status = reqNot
	if w.commit(s, tx.txn, w.try(s.store, q.txn)) {
		q.status = reqDone
		q.rev = w.content(s.store).leader.rev
		if tx.kind == txnVote || tx.kind == txnWithdraw {
			q.rev = w.content(s.store).votes[i].rev
		}
		w.checkDone(s, tx)
	}
	return s.broken != outOfBounds
}

// answered gives the agent the store's answer.
func (w *world) answered(s *State, i, r int) bool {
	m := &s.m[i]
	q := m.req[r]
	tx := w.txn(q.txn)
	done := q.status == reqDone
	m.req[r] = request{}
	switch tx.kind {
	case txnAcquire, txnTakeOver:
		m.racing = 0
		if done {
			m.own = title{rev: q.rev, lease: leaseOf(tx), epoch: tx.epoch, age: q.age, next: tx.next, promised: over}
			if w.cfg.Bug == BugSentAtReceive {
				m.own.age = fresh
			}
			w.arm(s, i)
		}
	case txnRelease:
		if m.own.rev == m.gave {
			w.drop(s, i)
		}
		m.giving, m.gave = 0, 0
		return true
	case txnHandOver:
		m.giving, m.gave = 0, 0
		m.job.phase = phaseFailed
		if done {
			m.job.phase = phaseGone
		}
		return true
	case txnWithdraw:
		if done {
			m.voteSent = 0
		}
	case txnSync:
		if !done && m.writing == 1 {
			m.writing = 0
		}
	default: // nothing but the snapshot tells
	}
	if done && w.stale(s, i) {
		m.req[r] = request{txn: q.txn, status: reqEcho}
	}
	return true
}

// unknown tells the agent that the outcome is not known. Of most requests nothing follows: the next
// snapshot shows. Of giving the key away everything follows, so the key is burnt.
func (w *world) unknown(s *State, i, r int) bool {
	m := &s.m[i]
	kind := w.txn(m.req[r].txn).kind
	m.req[r] = request{}
	switch kind {
	case txnRelease:
		m.giving = 2
	case txnHandOver:
		m.giving, m.job.phase = 2, phaseUnknown
	case txnSync:
		m.writing = min(m.writing, 1) * 2
	case txnWithdraw:
		if w.cfg.Bug == BugUnknownThaws {
			m.voteSent = 0
			w.thaw(s, i)
		}
	default: // the next snapshot shows
	}
	return true
}

// later keeps a request that may be carried out at any time from now on, or never.
func (w *world) later(s *State, t ref) bool {
	for n := range s.late {
		if s.late[n].zero() {
			s.late[n] = t
			return true
		}
	}
	w.clipped["late requests"]++
	return false
}

func leaseOf(t *transaction) leaseID {
	for _, op := range t.txn.Then {
		if op.Key == "leader" {
			return leaseID(op.Lease)
		}
	}
	return 0
}

func (x *walk) storeSteps() {
	w := x.w
	for n := range x.s.late {
		if x.s.late[n].zero() {
			continue
		}
		x.do(stLate, 0, n, func(s *State) bool {
			t := s.late[n]
			tx := w.txn(t)
			s.late[n] = ref{}
			if l := leaseOf(tx); l != 0 && !s.leaseAlive(l) {
				return true
			}
			w.checkTxn(s, t)
			if w.commit(s, tx.txn, w.try(s.store, t)) {
				w.checkDone(s, tx)
			}
			return true
		})
	}
}

// refresh gives the agent the newest snapshot.
func (w *world) refresh(s *State, i int) {
	m := &s.m[i]
	before, after := w.content(m.snap), w.content(s.store)
	m.snap, m.stuck = w.shown(s, i), 0
	for r := range m.req {
		if m.req[r].status == reqEcho {
			m.req[r] = request{}
		}
	}
	if before.reign.rev != after.reign.rev {
		m.racing = 0 // it compares the reign
	}
	if m.over != after.sync.seen() {
		m.writing, m.over = 0, 0
	}
	m.gap = w.gapAfter(m.gap, before, after)
	if m.divFor != after.leader.rev {
		m.div, m.divFor = 0, 0
	}
	if m.handFail != 0 && m.handFail != after.failover.rev {
		m.handFail = 0
	}
}

// gapAfter follows the vacancy from one snapshot to the next, as the agent's watch does.
func (w *world) gapAfter(was gap, before, after *content) gap {
	if after.leader.rev != 0 {
		return gap{}
	}
	next := gap{open: 1}
	switch {
	case before.leader.rev != 0:
		next.rev, next.lease = before.leader.rev, before.leader.lease
	case was.open != 0:
		next = was
	case after.reign.lease != 0:
		next.lease = after.reign.lease
	}
	if before.major != after.major && before.major != 0 && after.gone.rev > next.rev {
		next = gap{open: 1, rev: after.gone.rev, lease: after.gone.lease}
	}
	if w.cfg.Bug == BugAcquireOnDelete {
		next.gone = uint8(election.Yes)
	}
	return next
}

// tidy drops what nothing can ever look at again, so that states which differ in it are one.
func (w *world) tidy(s *State) {
	for i := range w.n {
		m := &s.m[i]
		if m.server == serverDown {
			m.recv = 0
		}
		if m.server == serverStandby {
			m.now, m.before = setting{}, [2]setting{} // without effect there, and written anew before a promotion
		}
		if w.cfg.Prompt && m.stuck == 0 && m.agentUp() && w.stale(s, i) {
			w.refresh(s, i)
		}
		if m.absent != 0 && s.streams(i) {
			m.absent = 0
		}
		if m.lease != 0 && m.agentUp() && !s.leaseAlive(m.lease) {
			// That a lease is gone makes an agent that does not know it yet fail, and nothing else.
			m.lease = 0
			w.grant(s, i)
		}
		if w.cfg.Clock && !w.ages(s, i) {
			s.leases[i].age = [4]age{} // nothing rests on them
		}
	}
}
