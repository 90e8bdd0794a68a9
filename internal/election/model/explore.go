package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// Result is what a walk came to.
type Result struct {
	Config      Config
	States      int
	Transitions int
	Depth       int
	// Complete: every state within the bounds was visited.
	Complete bool
	Decides  int
	Plans    int
	Contents int
	Rules    int
	// Clipped counts what the world's own bounds cut off, by kind.
	Clipped map[string]int
	// Violation that was found, with the shortest way to it. Zero: none.
	Violation violation
	Trace     []step
	world     *world
}

// walker is a breadth-first walk: the first violation that it meets is one with a shortest trace.
type walker struct {
	w      *world
	seed   maphash.Seed
	table  []uint64 // hashes that were seen; zero is free
	index  []uint32 // the state's number, beside each hash
	parent []uint32
	via    []uint32
	edges  *graph
}

const firstTable = 1 << 16

func newWalker(w *world) *walker {
	return &walker{w: w, seed: maphash.MakeSeed(), table: make([]uint64, firstTable), index: make([]uint32, firstTable)}
}

// add gives a state a number. The second result is false if it was seen before.
func (x *walker) add(s *State, parent uint32, via step) (uint32, bool) {
	h := s.hash(x.seed)
	slot := x.slot(h)
	if x.table[slot] == h {
		return x.index[slot], false
	}
	n := uint32(len(x.parent))
	x.table[slot], x.index[slot] = h, n
	x.parent, x.via = append(x.parent, parent), append(x.via, via.pack())
	if len(x.parent)*4 > len(x.table)*3 {
		x.grow()
	}
	return n, true
}

func (x *walker) slot(h uint64) int {
	mask := uint64(len(x.table) - 1)
	i := h & mask
	for x.table[i] != 0 && x.table[i] != h {
		i = (i + 1) & mask
	}
	return int(i)
}

func (x *walker) grow() {
	old, ids := x.table, x.index
	x.table, x.index = make([]uint64, 2*len(old)), make([]uint32, 2*len(old))
	for i, h := range old {
		if h != 0 {
			n := x.slot(h)
			x.table[n], x.index[n] = h, ids[i]
		}
	}
}

// node is a state on the frontier.
type node struct {
	id uint32
	s  State
}

// Explore walks a world breadth first until it is exhausted, a violation is met, or the bound on
// states is reached.
func Explore(cfg Config) Result {
	r, _ := exploreWith(cfg, nil)
	return r
}

func exploreWith(cfg Config, g *graph) (Result, *walker) {
	w := newWorld(cfg)
	x := newWalker(w)
	x.edges = g
	r := Result{Config: cfg, Clipped: w.clipped, world: w}
	first := w.first()
	x.add(&first, 0, step{})
	level := []node{{0, first}}
	if v := w.check(&first); v != violNone {
		r.Violation = v
		level = nil
	}
	for len(level) > 0 && r.Violation == violNone {
		var next []node
		for i := range level {
			at := &level[i]
			x.expand(at, &r, &next)
			if r.Violation != violNone || cfg.MaxStates > 0 && len(x.parent) >= cfg.MaxStates {
				break
			}
		}
		if r.Violation == violNone && cfg.MaxStates > 0 && len(x.parent) >= cfg.MaxStates {
			break
		}
		level = next
		if len(next) > 0 {
			r.Depth++
		}
		r.Complete = len(next) == 0
	}
	r.States, r.Decides, r.Plans, r.Contents, r.Rules = len(x.parent), w.decides, len(w.plans), len(w.contents)-1, len(w.rules)
	return r, x
}

func (x *walker) expand(at *node, r *Result, next *[]node) {
	x.edges.visit(at.id, &at.s, x.w)
	x.w.successors(&at.s, func(t step, s *State) {
		if r.Violation != violNone {
			return
		}
		r.Transitions++
		id, isNew := x.add(s, at.id, t)
		x.edges.add(at.id, id, t)
		if !isNew {
			return
		}
		if v := x.w.check(s); v != violNone {
			r.Violation, r.Trace = v, x.trace(id)
			r.Depth = len(r.Trace)
			return
		}
		*next = append(*next, node{id, *s})
	})
}

// trace is the way from the first state.
func (x *walker) trace(id uint32) []step {
	var steps []step
	for id != 0 {
		steps = append(steps, unpack(x.via[id]))
		id = x.parent[id]
	}
	slices.Reverse(steps)
	return steps
}

// String is the line that a walk prints.
func (r Result) String() string {
	end := "exhausted"
	switch {
	case r.Violation != violNone:
		end = "VIOLATION"
	case !r.Complete:
		end = "stopped at the bound on states"
	}
	line := fmt.Sprintf("%s: %d states, %d transitions, depth %d, %s; %d decisions asked, %d store contents, %d rules",
		r.Config.Name, r.States, r.Transitions, r.Depth, end, r.Decides, r.Contents, r.Rules)
	if len(r.Clipped) > 0 {
		var cut []string
		for what, n := range r.Clipped {
			cut = append(cut, fmt.Sprintf("%s %d", what, n))
		}
		slices.Sort(cut)
		line += "; cut off: " + strings.Join(cut, ", ")
	}
	return line
}

// Key names the size and bounds of a world.
func (c Config) Key() string {
	mode := "async"
	if c.Mode != election.SyncOff {
		mode = fmt.Sprintf("mode %d, %d nodes", c.Mode, c.Nodes)
	}
	var extra strings.Builder
	for _, x := range []struct {
		on   bool
		name string
	}{{c.Clock, "time"}, {c.Split, "late answers"}, {c.Failsafe, "failsafe"}, {c.ClockStops, "clocks stop"}, {c.Strict, "strict"}, {c.Prompt, "prompt watches"}, {c.NoRenew, "no renewals"}, {c.Tail, "rejoining"}, {c.OldCopies, "old copies"}, {c.Dead != 0, "dead agents"}, {c.OldRace, "an old race"}} {
		if x.on {
			extra.WriteString(", " + x.name)
		}
	}
	return fmt.Sprintf("%d members, %s%s; %s", c.Members, mode, extra.String(), c.Bounds())
}

// Bounds lists how often each kind of event may happen in a world.
func (c Config) Bounds() string {
	var parts []string
	for b := range numBudgets {
		if n := c.Left[b]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, b))
		}
	}
	return strings.Join(parts, ", ")
}
