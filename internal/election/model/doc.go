// Package model walks a bounded world exhaustively: every interleaving of agents, servers, fencers,
// store and clients up to small numbers of members, commits and faults. Every decision in it is made
// by the real election.Decide, every transaction is built by the real builders of internal/dcs and
// carried out by a small exact interpreter.
//
// What is abstract, and why that is sound:
//
//   - Time. A title, a lease and a fencer's deadline each have an age of four values: fresh, past the
//     moment at which the agent gives up, past the moment at which the fencer strikes, over. All clocks
//     of one member tick together, at any moment. So every order of the three lines is walked, and no
//     run depends on a length of time. Waiting out a vanished key is a step that is possible only when
//     every title that was proven before is over.
//   - The network. Any question may stay unanswered and any record may arrive late: sight of the leader,
//     replication, answers to probes are steps that may or may not happen. A request to the store is
//     carried out, or lost, or its outcome stays unknown and it is carried out later or never.
//   - Watches. Each agent holds some earlier snapshot and may take the newest at any moment. A snapshot
//     that arrives late is one that was taken earlier and acted on late, so no queue is needed.
//   - Revisions. Keys that no rule compares with one another across keys (votes, offers, the electorate,
//     the failsafe set) count on their own between two writes of the other keys, which merges orders
//     that nobody can tell apart. Equality and order of all revisions that are compared stay exact.
//   - Records. The log is a list of (timeline, commit). A position is an index into it.
//   - Members' published data are read as they are now. Nothing safe may rest on them being late.
//
// States are told apart by a 64-bit hash, as usual for such walks: with n states about n*n/2^65 of
// them are expected to be taken for one seen before (less than one in a million for ten million).
package model
