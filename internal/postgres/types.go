package postgres

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// Source is another server to copy from, to compare with or to follow. The credentials are
// those of Options (replication, rewind).
type Source struct {
	Name string // member name, for messages only
	// Host and Port may be comma-separated lists where the source is outside the cluster.
	Host string
	Port string
	// Database of SQL connections; default Options.Database.
	Database string
	// Slot is the name of the physical slot to use there, or empty.
	Slot string
}

// ParseSource reads the conn_url that a member publishes (row D-26).
func ParseSource(name, connURL string) (Source, error) {
	u, err := url.Parse(connURL)
	if err != nil {
		// The parser's own message would repeat the URL, and with it what may be a password.
		return Source{}, fmt.Errorf("conn_url of %s: not a URL", name)
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return Source{}, fmt.Errorf("conn_url of %s: scheme %q: want postgres", name, u.Scheme)
	}
	src := Source{Name: name, Host: u.Hostname(), Port: u.Port()}
	if src.Host == "" {
		return Source{}, fmt.Errorf("conn_url of %s: no host in it", name)
	}
	if src.Port == "" {
		src.Port = "5432"
	}
	if len(u.Path) > 1 {
		src.Database = u.Path[1:]
	}
	return src, nil
}

// String is the address for messages, with the name where there is one.
func (s Source) String() string {
	addr := net.JoinHostPort(s.Host, s.Port)
	if s.Name == "" {
		return addr
	}
	return s.Name + " (" + addr + ")"
}

// Observation is what the local server says about itself, all from one SQL statement.
type Observation struct {
	Role      election.Role
	Timeline  election.Timeline // zero if a standby cannot tell yet
	SystemID  uint64
	Version   int // server_version_num, as 150004
	StartTime time.Time
	// CheckpointerPID is the process id of the checkpointer: another one after the postmaster made the
	// shared memory anew because a backend crashed.
	CheckpointerPID int

	// WriteLSN is the end of WAL written by a primary; zero on a standby.
	WriteLSN election.LSN
	// FlushLSN is the end of WAL that a primary has made durable; zero on a standby.
	FlushLSN election.LSN
	// ReceiveLSN is the end of WAL that a walreceiver of this postmaster made durable; zero if
	// none ran since the start, which is not the same as nothing received (safety review, hole 9).
	ReceiveLSN election.LSN
	// WrittenLSN is what the running walreceiver has written, perhaps not flushed (PostgreSQL 13).
	WrittenLSN election.LSN
	ReplayLSN  election.LSN
	// ReplayTime is the commit time of the last replayed transaction; zero if none.
	ReplayTime time.Time
	// ReplayPaused is PostgreSQL's pause state: "not paused", "pause requested" or "paused".
	ReplayPaused string
	// WalReceiver is nil while none runs.
	WalReceiver *WalReceiver
	// StartupWait is the wait event of the startup process, empty if it works or is gone. In
	// "RecoveryRetrieveRetryInterval" and "RecoveryWalStream" it has read all the WAL there is.
	StartupWait string

	// CheckpointTimeline is the timeline of the last checkpoint in pg_control: behind Timeline
	// on a primary until the first checkpoint after its promotion (row D-32).
	CheckpointTimeline election.Timeline

	// PrimaryConnInfo, RestoreCommand and SyncNames are the values this server has loaded.
	PrimaryConnInfo string
	RestoreCommand  string
	SyncNames       string
	ConfLoadTime    time.Time

	// CancelledWaits counts the commits of which this look found that they were acknowledged without
	// their standbys. Lowered counts the settings (of the server, a database, a role) by which commits
	// wait for less than a standby's flush, where there is a set to wait for.
	CancelledWaits int
	Lowered        int

	PendingRestart []PendingSetting
	Replication    []WalSender
	Slots          []Slot

	// Took is how long the statement and its answer took.
	Took time.Duration
}

// WalReceiver is the row of pg_stat_wal_receiver.
type WalReceiver struct {
	PID          int
	Status       string // "streaming" is the steady one; also starting, waiting, restarting, stopping
	ReceivedTLI  election.Timeline
	StartLSN     election.LSN
	FlushedLSN   election.LSN
	LatestEndLSN election.LSN // what the sender last said its end of WAL is
	LastMessage  time.Time    // when the last message of the sender arrived
	Host         string
	Port         int
	Slot         string
}

// PendingSetting is a setting whose new value waits for a restart.
type PendingSetting struct {
	Name     string `json:"name"`
	Current  string `json:"current"`
	New      string `json:"new"` // empty if the files no longer name it (the default will apply)
	Unit     string `json:"unit"`
	FromFile bool   `json:"from_file"`
}

// WalSender is a row of pg_stat_replication.
type WalSender struct {
	PID             int
	User            string
	ApplicationName string
	ClientAddr      string // empty for a Unix socket
	State           string
	SyncState       string
	SyncPriority    int
	SentLSN         election.LSN
	WriteLSN        election.LSN
	FlushLSN        election.LSN
	ReplayLSN       election.LSN
	ReplyTime       time.Time
}

// Slot is a row of pg_replication_slots.
type Slot struct {
	Name           string
	Physical       bool
	Plugin         string
	Database       string
	Temporary      bool
	Active         bool
	ActivePID      int
	RestartLSN     election.LSN // zero: nothing reserved
	ConfirmedFlush election.LSN
	HasXmin        bool // holds back vacuum
	CatalogXmin    uint32
	WALStatus      string // reserved, extended, unreserved, lost; empty before PostgreSQL 13
	Failover       bool   // PostgreSQL 17
	Synced         bool   // PostgreSQL 17
}

// Readiness is the startup answer of the local server.
type Readiness uint8

// What a server answers to a new connection.
const (
	// ReadyUnknown is an answer that could not be read as any of the others.
	ReadyUnknown Readiness = iota
	// NoAnswer: nobody listens, or nobody answered in time.
	NoAnswer
	// Starting: the server starts up or recovers and takes no connections yet.
	Starting
	// NotConsistent: a standby that has not reached a consistent state yet.
	NotConsistent
	// ShuttingDown: the server refuses because it stops.
	ShuttingDown
	// Accepting: the server asks for credentials or lets in.
	Accepting
)

func (r Readiness) String() string {
	switch r {
	case NoAnswer:
		return "no answer"
	case Starting:
		return "starting up"
	case NotConsistent:
		return "not yet consistent"
	case ShuttingDown:
		return "shutting down"
	case Accepting:
		return "accepting connections"
	default:
		return "unknown"
	}
}

// Option is one option of a helper program; an empty Value is a flag.
type Option struct {
	Name  string
	Value string
}

// portNumber reads a single port.
func portNumber(port string) (uint16, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q: want a number from 1 to 65535", port)
	}
	return uint16(n), nil
}
