package sim

import (
	"math/bits"
	"time"
)

// The events to come. Most lie within seconds and are kept in a ring of short stretches of time, each with
// the few events in it; what lies further ahead is in a heap. Which of the two an event is in says nothing of
// its order: the earliest of both is next, and of one moment the one that was scheduled first.
const (
	// stretchBits: a stretch of the ring is 2 to the power of so many nanoseconds, some 8 ms.
	stretchBits = 23
	stretches   = 2048
)

// queue holds places in the engine's list of events. A place is counted from one in it, so that zero is none.
type queue struct {
	ring [stretches]int32 // the first place of each stretch; the others follow by event.next
	full [stretches / 64]uint64
	far  []entry // four children each
}

// entry is an event that is far ahead.
type entry struct {
	at   time.Duration
	seq  uint64
	slot int32
}

func (a entry) before(b entry) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func stretch(at time.Duration) int { return int(at >> stretchBits) }

// enter puts a place of the list into the queue.
func (e *engine) enter(place int32) {
	ev := &e.slot[place-1]
	i := stretch(ev.at)
	ev.far = i-stretch(e.now) >= stretches
	if ev.far {
		e.pushFar(entry{ev.at, ev.seq, place})
		return
	}
	b := i % stretches
	ev.next, e.ring[b] = e.ring[b], place
	e.full[b/64] |= 1 << (b % 64)
}

// leave takes a place out of the ring.
func (e *engine) leave(place int32) {
	ev := &e.slot[place-1]
	b := stretch(ev.at) % stretches
	at := &e.ring[b]
	for *at != place {
		at = &e.slot[*at-1].next
	}
	*at = ev.next
	if e.ring[b] == 0 {
		e.full[b/64] &^= 1 << (b % 64)
	}
}

// near is the earliest place of the ring; zero: it is empty.
func (e *engine) near() int32 {
	from := stretch(e.now) % stretches
	w := from / 64
	m := e.full[w] &^ (1<<(from%64) - 1)
	for range len(e.full) {
		if m != 0 {
			break
		}
		w = (w + 1) % len(e.full)
		m = e.full[w]
	}
	if m == 0 {
		return 0
	}
	best := e.ring[w*64+bits.TrailingZeros64(m)]
	first := &e.slot[best-1]
	for place := first.next; place != 0; {
		ev := &e.slot[place-1]
		if ev.at < first.at || ev.at == first.at && ev.seq < first.seq {
			best, first = place, ev
		}
		place = ev.next
	}
	return best
}

// take takes the next event out, if it is due before the limit. Zero: it is not.
func (e *engine) take(limit time.Duration) int32 {
	place := e.near()
	if len(e.far) > 0 {
		f := e.far[0]
		if place == 0 || f.before(entry{e.slot[place-1].at, e.slot[place-1].seq, 0}) {
			if f.at > limit {
				return 0
			}
			e.popFar()
			return f.slot
		}
	}
	if place == 0 || e.slot[place-1].at > limit {
		return 0
	}
	e.leave(place)
	return place
}

func (q *queue) pushFar(n entry) {
	q.far = append(q.far, n)
	i := len(q.far) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !n.before(q.far[up]) {
			break
		}
		q.far[i] = q.far[up]
		i = up
	}
	q.far[i] = n
}

// popFar takes the first entry out of the heap.
func (q *queue) popFar() {
	last := len(q.far) - 1
	n := q.far[last]
	q.far = q.far[:last]
	i := 0
	for {
		c := 4*i + 1
		if c >= last {
			break
		}
		least := c
		for k := c + 1; k < min(c+4, last); k++ {
			if q.far[k].before(q.far[least]) {
				least = k
			}
		}
		if !q.far[least].before(n) {
			break
		}
		q.far[i] = q.far[least]
		i = least
	}
	if last > 0 {
		q.far[i] = n
	}
}
