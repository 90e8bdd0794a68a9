package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/dcs"
)

// Apply implements dcs.Store.
func (s *Store) Apply(ctx context.Context, txn dcs.Txn) (dcs.TxnResult, error) {
	req := s.request(txn)
	res, err := write(ctx, s, dcs.Once(txn), func(ctx context.Context, e *endpoint) (dcs.TxnResult, error) {
		resp, err := e.kv.Txn(ctx, req)
		if err != nil {
			return dcs.TxnResult{}, err
		}
		return dcs.TxnResult{Done: resp.Succeeded, Revision: resp.Header.GetRevision(), RaftTerm: resp.Header.GetRaftTerm()}, nil
	}, func(r dcs.TxnResult) bool { return r.Done })
	if err != nil {
		return dcs.TxnResult{}, fmt.Errorf("apply: %w", err)
	}
	return res, nil
}

// request translates a transaction.
func (s *Store) request(txn dcs.Txn) *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for _, c := range txn.If {
		req.Compare = append(req.Compare, s.compare(c)...)
	}
	for _, op := range txn.Then {
		key := []byte(s.prefix + op.Key)
		if op.Delete {
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key},
			}})
			continue
		}
		req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: key, Value: op.Value, Lease: int64(op.Lease)},
		}})
	}
	return req
}

// compare translates one condition. A comparison of value or lease with an absent key would compare
// with an empty one, so existence is demanded as well.
func (s *Store) compare(c dcs.Cmp) []*pb.Compare {
	key := []byte(s.prefix + c.Key)
	exists := &pb.Compare{
		Key: key, Target: pb.Compare_CREATE, Result: pb.Compare_GREATER,
		TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 0},
	}
	switch c.Kind {
	case dcs.CmpValue:
		return []*pb.Compare{exists, {
			Key: key, Target: pb.Compare_VALUE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_Value{Value: c.Value},
		}}
	case dcs.CmpLease:
		return []*pb.Compare{exists, {
			Key: key, Target: pb.Compare_LEASE, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_Lease{Lease: int64(c.Lease)},
		}}
	default:
		return []*pb.Compare{{
			Key: key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: c.Revision},
		}}
	}
}

// copyAnswer is what became of one copy of a write.
type copyAnswer[T any] struct {
	from  *endpoint
	value T
	err   error
	sent  bool
}

// writer follows the copies of one write.
type writer[T any] struct {
	s       *Store
	once    bool
	done    func(T) bool
	answers chan copyAnswer[T]
	asked   []*endpoint
	silent  []*endpoint // asked, and without an answer yet
	open    int         // copies without an answer
	unknown int         // copies that were sent and whose fate will never be told
	// negative is a definite answer that says "no effect". It stands only if no other copy can have
	// had one.
	negative *copyAnswer[T]
	last     error
}

// write sends a change to an endpoint, and to others only as the package comment allows. done says
// whether an answer means that the change took effect. repeatable: at most one copy can.
func write[T any](ctx context.Context, s *Store, repeatable bool, call func(context.Context, *endpoint) (T, error), done func(T) bool) (T, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var zero T
	order, err := s.endpoints(ctx)
	if err != nil {
		return zero, err
	}
	w := &writer[T]{s: s, once: repeatable, done: done, answers: make(chan copyAnswer[T], len(order))}
	launch := func() {
		e := order[len(w.asked)]
		w.asked, w.silent = append(w.asked, e), append(w.silent, e)
		w.open++
		go func() {
			callCtx, sent := withSent(ctx)
			v, err := do(callCtx, e, call)
			w.answers <- copyAnswer[T]{e, v, err, sent.Load()}
		}()
	}
	delay := s.hedgeDelay(ctx)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	launch()
	for w.open > 0 {
		var next bool
		select {
		case a := <-w.answers:
			if w.take(a) {
				return a.value, nil
			}
			next = w.mayGoOn()
			if w.negative != nil {
				// An earlier copy may be the reason. Its answer has a moment left to say so.
				timer.Reset(delay)
			}
		case <-timer.C:
			s.doubt(order[len(w.asked)-1])
			if w.negative != nil {
				cancel()
				return zero, w.cutShort(errors.New("one endpoint refused, and another does not answer"))
			}
			next = w.once
		case <-ctx.Done():
			return zero, w.cutShort(context.Cause(ctx))
		}
		if next && len(w.asked) < len(order) {
			launch()
			timer.Reset(delay)
		}
	}
	return w.verdict(ctx)
}

// take counts an answer. True: it settles the matter, the change took effect.
func (w *writer[T]) take(a copyAnswer[T]) bool {
	w.open--
	w.silent = slices.DeleteFunc(w.silent, func(e *endpoint) bool { return e == a.from })
	if a.err == nil && w.done(a.value) {
		w.s.prefer(a.from, before(w.asked, a.from))
		return true
	}
	v, err := judge(a.err)
	switch {
	case a.err == nil, v == verdictFinal:
		a.err = err
		w.negative = &a
	case v == verdictFailed && a.sent:
		w.unknown++
		w.last = err
	default:
		w.last = err
	}
	return false
}

// mayGoOn says whether another endpoint may be asked after a copy came to nothing.
func (w *writer[T]) mayGoOn() bool {
	if w.negative != nil {
		return false
	}
	return w.once || (w.unknown == 0 && w.open == 0)
}

// verdict is what the caller learns when no copy is open and none took effect for certain.
func (w *writer[T]) verdict(ctx context.Context) (T, error) {
	var zero T
	switch {
	case w.unknown > 0:
		return zero, fmt.Errorf("%w: %w", dcs.ErrUnknownOutcome, unavailable(ctx, w.last))
	case w.negative != nil:
		w.s.prefer(w.negative.from, before(w.asked, w.negative.from))
		return w.negative.value, w.negative.err
	default:
		return zero, unavailable(ctx, w.last)
	}
}

// cutShort is what the caller learns when copies are still open and are waited for no longer. They
// are cancelled, and may have been carried out all the same.
func (w *writer[T]) cutShort(cause error) error {
	for _, e := range w.silent {
		w.s.demote(e)
	}
	for range w.open {
		a := <-w.answers // the context has ended, so every call returns
		if w.take(a) {
			// The answer came at the last moment. It is told as unknown, which it was a moment ago;
			// the caller reads before it acts.
			return fmt.Errorf("%w: %w", dcs.ErrUnknownOutcome, cause)
		}
	}
	if w.unknown > 0 {
		return fmt.Errorf("%w: %w", dcs.ErrUnknownOutcome, cause)
	}
	if w.negative != nil && w.negative.err != nil {
		return w.negative.err
	}
	return fmt.Errorf("%w: %w", dcs.ErrUnavailable, cause)
}
