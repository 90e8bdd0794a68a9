package sim

import "iter"

// crew is what outlives a world, because to make it is dear: coroutines whose stacks have grown, and member
// values that were written and read by the codec already. What happens in a world does not depend on it. One
// world at a time may use it.
type crew struct {
	idle  []*coroutine
	forms map[formKey]*memberForm
}

func newCrew() *crew { return &crew{forms: map[formKey]*memberForm{}} }

// coroutine runs one task after another.
type coroutine struct {
	next func() (struct{}, bool)
	stop func()
	park func(struct{}) bool
	// t and fn are what it runs; nil: nothing. Quit: it is to end that, unfinished as it is.
	t       *task
	fn      func(*task)
	running bool
	quit    bool
}

func (c *crew) coroutine() *coroutine {
	if n := len(c.idle); n > 0 {
		co := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return co
	}
	co := &coroutine{}
	co.next, co.stop = iter.Pull(iter.Seq[struct{}](func(yield func(struct{}) bool) {
		co.park = yield
		for {
			co.run()
			co.t, co.fn, co.quit = nil, nil, false
			if !yield(struct{}{}) {
				return
			}
		}
	}))
	return co
}

// run is one task, to its end or until its process was killed.
func (co *coroutine) run() {
	defer func() {
		co.running = false
		if r := recover(); r != nil {
			if _, ok := r.(ended); !ok {
				panic(r)
			}
		}
	}()
	co.running = true
	co.fn(co.t)
}

// abandon ends the task where it waits. One that has not begun never does.
func (co *coroutine) abandon() {
	if !co.running {
		co.t, co.fn = nil, nil
		return
	}
	co.quit = true
	co.next()
}

func (c *crew) free(co *coroutine) { c.idle = append(c.idle, co) }

// close ends the coroutines, none of which runs anything any more.
func (c *crew) close() {
	for _, co := range c.idle {
		co.stop()
	}
	c.idle = nil
}
