package restapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// Observer is what a health check may ask of the agent. None of its methods may block, take a
// lock, run SQL or talk to the consensus store: a load balancer calls them hundreds of times a
// second, and they must answer when everything else hangs.
type Observer interface {
	// State is the last published snapshot. It is never nil and never changes after publication;
	// an agent publishes a new one instead. Its zero value is a member that knows nothing.
	State() *State
	// Now is the local CLOCK_BOOTTIME.
	Now() election.Instant
	// LeaderUntil is the instant up to which this node may say that it is the leader. It is one
	// atomic load, and zero when the node is not the leader. Whatever must turn the check red
	// (ownership not proven anew, fencer silent, too few synchronous standbys answering) is in
	// it already, because the comparison with Now is made when the request arrives: a hung loop
	// turns /primary red by doing nothing.
	LeaderUntil() election.Instant
}

// Operator is what the other endpoints ask of the agent. Every call has a deadline in its context.
type Operator interface {
	// Fresh is State after one new look at the local server, for GET /patroni: peers compare the
	// positions in it before they race. The agent joins concurrent calls into one look, and
	// returns the last published state if the look fails or ctx ends.
	Fresh(ctx context.Context) *State
	// Cluster loads the consensus store's content now (row R-011).
	Cluster(ctx context.Context) (ClusterView, error)
	// PatchConfig merges patch (an object) into the dynamic configuration (row R-098).
	PatchConfig(ctx context.Context, patch json.RawMessage) Reply
	// PutConfig replaces the dynamic configuration by doc (an object) (row R-099).
	PutConfig(ctx context.Context, doc json.RawMessage) Reply
	// Switchover carries out, or schedules, a well-formed request and waits for its outcome
	// (rows ). CancelSwitchover drops a scheduled one (row R-109).
	Switchover(ctx context.Context, req SwitchoverRequest) Reply
	CancelSwitchover(ctx context.Context) Reply
	// Restart restarts PostgreSQL and waits, or schedules that (row R-101). CancelRestart drops
	// a scheduled one (row R-102).
	Restart(ctx context.Context, req RestartRequest) Reply
	CancelRestart(ctx context.Context) Reply
	// Reload asks the main loop to read the configuration again (row R-100).
	Reload(ctx context.Context) Reply
	// Reinitialize starts a new clone of this member (row R-103).
	Reinitialize(ctx context.Context, req ReinitializeRequest) Reply
	// Failsafe answers a primary that cannot reach the consensus store (row R-110). A result
	// with Accepted means that the promise not to race is already durable.
	Failsafe(ctx context.Context, req FailsafeRequest) FailsafeReply
	// CaughtUp waits until this server has received the log up to lsn, or ctx ends. It wakes on
	// news, not on a timer of its own, and returns what has been received either way.
	CaughtUp(ctx context.Context, lsn election.LSN) (received election.LSN, ok bool)
}

// PulseObserver is a Node that wants to know which members hear its pulses (see getPulse). It is no
// part of Node, because only a leader of a synchronous cluster has a use for it.
type PulseObserver interface {
	// Pulse says that the member from holds the leader key of revision to be its leader's, and that the
	// last question of it that this agent answered was asked at heard (local CLOCK_BOOTTIME) or
	// later. Anybody may call the endpoint, so a name that is no member's must be ignored. Like the
	// methods of Observer it must not block.
	Pulse(from string, revision int64, heard election.Instant)
}

// Node is the agent as the HTTP server sees it.
type Node interface {
	Observer
	Operator
}

// State is what an agent publishes about itself: one immutable value, replaced as a whole.
// Maps and slices in it belong to the reader and the publisher alike and are never written to.
type State struct {
	Name        string // member name
	Scope       string // cluster name
	Version     string // the Patroni-compatible number of row D-30, such as "4.1.4"
	PghaVersion string
	Incarnation string // changes with each start of the agent
	Epoch       uint64 // the reign this node knows of, zero if none
	// LeaderRevision is that of the leader key to which this agent itself holds a title, zero if none.
	LeaderRevision int64
	// LostLeader is the revision of the leader key whose holder this member has lost sight of, zero if
	// none: a voter that has lost it too may freeze.
	LostLeader int64

	Server      ServerState
	Replication []ReplicationRow
	// Tags are the effective tags as published (row C-129), custom ones included.
	Tags             map[string]any
	NoLoadBalance    bool
	FailoverPriority int // effective: zero or less when nofailover

	// ViewUntil is the instant up to which the last loaded cluster view may be used: its load
	// plus ttl (row D-14). A view is valid while Now is before it.
	ViewUntil election.Instant
	View      ViewState

	Pause       bool // pause mode, as last known
	DCSLastSeen time.Time
	// FailsafeUntil is the instant up to which failsafe mode counts as active here: the last
	// ping or confirmation plus ttl (row R-053).
	FailsafeUntil  election.Instant
	WatchdogFailed bool // row R-060

	PendingRestart       bool
	PendingRestartReason map[string]ChangedValue
	ScheduledRestart     *ScheduledRestart

	TTL time.Duration
	// NextLoop is when the main loop will run at the latest; /liveness compares it with Now.
	NextLoop election.Instant

	Fencer    FencerState
	Sync      SyncState
	Counters  Counters
	Job       *Job       // the local job that runs; nil when none does
	Decisions []Decision // newest last; a bounded history
	Loop      LoopState
}

// ServerState is the local PostgreSQL as last observed.
type ServerState struct {
	ObservedAt election.Instant
	State      election.MemberState
	// Role is the word of row R-043: what the server itself says when it answers, else the role
	// the agent remembers.
	Role string
	// Answering says that the last observation got an answer. The fields below up to
	// ReplicationState are shown only then.
	Answering bool
	// Writable is Yes when the server was last seen out of recovery and accepting connections,
	// No when it was seen down or in recovery. /primary is refused only on No.
	Writable  election.Tristate
	StartTime time.Time // of the postmaster
	Version   int       // such as 150004
	Timeline  election.Timeline
	// Location is the write position of a primary.
	Location election.LSN
	// Received and Replayed are the positions of a standby (row R-045).
	Received, Replayed election.LSN
	ReplayedTimestamp  time.Time // zero: none
	ReplayPaused       bool
	// LatestEnd is the upstream's position as the walreceiver last heard it; zero: unknown.
	LatestEnd        election.LSN
	ReplicationState string // "streaming", "in archive recovery" or empty
	SystemID         string // decimal, empty if unknown
	// DataIncarnation names this copy of the data; it changes with each clone or rewind.
	DataIncarnation string
	// UpstreamSeen is when the primary was last heard of by this standby (walreceiver message
	// or probe); zero: never.
	UpstreamSeen election.Instant
	// Frozen describes the freeze of a member that receives nothing any more in order to vote; nil:
	// it is not frozen.
	Frozen *Frozen
}

// Frozen is what a member did to its server in order to vote, and against whom.
type Frozen struct {
	// Epoch and LeaderRevision name the reign that it is against.
	Epoch          uint64
	LeaderRevision int64
	Since          election.Instant
	// Proven: nothing can arrive any more, so that Timeline and LSN are where the log ends.
	Proven   bool
	Timeline election.Timeline
	LSN      election.LSN
	// Voted: the vote stands in the consensus store.
	Voted bool
}

// SyncState is synchronous replication as the leader runs it. The zero value is a member that does
// not lead a synchronous cluster.
type SyncState struct {
	Voters []string // sorted; the set as published last
	// Wait is how many of them a commit waits for, Quorum how many votes a takeover needs.
	Wait, Quorum int
	// InForce is Yes when PostgreSQL is proven to go by the setting.
	InForce election.Tristate
	// Lowered counts the settings of server, databases and roles by which commits wait for less.
	Lowered int
}

// Counters count what happened since the agent started.
type Counters struct {
	VotesCast        uint64
	Freezes          uint64
	FruitlessFreezes uint64 // that ended with the same leader
	VoteTakeovers    uint64 // of this member, by frozen votes
	// FailsafeRoundsOK and FailsafeRoundsFailed count rounds of questions by a leader without a store.
	FailsafeRoundsOK, FailsafeRoundsFailed uint64
	PromisesGiven                          uint64 // to such a leader
	SyncWaitsCancelled                     uint64 // commits that answered before they were replicated
}

// IsPrimary says whether the server reports itself as out of recovery.
func (s ServerState) IsPrimary() bool { return s.Role == RolePrimary }

// The role words of rows D-29 that this package compares with.
const (
	RolePrimary       = "primary"
	RoleReplica       = "replica"
	RoleStandbyLeader = "standby_leader"
)

// ViewState is what the last loaded cluster view said. It counts only until State.ViewUntil.
type ViewState struct {
	Leader       string       // name in the leader key, empty if there is none
	LeaderOptime election.LSN // row D-63
	// SyncStandby and QuorumStandby: this member is in /sync, in mode "on" or "quorum".
	SyncStandby, QuorumStandby bool
	StandbyCluster             bool // a standby cluster is configured
	// MaximumLag is maximum_lag_on_failover in bytes.
	MaximumLag      int64
	FailsafeMode    bool // failsafe_mode is on
	FailsafeMember  bool // this member is listed in /failsafe
	MemberAPIURLs   []string
	Config          json.RawMessage // as stored, nil if missing or not an object
	History         json.RawMessage // as stored, nil if missing
	Failsafe        json.RawMessage // as stored, nil if missing
	SynchronousMode string          // "", "on" or "quorum"
}

// ReplicationRow is one walsender (row R-050).
type ReplicationRow struct {
	Username        string  `json:"usename"`
	ApplicationName string  `json:"application_name"`
	ClientAddr      *string `json:"client_addr"` // nil over a Unix socket
	State           string  `json:"state"`
	SyncState       string  `json:"sync_state"`
	SyncPriority    int     `json:"sync_priority"`
}

// ChangedValue is one reason of a pending restart (row D-35).
type ChangedValue struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// ScheduledRestart is a restart that waits for its hour (rows D-41 and R-059).
type ScheduledRestart struct {
	Schedule        time.Time
	Role            string // only if the member still has this role
	PostgresVersion string // only if the server is older
	Timeout         time.Duration
	RestartPending  bool // only if a restart is pending
}

// FencerState is the fencer as the agent last heard of it, for /pgha/status.
type FencerState struct {
	Connected    bool
	PID          int
	Armed        bool
	Epoch        uint64
	Until        election.Instant // the deadline T; zero when not armed
	Postmaster   int              // process ID, zero if none
	Priority     string           // "fifo", "rr", "nice", "normal"
	KillMethod   string           // "cgroup", "scan"
	Wire         string           // "off", "ready", "up", "failed"
	FencedAt     election.Instant
	PromiseUntil election.Instant
	Problems     []string
}

// Job is the one long-running local job.
type Job struct {
	Kind    string // "clone", "rewind", "start", "stop", "crash recovery", …
	Detail  string
	Started election.Instant
	// Done and Total count bytes; Total zero means unknown.
	Done, Total int64
	Rate        float64       // bytes per second
	ETA         time.Duration // zero: unknown
}

// Decision is one entry of the history that `why` shows.
type Decision struct {
	At     time.Time
	Rule   string // stable rule ID
	Reason string
	// Change says what would have to be different for another decision.
	Change  string
	Actions []string
	Result  string // empty while it is being carried out
}

// LoopState is a summary of the agent's main loop.
type LoopState struct {
	Count    uint64
	LastAt   election.Instant
	Rule     string // of the plan in force
	Reason   string
	Problems []string
}

// ClusterView is the consensus store's content for GET /cluster, decoded and raw.
type ClusterView struct {
	Scope   string
	Cluster election.Cluster
	// Members holds the raw value of each members/<name>, for the fields that only readers of
	// the API use (tags, reasons of a pending restart, schedules).
	Members         map[string]json.RawMessage
	Pause           bool
	SynchronousMode string // "", "on" or "quorum"
	StandbyCluster  bool
}

// SwitchoverRequest is a well-formed POST /switchover or /failover.
type SwitchoverRequest struct {
	Leader      string // empty: a manual failover
	Candidate   string // empty: any
	ScheduledAt time.Time
}

// IsSwitchover tells a switchover (a leader is named) from a manual failover.
func (r SwitchoverRequest) IsSwitchover() bool { return r.Leader != "" }

// RestartRequest is a well-formed POST /restart. The zero value is "restart now, whatever you are".
type RestartRequest struct {
	Schedule        time.Time // zero: now
	Role            string    // primary, standby_leader, replica or empty
	PostgresVersion string    // empty: any
	Timeout         time.Duration
	RestartPending  bool
}

// ReinitializeRequest is a POST /reinitialize.
type ReinitializeRequest struct {
	Force      bool // cancel the job that runs
	FromLeader bool // clone from the leader only
}

// FailsafeRequest is a POST /failsafe from a primary (row R-110), with pgha's own additions.
type FailsafeRequest struct {
	Name    string
	ConnURL string
	APIURL  string
	Slots   map[string]election.LSN
	// TTL is how long the caller will rely on the promise; zero from a Patroni, for which the
	// agent assumes at least 20 s (safety review, hole 15).
	TTL time.Duration
	// Epoch, LeaderRevision and Round identify the caller's reign and its round of questions; zero
	// from a Patroni.
	Epoch          uint64
	LeaderRevision int64
	Round          uint64
	// ReceivedAt is when the request arrived here; a promise counts from it.
	ReceivedAt election.Instant
}

// FailsafeOutcome is the closed set of answers to a FailsafeRequest.
type FailsafeOutcome uint8

// Outcomes. The zero value is a refusal.
const (
	FailsafeRefused FailsafeOutcome = iota // any other reason; Reason says which
	FailsafeAccepted
	FailsafeIAmLeader // this node is itself a running primary
	FailsafeOff       // failsafe_mode is off
)

// FailsafeReply is what the agent answers to a FailsafeRequest.
type FailsafeReply struct {
	Outcome FailsafeOutcome
	LSN     election.LSN // own received or replayed position; zero: unknown
	Reason  string       // for FailsafeRefused
}
