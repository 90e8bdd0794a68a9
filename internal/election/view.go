package election

import "time"

// View is everything a decision rests on: facts and the moment they are judged at. It is built
// fresh for each decision and never changed afterwards.
type View struct {
	Now  Instant
	Wall time.Time // only for "at what time of day": scheduled switchovers

	Self   Self
	Policy Policy
	Store  Store
	Own    Own
	// Lease is the agent's own lease, on which members/<self> hangs. Zero: none yet.
	Lease  LeaseID
	Local  Local
	Fencer Fencer
	// Contact with the leader, as a voter sees it.
	Contact Contact
	// Failsafe is the last round of promises that this leader asked for.
	Failsafe FailsafeRound
	Job      Job
	// Results holds the last outcome of each kind of job, sorted by kind.
	Results []JobResult
	// Probes are the answers of the last round of questions to the other members, by name.
	Probes Probes
	// Commands are what an operator asked of this very member and nobody has done yet.
	Commands []Command
	// Racing: a transaction that takes the leader key was sent and its outcome is not known yet.
	Racing bool
	// Stopping: the agent was told to stop together with its server, at StopAsked.
	Stopping  bool
	StopAsked Instant
}

// Self is what this member is.
type Self struct {
	Name string
	Tags Tags
	// MayBootstrap says that the local file has a bootstrap section.
	MayBootstrap bool
}

// Policy is the effective configuration, as far as decisions depend on it.
type Policy struct {
	TTL                 time.Duration
	Margin              time.Duration
	LoopWait            time.Duration
	MaximumLag          uint64        // bytes, maximum_lag_on_failover
	PrimaryStartTimeout time.Duration // how long a restart in place may take before others are let in
	UseRewind           bool
	CheckTimeline       bool
	Pause               bool
	StandbyCluster      bool
	UseSlots            bool
	FailsafeMode        bool
	Sync                SyncPolicy
}

// SyncMode is the configured kind of synchronous replication.
type SyncMode uint8

// The modes. SyncOn waits for all of a few chosen standbys, SyncQuorum for any few of all.
const (
	SyncOff SyncMode = iota
	SyncOn
	SyncQuorum
)

// SyncPolicy is the configuration of the synchronous modes.
type SyncPolicy struct {
	Mode SyncMode
	// Strict: commits wait even when no standby is left (synchronous_mode_strict).
	Strict bool
	// Own is the user's own synchronous_standby_names, which count where Mode is off; zero: none, or
	// something that pgha never writes.
	Own SyncSetting
	// Nodes is synchronous_node_count, at least 1: how many standbys a commit waits for.
	Nodes int
	// MaximumLag is maximum_lag_on_syncnode in bytes, zero: none (row H-130).
	MaximumLag uint64
	// Silence is how long a leader must be unreachable before its voters freeze.
	Silence time.Duration
	// TimeOnly switches takeovers by frozen votes off (pgha.takeover: time).
	TimeOnly bool
}

// Store is what is known of the consensus store.
type Store struct {
	// Seen: the cluster was read at least once in this life of the agent.
	Seen bool
	// FreshAt is when the store last answered anything.
	FreshAt Instant
	// SeenAt is when this agent first read the cluster.
	SeenAt  Instant
	Cluster Cluster
	Vacancy Vacancy
	// FailoverAt is when this agent first saw the present failover request.
	FailoverAt Instant
	// ResumedAt is when this agent saw a pause end, zero if never.
	ResumedAt Instant
	// StatusAt is when this agent last wrote the status key, zero if never.
	StatusAt  Instant
	SyncWrite SyncWrite
}

// SyncWrite is a write or deletion of the sync key that this agent sent and whose outcome its snapshot
// does not show yet, be it known otherwise or not. An agent that takes up a title of an earlier life does
// not know what that life sent: Sent, Over the key as it first sees it.
type SyncWrite struct {
	Sent bool
	// Over is the revision of the key that the write compares; zero: it was absent. Once the snapshot
	// shows another the write has arrived, or never will.
	Over int64
}

// syncUnsettled says that the sync key may change any moment by a write of this agent's own.
func (v *View) syncUnsettled() bool {
	w := v.Store.SyncWrite
	return w.Sent && w.Over == v.Store.Cluster.Sync.ModRevision
}

// Fresh says that the store answered within the time to live.
func (v *View) Fresh() bool {
	return v.Store.Seen && v.Now-v.Store.FreshAt < v.Policy.TTL
}

// Vacancy describes a leader key that is not there.
type Vacancy struct {
	// Since is when this agent saw the key gone; zero if the key is there.
	Since Instant
	// Revision and Lease of the key that went, when that is known.
	Revision int64
	Lease    LeaseID
	// LeaseGone is the store's own word about Lease.
	LeaseGone Tristate
	// Replaced: the store is not the one that held the key, so that its word about leases and
	// releases means nothing and only time counts.
	Replaced bool
}

// DataState says what the data directory holds.
type DataState uint8

// States of the data directory. Only DataEmpty and DataPartial may be filled without asking what
// would be lost.
const (
	DataUnknown    DataState = iota
	DataEmpty                // missing or empty
	DataCluster              // a PostgreSQL cluster
	DataPartial              // an unfinished clone or rewind of our own, never to be started
	DataForeign              // files that are no PostgreSQL cluster
	DataUnreadable           // it is there, but cannot be read
)

// ServerState says what the local postmaster does.
type ServerState uint8

// Server states. ServerDown means that no process of the server is left, not that its postmaster
// is dead (safety review, hole 7).
const (
	ServerUnknown  ServerState = iota
	ServerDown                 // proven: no process left
	ServerDying                // the postmaster is gone or going, processes may be left
	ServerStarting             // does not accept connections yet
	ServerRunning              // answers
	ServerSilent               // there is a postmaster that does not answer
)

// Divergence is how the local history stands to the leader's.
type Divergence uint8

// Outcomes of comparing histories.
const (
	DivergenceUnknown    Divergence = iota
	DivergenceNone                  // can stream as it is
	DivergenceRewind                // went its own way; pg_rewind can bring it back
	DivergenceClone                 // cannot be brought back: equal timeline number, other history, or WAL gone
	DivergenceWrongOwner            // another system identifier
)

// Local is the own server and its directory.
type Local struct {
	Data       DataState
	DataDetail string // in words, for reasons
	SystemID   string

	// At is when all this was observed.
	At     Instant
	Server ServerState
	Since  Instant // in this server state since
	Role   Role
	// Signal: standby.signal is there, so a start would be a standby's.
	Signal bool
	// CleanShutdown: pg_control says "shut down" (Yes) or anything else (No).
	CleanShutdown Tristate
	Timeline      Timeline
	// LSN: a primary's flush position, a standby's max(received, replayed), or for a server that
	// is down what pg_control names.
	LSN LSN
	// Upstream is the member that the written configuration follows; empty: none.
	Upstream        string
	UpstreamConnURL string
	Streaming       bool
	// StreamingLostAt is when streaming was last seen to end, zero while it runs or never ran.
	StreamingLostAt Instant
	// Divergence against the leader key of revision DivergenceFor.
	Divergence       Divergence
	DivergenceFor    int64
	DivergenceDetail string
	LostBytes        uint64
	// Walsenders are the standbys connected to this primary, by application name.
	Walsenders []Walsender
	// Streamed says when each standby was last seen streaming from this primary, sorted by name.
	// Names that went stay in it.
	Streamed       []Streamed
	PendingRestart bool
	// ConfigRev is the revision of the dynamic configuration that is written to the files.
	ConfigRev int64
	// SlotMembers are the members, by name, for which a replication slot exists here; sorted.
	SlotMembers []string
	SlotsKnown  bool
	// DataID names this copy of the data: it is random and replaced by each clone and rewind.
	DataID string
	// Sync is the state of synchronous replication of the own primary.
	Sync LocalSync
	// Freeze is what this member did to its server in order to vote.
	Freeze Freeze
	// PromotedCheckpoint: Yes when pg_control shows the running timeline (row D-32).
	PromotedCheckpoint Tristate
}

// Walsender is one standby as the primary sees it.
type Walsender struct {
	Name  string
	State string
	LSN   LSN // flushed there
	// SyncState is the server's word: async, potential, sync or quorum.
	SyncState string
}

// Streamed is when a standby was last seen streaming.
type Streamed struct {
	Name string
	At   Instant
}

// LocalSync is synchronous_standby_names as this server has it.
type LocalSync struct {
	Known bool
	// Setting that the files hold and the server was told to load.
	Setting SyncSetting
	// Foreign: the server's value is not one that pgha wrote.
	Foreign bool
	// InForce: the present setting is proven to be what backends and walsenders go by (safety
	// review, hole 13). Barrier is the end of the log that was read after that: commits that did
	// not wait by this setting lie before it.
	InForce bool
	Barrier LSN
	// Copies are the members named in the setting with the DataID that each had published when the
	// barrier was read: what a name acknowledged before that may have been another copy. Nil: not known.
	Copies []Voter
}

// SyncSetting is the content of synchronous_standby_names. The zero value waits for nobody.
type SyncSetting struct {
	// Any: any Wait of the names; otherwise the first Wait of them.
	Any   bool
	Wait  int
	Names []string // sorted
}

// Freeze is the local side of a vote. The record is on disk before anything is frozen.
type Freeze struct {
	// Recorded, with the reign it is against.
	Recorded       bool
	Epoch          uint64
	LeaderRevision int64
	// Proven: no walreceiver runs, restore is off and the startup process has read that. Only then
	// are Timeline and LSN the end of the log, which moves no more.
	Proven   bool
	Timeline Timeline
	LSN      LSN
	// VoteSent: a vote of this freeze was sent, or may have been (the record was found when the agent
	// started), and no withdrawal since then is known to be done. Such a vote may still arrive.
	VoteSent bool
	// Since is when the freeze was begun; Fruitless counts the freezes in a row that came to nothing,
	// LastThaw is when the last of them ended.
	Since     Instant
	Fruitless int
	LastThaw  Instant
	// RestoreOff: the archive stays off until this member streams from the new leader (hole 17).
	RestoreOff bool
}

// Contact is what this member's own questions to the leader came to. It is only kept in the
// synchronous modes.
type Contact struct {
	// Revision of the leader key whose holder is asked.
	Revision int64
	// HeardAt is when the question was sent that its agent or its server last answered, or, before
	// the first answer, when the asking began.
	HeardAt Instant
	// Silent counts the questions in a row that neither agent nor server answered.
	Silent int
}

// Fencer is what the fencer last acknowledged.
type Fencer struct {
	Alive bool
	Armed bool
	Epoch uint64
	Until Instant
	// Revision of the leader key that its token, armed or over, was last for; zero: none in this boot.
	Revision int64
	// AckAt is when it last acknowledged a renewal.
	AckAt Instant
	// PromiseUntil: this member has promised a primary without a store not to race before that
	// (safety review, hole 15). Zero: no promise.
	PromiseUntil Instant
	// Lacks is what the configuration asks of it and it does not have, in words; empty: nothing.
	Lacks string
}

// JobKind names a long local piece of work. At most one runs at a time.
type JobKind string

// Kinds of jobs.
const (
	JobNone      JobKind = ""
	JobBootstrap JobKind = "bootstrap"
	JobClone     JobKind = "clone"
	JobRewind    JobKind = "rewind"
	JobCompare   JobKind = "compare"
	JobStart     JobKind = "start"
	JobPromote   JobKind = "promote"
	JobDemote    JobKind = "demote"
	JobStop      JobKind = "stop"
	JobRestart   JobKind = "restart"
	JobHandOver  JobKind = "hand-over"
)

// Job is the running job, if any.
type Job struct {
	Kind   JobKind
	Since  Instant
	Detail string
	// Writable: the job starts or promotes a server that may become writable.
	Writable   bool
	Cancelling bool
	// For is the leader revision that the job is about.
	For int64
}

// FailureClass sorts failures by what may be done about them. Only ClassData says that the
// directory itself is bad; everything else must never lead to its removal.
type FailureClass string

// Failure classes.
const (
	ClassNone     FailureClass = ""
	ClassData     FailureClass = "data"     // the directory cannot be used: corrupt, history missing, WAL gone
	ClassEnv      FailureClass = "env"      // port, disk, permission, missing binary, bad setting
	ClassPeer     FailureClass = "peer"     // the other side: refused, wrong password, unreachable
	ClassStore    FailureClass = "store"    // the consensus store did not answer; it says nothing of the data
	ClassCanceled FailureClass = "canceled" // called off
	ClassOther    FailureClass = "other"
)

// JobResult is the last outcome of a kind of job.
type JobResult struct {
	Kind     JobKind
	At       Instant
	Err      string // empty: it succeeded
	Class    FailureClass
	Failures int // in a row
	// For is the leader revision that the job was about.
	For int64
}

// Result finds the last outcome of a kind of job.
func (v *View) Result(kind JobKind) JobResult {
	for _, r := range v.Results {
		if r.Kind == kind {
			return r
		}
	}
	return JobResult{Kind: kind}
}

// FailsafeRound is a round of questions by a leader that cannot reach the store.
type FailsafeRound struct {
	// Members that were asked: those of the failsafe key of FailsafeRev, which this leader wrote or
	// confirmed in this reign. Asking while a round runs.
	Members     []FailsafeMember
	FailsafeRev int64
	Asking      bool
	// Unsettled are the members of a failsafe set that this leader sent to the store without learning
	// whether it arrived. They must be asked as well: some candidate may have read that set.
	Unsettled []FailsafeMember
	// Opening: one of those sets is without this leader, which bars nobody: no promises make up for that.
	Opening bool
	// DoneAt is when the last round ended; Refused names the first member that did not promise, and
	// why. Empty: all did, and Own.Promised moved.
	DoneAt  Instant
	Refused string
}

// Probes is one round of questions put to the other members.
type Probes struct {
	// StartedAt and DoneAt bound the round; DoneAt zero while it runs. A round ends when all have
	// answered or the time allowed is over.
	StartedAt Instant
	DoneAt    Instant
	Answers   []Probe
}

// Answer finds what a member said in the round.
func (p Probes) Answer(name string) (Probe, bool) {
	for _, a := range p.Answers {
		if a.Name == name {
			return a, true
		}
	}
	return Probe{}, false
}

// Probe is one member's answer. A member that did not answer has Answered false.
type Probe struct {
	Name           string
	Answered       bool
	Role           Role
	Timeline       Timeline
	LSN            LSN
	NoFailover     bool
	Priority       int
	WatchdogFailed bool
	Streaming      bool
	// Lost is the revision of the leader key whose holder this member has lost sight of; zero: none.
	Lost int64
}

// CommandKind is what an operator may ask of one member.
type CommandKind string

// Commands.
const (
	CommandRestart CommandKind = "restart"
	CommandReinit  CommandKind = "reinitialize"
)

// Command is an operator's request to this member.
type Command struct {
	Kind       CommandKind
	ID         uint64
	Asked      Instant
	FromLeader bool
	Force      bool
}

func (v *View) command(kind CommandKind) (Command, bool) {
	for _, c := range v.Commands {
		if c.Kind == kind {
			return c, true
		}
	}
	return Command{}, false
}
