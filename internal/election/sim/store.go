package sim

import (
	"bytes"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// store is the consensus store as its clients see it: linearizable, with one revision for each
// transaction, leases that delete their keys some time after they ran out, and the weaknesses that
// etcd has: a new leader gives every lease its full time again, and an old one may go on answering
// keep-alives for a while (safety review, hole 6).
type store struct {
	w     *World
	clock clock
	up    bool
	rev   int64
	id    uint64
	term  uint64
	keys  []kv // sorted by key
	lease []storeLease
	last  election.LeaseID
	// stale keep-alives: until then the node at that place reaches the former leader.
	staleUntil []time.Duration

	snap     *dcs.Snapshot
	cluster  *election.Cluster
	clusterR int64
	// dirty are the keys that changed since then.
	dirty []string
	// tries counts the transactions that were asked for.
	tries int
	// writeAs goes with the write that is being made.
	writeAs known
	// takingOver: the transaction rests on votes.
	takingOver, byVotes bool
	// gone are the deletions of the leader key, for watches.
	gone     []deletion
	watchers []*watcher
}

type kv struct {
	key    string
	value  []byte
	create int64
	mod    int64
	lease  election.LeaseID
	known  known
}

type storeLease struct {
	id      election.LeaseID
	ttl     time.Duration
	expires time.Duration // true time
	// grace is how much later the store looks; watched: it is going to.
	grace   time.Duration
	watched bool
}

type deletion struct {
	rev int64
	kv  dcs.KV
}

func newStore(w *World, nodes int, rate int64) *store {
	return &store{
		w: w, up: true, rev: 1, id: 1, term: 1, last: 1000, clock: clock{rate: rate},
		staleUntil: make([]time.Duration, nodes),
	}
}

func (s *store) find(key string) (int, bool) {
	lo, hi := 0, len(s.keys)
	for lo < hi {
		if mid := (lo + hi) / 2; s.keys[mid].key < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(s.keys) && s.keys[lo].key == key
}

func (s *store) get(key string) (kv, bool) {
	if i, ok := s.find(key); ok {
		return s.keys[i], true
	}
	return kv{}, false
}

func (s *store) leaseAt(id election.LeaseID) int {
	for i := range s.lease {
		if s.lease[i].id == id {
			return i
		}
	}
	return -1
}

// grant makes a lease, in whole seconds like etcd.
func (s *store) grant(ttl time.Duration) dcs.Grant {
	s.last++
	g := dcs.Grant{ID: s.last, TTL: max((ttl+time.Second-1)/time.Second, 1) * time.Second}
	s.lease = append(s.lease, storeLease{id: g.ID, ttl: g.TTL})
	s.extend(len(s.lease) - 1)
	return g
}

// extend gives a lease its full time.
func (s *store) extend(i int) {
	l := &s.lease[i]
	l.expires = s.w.now + s.clock.duration(l.ttl)
	l.grace = s.w.between(0, 500*time.Millisecond)
	if !l.watched {
		l.watched = true
		s.watchLease(l.id, l.expires+l.grace)
	}
}

// watchLease ends the lease when it has run out; etcd looks every half second.
func (s *store) watchLease(id election.LeaseID, at time.Duration) {
	s.w.at(at, func() {
		i := s.leaseAt(id)
		if i < 0 {
			return
		}
		l := &s.lease[i]
		switch end := l.expires + l.grace; {
		case end > at:
			s.watchLease(id, end)
			return
		case !s.up:
			l.watched = false // the next leader of the store gives every lease its time again
			return
		}
		s.lease = slices.Delete(s.lease, i, i+1)
		s.w.note(-1, "store: lease %d ran out", id)
		var ops []dcs.Op
		for _, k := range s.keys {
			if k.lease == id {
				ops = append(ops, dcs.Op{Key: k.key, Delete: true})
			}
		}
		s.write(ops)
	})
}

func (s *store) keepAlive(id election.LeaseID, from int) (dcs.KeepAlive, bool) {
	i := s.leaseAt(id)
	if s.w.now < s.staleUntil[from] {
		if i < 0 {
			return dcs.KeepAlive{}, false
		}
		return dcs.KeepAlive{TTL: s.lease[i].ttl, RaftTerm: s.term - 1}, true
	}
	if i < 0 {
		return dcs.KeepAlive{}, false
	}
	s.extend(i)
	return dcs.KeepAlive{TTL: s.lease[i].ttl, RaftTerm: s.term}, true
}

func (s *store) prove() dcs.Proof {
	p := dcs.Proof{RaftTerm: s.term, Revision: s.rev}
	if k, ok := s.get(dcs.KeyLeader); ok {
		p.Leader, p.Present = k.out(), true
	}
	return p
}

func (k kv) out() dcs.KV {
	return dcs.KV{Key: k.key, Value: k.value, CreateRevision: k.create, ModRevision: k.mod, Lease: k.lease}
}

// apply carries out a transaction.
func (s *store) apply(t dcs.Txn) (dcs.TxnResult, error) {
	s.tries++
	for _, c := range t.If {
		if !s.holds(c) {
			return dcs.TxnResult{Revision: s.rev, RaftTerm: s.term}, nil
		}
	}
	for _, op := range t.Then {
		if op.Lease != 0 && s.leaseAt(op.Lease) < 0 {
			return dcs.TxnResult{}, dcs.ErrLeaseNotFound
		}
	}
	s.write(t.Then)
	return dcs.TxnResult{Done: true, Revision: s.rev, RaftTerm: s.term}, nil
}

func (s *store) holds(c dcs.Cmp) bool {
	k, ok := s.get(c.Key)
	switch c.Kind {
	case dcs.CmpModRevision:
		return k.mod == c.Revision // both zero: absent
	case dcs.CmpValue:
		return ok && bytes.Equal(k.value, c.Value)
	case dcs.CmpLease:
		return ok && k.lease == c.Lease
	default:
		return false
	}
}

// applyKnown is apply for a transaction whose one write reads as is known.
func (s *store) applyKnown(t dcs.Txn, as known) (dcs.TxnResult, error) {
	s.writeAs = as
	res, err := s.apply(t)
	s.writeAs = known{}
	return res, err
}

// write makes changes in one revision, shows them to the checks and to the watches.
func (s *store) write(ops []dcs.Op) {
	effect := slices.ContainsFunc(ops, func(op dcs.Op) bool {
		_, there := s.find(op.Key)
		return !op.Delete || there
	})
	if !effect {
		return
	}
	before, had := s.get(dcs.KeyLeader)
	s.rev++
	for _, op := range ops {
		s.change(op)
	}
	s.snap = nil
	s.w.mix(uint64(s.rev))
	after, has := s.get(dcs.KeyLeader)
	s.byVotes = slices.ContainsFunc(ops, func(op dcs.Op) bool { return op.Key == dcs.KeySync }) && s.takingOver
	if had != has || before.mod != after.mod {
		if had && (!has || before.create != after.create) {
			s.gone = append(s.gone, deletion{s.rev, before.out()})
		}
		s.w.checks.leaderKey(before, had, after, has)
	}
	s.w.checks.syncKeys(ops)
	s.publish()
}

func (s *store) change(op dcs.Op) {
	s.dirty = append(s.dirty, op.Key)
	i, there := s.find(op.Key)
	switch {
	case op.Delete && there:
		s.keys = slices.Delete(s.keys, i, i+1)
	case op.Delete:
	case there:
		k := &s.keys[i]
		k.value, k.mod, k.lease, k.known = op.Value, s.rev, op.Lease, s.writeAs
	default:
		s.keys = slices.Insert(s.keys, i, kv{
			key: op.Key, value: op.Value, create: s.rev, mod: s.rev, lease: op.Lease, known: s.writeAs,
		})
	}
}

// snapshot is everything at the present revision. It is made once for each.
func (s *store) snapshot() *dcs.Snapshot {
	if s.snap == nil {
		snap := &dcs.Snapshot{Revision: s.rev, ClusterID: s.id, RaftTerm: s.term, KVs: make([]dcs.KV, len(s.keys))}
		for i, k := range s.keys {
			snap.KVs[i] = k.out()
		}
		s.snap = snap
	}
	return s.snap
}

// lose takes the majority away; it comes back under a new leader.
func (s *store) lose() { s.up = false }

func (s *store) recover() {
	s.up = true
	s.newLeader()
}

// newLeader counts the term up and gives every lease its full time again.
func (s *store) newLeader() {
	s.term++
	s.snap = nil
	for i := range s.lease {
		s.extend(i)
	}
}

// watchRetry is how often the network tries to deliver what the watch sent.
const watchRetry = 500 * time.Millisecond

// watcher is the stream of changes to one agent, in order and perhaps late.
type watcher struct {
	s     *store
	a     *agent
	lag   time.Duration
	queue []delivery
	// busy: the pump is scheduled.
	busy    bool
	stuck   time.Duration // how long the head could not be delivered
	broken  bool
	seenRev int64
}

type delivery struct {
	at       time.Duration
	rev      int64
	config   []byte
	cluster  *election.Cluster
	vanished []dcs.KV
}

// open starts a watch with the present state. Since is the revision that the agent knows.
func (s *store) open(a *agent, since int64, blind bool) *watcher {
	wt := &watcher{s: s, a: a, seenRev: since}
	s.watchers = slices.DeleteFunc(s.watchers, func(o *watcher) bool { return o.a == a })
	s.watchers = append(s.watchers, wt)
	wt.push(blind)
	return wt
}

func (s *store) publish() {
	for _, wt := range s.watchers {
		// Positions that moved are often shown with the next change only.
		if !s.writeAs.calm || s.w.chance(0.3) {
			wt.push(false)
		}
	}
}

// push queues the present state. A blind one lists deletions without their leases, as a watch does
// whose history was compacted meanwhile.
func (wt *watcher) push(blind bool) {
	if wt.broken {
		return
	}
	s := wt.s
	d := delivery{rev: s.rev, cluster: s.decoded()}
	if k, ok := s.get(dcs.KeyConfig); ok {
		d.config = k.value
	}
	for _, g := range s.gone {
		if g.rev > wt.seenRev && wt.seenRev > 0 {
			d.vanished = append(d.vanished, g.kv)
		}
	}
	if blind {
		for i := range d.vanished {
			d.vanished[i] = dcs.KV{Key: dcs.KeyLeader}
		}
	}
	wt.seenRev = s.rev
	d.at = s.w.now + s.w.net.delay(s.index(), wt.a.n.index) + wt.lag
	if n := len(wt.queue); n > 0 {
		d.at = max(d.at, wt.queue[n-1].at)
	}
	wt.queue = append(wt.queue, d)
	wt.pump()
}

func (s *store) index() int { return len(s.w.nodes) }

func (wt *watcher) pump() {
	if wt.busy || len(wt.queue) == 0 || wt.broken {
		return
	}
	wt.busy = true
	wt.s.w.cue(wt.queue[0].at-wt.s.w.now, wt, 0)
}

// act delivers the head of the queue.
func (wt *watcher) act(uint64) {
	wt.busy = false
	if len(wt.queue) == 0 || wt.broken || !wt.a.p.alive {
		return
	}
	now := wt.s.w.now
	if !wt.s.up || !wt.s.w.net.open(wt.s.index(), wt.a.n.index) {
		wt.stuck += watchRetry
		if wt.stuck > 3*time.Second {
			wt.fail()
			return
		}
		wt.queue[0].at = now + watchRetry
		wt.pump()
		return
	}
	wt.stuck = 0
	d := wt.queue[0]
	copy(wt.queue, wt.queue[1:])
	wt.queue = wt.queue[:len(wt.queue)-1]
	if wt.a.p.halted() {
		wt.a.p.run(func() { wt.a.takeSnapshot(d) })
	} else {
		wt.a.takeSnapshot(d)
	}
	wt.pump()
}

// fail ends the stream; the agent's client notices and lists again.
func (wt *watcher) fail() {
	wt.broken = true
	wt.queue = nil
	wt.a.p.run(func() { wt.a.watchBroken.raise() })
}
