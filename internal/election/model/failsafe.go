package model

import "github.com/pgha/pgha/internal/election"

// promiseSteps are the answers to a leader that cannot reach the store. Answers may come late: a round
// counts from when it was begun.
func (x *walk) promiseSteps(i int) {
	w, m := x.w, &x.s.m[i]
	if m.promise != 0 && w.promiseOver(x.s, i) {
		x.do(stPromiseOver, i, 0, func(s *State) bool { s.m[i].promise = 0; return true })
	}
	if !m.agentUp() || m.round.asking == 0 {
		return
	}
	all := w.content(m.snap).failsafe.mask &^ (1 << i)
	if m.round.given == all {
		x.do(stRoundDone, i, 0, func(s *State) bool { w.roundDone(s, i); return true })
		return
	}
	for j := range w.n {
		if all&^m.round.given&(1<<j) != 0 && x.s.m[j].agentUp() {
			x.do(stPromise, j, i, func(s *State) bool { return w.givePromise(s, j, i) })
		}
	}
}

// givePromise: the member asks the core whether it may, and has its fencer keep the promise before it
// answers. A refusal ends nothing: the title runs into its margin.
func (w *world) givePromise(s *State, j, asker int) bool {
	m := &s.m[j]
	if m.promise != 0 && int(m.promise) != asker+1 {
		return false // one at a time is all that this world keeps apart
	}
	k := w.key(s, j)
	v := w.view(&k)
	if w.cfg.Bug == BugPromiseRacing || w.cfg.Bug == BugPromiseAndRace {
		v.Racing = false
	}
	if election.MayPromise(v, nameOf(asker)) != "" {
		return false
	}
	m.promise = uint8(asker + 1)
	s.m[asker].round.given |= 1 << j
	return true
}

// roundDone: everybody promised. The title lives on from when the round was begun.
func (w *world) roundDone(s *State, i int) {
	m := &s.m[i]
	a := m.round.age
	m.round = round{}
	if m.own.rev == 0 || min(m.own.age, m.own.promised) >= giveUp {
		return
	}
	m.own.promised = min(m.own.promised, a)
	if m.tok.armed != 0 && m.tok.rev == m.own.rev && a < strikes {
		m.tok.age = min(m.tok.age, a)
	}
}

// promiseOver says that a promise may have run out. It lasts for the time to live from its receipt, which
// is no earlier than the beginning of the round it was given in: so not before a title that rests on it
// is over, nor while a round that counts it could still give one.
func (w *world) promiseOver(s *State, j int) bool {
	i := int(s.m[j].promise) - 1
	a := &s.m[i]
	if a.round.asking != 0 && a.round.given&(1<<j) != 0 && a.round.age < strikes {
		return false
	}
	if a.own.rev == 0 { // the agent is gone; the token may rest on the promise
		return a.tok.armed == 0 || a.tok.age >= strikes
	}
	return a.own.promised >= strikes || a.own.age <= a.own.promised
}

// keptPromise is what is left of a promise when the agent's process ends: the fencer keeps it.
func (w *world) keptPromise(p uint8) uint8 {
	if w.cfg.Bug == BugPromiseForgotten {
		return 0
	}
	return p
}
