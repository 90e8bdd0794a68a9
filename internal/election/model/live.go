package model

import "fmt"

// Liveness is checked on a world that was walked to its end: from every state in which no more faults
// happen, a good state can be reached by steps that are no faults. As the world is finite, this says that
// with fair scheduling (a step that stays possible again and again is taken some day) a good state is
// reached from everywhere. It says nothing about how long that takes.

// graph keeps the steps between states that are no faults, and which states are good.
type graph struct {
	from, to []uint32
	good     []bool
	goal     func(*world, *State) bool
}

func (g *graph) visit(id uint32, s *State, w *world) {
	if g == nil {
		return
	}
	for int(id) >= len(g.good) {
		g.good = append(g.good, false)
	}
	g.good[id] = g.goal(w, s)
}

func (g *graph) add(from, to uint32, t step) {
	if g == nil || t.fault() {
		return
	}
	g.from, g.to = append(g.from, from), append(g.to, to)
}

// stuck lists the states from which no good one can be reached.
func (g *graph) stuck() []uint32 {
	// Steps into each state, as one array cut in pieces.
	first := make([]uint32, len(g.good)+1)
	for _, t := range g.to {
		first[t+1]++
	}
	for i := range g.good {
		first[i+1] += first[i]
	}
	into := make([]uint32, len(g.to))
	next := append([]uint32(nil), first...)
	for n, t := range g.to {
		into[next[t]] = g.from[n]
		next[t]++
	}
	reach := append([]bool(nil), g.good...)
	var queue []uint32
	for i, ok := range reach {
		if ok {
			queue = append(queue, uint32(i))
		}
	}
	for len(queue) > 0 {
		at := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, f := range into[first[at]:first[at+1]] {
			if !reach[f] {
				reach[f] = true
				queue = append(queue, f)
			}
		}
	}
	var out []uint32
	for i, ok := range reach {
		if !ok {
			out = append(out, uint32(i))
		}
	}
	return out
}

// Liveness walks a world to its end and says how many of its states are good and from how many no good
// one can be reached. Stuck is the shortest way to one of those.
type Liveness struct {
	Result
	Good, Bad int
	Stuck     []step
}

func (l Liveness) String() string {
	return fmt.Sprintf("%s; %d good states, %d from which none can be reached", l.Result, l.Good, l.Bad)
}

// ExploreLiveness does that. A world that is not exhausted says nothing.
func ExploreLiveness(cfg Config, goal func(*world, *State) bool) Liveness {
	g := &graph{goal: goal}
	r, x := exploreWith(cfg, g)
	l := Liveness{Result: r}
	if !r.Complete || r.Violation != violNone {
		return l
	}
	for _, ok := range g.good {
		if ok {
			l.Good++
		}
	}
	bad := g.stuck()
	l.Bad = len(bad)
	if len(bad) > 0 {
		l.Stuck = x.trace(bad[0])
	}
	return l
}

// led is a state with exactly one writable primary, which holds the leader key, whose clients are
// answered, and that every other member follows; nobody is frozen.
func led(w *world, s *State) bool {
	c := w.content(s.store)
	if c.leader.name == 0 {
		return false
	}
	h := int(c.leader.name) - 1
	for i := range w.n {
		m := &s.m[i]
		if i == h {
			if m.server != serverPrimary || m.own.rev != c.leader.rev || min(m.own.age, m.own.promised) >= giveUp {
				return false
			}
			continue
		}
		if m.writable() || m.frz.recorded != 0 || !s.streams(i) || m.wal.n != s.m[h].wal.n || int(m.recv) != h+1 {
			return false
		}
	}
	for _, k := range s.commits {
		if k.state == commitWaits {
			return false
		}
	}
	if !w.sync() {
		return true
	}
	// The published set is the only one, and what commits wait for; or nobody is left to wait for.
	k, m := &c.sync, &s.m[h]
	return k.leader == c.leader.name &&
		(k.sets == 1 && m.inForce != 0 && k.set[0].wait == m.now.wait && k.set[0].mask == m.now.mask || k.sets == 0 && m.now.wait == 0)
}
