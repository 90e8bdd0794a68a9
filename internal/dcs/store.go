// Package dcs is the contract with the consensus store: the keys of a cluster, their values, and
// the few operations that pgha needs. Keys and values are those of the rows D of the Patroni
// interface, so that a Patroni member and its tools read and write the same cluster.
//
// The package gives no guarantee about who may write to PostgreSQL. It gives facts (who holds
// which key at which revision, whether a lease lives) and compare-and-swap transactions; the rules
// that make a leader out of them are in internal/election.
package dcs

import (
	"context"
	"errors"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// Sentinel errors. Adapters translate what their client returns into these at the border.
// No caller may decide about a running PostgreSQL by the kind of error: only by the time left.
var (
	// ErrUnavailable: the request was certainly not carried out, or was a read. Try again.
	ErrUnavailable = errors.New("consensus store unavailable")
	// ErrUnknownOutcome: a write was sent and its fate is not known. The caller must read
	// (linearizably) before it acts on either outcome.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrLeaseNotFound: the lease named in a request does not exist (any more).
	ErrLeaseNotFound = errors.New("lease not found")
	// ErrAuth: the store refused the credentials.
	ErrAuth = errors.New("consensus store refused the credentials")
)

// KV is one key as stored. Key is relative to the cluster's base path: "leader", "members/a".
type KV struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Lease          election.LeaseID
}

// Snapshot is everything under the cluster's base path at one revision.
type Snapshot struct {
	// Revision of the store when the snapshot was true.
	Revision int64
	// ClusterID and RaftTerm of the answer; a change of ClusterID, or a revision that went
	// backwards, means that the store was restored or replaced (safety review, hole 5).
	ClusterID uint64
	RaftTerm  uint64
	// KVs sorted by key.
	KVs []KV
}

// Get finds one key. The second result is false if it is absent.
func (s Snapshot) Get(key string) (KV, bool) {
	for _, kv := range s.KVs {
		if kv.Key == key {
			return kv, true
		}
	}
	return KV{}, false
}

// Update is one delivery of a watch.
type Update struct {
	Snapshot Snapshot
	// Err is set when the watch is broken at this moment; Snapshot is then the last good one
	// (possibly empty). The watch repairs itself: a later Update without Err follows.
	Err error
	// Vanished lists keys whose deletion was seen in this update, with the lease and the mod
	// revision of the deleted value. Both are zero when the deletion itself was not seen (history
	// was compacted, or the store replaced, while the watch was broken): the key may then have
	// been rewritten on another lease before it went, so nothing may be concluded from the last
	// value that was seen. A key can be in Vanished and, made again, in Snapshot.
	Vanished []KV
}

// CmpKind says what a Cmp compares.
type CmpKind uint8

// Comparisons.
const (
	// CmpModRevision: the key's mod revision equals Revision. Zero means: the key is absent.
	CmpModRevision CmpKind = iota
	// CmpValue: the key exists and its value equals Value.
	CmpValue
	// CmpLease: the key exists and hangs on Lease.
	CmpLease
)

// Cmp is one condition of a transaction.
type Cmp struct {
	Key      string
	Kind     CmpKind
	Revision int64
	Value    []byte
	Lease    election.LeaseID
}

// Op is one write of a transaction: a put, or a delete when Delete is set.
type Op struct {
	Key    string
	Value  []byte
	Lease  election.LeaseID // zero: no lease
	Delete bool
}

// Txn is carried out whole or not at all: if all of If hold, all of Then is done.
type Txn struct {
	If   []Cmp
	Then []Op
}

// TxnResult is the store's definite answer to a Txn.
type TxnResult struct {
	// Done is false if a condition did not hold; nothing was written then.
	Done bool
	// Revision of the store after the transaction. When Done, every put key has this mod revision.
	Revision int64
	RaftTerm uint64
}

// Grant is a new lease.
type Grant struct {
	ID  election.LeaseID
	TTL time.Duration // as granted, which may differ from what was asked
}

// KeepAlive is the answer to one keep-alive request.
type KeepAlive struct {
	TTL      time.Duration
	RaftTerm uint64
}

// Proof is the answer of a linearizable read of the leader key (safety review, hole 4).
type Proof struct {
	Leader   KV
	Present  bool
	RaftTerm uint64
	Revision int64
}

// Store is a consensus store seen from one cluster's base path. Every method returns before its
// context's deadline; a caller without a deadline in its context is a bug, and implementations
// add a bound of their own.
//
// All methods are safe for concurrent use. None retries a write whose outcome is unknown.
type Store interface {
	// Load reads everything under the base path in one linearizable read.
	Load(ctx context.Context) (Snapshot, error)
	// Watch delivers the present state at once and then every change, each as a whole Snapshot
	// (slow readers may be given only the newest; Vanished keys are never merged away).
	// A broken watch is re-listed without end. The channel closes when ctx ends.
	Watch(ctx context.Context) <-chan Update
	// Grant makes a lease.
	Grant(ctx context.Context, ttl time.Duration) (Grant, error)
	// KeepAlive extends a lease once: one request, one answer, no stream, so that an answer can
	// never be matched to a later request. ErrLeaseNotFound if the lease is gone.
	KeepAlive(ctx context.Context, id election.LeaseID) (KeepAlive, error)
	// LeaseGone says whether the store knows that the lease does not exist any more.
	// An error means: not known.
	LeaseGone(ctx context.Context, id election.LeaseID) (bool, error)
	// Revoke ends a lease and deletes its keys. Never call it for a lease that held the leader
	// key before PostgreSQL is proven down.
	Revoke(ctx context.Context, id election.LeaseID) error
	// Prove reads the leader key linearizably.
	Prove(ctx context.Context) (Proof, error)
	// Apply carries out a transaction. ErrUnavailable: certainly not done.
	// ErrUnknownOutcome: it may have been done, now or later.
	Apply(ctx context.Context, txn Txn) (TxnResult, error)
	// Close ends all watches and connections.
	Close() error
}
