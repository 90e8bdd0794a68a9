// Package sim runs whole clusters of the real core (election.Decide, the transaction builders and
// the codec of internal/dcs) in a simulated world: true time and drifting clocks, a network that
// delays, loses and holds back, a consensus store with leases, processes that are killed and frozen,
// PostgreSQL servers with write-ahead logs and timelines, and clients that remember what was
// acknowledged to them.
//
// Everything follows from one seed: the seed draws the configuration of the cluster, the kinds and
// rates of faults, and every delay. One thread of control runs it; the sequential parts of the
// simulated agents are coroutines that are resumed by the event queue only. So a seed that fails
// once fails always, and its story can be told afterwards.
//
// Servers replicate synchronously the way PostgreSQL does it: whether a commit waits is what the
// checkpointer has loaded, by whom it is released is what each walsender has loaded, and what a standby
// confirmed may arrive late (syncrep.go). Members freeze, vote, take over and promise, with everything
// that must outlive a process on the node's disk.
//
// A run has two phases. While faults happen, the invariants (checks.go) are looked at whenever the
// state they speak about changes. Then everything is healed, and the cluster must become writable,
// with all members streaming, within a stated time.
//
// Nothing is simulated that could not matter: a member asks the leader whether it is there only while it is
// one whose word counts, as the real one does, and at the moments at which it would have asked had it never
// paused. What a run costs beyond that is spent once for many: coroutines, and member values that the codec
// has written and read already, are passed on from world to world (crew.go). No world can tell.
//
// For each invariant there is a deliberate bug (bugs.go) that the checks must catch.
package sim
