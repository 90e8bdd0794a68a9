package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Unknown says what really happens to a write whose outcome the caller is not told.
type Unknown uint8

// The fates of a write.
const (
	// Known: the caller gets the true answer.
	Known Unknown = iota
	// UnknownDone: the write is carried out, the answer is lost.
	UnknownDone
	// UnknownNotDone: the request is lost.
	UnknownNotDone
	// UnknownLater: the answer is lost, and the write is carried out when Store.Deliver is called.
	UnknownLater
)

// Faults are what one handle suffers.
type Faults struct {
	// Partition: nothing gets through in either direction.
	Partition bool
	// Writes is the fate of the next writes (Apply, Grant, Revoke), until it is set again.
	Writes Unknown
	// WatchHeld: the watch delivers nothing and says nothing, as one that hangs on a frozen server.
	WatchHeld bool
	// WatchDelay: changes are delivered this much later.
	WatchDelay time.Duration
}

// Store is one agent's handle on a Server.
type Store struct {
	server *Server
	prefix string
	closed chan struct{}
	once   sync.Once

	// The fields below are guarded by server.mu.
	faults Faults
	late   []func()
}

var _ dcs.Store = (*Store)(nil)

// SetFaults replaces the handle's faults.
func (h *Store) SetFaults(f Faults) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	h.faults = f
	h.server.wakeLocked()
}

// Faults gives the handle's present faults.
func (h *Store) Faults() Faults {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	return h.faults
}

// Deliver carries out the writes that UnknownLater kept back, in their order.
func (h *Store) Deliver() {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	late := h.late
	h.late = nil
	for _, f := range late {
		f()
	}
}

// enter takes the server's lock if a request would get through, and expires leases. The caller
// unlocks when there is no error.
func (h *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
	}
	if h.isClosed() {
		return fmt.Errorf("%w: the handle is closed", dcs.ErrUnavailable)
	}
	h.server.mu.Lock()
	if h.faults.Partition || h.server.down {
		h.server.mu.Unlock()
		return dcs.ErrUnavailable
	}
	h.server.expireLocked()
	return nil
}

// Load implements dcs.Store.
func (h *Store) Load(ctx context.Context) (dcs.Snapshot, error) {
	if err := h.enter(ctx); err != nil {
		return dcs.Snapshot{}, fmt.Errorf("load: %w", err)
	}
	defer h.server.mu.Unlock()
	return h.server.snapshotLocked(h.prefix), nil
}

// Grant implements dcs.Store. Like etcd it counts in whole seconds.
func (h *Store) Grant(ctx context.Context, ttl time.Duration) (dcs.Grant, error) {
	var g dcs.Grant
	err := h.write(ctx, func() error {
		whole := max((ttl + time.Second - 1).Truncate(time.Second), time.Second)
		h.server.nextLease++
		g = dcs.Grant{ID: h.server.nextLease, TTL: whole}
		h.server.leases[g.ID] = &lease{ttl: g.TTL, expires: h.server.now() + g.TTL}
		h.server.wakeLocked() // RunExpiry may have to wake earlier
		return nil
	})
	if err != nil {
		return dcs.Grant{}, fmt.Errorf("grant lease: %w", err)
	}
	return g, nil
}

// KeepAlive implements dcs.Store.
func (h *Store) KeepAlive(ctx context.Context, id election.LeaseID) (dcs.KeepAlive, error) {
	if err := h.enter(ctx); err != nil {
		return dcs.KeepAlive{}, fmt.Errorf("keep lease alive: %w", err)
	}
	defer h.server.mu.Unlock()
	l, ok := h.server.leases[id]
	if !ok {
		return dcs.KeepAlive{}, fmt.Errorf("keep lease alive: %w", dcs.ErrLeaseNotFound)
	}
	l.expires = h.server.now() + l.ttl
	return dcs.KeepAlive{TTL: l.ttl, RaftTerm: h.server.term}, nil
}

// LeaseGone implements dcs.Store.
func (h *Store) LeaseGone(ctx context.Context, id election.LeaseID) (bool, error) {
	if err := h.enter(ctx); err != nil {
		return false, fmt.Errorf("look for lease: %w", err)
	}
	defer h.server.mu.Unlock()
	_, ok := h.server.leases[id]
	return !ok, nil
}

// Revoke implements dcs.Store.
func (h *Store) Revoke(ctx context.Context, id election.LeaseID) error {
	err := h.write(ctx, func() error {
		if h.server.leases[id] == nil {
			return dcs.ErrLeaseNotFound
		}
		h.server.revokeLocked(id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// Prove implements dcs.Store.
func (h *Store) Prove(ctx context.Context) (dcs.Proof, error) {
	if err := h.enter(ctx); err != nil {
		return dcs.Proof{}, fmt.Errorf("prove ownership: %w", err)
	}
	defer h.server.mu.Unlock()
	p := dcs.Proof{RaftTerm: h.server.term, Revision: h.server.revision}
	if r, ok := h.server.keys[h.prefix+dcs.KeyLeader]; ok {
		p.Leader, p.Present = r.kv(dcs.KeyLeader), true
	}
	return p, nil
}

// Apply implements dcs.Store.
func (h *Store) Apply(ctx context.Context, t dcs.Txn) (dcs.TxnResult, error) {
	var res dcs.TxnResult
	err := h.write(ctx, func() error {
		var err error
		res, err = h.server.applyLocked(h.prefix, t)
		return err
	})
	if err != nil {
		return dcs.TxnResult{}, fmt.Errorf("apply: %w", err)
	}
	return res, nil
}

// write runs a change under the lock, and decides what the caller learns of it.
func (h *Store) write(ctx context.Context, change func() error) error {
	if err := h.enter(ctx); err != nil {
		return err
	}
	defer h.server.mu.Unlock()
	switch h.faults.Writes {
	case UnknownNotDone:
		return dcs.ErrUnknownOutcome
	case UnknownDone:
		_ = change() // the caller is not to learn how it went
		return dcs.ErrUnknownOutcome
	case UnknownLater:
		h.late = append(h.late, func() {
			h.server.expireLocked()
			_ = change() // nobody waits for the answer any more
		})
		return dcs.ErrUnknownOutcome
	default:
		return change()
	}
}

// Close implements dcs.Store. The Server and its leases live on, as they do when an agent dies.
func (h *Store) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// RunExpiry expires leases in the background until ctx ends, for tests that run in real or in
// synctest time. The server's clock must run with that of package time.
func (s *Server) RunExpiry(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.expireLocked()
		next, ok := s.nextExpiryLocked()
		changed := s.changed
		wait := time.Hour
		if ok && !s.down {
			wait = max(next-s.now(), time.Millisecond)
		}
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}
