package sim

import "testing"

func TestDbg(t *testing.T) {
	for _, c := range controls() {
		if c.bug != BugStaleServer {
			continue
		}
		for seed := range uint64(900) {
			r := RunConfig(seed, c.config(seed), false)
			if r.Violation != nil {
				t.Log(seed, r.Violation)
				if r.Violation.Check == NothingLost {
					t.Log(RunConfig(seed, c.config(seed), true).Tell(34))
				}
			}
		}
	}
}
