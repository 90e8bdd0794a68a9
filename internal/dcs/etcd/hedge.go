package etcd

import (
	"context"
	"time"
)

// How often, and after which pause, all endpoints are asked again when each of them failed at once.
const (
	hedgeRounds = 3
	roundPause  = 100 * time.Millisecond
)

// answer is what one endpoint said.
type answer[T any] struct {
	from  *endpoint
	value T
	err   error
}

// hedge asks the endpoints one after the other, the next one as soon as the last failed or was slow,
// and gives the first good or final answer. It is for requests that do no harm when several
// endpoints carry them out.
func hedge[T any](ctx context.Context, s *Store, call func(context.Context, *endpoint) (T, error)) (T, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var zero T
	var last error
	for round := range hedgeRounds {
		order, err := s.endpoints(ctx)
		if err != nil {
			return zero, err
		}
		v, err, decided := hedgeRound(ctx, s, order, call)
		if decided {
			return v, err
		}
		if err != nil {
			last = err
		}
		if ctx.Err() != nil || round == hedgeRounds-1 {
			break
		}
		pause := time.NewTimer(roundPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
	return zero, unavailable(ctx, last)
}

// hedgeRound asks each endpoint once. The last result is false if none of them decided.
func hedgeRound[T any](ctx context.Context, s *Store, order []*endpoint, call func(context.Context, *endpoint) (T, error)) (T, error, bool) { //nolint:revive // the flag belongs last
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer[T], len(order))
	launch := func(e *endpoint) {
		go func() {
			v, err := do(ctx, e, call)
			answers <- answer[T]{e, v, err}
		}()
	}
	delay := s.hedgeDelay(ctx)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	var zero T
	var last error
	launch(order[0])
	for asked, open := 1, 1; open > 0; {
		var next bool
		select {
		case a := <-answers:
			open--
			v, err := judge(a.err)
			if v == verdictFinal {
				s.prefer(a.from, before(order[:asked], a.from))
				return a.value, err, true
			}
			last, next = err, true
		case <-timer.C:
			s.doubt(order[asked-1])
			next = true
		case <-ctx.Done():
			if open == asked {
				// Nobody answered: somebody else is to be asked first the next time.
				s.demote(order[0])
			}
			return zero, last, false
		}
		if next && asked < len(order) {
			launch(order[asked])
			asked++
			open++
			timer.Reset(delay)
		}
	}
	return zero, last, false
}

// before gives those that were asked before the one that answered.
func before(asked []*endpoint, e *endpoint) []*endpoint {
	for i := range asked {
		if asked[i] == e {
			return asked[:i]
		}
	}
	return nil
}

// hedgeDelay is how long one endpoint has before the next is asked: less where time is short, so that
// a call with little time left still reaches them all.
func (s *Store) hedgeDelay(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return s.opts.HedgeDelay
	}
	return min(s.opts.HedgeDelay, max(time.Until(deadline)/4, time.Millisecond))
}
