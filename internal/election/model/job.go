package model

import (
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Phases of the jobs that have more than one.
const (
	phaseBegin uint8 = iota
	phaseStop
	phaseSent
	phaseUnknown
	phaseGone
	phaseFailed
)

// jobStep takes the job of a member one step further. It says whether there was anything to do.
func (w *world) jobStep(s *State, i int) bool {
	m := &s.m[i]
	switch m.job.kind {
	case jobNone:
		return false
	case jobStandby:
		w.jobStartStandby(s, i)
	case jobStart:
		if w.ensureArmed(s, i) && m.server == serverDown {
			m.frz, m.voteSent = freeze{}, 0
			w.startServer(s, i, serverPrimary)
		}
		m.job = job{}
	case jobPromote:
		w.jobPromote(s, i)
	case jobDemote:
		return w.jobDemote(s, i)
	case jobStop:
		return w.jobStop(s, i)
	case jobHandOver:
		return w.jobHandOver(s, i)
	case jobCompare:
		return w.jobCompare(s, i)
	case jobRewind, jobClone:
		return w.jobCopy(s, i)
	}
	return true
}

// cancelJob calls a job off. One that already gave its order to the server cannot take it back.
func (w *world) cancelJob(s *State, i int) {
	m := &s.m[i]
	switch m.job.kind {
	case jobStandby, jobStart, jobCompare, jobRewind, jobClone:
		m.job = job{}
	case jobPromote:
		m.job = job{}
	case jobNone:
	default:
		m.job.cancel = 1
	}
}

func (w *world) ensureArmed(s *State, i int) bool {
	m := &s.m[i]
	if w.cfg.Bug == BugPromoteLate {
		return m.own.rev != 0
	}
	if m.own.rev == 0 || m.giving != 0 {
		return false
	}
	if m.tok.armed != 0 && m.tok.rev == m.own.rev {
		return m.tok.age < strikes
	}
	return w.arm(s, i)
}

func (w *world) jobStartStandby(s *State, i int) {
	m := &s.m[i]
	up := m.job.arg
	m.job = job{}
	if m.server != serverDown || m.wal.n == 0 {
		return
	}
	if m.frz.recorded != 0 && up != 0 {
		if w.content(m.snap).leader.rev == m.frz.rev {
			up = 0 // the settings stay frozen whatever was asked for
		} else {
			m.frz = freeze{restoreOff: 1}
		}
	}
	m.up = up
	w.startServer(s, i, serverStandby)
}

// jobPromote writes the setting, then gives the signal; the server becomes writable by itself.
func (w *world) jobPromote(s *State, i int) {
	m := &s.m[i]
	set := m.job.set
	m.job = job{}
	if m.server != serverStandby || !w.ensureArmed(s, i) {
		return
	}
	if w.cfg.Bug == BugNoWaitAtPromotion {
		set = setting{}
	}
	m.now, m.before, m.inForce, m.barrier, m.copies = set, [2]setting{set, set}, 0, 0, [maxMembers]uint8{}
	m.frz, m.voteSent = freeze{}, 0
	m.server, m.up, m.recv = serverPromoting, 0, 0
	if s.left[budServerCrash] == 0 && s.left[budAgentKill] == 0 {
		w.finishPromotion(s, i) // nothing can come between that would make a difference
	}
}

// finishPromotion is the server's own step: recovery ends, the new timeline begins.
func (w *world) finishPromotion(s *State, i int) {
	m := &s.m[i]
	next := max(m.own.next, m.wal.timeline()+1)
	if w.cfg.Bug == BugTwinTimelines || m.own.rev == 0 {
		next = m.wal.timeline() + 1
	}
	if next > 7 || !m.wal.append(mkRecord(next, recPromoted+uint8(i))) {
		w.clipped["log"]++
		s.broken = outOfBounds
		return
	}
	m.server, m.signal, m.conn = serverPrimary, 0, 0
}

// jobDemote silences the server and forgets the title when nothing is left of it.
func (w *world) jobDemote(s *State, i int) bool {
	m := &s.m[i]
	if m.server == serverPrimary && w.cfg.Bug == BugDownEarly {
		m.server = serverOrphan
	} else if m.own.rev != 0 && m.server == serverPrimary && w.cfg.Bug == BugDisarmEarly {
		w.drop(s, i)
		return true
	} else if m.server != serverDown {
		w.kill(s, i)
	}
	w.drop(s, i)
	m.job = job{}
	return true
}

func (w *world) jobStop(s *State, i int) bool {
	m := &s.m[i]
	switch {
	case m.job.phase == phaseBegin:
		w.shutDown(s, i)
		m.job.phase = phaseStop
	case m.server != serverDown:
		return false
	default:
		release := m.job.flag != 0
		m.job = job{}
		if release {
			w.startRelease(s, i)
		}
	}
	return true
}

// jobHandOver is a planned change: clean shutdown, the candidate has all of it, the key is given to the
// lease that it offered.
func (w *world) jobHandOver(s *State, i int) bool {
	m := &s.m[i]
	c := int(m.job.arg) - 1
	switch m.job.phase {
	case phaseBegin:
		if !s.m[c].agentUp() || s.m[c].server != serverStandby {
			w.handOverFailed(s, i)
			return true
		}
		w.shutDown(s, i)
		m.job.phase, m.job.end = phaseStop, m.wal.n
	case phaseStop:
		has := s.m[c].server == serverStandby && s.m[c].wal.n >= m.job.end && m.wal.prefixOf(&s.m[c].wal)
		if !has && w.cfg.Bug != BugHandOverEarly {
			return false
		}
		if m.server != serverStopping && m.server != serverDown || m.own.rev == 0 {
			m.job.phase = phaseFailed
			return true
		}
		return w.giveKey(s, i, c)
	case phaseSent, phaseUnknown:
		return false
	case phaseGone, phaseFailed:
		if m.server != serverDown {
			w.kill(s, i)
			return true
		}
		if m.job.phase == phaseGone {
			w.drop(s, i)
			m.job = job{}
			return true
		}
		w.handOverFailed(s, i)
	}
	return true
}

func (w *world) handOverFailed(s *State, i int) {
	m := &s.m[i]
	m.handFail = m.job.forRev
	m.job = job{}
}

// giveKey sends the transaction.
func (w *world) giveKey(s *State, i, candidate int) bool {
	m := &s.m[i]
	c := w.content(m.job.decided).cluster()
	offer, ok := c.Offer(nameOf(candidate))
	if !ok {
		m.job.phase = phaseFailed
		return true
	}
	end, tl := lsnOf(m.job.end), election.Timeline(m.wal.timeline())
	status := dcs.WithOptime(c.Status, end)
	t := transaction{kind: txnHandOver, owner: i, name: "hand over", txn: dcs.HandOver(dcs.HandOverSpec{
		LeaderRevision: int64(m.own.rev), Offer: offer, Seen: c, Status: &status, ClearFailover: true,
		Sync:    w.syncOf(m.job.sync),
		Release: election.Release{Name: nameOf(i), Checkpoint: end, Timeline: tl, Reason: "switchover"},
		Reign: election.Reign{
			Epoch: c.Reign.Epoch + 1, Holder: nameOf(candidate), ParentTimeline: tl,
			NextTimeline: max(c.Reign.NextTimeline, tl) + 1, LSN: end, Lease: offer.Lease,
		},
	})}
	w.bendTxn(&t)
	free := -1
	for n := range m.req {
		if m.req[n].status != reqSent && m.req[n].status != reqDone && m.req[n].status != reqNot {
			free = n
		}
	}
	if free < 0 {
		return false
	}
	m.req[free] = request{txn: w.internTxn(t), status: reqSent}
	m.giving, m.gave, m.job.phase = 1, m.own.rev, phaseSent
	return true
}

// burn resolves a hand-over or release whose outcome is not known: the key is written anew under the
// same lease, so that the old request can never be carried out, or it turns out to be gone.
func (w *world) burn(s *State, i int) {
	m := &s.m[i]
	c := w.content(s.store)
	kept := m.gave != 0 && c.leader.rev == m.gave
	if kept && w.cfg.Bug != BugUnknownFails {
		w.rewrite(s, i, m.gave)
	}
	m.giving, m.gave = 0, 0
	if w.cfg.Bug == BugTakesBack && !kept && m.job.kind == jobHandOver && s.leaseAlive(m.own.lease) {
		w.execute(s, dcs.Txn{Then: []dcs.Op{{Key: dcs.KeyLeader, Value: []byte(nameOf(i)), Lease: election.LeaseID(m.own.lease)}}})
		m.own.rev, m.job.phase = w.content(s.store).leader.rev, phaseFailed
		return
	}
	switch {
	case kept && m.job.kind == jobHandOver:
		m.job.phase = phaseFailed
	case kept:
		if m.own.rev != 0 {
			w.arm(s, i)
		}
	case m.job.kind == jobHandOver:
		m.job.phase = phaseGone
	default:
		w.drop(s, i)
	}
}

// jobCompare compares the own history with that of the member that led when it was decided.
func (w *world) jobCompare(s *State, i int) bool {
	m := &s.m[i]
	src := &s.m[m.job.arg-1]
	if src.frozen != 0 || !src.runs() {
		return false
	}
	same := m.wal.prefixOf(&src.wal)
	if (w.cfg.Bug == BugSameNumber || w.cfg.Bug == BugTwinTimelines) && m.wal.timeline() == src.wal.timeline() {
		same = true
	}
	m.div, m.divFor = uint8(election.DivergenceRewind), m.job.forRev
	if same {
		m.div = uint8(election.DivergenceNone)
	}
	m.job = job{}
	return true
}

// jobCopy is a rewind or a clone: the server is down, the store confirms the leader, the source serves,
// and the directory becomes a copy of it, with a new name for its data.
func (w *world) jobCopy(s *State, i int) bool {
	m := &s.m[i]
	if m.server != serverDown {
		w.shutDown(s, i)
		return true
	}
	src := &s.m[m.job.arg-1]
	if w.content(s.store).leader.rev != m.job.forRev || m.own.rev != 0 {
		m.job = job{}
		return true
	}
	if src.server != serverPrimary || src.frozen != 0 {
		return false
	}
	if w.sync() && w.destroys(s, m, src) {
		s.broken = uint8(violDestroyed)
		return true
	}
	if w.sync() && w.cfg.Bug != BugCloneKeepsVote {
		// A vote for the copy that goes, standing or on its way, must not count for the one that comes.
		w.execute(s, dcs.WithdrawVote(nameOf(i), int64(w.content(s.store).votes[i].rev), 0))
	}
	m.wal, m.clean, m.signal = src.wal, 0, 1
	if w.cfg.Bug != BugSameData {
		m.data++
	}
	m.conn, m.div, m.divFor = 0, uint8(election.DivergenceNone), m.job.forRev
	m.frz, m.voteSent = freeze{}, 0
	m.up = m.job.arg
	follow := m.job.kind == jobClone
	m.job = job{}
	if follow {
		w.startServer(s, i, serverStandby)
	}
	return true
}

// destroys says that a copy from src would remove an acknowledged commit that src does not have.
func (w *world) destroys(s *State, m, src *member) bool {
	for c := range s.commits {
		if s.commits[c].state == commitAcked && m.wal.position(c) != 0 && src.wal.position(c) == 0 {
			return true
		}
	}
	return false
}

// syncOf is the sync key of a number.
func (w *world) syncOf(n uint8) *election.SyncState {
	if n == 0 {
		return nil
	}
	return &w.syncs[n-1]
}
