package sim

import (
	"fmt"
	"strings"
	"time"
)

// Result is what came of one run.
type Result struct {
	Seed      uint64
	Config    Config
	Violation *Violation
	Hash      uint64
	Virtual   time.Duration
	Events    uint64
	Acked     int
	Lost      int
	Failovers int
	HandOvers int
	// Takeovers are those by votes.
	Takeovers int
	Twins     int
	// Recovery is how long the cluster needed after everything was healed.
	Recovery time.Duration
	Story    []string
	Rules    map[string]int
	Faults   map[string]int
}

// bootPatience is how long an undisturbed cluster may take to be made.
const bootPatience = 5 * time.Minute

// patience is how long a healed cluster may take until it is as it should be: what is left of a
// lease and the waits for it, one pause after repeated failures, and two rounds of recovery and
// copying.
func patience(c Config) time.Duration {
	return 4*c.TTL + 2*time.Minute + 2*c.RecoveryMax + 2*c.CopyTime + c.StartTimeout/10 + 2*c.WalTimeout
}

// Run lives through one seed.
func Run(seed uint64, record bool) Result { return RunConfig(seed, Random(seed), record) }

// RunConfig lives through one seed in a given configuration.
func RunConfig(seed uint64, cfg Config, record bool) Result {
	c := newCrew()
	defer c.close()
	return c.run(seed, cfg, record)
}

func (c *crew) run(seed uint64, cfg Config, record bool) Result {
	w := c.world(seed, cfg, record)
	defer w.Close()
	if !cfg.Early {
		if !w.runUntil(bootPatience, func() bool { return w.checks.lively() == "" }) && w.violation == nil {
			w.fail(Lively, nil, "the cluster is not made: "+w.checks.lively())
		}
	}
	if w.violation == nil {
		w.faultStep()
		w.run(cfg.FaultTime)
	}
	healed := w.now
	if w.violation == nil && !cfg.Unhealed {
		w.heal()
		w.liveliness(healed)
	}
	r := Result{
		Seed: seed, Config: cfg, Violation: w.violation, Hash: w.hash, Virtual: w.now, Events: w.steps,
		Acked: w.checks.ackedCount, Lost: w.checks.lost, Failovers: w.checks.failovers, HandOvers: w.checks.handovers, Takeovers: w.checks.takeovers,
		Twins: w.checks.twins, Recovery: w.now - healed, Story: w.story,
		Rules: map[string]int{}, Faults: w.faults,
	}
	for _, c := range w.rules {
		r.Rules[string(c.id)] = c.n
	}
	return r
}

// liveliness demands that a healed cluster becomes whole, and stays so for a while.
func (w *World) liveliness(healed time.Duration) {
	bound := patience(w.cfg)
	since := w.now
	for w.violation == nil {
		why := w.checks.lively()
		if why != "" {
			since = w.now
		}
		switch {
		case why == "" && w.now-since >= 3*time.Second:
			return
		case w.now-healed > bound:
			w.fail(Lively, nil, fmt.Sprintf("%s after everything was healed: %s", bound.Round(time.Second), why))
			return
		}
		w.run(500 * time.Millisecond)
	}
}

// Tell gives the end of the story of a run, and how to see it again.
func (r Result) Tell(lines int) string {
	var b strings.Builder
	c := r.Config
	fmt.Fprintf(&b, "seed %d: %s\n", r.Seed, r.Violation)
	fmt.Fprintf(&b, "%d members, ttl %s, margin floor + %.2f ttl, drift %d/4096, bug %q\n", c.Members, c.TTL, c.Extra, c.Drift, c.Bug)
	story := r.Story
	if len(story) > lines {
		fmt.Fprintf(&b, "… %d lines before\n", len(story)-lines)
		story = story[len(story)-lines:]
	}
	for _, s := range story {
		b.WriteString(s + "\n")
	}
	fmt.Fprintf(&b, "replay: make sim SEED=%d\n", r.Seed)
	return b.String()
}
