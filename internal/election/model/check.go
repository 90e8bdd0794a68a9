package model

import "fmt"

// violation is an invariant that does not hold in a state.
type violation uint8

// The invariants, by their numbers in the safety review.
const (
	violNone violation = iota
	violRefused
	violFollowFrozen
	violDivergence
	violDestroyed
	violAuthority
	violFence
	violTwoWriters
	violAckLost
	violHolderLacks
	violAckAfter
	violVote
	violFrozenMoved
	violQuorum
	violInherit
	violStaleSync
	violUnarmed
	violDown
	violHealth
	violPromise
	violEarlyAcquire
	violHandOver
	violRestored
	violRestless
)

func (v violation) String() string {
	switch v {
	case violNone:
		return "nothing is wrong"
	case violRefused:
		return "the core made a plan that its own second look refuses"
	case violFollowFrozen:
		return "I-07: a frozen member is pointed at the holder it voted against"
	case violDivergence:
		return "I-17: a standby streams across a divergence that nobody noticed"
	case violDestroyed:
		return "I-18: data is overwritten that holds an acknowledged commit its source lacks"
	case violAuthority:
		return "I-01: the leader key changed hands without a new epoch"
	case violFence:
		return "I-02: the fencer's deadline lies behind the end of the lease"
	case violTwoWriters:
		return "I-03: two servers can acknowledge at the same time"
	case violAckLost:
		return "I-04: a new holder does not have a commit that was acknowledged"
	case violHolderLacks:
		return "I-04: a new primary does not have a commit that was acknowledged"
	case violAckAfter:
		return "I-05: a commit is acknowledged that the present holder does not have"
	case violVote:
		return "I-06: a vote says less than its member has"
	case violFrozenMoved:
		return "I-07: a member whose vote stands took up more of the log"
	case violQuorum:
		return "I-08: commits can be acknowledged by members that no takeover need ask"
	case violInherit:
		return "I-09: a takeover that the published electorate allows would lose an acknowledged commit"
	case violStaleSync:
		return "I-10: the electorate of an earlier holder was published in a later reign"
	case violUnarmed:
		return "I-12: a server is writable and its fencer is not armed"
	case violDown:
		return "I-13: the key was given away while a process of the server could still write"
	case violHealth:
		return "I-14: two servers answer as the primary"
	case violPromise:
		return "I-15: a member that promised not to took the key by time"
	case violEarlyAcquire:
		return "I-16: the key was taken by time while another server could still write"
	case violRestored:
		return "I-17: a member that follows the new holder took records of the old timeline past the fork"
	case violRestless:
		return "L3: the leader changes again and again although nothing goes wrong any more"
	case violHandOver:
		return "I-04: a hand-over lost a commit that was acknowledged"
	}
	return fmt.Sprintf("violation %d", uint8(v))
}

// check looks at a state. Zero: nothing is wrong.
func (w *world) check(s *State) violation {
	if s.broken != 0 {
		return violation(s.broken)
	}
	if v := w.checkWriters(s); v != violNone {
		return v
	}
	if w.sync() {
		return w.checkSync(s)
	}
	return violNone
}

// canWrite says that a server may acknowledge at this moment or as soon as its node goes on.
func (w *world) canWrite(s *State, i int) bool {
	m := &s.m[i]
	if !m.writable() {
		return false
	}
	return m.frozen == 0 || m.tok.armed == 0 || m.tok.age < strikes
}

// checkWriters: I-02, I-03, I-12, I-14.
func (w *world) checkWriters(s *State) violation {
	writers, healthy := 0, 0
	c := w.content(s.store)
	for i := range w.n {
		m := &s.m[i]
		if w.canWrite(s, i) {
			writers++
		}
		if m.server == serverPrimary && m.tok.armed == 0 || m.server == serverPromoting && m.tok.armed == 0 {
			return violUnarmed
		}
		if m.tok.armed != 0 && m.tok.rev == c.leader.rev && m.tok.rev != 0 && !w.cfg.Failsafe &&
			s.leases[c.leader.lease.member()].age[c.leader.lease.generation()] > m.tok.age && !w.cfg.ClockStops {
			return violFence
		}
		if m.agentUp() && m.own.rev != 0 && m.own.age == fresh && m.tok.armed != 0 && m.server == serverPrimary &&
			m.job.kind == jobNone {
			healthy++
		}
	}
	if s.ghost.active != 0 && s.ghost.age < strikes {
		writers++
	}
	switch {
	case w.sync():
		return violNone // time alone does not part writers there, votes do
	case writers > 1:
		return violTwoWriters
	case healthy > 1:
		return violHealth
	}
	return violNone
}

// checkTxn looks at a transaction right before the store carries it out, if its conditions hold.
func (w *world) checkTxn(s *State, id ref) {
	if a := w.try(s.store, id); !a.done || !a.fits || s.broken != 0 {
		return
	}
	t := w.txn(id)
	m := &s.m[t.owner]
	switch t.kind {
	case txnRelease, txnHandOver:
		if m.writable() {
			s.broken = uint8(violDown)
		}
	case txnAcquire:
		for j := range w.n {
			if w.sync() && s.m[j].tok.rev != w.content(s.store).gone.rev {
				continue // replaced by votes: what it writes is never confirmed
			}
			if j != t.owner && w.canWrite(s, j) && !w.cfg.ClockStops {
				s.broken = uint8(violEarlyAcquire)
			}
		}
		if s.ghost.active != 0 && s.ghost.age < strikes {
			s.broken = uint8(violEarlyAcquire)
		}
	default: // neither gives the key away nor takes it by time
	}
}

// checkDone looks at the store right after a transaction.
func (w *world) checkDone(s *State, t *transaction) {
	if s.broken != 0 {
		return
	}
	holder := t.owner
	switch t.kind {
	case txnAcquire, txnTakeOver:
	case txnHandOver:
		holder = int(w.content(s.store).leader.name) - 1
	default:
		return
	}
	if !w.sync() && t.kind == txnAcquire {
		return // bounded loss is what the asynchronous mode promises
	}
	if k := &w.content(s.store).sync; s.m[holder].wal.n == 0 || k.has != 0 && k.data != s.m[holder].data {
		return // its disk was replaced since it asked: whether it serves all the same is checked on its own
	}
	for c := range s.commits {
		if s.commits[c].state == commitAcked && s.m[holder].wal.position(c) == 0 {
			s.broken = uint8(violAckLost)
			if t.kind == txnHandOver {
				s.broken = uint8(violHandOver)
			}
		}
	}
}

// checkAck looks at a commit that was just acknowledged: the present holder must have it, and in the
// synchronous modes every later one will.
func (w *world) checkAck(s *State, i, c int) {
	holder := w.content(s.store).leader.name
	if !w.sync() || holder == 0 || int(holder) == i+1 {
		return
	}
	if s.m[holder-1].wal.position(c) == 0 {
		s.broken = uint8(violAckAfter)
	}
}
