package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// World is one simulated cluster and everything round it.
type World struct {
	*engine
	cfg    Config
	nodes  []*node
	store  *store
	net    *network
	checks *checks

	recording bool
	story     []string
	violation *Violation
	healed    bool
	mends     []*mend
	records   uint64
	systems   int
	rules     tally
	// wanted is the configuration as the operators left it last.
	wanted settings
	config settingsRead
	copies int
	faults map[string]int
	// crewEnds: the crew is this world's alone.
	crewEnds bool
}

// tally counts decisions by rule. Few rules make most of them, so the last ones are looked at first.
type tally []struct {
	id election.RuleID
	n  int
}

func (t *tally) count(id election.RuleID) {
	l := *t
	for i := range l {
		if l[i].id == id {
			l[i].n++
			if i > 0 && l[i].n > l[i-1].n {
				l[i], l[i-1] = l[i-1], l[i]
			}
			return
		}
	}
	*t = append(l, struct {
		id election.RuleID
		n  int
	}{id, 1})
}

// mend ends a fault, once.
type mend struct {
	fn   func()
	done bool
}

func (m *mend) run() {
	if !m.done {
		m.done = true
		m.fn()
	}
}

// NewWorld makes a cluster whose nodes are all switched on and whose disks are empty.
func NewWorld(seed uint64, cfg Config, record bool) *World {
	c := newCrew()
	w := c.world(seed, cfg, record)
	w.crewEnds = true
	return w
}

func (c *crew) world(seed uint64, cfg Config, record bool) *World {
	w := &World{
		engine: newEngine(seed), cfg: cfg, recording: record,
		faults: map[string]int{},
	}
	w.crew = c
	w.checks = &checks{w: w, sync: syncChecks{ended: map[uint64]cut{}, holders: map[int64]string{}, reigns: map[string]uint64{}}}
	w.wanted = cfg.settings()
	rate := func() int64 {
		if cfg.Drift == 0 {
			return trueRate
		}
		return trueRate - cfg.Drift + w.rng.Int64N(2*cfg.Drift+1)
	}
	w.net = newNetwork(w, cfg.Members)
	w.store = newStore(w, cfg.Members, rate())
	for i := range cfg.Members {
		n := &node{
			w: w, index: i, name: string(rune('a' + i)), power: true, voteKey: dcs.VoteKey(string(rune('a' + i))),
			clock: clock{base: w.between(time.Second, 100*time.Hour), rate: rate()},
			tags:  election.Tags{FailoverPriority: 1}, disk: disk{kind: election.DataEmpty},
		}
		if i < len(cfg.Tags) {
			n.tags = cfg.Tags[i]
		}
		n.pg.n, n.url = n, connURL(n.name)
		n.fencer.n = n
		n.fencer.p = proc{e: w.engine, n: n}
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		w.after(w.between(0, 3*time.Second), n.startAgent)
	}
	return w
}

// Close ends all tasks.
func (w *World) Close() {
	for _, n := range w.nodes {
		if n.agent != nil {
			n.agent.p.kill()
		}
	}
	if w.crewEnds {
		w.crew.close()
	}
}

func (w *World) node(name string) *node {
	if len(name) == 1 {
		if i := int(name[0] - 'a'); i >= 0 && i < len(w.nodes) {
			return w.nodes[i]
		}
	}
	return nil
}

func (w *World) newRecord(tl election.Timeline, after, size election.LSN) record {
	w.records++
	return record{tl: tl, end: after + size, id: w.records}
}

// newData names a copy of the data.
func (w *World) newData() string {
	w.copies++
	return "copy-" + strconv.Itoa(w.copies)
}

func (w *World) newSystem() string {
	w.systems++
	return "70000000000000" + strconv.Itoa(10000+w.systems)
}

func (w *World) mixString(s string) {
	for i := range len(s) {
		w.mix(uint64(s[i]))
	}
}

// note tells a line of the story. Node -1 is nobody in particular.
func (w *World) note(node int, format string, args ...any) {
	w.mix(uint64(len(format)*8 + node + 2))
	w.tell(node, format, args...)
}

// tell is note for what is told only, and told only when somebody listens.
func (w *World) tell(node int, format string, args ...any) {
	if !w.recording {
		return
	}
	who := "  "
	if node >= 0 {
		who = w.nodes[node].name + " "
	}
	w.story = append(w.story, line(w.now)+" "+who+fmt.Sprintf(format, args...))
}

// fail records a broken invariant; the first one ends the run.
func (w *World) fail(check string, n *node, what string) {
	if w.violation != nil {
		return
	}
	v := Violation{Check: check, At: w.now, What: what}
	if n != nil {
		v.Node = n.name
	}
	w.violation = &v
	w.note(-1, "VIOLATION: %s", v)
}

// run moves on for a time, or until an invariant breaks.
func (w *World) run(d time.Duration) {
	limit := w.now + d
	for more := true; more && w.violation == nil; {
		more = w.step(limit)
	}
	if w.violation == nil {
		w.now = limit
	}
}

// runUntil moves on until something holds.
func (w *World) runUntil(d time.Duration, holds func() bool) bool {
	for end := w.now + d; w.now < end && w.violation == nil; {
		if holds() {
			return true
		}
		w.run(min(250*time.Millisecond, end-w.now))
	}
	return w.violation == nil && holds()
}

// mending registers the end of a fault, after a time.
func (w *World) mending(d time.Duration, fn func()) {
	m := &mend{fn: fn}
	w.mends = append(w.mends, m)
	w.after(d, m.run)
}

// heal ends all faults: everything is repaired, started and connected.
func (w *World) heal() {
	w.note(-1, "-- everything is healed --")
	w.healed = true
	for _, m := range w.mends {
		m.run()
	}
	w.mends = nil
	if !w.store.up {
		w.store.recover()
	}
	w.cfg.Loss, w.cfg.Jitter, w.cfg.SlowAgent, w.cfg.RewindFails = 0, 0, 0, 0
	for i := range w.store.staleUntil {
		w.store.staleUntil[i] = 0
	}
	for _, n := range w.nodes {
		n.powerOn()
		if n.agent != nil {
			n.agent.hungUntil = 0
		}
		n.slowUntil, n.mutedUntil, n.fullUntil = 0, 0, 0
		if n.agent == nil || !n.agent.p.alive {
			n.superviseAgent(time.Second)
		}
	}
}
