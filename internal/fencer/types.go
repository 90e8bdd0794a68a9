package fencer

import (
	"errors"
	"log/slog"
	"time"

	"github.com/pgha/pgha/internal/fencer/wire"
)

// Errors that a caller branches on. Each comes back from the fencer with its own text; use
// errors.Is.
var (
	// ErrEpoch: the message bears another arm epoch than the armed one, or one that has ended.
	// The caller speaks for a reign that is over and must look at State before anything else.
	ErrEpoch = errors.New("other arm epoch")
	// ErrPast: the deadline in the message has passed, or the armed one has. The server is or
	// will be silenced; nothing brings this epoch back.
	ErrPast = errors.New("deadline has passed")
	// ErrRunning: a server of this data directory runs already.
	ErrRunning = errors.New("server is running")
	// ErrNotRunning: there is no server to act upon.
	ErrNotRunning = errors.New("server is not running")
	// ErrOrphans: processes of the data directory live although no postmaster is known. Kill
	// removes them; what sits in uninterruptible sleep goes by itself or with the machine.
	ErrOrphans = errors.New("processes of the data directory are alive")
	// ErrWritable: refused because the server may be writable.
	ErrWritable = errors.New("server may be writable")
	// ErrBusy: the down procedure is running. Wait for EventDown.
	ErrBusy = errors.New("down procedure is running")
	// ErrSuperseded: a newer agent holds the connection.
	ErrSuperseded = errors.New("superseded by a newer agent")
	// ErrClosed: the connection to the fencer is gone. The fencer may live or not; Connect again.
	ErrClosed = errors.New("connection to the fencer closed")
)

// Token is the right to be writable: until Until, under the lease and leader key named.
type Token struct {
	// Epoch counts the times that this member was armed. Every arm takes a greater one than
	// State.LastEpoch.
	Epoch uint64 `json:"epoch"`
	// Lease and LeaderRevision are kept for the agent that comes after a restart; the fencer
	// does not interpret them.
	Lease          int64 `json:"lease"`
	LeaderRevision int64 `json:"leader_revision"`
	// Until is T: absolute CLOCK_BOOTTIME.
	Until time.Duration `json:"until"`
}

// Options say where the fencer of a member is, and how to start it when it is not there.
type Options struct {
	// Dir is the member's run directory. It is made with mode 0700 if missing.
	Dir string
	// DataDir is the PostgreSQL data directory. It need not exist yet.
	DataDir string
	// Binary is the program whose first argument "fencer" leads to Main. Empty: the running one.
	Binary string
	// UID and GID are those of the PostgreSQL user; 0 means those of the calling process.
	UID, GID int
	// Wire is where the server listens, to be closed on the wire soon after T; zero: there is to be
	// no such fence. A server that runs keeps what it was started with.
	Wire wire.Endpoint
	// Patience is how long a fencer that does not listen is waited for before one is started: the
	// second of one that was root starts another that is root too.
	Patience time.Duration
	// ExtraArgs are added to the fencer's command line.
	ExtraArgs []string
	// Log may be nil.
	Log *slog.Logger
}

// ListensAt is Options.Wire for a server with these listen_addresses.
func ListensAt(addresses []string, port int) wire.Endpoint { return wire.NewEndpoint(addresses, port) }

// Policy says what becomes of a writable server without a token, and of one whose deadline passes.
type Policy string

// Policies. The zero value counts as PolicyKill.
const (
	PolicyKill    Policy = "kill"
	PolicyObserve Policy = "observe"
)

// Hello introduces an agent. The fencer keeps one connection: that of the newest agent.
type Hello struct {
	// Name and Incarnation are for the log only.
	Name        string `json:"name,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
	// Started orders agents: the start of the agent's process in clock ticks since boot. Connect
	// fills it in if it is zero. An agent older than the connected one is refused.
	Started int64 `json:"started"`
	// Wire as in Options; Connect fills it in.
	Wire wire.Endpoint `json:"wire"`
	// DataDir makes sure that both mean the same server. Connect fills it in.
	DataDir string `json:"data_dir"`
}

// State is what the fencer knows.
type State struct {
	// Armed and Token: the current right to write. Token is the last one known if not Armed.
	Armed bool  `json:"armed"`
	Token Token `json:"token"`
	// LastEpoch is the greatest epoch ever armed here, also in an earlier boot.
	LastEpoch uint64 `json:"last_epoch"`
	// Postmaster is its process id; 0: none.
	Postmaster int `json:"postmaster"`
	// Adopted: the postmaster was not started by this fencer process (but perhaps by the one
	// before it).
	Adopted bool `json:"adopted"`
	// Primary: the server was started as a primary. Promoted: it was started as a standby and
	// has been told to promote since. Both false: it was started as a standby, or nobody knows.
	Primary  bool `json:"primary"`
	Promoted bool `json:"promoted"`
	// Busy: the down procedure is running, or a start that was asked for is not done. With no
	// postmaster it says that the server does not count as down yet.
	Busy bool `json:"busy"`
	// Starting: a start that was asked for is not done.
	Starting bool `json:"starting,omitempty"`
	// Lingering are killed processes in uninterruptible sleep: silent, but in the way of a start.
	Lingering []int `json:"lingering,omitempty"`
	// Priority of the deadline thread: "fifo", "rr", "nice" or "normal".
	Priority string `json:"priority"`
	// KillMethod is "cgroup" or "scan".
	KillMethod string `json:"kill_method"`
	// Wire is the fence on the wire; empty: this fencer is older than that.
	Wire WireState `json:"wire,omitempty"`
	// FencedAt is the CLOCK_BOOTTIME of the last strike at a deadline; 0: none in this boot.
	FencedAt time.Duration `json:"fenced_at"`
	// PromiseUntil is the end of the failsafe promise (CLOCK_BOOTTIME); 0: none.
	PromiseUntil time.Duration `json:"promise_until"`
	// StateLost: no state of this boot was found at the start of this fencer. Promises that were
	// given before are unknown, so the agent must wait them out (safety review, hole 15).
	StateLost bool `json:"state_lost"`
	// LostAt is the CLOCK_BOOTTIME at which a fencer of this boot last found no state; 0: none did.
	// Unlike StateLost it outlives the fencer that noticed, so that a second restart does not hide
	// the loss. PromisedUntil reckons with it.
	LostAt time.Duration `json:"lost_at,omitempty"`
	// Policy towards a writable server without a token, or whose deadline passes, and its end (0: none).
	Policy      Policy        `json:"policy"`
	PolicyUntil time.Duration `json:"policy_until"`
	// PID of the fencer, SecondPID of its second (0: none).
	PID       int `json:"pid"`
	SecondPID int `json:"second_pid"`
	// LastExit of a postmaster, if LastExitPid is not 0.
	LastExitPid int        `json:"last_exit_pid"`
	LastExit    ExitStatus `json:"last_exit"`
	// Problems in plain words: what this fencer could not get.
	Problems []string `json:"problems,omitempty"`
}

// PromisedUntil is the CLOCK_BOOTTIME before which this member must not race for the leader key: the
// end of the promise that is known, or of one that may have been given before the state was lost.
// Longest is the longest promise that this member may ever have given: its own ttl, and 20 s if a
// Patroni may be a member. 0: there is no promise.
func (s State) PromisedUntil(longest time.Duration) time.Duration {
	if s.LostAt == 0 {
		return s.PromiseUntil
	}
	return max(s.PromiseUntil, s.LostAt+longest)
}

// WireState says how the fence on the wire is.
type WireState string

// States of the fence on the wire.
const (
	WireOff    WireState = "off"    // not asked for
	WireReady  WireState = "ready"  // it will be put up with the next token
	WireUp     WireState = "up"     // it closes the port soon after T
	WireFailed WireState = "failed" // asked for and not to be had; State.Problems says why
)

// Works says that a server that is armed now is fenced on the wire too.
func (w WireState) Works() bool { return w == WireReady || w == WireUp }

// StartSpec is a postmaster to start.
type StartSpec struct {
	// Bin is the program, Args the whole argument list with argv[0].
	Bin  string   `json:"bin"`
	Args []string `json:"args"`
	// Env of the server; nil: that of the fencer.
	Env []string `json:"env"`
	// LogFile gets stdout and stderr, appended. Empty: those of the fencer.
	LogFile string `json:"log_file"`
	// Primary starts the server writable: standby.signal is removed, and the armed epoch and
	// the deadline are checked last. Otherwise standby.signal is written durably first.
	Primary bool   `json:"primary"`
	Epoch   uint64 `json:"epoch"`
	// Wire is where this server will listen; see Options.
	Wire wire.Endpoint `json:"wire"`
}

// StopMode is one of PostgreSQL's ways to shut down.
type StopMode string

// Stop modes.
const (
	Smart     StopMode = "smart"
	Fast      StopMode = "fast"
	Immediate StopMode = "immediate"
)

// ExitStatus of a process. Known is false for a postmaster that was adopted: only its parent can
// read the status.
type ExitStatus struct {
	Known  bool `json:"known"`
	Code   int  `json:"code"`
	Signal int  `json:"signal"`
}

// EventKind names an event.
type EventKind string

// Event kinds.
const (
	// EventExited: the postmaster is gone. Its backends may still acknowledge: wait for Down.
	EventExited EventKind = "exited"
	// EventDown: no process of the server is left.
	EventDown EventKind = "down"
	// EventFenced: the deadline passed while armed, and the first blow has been struck.
	EventFenced EventKind = "fenced"
	// EventLapsed: the deadline passed while armed, and policy spares the server: nothing is armed now.
	EventLapsed EventKind = "lapsed"
	// EventKilled: a writable server without a token is being killed.
	EventKilled EventKind = "killed"
	// EventObserved: a writable server without a token was seen, and policy or grace spare it.
	EventObserved EventKind = "observed"
	// EventClosed is the last event of a client: its connection has ended.
	EventClosed EventKind = "closed"
)

// Event tells the agent what happened.
type Event struct {
	Kind   EventKind  `json:"kind"`
	Pid    int        `json:"pid,omitempty"`
	Status ExitStatus `json:"status"`
	// At is the CLOCK_BOOTTIME of what the event tells.
	At time.Duration `json:"at"`
	// Epoch is that of the token that ended, of EventFenced and EventLapsed.
	Epoch uint64 `json:"epoch,omitempty"`
	// Reason in plain words.
	Reason string `json:"reason,omitempty"`
	// Lingering: see State.
	Lingering []int `json:"lingering,omitempty"`
}
