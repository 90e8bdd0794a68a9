package election

import "time"

// Pace of the race.
const (
	// probeFresh is how old a round of answers may be when a candidate acts on it.
	probeFresh = time.Second
	// raceRetry is when a candidate that stands back looks again.
	raceRetry = 300 * time.Millisecond
	// retakePatience is how long an agent that has just started, or has just heard of the end of a pause, waits
	// before it silences a server that led last.
	retakePatience = time.Second
	// leaseAsk is how often the store is asked about the vanished key's lease.
	leaseAsk = 100 * time.Millisecond
)

func vacantRules() []rule {
	vacant := within // no leader key
	all := []rule{
		{
			id:  "vacant.retake",
			doc: "A running primary without a title, in a cluster that nobody leads, whose vacancy is proven at once (a cluster taken over from elsewhere): it takes the key.",
			when: vacant(func(v *View) bool {
				return v.Local.Server == ServerRunning && v.Local.Role == RolePrimary && ineligible(v) == "" && timeBarred(v) == "" && vacancyProven(v)
			}),
			then: func(v *View) Plan {
				return Plan{Reason: "this server is a primary and nobody leads", Actions: []Action{AcquireLeader{Reign: nextReign(v), Sync: acquireSync(v)}}}
			},
		},
		retakeSoonRule(vacant),
		{
			id:  "vacant.demote",
			doc: "A running primary without a title while it is not proven that nobody else leads: it is silenced.",
			when: vacant(func(v *View) bool {
				return v.Local.Role == RolePrimary && (v.Local.Server == ServerRunning || v.Local.Server == ServerSilent)
			}),
			then: func(v *View) Plan {
				return trouble("this server is a primary without the leader key", "", Demote{Why: "no title to the leader key"})
			},
		},
		{
			id:   "vacant.no_data",
			doc:  "Nobody leads, and this member has no usable data: it cannot lead, and has nobody to copy from.",
			when: vacant(func(v *View) bool { return v.Local.Data != DataCluster }),
			then: func(v *View) Plan {
				reason := "no leader, and no usable data here"
				if v.Local.DataDetail != "" {
					reason += ": " + v.Local.DataDetail
				}
				return trouble(reason, "a leader to clone from")
			},
		},
		{
			id:   "vacant.start",
			doc:  "Nobody leads, and the server is down: it is started as a standby, so that it can serve reads and take part in the election.",
			when: vacant(func(v *View) bool { return v.Local.Server == ServerDown }),
			then: func(v *View) Plan {
				if v.notYet(JobStart) > 0 {
					return waitFor(v, JobStart, "the start")
				}
				return Plan{Reason: "no leader, and the server is down", Actions: []Action{StartStandby{}}}
			},
		},
		{
			id:   "vacant.wait_server",
			doc:  "Nobody leads, and the server is on its way up or down.",
			when: vacant(func(v *View) bool { return v.Local.Server != ServerRunning || v.Local.Role != RoleStandby }),
			then: func(v *View) Plan {
				return Plan{Reason: "no leader, and the server is not ready", Wake: time.Second}
			},
		},
	}
	all = append(all, raceEntryRules(vacant)...)
	return append(all, raceRules(vacant)...)
}

func retakeSoonRule(vacant func(func(*View) bool) func(*View) bool) rule {
	return rule{
		id: "vacant.retake_soon",
		doc: "A running primary without a title, in a cluster that nobody leads, and it was this very server that led last (its agent was away during a pause): " +
			"for a second after its start, or after the end of that pause, the agent waits for what it needs to take the key.",
		when: vacant(func(v *View) bool {
			silent := v.Local.Server == ServerSilent // the agent that asks was frozen, perhaps, and not the server
			return serverLed(v) && (silent || v.Local.Server == ServerRunning) &&
				v.Now-max(v.Store.SeenAt, v.Store.ResumedAt) < retakePatience &&
				(silent || v.Lease == 0 || v.Local.LSN == 0 || v.Local.Timeline == 0)
		}),
		then: func(*View) Plan {
			return Plan{Reason: "this server is a primary and led last", Change: "a lease, and the own position", Wake: vanishedRetry}
		},
	}
}

// raceEntryRules hold back who must not race, or not yet.
func raceEntryRules(vacant func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:   "race.not_eligible",
			doc:  "Nobody leads, and this member must not.",
			when: vacant(func(v *View) bool { return ineligible(v) != "" }),
			then: func(v *View) Plan {
				p := trouble("no leader, and this member must not lead: "+ineligible(v),
					"another member, or a failover by hand that names this one")
				p.Wake = time.Second
				return p
			},
		},
		{
			id: "race.wait_resumed",
			doc: "The key ran out during a pause, which has just ended: its holder's server may run on all the same, and gets as long as the time to live to take it again, " +
				"unless an operator asks for another leader.",
			when: vacant(holderAwaited),
			then: func(v *View) Plan {
				left := v.Store.ResumedAt + v.Policy.TTL - v.Now
				return Plan{
					Reason: "the pause has just ended: " + v.Store.Cluster.Reign.Holder + ", which led last, may take the key again",
					Change: ago(left) + " of waiting", Wake: min(raceRetry, left),
				}
			},
		},
		{
			id: "race.leave_to_candidate",
			doc: "Nobody leads, and an operator named another member, which answers and may lead. It is waited for as long as the proof of a vacancy takes at most, and ten seconds more: " +
				"what keeps it from taking the key need not show in its answers.",
			when: vacant(func(v *View) bool {
				f := v.Store.Cluster.Failover
				since := max(v.Store.Vacancy.Since, v.Store.FailoverAt)
				if f.Candidate == "" || f.Candidate == v.Self.Name || v.untilScheduled() > 0 || !probesUsable(v) ||
					since != 0 && v.Now-since > v.vacancyWait()+failedPause {
					return false
				}
				a, ok := v.Probes.Answer(f.Candidate)
				return ok && a.Answered && !a.NoFailover && !a.WatchdogFailed && a.LSN != 0
			}),
			then: func(v *View) Plan {
				return Plan{
					Reason: "left to the named candidate " + v.Store.Cluster.Failover.Candidate, Change: "its silence",
					Wake: raceRetry, Actions: probeAgain(v),
				}
			},
		},
		{
			id:   "race.wait_lease",
			doc:  "The leader key is gone, but its lease may still be running and its holder may still write: the store is asked, the peers are probed meanwhile, and time is the last resort.",
			when: vacant(func(v *View) bool { return !vacancyProven(v) }),
			then: func(v *View) Plan {
				p := Plan{Reason: vacancyWhy(v), Change: "a release record, the end of the lease, or " +
					ago(v.vacancyWait()) + " of waiting", Wake: leaseAsk}
				if l := v.Store.Vacancy.Lease; l != 0 && v.Store.Vacancy.LeaseGone != Yes {
					p.Actions = append(p.Actions, AskLease{Lease: l})
				}
				p.Actions = append(p.Actions, probeAgain(v)...)
				return p
			},
		},
	}
}

func raceRules(vacant func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:   "race.probe",
			doc:  "Before this member takes the key it hears the others, in parallel and for a few hundred milliseconds at most.",
			when: vacant(func(v *View) bool { return !probesUsable(v) }),
			then: func(v *View) Plan {
				return Plan{Reason: "asking the other members how far they are", Actions: probeAgain(v), Wake: raceRetry}
			},
		},
		{
			id: "race.wait_votes",
			doc: "Nobody leads a synchronous cluster, and this member is not known to hold every commit that was acknowledged: " +
				"it takes no key by time alone, but waits for the votes of frozen members, or for the copy that led last.",
			when: vacant(func(v *View) bool { return timeBarred(v) != "" }),
			then: func(v *View) Plan {
				p := trouble(timeBarred(v), "more members, the return of "+v.Store.Cluster.Sync.Leader+", or a failover by hand")
				p.Wake = raceRetry
				if v.Now-v.Probes.DoneAt > raceRetry/2 && !probing(v) {
					p.Actions = []Action{ProbePeers{}}
				}
				return p
			},
		},
		{
			id:   "race.yield",
			doc:  "Another member that answered is the better leader.",
			when: vacant(func(v *View) bool { return better(v) != "" }),
			then: func(v *View) Plan {
				p := Plan{Reason: "standing back: " + better(v), Change: "its silence", Wake: raceRetry}
				if v.Now-v.Probes.DoneAt > raceRetry/2 && !probing(v) {
					p.Actions = []Action{ProbePeers{}}
				}
				return p
			},
		},
		{
			id:   "race.acquire",
			doc:  "The key is provably vacant and nobody who answered is further: take it, in one transaction that creates it if absent.",
			when: vacant(always),
			then: func(v *View) Plan {
				return Plan{
					Reason:  "nobody leads, and no member that answered is further",
					Actions: []Action{AcquireLeader{Reign: nextReign(v), Sync: acquireSync(v)}}, Wake: raceRetry,
				}
			},
		},
	}
}

func probing(v *View) bool { return v.Probes.StartedAt > v.Probes.DoneAt }

// probesUsable says that there is a finished round, begun after the key went and fresh enough.
func probesUsable(v *View) bool {
	p := v.Probes
	return p.DoneAt != 0 && !probing(v) && p.StartedAt >= v.Store.Vacancy.Since && v.Now-p.DoneAt <= probeFresh
}

func probeAgain(v *View) []Action {
	if probing(v) || probesUsable(v) {
		return nil
	}
	return []Action{ProbePeers{}}
}
