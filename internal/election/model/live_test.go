package model

import "testing"

// liveWorlds are small enough to be walked to their ends.
func liveWorlds() []Config {
	return []Config{
		async(2, map[budget]int{budServerCrash: 1}),
		quorum(2, 1, map[budget]int{budCommit: 1, budCut: 1, budAbsent: 1}),
		quorum(3, 1, map[budget]int{budNoSync: 2, budCommit: 1}),
		quorum(3, 2, map[budget]int{budFreeze: 1}),
		quorum(3, 1, map[budget]int{budFreeze: 1, budCommit: 1}),
		quorum(3, 1, map[budget]int{budFreezeNode: 1, budReigns: 0}),
		quorum(3, 1, map[budget]int{budAgentKill: 1, budNoSync: 1}),
		chosen(map[budget]int{budCut: 1, budAbsent: 1}),
		failsafe(2, map[budget]int{budRounds: 1}),
	}
}

// From everywhere the cluster can come back to one primary that everybody follows.
func TestEveryStateCanBecomeAGoodOne(t *testing.T) {
	for _, c := range liveWorlds() {
		c.Name = c.Key()
		t.Run(c.Name, func(t *testing.T) {
			c.MaxStates, c.Tail = 300_000, true
			l := ExploreLiveness(c, led)
			t.Log(l)
			switch {
			case l.Violation != violNone:
				t.Fatal(l.Story())
			case !l.Complete:
				t.Fatal("not walked to its end: this says nothing")
			case l.Good == 0:
				t.Fatal("no good state at all")
			case l.Bad > 0:
				l.Trace = l.Stuck
				t.Fatal("from here no good state can be reached: " + l.Story())
			}
		})
	}
}

// A freeze that never ends makes no state wrong, but leaves some from which nothing good comes.
func TestAStuckClusterIsNoticed(t *testing.T) {
	c := quorum(3, 1, map[budget]int{budFreeze: 1})
	c.Bug, c.Tail, c.MaxStates = BugNeverThaw, true, 300_000
	l := ExploreLiveness(c, led)
	t.Log(l)
	if !l.Complete || l.Good == 0 || l.Bad == 0 {
		t.Fatal("not noticed")
	}
}

// restless are the worlds in which something goes wrong for a while, and then nothing any more. One more change of
// the leader than L3 allows fits into each.
func restless() []Config {
	calm := func(c *Config) { c.Prompt, c.Calm = true, true }
	return []Config{
		quorum(3, 2, map[budget]int{budFreeze: 2, budReigns: 2}).but(calm),
		quorum(3, 1, map[budget]int{budFreeze: 4, budReigns: 2}).but(calm),
	}
}

// L3: a leader that is heard by as many members as its commits wait for is not replaced again and again.
func TestAHealthyLeaderIsLeftAlone(t *testing.T) {
	for _, c := range restless() {
		t.Run(c.Name, func(t *testing.T) {
			c.MaxStates = maxStates(t, 40_000)
			r := Explore(c)
			t.Log(r.String())
			if r.Violation != violNone {
				t.Fatal(r.Story())
			}
		})
	}
}

// A key that wanders for ever makes no state wrong either. Voters that do not care whether they hear their leader
// bring that about.
func TestAKeyThatNeverRestsIsNoticed(t *testing.T) {
	for _, c := range restless() {
		c.Bug, c.MaxStates = BugAlwaysDeaf, max(maxStates(t, 0), 100_000)
		r := Explore(c)
		t.Log(r.String())
		if r.Violation != violRestless {
			t.Errorf("not noticed in %s", c.Name)
		}
	}
}
