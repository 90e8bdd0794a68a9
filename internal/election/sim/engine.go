package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// actor is something that events happen to over and over; the number says what.
type actor interface{ act(what uint64) }

// event is something that happens at a moment of true time: a function, a number for an actor, or
// the end of a task's wait.
type event struct {
	fn func()
	a  actor
	t  *task
	// what the actor is to do, or which of its waits ends for the task.
	what uint64
	// timeout: the wait ends because its time is over.
	timeout bool
	// timer counts the uses of this place, so that a timer called off is not taken for a later one.
	timer uint32
	// Its place in the queue.
	at   time.Duration
	seq  uint64
	next int32
	far  bool
}

// timer names an event that may be called off. The zero value names none.
type timer struct {
	slot int32
	use  uint32
}

// engine is the event queue and the one source of time and chance.
type engine struct {
	now  time.Duration
	seq  uint64
	slot []event
	queue
	free  []int32
	crew  *crew
	rng   *rand.Rand
	hash  uint64
	steps uint64
	// still counts the events of one moment.
	still int
}

// stillMost is how many events may happen at one moment: more are a loop that never ends.
const stillMost = 100_000

func newEngine(seed uint64) *engine {
	return &engine{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), hash: 14695981039346656037}
}

// at schedules an event. Events of one moment run in the order in which they were scheduled.
func (e *engine) at(when time.Duration, fn func()) { e.schedule(when, event{fn: fn}) }

func (e *engine) after(d time.Duration, fn func()) { e.schedule(e.now+d, event{fn: fn}) }

// wake schedules the end of a task's wait.
func (e *engine) wake(d time.Duration, t *task, gen uint64, timeout bool) timer {
	return e.schedule(e.now+d, event{t: t, what: gen, timeout: timeout})
}

// cue schedules something for an actor.
func (e *engine) cue(d time.Duration, a actor, what uint64) {
	e.schedule(e.now+d, event{a: a, what: what})
}

func (e *engine) schedule(when time.Duration, ev event) timer {
	var place int32
	if n := len(e.free); n > 0 {
		place, e.free = e.free[n-1], e.free[:n-1]
	} else {
		e.slot = append(e.slot, event{})
		place = int32(len(e.slot))
	}
	p := &e.slot[place-1]
	ev.timer = p.timer + 1
	e.seq++
	ev.at, ev.seq = max(when, e.now), e.seq
	*p = ev
	e.enter(place)
	return timer{place, ev.timer}
}

// callOff forgets a scheduled event. One that is far ahead stays in the queue until its time and is passed
// over.
func (e *engine) callOff(t timer) {
	if t.slot == 0 {
		return
	}
	ev := &e.slot[t.slot-1]
	if ev.timer != t.use || ev.fn == nil && ev.t == nil && ev.a == nil {
		return // it has happened, or was called off before
	}
	ev.fn, ev.t, ev.a = nil, nil, nil
	if !ev.far {
		e.leave(t.slot)
		e.free = append(e.free, t.slot)
	}
}

// step runs the next event, if it is due before the limit.
func (e *engine) step(limit time.Duration) bool {
	for {
		place := e.take(limit)
		if place == 0 {
			return false
		}
		p := &e.slot[place-1]
		ev := *p
		p.fn, p.t, p.a = nil, nil, nil
		e.free = append(e.free, place)
		if ev.fn == nil && ev.t == nil && ev.a == nil {
			continue // called off
		}
		if ev.at > e.now {
			e.still = 0
		}
		if e.still++; e.still > stillMost {
			panic("sim: the world does not move on")
		}
		e.now = ev.at
		e.steps++
		e.mix(uint64(ev.at))
		switch {
		case ev.t != nil:
			ev.t.fire(ev.what, ev.timeout)
		case ev.a != nil:
			ev.a.act(ev.what)
		default:
			ev.fn()
		}
		return true
	}
}

// mix adds a number to the hash that tells two runs apart.
func (e *engine) mix(v uint64) {
	e.hash = (e.hash ^ v) * 1099511628211
	e.hash ^= e.hash >> 29
}

// chance is true with a probability.
func (e *engine) chance(p float64) bool { return e.rng.Float64() < p }

// between draws a duration, evenly.
func (e *engine) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(e.rng.Int64N(int64(hi-lo)+1))
}

// tail draws a duration that is mostly near lo, and seldom up to hi.
func (e *engine) tail(lo, hi time.Duration) time.Duration {
	f := e.rng.Float64()
	f = f * f * f * f
	return lo + time.Duration(f*float64(hi-lo))
}

// proc is one process of a node. What happens to it while it is frozen waits until it thaws.
type proc struct {
	e       *engine
	n       *node
	alive   bool
	life    int
	frozen  int // how many reasons there are for it to stand still, besides the node's own
	pending []func()
	tasks   []*task
}

func (p *proc) halted() bool { return p.frozen > 0 || p.n.frozen > 0 }

// run does something in the process: now, after the thaw, or never.
func (p *proc) run(fn func()) {
	switch {
	case !p.alive:
	case p.halted():
		p.pending = append(p.pending, fn)
	default:
		fn()
	}
}

// begin makes the process live.
func (p *proc) begin() {
	p.life++
	p.alive, p.frozen, p.pending = true, 0, nil
}

// freeze stops the process until the result is called.
func (p *proc) freeze() (thaw func()) {
	p.frozen++
	life := p.life
	return func() {
		if p.life == life && p.alive && p.frozen > 0 {
			p.frozen--
			p.flush()
		}
	}
}

// flush lets happen what has waited for the thaw.
func (p *proc) flush() {
	if p.halted() {
		return
	}
	list := p.pending
	p.pending = nil
	for _, fn := range list {
		p.e.at(p.e.now, func() { p.run(fn) })
	}
}

// kill ends the process at once: nothing of it runs any more, not even cleaning up.
func (p *proc) kill() {
	p.alive, p.pending = false, nil
	list := p.tasks
	p.tasks = nil
	for _, t := range list {
		t.end()
	}
}

// task is a sequential part of a process: code that waits. It is a coroutine, resumed only by
// events of the queue.
type task struct {
	p  *proc
	co *coroutine
	// gen numbers the waits, so that a wake-up meant for an earlier one is ignored.
	gen  uint64
	done bool
	// called off: waits end early, unless they are shielded.
	cancelled, shielded bool
	timedOut            bool
}

// ended is what unwinds a task whose process was killed.
type ended struct{}

// spawn starts a task.
func (p *proc) spawn(fn func(*task)) *task {
	t := &task{p: p, co: p.e.crew.coroutine()}
	t.co.t, t.co.fn = t, fn
	p.tasks = append(p.tasks, t)
	p.e.wake(0, t, 0, false)
	return t
}

// fire ends the wait of a number, if that is still the one.
func (t *task) fire(gen uint64, timeout bool) {
	switch {
	case t.done || t.gen != gen || !t.p.alive:
	case t.p.halted():
		t.p.pending = append(t.p.pending, func() { t.fire(gen, timeout) })
	default:
		t.gen++
		t.timedOut = timeout
		if t.co.next(); t.co.t != t {
			t.done = true
			t.p.drop(t)
			t.p.e.crew.free(t.co)
		}
	}
}

func (p *proc) drop(t *task) {
	for i := range p.tasks {
		if p.tasks[i] == t {
			p.tasks = append(p.tasks[:i], p.tasks[i+1:]...)
			return
		}
	}
}

func (t *task) end() {
	if !t.done {
		t.done = true
		t.co.abandon()
		t.p.e.crew.free(t.co)
	}
}

// wait parks until something fires this wait. It returns false if the time ran out or the task
// was called off.
func (t *task) wait() bool {
	if t.co.quit || !t.co.park(struct{}{}) || t.co.quit {
		panic(ended{})
	}
	return !t.timedOut && !t.called()
}

func (t *task) called() bool { return t.cancelled && !t.shielded }

// cancel calls the task off: its present wait ends.
func (t *task) cancel() {
	t.cancelled = true
	if !t.shielded {
		t.p.e.wake(0, t, t.gen, true)
	}
}

// sleep waits for a time of the node's own clock. It returns false if the task was called off.
func (t *task) sleep(d time.Duration) bool {
	if t.called() {
		return false
	}
	t.p.e.wake(t.p.n.trueTime(d), t, t.gen, true)
	t.wait()
	return !t.called()
}

// signal wakes the tasks that wait for it. A raised signal that nobody waits for stays raised.
type signal struct {
	e      *engine
	raised bool
	queue  []waiter
}

type waiter struct {
	t   *task
	gen uint64
}

// raise wakes everybody who waits, or the next one to come.
func (s *signal) raise() {
	if len(s.queue) == 0 {
		s.raised = true
		return
	}
	for _, w := range s.queue {
		s.e.wake(0, w.t, w.gen, false)
	}
	s.queue = s.queue[:0]
}

// on waits for a signal, at most d of the node's clock. Zero or less: without bound.
func (t *task) on(s *signal, d time.Duration) bool {
	if t.called() {
		return false
	}
	if s.raised {
		s.raised = false
		return true
	}
	gen := t.gen
	s.queue = append(s.queue, waiter{t, gen})
	if d > 0 {
		limit := t.p.e.wake(t.p.n.trueTime(d), t, gen, true)
		defer t.p.e.callOff(limit)
	}
	ok := t.wait()
	if !ok {
		s.forget(t, gen)
	}
	return ok
}

func (s *signal) forget(t *task, gen uint64) {
	for i, w := range s.queue {
		if w.t == t && w.gen == gen {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
}

// clock is a node's own boottime: it runs a little faster or slower than true time.
type clock struct {
	since time.Duration // true time of the last start
	base  time.Duration // what it showed then
	rate  int64         // in 1/4096; 4096 is true
}

const trueRate = 4096

func (c *clock) read(now time.Duration) time.Duration {
	return c.base + time.Duration(int64(now-c.since)*c.rate/trueRate)
}

// duration says how much true time passes while the clock moves on by d.
func (c *clock) duration(d time.Duration) time.Duration {
	return time.Duration((int64(d)*trueRate + c.rate - 1) / c.rate)
}

// line formats a moment of true time for a story.
func line(at time.Duration) string { return fmt.Sprintf("%9.3fs", at.Seconds()) }
