package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
)

// Pauses between attempts to mend a watch.
const (
	mendAtLeast = 50 * time.Millisecond
	mendAtMost  = time.Second
)

// probeUnasked is how long a watch may be silent on an endpoint that is asked nothing else.
const probeUnasked = 3 * time.Second

// errWatchSilent ends a stream whose server does not answer.
var errWatchSilent = errors.New("the watch's server does not answer")

// Watch implements dcs.Store.
//
// When a stream breaks, or its server falls silent, the watch lists everything again and delivers it
// at once. It then goes on from the last event it saw, not from the list, so that deletions are seen
// with the lease they hung on: a key that was put on another lease before it went must not look as
// if its old lease had ended.
func (s *Store) Watch(ctx context.Context) <-chan dcs.Update {
	out := make(chan dcs.Update)
	if !s.spawn(ctx, func(ctx context.Context) {
		defer close(out)
		w := &watcher{s: s, out: out, doubts: make(chan struct{}, 1)}
		w.run(ctx)
	}) {
		close(out)
	}
	return out
}

// watcher is one watch. One goroutine owns it.
type watcher struct {
	s      *Store
	out    chan<- dcs.Update
	doubts chan struct{} // the stream's endpoint is slow to answer something else

	// state is what the events say, contiguous up to revision. It is nil before the first list.
	state     map[string]dcs.KV
	revision  int64
	clusterID uint64
	term      uint64
	// ahead is a list that is newer than state while missed events are replayed.
	ahead *dcs.Snapshot
	// lost says that events after revision cannot be had any more.
	lost bool

	pending  *dcs.Update // not yet taken by the reader
	reported bool        // the reader was told of the present break
}

func (w *watcher) run(ctx context.Context) {
	pause := mendAtLeast
	for ctx.Err() == nil {
		err := w.list(ctx)
		if err == nil {
			pause = mendAtLeast
			e := w.endpoint()
			err = w.follow(ctx, e)
			if ctx.Err() == nil {
				w.s.demote(e)
				w.s.log.Info("watch broken, listing again", zap.String("endpoint", e.target.address), zap.Error(err))
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if !w.reported {
			w.reported = true
			w.s.log.Warn("watch cannot be mended yet", zap.Error(err))
			w.deliver(dcs.Update{Snapshot: w.snapshot(), Err: fmt.Errorf("watch: %w", err)})
		}
		w.wait(ctx, pause)
		pause = min(pause*2, mendAtMost)
	}
}

// wait lets time pass, and hands out what is pending meanwhile.
func (w *watcher) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		out, u := w.offer()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case out <- u:
			w.pending = nil
		}
	}
}

// endpoint is where the stream goes: where the list, or anything since, was answered.
func (w *watcher) endpoint() *endpoint {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.s.order[0]
}

// list reads everything and decides whether events can go on from where they were.
func (w *watcher) list(ctx context.Context) error {
	snap, err := w.load(ctx)
	if err != nil {
		return err
	}
	w.reported = false
	switch {
	case w.state == nil:
		w.adopt(snap)
		w.deliver(dcs.Update{Snapshot: snap})
	case snap.ClusterID != w.clusterID || snap.Revision < w.revision:
		w.s.log.Warn("the store was replaced or restored",
			zap.Uint64("cluster_id", snap.ClusterID), zap.Int64("revision", snap.Revision), zap.Int64("seen_revision", w.revision))
		w.relist(snap, true)
	case w.lost:
		w.relist(snap, false)
	default:
		w.ahead, w.term = &snap, snap.RaftTerm
		w.deliver(dcs.Update{Snapshot: snap})
	}
	return nil
}

// load reads everything, and hands out what is pending meanwhile.
func (w *watcher) load(ctx context.Context) (dcs.Snapshot, error) {
	type result struct {
		snap dcs.Snapshot
		err  error
	}
	results := make(chan result, 1)
	go func() {
		snap, err := w.s.Load(ctx)
		results <- result{snap, err}
	}()
	for {
		out, u := w.offer()
		select {
		case r := <-results:
			return r.snap, r.err
		case out <- u:
			w.pending = nil
		}
	}
}

func (w *watcher) adopt(snap dcs.Snapshot) {
	w.state = make(map[string]dcs.KV, len(snap.KVs))
	for _, kv := range snap.KVs {
		w.state[kv.Key] = kv
	}
	w.revision, w.clusterID, w.term = snap.Revision, snap.ClusterID, snap.RaftTerm
	w.ahead, w.lost = nil, false
}

// relist starts afresh where events are lost. Of the keys that are gone, or are others, nothing is
// known but that.
func (w *watcher) relist(snap dcs.Snapshot, replaced bool) {
	var vanished []dcs.KV
	for _, key := range slices.Sorted(maps.Keys(w.state)) {
		now, ok := snap.Get(key)
		if !ok || replaced || now.CreateRevision != w.state[key].CreateRevision {
			vanished = append(vanished, dcs.KV{Key: key})
		}
	}
	w.adopt(snap)
	w.deliver(dcs.Update{Snapshot: snap, Vanished: vanished})
}

// snapshot is the newest state that is known.
func (w *watcher) snapshot() dcs.Snapshot {
	if w.ahead != nil && w.revision < w.ahead.Revision {
		return *w.ahead
	}
	snap := dcs.Snapshot{Revision: w.revision, ClusterID: w.clusterID, RaftTerm: w.term}
	for _, kv := range w.state {
		snap.KVs = append(snap.KVs, kv)
	}
	slices.SortFunc(snap.KVs, func(a, b dcs.KV) int { return strings.Compare(a.Key, b.Key) })
	return snap
}

// deliver replaces what the reader has not yet taken; deletions are never merged away.
func (w *watcher) deliver(u dcs.Update) {
	if w.pending != nil {
		u.Vanished = append(w.pending.Vanished, u.Vanished...)
	}
	w.pending = &u
}

// offer gives the channel and the value of a send that may happen now.
func (w *watcher) offer() (chan<- dcs.Update, dcs.Update) {
	if w.pending == nil {
		return nil, dcs.Update{}
	}
	return w.out, *w.pending
}

// follow runs one stream until it breaks.
func (w *watcher) follow(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithCancel(ctx)
	messages := make(chan *pb.WatchResponse)
	probes := make(chan struct{}, 1)
	failed := make(chan error, 1)
	start := w.revision + 1
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := do(ctx, e, func(ctx context.Context, e *endpoint) (struct{}, error) {
			return struct{}{}, w.stream(ctx, e, start, messages, probes)
		})
		failed <- err
	}()
	defer func() { cancel(); <-ended }()
	w.s.follows(w, e)
	defer w.s.follows(w, nil)

	timer := time.NewTimer(w.s.opts.WatchSilence) // for the stream's first sign of life
	defer timer.Stop()
	probing := true
	probe := func() {
		probing = true
		select {
		case probes <- struct{}{}:
		default: // an earlier one could not be sent yet
		}
		timer.Reset(w.s.opts.WatchSilence)
	}
	for {
		out, u := w.offer()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case m := <-messages:
			if err := w.take(m); err != nil {
				return err
			}
			probing = false
			timer.Reset(w.s.probeAfter(e))
		case <-timer.C:
			if probing {
				return errWatchSilent
			}
			probe()
		case <-w.doubts:
			if !probing {
				probe()
			}
		case out <- u:
			w.pending = nil
		}
	}
}

// stream opens the watch and passes its messages on. It sends a probe whenever it is told to.
func (w *watcher) stream(ctx context.Context, e *endpoint, start int64, messages chan<- *pb.WatchResponse, probes <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := e.watch.Watch(ctx)
	if err != nil {
		cancel()
		return err
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(w.s.prefix), RangeEnd: prefixEnd(w.s.prefix),
		StartRevision: start, PrevKv: true, ProgressNotify: true,
	}}})
	if err != nil {
		cancel()
		return err
	}
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		for {
			select {
			case <-ctx.Done():
				return
			case <-probes:
				// A failed send shows as a failed receive.
				_ = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
			}
		}
	}()
	defer func() { cancel(); <-sender }()
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take applies one message of the stream.
func (w *watcher) take(m *pb.WatchResponse) error {
	if m.Header != nil {
		if m.Header.ClusterId != w.clusterID {
			return fmt.Errorf("%w: the watch reached another store", dcs.ErrUnavailable)
		}
		w.term = max(w.term, m.Header.RaftTerm)
	}
	if m.CompactRevision != 0 {
		w.lost = true
		return fmt.Errorf("history up to revision %d was compacted", m.CompactRevision)
	}
	if m.Canceled {
		return fmt.Errorf("watch cancelled: %s", m.CancelReason)
	}
	if len(m.Events) == 0 {
		return nil
	}
	seen := w.revision // all events of one revision come in one message
	var vanished []dcs.KV
	for _, ev := range m.Events {
		if ev.Kv.ModRevision > seen {
			vanished = w.apply(ev, vanished)
		}
	}
	w.deliver(dcs.Update{Snapshot: w.snapshot(), Vanished: vanished})
	return nil
}

// apply puts one event into the state.
func (w *watcher) apply(ev *mvccpb.Event, vanished []dcs.KV) []dcs.KV {
	kv := w.s.keyValue(ev.Kv)
	w.revision = max(w.revision, kv.ModRevision)
	if ev.Type != mvccpb.DELETE {
		w.state[kv.Key] = kv
		return vanished
	}
	gone, known := w.state[kv.Key]
	if ev.PrevKv != nil {
		gone, known = w.s.keyValue(ev.PrevKv), true
	}
	if !known {
		gone = dcs.KV{Key: kv.Key}
	}
	delete(w.state, kv.Key)
	return append(vanished, gone)
}
