package sim

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Totals is what many runs came to.
type Totals struct {
	Seeds                                     int
	Virtual, Slowest                          time.Duration
	Events                                    uint64
	Faults, Acked, Lost, Failovers, HandOvers int
	Rules                                     map[string]int
	// Failed is the run with the lowest seed that broke an invariant; nil: none.
	Failed *Result
}

func (t *Totals) add(r Result) {
	t.Seeds++
	t.Virtual += r.Virtual
	t.Slowest = max(t.Slowest, r.Recovery)
	t.Events += r.Events
	for _, n := range r.Faults {
		t.Faults += n
	}
	for id, n := range r.Rules {
		t.Rules[id] += n
	}
	t.Acked, t.Lost = t.Acked+r.Acked, t.Lost+r.Lost
	t.Failovers, t.HandOvers = t.Failovers+r.Failovers, t.HandOvers+r.HandOvers
	if r.Violation != nil && (t.Failed == nil || r.Seed < t.Failed.Seed) {
		t.Failed = &r
	}
}

// Sweep runs n seeds from the first on all processors. Each run has one thread of control, so what it
// comes to does not depend on the others. No new run is begun after one that broke an invariant. Tell, if
// there is one, is told after each run what all have come to so far.
func Sweep(first uint64, n int, tell func(Totals)) Totals {
	total := Totals{Rules: map[string]int{}}
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		next   atomic.Int64
		failed atomic.Bool
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			c := newCrew()
			defer c.close()
			for i := next.Add(1) - 1; i < int64(n) && !failed.Load(); i = next.Add(1) - 1 {
				seed := first + uint64(i)
				r := c.run(seed, Random(seed), false)
				failed.Store(failed.Load() || r.Violation != nil)
				mu.Lock()
				total.add(r)
				if tell != nil {
					tell(total)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return total
}
