// Package election decides: who may lead, who follows whom, when a server is started, promoted,
// demoted, rewound or cloned. It is pure. Its input is one value, View; its output another, Plan.
// It starts no goroutine, reads no clock, does no I/O and keeps no state, so the same code runs
// under the real agent, the simulator and the exhaustive check.
//
// What it guarantees, given that the View is true:
//
//   - a plan that makes a server writable exists only while this agent owns the leader key, by the
//     revision that it wrote itself, and the safety margin of its lease is not yet touched;
//   - a plan that removes or overwrites data exists only for a node that does not own the key,
//     whose directory is known, while another member is known to lead the same system;
//   - a plan that lets a commit be acknowledged by fewer standbys than the published electorate takes
//     for granted, or that takes over from fewer frozen votes than each published set asks for, does
//     not exist; nor one that lets a member follow a leader that a vote of its own stands against;
//   - a fact that was not observed (the zero value) never leads to either.
//
// What it does not guarantee: that nobody else writes. That is the work of the lease arithmetic
// (lease.go) together with the fencer, which is another process.
//
// Decide walks an ordered list of rules. The first role rule whose condition holds gives the plan;
// if it is a steady one, every reconcile rule that matches adds its action. Rule IDs are stable:
// logs, metrics, the API, pghactl and docs/rules.md all speak them.
package election
