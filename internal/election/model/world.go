package model

import (
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

const (
	systemID = "7000000000000000001"
	worldTTL = 30 * time.Second
	worldNow = 1000 * time.Second
	silence  = 700 * time.Millisecond
)

// Config is one bounded world.
type Config struct {
	Name    string
	Members int
	// Mode and Nodes are synchronous_mode and synchronous_node_count; Wait is what they come to in
	// the first state: how many standbys a commit waits for.
	Mode   election.SyncMode
	Nodes  int
	Strict bool
	// Clock lets time pass. Without it leases never end and titles never age.
	Clock bool
	// Split lets a proof of ownership be under way while time passes.
	Split    bool
	Failsafe bool
	// ClockStops: a node that stands still has a clock that stands still as well, as under a hypervisor.
	ClockStops bool
	// Tail: what the others do after the last change of the leader that the bounds allow (they rejoin) is
	// walked as well. Without it only the last holder acts from then on, and whoever is a primary still.
	Tail bool
	// OldCopies: a disk that is replaced may also come back with an old copy of the data.
	OldCopies bool
	// Caused: who loses sight of the leader has a reason for it, which is a fault: see mayLose.
	Caused bool
	// Calm: at some moment all goes well from then on: see calmSteps.
	Calm bool
	// Prompt: watches never lag, but for those that are stuck. NoRenew: no title is ever proven again. Dead: the members, by bit, whose
	// agents never run. They make worlds small in which a certain bug is looked for.
	Prompt  bool
	NoRenew bool
	Dead    uint8
	// OldRace: an attempt of b to take the key is still under way, from an earlier vacancy that a filled.
	OldRace bool
	// Left bounds how often each kind of event happens.
	Left map[budget]int
	// Full: nothing of what makes a world smaller (reduce.go) is done.
	Full bool
	// MaxStates bounds the walk; zero: none.
	MaxStates int
	Bug       Bug
}

// world walks one Config.
type world struct {
	cfg      Config
	n        int
	margin   time.Duration
	contents []content
	known    map[content]int
	txns     []transaction
	txnIDs   map[string]int
	plans    map[viewKey]*planned
	tries    map[[2]ref]applied
	voids    map[[2]ref]bool
	views    map[glance]ref
	syncs    []election.SyncState
	// decides counts calls of the real Decide, rules those of each rule's plans.
	decides int
	rules   map[election.RuleID]int
	clipped map[string]int // what the bounds cut off
}

func newWorld(cfg Config) *world {
	return &world{
		cfg: cfg, n: cfg.Members, margin: election.MarginFloor(worldTTL),
		known: map[content]int{}, txnIDs: map[string]int{}, plans: map[viewKey]*planned{}, tries: map[[2]ref]applied{}, voids: map[[2]ref]bool{}, views: map[glance]ref{},
		contents: make([]content, 1), txns: make([]transaction, 1),
		rules: map[election.RuleID]int{}, clipped: map[string]int{},
	}
}

func (w *world) sync() bool { return w.cfg.Mode != election.SyncOff }

// intern gives a content its number.
func (w *world) intern(c content) ref {
	id, ok := w.known[c]
	if !ok {
		id = len(w.contents)
		w.contents = append(w.contents, c)
		w.known[c] = id
	}
	return mkRef(id)
}

func (w *world) content(r ref) *content { return &w.contents[r.index()] }

// internTxn gives a transaction its number.
func (w *world) internTxn(t transaction) ref {
	key := txnKey(t)
	id, ok := w.txnIDs[key]
	if !ok {
		id = len(w.txns)
		w.txns = append(w.txns, t)
		w.txnIDs[key] = id
	}
	return mkRef(id)
}

func (w *world) txn(r ref) *transaction { return &w.txns[r.index()] }

func txnKey(t transaction) string {
	b := make([]byte, 0, 256)
	b = append(b, uint8(t.kind), uint8(t.owner), t.next, t.epoch)
	for _, c := range t.txn.If {
		b = append(b, c.Key...)
		b = append(b, 0, uint8(c.Kind), uint8(c.Revision), uint8(c.Lease))
	}
	b = append(b, 1)
	for _, op := range t.txn.Then {
		b = append(b, op.Key...)
		b = append(b, 0, uint8(op.Lease), flag(op.Delete))
		b = append(b, op.Value...)
	}
	return string(b)
}

// applied is what a transaction comes to on a content.
type applied struct {
	after      ref
	done, fits bool
}

// try says what an interned transaction comes to: each is carried out once on each content.
func (w *world) try(store, txn ref) applied {
	k := [2]ref{store, txn}
	a, ok := w.tries[k]
	if !ok {
		var c content
		c, a.done, a.fits = w.content(store).apply(w.txn(txn).txn)
		a.after = w.intern(c)
		w.tries[k] = a
	}
	return a
}

// execute carries a transaction out on the store. done is the store's answer.
func (w *world) execute(s *State, t dcs.Txn) (done bool) {
	var a applied
	var c content
	c, a.done, a.fits = w.content(s.store).apply(t)
	a.after = w.intern(c)
	return w.commit(s, t, a)
}

// commit makes what a transaction comes to the content of the store.
func (w *world) commit(s *State, t dcs.Txn, a applied) (done bool) {
	for _, op := range t.Then {
		if op.Lease != 0 && !s.leaseAlive(leaseID(op.Lease)) {
			return false
		}
	}
	if !a.fits {
		w.clipped["revisions or sets"]++
		s.broken = outOfBounds
		return false
	}
	if before, after := w.content(s.store), w.content(a.after); a.done {
		taken := after.leader.name != before.leader.name && after.leader.name != 0
		if (after.reign.epoch < before.reign.epoch || taken && after.reign.epoch <= before.reign.epoch) && w.cfg.Bug != BugPromiseAndRace {
			s.broken = uint8(violAuthority)
		}
		if after.reign.epoch > before.reign.epoch && !w.spend(s, budReigns) {
			w.clipped["changes of the leader"]++
			s.broken = outOfBounds
			return false
		}
		if h := before.leader.name; after.reign.epoch > before.reign.epoch && h != 0 && s.calm.who&(1<<(h-1)) != 0 {
			if s.calm.lost++; s.calm.lost > 1 {
				s.broken = uint8(violRestless)
			}
		}
		s.store = a.after
	}
	return a.done
}

// keepSync gives a sync key that a hand-over writes a number; zero: it leaves the key.
func (w *world) keepSync(s *election.SyncState) uint8 {
	if s == nil {
		return 0
	}
	k := packSync(*s, 0)
	for i := range w.syncs {
		if packSync(w.syncs[i], 0) == k {
			return uint8(i + 1)
		}
	}
	w.syncs = append(w.syncs, *s)
	return uint8(len(w.syncs))
}

// outOfBounds marks a state that lies beyond the bounds: it is dropped.
const outOfBounds = 255

func (w *world) spend(s *State, b budget) bool {
	if s.left[b] == 0 {
		return false
	}
	if w.cfg.Left[budFaults] > 0 && b.fault() {
		if s.left[budFaults] == 0 {
			return false
		}
		s.left[budFaults]--
	}
	s.left[b]--
	return true
}

// first is the initial state: a leads, the others stream, everything is steady.
func (w *world) first() State {
	var s State
	c := content{major: 1}
	c.leader = leaderKey{name: 1, rev: 16, lease: mkLease(0, 0)}
	c.reign = reignKey{epoch: 1, holder: 1, next: 1, lease: mkLease(0, 0), rev: 16}
	if w.cfg.Failsafe {
		c.failsafe = failsafeKey{mask: uint8(1<<w.n - 1), rev: 17}
	}
	set := w.firstSync(&c)
	for i := range w.n {
		m := &s.m[i]
		m.agent, m.lease, m.server = 1, mkLease(i, 0), serverStandby
		m.own.promised = over
		m.up, m.recv, m.conn, m.signal, m.data, m.pub = 1, 1, 1, 1, 1, 1
		m.wal.append(mkRecord(1, recFirst))
		s.leases[i].alive = 1
	}
	a := &s.m[0]
	a.server, a.up, a.recv, a.conn, a.signal = serverPrimary, 0, 0, 0, 0
	a.own = title{rev: 16, lease: a.lease, epoch: 1, promised: over}
	a.tok = token{armed: 1, rev: 16, lease: a.lease}
	a.now, a.before = set, [2]setting{set, set}
	if w.sync() {
		w.changeSync(&s, 0, set)
		w.proveSync(&s, 0)
	}
	s.store = w.intern(c)
	for i := range w.n {
		s.m[i].snap = w.shown(&s, i)
	}
	for i := range w.n {
		if w.cfg.Dead&(1<<i) != 0 {
			s.m[i].agent, s.m[i].own = 0, title{promised: over}
		}
	}
	if w.cfg.OldRace {
		w.oldRace(&s, c)
	}
	for b, n := range w.cfg.Left {
		s.left[b] = uint8(n)
	}
	if _, set := w.cfg.Left[budVote]; !set {
		s.left[budVote] = s.left[budFreeze] // one for each freeze
	}
	return s
}

// oldRace puts the attempt of b under way that lost against a's, before it was carried out.
func (w *world) oldRace(s *State, c content) {
	c.leader, c.reign, c.failsafe, c.sync = leaderKey{}, reignKey{}, failsafeKey{}, syncKey{}
	m := &s.m[1]
	v := election.View{
		Self: election.Self{Name: nameOf(1)}, Lease: election.LeaseID(m.lease), Store: election.Store{Cluster: c.cluster()},
	}
	t, _ := w.build(&v, election.AcquireLeader{Reign: election.Reign{Epoch: 1, Holder: nameOf(1), ParentTimeline: 1, NextTimeline: 2}})
	m.req[0], m.racing = request{txn: w.internTxn(t), status: reqSent}, 1
}

// firstSync publishes the steady electorate of the first state and says the setting that goes with it.
func (w *world) firstSync(c *content) setting {
	if !w.sync() {
		return setting{}
	}
	others := w.n - 1
	mask := uint8(1<<w.n-1) &^ 1
	wait := min(w.cfg.Nodes, others)
	if w.cfg.Mode == election.SyncOn {
		others, mask = wait, uint8(1<<wait-1)<<1
	}
	k := syncKey{leader: 1, standbys: mask, has: 1, epoch: 1, data: 1, sets: 1, rev: 17, present: 1}
	quorum := others - wait + 1
	if w.cfg.Mode == election.SyncQuorum {
		k.quorum = uint8(quorum - 1)
	}
	k.set[0] = voterSet{mask: mask, wait: uint8(wait), quorum: uint8(quorum)}
	for i := 1; i < w.n; i++ {
		k.set[0].data[i] = mask >> i & 1
	}
	c.sync = k
	return setting{anyOf: flag(w.cfg.Mode == election.SyncQuorum), wait: uint8(wait), mask: mask}
}
