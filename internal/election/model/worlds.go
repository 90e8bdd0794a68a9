package model

import (
	"maps"
	"slices"

	"github.com/pgha/pgha/internal/election"
)

// async is a world without synchronous replication, in which time decides.
func async(members int, left map[budget]int) Config {
	return with(Config{Members: members, Clock: true}, left)
}

// quorum is a world in which commits wait for any wait of the standbys. No time passes in it.
func quorum(members, wait int, left map[budget]int) Config {
	return with(Config{Members: members, Mode: election.SyncQuorum, Nodes: wait}, left)
}

// chosen is a world of three members in which commits wait for a chosen standby.
func chosen(left map[budget]int) Config {
	return quorum(3, 1, left).but(func(c *Config) { c.Mode = election.SyncOn })
}

// failsafe is an asynchronous world in which a leader lives on by promises.
func failsafe(members int, left map[budget]int) Config {
	return async(members, left).but(func(c *Config) { c.Failsafe = true })
}

// faulty are the worlds with all faults at once.
func faulty() []Config {
	return []Config{
		everything(1, 1, nil),
		everything(2, 1, nil),
		everything(1, 1, map[budget]int{budCommit: 3}),
		everything(1, 2, only(budFreezeNode, budApart)),
		everything(1, 2, map[budget]int{budCommit: 0}),
		everything(2, 2, map[budget]int{budCommit: 0}),
		everything(1, 2, nil),
		everything(2, 2, nil),
		// An operator interferes: a switchover, members that leave the set and come back. (A failover by hand may cost
		// commits, which is the operator's word against the votes'.)
		everything(1, 1, map[budget]int{budSwitchover: 1}),
		everything(1, 1, map[budget]int{budNoSync: 2}),
		// Three faults: two successive takeovers, each of a fault of its own, and one more.
		everything(1, 3, map[budget]int{budCommit: 3}),
		// With time, and with nothing but time.
		everything(1, 1, nil).but(func(c *Config) { c.Clock = true }),
		everything(0, 1, nil).but(func(c *Config) { c.Clock, c.Mode = true, election.SyncOff }),
	}
}

// everything is a world of three members with all faults in it, at most so many in all, in which a commit waits for
// any wait of the standbys and the leader changes up to twice. Faults are node freezes, nodes cut off from the
// others, crashes of an agent or a server, outcomes unknown, a watch that is stuck, a replaced disk. Watches are prompt unless one is stuck, and
// who loses sight of the leader has a reason: the fault is there, or it is counted.
func everything(wait, faults int, left map[budget]int) Config {
	c := quorum(3, wait, map[budget]int{
		budFaults: faults, budAgentKill: 1, budServerCrash: 1, budUnknown: 1, budFreezeNode: faults, budApart: faults, budStuck: 1,
		budReclone: 1, budFreeze: 2 * (3 - wait), budReigns: 2, budCommit: 1,
	})
	maps.Copy(c.Left, left)
	return c.but(func(c *Config) { c.Prompt, c.Caused = true, true })
}

// only leaves out all faults but some.
func only(kinds ...budget) map[budget]int {
	left := map[budget]int{}
	for b := range numBudgets {
		if b.fault() && !slices.Contains(kinds, b) {
			left[b] = 0
		}
	}
	return left
}

func with(c Config, left map[budget]int) Config {
	c.Left = map[budget]int{budReigns: 1}
	maps.Copy(c.Left, left)
	return c
}

func (c Config) but(change func(*Config)) Config {
	change(&c)
	c.Name = c.Key()
	return c
}

// Worlds are those that the safety argument asks for. Each is walked as far as there is room.
func Worlds() []Config {
	tail := func(c *Config) { c.Tail = true }
	split := func(c *Config) { c.Split = true }
	time := func(c *Config) { c.Clock = true }
	all := []Config{
		// Votes, each against each, with nothing else going wrong.
		quorum(2, 1, map[budget]int{budCommit: 3, budFreeze: 2, budReigns: 2, budAgentKill: 1}).but(tail),
		quorum(3, 2, map[budget]int{budFreeze: 1}).but(tail),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 2}),
		chosen(map[budget]int{budCommit: 1, budFreeze: 2}),
		quorum(4, 2, map[budget]int{budFreeze: 2}),
		// Late answers: a request may be carried out long before its sender hears of it. Votes twice in a freeze.
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2}).but(split),
		quorum(2, 1, map[budget]int{budCommit: 1, budFreeze: 2, budVote: 3, budUnknown: 1}).but(split),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 1, budVote: 2}).but(split),
		quorum(3, 1, map[budget]int{budNoSync: 2, budCommit: 1}).but(func(c *Config) { c.Split, c.Tail = true, true }),
		// One fault of each kind on top.
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2, budUnknown: 1}),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2, budAgentKill: 1}),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2, budServerCrash: 1}),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2, budFreezeNode: 1}),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2, budReclone: 1}).but(func(c *Config) { c.OldCopies = true }),
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 3}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 1, budUnknown: 1}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 1, budAgentKill: 1}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 1, budServerCrash: 1}),
		// Two takeovers one after the other; the second needs what the first inherited.
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 2, budReigns: 2}),
		quorum(3, 1, map[budget]int{budCommit: 2, budFreeze: 4, budReigns: 2}),
		// Three commits.
		quorum(3, 1, map[budget]int{budCommit: 3, budFreeze: 2}),
		// The set changes: members come and go, the mode is not strict, or strict.
		quorum(3, 1, map[budget]int{budNoSync: 2, budCommit: 1}).but(tail),
		quorum(3, 1, map[budget]int{budNoSync: 2, budUnknown: 1, budCommit: 1}).but(tail),
		quorum(3, 1, map[budget]int{budNoSync: 1, budAgentKill: 1, budCommit: 1}).but(tail),
		quorum(3, 1, map[budget]int{budNoSync: 1, budFreeze: 2}),
		quorum(3, 1, map[budget]int{budCut: 2, budAbsent: 2, budCommit: 1}).but(tail),
		chosen(map[budget]int{budCut: 1, budAbsent: 1, budCommit: 1, budFreeze: 1}),
		chosen(map[budget]int{budCut: 2, budAbsent: 2, budCommit: 1}).but(func(c *Config) { c.Strict, c.Tail = true, true }),
		// Switchover against takeover and failover, with time.
		quorum(3, 2, map[budget]int{budSwitchover: 1, budFreeze: 1}),
		quorum(2, 1, map[budget]int{budSwitchover: 1, budFreeze: 1, budCommit: 1}).but(time),
		quorum(2, 1, map[budget]int{budFreeze: 1, budCommit: 1, budFreezeNode: 1}).but(func(c *Config) { c.Clock, c.ClockStops = true, true }),
		// An operator deletes the key of one that took over, while the one before does not know of it.
		quorum(3, 2, map[budget]int{budDelete: 1, budFreeze: 1, budReigns: 2}).but(time),
		// The asynchronous world.
		async(2, map[budget]int{budServerCrash: 1, budSilent: 1}).but(tail),
		async(2, map[budget]int{budReigns: 2, budSilent: 1}),
		async(2, map[budget]int{budAgentKill: 1, budSilent: 1}),
		async(2, map[budget]int{budDelete: 1, budSilent: 1}).but(func(c *Config) { c.Split = true }),
		async(2, map[budget]int{budGhost: 1, budSilent: 1}),
		async(2, map[budget]int{budFreezeNode: 1, budSilent: 1}),
		async(2, map[budget]int{budFreezeNode: 1, budDelete: 1, budReigns: 2, budSilent: 1}),
		async(2, map[budget]int{budSwitchover: 1, budCommit: 1}),
		async(2, map[budget]int{budSwitchover: 1, budUnknown: 1, budAgentKill: 1}),
		async(2, map[budget]int{budSwitchover: 1, budFailover: 1}),
		async(3, map[budget]int{budSilent: 1}),
		async(3, map[budget]int{budSwitchover: 1}),
		failsafe(2, map[budget]int{budRounds: 2, budSilent: 1, budAgentKill: 1}),
		failsafe(3, map[budget]int{budRounds: 2, budSilent: 1}),
	}
	all = append(all, faulty()...)
	for i := range all {
		all[i].Name = all[i].Key()
	}
	return all
}
