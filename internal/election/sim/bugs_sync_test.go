package sim

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// quorum makes a world of a synchronous cluster.
func quorum(mode election.SyncMode, nodes, members int) func(*Config) {
	return func(c *Config) {
		c.Sync = election.SyncPolicy{Mode: mode, Nodes: nodes, Silence: 300 * time.Millisecond}
		c.Members, c.TTL, c.FaultEvery, c.Tags, c.Failsafe = members, 15*time.Second, 3*time.Second, nil, false
		c.ReplicationLag, c.WalTimeout, c.UseRewind = 20*time.Millisecond, 5*time.Second, true
	}
}

// often lets faults be short and dense.
func often(c *Config) { c.FaultEvery, c.TTL = time.Second, 5*time.Second }

// then joins changes of a world.
func then(fns ...func(*Config)) func(*Config) {
	return func(c *Config) {
		for _, fn := range fns {
			fn(c)
		}
	}
}

func syncControls() []deliberate {
	lost := []string{NothingLost, NoAckAboveCut, FrozenCounted, VoteFaithful, QuorumCross, WinnerHasVotes}
	cuts := []string{"cut pair", "isolate from members", "cut from store", "power off"}
	failsafe := func(c *Config) {
		quorum(election.SyncOff, 1, 3)(c)
		c.Failsafe, c.TTL = true, 10*time.Second
	}
	return []deliberate{
		{bug: BugForgetFreeze, check: lost, kinds: []string{"cut pair", "isolate from members", "kill voter", "kill voter", "kill voter"}, tune: then(quorum(election.SyncQuorum, 1, 4), often)},
		{bug: BugVoteReceiveLSN, from: 19, check: lost, kinds: append([]string{"restart", "kill postmaster"}, cuts...), tune: quorum(election.SyncQuorum, 1, 3)},
		{bug: BugKeepData, from: 11, check: lost, kinds: []string{"restore backup", "restore backup", "cut pair", "power off"}, tune: quorum(election.SyncQuorum, 1, 4)},
		{bug: BugThawUnknown, from: 292, check: lost, kinds: []string{"cut pair", "cut from store one way", "cut pair", "isolate from members"}, tune: then(quorum(election.SyncQuorum, 1, 3), func(c *Config) { c.Jitter = 0.2 })},
		{bug: BugUncheckedVotes, from: 269, check: lost, kinds: []string{"cut pair", "isolate from members", "isolate from members"}, tune: then(quorum(election.SyncQuorum, 1, 4), often, func(c *Config) {
			c.Jitter, c.ReplicationLag, c.CommitEvery, c.FaultTime = 0.4, time.Millisecond, 100*time.Millisecond, 200*time.Second
		})},
		{bug: BugShowIsInForce, check: lost, kinds: append([]string{"kill postmaster", "mute replication"}, cuts...), tune: quorum(election.SyncQuorum, 1, 4)},
		{bug: BugPromoteAlone, from: 28, check: lost, kinds: cuts, tune: quorum(election.SyncQuorum, 1, 3)},
		{bug: BugOverlappingSet, from: 550, check: lost, kinds: []string{"mute replication", "hang loop"}, tune: then(quorum(election.SyncOn, 1, 2), func(c *Config) {
			c.FaultEvery, c.LoopWait, c.SlowAgent, c.WatchLag = 1500*time.Millisecond, time.Second, 0.3, 0
		})},
		{bug: BugSyncUnknown, from: 23, check: lost, kinds: []string{"mute replication", "cut from store one way", "change mode", "kill postmaster"}, tune: then(quorum(election.SyncQuorum, 1, 3), func(c *Config) { c.Jitter, c.WatchLag = 0.2, 15*time.Second })},
		{bug: BugPublishEarly, check: lost, kinds: cuts, tune: quorum(election.SyncQuorum, 1, 4)},
		{bug: BugLoosenFirst, check: lost, kinds: []string{"mute replication", "kill postmaster", "cut pair"}, tune: quorum(election.SyncQuorum, 1, 3)},
		{bug: BugReplaceAtOnce, check: lost, kinds: []string{"mute replication", "kill postmaster", "power off"}, tune: quorum(election.SyncOn, 1, 4)},
		{bug: BugWinnerBehind, check: lost, kinds: cuts, tune: then(quorum(election.SyncQuorum, 1, 4), func(c *Config) { c.ReplicationLag = 500 * time.Millisecond })},
		{bug: BugQuorumByConfig, check: lost, kinds: append([]string{"change mode", "change mode"}, cuts...), tune: quorum(election.SyncQuorum, 1, 4)},
		{bug: BugForgetPromise, from: 10, check: []string{PromiseKept, ExpiryRelease, OneWriter, TimeFence}, kinds: []string{"cut from store", "cut from store", "kill agent and fencer", "kill everything"}, tune: failsafe},
		{bug: BugEarlierLife, from: 182, check: []string{ExpiryRelease, OneWriter, OneHistory, NothingLost, QuorumCross}, kinds: []string{"switchover, kill agent"}, tune: then(lateAnswers, func(c *Config) { c.Sync.Mode, c.Failsafe, c.FaultEvery = election.SyncOff, false, 10*time.Second })},
		{bug: BugPromoteTwice, from: 35, check: []string{OneHistory}, kinds: []string{"kill postmaster", "kill postmaster", "change mode", "cut pair"}, tune: quorum(election.SyncQuorum, 1, 3)},
		{bug: BugSetGivenUp, from: 21, check: []string{ExpiryRelease, OneWriter, PromiseKept, TimeFence}, kinds: []string{"cut from store", "cut from store one way", "change failsafe", "change failsafe"}, tune: failsafe},
		{bug: BugSetUnderWay, from: 21, check: []string{ExpiryRelease, OneWriter, PromiseKept, TimeFence}, kinds: []string{"cut from store", "cut from store one way", "change failsafe", "change failsafe"}, tune: failsafe},
		{bug: BugLateRed, check: []string{OneHealthy}, kinds: cuts, tune: quorum(election.SyncQuorum, 1, 3)},
	}
}
