package model

import (
	"github.com/pgha/pgha/internal/dcs"
)

func (x *walk) clockSteps(i int) {
	w, m := x.w, &x.s.m[i]
	if x.w.ages(x.s, i) {
		x.do(stTick, i, 0, func(s *State) bool { return w.tick(s, i) })
	}
	for g := range 4 {
		if x.s.leases[i].alive&(1<<g) != 0 && x.s.leases[i].age[g] == over && w.hangsOn(x.s, mkLease(i, g)) {
			x.do(stExpire, i, g, func(s *State) bool { w.expire(s, mkLease(i, g)); return true })
		}
	}
	if !m.agentUp() {
		return
	}
	x.do(stRenew, i, 0, func(s *State) bool { return w.renew(s, i) })
	if w.cfg.Split {
		if m.kept.status == reqNone {
			x.do(stRenewSent, i, 0, func(s *State) bool { return w.renewSent(s, i) })
		} else {
			x.do(stRenewed, i, 0, func(s *State) bool { w.renewed(s, i); return true })
		}
	}
	if m.gap.open != 0 && m.gap.waited == 0 && w.allOver(x.s) {
		x.do(stWaited, i, 0, func(s *State) bool { s.m[i].gap.waited = 1; return true })
	}
}

// ages says that anything rests on the clocks of a member: a title, an armed fencer, or a lease that a key
// hangs on that others look at. The lease of anybody else is kept alive as a matter of course.
func (w *world) ages(s *State, i int) bool {
	m := &s.m[i]
	if l := w.content(s.store).leader; s.left[budReigns] == 0 && l.lease != 0 && l.lease.member() == i && (m.own.rev == l.rev || m.own.rev == 0) {
		return false // the last change of the leader that the bounds allow: nobody comes after it
	}
	if m.own.rev != 0 || m.tok.armed != 0 || m.kept.status != reqNone || s.ghost.active != 0 && int(s.ghost.member) == i {
		return true
	}
	for _, q := range m.req {
		if q.status != reqNone && q.status != reqEcho && w.txn(q.txn).kind.takes() {
			return true
		}
	}
	c := w.content(s.store)
	return c.leader.lease != 0 && c.leader.lease.member() == i || c.offers[i].present != 0
}

// hangsOn says that a key that matters hangs on a lease.
func (w *world) hangsOn(s *State, l leaseID) bool {
	c := w.content(s.store)
	o := c.offers[l.member()]
	return c.leader.lease == l || o.present != 0 && o.lease == l
}

func (w *world) grow(a *age) {
	if *a < over {
		*a++
	}
	if *a == overdue && !w.cfg.Failsafe {
		*a = giveUp
	}
}

// tick lets time pass for one member: its leases, its title, its fencer's deadline and its requests
// under way all grow older by the same step. A deadline that is reached is kept at once, unless the
// node stands still: then it is kept before anything else when it goes on.
func (w *world) tick(s *State, i int) bool {
	m := &s.m[i]
	if g := &s.ghost; g.active != 0 && int(g.member) == i {
		if w.grow(&g.age); g.age == over {
			*g = ghost{}
		}
	}
	for g := range s.leases[i].age {
		l := mkLease(i, g)
		if s.leaseAlive(l) && (w.hangsOn(s, l) || l == m.lease && m.own.rev != 0) {
			w.grow(&s.leases[i].age[g])
		}
	}
	stopped := m.frozen != 0 && w.cfg.ClockStops
	if m.own.rev != 0 && !stopped {
		w.grow(&m.own.age)
		w.grow(&m.own.promised)
	}
	if m.round.asking != 0 {
		w.grow(&m.round.age)
	}
	if m.kept.status != reqNone {
		w.grow(&m.kept.age)
	}
	w.growRequests(m)
	if m.tok.armed != 0 && !stopped {
		w.grow(&m.tok.age)
		if m.frozen == 0 {
			w.deadline(s, i)
		}
	}
	return true
}

// growRequests: what takes the key counts from when its lease was kept alive.
func (w *world) growRequests(m *member) {
	for r := range m.req {
		if q := &m.req[r]; q.status != reqNone && q.status != reqEcho && w.txn(q.txn).kind.takes() {
			w.grow(&q.age)
		}
	}
}

func (w *world) deadline(s *State, i int) {
	m := &s.m[i]
	if m.tok.armed == 0 || m.tok.age < strikes || w.cfg.Bug == BugFencerDeaf {
		return
	}
	m.tok = token{}
	if m.server != serverDown {
		w.kill(s, i)
	}
}

// allOver says that every title that was proven before now is over: as much time has passed as a member
// waits that saw the key vanish. The present holder may have proven its title since.
func (w *world) allOver(s *State) bool {
	for j := range w.n {
		t := s.m[j].tok
		if own := s.m[j].own; own.rev == t.rev && own.promised < over && own.age >= strikes {
			continue // it lives on by promises
		}
		for _, q := range s.m[j].req {
			// It took the key that vanished, and does not know it yet.
			if q.status == reqDone && q.age < strikes && w.txn(q.txn).kind.takes() && q.rev != w.content(s.store).leader.rev {
				return false
			}
		}
		if w.cfg.Bug == BugKeepAliveAlone {
			continue // its title is never proven again, however young it looks
		}
		if t.armed != 0 && t.age < strikes && t.rev != w.content(s.store).leader.rev {
			return false
		}
	}
	return s.ghost.active == 0 || s.ghost.age >= strikes
}

// expire ends a lease and deletes what hangs on it.
func (w *world) expire(s *State, l leaseID) {
	s.leases[l.member()].alive &^= 1 << l.generation()
	c := w.content(s.store)
	var t dcs.Txn
	if c.leader.rev != 0 && c.leader.lease == l {
		t.Then = append(t.Then, dcs.Op{Key: dcs.KeyLeader, Delete: true})
	}
	for i, o := range c.offers {
		if o.present != 0 && o.lease == l {
			t.Then = append(t.Then, dcs.Op{Key: dcs.OfferKey(nameOf(i)), Delete: true})
		}
	}
	if len(t.Then) > 0 {
		w.execute(s, t)
	}
}

// provable says that a round of proof would confirm the title now.
func (w *world) provable(s *State, i int) bool {
	m, l := &s.m[i], w.content(s.store).leader
	return l.rev == m.own.rev && (l.lease == m.own.lease || w.cfg.Bug == BugStaleLease) || w.cfg.Bug == BugKeepAliveAlone
}

// mayRenew says that a round of proof can be begun.
func (w *world) mayRenew(s *State, i int) bool {
	m := &s.m[i]
	if m.lease == 0 || !s.leaseAlive(m.lease) || w.cfg.NoRenew {
		return false
	}
	return m.own.rev == 0 || min(m.own.age, m.own.promised) < giveUp && m.own.lease == m.lease && w.provable(s, i)
}

// renew is a round of proof that nothing else comes between. Its age counts from when it was begun.
func (w *world) renew(s *State, i int) bool {
	if !w.mayRenew(s, i) {
		return false
	}
	m := &s.m[i]
	s.leases[i].age[m.lease.generation()] = fresh
	w.extend(s, i, fresh)
	return true
}

func (w *world) renewSent(s *State, i int) bool {
	if !w.mayRenew(s, i) || s.m[i].own.rev == 0 {
		return false
	}
	m := &s.m[i]
	s.leases[i].age[m.lease.generation()] = fresh
	m.kept = request{status: reqSent, rev: m.own.rev}
	return true
}

func (w *world) renewed(s *State, i int) {
	m := &s.m[i]
	a, rev := m.kept.age, m.kept.rev
	m.kept = request{}
	if w.cfg.Bug == BugSentAtReceive {
		a = fresh
	}
	if m.own.rev == rev {
		w.extend(s, i, a)
	}
}

// extend moves the fencer's deadline and, once it has taken it, the title's time.
func (w *world) extend(s *State, i int, a age) {
	m := &s.m[i]
	if m.own.rev == 0 {
		return
	}
	if m.tok.armed != 0 && m.tok.rev == m.own.rev && a < strikes {
		m.tok.age = min(m.tok.age, a)
	}
	m.own.age = min(m.own.age, a)
}

func (w *world) grant(s *State, i int) bool {
	g := 0
	for g < 4 && (s.leases[i].alive&(1<<g) != 0 || s.usedLease(mkLease(i, g), w)) {
		g++
	}
	if g == 4 {
		w.clipped["leases"]++
		return false
	}
	s.leases[i].alive |= 1 << g
	s.leases[i].age[g] = fresh
	s.m[i].lease = mkLease(i, g)
	return true
}

// usedLease says that a lease's name is still about, so that it cannot be given out again.
func (s *State) usedLease(l leaseID, w *world) bool {
	for i := range w.n {
		m := &s.m[i]
		c := w.content(m.snap)
		if m.tok.lease == l || m.own.lease == l || m.gap.lease == l || c.leader.lease == l || c.reign.lease == l {
			return true
		}
		for _, o := range c.offers {
			if o.lease == l {
				return true
			}
		}
	}
	c := w.content(s.store)
	return c.leader.lease == l || c.reign.lease == l || c.gone.lease == l || s.ghost.lease == l || s.lateUses(l, w)
}

func (s *State) lateUses(l leaseID, w *world) bool {
	for _, t := range s.late {
		if !t.zero() && leaseOf(w.txn(t)) == l {
			return true
		}
	}
	return false
}

// startAgent begins a new life of an agent. A token that the fencer kept becomes the title again if the
// store confirms it; nothing else does.
func (w *world) startAgent(s *State, i int) bool {
	m := &s.m[i]
	m.agent, m.snap = 1, w.shown(s, i)
	c := w.content(s.store)
	m.gap = w.gapAfter(gap{}, &content{}, c)
	m.frz.proven, m.voteSent = 0, m.frz.recorded
	if w.cfg.Bug == BugUnfreezeOnRestart && m.frz.recorded != 0 {
		m.frz, m.voteSent = freeze{}, 0
	}
	m.own.promised = over
	t := m.tok
	if t.armed != 0 && t.age < strikes && c.leader.rev == t.rev && c.leader.lease == t.lease && s.leaseAlive(t.lease) {
		s.leases[t.lease.member()].age[t.lease.generation()] = fresh
		m.lease, m.tok.age = t.lease, fresh
		m.own = title{rev: t.rev, lease: t.lease, promised: over}
		if int(c.reign.holder) == i+1 {
			m.own.next = c.reign.next
		}
		if w.cfg.Bug != BugTokenProven {
			w.rewrite(s, i, t.rev)
			m.snap = w.shown(s, i)
		}
		m.writing, m.over = 2, w.content(s.store).sync.seen()
		return true
	}
	if w.cfg.Bug == BugAdoptByValue && int(c.leader.name) == i+1 && s.leaseAlive(c.leader.lease) {
		m.lease = c.leader.lease
		m.own = title{rev: c.leader.rev, lease: c.leader.lease, promised: over}
		w.arm(s, i)
	}
	return true
}

// rewrite puts the own leader key anew under its lease. Whatever was sent before and compares the key's
// revision can never be carried out any more.
func (w *world) rewrite(s *State, i int, rev revision) {
	m := &s.m[i]
	c := w.content(s.store).cluster()
	if !w.execute(s, dcs.RehangLeader(nameOf(i), c.Leader.Lease, int64(rev), c.Reign)) || m.own.rev != rev {
		return
	}
	m.own.rev = w.content(s.store).leader.rev
	if m.tok.armed != 0 {
		m.tok.rev = m.own.rev
	}
}

// killAgent ends an agent's process. What it asked of the store may still arrive.
func (w *world) killAgent(s *State, i int) bool {
	m := &s.m[i]
	if m.agent == 0 || !w.spend(s, budAgentKill) {
		return false
	}
	w.endAgent(s, i)
	return true
}

// endAgent is what the end of an agent's process means.
func (w *world) endAgent(s *State, i int) {
	m := &s.m[i]
	for _, q := range m.req {
		if q.status == reqSent {
			w.later(s, q.txn)
		}
	}
	keep := *m
	*m = member{
		tok: keep.tok, promise: w.keptPromise(keep.promise), frozen: keep.frozen, cut: keep.cut, server: keep.server, clean: keep.clean,
		signal: keep.signal, lag: keep.lag, wal: keep.wal, up: keep.up, recv: keep.recv, conn: keep.conn, data: keep.data, pub: keep.pub,
		now: keep.now, before: keep.before, frz: keep.frz, noSync: keep.noSync,
	}
	m.own.promised = over
}
