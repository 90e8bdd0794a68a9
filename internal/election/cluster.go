package election

import "time"

// Leader is the leader key as stored (rows D-17 to D-24). The name in it proves nothing: ownership
// is the mod revision that this agent itself wrote (safety review, holes 4 and 8).
type Leader struct {
	Present     bool
	Name        string
	ModRevision int64
	Lease       LeaseID
}

// BootstrapState says how far the cluster's first start has come (row D-45).
type BootstrapState uint8

// Bootstrap states. The zero value is "not known".
const (
	BootstrapUnknown BootstrapState = iota
	BootstrapNever                  // no initialize key: nobody ever made this cluster
	BootstrapRunning                // initialize is empty: somebody is at it, or died at it
	BootstrapDone                   // initialize holds the system identifier
)

// Initialize is the decoded initialize key, with pgha's note of who bootstraps.
type Initialize struct {
	State       BootstrapState
	SystemID    string // decimal, only when Done
	ModRevision int64
	// Runner is the member that says it bootstraps, under its lease; empty when it is gone or
	// a Patroni bootstraps.
	Runner string
	// RunnerEver says that a pgha member began this bootstrap, so that a missing Runner means
	// that it died (and not that a Patroni, which leaves no such note, is at work).
	RunnerEver bool
}

// FailoverRequest is the decoded failover key (rows D-52 to D-55). The zero value is no request.
type FailoverRequest struct {
	Leader      string
	Candidate   string
	ScheduledAt time.Time // zero: now
	ModRevision int64
}

// IsZero says that nobody asked for anything.
func (f FailoverRequest) IsZero() bool { return f.Leader == "" && f.Candidate == "" }

// IsSwitchover tells a switchover (a leader is named) from a manual failover (row D-53).
func (f FailoverRequest) IsSwitchover() bool { return f.Leader != "" }

// SyncState is the decoded sync key (rows D-56 to D-61).
type SyncState struct {
	Leader      string
	Quorum      int
	Standbys    []string // sorted
	ModRevision int64
	// Electorate is pgha's own part of the key. Nil: a Patroni wrote the key last, which drops the
	// part, so that no takeover by votes may believe it (safety review, hole 18).
	Electorate *Electorate
}

// Active says that synchronous replication is in force as far as a failover is concerned (row D-57).
func (s SyncState) Active() bool { return s.Leader != "" }

// Electorate says whose votes a takeover needs. It is published by the leader, and compared by its
// revision in the transaction that takes over.
type Electorate struct {
	// Epoch of the reign that published it.
	Epoch uint64
	// LeaderData names the leader's copy of the data: that copy holds every commit the leader ever
	// acknowledged, so that it may lead again without votes.
	LeaderData string
	// Sets: a takeover needs the quorum of each of them. One in the steady state; several while the
	// set changes or a new reign has not yet inherited all commits of the last one (safety review,
	// hole 3). None: nobody but the leader may lead.
	Sets []VoterSet
}

// VoterSet is a set of members together with how many commits wait for and how many votes a takeover
// needs. Wait + Quorum = len(Voters) + 1, unless the set only inherits: then Wait is zero.
type VoterSet struct {
	Voters []Voter // sorted by name
	Wait   int
	Quorum int
}

// Voter is one member with the copy of the data that counts: a vote with another copy is none
// (safety review, hole 9).
type Voter struct{ Name, Data string }

// Vote is the decoded pgha/vote/<name> key: this member has frozen, and its log ends at LSN. It hangs
// on no lease and outlives its agent. A vote that was withdrawn leaves the key behind, empty, so that
// its revision still tells a late vote from one that may count.
type Vote struct {
	Name string
	Data string
	// Epoch and LeaderRevision are the reign it was cast against. Each reign is begun, and each
	// leader key rewritten, in a transaction that writes the reign as well: LeaderRevision is
	// Reign.ModRevision.
	Epoch          uint64
	LeaderRevision int64
	Timeline       Timeline
	LSN            LSN
	ModRevision    int64
}

// Standing says that there is a vote in the key, rather than the trace of one.
func (v Vote) Standing() bool { return v.LeaderRevision != 0 }

// Status is the decoded status key (rows D-62 to D-68).
type Status struct {
	Optime      LSN
	Slots       []SlotPosition // sorted by name
	RetainSlots []string
	ModRevision int64
}

// SlotPosition is one replication slot's position as published.
type SlotPosition struct {
	Name string
	LSN  LSN
}

// Reign is the decoded pgha/epoch key: a takeover reserves the next timeline in it, so that two
// nodes can never make the same timeline number unnoticed (safety review, hole 10).
type Reign struct {
	Epoch          uint64
	Holder         string
	ParentTimeline Timeline
	NextTimeline   Timeline
	LSN            LSN
	// Lease that the leader key hung on when the reign began.
	Lease LeaseID
	// TTL that this lease was granted; zero: not known.
	TTL         time.Duration
	ModRevision int64
}

// Release is the decoded pgha/release key: the leader key of LeaderRevision was given up after
// the server was proven down, so a successor need not wait (safety review, hole 5).
type Release struct {
	LeaderRevision int64
	Name           string
	// Checkpoint is the end of the shutdown checkpoint; zero if the shutdown was not clean.
	Checkpoint  LSN
	Timeline    Timeline
	Reason      string
	ModRevision int64
}

// Offer is the decoded pgha/offer/<name> key: "hand the leader key over to this lease".
type Offer struct {
	Name        string
	Lease       LeaseID // the lease the key hangs on
	Incarnation string
	// For is the leader revision the offer was made for.
	For         int64
	ModRevision int64
}

// TimelineRecord is one row of the history key (row D-70).
type TimelineRecord struct {
	Timeline  Timeline
	Switch    LSN
	Reason    string
	Timestamp string // ISO 8601, as stored
	NewLeader string
}

// Cluster is the consensus store's content, decoded, at one revision. Slices are sorted by name.
type Cluster struct {
	Revision    int64
	ClusterID   uint64
	Leader      Leader
	Initialize  Initialize
	Members     []Member
	Failover    FailoverRequest
	Sync        SyncState
	Status      Status
	Reign       Reign
	Release     Release
	Offers      []Offer
	Votes       []Vote
	History     []TimelineRecord
	HistorySeen bool // the key exists
	HistoryRev  int64
	Failsafe    []FailsafeMember
	FailsafeRev int64
	// ConfigRev is the revision of the config key, zero if absent. Its content is not here.
	ConfigRev int64
}

// FailsafeMember is one entry of the failsafe key (row D-72).
type FailsafeMember struct {
	Name   string
	APIURL string
}

// Member finds a member by name.
func (c *Cluster) Member(name string) (Member, bool) {
	for i := range c.Members {
		if c.Members[i].Name == name {
			return c.Members[i], true
		}
	}
	return Member{}, false
}

// member is Member for many questions: nothing is copied. Nil: there is none.
func (c *Cluster) member(name string) *Member {
	for i := range c.Members {
		if c.Members[i].Name == name {
			return &c.Members[i]
		}
	}
	return nil
}

// Vote finds the vote of a member.
func (c *Cluster) Vote(name string) (Vote, bool) {
	for i := range c.Votes {
		if c.Votes[i].Name == name {
			return c.Votes[i], true
		}
	}
	return Vote{}, false
}

// Offer finds the offer of a member.
func (c *Cluster) Offer(name string) (Offer, bool) {
	for _, o := range c.Offers {
		if o.Name == name {
			return o, true
		}
	}
	return Offer{}, false
}
