package model

import "testing"

// TestNothingIsReducedAway compares walks with and without what makes worlds smaller: the same bugs are found, by
// traces that are no longer, and worlds that are walked to their ends are as sound and as live.
func TestNothingIsReducedAway(t *testing.T) {
	both := func(c Config) (full, small Liveness) {
		c.MaxStates = maxStates(t, 3_000)
		small = ExploreLiveness(c, led)
		c.Full, c.MaxStates = true, 10*c.MaxStates
		if small.Violation != violNone || small.Complete {
			full = ExploreLiveness(c, led)
		}
		return full, small
	}
	compared := 0
	for _, c := range bugCases() {
		c.cfg.Bug, c.cfg.Name = c.bug, c.name
		full, small := both(c.cfg)
		if small.Violation == violNone || full.Violation == violNone {
			continue // the bounds of this test are too narrow for it
		}
		compared++
		if small.Violation != full.Violation || len(small.Trace) > len(full.Trace) {
			t.Errorf("%s: %s\nand in full: %s", c.name, small.Story(), full.Story())
		}
	}
	for _, c := range liveWorlds() {
		c.Tail, c.Name = true, c.Key()
		full, small := both(c)
		if !small.Complete || !full.Complete {
			continue
		}
		compared++
		t.Logf("%s: %d states of %d", c.Name, small.States, full.States)
		if small.Violation != full.Violation || (small.Good == 0) != (full.Good == 0) || (small.Bad == 0) != (full.Bad == 0) {
			t.Errorf("%s\nand in full: %s", small, full)
		}
	}
	t.Logf("%d worlds compared", compared)
	if compared < 20 {
		t.Errorf("only %d worlds compared", compared)
	}
}
