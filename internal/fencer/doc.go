// Package fencer is the small process that stands between the agent and PostgreSQL. It alone
// starts, promotes, adopts and silences the postmaster, and it does the last of these by itself
// when the time that the agent was given to be a primary has passed.
//
// What it owns: the postmaster (by pidfd), the ownership token {arm epoch, lease, revision of the
// leader key, T} and the failsafe promise of this member. It speaks no SQL and knows no etcd.
//
// What it guarantees, on one machine that is running:
//
//   - A server that the fencer started or promoted is writable only while a token is armed and the
//     clock is before T. When T passes, every process of the server is killed, whatever the agent,
//     the disk or the consensus store do (Fenced, then Down).
//   - Down means that no process of the server is left that could execute another instruction in
//     user mode (safety review, hole 7). A dead postmaster is only the beginning of that.
//   - T lies on CLOCK_BOOTTIME; if CLOCK_MONOTONIC_RAW ran further since the last renewal, that
//     one counts. T never moves backwards and never moves once it has passed.
//   - A message of another arm epoch than the armed one changes nothing (ErrEpoch).
//   - A writable server without a token is killed after a bounded time (safety review, hole 14),
//     unless the operator's policy is to observe only (pause mode). A T that passes under that policy
//     ends the token (Lapsed) and kills nothing.
//   - The death of the fencer changes none of this before T: a second process shares T by memory
//     and strikes if the first cannot; a new fencer restores the token from its state file.
//
// What it does not guarantee: a machine that stands still cannot kill anything at T. That is what
// the quorum freeze of the synchronous modes is for.
//
// Run takes the whole process over (priority, garbage collector, child reaping). Call it only in a
// process that does nothing else.
package fencer
