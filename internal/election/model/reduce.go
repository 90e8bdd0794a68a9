package model

import "github.com/pgha/pgha/internal/dcs"

// What makes worlds smaller without leaving anything out. Config.Full does without all of it, and a test
// compares the two. Members are not taken for interchangeable, because the core breaks ties by name.

// reduce gives states the same form that nobody can ever tell apart.
func (w *world) reduce(s *State) {
	if w.cfg.Full {
		return
	}
	for i := range w.n {
		w.resolve(s, i)
		sortRequests(&s.m[i].req)
		w.forget(s, i)
		w.settle(&s.m[i])
		w.idle(s, i)
	}
	if !w.askable(s) {
		for i := range w.n {
			s.m[i].conn = 0 // whose answer counts for whom: no commit asks any more
		}
	}
	if w.cfg.Left[budFaults] > 0 && s.left[budFaults] == 0 || s.calm.who != 0 {
		for b := range s.left {
			if budget(b).fault() || s.calm.who != 0 && budget(b) != budFreeze && budget(b) != budVote && budget(b) != budReigns {
				s.left[b] = 0 // which of them it was means nothing any more
			}
		}
	}
	// Requests of unknown outcome that can never be carried out any more are none; their order means nothing.
	for n := range s.late {
		if !s.late[n].zero() && w.void(s, s.late[n]) {
			s.late[n] = ref{}
		}
	}
	if s.late[0].index() < s.late[1].index() {
		s.late[0], s.late[1] = s.late[1], s.late[0]
	}
	if s.left[budReigns] == 0 && !w.cfg.Tail {
		// Nobody freezes against the last leader that the bounds allow, so nobody votes.
		s.left[budFreeze], s.left[budVote] = 0, 0
	}
}

// sortRequests: which of its places a request has means nothing. The steps name the place, and are told
// apart by what is in it.
func sortRequests(r *[2]request) {
	a, b := &r[0], &r[1]
	if x, y := a.txn.index(), b.txn.index(); x < y || x == y && a.status < b.status {
		*a, *b = *b, *a
	}
}

// void says that a transaction can never be carried out any more: a revision that it compares is past, and
// revisions only grow. Absence may come back, and a lease may be compared with later.
func (w *world) void(s *State, t ref) bool {
	k := [2]ref{s.store, t}
	v, ok := w.voids[k]
	if !ok {
		c := w.content(s.store)
		for _, cmp := range w.txn(t).txn.If {
			v = v || cmp.Kind == dcs.CmpModRevision && cmp.Revision != 0 && !c.mayBe(cmp.Key, revision(cmp.Revision))
		}
		w.voids[k] = v
	}
	return v
}

// mayBe says that a key has a revision now, or may have it yet.
func (c *content) mayBe(key string, rev revision) bool {
	if at, _ := c.revisionOf(key); at != 0 {
		return at == rev
	}
	return false // it is absent, and whoever writes it gives it a new one
}

// resolve answers a request that can never be carried out any more at once. Its sender alone learns anything by
// that, namely that it may send the same again, and whether that is sent or lies with it unsent makes no
// difference to anybody else. Where more follows from an answer (the set, a release, a hand-over) it comes
// when it comes.
func (w *world) resolve(s *State, i int) {
	m := &s.m[i]
	for r := range m.req {
		if q := &m.req[r]; q.status == reqSent || q.status == reqNot {
			tx := w.txn(q.txn)
			if !tx.kind.quiet() || q.status == reqSent && !w.void(s, q.txn) {
				continue
			}
			if tx.kind.takes() {
				m.racing = 0
			}
			*q = request{}
		}
	}
}

// quiet kinds are those of whose refusal nothing follows.
func (k txnKind) quiet() bool {
	return k == txnPlain || k == txnAcquire || k == txnTakeOver || k == txnVote || k == txnWithdraw
}

// forget clears what an agent knows that takes no decision any more. Its server, its fencer and its requests
// go on.
func (w *world) forget(s *State, i int) {
	m := &s.m[i]
	if !w.retired(s, i) || m.agent == 0 || w.cfg.Failsafe {
		return
	}
	m.snap, m.gap, m.div, m.divFor, m.handFail = w.shown(s, i), gap{}, 0, 0, 0
	m.copies, m.barrier, m.writing, m.over, m.failRev = [maxMembers]uint8{}, 0, 0, 0, 0
	m.inForce, m.changing, m.job = 0, changing{}, job{kind: m.job.kind}
	for r := range m.req {
		if q := &m.req[r]; q.status == reqEcho {
			*q = request{}
		}
	}
}

// settle clears what is known of the settings of a server that is no primary: nobody waits by them, and the next
// start or promotion begins anew with what the files say.
func (w *world) settle(m *member) {
	if m.server == serverPrimary || m.server == serverPromoting || m.server == serverOrphan {
		return
	}
	m.inForce, m.barrier, m.copies, m.changing = 0, 0, [maxMembers]uint8{}, changing{}
	m.before = [2]setting{m.now, m.now}
}

// idle leases do not age: nothing hangs on them and no title, so that their member keeps them alive as a matter of
// course, and what is hung on one later finds it fresh.
func (w *world) idle(s *State, i int) {
	own := s.m[i].own
	for g := range s.leases[i].age {
		if l := mkLease(i, g); !s.leaseAlive(l) || !w.hangsOn(s, l) && (own.rev == 0 || l != s.m[i].lease && l != own.lease) {
			s.leases[i].age[g] = fresh
		}
	}
}

// glance is a store's content as a certain member looks at it.
type glance struct {
	store  ref
	member uint8
	holds  bool
}

// shown is what a member's snapshot keeps of the store's content.
func (w *world) shown(s *State, i int) ref {
	c := w.content(s.store)
	g := glance{s.store, uint8(i), s.m[i].own.rev != 0 && s.m[i].own.rev == c.leader.rev}
	r, ok := w.views[g]
	if !ok {
		kept := *c
		if g.holds {
			kept = kept.withoutVotes(i)
		}
		if !w.cfg.Full {
			kept = kept.shownTo(i)
		}
		r = w.intern(kept)
		w.views[g] = r
	}
	return r
}

// stale says that the store holds something new to a member.
func (w *world) stale(s *State, i int) bool { return s.m[i].snap != w.shown(s, i) }

// withoutVotes leaves out what the others voted. It is what a holder of the leader key sees: it takes no
// notice of votes against it, but for a longer patience with those that cast them.
func (c content) withoutVotes(but int) content {
	for j := range c.votes {
		if j != but {
			c.votes[j] = voteKey{}
		}
	}
	return c
}

// shownTo leaves out what the core cannot see (when an absent key was last written, which key was deleted before
// the present one) and what it never looks at: another's vote that is not against the present reign
// (View.againstThisReign stands before every use of one).
func (c content) shownTo(i int) content {
	for j := range c.votes {
		v := &c.votes[j]
		if v.present == 0 || j != i && (v.of == 0 || v.of != c.reign.rev || v.epoch != c.reign.epoch) {
			*v = voteKey{}
		}
		if c.offers[j].present == 0 {
			c.offers[j] = offerKey{}
		}
	}
	if c.sync.present == 0 {
		c.sync = syncKey{}
	}
	c.gone = leaderKey{}
	return c
}

// askable says that some commit waits, or may yet be made to wait, for an answer of a standby.
func (w *world) askable(s *State) bool {
	if s.left[budCommit] > 0 || w.cfg.Full {
		return true
	}
	for _, c := range s.commits {
		if c.state == commitWaits {
			return true
		}
	}
	return false
}
