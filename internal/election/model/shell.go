package model

// What the shell does to the server and its files, by the agreement between the core and the shell.

// follow points the running standby at another member. A server that is frozen for a vote is never
// pointed at the holder that the vote is against, whoever asks; towards another holder the record goes.
func (w *world) follow(s *State, i int, to uint8) {
	m := &s.m[i]
	if m.server != serverStandby {
		return
	}
	if m.frz.recorded != 0 {
		if w.content(m.snap).leader.rev == m.frz.rev && w.cfg.Bug != BugUnfreezeOnRestart {
			s.broken = uint8(violFollowFrozen)
			return
		}
		m.frz = freeze{restoreOff: flag(w.cfg.Bug != BugRestoreEarly)}
	}
	m.up, m.recv = to, to
	if to != 0 {
		m.conn = to
	}
}

// freeze writes the record and the frozen settings; the walreceiver is gone when that is proven.
func (w *world) freeze(s *State, i int, epoch uint8, rev revision) {
	m := &s.m[i]
	if m.frz.recorded != 0 && m.frz.rev == rev || m.server != serverStandby ||
		s.left[budReigns] == 0 || !w.spend(s, budFreeze) {
		return
	}
	m.frz = freeze{recorded: 1, epoch: epoch, rev: rev, restoreOff: 1}
	m.up, m.voteSent = 0, 0
	if w.cfg.Bug == BugVoteBeforeStopped {
		m.frz.proven = 1
	}
}

// proveFrozen: no walreceiver runs any more, the startup process has read the empty setting, and replay
// has come to the end of what is there.
func (w *world) proveFrozen(s *State, i int) {
	m := &s.m[i]
	m.frz.proven, m.recv = 1, 0
}

func (w *world) thaw(s *State, i int) {
	if w.cfg.Bug == BugNeverThaw {
		return
	}
	m := &s.m[i]
	m.frz, m.voteSent = freeze{}, 0
}

// changeSync begins to make a setting the one in force.
func (w *world) changeSync(s *State, i int, set setting) {
	m := &s.m[i]
	if m.server != serverPrimary || m.changing.phase != 0 {
		return
	}
	m.changing = changing{phase: 1, next: set, over: w.content(m.snap).sync.seen(), writing: m.writing}
	for j := range w.n {
		if set.mask&(1<<j) != 0 {
			m.changing.copies[j] = s.m[j].pub
		}
	}
}

// setSync writes the setting and reloads, unless the sync key that it was decided from is out of date by
// now. Until it is proven to be in force, a process may go by any of those before it.
func (w *world) setSync(s *State, i int) bool {
	m := &s.m[i]
	set := m.changing.next
	late := m.changing.over != w.content(m.snap).sync.seen() || m.changing.writing != m.writing
	if m.server != serverPrimary || late && w.cfg.Bug != BugSetWhileWriting && w.cfg.Bug != BugSettingsOverlap {
		m.changing = changing{}
		return true
	}
	m.changing.phase = 2
	if m.now == set {
		m.inForce = 0
		return true
	}
	switch {
	case m.inForce != 0 || m.before[0] == m.now && m.before[1] == m.now:
		m.before = [2]setting{m.now, m.now}
	case m.before[1] == m.before[0] || m.before[1] == m.now:
		m.before[1] = m.now
	default:
		w.clipped["settings not in force at once"]++
		s.broken = outOfBounds
		return true
	}
	m.now, m.inForce, m.barrier = set, 0, 0
	if w.cfg.Bug == BugShowIsForce {
		before := m.before
		w.proveSync(s, i)
		m.before = before
	}
	return true
}

// proveSync: a canary waited by the present setting and every walsender has answered since, so that
// no process goes by an older one. What was written until then lies before the barrier.
func (w *world) proveSync(s *State, i int) {
	m := &s.m[i]
	m.before = [2]setting{m.now, m.now}
	m.inForce, m.barrier = 1, m.wal.n
	m.copies, m.changing = m.changing.copies, changing{}
}

// changeSteps carry a change of the setting further, or give the proof up for now.
func (x *walk) changeSteps(i int) {
	w := x.w
	switch x.s.m[i].changing.phase {
	case 1:
		x.do(stSetSync, i, 0, func(s *State) bool { return w.setSync(s, i) })
	case 2:
		x.do(stProveSync, i, 0, func(s *State) bool {
			if s.m[i].server != serverPrimary {
				return false
			}
			w.proveSync(s, i)
			return true
		})
		x.do(stUnproven, i, 0, func(s *State) bool { s.m[i].changing = changing{}; return true })
	}
}

// startServer starts the processes of a server. Which timeline and position a standby reports before
// its replay has come to the end is less than what it has.
func (w *world) startServer(s *State, i int, as serverState) {
	m := &s.m[i]
	m.server, m.clean, m.recv = as, 0, 0
	m.before = [2]setting{m.now, m.now}
	m.inForce, m.barrier, m.copies = 0, 0, [maxMembers]uint8{}
	if as == serverStandby {
		m.signal, m.lag, m.recv = 1, flag(w.sync()), m.up
		if m.up != 0 {
			m.conn = m.up
		}
		return
	}
	m.signal, m.lag, m.conn, m.up = 0, 0, 0, 0
}

// kill ends all processes of a server. Clients that waited get no answer.
func (w *world) kill(s *State, i int) {
	m := &s.m[i]
	if m.server == serverPromoting {
		m.signal = flag(m.wal.e[m.wal.n-1].what() != recPromoted+uint8(i)) // ended before or after
	}
	if m.server != serverStopping {
		m.clean = 0
	}
	m.server, m.recv = serverDown, 0
	w.endSessions(s, i)
}

func (w *world) endSessions(s *State, i int) {
	for c := range s.commits {
		if x := &s.commits[c]; x.state == commitWaits && int(x.origin) == i {
			x.state = commitGone
		}
	}
}

// shutDown is the first half of a fast shutdown: clients are gone, the shutdown checkpoint is written.
func (w *world) shutDown(s *State, i int) {
	m := &s.m[i]
	switch m.server {
	case serverPrimary:
		w.endSessions(s, i)
		if !m.wal.append(mkRecord(m.wal.timeline(), recShutdown+uint8(i))) {
			w.clipped["log"]++
			s.broken = outOfBounds
			return
		}
		m.server, m.clean = serverStopping, 1
	case serverPromoting, serverOrphan:
		w.kill(s, i)
	case serverStandby:
		w.kill(s, i)
		m.clean = 1
	default: // down, or on its way
	}
}

// restore takes the next record from the archive, to which every server that was a primary has sent its
// log. Past the point where the present holder went its own way that is a history nobody follows.
func (w *world) restore(s *State, i int) bool {
	m := &s.m[i]
	for j := range w.n {
		o := &s.m[j]
		if j == i || o.server == serverStandby || o.wal.n <= m.wal.n || !m.wal.prefixOf(&o.wal) {
			continue
		}
		if !w.spend(s, budArchive) {
			return false
		}
		m.wal.append(o.wal.e[m.wal.n])
		if h := w.content(s.store).leader.name; h != 0 && int(m.up) == int(h) && m.wal.common(&s.m[h-1].wal) < m.wal.n &&
			m.wal.n > s.m[h-1].wal.end(m.wal.timeline()) {
			s.broken = uint8(violRestored)
		}
		return true
	}
	return false
}
