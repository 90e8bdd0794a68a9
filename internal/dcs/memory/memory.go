// Package memory is a consensus store in memory, for tests and for the simulator. It keeps the
// semantics that the rest of pgha relies on (one revision per transaction, leases that delete their
// keys, watches that may lag), and it can be told to misbehave the way a real store does: unreachable,
// a write whose outcome nobody knows, a watch that is late or blind.
//
// Time is whatever the clock given to NewServer says. Leases are expired by that clock at every call
// and by Expire; nothing runs in the background unless RunExpiry is started.
package memory

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// record is one stored key. The key is absolute: base path and all.
type record struct {
	value  []byte
	create int64
	mod    int64
	lease  election.LeaseID
}

type lease struct {
	ttl     time.Duration
	expires time.Duration
}

// event is one change of one key. prev is nil for a created key, next for a deleted one.
type event struct {
	revision   int64
	key        string
	prev, next *record
}

// Server is one consensus store, shared by the handles of several agents.
type Server struct {
	now func() time.Duration

	mu        sync.Mutex
	revision  int64
	compacted int64
	clusterID uint64
	term      uint64
	nextLease election.LeaseID
	keys      map[string]*record
	leases    map[election.LeaseID]*lease
	log       []event
	down      bool
	changed   chan struct{} // closed and replaced at each change and each change of faults
}

// NewServer makes an empty store whose leases live by the given clock.
func NewServer(now func() time.Duration) *Server {
	return &Server{
		now: now, revision: 1, clusterID: 1, term: 1, nextLease: 1000,
		keys: map[string]*record{}, leases: map[election.LeaseID]*lease{}, changed: make(chan struct{}),
	}
}

// Store gives a handle for one agent on one cluster, such as "/service/demo". Each handle has
// faults of its own.
func (s *Server) Store(basePath string) *Store {
	return &Store{server: s, prefix: strings.TrimRight(basePath, "/") + "/", closed: make(chan struct{})}
}

// SetDown makes the whole store unreachable, or reachable again. Leases go on running out, but keys
// are deleted only when it is back, as in a store that lost its majority.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	if !down {
		s.expireLocked()
	}
	s.wakeLocked()
}

// NewLeader counts up the raft term. As in etcd, a new leader gives every lease its full time again.
func (s *Server) NewLeader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
	s.term++
	for _, l := range s.leases {
		l.expires = s.now() + l.ttl
	}
}

// Compact forgets all history, so that a watch that is behind must be re-listed.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = s.revision
	s.log = nil
	s.wakeLocked()
}

// Replace empties the store and gives it another identity and a lower revision, as when somebody
// restores an old snapshot or builds a new store at the same address.
func (s *Server) Replace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clusterID++
	s.revision, s.compacted = 1, 0
	s.keys, s.leases, s.log = map[string]*record{}, map[election.LeaseID]*lease{}, nil
	s.wakeLocked()
}

// Expire ends the leases whose time is over and deletes their keys. The simulator calls it when it
// moves the clock; every operation calls it too.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked()
}

// NextExpiry says when the next lease runs out. The second result is false if there is none.
func (s *Server) NextExpiry() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextExpiryLocked()
}

func (s *Server) nextExpiryLocked() (time.Duration, bool) {
	var next time.Duration
	found := false
	for _, l := range s.leases {
		if !found || l.expires < next {
			next, found = l.expires, true
		}
	}
	return next, found
}

func (s *Server) expireLocked() {
	if s.down {
		return
	}
	now := s.now()
	var gone []election.LeaseID
	for id, l := range s.leases {
		if l.expires <= now {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	for _, id := range gone {
		s.revokeLocked(id)
	}
}

// revokeLocked ends a lease. All its keys go in one revision.
func (s *Server) revokeLocked(id election.LeaseID) {
	delete(s.leases, id)
	var keys []string
	for key, r := range s.keys {
		if r.lease == id {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	s.revision++
	for _, key := range keys {
		s.deleteLocked(key)
	}
	s.wakeLocked()
}

func (s *Server) deleteLocked(key string) {
	if old, ok := s.keys[key]; ok {
		delete(s.keys, key)
		s.log = append(s.log, event{revision: s.revision, key: key, prev: old})
	}
}

func (s *Server) putLocked(key string, value []byte, id election.LeaseID) {
	old := s.keys[key]
	next := &record{value: bytes.Clone(value), create: s.revision, mod: s.revision, lease: id}
	if next.value == nil {
		next.value = []byte{}
	}
	if old != nil {
		next.create = old.create
	}
	s.keys[key] = next
	s.log = append(s.log, event{revision: s.revision, key: key, prev: old, next: next})
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// applyLocked carries out a transaction with absolute keys.
func (s *Server) applyLocked(prefix string, t dcs.Txn) (dcs.TxnResult, error) {
	s.expireLocked()
	for _, c := range t.If {
		if !holds(s.keys[prefix+c.Key], c) {
			return dcs.TxnResult{Revision: s.revision, RaftTerm: s.term}, nil
		}
	}
	for _, op := range t.Then {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return dcs.TxnResult{}, dcs.ErrLeaseNotFound
		}
	}
	effects := slices.ContainsFunc(t.Then, func(op dcs.Op) bool {
		return !op.Delete || s.keys[prefix+op.Key] != nil
	})
	if effects {
		s.revision++
		for _, op := range t.Then {
			if op.Delete {
				s.deleteLocked(prefix + op.Key)
			} else {
				s.putLocked(prefix+op.Key, op.Value, op.Lease)
			}
		}
		s.wakeLocked()
	}
	return dcs.TxnResult{Done: true, Revision: s.revision, RaftTerm: s.term}, nil
}

func holds(r *record, c dcs.Cmp) bool {
	switch c.Kind {
	case dcs.CmpModRevision:
		if r == nil {
			return c.Revision == 0
		}
		return r.mod == c.Revision
	case dcs.CmpValue:
		return r != nil && bytes.Equal(r.value, c.Value)
	case dcs.CmpLease:
		return r != nil && r.lease == c.Lease
	default:
		return false
	}
}

// snapshotLocked gives everything under a prefix.
func (s *Server) snapshotLocked(prefix string) dcs.Snapshot {
	snap := dcs.Snapshot{Revision: s.revision, ClusterID: s.clusterID, RaftTerm: s.term}
	for key, r := range s.keys {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			snap.KVs = append(snap.KVs, r.kv(name))
		}
	}
	slices.SortFunc(snap.KVs, func(a, b dcs.KV) int { return strings.Compare(a.Key, b.Key) })
	return snap
}

func (r *record) kv(name string) dcs.KV {
	return dcs.KV{Key: name, Value: bytes.Clone(r.value), CreateRevision: r.create, ModRevision: r.mod, Lease: r.lease}
}
