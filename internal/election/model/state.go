package model

import (
	"unsafe"
)

// Sizes of the largest world. Every field below is one byte, so that a state has no padding and can
// be hashed and compared as it lies in memory.
const (
	maxMembers = 4
	maxLog     = 12
	maxCommits = 3
	maxSets    = 4
	maxLate    = 2
)

// ref is a number of an interned store content or transaction, little endian.
type ref [3]uint8

func mkRef(n int) ref    { return ref{uint8(n), uint8(n >> 8), uint8(n >> 16)} }
func (r ref) index() int { return int(r[0]) | int(r[1])<<8 | int(r[2])<<16 }
func (r ref) zero() bool { return r == ref{} }

// revision of a key: the high half counts writes of the keys whose order matters, the low half the
// writes of one other key between two of those. Zero: none.
type revision uint8

// leaseID names a lease: member*4 + generation + 1. Zero: none.
type leaseID uint8

func mkLease(member, generation int) leaseID { return leaseID(member*4 + generation + 1) }
func (l leaseID) member() int                { return int(l-1) / 4 }
func (l leaseID) generation() int            { return int(l-1) % 4 }

// age is how far a span of time to live has run: see the package comment.
type age uint8

const (
	fresh   age = iota
	overdue     // a renewal should have come by now; only where failsafe mode looks at that
	giveUp      // the agent gives up by itself
	strikes     // the fencer strikes
	over        // the store may end the lease
)

// record is one entry of a log: timeline and what it is.
type record uint8

const (
	recFirst    = 31 // the first record of the cluster
	recPromoted = 8  // plus member: first record of a new timeline
	recShutdown = 16 // plus member: shutdown checkpoint
)

func mkRecord(timeline, what uint8) record { return record(timeline<<5 | what) }
func (r record) timeline() uint8           { return uint8(r) >> 5 }
func (r record) what() uint8               { return uint8(r) & 31 }

// log is a server's write-ahead log.
type log struct {
	n uint8
	e [maxLog]record
}

func (l *log) append(r record) bool {
	if int(l.n) >= maxLog {
		return false
	}
	l.e[l.n] = r
	l.n++
	return true
}

func (l *log) timeline() uint8 {
	if l.n == 0 {
		return 0
	}
	return l.e[l.n-1].timeline()
}

// end is where a timeline ends in this history: its last record if that is the newest, else the switch
// to the next one. Zero: the timeline is not in it.
func (l *log) end(timeline uint8) uint8 {
	for i := l.n; i > 0; i-- {
		if l.e[i-1].timeline() == timeline {
			return i
		}
	}
	return 0
}

// common is the length of the history that two logs share.
func (l *log) common(o *log) uint8 {
	n := min(l.n, o.n)
	for i := range n {
		if l.e[i] != o.e[i] {
			return i
		}
	}
	return n
}

func (l *log) prefixOf(o *log) bool { return l.n <= o.n && l.common(o) == l.n }

// position of a commit, plus one; zero: not there.
func (l *log) position(commit int) uint8 {
	for i := range l.n {
		if int(l.e[i].what()) == commit {
			return i + 1
		}
	}
	return 0
}

// serverState is what the processes of a server can do.
type serverState uint8

const (
	serverDown serverState = iota
	serverStandby
	serverPromoting
	serverPrimary
	serverStopping // shutdown checkpoint written: only walsenders are left
	serverOrphan   // no postmaster, but processes that can still answer their clients
)

// setting is synchronous_standby_names.
type setting struct{ anyOf, wait, mask uint8 }

// gap is what an agent knows of a vacancy.
type gap struct {
	open   uint8
	rev    revision
	lease  leaseID
	gone   uint8 // election.Tristate
	waited uint8
}

// title is election.Own.
type title struct {
	rev      revision
	lease    leaseID
	epoch    uint8
	age      age
	next     uint8 // the timeline that was reserved
	promised age   // of the last round of promises; over: none
}

// request is a transaction under way.
type request struct {
	txn    ref
	status uint8
	age    age      // since its lease was kept alive
	rev    revision // of the leader key, when it is carried out and not answered yet
}

const (
	reqNone uint8 = iota
	reqSent
	reqDone // carried out, the answer is on its way
	reqNot  // refused, the answer is on its way
	reqEcho // done and answered, and the agent's snapshot does not show it yet
)

// jobKind mirrors the jobs that the world knows.
type jobKind uint8

const (
	jobNone jobKind = iota
	jobStandby
	jobStart
	jobPromote
	jobDemote
	jobStop
	jobHandOver
	jobCompare
	jobRewind
	jobClone
)

// job is the running job of an agent.
type job struct {
	kind    jobKind
	phase   uint8
	arg     uint8 // member: upstream, source, candidate (plus one)
	flag    uint8
	forRev  revision
	cancel  uint8
	decided ref // the snapshot it was decided from
	end     uint8
	set     setting
	sync    uint8 // the sync key that a hand-over writes, by its number
}

// answer is one answer of a round of probes.
type answer struct {
	ok, role, timeline, length, barred uint8
	lost                               revision
}

// changing is a change of the setting under way.
type changing struct {
	phase   uint8
	next    setting
	copies  [maxMembers]uint8 // whose data those in it had when it was decided
	over    revision          // the sync key that it was decided from
	writing uint8
}

// round is a round of failsafe promises that a leader asks for.
type round struct {
	asking uint8
	given  uint8 // who promised
	age    age   // since it was begun
}

// probes is the last round.
type probes struct {
	state uint8 // 1: there are answers
	ans   [maxMembers]answer
}

// token is what the fencer keeps.
type token struct {
	armed uint8
	rev   revision
	lease leaseID
	age   age
}

// freeze is the local side of a vote.
type freeze struct {
	recorded, epoch, proven uint8
	rev                     revision
	old                     uint8 // longer than the bound for a fruitless freeze; only within a step
	restoreOff              uint8
}

// member is one node: agent, fencer, server and disk.
type member struct {
	// The agent: all of this is lost when its process ends.
	agent    uint8
	snap     ref
	gap      gap
	own      title
	lease    leaseID
	kept     request // a round of proof under way; only status and age are used
	job      job
	req      [2]request
	probes   probes   // only within a step
	lost     revision // the leader key whose holder it has lost sight of; only within a step
	handFail revision // the failover request whose hand-over failed
	div      uint8    // election.Divergence
	divFor   revision
	giving   uint8
	gave     revision // the leader key that a release or hand-over on its way is about
	// changing: a change of the setting is under way: decided (1), in the files (2).
	changing changing
	// writing: an own write of the sync key over the revision `over` was sent (1), perhaps more than once
	// (2), and the snapshot does not show yet what became of it.
	writing uint8
	over    revision
	failRev revision // the title of a promotion that failed
	inForce uint8    // the setting is proven to be in force
	barrier uint8
	copies  [maxMembers]uint8 // whose data those in the setting had when the barrier was read
	round   round
	stuck   uint8 // its watch brings nothing new; only where that is a fault
	racing  uint8 // a transaction that takes the key was sent, and its fate is not known
	// The fencer.
	tok     token
	promise uint8 // to whom it promised not to race, plus one; zero: to nobody
	// The node.
	frozen uint8
	cut    uint8 // no replication to this member (1), or nothing at all between it and the others (2)
	// The server and its disk.
	server serverState
	clean  uint8
	signal uint8
	lag    uint8 // replay has not reached the end since the start
	wal    log
	up     uint8 // configured upstream, plus one
	recv   uint8 // where its walreceiver streams from, plus one; zero: none runs
	conn   uint8 // the member that knows how far it has flushed, plus one
	data   uint8
	pub    uint8      // the data that members/ shows for it
	now    setting    // what the files say
	before [2]setting // what some process may still go by
	frz    freeze
	// voteSent: a vote of this freeze was sent, or may have been, and is not known to be withdrawn.
	voteSent uint8
	noSync   uint8
	// absent: it has not streamed for so long that the set does without it.
	absent uint8
}

// leases are the leases of one member in the store.
type leases struct {
	alive uint8 // bit per generation
	age   [4]age
}

// commit is the life of one client transaction.
type commit struct {
	state  uint8
	origin uint8
}

const (
	commitNone uint8 = iota
	commitWaits
	commitAcked
	commitGone // its session is over without an answer
)

// ghost is an earlier node of a member's name that nobody can reach.
type ghost struct {
	active uint8
	member uint8
	lease  leaseID
	age    age
}

// State is one state of the world.
type State struct {
	store   ref
	m       [maxMembers]member
	leases  [maxMembers]leases
	commits [maxCommits]commit
	late    [maxLate]ref // transactions that may yet be carried out
	ghost   ghost
	calm    calm
	left    [numBudgets]uint8
	broken  uint8 // a check that a step itself made failed (a violation number)
}

// budget names a kind of event that happens a bounded number of times.
type budget int

const (
	budCommit budget = iota
	budAgentKill
	budServerCrash
	budUnknown
	budFreezeNode
	budCut
	budSwitchover
	budFailover
	budDelete
	budGhost
	budReclone
	budFreeze
	budReigns
	budSilent
	budNoSync
	budAbsent
	budArchive
	budRounds
	budVote
	budApart
	budStuck
	budFaults
	numBudgets
)

func (b budget) String() string {
	return [...]string{
		"commits", "agent restarts", "server crashes", "unknown outcomes", "node freezes",
		"replication cuts", "switchovers", "failovers by hand", "deleted leader keys", "doubled nodes", "re-clones",
		"freezes for a vote", "changes of the leader", "unanswered probes", "changes of the set", "voters given up", "records from the archive", "rounds of promises", "votes",
		"nodes apart", "watches stuck", "faults of any kind",
	}[b]
}

// bytes are the member as it lies in memory: it holds nothing but single bytes.
func (m *member) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}

// rest is all of a state but the store and the members.
func (s *State) rest() []byte {
	from := unsafe.Offsetof(s.leases)
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(s), from)), unsafe.Sizeof(*s)-from)
}

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func (m *member) writable() bool {
	return m.server == serverPrimary || m.server == serverOrphan
}

func (m *member) runs() bool { return m.server == serverStandby || m.server == serverPrimary }

func (m *member) agentUp() bool { return m.agent != 0 && m.frozen == 0 }
