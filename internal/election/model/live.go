package model

// graph keeps the steps between states, for liveness.
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

// add keeps a step, unless it is a fault: those end some day.
func (g *graph) add(from, to uint32, t step) {
	if g == nil || t.fault() {
		return
	}
	g.from, g.to = append(g.from, from), append(g.to, to)
}
