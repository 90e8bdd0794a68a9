package model

// checkSync: I-04, I-06, I-07, I-08, I-09, I-10.
func (w *world) checkSync(s *State) violation {
	c := w.content(s.store)
	for i := range w.n {
		v := &c.votes[i]
		if v.of == 0 || v.data != s.m[i].data || v.of != c.reign.rev || v.epoch != c.reign.epoch {
			continue // it is against a reign, or a writing of its key, that is over: no takeover can count it
		}
		if s.m[i].wal.n > v.pos {
			return violFrozenMoved
		}
	}
	if c.sync.has != 0 && c.leader.rev != 0 && c.sync.rev>>4 >= c.leader.rev>>4 && c.sync.leader != c.leader.name {
		return violStaleSync
	}
	if w.holderLacks(s, c) {
		return violHolderLacks
	}
	if v := w.checkQuorum(s, c); v != violNone {
		return v
	}
	return w.checkInherit(s, c)
}

// holderLacks: the holder runs as a primary and lacks an acknowledged commit.
func (w *world) holderLacks(s *State, c *content) bool {
	if c.leader.name == 0 {
		return false
	}
	h := &s.m[c.leader.name-1]
	if h.server != serverPrimary {
		return false
	}
	for k := range s.commits {
		if s.commits[k].state == commitAcked && h.wal.position(k) == 0 {
			return true
		}
	}
	return false
}

// satisfied says that a set of members has the votes that a takeover needs.
func (k *syncKey) satisfied(s *State, mask uint8) bool {
	if k.has == 0 || k.sets == 0 {
		return false
	}
	for n := range k.sets {
		set := &k.set[n]
		votes := uint8(0)
		for j := range maxMembers {
			if mask&set.mask&(1<<j) != 0 && s.m[j].data == set.data[j] && s.m[j].wal.n != 0 {
				votes++
			}
		}
		if votes < set.quorum {
			return false
		}
	}
	return true
}

// checkQuorum: for each setting that a process of the holder may go by, whoever acknowledges by it
// leaves no takeover that asks none of them.
func (w *world) checkQuorum(s *State, c *content) violation {
	if c.leader.name == 0 {
		return violNone
	}
	h := int(c.leader.name) - 1
	m := &s.m[h]
	if m.server != serverPrimary || m.own.rev != c.leader.rev {
		return violNone
	}
	all := uint8(1<<w.n-1) &^ (1 << h)
	for _, set := range [3]setting{m.now, m.before[0], m.before[1]} {
		for write := uint8(0); write <= all; write++ {
			if write&^(set.mask&all) != 0 || bits(write) != set.wait {
				continue
			}
			if c.sync.satisfied(s, all&^write) {
				return violQuorum
			}
		}
	}
	return violNone
}

func bits(x uint8) uint8 {
	n := uint8(0)
	for ; x != 0; x &= x - 1 {
		n++
	}
	return n
}

// checkInherit: whichever members froze now with enough votes, the best of them has every commit that
// was acknowledged. It speaks of the next takeover before it happens.
func (w *world) checkInherit(s *State, c *content) violation {
	if c.sync.has == 0 {
		return violNone
	}
	h := uint8(0)
	if c.leader.name != 0 {
		h = 1 << (c.leader.name - 1)
	}
	all := uint8(1<<w.n-1) &^ h
	for mask := uint8(1); mask <= all; mask++ {
		if mask&^all != 0 || !c.sync.satisfied(s, mask) {
			continue
		}
		best := -1
		for j := range w.n {
			if mask&(1<<j) == 0 {
				continue
			}
			if best < 0 || further(&s.m[j].wal, &s.m[best].wal) {
				best = j
			}
		}
		for k := range s.commits {
			if s.commits[k].state == commitAcked && s.m[best].wal.position(k) == 0 {
				return violInherit
			}
		}
	}
	return violNone
}

func further(a, b *log) bool {
	if a.timeline() != b.timeline() {
		return a.timeline() > b.timeline()
	}
	return a.n > b.n
}
