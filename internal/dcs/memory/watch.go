package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
)

// Cursor is the place of one watch in the store's history. Its zero value is before the beginning.
// The simulator pulls with it; Watch pushes with it.
type Cursor struct {
	started   bool
	broken    bool
	clusterID uint64
	revision  int64
	last      dcs.Snapshot
	// due is when the newest change may be delivered, with WatchDelay.
	due     time.Duration
	pending bool
}

// Next gives what a watch would deliver now. The second result is false if there is no news.
func (h *Store) Next(c *Cursor) (dcs.Update, bool) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	u, ok, _ := h.nextLocked(c)
	return u, ok
}

// nextLocked also says how long a delayed change has yet to wait; zero if none waits.
func (h *Store) nextLocked(c *Cursor) (dcs.Update, bool, time.Duration) {
	s := h.server
	s.expireLocked()
	if h.faults.WatchHeld {
		return dcs.Update{}, false, 0
	}
	if h.faults.Partition || s.down {
		if c.broken {
			return dcs.Update{}, false, 0
		}
		c.broken = true
		return dcs.Update{Snapshot: c.last, Err: dcs.ErrUnavailable}, true, 0
	}
	if c.started && !c.broken && c.clusterID == s.clusterID && !h.newsLocked(c) {
		return dcs.Update{}, false, 0
	}
	if h.faults.WatchDelay > 0 && c.started {
		if !c.pending {
			c.pending, c.due = true, s.now()+h.faults.WatchDelay
		}
		if left := c.due - s.now(); left > 0 {
			return dcs.Update{}, false, left
		}
	}
	u := dcs.Update{Snapshot: s.snapshotLocked(h.prefix), Vanished: h.vanishedLocked(c)}
	*c = Cursor{started: true, clusterID: s.clusterID, revision: s.revision, last: u.Snapshot}
	return u, true, 0
}

// newsLocked says whether a key under the prefix changed since the cursor.
func (h *Store) newsLocked(c *Cursor) bool {
	if c.revision < h.server.compacted {
		return true
	}
	i, _ := slices.BinarySearchFunc(h.server.log, c.revision+1, func(e event, r int64) int { return int(e.revision - r) })
	return slices.ContainsFunc(h.server.log[i:], func(e event) bool { return strings.HasPrefix(e.key, h.prefix) })
}

// vanishedLocked lists the deletions since the cursor. Where history is gone it can only tell which
// keys are no longer the ones that were there, not what they last hung on.
func (h *Store) vanishedLocked(c *Cursor) []dcs.KV {
	if !c.started {
		return nil
	}
	s := h.server
	var out []dcs.KV
	if c.clusterID != s.clusterID || c.revision < s.compacted {
		for _, old := range c.last.KVs {
			now, ok := s.keys[h.prefix+old.Key]
			if !ok || now.create != old.CreateRevision || c.clusterID != s.clusterID {
				out = append(out, dcs.KV{Key: old.Key})
			}
		}
		return out
	}
	for _, e := range s.log {
		name, ok := strings.CutPrefix(e.key, h.prefix)
		if ok && e.revision > c.revision && e.next == nil {
			out = append(out, e.prev.kv(name))
		}
	}
	return out
}

// Watch implements dcs.Store.
func (h *Store) Watch(ctx context.Context) <-chan dcs.Update {
	out := make(chan dcs.Update)
	go h.watch(ctx, out)
	return out
}

func (h *Store) watch(ctx context.Context, out chan<- dcs.Update) {
	defer close(out)
	var cursor Cursor
	var pending *dcs.Update
	for {
		h.server.mu.Lock()
		u, ok, wait := h.nextLocked(&cursor)
		changed := h.server.changed
		h.server.mu.Unlock()
		if ok {
			if pending != nil {
				u.Vanished = append(pending.Vanished, u.Vanished...)
			}
			pending = &u
		}
		var timer <-chan time.Time
		stop := func() {}
		if wait > 0 {
			t := time.NewTimer(wait)
			timer, stop = t.C, func() { t.Stop() }
		}
		var send chan<- dcs.Update
		var value dcs.Update
		if pending != nil {
			send, value = out, *pending
		}
		select {
		case <-ctx.Done():
		case <-h.closed:
		case send <- value:
			pending = nil
		case <-changed:
		case <-timer:
		}
		stop()
		if ctx.Err() != nil || h.isClosed() {
			return
		}
	}
}

func (h *Store) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}
