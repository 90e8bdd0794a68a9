// Package model walks a bounded world exhaustively: every interleaving of agents, servers, fencers,
// store and clients up to small numbers of members, commits and faults. Every decision in it is made
// by the real election.Decide, every transaction is built by the real builders of internal/dcs and
// carried out by a small exact interpreter. Equal knowledge gives equal decisions, so each is asked once.
//
// # What is abstract, and why that is sound
//
//   - Time. A title, a lease and a fencer's deadline each have an age: fresh, (overdue,) past the
//     moment at which the agent gives up, past the moment at which the fencer strikes, over. All clocks
//     of one member tick together, at any moment. So every order of these lines is walked, and no run
//     depends on a length of time. Waiting out a vanished key is a step that is possible only when
//     every title that was proven before is over: that the margin covers drift and delay is assumed.
//   - The network. Any question may stay unanswered and any record may arrive late. Whether a voter
//     hears from its leader is open anew at each decision. A request to the store is carried out, or
//     lost, or its outcome stays unknown and it is carried out at once, later or never.
//   - Watches. Each agent holds some earlier snapshot and may take the newest at any moment. One that
//     arrives late is one that was taken earlier and acted on late, so no queue is needed. An agent
//     decides as it takes a snapshot, unless what it decides takes effect in the same moment: then it
//     may also decide later.
//   - Revisions. Keys that no rule compares with one another across keys (votes, offers, the electorate,
//     the failsafe set) count on their own between two writes of the other keys, which merges orders
//     that nobody can tell apart. Equality and order of all revisions that are compared stay exact.
//   - Records. The log is a list of (timeline, commit). A position is an index into it.
//   - Commits. One that may be acknowledged counts as acknowledged: the earliest moment is the worst.
//   - Members' published data are as of now, but for the name of a copy of the data, which may be late.
//     Answers to probes are as of now; who answered is open, and only one decision makes use of them.
//   - A holder of the leader key does not see votes against it (it takes no notice of them, but for a
//     longer patience with those that cast them).
//
// States are told apart exactly, not by a hash: each is kept as the numbers of its parts (visited.go). What nobody
// can ever tell apart is one state (reduce.go): requests that can never be carried out any more, their places,
// votes of another reign in a snapshot, what an agent knows that takes no decision any more, whose answer a
// standby's position counts for when no commit asks. Each is argued where it is done and can be switched off
// (Config.Full); a test compares the two. Names break ties between equals in the core, so that members are not
// taken for interchangeable. Decide is asked once for each distinct knowledge.
//
// # What is bounded away
//
// Each Config says how often each kind of event happens (Config.Key). On top: at most 15 writes of the
// ordered keys and 14 of each other key between two of them, 12 records, 7 timelines, 4 leases of a
// member, 4 published sets, two requests of a member under way and two late ones in the world, one vote
// for each freeze. What such a bound cut off is counted in Result. Not in the world at all: the status,
// history and config keys (every decision there sees them unwritten), slots, tags other than nosync,
// cascading, pause, bootstrap, Patroni members, a replaced store, a former leader of the store that
// answers, a fencer that dies, crashes in the middle of a copy, and agents of two versions.
// Unless Config.Tail is set, what the others do after the last change of the leader is not walked. In the worlds
// with all faults at once (everything) the faults of all kinds together are bounded, watches are prompt but
// for those that are stuck, and sight of a leader is lost only for a reason (mayLose): that a voter loses a
// healthy leader for a moment is walked in the other worlds. docs/safety.md has the table of what was walked.
//
// # Invariants
//
// The numbers are those of the list that the project's safety argument speaks of. Checked in every state:
// I-01 (each new holder has a new epoch), I-02 (the fencer's deadline is no younger than the lease), I-03
// (async: no two servers can acknowledge), I-04 (a new holder has every acknowledged commit, when it takes
// the key and when it is a primary; so has a member that is handed the key), I-05 (nothing is acknowledged that
// the present holder lacks), I-06 and I-07 (a member whose vote stands has no more than it said, takes up
// nothing, and is not pointed back), I-08 (every setting that some process may go by meets every quorum of
// the published sets), I-09 (whoever could take over now by the published sets has every acknowledged
// commit), I-10, I-11 (as part of I-08), I-12 (writable only while armed), I-13 and I-16 (the key is given away, and
// taken by time, only while nobody else can write), I-14 (async: no two healthy primaries), I-15 (as part of
// I-16 in the failsafe worlds), I-17 (no stream and no archive across a divergence), I-18 (no acknowledged
// commit is overwritten that the source lacks). And the core's own second look refuses no plan.
//
// Not stated here: I-02's and I-03's rates and delays (time has no lengths; they are the margin's), I-14 in the
// synchronous modes (it rests on the length of the silence), rewinds as such in I-18.
//
// # Liveness
//
// In worlds that were walked to their ends: from every state a good one can be reached by steps that are no
// faults (one primary, followed by all, nobody frozen, one published set, no commit waiting). So with fair
// scheduling a good state is reached: L1, L2, L4, L5, and L6 in the failsafe world.
//
// L3 is a bound: at any moment the time of faults may end (calmSteps). From then on a leader that is heard by as many
// members as its commits wait for loses the key at most once more. Walked to its end with prompt watches.
package model
