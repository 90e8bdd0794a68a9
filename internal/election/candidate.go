package election

import (
	"fmt"
	"slices"
	"time"
)

// failedPause is how long a member whose own promotion or start failed stays out of the race.
const failedPause = 10 * time.Second

// cannotLead says why this member could not lead whatever the way it came to the key; empty: it could.
func cannotLead(v *View) string {
	switch {
	case v.Self.Tags.NoFailover:
		return "it is tagged nofailover"
	case v.Policy.StandbyCluster:
		return "the configuration asks for a standby cluster, which this version does not lead"
	case !v.Fencer.Alive:
		return "its fencer does not answer"
	case v.Fencer.Lacks != "":
		return v.Fencer.Lacks
	case v.Lease == 0:
		return "it has no lease"
	case v.Store.Cluster.Initialize.State == BootstrapDone && v.Local.SystemID == "":
		return "its system identifier is not known"
	case recentFailure(v, JobPromote) || recentFailure(v, JobStart):
		return "its own start or promotion failed a moment ago"
	case v.Local.LSN == 0 || v.Local.Timeline == 0:
		return "its own position is not known"
	}
	return ""
}

// ineligible says why this member may not take a vacant key; empty: it may. The order is that of rows
// H-023. A takeover by votes asks for less (cannotLead): it rests on neither time nor positions that
// somebody published.
func ineligible(v *View) string {
	if why := cannotLead(v); why != "" {
		return why
	}
	c := &v.Store.Cluster
	switch {
	case v.promised() && !c.Leader.Present:
		// A promise is to take no vacant key. One that its holder hands over is another matter.
		return "it promised a primary without a store not to race for another " + ago(v.Fencer.PromiseUntil-v.Now)
	case c.Sync.Active() && !inSyncSet(c.Sync, v.Self.Name) && !byHand(v):
		return "the cluster is synchronous and this member is not in its set"
	case c.Sync.Active() && !byHand(v) && c.Reign.branchOf(v.Local.Timeline) == branchDead:
		return fmt.Sprintf("its timeline %d is a branch that the leader's history left aside", v.Local.Timeline)
	case len(c.Failsafe) > 0 && !inFailsafe(c.Failsafe, v.Self.Name) && !(c.Reign.Holder == v.Self.Name && onlyPghaSoFar(v)):
		// Whoever led last asked no promises by that list but its own.
		return "this member is not in the failsafe list"
	case v.Local.Timeline < clusterTimeline(c) && !(c.Sync.Active() && c.Reign.branchOf(v.Local.Timeline) >= branchParent):
		// In the synchronous modes the history may name a branch that nobody followed; then the
		// reign says which timelines hold what was acknowledged, and the votes who holds most.
		return fmt.Sprintf("its timeline %d is behind the cluster's %d", v.Local.Timeline, clusterTimeline(c))
	case !named(v) && !(c.Sync.Active() && ownCopyLed(v)) && behind(c.Status.Optime, v.Local.LSN) > v.Policy.MaximumLag:
		// In a synchronous cluster the copy that led last holds every commit, whatever a leader
		// that was left aside has published.
		return fmt.Sprintf("it is %d bytes behind the last known position of the leader, more than maximum_lag_on_failover (%d)",
			behind(c.Status.Optime, v.Local.LSN), v.Policy.MaximumLag)
	}
	return ""
}

// named says that the request for a switchover or failover names this member.
func named(v *View) bool { return v.Store.Cluster.Failover.Candidate == v.Self.Name }

// byHand says that an operator asks for a failover to this member, whoever leads: he answers for what
// is lost by that.
func byHand(v *View) bool { return named(v) && !v.Store.Cluster.Failover.IsSwitchover() }

// CannotLead is why a standby that runs could not lead if the key were vacant now; empty: it could,
// or it is no standby that runs. Peers are told, so that they do not stand back for such a member.
func CannotLead(v View) string {
	if v.Local.Server != ServerRunning || v.Local.Role != RoleStandby {
		return ""
	}
	if why := ineligible(&v); why != "" || v.Store.Cluster.Leader.Present {
		return why // while somebody leads, a planned change needs no votes
	}
	return votesNeeded(&v)
}

func recentFailure(v *View, kind JobKind) bool {
	r := v.Result(kind)
	return r.Err != "" && r.Class != ClassCanceled && v.Now-r.At < max(failedPause, v.Policy.TTL)
}

func behind(leader, own LSN) uint64 {
	if own >= leader {
		return 0
	}
	return uint64(leader - own)
}

func inSyncSet(s SyncState, name string) bool {
	if s.Leader == name || slices.Contains(s.Standbys, name) {
		return true
	}
	// Patroni's fields name nobody while the set changes.
	return s.Electorate != nil && slices.ContainsFunc(s.Electorate.Sets, func(set VoterSet) bool {
		_, ok := set.Voter(name)
		return ok
	})
}

func inFailsafe(list []FailsafeMember, name string) bool {
	for _, m := range list {
		if m.Name == name {
			return true
		}
	}
	return false
}

// clusterTimeline is the timeline that the history key speaks of (row D-70); zero: unknown.
func clusterTimeline(c *Cluster) Timeline {
	if !c.HistorySeen || len(c.History) == 0 {
		return 0
	}
	return c.History[len(c.History)-1].Timeline + 1
}

// vacancyProven says that the vanished leader key may be taken: the former holder released it with
// its server down, or its lease is known to be over, or more time has passed than it could have
// had (safety review, hole 5).
func vacancyProven(v *View) bool { return vacancyWhy(v) == "" }

// vacancyWhy says what the proof still waits for; empty: nothing.
func vacancyWhy(v *View) string {
	c, gap := &v.Store.Cluster, v.Store.Vacancy
	switch {
	case gap.Since == 0:
		return "the leader key has not been seen gone yet"
	case gap.Replaced && v.Now-gap.Since < v.vacancyWait():
		return "the consensus store was replaced, so that only time can tell that the former leader is silent"
	case released(c, gap), ownServerLed(v):
		return ""
	case gap.Lease != 0 && gap.LeaseGone == Yes:
		return ""
	case gap.Lease == 0 && gap.Revision == 0 && nobodyEverLed(c) && onlyPghaSoFar(v):
		// Nobody ever led under this store: there is no former holder to wait for.
		return ""
	case v.Now-gap.Since >= v.vacancyWait():
		return ""
	}
	return "the former leader's lease may still be running"
}

// ownServerLed says that the last holder of the key was this very server, which is still the primary: its
// fencer was armed for the last reign there was, so that no other may be waited for (a paused server
// whose agent was away while the key ran out). The name would prove nothing.
func ownServerLed(v *View) bool { return v.Local.Server == ServerRunning && serverLed(v) }

// serverLed is that of a server that may not answer just now.
func serverLed(v *View) bool {
	r, gap := v.Store.Cluster.Reign, v.Store.Vacancy
	return r.ModRevision != 0 && v.Fencer.Revision == r.ModRevision && r.Holder == v.Self.Name && !gap.Replaced &&
		(gap.Revision == 0 || gap.Revision == r.ModRevision) && v.Local.Role == RolePrimary &&
		onlyPghaSoFar(v)
}

// holderAwaited says that the key ran out during a pause that ended a moment ago: nothing is known to be
// wrong with its holder, whose agent may just be on its way back, and no haste was asked for.
func holderAwaited(v *View) bool {
	c, gap, since := &v.Store.Cluster, v.Store.Vacancy, v.Store.ResumedAt
	return since != 0 && v.Now-since < v.Policy.TTL && !c.Leader.Present && gap.Since != 0 && gap.Since <= since && !gap.Replaced &&
		c.Reign.Holder != "" && c.Reign.Holder != v.Self.Name && c.Failover.IsZero() && !released(c, gap)
}

// vacancyWait is how long time alone takes to prove a vacancy: by the time to live that the last
// reign's lease was granted, if that is longer than the one configured today.
func (v *View) vacancyWait() time.Duration {
	return VacancyWait(max(v.Policy.TTL, v.Store.Cluster.Reign.TTL), v.Policy.Margin)
}

// nobodyEverLed says that the store bears no trace of a leader: no reign of a pgha member, and
// neither the position nor the history that a Patroni leader publishes.
func nobodyEverLed(c *Cluster) bool {
	return c.Reign.Epoch == 0 && c.Status.ModRevision == 0 && !c.HistorySeen
}

// released says that the release record speaks of the very key that is gone.
func released(c *Cluster, gap Vacancy) bool {
	if c.Release.LeaderRevision == 0 || c.Release.ModRevision <= c.Reign.ModRevision {
		return false // no record, or one of an older reign
	}
	if gap.Revision != 0 {
		return c.Release.LeaderRevision == gap.Revision
	}
	// The key was gone before this agent looked. A Patroni leader leaves no reign, but publishes
	// its position: a record older than that is not of the last leader.
	return c.Release.ModRevision >= c.Status.ModRevision
}

// onlyPghaSoFar says that no Patroni is about, which could have led without leaving a trace.
func onlyPghaSoFar(v *View) bool {
	for _, m := range v.Store.Cluster.Members {
		if !m.IsPgha() && m.Name != v.Self.Name {
			return false
		}
	}
	return true
}

// better says why another member should lead rather than this one; empty: it should not. Only
// members that answered count: silence must not block a takeover for longer than the round takes.
func better(v *View) string {
	c := &v.Store.Cluster
	for _, p := range v.Probes.Answers {
		if !p.Answered || p.Name == v.Self.Name {
			continue
		}
		if p.Role == RolePrimary {
			return p.Name + " answers as a running primary"
		}
		if named(v) || p.NoFailover || p.WatchdogFailed || p.LSN == 0 || cannotBeAhead(v, p) {
			continue
		}
		switch {
		case p.Timeline != 0 && v.Local.Timeline != 0 && p.Timeline > v.Local.Timeline:
			return fmt.Sprintf("%s is on timeline %d, this member on %d", p.Name, p.Timeline, v.Local.Timeline)
		case p.Timeline != 0 && p.Timeline < v.Local.Timeline, c.Sync.Active() && p.Name == c.Sync.Leader:
			// What the leader of a synchronous cluster has beyond its voters was never acknowledged
			// (row H-043).
			continue
		case p.LSN > v.Local.LSN:
			return fmt.Sprintf("%s is %d bytes ahead", p.Name, uint64(p.LSN-v.Local.LSN))
		case p.LSN == v.Local.LSN && p.Priority > v.Self.Tags.FailoverPriority && p.Name != c.Reign.Holder:
			// The former leader's priority does not count: it has just failed at it, or was asked
			// to go (row H-037).
			return fmt.Sprintf("%s is as far and has the higher failover_priority", p.Name)
		}
	}
	return ""
}

// nextReign is the reign that a takeover by this member begins. It reserves a timeline number
// beyond any reserved before (safety review, hole 10).
func nextReign(v *View) Reign {
	prev := v.Store.Cluster.Reign
	if v.Local.Timeline == 0 || v.Own.Held() && prev.Holder == v.Self.Name && v.Local.Timeline == prev.ParentTimeline {
		// Its holder puts a deleted key back while its server is on its way, or not promoted yet: the
		// server's timeline is, or will be, one of those that its reign already names.
		prev.Epoch++
		prev.Holder, prev.Lease, prev.ModRevision, prev.TTL = v.Self.Name, v.Lease, 0, 0
		return prev
	}
	return Reign{
		Epoch:          prev.Epoch + 1,
		Holder:         v.Self.Name,
		ParentTimeline: v.Local.Timeline,
		NextTimeline:   max(prev.NextTimeline, v.Local.Timeline) + 1,
		LSN:            v.Local.LSN,
		Lease:          v.Lease,
	}
}
