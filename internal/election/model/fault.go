package model

import (
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// memberFaults are what may go wrong with one node.
func (x *walk) memberFaults(i int) {
	w, m := x.w, &x.s.m[i]
	if m.agent != 0 && m.frozen == 0 {
		x.do(stKillAgent, i, 0, func(s *State) bool { return w.killAgent(s, i) })
	}
	if m.agent == 0 && m.frozen == 0 && w.cfg.Dead&(1<<i) == 0 {
		x.do(stStartAgent, i, 0, func(s *State) bool { return w.startAgent(s, i) })
	}
	if m.frozen == 0 {
		x.do(stCrash, i, 0, func(s *State) bool { return w.crash(s, i) })
		x.do(stFreezeNode, i, 0, func(s *State) bool {
			s.m[i].frozen = 1
			return w.spend(s, budFreezeNode)
		})
	} else {
		x.do(stThawNode, i, 0, func(s *State) bool {
			s.m[i].frozen = 0
			w.deadline(s, i)
			return true
		})
	}
	if m.cut == 0 {
		x.do(stCut, i, 0, func(s *State) bool {
			s.m[i].cut = 1
			return s.m[i].server == serverStandby && w.spend(s, budCut)
		})
	} else {
		x.do(stHeal, i, 0, func(s *State) bool { s.m[i].cut = 0; return true })
	}
	if m.absent == 0 && m.server != serverPrimary && !x.s.streams(i) {
		x.do(stAbsent, i, 0, func(s *State) bool { s.m[i].absent = 1; return w.spend(s, budAbsent) })
	}
	if x.s.left[budApart] > 0 && m.cut == 0 {
		x.do(stApart, i, 0, func(s *State) bool { s.m[i].cut = 2; return w.spend(s, budApart) })
	}
	if x.s.left[budStuck] > 0 && m.agentUp() && m.stuck == 0 {
		x.do(stStuck, i, 0, func(s *State) bool { s.m[i].stuck = 1; return w.spend(s, budStuck) })
	}
	x.dataFaults(i)
}

// crash is the sudden death of a postmaster. That a primary's other processes live on for a moment is
// the same as a later death, as long as nobody takes the server for down before they are gone.
func (w *world) crash(s *State, i int) bool {
	m := &s.m[i]
	if !m.runs() && m.server != serverPromoting || !w.spend(s, budServerCrash) {
		return false
	}
	if m.server == serverPrimary && w.cfg.Bug == BugDownEarly {
		m.server, m.clean = serverOrphan, 0
		return true
	}
	w.kill(s, i)
	return true
}

func (x *walk) dataFaults(i int) {
	w := x.w
	if x.s.left[budReclone] > 0 {
		x.do(stReclone, i, 0, func(s *State) bool {
			m := &s.m[i]
			if m.server != serverStandby && m.server != serverDown || m.own.rev != 0 || m.wal.n == 0 || !w.spend(s, budReclone) {
				return false
			}
			w.kill(s, i)
			w.endAgent(s, i) // what the agent knew was on that disk, or goes with its node
			m.wal, m.frz, m.conn, m.up = log{}, freeze{}, 0, 0
			return true
		})
	}
	if x.s.left[budReclone] > 0 && w.cfg.OldCopies {
		x.do(stReclone, i, 1, func(s *State) bool {
			m := &s.m[i]
			if m.server != serverStandby && m.server != serverDown || m.own.rev != 0 || m.wal.n < 2 || !w.spend(s, budReclone) {
				return false
			}
			w.kill(s, i)
			w.endAgent(s, i)
			m.wal, m.frz, m.conn, m.up, m.signal = log{n: 1, e: [maxLog]record{m.wal.e[0]}}, freeze{}, 0, 0, 1
			if w.cfg.Bug != BugSameData {
				m.data++
			}
			return true
		})
	}
	if x.s.left[budGhost] > 0 && x.s.ghost.active == 0 {
		x.do(stGhost, i, 0, func(s *State) bool { return w.double(s, i) })
	}
	if x.s.left[budNoSync] > 0 {
		x.do(stNoSync, i, 0, func(s *State) bool { s.m[i].noSync ^= 1; return w.spend(s, budNoSync) })
	}
}

// double: a primary's node is cut off, and a new node of the same name starts from a copy of its disk.
// Of the old one only the time for which it can still write is kept.
func (w *world) double(s *State, i int) bool {
	m := &s.m[i]
	if m.server != serverPrimary || m.tok.armed == 0 || m.agent == 0 || !w.spend(s, budGhost) {
		return false
	}
	l := m.tok.lease
	s.ghost = ghost{active: 1, member: uint8(i), lease: l, age: m.tok.age}
	w.kill(s, i)
	w.endAgent(s, i)
	m.tok = token{}
	return true
}

// operatorSteps are what a person asks for.
func (x *walk) operatorSteps() {
	w := x.w
	c := w.content(x.s.store)
	for j := range w.n {
		if x.s.left[budSwitchover] > 0 && c.leader.rev != 0 && int(c.leader.name) != j+1 {
			x.do(stSwitchover, j, 0, func(s *State) bool {
				w.execute(s, dcs.WriteFailover(election.FailoverRequest{
					Leader: nameOf(int(c.leader.name) - 1), Candidate: nameOf(j),
				}))
				return w.spend(s, budSwitchover)
			})
		}
		if x.s.left[budFailover] > 0 {
			x.do(stFailover, j, 0, func(s *State) bool {
				w.execute(s, dcs.WriteFailover(election.FailoverRequest{Candidate: nameOf(j)}))
				return w.spend(s, budFailover)
			})
		}
	}
	if x.s.left[budDelete] > 0 && c.leader.rev != 0 {
		x.do(stDelete, 0, 0, func(s *State) bool {
			w.execute(s, dcs.Txn{Then: []dcs.Op{{Key: dcs.KeyLeader, Delete: true}}})
			return w.spend(s, budDelete)
		})
	}
}
