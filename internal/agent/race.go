package agent

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// race keeps promises and races apart. A member that promised a primary without a store not to race must
// not win a race that it had begun before, and one whose race is not over must not promise (safety
// review, hole 15). The lock is held while the promise is made durable, and never across a request to
// the store: what is then still on its way is remembered instead.
type race struct {
	mu sync.Mutex
	// running: a transaction that takes the leader key is in flight.
	running bool
	// unknown: the outcome of such a transaction is not known, and over is the revision of the reign
	// that it compared. Once the reign has moved on it can no longer be carried out.
	unknown bool
	over    int64
	// isOpen is either of them, for readers that must not wait for the lock.
	isOpen atomic.Bool
}

// note is called with the lock held after a change.
func (r *race) note() { r.isOpen.Store(r.running || r.unknown) }

// begin opens a race over a reign. A race by time is refused while a promise holds; why says so. votes: a
// takeover by frozen votes does not rest on the old holder's time, so no promise bars it.
func (r *race) begin(over int64, votes bool, promised func() election.Instant) (why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !votes && promised() > Now() {
		return "this member promised the primary not to race"
	}
	if r.running {
		return "another race is under way"
	}
	r.running = true
	if r.over != over {
		r.unknown = false // what compared an older reign can never come true
	}
	r.over = over
	r.note()
	return ""
}

// end closes a race. open: it may have been carried out, or may still be.
func (r *race) end(open bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	r.unknown = r.unknown || open
	r.note()
}

// moved takes up the revision of the reign in a snapshot.
func (r *race) moved(reign int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unknown && reign != r.over {
		r.unknown = false
		r.note()
	}
}

// open says that a race is in flight or of unknown outcome.
func (r *race) open() bool { return r.isOpen.Load() }

// stillOpen says that a transaction may have been carried out, or may still be. One that is known to be
// done stays open until the snapshot shows its reign: until then the own title may not be known.
func stillOpen(res dcs.TxnResult, err error) bool {
	if err != nil {
		return !errors.Is(err, dcs.ErrUnavailable)
	}
	return res.Done
}

// promisedUntil is until when this member must not race by time.
func (a *Agent) promisedUntil() election.Instant {
	st, _ := a.guard.snapshot()
	var until election.Instant
	a.facts.with(func(f *facts) { until = f.promisedUntil(st) })
	return until
}
