package model

// calm is the time after the last fault, if it has come: who hears each other from then on, and how often one of
// those has lost the leader key since. That is L3: a leader that is heard by as many members as its commits wait
// for loses the key at most once more, by votes that were cast before, and never again. (It may be to a member
// that the others do not hear, and those take it back.)
type calm struct{ who, lost uint8 }

// fault says of a kind of event that it is one of those that a bound on all faults together is about.
func (b budget) fault() bool {
	switch b {
	case budAgentKill, budServerCrash, budUnknown, budFreezeNode, budApart, budStuck, budReclone:
		return true
	default:
		return false
	}
}

// mayLose says that a member may lose sight of the leader now. In most worlds it may at any time. Where every
// loss has a cause, the leader's node stands still, or nothing gets through to it or from here, or neither its
// agent nor its server runs. After the last fault those hear each other that it left together.
func (w *world) mayLose(s *State, i int) bool {
	c := w.content(s.m[i].snap)
	h := int(c.leader.name) - 1
	if s.calm.who != 0 && h >= 0 && s.calm.who&(1<<i) != 0 && s.calm.who&(1<<h) != 0 {
		return false
	}
	if !w.cfg.Caused || h < 0 || h == i {
		return true
	}
	o := &s.m[h]
	return s.m[i].cut == 2 || o.cut == 2 || o.frozen != 0 || o.agent == 0 && !o.runs()
}

// calmSteps begin the time without faults: for each set of members that includes a healthy leader and, of each
// published set, as many as its commits wait for.
func (x *walk) calmSteps() {
	w, s := x.w, x.s
	c := w.content(s.store)
	h := int(c.leader.name) - 1
	if h < 0 {
		return
	}
	l := &s.m[h]
	if !l.agentUp() || l.own.rev != c.leader.rev || l.server != serverPrimary {
		return
	}
	for who := 1; who < 1<<w.n; who++ {
		enough := who&(1<<h) != 0
		for n := range c.sync.sets {
			set := &c.sync.set[n]
			enough = enough && bits(set.mask&uint8(who)) >= set.wait
		}
		for i := range w.n {
			enough = enough && (who&(1<<i) == 0 || s.m[i].agentUp() && s.m[i].cut == 0)
		}
		if enough {
			x.do(stCalm, 0, who, func(s *State) bool { s.calm.who = uint8(who); return true })
		}
	}
}
