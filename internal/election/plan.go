package election

import (
	"fmt"
	"strings"
	"time"
)

// RuleID names a rule for good. Logs, metrics, API and docs speak it.
type RuleID string

// Plan is what one decision came to.
type Plan struct {
	Rule   RuleID
	Reason string
	// Change says, in words, what would lead to another decision. Empty when nothing is amiss.
	Change string
	// Trouble marks a plan that a person should hear about.
	Trouble bool
	Actions []Action
	// Wake is the longest time after which to decide again, even without news. Zero: the heartbeat.
	Wake time.Duration
}

// String is the one line that logs and tools show.
func (p Plan) String() string {
	names := make([]string, len(p.Actions))
	for i, a := range p.Actions {
		names[i] = a.String()
	}
	if len(names) == 0 {
		return fmt.Sprintf("%s: %s", p.Rule, p.Reason)
	}
	return fmt.Sprintf("%s: %s [%s]", p.Rule, p.Reason, strings.Join(names, ", "))
}

// Action is one thing to do. The set is closed; String names it without its arguments' secrets.
//
//sumtype:decl
type Action interface {
	fmt.Stringer
	// class tells the guard and the executor what kind of thing this is.
	class() actionClass
}

type actionClass uint8

const (
	// classWrite: a short write to the store.
	classWrite actionClass = iota
	// classLocal: a short local step.
	classLocal
	// classJob: long work in the one job slot.
	classJob
	// classDestroy: a job that moves aside, overwrites or removes data.
	classDestroy
)

// ClaimBootstrap tries to become the member that makes the cluster; the winner goes on with the
// bootstrap job. Reclaim takes over from a pgha member that died at it.
type ClaimBootstrap struct{ Reclaim bool }

// ClearBootstrap deletes the empty initialize key that a dead bootstrapper left.
type ClearBootstrap struct{ Revision int64 }

// Bootstrap makes the first cluster in an empty directory.
type Bootstrap struct{}

// WriteInitialize publishes the own system identifier as the cluster's.
type WriteInitialize struct{}

// ProbePeers starts a round of questions to all other members.
type ProbePeers struct{}

// AskLease asks the store whether the lease of the vanished leader key is gone.
type AskLease struct{ Lease LeaseID }

// AcquireLeader tries to create the leader key under the own lease. Sync is what the sync key becomes
// in the same transaction; nil leaves it.
type AcquireLeader struct {
	Reign Reign
	Sync  *SyncState
}

// TakeOver replaces the leader key, or creates it, by the frozen votes that it names: one transaction
// compares the leader key, the sync key, the reign and each vote counted, and publishes the
// electorate that inherits the old one.
type TakeOver struct {
	Reign Reign
	// Over is the revision of the leader key that is replaced; zero: the key is absent.
	Over  int64
	Votes []Vote
	Sync  SyncState
}

// SetSync makes a setting of synchronous_standby_names the one in force, and proves that.
type SetSync struct{ Setting SyncSetting }

// WriteSync publishes whose votes a takeover needs, over the version that was seen.
type WriteSync struct{ State SyncState }

// DeleteSync removes the sync key: synchronous replication was switched off.
type DeleteSync struct{}

// FreezeServer records durably that this member stops following the holder of a leader key, stops
// its walreceiver and its restore, and proves it.
type FreezeServer struct {
	Epoch          uint64
	LeaderRevision int64
	Leader         string
}

// CastVote publishes where the frozen log ends.
type CastVote struct{ Vote Vote }

// WithdrawVote empties the own vote key of that revision (zero: it is absent, and a vote on its way is
// shut out), while the leader of LeaderRevision still leads. Only when that is known to be done may the
// server follow that leader again. LeaderRevision zero: another leads by now, whoever it is.
type WithdrawVote struct{ Revision, LeaderRevision int64 }

// Thaw removes the freeze record; the server follows again by the next decision.
type Thaw struct{ Why string }

// AskPromises asks every member of the failsafe set not to race (rows H 5.5).
type AskPromises struct{ Members []FailsafeMember }

// AdoptHandOver takes up the leader key that was handed over to this member's offered lease.
type AdoptHandOver struct{ Revision int64 }

// Promote arms the fencer and makes the running standby writable. Sync stands in the server's
// configuration before the signal is given.
type Promote struct{ Sync SyncSetting }

// StartPrimary arms the fencer and starts the server as the primary it was.
type StartPrimary struct{}

// StartStandby starts the server as a standby. Upstream may be empty: it then serves reads and
// waits.
type StartStandby struct{ Upstream, ConnURL string }

// Follow points the running standby at another source, by reload.
type Follow struct{ Upstream, ConnURL string }

// Demote silences the local server at once, the hard way, and proves it down.
type Demote struct{ Why string }

// StopServer stops the server. Fast leaves a clean shutdown behind; otherwise it is immediate.
// ReleaseAfter gives up the leader key with a release record once the server is down.
type StopServer struct{ Fast, ReleaseAfter bool }

// ReleaseLeader deletes the own leader key with a release record. The server is down.
type ReleaseLeader struct{ Why string }

// ForgetLeader drops the own title without touching the store: it is proven to be another's.
type ForgetLeader struct{}

// HandOver stops the server cleanly and gives the leader key to the candidate's offered lease.
// OfferRevision zero: the candidate is a Patroni, which is given the key by releasing it.
type HandOver struct {
	Candidate     string
	OfferRevision int64
	// Sync is what the sync key becomes with the hand-over; nil leaves it (asynchronous mode).
	Sync *SyncState
}

// OfferLease publishes "hand the leader key to my lease", for this leader revision.
type OfferLease struct{ For int64 }

// WithdrawOffer deletes the own offer.
type WithdrawOffer struct{ Revision int64 }

// NameCandidate writes the chosen candidate into the failover request.
type NameCandidate struct {
	Candidate string
	Revision  int64
}

// ClearFailover empties the failover request.
type ClearFailover struct {
	Revision int64
	Why      string
}

// CompareHistory finds out whether the local history can stream from the leader.
type CompareHistory struct{ Leader string }

// Rewind stops the server if need be and runs pg_rewind against the leader.
type Rewind struct{ Source, ConnURL string }

// Clone fills the directory by pg_basebackup. What is there is moved aside first.
type Clone struct {
	Source, ConnURL string
	// Partial: what is there is our own unfinished copy and holds nothing of worth.
	Partial bool
}

// RestartServer stops the server and starts it again in the role it has.
type RestartServer struct{ Command uint64 }

// RefuseCommand answers an operator's command that cannot be done.
type RefuseCommand struct {
	Command uint64
	Why     string
}

// CancelJob calls the running job off.
type CancelJob struct{ Why string }

// ApplyConfig writes the configuration files and reloads.
type ApplyConfig struct{}

// SetSlots makes the replication slots for the members that stream from here.
type SetSlots struct{ Members []string }

// WriteStatus publishes the leader's position.
type WriteStatus struct{ Optime LSN }

// WriteHistory publishes the timeline history.
type WriteHistory struct{}

// WriteFailsafe publishes the members that a failsafe round must ask.
type WriteFailsafe struct{ Members []FailsafeMember }

// RestoreConfig writes the remembered dynamic configuration back to a store that lost it.
type RestoreConfig struct{}

// CheckpointNow runs a CHECKPOINT in the background after a promotion, so that pg_rewind can use
// this server as its source.
type CheckpointNow struct{}

func (ClaimBootstrap) String() string      { return "claim bootstrap" }
func (ClearBootstrap) String() string      { return "clear bootstrap" }
func (Bootstrap) String() string           { return "bootstrap" }
func (WriteInitialize) String() string     { return "write initialize" }
func (ProbePeers) String() string          { return "probe peers" }
func (AskLease) String() string            { return "ask lease" }
func (AcquireLeader) String() string       { return "acquire leader" }
func (AdoptHandOver) String() string       { return "adopt hand-over" }
func (TakeOver) String() string            { return "take over by votes" }
func (a SetSync) String() string           { return "set synchronous standbys " + a.Setting.String() }
func (WriteSync) String() string           { return "write sync" }
func (DeleteSync) String() string          { return "delete sync" }
func (FreezeServer) String() string        { return "freeze" }
func (CastVote) String() string            { return "cast vote" }
func (WithdrawVote) String() string        { return "withdraw vote" }
func (Thaw) String() string                { return "thaw" }
func (AskPromises) String() string         { return "ask for promises" }
func (Promote) String() string             { return "promote" }
func (StartPrimary) String() string        { return "start primary" }
func (a StartStandby) String() string      { return "start standby of " + orNobody(a.Upstream) }
func (a Follow) String() string            { return "follow " + orNobody(a.Upstream) }
func (Demote) String() string              { return "demote" }
func (StopServer) String() string          { return "stop server" }
func (ReleaseLeader) String() string       { return "release leader" }
func (ForgetLeader) String() string        { return "forget leader" }
func (a HandOver) String() string          { return "hand over to " + a.Candidate }
func (OfferLease) String() string          { return "offer lease" }
func (WithdrawOffer) String() string       { return "withdraw offer" }
func (a NameCandidate) String() string     { return "name candidate " + a.Candidate }
func (ClearFailover) String() string       { return "clear failover request" }
func (a CompareHistory) String() string    { return "compare history with " + a.Leader }
func (a Rewind) String() string            { return "rewind to " + a.Source }
func (a Clone) String() string             { return "clone from " + a.Source }
func (RestartServer) String() string       { return "restart server" }
func (RefuseCommand) String() string       { return "refuse command" }
func (CancelJob) String() string           { return "cancel job" }
func (ApplyConfig) String() string         { return "apply configuration" }
func (SetSlots) String() string            { return "set slots" }
func (WriteStatus) String() string         { return "write status" }
func (WriteHistory) String() string        { return "write history" }
func (WriteFailsafe) String() string       { return "write failsafe" }
func (RestoreConfig) String() string       { return "restore configuration" }
func (CheckpointNow) String() string       { return "checkpoint" }
func (ClaimBootstrap) class() actionClass  { return classWrite }
func (ClearBootstrap) class() actionClass  { return classWrite }
func (Bootstrap) class() actionClass       { return classJob }
func (WriteInitialize) class() actionClass { return classWrite }
func (ProbePeers) class() actionClass      { return classLocal }
func (AskLease) class() actionClass        { return classLocal }
func (AcquireLeader) class() actionClass   { return classWrite }
func (TakeOver) class() actionClass        { return classWrite }
func (SetSync) class() actionClass         { return classLocal }
func (WriteSync) class() actionClass       { return classWrite }
func (DeleteSync) class() actionClass      { return classWrite }
func (FreezeServer) class() actionClass    { return classLocal }
func (CastVote) class() actionClass        { return classWrite }
func (WithdrawVote) class() actionClass    { return classWrite }
func (Thaw) class() actionClass            { return classLocal }
func (AskPromises) class() actionClass     { return classLocal }
func (AdoptHandOver) class() actionClass   { return classLocal }
func (Promote) class() actionClass         { return classJob }
func (StartPrimary) class() actionClass    { return classJob }
func (StartStandby) class() actionClass    { return classJob }
func (Follow) class() actionClass          { return classLocal }
func (Demote) class() actionClass          { return classJob }
func (StopServer) class() actionClass      { return classJob }
func (ReleaseLeader) class() actionClass   { return classWrite }
func (ForgetLeader) class() actionClass    { return classLocal }
func (HandOver) class() actionClass        { return classJob }
func (OfferLease) class() actionClass      { return classWrite }
func (WithdrawOffer) class() actionClass   { return classWrite }
func (NameCandidate) class() actionClass   { return classWrite }
func (ClearFailover) class() actionClass   { return classWrite }
func (CompareHistory) class() actionClass  { return classJob }
func (Rewind) class() actionClass          { return classDestroy }
func (Clone) class() actionClass           { return classDestroy }
func (RestartServer) class() actionClass   { return classJob }
func (RefuseCommand) class() actionClass   { return classLocal }
func (CancelJob) class() actionClass       { return classLocal }
func (ApplyConfig) class() actionClass     { return classLocal }
func (SetSlots) class() actionClass        { return classLocal }
func (WriteStatus) class() actionClass     { return classWrite }
func (WriteHistory) class() actionClass    { return classWrite }
func (WriteFailsafe) class() actionClass   { return classWrite }
func (RestoreConfig) class() actionClass   { return classWrite }
func (CheckpointNow) class() actionClass   { return classLocal }

func (s SyncSetting) String() string {
	switch {
	case s.Wait == 0:
		return "none"
	case s.Any:
		return fmt.Sprintf("any %d of %s", s.Wait, strings.Join(s.Names, ","))
	}
	return fmt.Sprintf("%d of %s", s.Wait, strings.Join(s.Names, ","))
}

// ActionName is the kind of an action without its arguments: a closed set, fit for a label.
func ActionName(a Action) string {
	return strings.TrimPrefix(fmt.Sprintf("%T", a), "election.")
}

// IsJob says that the action is long work for the one job slot.
func IsJob(a Action) bool { return a.class() >= classJob }

// IsDestructive says that the action moves aside, overwrites or removes data.
func IsDestructive(a Action) bool { return a.class() == classDestroy }

func orNobody(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}
