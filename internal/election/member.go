package election

import "time"

// Instant is a reading of the local CLOCK_BOOTTIME, as time since boot. It never jumps when
// somebody sets the wall clock, and means nothing on another machine.
type Instant = time.Duration

// Tristate is a fact that may not be known. Its zero value is Unknown, so that a probe that
// failed, or was never made, cannot read as an answer.
type Tristate uint8

// The three answers.
const (
	Unknown Tristate = iota
	No
	Yes
)

// KnownBool turns a fact that was really observed into a Tristate.
func KnownBool(b bool) Tristate {
	if b {
		return Yes
	}
	return No
}

// Role is what a PostgreSQL server does, as it says itself.
type Role uint8

// Roles. RolePrimary means "not in recovery"; it says nothing about the leader key.
const (
	RoleUnknown Role = iota
	RolePrimary
	RoleStandby
)

func (r Role) String() string {
	switch r {
	case RolePrimary:
		return "primary"
	case RoleStandby:
		return "replica"
	default:
		return "unknown"
	}
}

// Tags are the settings of one member that the others must know (rows C-129 to C-138).
type Tags struct {
	NoFailover       bool   // never a leader
	FailoverPriority int    // default 1; among equals the higher one leads
	NoLoadBalance    bool   // /replica answers 503
	NoSync           bool   // never a synchronous standby
	SyncPriority     int    // default 1
	NoStream         bool   // replicates from the archive only
	CloneFrom        bool   // preferred source of pg_basebackup
	ReplicateFrom    string // name of another member, for cascading
}

// MemberState is the word of rows D-28 for what a member's server is doing.
type MemberState string

// The states that pgha publishes.
const (
	StateUnknown      MemberState = "unknown"
	StateInitializing MemberState = "initializing new cluster"
	StateInitFailed   MemberState = "initdb failed"
	StateCreating     MemberState = "creating replica"
	StateRunning      MemberState = "running"
	StateStarting     MemberState = "starting"
	StateStartFailed  MemberState = "start failed"
	StateRestarting   MemberState = "restarting"
	StateStopping     MemberState = "stopping"
	StateStopped      MemberState = "stopped"
	StateStopFailed   MemberState = "stop failed"
	StateCrashed      MemberState = "crashed"
)

// Member is what one agent last published about itself in members/<name> (rows D-25 to D-44).
type Member struct {
	Name             string
	ConnURL          string // postgres://host:port/database, no credentials
	APIURL           string // http(s)://host:port/patroni
	State            MemberState
	Role             string // as published: primary, replica, standby_leader, demoted, promoted, uninitialized
	Timeline         Timeline
	XlogLocation     LSN
	ReceiveLSN       LSN
	ReplayLSN        LSN
	ReplicationState string
	Tags             Tags
	Version          string // the Patroni-compatible number
	// PghaVersion is empty for a real Patroni: such a member neither freezes nor offers a lease.
	PghaVersion string
	// Incarnation changes with each start of the agent process.
	Incarnation string
	// DataID names the member's copy of the data; empty: not known.
	DataID string
	// CheckpointAfterPromote is No while the server, freshly promoted, has not yet written a
	// checkpoint on its new timeline (row D-32): pg_rewind from it would see the old one.
	CheckpointAfterPromote Tristate
	PendingRestart         bool
	Pause                  bool
	// Lease is the lease that members/<name> hangs on, zero if none.
	Lease LeaseID
	// ModRevision is the revision of the last write of the key.
	ModRevision int64
}

// IsPgha says whether the member is run by pgha rather than by Patroni.
func (m Member) IsPgha() bool { return m.PghaVersion != "" }

// LeaseID names a lease of the consensus store. Zero is no lease.
type LeaseID int64
