package model

import (
	"fmt"
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
	w     *world
	seen  visited
	edges *graph
	at    State // the state that is expanded, and what it is kept as
	vec   vector
}

// Explore walks a world breadth first until it is exhausted, a violation is met, or the bound on
// states is reached.
func Explore(cfg Config) Result {
	r, _ := exploreWith(cfg, nil)
	return r
}

func exploreWith(cfg Config, g *graph) (Result, *walker) {
	w := newWorld(cfg)
	x := &walker{w: w, seen: newVisited(), edges: g}
	r := Result{Config: cfg, Clipped: w.clipped, world: w}
	first := w.first()
	w.tidy(&first)
	w.reduce(&first)
	x.seen.add(x.seen.pack(&first, nil, nil), 0, step{})
	r.Violation = w.check(&first)
	for from := 0; r.Violation == violNone; {
		end := x.seen.n
		for id := from; id < end && r.Violation == violNone && !x.full(); id++ {
			x.expand(uint32(id), &r)
		}
		if r.Violation != violNone || x.full() {
			break
		}
		if x.seen.n == end {
			r.Complete = true
			break
		}
		from = end
		r.Depth++
	}
	r.States, r.Decides, r.Plans, r.Contents, r.Rules = x.seen.n, w.decides, len(w.plans), len(w.contents)-1, len(w.rules)
	return r, x
}

// full says that the bound on states is reached.
func (x *walker) full() bool { return x.w.cfg.MaxStates > 0 && x.seen.n >= x.w.cfg.MaxStates }

func (x *walker) expand(id uint32, r *Result) {
	x.vec = x.seen.at(id).vec
	x.seen.unpack(&x.vec, &x.at)
	x.edges.visit(id, &x.at, x.w)
	x.w.successors(&x.at, func(t step, s *State) {
		if r.Violation != violNone {
			return
		}
		r.Transitions++
		to, isNew := x.seen.add(x.seen.pack(s, &x.at, &x.vec), id, t)
		x.edges.add(id, to, t)
		if !isNew {
			return
		}
		if v := x.w.check(s); v != violNone {
			r.Violation, r.Trace = v, x.trace(to)
			r.Depth = len(r.Trace)
		}
	})
}

// trace is the way from the first state.
func (x *walker) trace(id uint32) []step {
	var steps []step
	for id != 0 {
		e := x.seen.at(id)
		steps = append(steps, unpack(e.via))
		id = e.parent
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

// Row is the walk as a row of a table.
func (r Result) Row() string {
	end := "to its end"
	if !r.Complete {
		end = "bound on states"
	}
	var cut []string
	for what, n := range r.Clipped {
		cut = append(cut, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(cut)
	return fmt.Sprintf("| %s | %d | %d | %s | %s |", r.Config.Name, r.States, r.Depth, end, strings.Join(cut, ", "))
}

// Key names the size and bounds of a world: how many members, whom commits wait for, what else is in it, and how
// often each kind of event happens.
func (c Config) Key() string {
	mode := "async"
	switch c.Mode {
	case election.SyncQuorum:
		mode = fmt.Sprintf("any %d", c.Nodes)
	case election.SyncOn:
		mode = fmt.Sprintf("%d chosen", c.Nodes)
	case election.SyncOff:
	}
	var extra strings.Builder
	for _, x := range []struct {
		on   bool
		name string
	}{{c.Clock, "time"}, {c.Split, "late answers"}, {c.Failsafe, "failsafe"}, {c.ClockStops, "clocks stop"}, {c.Strict, "strict"}, {c.Prompt, "prompt watches"}, {c.NoRenew, "no renewals"}, {c.Tail, "rejoining"}, {c.OldCopies, "old copies"}, {c.Dead != 0, "dead agents"}, {c.OldRace, "an old race"}, {c.Caused, "nothing is lost without a fault"}, {c.Calm, "until all is calm"}} {
		if x.on {
			extra.WriteString(", " + x.name)
		}
	}
	return fmt.Sprintf("%d, %s%s; %s", c.Members, mode, extra.String(), c.Bounds())
}

// Bounds lists how often each kind of event may happen in a world.
func (c Config) Bounds() string {
	var parts, kinds []string
	all := true
	for b := range numBudgets {
		n := c.Left[b]
		switch {
		case c.Left[budFaults] > 0 && b.fault():
			if n > 0 {
				kinds = append(kinds, b.String())
			}
			all = all && n > 0
		case n > 0:
			parts = append(parts, fmt.Sprintf("%d %s", n, b))
		}
	}
	out := strings.Join(parts, ", ")
	if len(kinds) > 0 && !all {
		out += " (" + strings.Join(kinds, ", ") + ")"
	}
	return out
}
