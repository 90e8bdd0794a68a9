package election

import (
	"fmt"
	"time"
)

// switchoverTime is how long a candidate gets to offer its lease before the request is given up.
const switchoverTime = 10 * time.Second

// switchoverStale is how late a scheduled switchover may still begin (row H-194).
func switchoverStale(v *View) time.Duration {
	return max(v.Policy.LoopWait*3/2, 10*time.Second)
}

func switchoverRules(owner func(func(*View) bool) func(*View) bool) []rule {
	asked := func(when func(*View) bool) func(*View) bool {
		return owner(func(v *View) bool {
			return !v.Store.Cluster.Failover.IsZero() && !v.requestDone() && v.Local.Server == ServerRunning &&
				v.Local.Role == RolePrimary && when(v)
		})
	}
	all := append(switchoverAskedRules(asked), switchoverGoRules(asked)...)
	return append(all, rule{
		id:     "leader.steady",
		doc:    "The leader leads: its server is a primary, its title good.",
		when:   owner(always),
		then:   idle("this member is the leader", ""),
		steady: true,
	})
}

// switchoverAskedRules judge the request.
func switchoverAskedRules(asked func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:  "switchover.look",
			doc: "A switchover was asked for since the local server was last looked at: who streams is seen first.",
			when: asked(func(v *View) bool {
				return v.Local.At < v.Store.FailoverAt
			}),
			then: func(*View) Plan {
				return Plan{Reason: "looking at the standbys before the switchover", Wake: 50 * time.Millisecond}
			},
		},
		{
			id:   "switchover.refused",
			doc:  "A switchover was asked for that cannot be done: it is cleared, before anything was touched, and the reason told.",
			when: asked(func(v *View) bool { return refusal(v) != "" }),
			then: func(v *View) Plan {
				why := refusal(v)
				return Plan{
					Reason: "switchover refused: " + why, Trouble: true,
					Actions: []Action{ClearFailover{Revision: v.Store.Cluster.Failover.ModRevision, Why: why}},
				}
			},
		},
		{
			id:   "switchover.scheduled",
			doc:  "A switchover is scheduled for later; the leader leads on.",
			when: asked(func(v *View) bool { return v.untilScheduled() > 0 }),
			then: func(v *View) Plan {
				return Plan{
					Reason: "switchover scheduled at " + v.Store.Cluster.Failover.ScheduledAt.UTC().Format(time.RFC3339),
					Wake:   v.untilScheduled(),
				}
			},
			steady: true,
		},
	}
}

// switchoverGoRules carry out a request that stands and is due.
func switchoverGoRules(asked func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:   "switchover.name_candidate",
			doc:  "A switchover was asked for without a candidate: the most advanced standby that streams is named.",
			when: asked(func(v *View) bool { return v.Store.Cluster.Failover.Candidate == "" }),
			then: func(v *View) Plan {
				best := bestStandby(v)
				return Plan{
					Reason:  "chose " + best + " for the switchover",
					Actions: []Action{NameCandidate{Candidate: best, Revision: v.Store.Cluster.Failover.ModRevision}},
				}
			},
		},
		{
			id:  "switchover.hand_over",
			doc: "The candidate has offered its lease (or is a Patroni, which cannot): checkpoint, shut down cleanly, wait until the candidate has all of it, hand the key over in one transaction.",
			when: asked(func(v *View) bool {
				_, ok := usableOffer(v, v.Store.Cluster.Failover.Candidate)
				m, _ := v.Store.Cluster.Member(v.Store.Cluster.Failover.Candidate)
				return ok || !m.IsPgha()
			}),
			then: func(v *View) Plan {
				name := v.Store.Cluster.Failover.Candidate
				o, _ := usableOffer(v, name)
				return Plan{Reason: "switchover to " + name, Actions: []Action{
					HandOver{Candidate: name, OfferRevision: o.ModRevision, Sync: handOverSync(v, name)},
				}}
			},
		},
		{
			id:     "switchover.wait_offer",
			doc:    "The candidate has been named and has not offered its lease yet; the leader leads on.",
			when:   asked(always),
			then:   idle("waiting for the candidate's offer", "the offer"),
			steady: true,
		},
	}
}

// requestDone says that the failover request has been fulfilled: it named this member, which came
// to lead after it was written.
func (v *View) requestDone() bool {
	f := v.Store.Cluster.Failover
	return f.Candidate == v.Self.Name && f.Leader != v.Self.Name && f.ModRevision < v.Own.Revision
}

// untilScheduled is how long a scheduled switchover is still away; zero or less: due, or not scheduled.
func (v *View) untilScheduled() time.Duration {
	at := v.Store.Cluster.Failover.ScheduledAt
	if at.IsZero() {
		return 0
	}
	return at.Sub(v.Wall)
}

// usableOffer is the candidate's offer, if it was made for the key as it is now, under the lease
// that the candidate's own member key hangs on.
func usableOffer(v *View, name string) (Offer, bool) {
	o, ok := v.Store.Cluster.Offer(name)
	if !ok || o.For != v.Own.Revision || o.Lease == 0 {
		return Offer{}, false
	}
	m, ok := v.Store.Cluster.Member(name)
	return o, ok && m.Lease == o.Lease
}

// refusal says why the switchover that was asked for cannot be done; empty: it can.
func refusal(v *View) string {
	f := v.Store.Cluster.Failover
	switch {
	case f.Leader != "" && f.Leader != v.Self.Name:
		return fmt.Sprintf("the leader is %s, not %s", v.Self.Name, f.Leader)
	case f.Candidate == v.Self.Name:
		return fmt.Sprintf("%s is already the leader", v.Self.Name)
	case !f.ScheduledAt.IsZero() && v.Policy.Pause:
		return "nothing scheduled is done while the cluster is paused"
	case !f.ScheduledAt.IsZero() && -v.untilScheduled() > switchoverStale(v):
		return "it was scheduled for " + f.ScheduledAt.UTC().Format(time.RFC3339) + ", which is over"
	case v.untilScheduled() > 0:
		return ""
	case f.Candidate == "" && v.Policy.Pause:
		return "a paused cluster switches over only to a named candidate"
	case f.Candidate == "" && bestStandby(v) == "":
		return "no standby streams from the leader closely enough"
	case f.Candidate == "":
		return ""
	}
	if why := candidateRefusal(v, f.Candidate); why != "" {
		return why
	}
	_, offered := usableOffer(v, f.Candidate)
	if m, _ := v.Store.Cluster.Member(f.Candidate); m.IsPgha() && !offered && v.askedFor() > switchoverTime {
		return fmt.Sprintf("%s has not offered to take over within %s", f.Candidate, switchoverTime)
	}
	return ""
}

// askedFor is how long the present request has been due; zero: not known.
func (v *View) askedFor() time.Duration {
	if v.Store.FailoverAt == 0 {
		return 0
	}
	waited := v.Now - v.Store.FailoverAt
	if !v.Store.Cluster.Failover.ScheduledAt.IsZero() {
		waited = min(waited, -v.untilScheduled())
	}
	return waited
}

// candidateRefusal says why a member cannot be handed the key; empty: it can.
func candidateRefusal(v *View, name string) string {
	m, ok := v.Store.Cluster.Member(name)
	if !ok {
		return fmt.Sprintf("there is no member %s", name)
	}
	if m.Tags.NoFailover {
		return fmt.Sprintf("%s is tagged nofailover", name)
	}
	if m.APIURL == "" {
		return fmt.Sprintf("%s has no API address", name)
	}
	if m.State != StateRunning {
		return fmt.Sprintf("%s is not running (%s)", name, m.State)
	}
	if s := v.Store.Cluster.Sync; v.Store.Cluster.Failover.IsSwitchover() && namesSomebody(s) && !inSyncSet(s, name) {
		return fmt.Sprintf("the cluster is synchronous, and %s is not in its set", name)
	}
	w, ok := walsender(v, name)
	if !ok {
		return fmt.Sprintf("%s does not stream from the leader", name)
	}
	if w.LSN < v.Local.LSN && uint64(v.Local.LSN-w.LSN) > v.Policy.MaximumLag {
		return fmt.Sprintf("%s is %d bytes behind, more than maximum_lag_on_failover (%d)", name,
			uint64(v.Local.LSN-w.LSN), v.Policy.MaximumLag)
	}
	if r := v.Result(JobHandOver); r.Err != "" && r.For == v.Store.Cluster.Failover.ModRevision {
		return "the hand-over failed: " + r.Err
	}
	return ""
}

// namesSomebody says that the sync key names anybody but the leader. While it names nobody, because the
// set is just being made, a hand-over is no less safe: the candidate waits for the leader's last byte.
func namesSomebody(s SyncState) bool {
	return s.Active() && (len(s.Standbys) > 0 || s.Electorate != nil && len(s.Electorate.Sets) > 0)
}

func walsender(v *View, name string) (Walsender, bool) {
	for _, w := range v.Local.Walsenders {
		if w.Name == name && w.State == "streaming" {
			return w, true
		}
	}
	return Walsender{}, false
}

// bestStandby is the standby to name when the operator named none: the highest priority among the
// most advanced, the first by name among equals. Empty: none is fit.
func bestStandby(v *View) string {
	best, bestLSN, bestPriority := "", LSN(0), 0
	for _, m := range v.Store.Cluster.Members {
		if m.Name == v.Self.Name || candidateRefusal(v, m.Name) != "" {
			continue
		}
		w, _ := walsender(v, m.Name)
		equal := w.LSN == bestLSN && m.Tags.FailoverPriority == bestPriority
		if best == "" || w.LSN > bestLSN || w.LSN == bestLSN && m.Tags.FailoverPriority > bestPriority || equal && m.Name < best {
			best, bestLSN, bestPriority = m.Name, w.LSN, m.Tags.FailoverPriority
		}
	}
	return best
}
