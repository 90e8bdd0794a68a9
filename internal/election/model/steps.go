package model

// stepKind is what may happen next.
type stepKind uint8

const (
	stDecide stepKind = iota
	stRefresh
	stSee
	stJob
	stCarryOut // a request is carried out and answered
	stProcess  // a request is carried out, its answer is under way
	stAnswer   // the answer arrives
	stLostDone // carried out, but the agent only learns that the outcome is unknown
	stLostLate // not carried out yet; the agent learns that the outcome is unknown
	stLate     // a request of unknown outcome is carried out after all
	stBurn
	stAnswers // a round of probes ends and is decided upon: arg is the set of members that answered
	stReplicate
	stPromoted
	stStopped
	stCleared // what was left of a dead server is gone
	stReplayed
	stProveFrozen
	stSetSync
	stProveSync
	stUnproven
	stWrite
	stTick
	stRenew
	stRenewSent
	stRenewed
	stExpire
	stWaited
	stLeaseLost
	stGrant
	stKillAgent
	stStartAgent
	stCrash
	stFreezeNode
	stThawNode
	stCut
	stHeal
	stSwitchover
	stFailover
	stDelete
	stGhost
	stReclone
	stNoSync
	stAbsent
	stPublish
	stPromise // who promises arg not to race
	stPromiseOver
	stRoundDone
	stRestore
	stApart
	stStuck
	stCalm // arg: who hears each other from now on
	numSteps
)

// step is one event: what, who, and a parameter.
type step struct {
	kind     stepKind
	who, arg uint8
}

func (t step) pack() uint32 { return uint32(t.kind) | uint32(t.who)<<8 | uint32(t.arg)<<16 }

func unpack(x uint32) step { return step{stepKind(x), uint8(x >> 8), uint8(x >> 16)} }

// fault says that a step is something that goes wrong, or that somebody outside asks for. Liveness is
// demanded when no more of these happen.
func (t step) fault() bool {
	switch t.kind {
	case stLostDone, stLostLate, stKillAgent, stCrash, stFreezeNode, stCut, stSwitchover, stFailover, stDelete, stGhost,
		stReclone, stNoSync, stAbsent, stTick, stRestore, stApart, stStuck:
		return true
	default:
		return false
	}
}

// walk lists the successors of a state.
type walk struct {
	w    *world
	s    *State
	next State
	emit func(step, *State)
}

func (w *world) successors(s *State, emit func(step, *State)) {
	x := &walk{w: w, s: s, emit: emit}
	for i := range w.n {
		x.agentSteps(i)
		x.serverSteps(i)
		x.voteSteps(i)
		if w.cfg.Clock {
			x.clockSteps(i)
		}
		if w.cfg.Failsafe {
			x.promiseSteps(i)
		}
		x.memberFaults(i)
	}
	x.clientSteps()
	x.storeSteps()
	x.operatorSteps()
	if w.cfg.Calm && s.calm.who == 0 {
		x.calmSteps()
	}
}

// do makes a successor by a change of a copy; a change that refuses leaves none.
func (x *walk) do(kind stepKind, who, arg int, change func(*State) bool) {
	if x.s.calm.who != 0 && (step{kind: kind}).fault() {
		return
	}
	x.next = *x.s
	if !change(&x.next) || x.next.broken == outOfBounds || x.next == *x.s {
		return
	}
	x.w.acks(&x.next)
	x.w.tidy(&x.next)
	x.w.reduce(&x.next)
	x.emit(step{kind, uint8(who), uint8(arg)}, &x.next)
}

func (x *walk) agentSteps(i int) {
	w, m := x.w, &x.s.m[i]
	if !m.agentUp() {
		if m.agent != 0 { // its node stands still, its requests do not
			for r := range m.req {
				if m.req[r].status == reqSent {
					x.do(stProcess, i, r, func(s *State) bool { return w.process(s, i, r) })
				}
			}
		}
		return
	}
	if w.retired(x.s, i) {
		x.requestSteps(i)
		return
	}
	stale := w.stale(x.s, i)
	for _, sight := range w.sights(x.s, i) {
		p := w.sees(x.s, i, sight)
		if p.acts() {
			x.do(stDecide, i, int(sight), func(s *State) bool { return w.carry(s, i, p) })
		}
		if stale {
			x.do(stRefresh, i, int(sight), func(s *State) bool {
				w.refresh(s, i)
				return w.decide(s, i, sight)
			})
		}
		if p.asks {
			x.answerSteps(i, sight)
		}
	}
	if stale {
		x.do(stSee, i, 0, func(s *State) bool {
			w.refresh(s, i)
			return w.actsAtOnce(s, i)
		})
	}
	if m.job.kind != jobNone {
		x.do(stJob, i, 0, func(s *State) bool { return w.jobStep(s, i) })
	}
	x.requestSteps(i)
	if m.pub != m.data && m.wal.n != 0 {
		x.do(stPublish, i, 0, func(s *State) bool { s.m[i].pub = s.m[i].data; return true })
	}
	if m.giving == 2 {
		x.do(stBurn, i, 0, func(s *State) bool { w.burn(s, i); return true })
	}
	if m.lease == 0 {
		x.do(stGrant, i, 0, func(s *State) bool { return w.grant(s, i) })
	}
	x.changeSteps(i)
}

// retired says that a member has no part any more in what the bounds leave.
func (w *world) retired(s *State, i int) bool {
	most := w.cfg.Left[budReigns]
	return !w.cfg.Tail && most > 0 && s.left[budReigns] == 0 && int(w.content(s.store).leader.name) != i+1
}

func (x *walk) requestSteps(i int) {
	w := x.w
	for r := range x.s.m[i].req {
		switch q := x.s.m[i].req[r]; q.status {
		case reqSent:
			x.do(stCarryOut, i, r, func(s *State) bool { return w.process(s, i, r) && w.answered(s, i, r) })
			if w.cfg.Split {
				x.do(stProcess, i, r, func(s *State) bool { return w.process(s, i, r) })
			}
			if x.s.left[budUnknown] > 0 {
				x.do(stLostDone, i, r, func(s *State) bool {
					return w.spend(s, budUnknown) && w.process(s, i, r) && w.unknown(s, i, r)
				})
				x.do(stLostLate, i, r, func(s *State) bool {
					return w.spend(s, budUnknown) && w.later(s, s.m[i].req[r].txn) && w.unknown(s, i, r)
				})
			}
		case reqDone, reqNot:
			x.do(stAnswer, i, r, func(s *State) bool { return w.answered(s, i, r) })
			if x.s.left[budUnknown] > 0 {
				x.do(stLostDone, i, r, func(s *State) bool { return w.spend(s, budUnknown) && w.unknown(s, i, r) })
			}
		}
	}
}

// sight is what a member sees of the leader at the moment of a decision. Any of it is possible at any
// moment, so it is no part of the state.
type sight uint8

const (
	sightGood sight = 0
	sightLost sight = 1 // no answer for the silence
	sightLong sight = 2 // and frozen for longer than a voter stays frozen
)

// sights lists what makes a difference to a member. Nobody takes over from the last reign that the
// bounds allow, so losing sight of it changes nothing.
func (w *world) sights(s *State, i int) []sight {
	m := &s.m[i]
	switch {
	case !w.sync() || m.own.rev != 0 || s.left[budReigns] == 0 && m.frz.recorded == 0 || !w.mayLose(s, i):
		return []sight{sightGood}
	case m.frz.recorded != 0:
		return []sight{sightGood, sightLost, sightLost | sightLong}
	}
	return []sight{sightGood, sightLost}
}

func (w *world) seeing(s *State, i int, what sight) {
	m := &s.m[i]
	m.lost, m.frz.old = 0, 0
	if what&sightLost != 0 {
		m.lost = w.content(m.snap).reign.rev
	}
	if what&sightLong != 0 {
		m.frz.old = 1
	}
}

// sees is what a member plans that sees the leader like that.
func (w *world) sees(s *State, i int, what sight) *planned {
	w.seeing(s, i, what)
	p := w.plan(w.key(s, i))
	w.seeing(s, i, sightGood)
	return p
}

// actsAtOnce says that what a member would decide now takes effect in the moment of the decision, so
// that it makes a difference when it decides.
func (w *world) actsAtOnce(s *State, i int) bool {
	for _, what := range w.sights(s, i) {
		if w.sees(s, i, what).atOnce {
			return true
		}
	}
	return false
}

// answerSteps end a round of probes with every set of answers that is possible, and decide by them. A
// member that could answer but does not counts against a bound. While somebody leads, the answers only
// say who has lost the leader.
func (x *walk) answerSteps(i int, what sight) {
	w := x.w
	could, lose := 0, 0
	for j := range w.n {
		if j != i && x.s.m[j].agentUp() && x.s.m[i].cut != 2 && x.s.m[j].cut != 2 {
			could |= 1 << j
		}
		if w.mayLose(x.s, j) {
			lose |= 1 << j
		}
	}
	for set := could; ; set = (set - 1) & could {
		for lost := set & lose; ; lost = (lost - 1) & set & lose {
			x.do(stAnswers, i|int(what)<<4, set|lost<<4, func(s *State) bool {
				if set != could && !w.spend(s, budSilent) {
					return false
				}
				w.answers(s, i, set, lost)
				w.decide(s, i, what)
				s.m[i].probes = probes{} // in a moment they are too old, and another round is made
				return true
			})
			if lost == 0 || !w.sync() {
				break
			}
		}
		if set == 0 {
			return
		}
	}
}

func (w *world) answers(s *State, i, set, lost int) {
	var p probes
	p.state = 1
	leads := w.content(s.m[i].snap).leader.rev != 0
	for j := range w.n {
		if set&(1<<j) == 0 {
			continue
		}
		o := &s.m[j]
		if w.sync() && o.own.rev == 0 {
			p.ans[j].lost = w.sees(s, j, sightLost*sight(lost>>j&1)).lost
		}
		w.seeing(s, j, sightGood)
		a := &p.ans[j]
		a.ok = 1
		if leads {
			continue
		}
		k := w.key(s, j)
		a.timeline, a.length = k.timeline, k.end
		switch o.server {
		case serverPrimary, serverStopping, serverOrphan:
			a.role = 1
		case serverStandby:
			a.barred = flag(w.plan(k).barred)
		default: // it answers, and has no server to speak of
		}
	}
	s.m[i].probes = p
}

func (x *walk) serverSteps(i int) {
	w, m := x.w, &x.s.m[i]
	if m.frozen != 0 {
		return
	}
	switch m.server {
	case serverStandby:
		if x.s.streams(i) && (m.recv != m.conn && x.w.askable(x.s) || m.wal.n < x.s.m[m.recv-1].wal.n) {
			x.do(stReplicate, i, 0, func(s *State) bool { return w.replicate(s, i) })
		}
		if x.s.left[budArchive] > 0 && m.up != 0 && m.frz.restoreOff == 0 {
			x.do(stRestore, i, 0, func(s *State) bool { return w.restore(s, i) })
		}
		if m.lag != 0 {
			x.do(stReplayed, i, 0, func(s *State) bool { s.m[i].lag = 0; return true })
		}
	case serverPromoting:
		x.do(stPromoted, i, 0, func(s *State) bool { w.finishPromotion(s, i); return true })
	case serverStopping:
		x.do(stStopped, i, 0, func(s *State) bool { s.m[i].server = serverDown; return true })
	case serverDown, serverPrimary:
	case serverOrphan:
		x.do(stCleared, i, 0, func(s *State) bool { w.kill(s, i); return true })
	}
}

// replicate brings the next record to a standby. A server accepts a standby by timeline number and
// position; that the histories agree is what the rules must see to.
func (w *world) replicate(s *State, i int) bool {
	m := &s.m[i]
	src := &s.m[m.recv-1]
	if !m.wal.prefixOf(&src.wal) {
		s.broken = uint8(violDivergence)
		return true
	}
	m.conn = m.recv
	if m.wal.n < src.wal.n {
		m.wal.append(src.wal.e[m.wal.n])
	}
	if src.server == serverPrimary && m.wal.timeline() == src.wal.timeline() {
		m.frz.restoreOff = m.frz.recorded // it streams from the leader that it was pointed at, on its timeline
	}
	return true
}

func (x *walk) voteSteps(i int) {
	w, m := x.w, &x.s.m[i]
	if !w.sync() || !m.agentUp() || m.frz.recorded == 0 {
		return
	}
	if m.frz.proven == 0 && m.server == serverStandby && (m.lag == 0 || w.cfg.Bug == BugVoteAfterRestart) {
		x.do(stProveFrozen, i, 0, func(s *State) bool { w.proveFrozen(s, i); return true })
	}
}

func (x *walk) clientSteps() {
	w := x.w
	for c := range x.s.commits {
		if x.s.commits[c].state == commitNone {
			if x.s.left[budCommit] > 0 && (c == 0 || x.s.commits[c-1].state != commitNone) {
				for i := range w.n {
					x.do(stWrite, i, c, func(s *State) bool { return w.write(s, i, c) })
				}
			}
		}
	}
}

func (w *world) write(s *State, i, c int) bool {
	m := &s.m[i]
	if m.server != serverPrimary || m.frozen != 0 || !w.spend(s, budCommit) {
		return false
	}
	if !m.wal.append(mkRecord(m.wal.timeline(), uint8(c))) {
		w.clipped["log"]++
		return false
	}
	s.commits[c] = commit{state: commitWaits, origin: uint8(i)}
	return true
}

// acks answers every client that can be answered. A commit that may be acknowledged counts as acknowledged:
// what is demanded of those that are only grows with them, so that the earliest moment is the worst. Any
// process may go by any setting that is not proven to be replaced.
func (w *world) acks(s *State) {
	for c := range s.commits {
		k := &s.commits[c]
		if k.state != commitWaits {
			continue
		}
		i := int(k.origin)
		m := &s.m[i]
		pos := m.wal.position(c)
		if !m.writable() || m.frozen != 0 || pos == 0 {
			continue
		}
		if w.confirmed(s, i, m.now, pos) || w.confirmed(s, i, m.before[0], pos) || w.confirmed(s, i, m.before[1], pos) {
			k.state = commitAcked
			w.checkAck(s, i, c)
		}
	}
}

// confirmed says that as many standbys as a setting asks for are known to have flushed a position.
func (w *world) confirmed(s *State, i int, set setting, pos uint8) bool {
	n := uint8(0)
	for j := range w.n {
		o := &s.m[j]
		if set.mask&(1<<j) != 0 && int(o.conn) == i+1 && o.wal.n >= pos && o.wal.common(&s.m[i].wal) >= pos {
			n++
		}
	}
	return n >= set.wait
}
