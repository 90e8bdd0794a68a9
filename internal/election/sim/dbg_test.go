package sim

import "testing"

func TestDbg(t *testing.T) {
	for _, c := range controls() {
		if c.bug != BugEarlyHealth && c.bug != BugPromoteAfterT {
			continue
		}
		for seed := range uint64(300) {
			cfg := c.config(seed)
			cfg.Bug = NoBug
			r := RunConfig(seed, cfg, false)
			if r.Violation != nil {
				r := RunConfig(seed, cfg, true)
				t.Log(c.bug, r.Tell(60))
			}
		}
	}
}
