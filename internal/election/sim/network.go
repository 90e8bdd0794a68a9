package sim

import "time"

// network joins the nodes (0 to n-1) with one another and with the store, whose index is n. Links
// are cut one way. A request on a cut link is lost, or held back by the kernel's retries until the
// link is whole again.
type network struct {
	w   *World
	cut [][]int // reasons for the link from → to to be cut
	// slow adds to the delay of each message from or to a node.
	slow []time.Duration
}

func newNetwork(w *World, nodes int) *network {
	n := &network{w: w, slow: make([]time.Duration, nodes+1)}
	for range nodes + 1 {
		n.cut = append(n.cut, make([]int, nodes+1))
	}
	return n
}

func (n *network) open(from, to int) bool { return n.cut[from][to] == 0 }

// both says whether a connection between two can live.
func (n *network) both(a, b int) bool { return n.open(a, b) && n.open(b, a) }

func (n *network) delay(from, to int) time.Duration {
	e := n.w.engine
	d := e.tail(200*time.Microsecond, 10*time.Millisecond) + n.slow[from] + n.slow[to]
	if n.w.cfg.Jitter > 0 && e.chance(n.w.cfg.Jitter) {
		d += e.tail(0, 8*time.Second)
	}
	return d
}

// send delivers a message after a delay: once, at most. A message on a cut link is kept back for up
// to 15 s and dropped then, or dropped at once.
func (n *network) send(from, to int, fn func()) {
	n.w.after(n.delay(from, to), func() { n.arrive(from, to, 15*time.Second, fn) })
}

func (n *network) arrive(from, to int, patience time.Duration, fn func()) {
	if n.open(from, to) {
		if n.w.cfg.Loss > 0 && n.w.chance(n.w.cfg.Loss) {
			return
		}
		fn()
		return
	}
	if patience <= 0 || n.w.chance(0.2) {
		return
	}
	again := n.w.between(200*time.Millisecond, 2*time.Second)
	n.w.after(again, func() { n.arrive(from, to, patience-again, fn) })
}

// outcome is what a caller learns of a request.
type outcome uint8

const (
	answered outcome = iota
	// refused: it was certainly not carried out.
	refused
	// silent: no answer came. It may have been carried out, or be so later.
	silent
)

// call is a request on its way, and its answer.
type call struct {
	n        *network
	t        *task
	gen      uint64
	from, to int
	serve    func(*call)
	result   outcome
	patience time.Duration
	// do is what the store does, res its own answer.
	do  func() error
	res error
}

// Stages of a call.
const (
	callArrives uint64 = iota
	callAnswered
	callRefused
)

func (c *call) act(stage uint64) {
	from, to := c.from, c.to
	if stage != callArrives {
		from, to = to, from
	}
	n := c.n
	if !n.open(from, to) {
		if c.patience <= 0 || n.w.chance(0.2) {
			return
		}
		again := n.w.between(200*time.Millisecond, 2*time.Second)
		c.patience -= again
		n.w.cue(again, c, stage)
		return
	}
	if n.w.cfg.Loss > 0 && n.w.chance(n.w.cfg.Loss) {
		return
	}
	switch {
	case stage == callArrives:
		c.serve(c)
	case !c.t.done && c.t.gen == c.gen:
		c.result = answered
		if stage == callRefused {
			c.result = refused
		}
		c.t.fire(c.gen, false)
	}
}

func (c *call) reply()  { c.back(callAnswered) }
func (c *call) refuse() { c.back(callRefused) }

func (c *call) back(stage uint64) {
	c.patience = 15 * time.Second
	c.n.w.cue(c.n.delay(c.to, c.from), c, stage)
}

// rpc sends a request, waits for its answer, and says how that went. Serve runs at the other end and
// answers there, or never does. Only after answered may the caller look at what it found.
func (n *network) rpc(t *task, to int, timeout time.Duration, serve func(*call)) outcome {
	return n.request(t, to, timeout, &call{serve: serve})
}

func (n *network) request(t *task, to int, timeout time.Duration, c *call) outcome {
	if t.called() {
		return refused
	}
	c.n, c.t, c.gen, c.from, c.to, c.result, c.patience = n, t, t.gen, t.p.n.index, to, silent, 15*time.Second
	n.w.cue(n.delay(c.from, to), c, callArrives)
	limit := t.p.e.wake(t.p.n.trueTime(timeout), t, t.gen, true)
	woken := t.wait()
	t.p.e.callOff(limit)
	if !woken {
		return silent
	}
	return c.result
}

// sever cuts a link one way and gives what mends it.
func (n *network) sever(from, to int) (mend func()) {
	n.cut[from][to]++
	return func() { n.cut[from][to]-- }
}

// severBoth cuts both ways.
func (n *network) severBoth(a, b int) (mend func()) {
	x, y := n.sever(a, b), n.sever(b, a)
	return func() { x(); y() }
}
