package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Ack is one write that a server acknowledged to a client.
type Ack struct {
	ID int64
	// Sent and Received are the client's clock (Mono) before the request and after the answer.
	Sent, Received time.Duration
	// Executed is the server's clock when it ran the statement, before the commit. All servers of
	// a run are on one machine, so these compare too.
	Executed time.Time
	// Server is host:port as the server itself gave it, PID its backend, Timeline its WAL's.
	Server   string
	PID      int
	Timeline int
	// LSN is where the server's WAL ended when it ran the statement, in bytes; 0 if not known.
	LSN int64
	// Local: the server warned that the commit may not have been replicated (SQLSTATE 01000).
	Local bool
}

// Ledger is what clients were promised. It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	acks     []Ack
	failures map[string]int
	unknown  int
	changed  chan struct{} // closed and replaced with each ack
}

// NewLedger is an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{failures: map[string]int{}, changed: make(chan struct{})}
}

func (l *Ledger) ack(a Ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks = append(l.acks, a)
	close(l.changed)
	l.changed = make(chan struct{})
}

// fail records an attempt that got no acknowledgement; unknown if the server may have done it.
func (l *Ledger) fail(reason string, unknown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures[reason]++
	if unknown {
		l.unknown++
	}
}

// Acks are all acknowledgements so far, by time of arrival.
func (l *Ledger) Acks() []Ack {
	l.mu.Lock()
	acks := slices.Clone(l.acks)
	l.mu.Unlock()
	slices.SortStableFunc(acks, func(a, b Ack) int { return cmp.Compare(a.Received, b.Received) })
	return acks
}

// Count is the number of acknowledgements so far.
func (l *Ledger) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks)
}

// Failures is the number of attempts without an acknowledgement, by reason.
func (l *Ledger) Failures() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.failures)
}

// wait is a channel that is closed at the next acknowledgement.
func (l *Ledger) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Reign is a span in which one server acknowledged writes on one timeline.
type Reign struct {
	Server      string
	Timeline    int
	Acks        int
	First, Last Ack
}

// Overlap is a breach of "one writer": an older reign acknowledged after a newer one had begun.
type Overlap struct {
	Old, New Reign
	// By is the time between the newer reign's first acknowledgement and the older's last, both as
	// the client received them.
	By time.Duration
	// Certain: the old server ran a statement after the new server had run its first, and then
	// acknowledged it. Otherwise the answer may only have been late on its way, as when a cut link
	// is healed and the dead server's kernel sends again; whether the row was kept says Lost.
	Certain bool
	// Proof is an acknowledgement that shows it.
	Proof Ack
}

func (o Overlap) String() string {
	kind := "possible"
	if o.Certain {
		kind = "certain"
	}
	return fmt.Sprintf("%s overlap of %s: %s (timeline %d) acknowledged after %s (timeline %d) had begun",
		kind, o.By.Round(100*time.Microsecond), o.Old.Server, o.Old.Timeline, o.New.Server, o.New.Timeline)
}

// Report is the judgement on a ledger.
type Report struct {
	Acks     int
	Unknown  int
	Failures map[string]int
	// Reigns in the order of their first acknowledgement.
	Reigns   []Reign
	Overlaps []Overlap
	// Forks names timelines on which more than one server acknowledged: two histories.
	Forks []int
	// Local counts acknowledgements with the warning that replication was not waited for.
	Local int
}

// Report judges the ledger as it is.
func (l *Ledger) Report() Report {
	acks := l.Acks()
	r := Report{Acks: len(acks), Failures: l.Failures(), Reigns: Reigns(acks)}
	l.mu.Lock()
	r.Unknown = l.unknown
	l.mu.Unlock()
	r.Overlaps, r.Forks = Overlaps(acks)
	for _, a := range acks {
		if a.Local {
			r.Local++
		}
	}
	return r
}

// Reigns groups acknowledgements by server and timeline, in the order of the first of each.
func Reigns(acks []Ack) []Reign {
	type key struct {
		server   string
		timeline int
	}
	index := map[key]int{}
	var out []Reign
	for _, a := range acks {
		k := key{a.Server, a.Timeline}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			out = append(out, Reign{Server: a.Server, Timeline: a.Timeline, First: a, Last: a})
		}
		out[i].Acks++
		if a.Received < out[i].First.Received {
			out[i].First = a
		}
		if a.Received > out[i].Last.Received {
			out[i].Last = a
		}
	}
	slices.SortStableFunc(out, func(a, b Reign) int { return cmp.Compare(a.First.Received, b.First.Received) })
	return out
}

// Overlaps finds every pair of reigns that were not one after the other, and the timelines on
// which more than one server acknowledged.
func Overlaps(acks []Ack) (overlaps []Overlap, forks []int) {
	reigns := Reigns(acks)
	for i, older := range reigns {
		for _, newer := range reigns[i+1:] {
			if older.Server == newer.Server {
				continue
			}
			if older.Timeline == newer.Timeline && !slices.Contains(forks, older.Timeline) {
				forks = append(forks, older.Timeline)
			}
			if older.Last.Received <= newer.First.Received {
				continue
			}
			o := Overlap{Old: older, New: newer, By: older.Last.Received - newer.First.Received}
			for _, a := range acks {
				if a.Server == older.Server && a.Timeline == older.Timeline && after(a, newer.First) {
					o.Certain, o.Proof = true, a
				}
			}
			overlaps = append(overlaps, o)
		}
	}
	return overlaps, forks
}

// after: a was begun when first was already under way for certain, by either clock.
func after(a, first Ack) bool {
	return a.Sent > first.Received || !first.Executed.IsZero() && a.Executed.After(first.Executed)
}

// Certain are the overlaps that cannot be explained by an answer's late arrival.
func (r Report) Certain() []Overlap {
	return slices.DeleteFunc(slices.Clone(r.Overlaps), func(o Overlap) bool { return !o.Certain })
}

// Gap is a time without acknowledgements.
type Gap struct {
	From, To time.Duration
	// Before and After are the acknowledgements at its ends; zero where there is none.
	Before, After Ack
	// Open: no acknowledgement came after it.
	Open bool
}

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To - g.From }

// Outage is the longest gap between acknowledgements that ends after the fault, up to the moment
// until. A gap that began before the fault counts whole: what the client saw is what counts.
func Outage(acks []Ack, fault, until time.Duration) Gap {
	worst := Gap{From: fault, To: fault}
	last := Ack{Received: fault}
	for _, a := range acks {
		if a.Received > until {
			break
		}
		if a.Received > fault {
			if g := (Gap{From: last.Received, To: a.Received, Before: last, After: a}); g.Length() > worst.Length() {
				worst = g
			}
		}
		last = a
	}
	if open := until - last.Received; open > worst.Length() {
		worst = Gap{From: last.Received, To: until, Before: last, Open: true}
	}
	return worst
}

// Outage is the longest gap after a fault until now.
func (l *Ledger) Outage(fault time.Duration) Gap { return Outage(l.Acks(), fault, Mono()) }

// String is the report in one line for logs.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d acknowledged, %d of unknown outcome", r.Acks, r.Unknown)
	for _, reign := range r.Reigns {
		fmt.Fprintf(&b, "; %s (timeline %d): %d", reign.Server, reign.Timeline, reign.Acks)
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Failures)) {
		fmt.Fprintf(&b, "; %d× %s", r.Failures[reason], reason)
	}
	for _, o := range r.Overlaps {
		fmt.Fprintf(&b, "; %s", o)
	}
	if len(r.Forks) > 0 {
		fmt.Fprintf(&b, "; timelines with two writers: %v", r.Forks)
	}
	return b.String()
}

// Lost are the acknowledged ids that are not among those present. What was acknowledged with the
// warning that it may be lost (Ack.Local) was no promise.
func Lost(acks []Ack, present []int64) []int64 {
	have := make(map[int64]bool, len(present))
	for _, id := range present {
		have[id] = true
	}
	var lost []int64
	for _, a := range acks {
		if !have[a.ID] && !a.Local {
			lost = append(lost, a.ID)
		}
	}
	return lost
}
