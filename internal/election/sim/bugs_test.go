package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// deliberate is one deliberate bug, the checks that may catch it, and the kind of world in which a few
// seeds suffice.
type deliberate struct {
	bug   Bug
	check []string
	// kinds are the faults that happen, besides those that the seed draws.
	kinds []string
	tune  func(*Config)
	// from is the first seed tried: where it was last caught, to save time.
	from uint64
}

func controls() []deliberate {
	return []deliberate{
		{bug: BugNoMargin, check: []string{TimeFence}},
		{bug: BugFencerIgnoresT, check: []string{TimeFence, OneWriter, ExpiryRelease}, kinds: []string{"kill agent", "freeze agent", "isolate"}},
		{bug: BugSentAtReceive, from: 17, check: []string{TimeFence}, kinds: []string{"slow network", "slow network", "switchover"}},
		{bug: BugKeepAliveAlone, check: []string{TimeFence, OneWriter, ExpiryRelease}, kinds: []string{"delete leader", "store leader"}},
		{bug: BugIgnoreTerm, check: []string{TimeFence}, kinds: []string{"store leader", "store leader"}},
		{bug: BugAdoptByValue, check: []string{TimeFence, ArmedFirst, OneWriter, ExpiryRelease}, kinds: []string{"kill agent", "power off"}},
		{bug: BugAcquireOnDelete, check: []string{ExpiryRelease, OneWriter}, kinds: []string{"delete leader", "isolate", "cut from store"}},
		{bug: BugPromoteUnarmed, check: []string{ArmedFirst}, kinds: []string{"isolate", "power off", "kill everything"}},
		{bug: BugPromoteAfterT, check: []string{TimeFence, ArmedFirst, OneWriter, ExpiryRelease}, from: 96, kinds: []string{"kill postmaster, freeze fencer", "freeze agent"}, tune: func(c *Config) {
			c.KeepFencer, c.TTL, c.PrePromote, c.FaultEvery, c.UseRewind = true, 3*time.Second, 20*time.Second, 1500*time.Millisecond, true
		}},
		{bug: BugForgetBeforeDown, check: []string{ArmedFirst}, kinds: []string{"cut from store", "store down"}},
		{bug: BugReleaseRunning, check: []string{ExpiryRelease, OneWriter}, kinds: []string{"stop agent", "stop agent", "slow disk"}},
		{bug: BugDownAtExit, check: []string{DownIsDown}, kinds: []string{"kill postmaster"}},
		{bug: BugHandOverEarly, check: []string{ExpiryRelease, NothingLost, OneWriter}, kinds: []string{"switchover", "switchover"}},
		{bug: BugUnknownIsFailure, from: 104, check: []string{ExpiryRelease, OneWriter, OneHistory, NothingLost}, kinds: []string{"switchover", "switchover", "slow network", "cut from store one way"}, tune: func(c *Config) { c.Loss = 0.1 }},
		{bug: BugReadOutcome, from: 148, check: []string{ExpiryRelease, OneWriter, OneHistory, NothingLost}, kinds: []string{"switchover", "restart"}, tune: lateAnswers},
		{bug: BugSameTimelineNumber, from: 45, check: []string{OneHistory}, kinds: []string{"isolate", "power off", "kill everything"}},
		{bug: BugCloneOnGuess, check: []string{NoGuess}, kinds: []string{"power off", "kill postmaster", "isolate"}},
		{bug: BugIgnoreOthers, check: []string{LagBound, NothingLost}, kinds: []string{"isolate", "mute replication", "power off"}},
		{bug: BugEarlyHealth, from: 23, check: []string{OneHealthy}, kinds: []string{"hang loop", "hang loop", "isolate"}, tune: func(c *Config) { c.Drift, c.TTL, c.Tags = 256, 15*time.Second, nil }},
		{bug: BugNeverStart, check: []string{Lively}, kinds: []string{"kill postmaster"}},
		{bug: BugShortLeaseKeepsT, check: []string{TimeFence, ExpiryRelease, OneWriter}, kinds: []string{"change ttl", "kill agent", "isolate"}},
		{bug: BugStaleEpoch, from: 244, check: []string{Lively}, kinds: []string{"freeze fencer", "freeze fencer", "isolate", "cut from store"}, tune: func(c *Config) { c.TTL, c.FaultEvery, c.KeepFencer = 3*time.Second, 2*time.Second, true }},
		{bug: BugStaleSource, from: 33, check: []string{NoGuess}, kinds: []string{"reinit", "reinit", "reinit", "isolate"}, tune: func(c *Config) { c.TTL, c.FaultEvery, c.WatchLag = 3*time.Second, 2*time.Second, 40*time.Second }},
		{bug: BugShortVacancy, from: 31, check: []string{ExpiryRelease, OneWriter}, kinds: []string{"delete leader", "delete leader", "change ttl", "change ttl", "cut from store", "cut from store", "kill agent"}, tune: func(c *Config) { c.TTL, c.FaultEvery = 20*time.Second, 2*time.Second }},
		{bug: BugFreshWithoutTerm, check: []string{TimeFence}, kinds: []string{"store leader", "store leader", "power off"}},
		{bug: BugBootstrapUnknown, check: []string{Lively}, tune: func(c *Config) { c.Loss, c.Early = 0.1, true }},
		{bug: BugKeepClaim, from: 258, check: []string{Lively}, kinds: []string{"hang loop", "cut from store", "slow network"}, tune: func(c *Config) {
			c.Early, c.SlowAgent, c.FaultEvery, c.TTL = true, 0.5, time.Second, 3*time.Second
		}},
		{bug: BugStaleServer, from: 0, check: []string{DownIsDown, ExpiryRelease, OneWriter, NothingLost}, kinds: []string{"kill postmaster, freeze fencer"}, tune: func(c *Config) {
			c.TTL, c.FaultEvery, c.StartFails, c.KeepFencer = 15*time.Second, 8*time.Second, 0, true
		}},
		{bug: BugTwinTimelines, from: 550, check: []string{OneHistory}, kinds: []string{"isolate", "power off", "kill everything"}},
	}
}

// lateAnswers is a network in which many messages come after the caller's patience.
func lateAnswers(c *Config) {
	c.Jitter, c.Loss, c.Early, c.FaultTime, c.FaultEvery = 0.3, 0, true, 200*time.Second, 6*time.Second
	c.Tags, c.ReplicationLag, c.StartFails, c.SlowAgent = nil, time.Millisecond, 0, 0
}

func (c deliberate) config(seed uint64) Config {
	cfg := Random(seed)
	cfg.Bug = c.bug
	cfg.FaultEvery, cfg.FaultTime = 4*time.Second, 90*time.Second
	cfg.Sync.Mode, cfg.Failsafe = election.SyncOff, false
	if c.kinds != nil {
		cfg.Kinds = nil
	}
	for _, k := range c.kinds {
		cfg.Kinds = append(cfg.Kinds, weighted{k, 1})
	}
	cfg.Unhealed = !slices.Contains(c.check, Lively)
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

// TestDeliberateBugsAreCaught runs each bug until the check that is meant for it fails.
func TestDeliberateBugsAreCaught(t *testing.T) {
	t.Parallel()
	const most = 300
	for _, c := range append(controls(), syncControls()...) {
		t.Run(c.bug.String(), func(t *testing.T) {
			t.Parallel()
			other := map[string]int{}
			for seed := c.from; seed < c.from+most; seed++ {
				r := RunConfig(seed, c.config(seed), false)
				if r.Violation == nil {
					continue
				}
				if slices.Contains(c.check, r.Violation.Check) {
					t.Logf("seed %d: %s", seed, r.Violation)
					sound := c.config(seed)
					sound.Bug = NoBug
					if r := RunConfig(seed, sound, false); r.Violation != nil {
						t.Errorf("without the bug:\n%s", RunConfig(seed, sound, true).Tell(storyLines))
					}
					return
				}
				other[r.Violation.Check]++
			}
			t.Errorf("not caught by %v in %d seeds; others: %v", c.check, most, other)
		})
	}
}
