package election

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func raceRows() []row {
	barred := func(name, why string, with func(*View)) row {
		return row{name: name, view: vacant(), rule: "race.not_eligible", trouble: true, with: with, says: why, wake: time.Second}
	}
	yield := func(name, why string, with func(*View)) row {
		return row{name: name, view: vacant(), rule: "race.yield", with: with, says: why, wake: raceRetry}
	}
	stale := func(v *View) {
		v.Probes.StartedAt, v.Probes.DoneAt = testNow-1500*time.Millisecond, testNow-1200*time.Millisecond
	}
	byHand := func(name string) FailoverRequest { return FailoverRequest{Candidate: name, ModRevision: 90} }
	return []row{
		barred("nofailover", "nofailover", func(v *View) { v.Self.Tags.NoFailover = true }),
		barred("a standby cluster", "standby cluster", func(v *View) { v.Policy.StandbyCluster = true }),
		barred("a promise", "promised", func(v *View) { v.Fencer.PromiseUntil = testNow + time.Second }),
		barred("a silent fencer", "fencer", func(v *View) { v.Fencer.Alive = false }),
		barred("no lease", "no lease", func(v *View) { v.Lease = 0 }),
		barred("an unknown system identifier", "system identifier", func(v *View) { v.Local.SystemID = "" }),
		barred("a promotion that failed a moment ago (row H-055)", "failed a moment ago", func(v *View) {
			v.Results = []JobResult{failed(JobPromote, ClassOther, 1, 9*time.Second)}
		}),
		barred("a start that failed a moment ago", "failed a moment ago", func(v *View) {
			v.Results = []JobResult{failed(JobStart, ClassEnv, 1, 9*time.Second)}
		}),
		barred("not in the synchronous set", "synchronous", func(v *View) { v.Store.Cluster.Sync = SyncState{Leader: "a", Standbys: []string{"c"}} }),
		barred("not in the failsafe list (row H-069)", "failsafe", func(v *View) {
			v.Policy.FailsafeMode = true
			v.Store.Cluster.Failsafe = []FailsafeMember{{Name: "a"}, {Name: "c"}}
		}),
		barred("an unknown position", "not known", func(v *View) { v.Local.LSN = 0 }),
		barred("an unknown timeline", "not known", func(v *View) { v.Local.Timeline = 0 }),
		barred("an older timeline", "behind the cluster's 2", func(v *View) {
			v.Store.Cluster.History, v.Store.Cluster.HistorySeen = []TimelineRecord{{Timeline: 1}}, true
		}),
		barred("too far behind the leader's last position", "50 bytes behind", func(v *View) { v.Policy.MaximumLag, v.Local.LSN = 49, 50 }),
		{
			name: "a failure long ago is forgiven", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) { v.Results = []JobResult{failed(JobStart, ClassEnv, 1, 10*time.Second)} },
		},
		{
			name: "a start that was called off is no failure", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) { v.Results = []JobResult{failed(JobStart, ClassCanceled, 1, time.Second)} },
		},
		{
			name: "priority zero beside nofailover false may lead (row C-131)", view: vacant(), rule: "race.yield",
			with: func(v *View) { v.Self.Tags.FailoverPriority = 0 }, says: "higher failover_priority",
		},
		{
			name: "the named candidate answers and is left the field", view: vacant(), rule: "race.leave_to_candidate", wake: raceRetry,
			with: func(v *View) { v.Store.Cluster.Failover = byHand("c") }, says: "named candidate c",
		},
		{
			name: "a named candidate that does not answer is not waited for (row H-192)", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) { v.Store.Cluster.Failover = byHand("a") },
		},
		{
			name: "a named candidate that must not lead is not waited for (row H-192)", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) {
				v.Store.Cluster.Failover = byHand("c")
				setProbe(v, "c", func(p *Probe) { p.NoFailover = true })
			},
		},
		{
			name: "a named candidate that answers and does not act is not waited for without end", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) {
				v.Store.Cluster.Failover = byHand("c")
				v.Store.Vacancy.Since = testNow - time.Minute
			},
		},
		{
			name: "one that was named a moment ago is waited for", view: vacant(), rule: "race.leave_to_candidate",
			with: func(v *View) {
				v.Store.Cluster.Failover = byHand("c")
				v.Store.Vacancy.Since, v.Store.FailoverAt = testNow-time.Minute, testNow-time.Second
			},
		},
		{
			name: "a switchover scheduled for later names nobody yet", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) {
				v.Store.Cluster.Failover = FailoverRequest{Leader: "a", Candidate: "c", ScheduledAt: testWall.Add(time.Hour), ModRevision: 90}
			},
		},
		{
			name: "while the lease may be running the store is asked about it", view: vacant(), rule: "race.wait_lease", wake: leaseAsk,
			with: func(v *View) { v.Store.Vacancy.LeaseGone = Unknown }, want: []Action{AskLease{Lease: leaseOf("a")}},
		},
		{
			name: "while the lease may be running the peers are probed already", view: vacant(), rule: "race.wait_lease", wake: leaseAsk,
			with: func(v *View) { v.Store.Vacancy.LeaseGone = No; v.Probes = Probes{} },
			want: []Action{AskLease{Lease: leaseOf("a")}, ProbePeers{}},
		},
		{
			name: "a lease that nobody knows cannot be asked about", view: vacant(), rule: "race.wait_lease", wake: leaseAsk,
			with: func(v *View) { v.Store.Vacancy = Vacancy{Since: testNow - time.Second} },
		},
		{
			name: "old answers do not count", view: vacant(), rule: "race.probe", with: stale, want: []Action{ProbePeers{}}, wake: raceRetry,
		},
		{
			name: "answers from before the key went do not count", view: vacant(), rule: "race.probe",
			with: func(v *View) { v.Store.Vacancy.Since = testNow - 200*time.Millisecond }, want: []Action{ProbePeers{}},
		},
		{
			name: "a round that is under way is waited for", view: vacant(), rule: "race.probe",
			with: func(v *View) { v.Probes.StartedAt = testNow },
		},
		yield("another answers as primary", "running primary", func(v *View) { setProbe(v, "c", func(p *Probe) { p.Role = RolePrimary }) }),
		yield("another is on a later timeline, though not further in bytes", "timeline 2", func(v *View) {
			setProbe(v, "c", func(p *Probe) { p.Timeline, p.LSN = 2, 50 })
		}),
		{
			name: "after standing back for a while the others are asked again", view: vacant(), rule: "race.yield",
			with: func(v *View) {
				setProbe(v, "c", func(p *Probe) { p.LSN = 101 })
				v.Probes.DoneAt = testNow - 200*time.Millisecond
			},
			want: []Action{ProbePeers{}}, says: "1 bytes ahead",
		},
		{
			name: "a member further in bytes on an older timeline is not followed", view: vacant(), rule: "race.acquire",
			with: func(v *View) { v.Local.Timeline = 2; setProbe(v, "c", func(p *Probe) { p.LSN = 500 }) },
			want: []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 2, NextTimeline: 3, LSN: 100, Lease: leaseOf("b")}}},
		},
		{
			name: "the reign reserves a timeline beyond any reserved before (hole 10)", view: vacant(), rule: "race.acquire",
			with: func(v *View) { v.Store.Cluster.Reign.NextTimeline = 7 },
			want: []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 8, LSN: 100, Lease: leaseOf("b")}}},
		},
		{
			name: "the candidate of a failover by hand leads although another is further", view: vacant(), rule: "race.acquire", want: crown(),
			with: func(v *View) {
				v.Store.Cluster.Failover = byHand("b")
				setProbe(v, "c", func(p *Probe) { p.LSN = 500 })
			},
		},
		{
			name: "not even a failover by hand overrides a running primary", view: vacant(), rule: "race.yield",
			with: func(v *View) {
				v.Store.Cluster.Failover = byHand("b")
				setProbe(v, "c", func(p *Probe) { p.Role = RolePrimary })
			},
		},
	}
}

// TestGoldenRace holds the vectors of rows H-031 to H-043: me = b at LSN 100, the last known
// position 100, a = the former leader.
func TestGoldenRace(t *testing.T) {
	answers := func(name string, lsn LSN, f func(*Probe)) func(*View) {
		return func(v *View) {
			setProbe(v, name, func(p *Probe) {
				p.Answered, p.Role, p.Timeline, p.LSN, p.Priority = true, RoleStandby, 1, lsn, 1
				if f != nil {
					f(p)
				}
			})
		}
	}
	lag := func(own LSN) func(*View) {
		return func(v *View) { v.Policy.MaximumLag, v.Local.LSN = 50, own; v.Probes.Answers = nil }
	}
	sync := func(quorum int, voters string, f func(*View)) func(*View) {
		return func(v *View) {
			v.Policy.Sync.Mode = SyncQuorum
			v.Store.Cluster.Sync = SyncState{Leader: "a", Quorum: quorum, Standbys: strings.Split(voters, ","), ModRevision: 55}
			f(v)
		}
	}
	timelineTwo := func(v *View) {
		v.Store.Cluster.History, v.Store.Cluster.HistorySeen = []TimelineRecord{{Timeline: 1}}, true
	}
	for _, tc := range []struct {
		name string
		with func(*View)
		may  bool
	}{
		{"H-031 alone", func(v *View) { v.Probes.Answers = nil }, true},
		{"H-031 c is down", func(v *View) { setProbe(v, "c", func(p *Probe) { *p = Probe{Name: "c"} }) }, true},
		{"H-031 c is as far", answers("c", 100, nil), true},
		{"H-032 c is ahead", answers("c", 101, nil), false},
		{"H-033 c is ahead but nofailover", answers("c", 101, func(p *Probe) { p.NoFailover = true }), true},
		{"H-033 c is ahead but its watchdog failed", answers("c", 101, func(p *Probe) { p.WatchdogFailed = true }), true},
		{"H-034 a answers as primary", answers("a", 100, func(p *Probe) { p.Role = RolePrimary }), false},
		{"H-035, stricter here: a answers as primary and has nofailover, a second writer is still a second writer", answers("a", 100, func(p *Probe) {
			p.Role, p.NoFailover = RolePrimary, true
		}), false},
		{"H-036 c is as far and has the higher priority", answers("c", 100, func(p *Probe) { p.Priority = 2 }), false},
		{"H-037 the former leader is as far and has the higher priority", answers("a", 100, func(p *Probe) { p.Priority = 2 }), true},
		{"H-038 own LSN 50 with maximum_lag 50", lag(50), true},
		{"H-038 own LSN 49 with maximum_lag 50", lag(49), false},
		{"H-039 own LSN 1 with maximum_lag 50, by hand", func(v *View) { lag(1)(v); v.Store.Cluster.Failover = FailoverRequest{Candidate: "b"} }, true},
		{"H-040 own timeline 1, the cluster's 2", timelineTwo, false},
		{"H-040 own timeline unknown, the cluster's 2", func(v *View) { timelineTwo(v); v.Local.Timeline = 0 }, false},
		{"H-041, stricter here: the same without check_timeline", func(v *View) { timelineTwo(v); v.Policy.CheckTimeline = false }, false},
		{"H-042 synchronous, c of the set is ahead", sync(0, "b,c", answers("c", 101, nil)), false},
		{"H-043 synchronous, the former leader is ahead as a standby", sync(0, "b", answers("a", 101, nil)), true},
		{"H-044 quorum 0, the only voter, alone", sync(0, "b", func(v *View) { v.Probes.Answers = nil }), true},
		{"H-045 quorum 1, c is down", sync(1, "b,c", func(v *View) { v.Probes.Answers = nil }), false},
		{"H-045 quorum 1, c's server is not up", sync(1, "b,c", answers("c", 0, nil)), false},
		{"H-045 quorum 1, c is ahead", sync(1, "b,c", answers("c", 101, nil)), false},
		{"H-046 quorum 1, c is as far", sync(1, "b,c", answers("c", 100, nil)), true},
		{"H-046 quorum 1, c is behind", sync(1, "b,c", answers("c", 90, nil)), true},
		{"H-047 quorum 1, c is down, the former leader is as far", sync(1, "b,c", func(v *View) { v.Probes.Answers = nil; answers("a", 100, nil)(v) }), true},
		{"H-048 quorum 1, c is down, the former leader is ahead", sync(1, "b,c", func(v *View) { v.Probes.Answers = nil; answers("a", 101, nil)(v) }), false},
		{"H-049, stricter here: no voter, and all voters are behind", sync(1, "c,d", func(v *View) { answers("c", 90, nil)(v); answers("d", 90, nil)(v) }), false},
		{"H-050 quorum 1, the former leader itself, nobody answers", sync(1, "a,c", func(v *View) { v.Store.Cluster.Sync.Leader = "b"; v.Probes.Answers = nil }), true},
		{"H-050 quorum 1, the former leader itself, a voter is ahead", sync(1, "a,c", func(v *View) { v.Store.Cluster.Sync.Leader = "b"; answers("c", 101, nil)(v) }), false},
		{"H-051 quorum 1, c is as far and has nofailover", sync(1, "b,c", answers("c", 100, func(p *Probe) { p.NoFailover = true })), false},
		{"H-051 quorum 1, c is as far and has the higher priority", sync(1, "b,c", answers("c", 100, func(p *Probe) { p.Priority = 2 })), false},
		{"a voter on a timeline of the past is behind", sync(1, "b,c", func(v *View) { v.Local.Timeline = 2; answers("c", 900, nil)(v) }), true},
		{"a failover by hand, out of the set", sync(1, "c,d", func(v *View) { v.Store.Cluster.Failover = FailoverRequest{Candidate: "b"} }), true},
		{"a switchover, out of the set", sync(1, "c,d", func(v *View) { v.Store.Cluster.Failover = FailoverRequest{Leader: "a", Candidate: "b"} }), false},
		{"one that is ahead but in no set", sync(0, "b", answers("d", 101, nil)), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := vacant()
			tc.with(&v)
			p := Decide(v)
			if got := acquires(p); got != tc.may {
				t.Errorf("may acquire: got %t, want %t (%s)", got, tc.may, p)
			}
		})
	}
}

func acquires(p Plan) bool {
	return slices.ContainsFunc(p.Actions, func(a Action) bool { _, ok := a.(AcquireLeader); return ok })
}

// TestVacancyProof holds what may and may not stand in for the former leader's silence (hole 5).
func TestVacancyProof(t *testing.T) {
	wait := VacancyWait(testTTL, testMargin)
	release := func(of, at int64) func(*View) {
		return func(v *View) {
			v.Store.Vacancy.LeaseGone = No
			v.Store.Cluster.Release = Release{LeaderRevision: of, Name: "a", ModRevision: at}
		}
	}
	// looked makes b one that saw the store for the first time when the key was gone already.
	looked := func(f func(*View)) func(*View) {
		return func(v *View) {
			f(v)
			v.Store.Vacancy.Revision, v.Store.Vacancy.Lease = 0, 0
		}
	}
	fresh := func(v *View) {
		v.Store.Cluster.Reign, v.Store.Cluster.Status = Reign{}, Status{}
		v.Store.Vacancy = Vacancy{Since: testNow - time.Second}
	}
	for _, tc := range []struct {
		name   string
		with   func(*View)
		proven bool
	}{
		{"the lease is gone", func(*View) {}, true},
		{"a deleted key with a live lease", func(v *View) { v.Store.Vacancy.LeaseGone = No }, false},
		{"a deleted key whose lease was not asked about", func(v *View) { v.Store.Vacancy.LeaseGone = Unknown }, false},
		{"the key is there", func(v *View) { v.Store.Vacancy = Vacancy{} }, false},
		{"a release record of that very key", release(leaderRev, 90), true},
		{"a release record of an older key", release(leaderRev-1, 90), false},
		{"a release record of a later key, which says nothing about this one", release(leaderRev+1, 90), false},
		{"a release record that is older than the reign", release(leaderRev, leaderRev-1), false},
		{"a release record seen by one who came later", looked(release(leaderRev, 90)), true},
		{"a stale release record of an older reign, seen by one who came later", looked(release(leaderRev-20, leaderRev-10)), false},
		{
			"a release record from before a Patroni led and published its position, seen by one who came later",
			looked(func(v *View) { release(leaderRev, 90)(v); v.Store.Cluster.Status.ModRevision = 95 }), false,
		},
		{"waited for ttl and margin", func(v *View) {
			v.Store.Vacancy = Vacancy{Since: testNow - wait, Revision: leaderRev, Lease: 11, LeaseGone: No}
		}, true},
		{"waited a nanosecond less", func(v *View) {
			v.Store.Vacancy = Vacancy{Since: testNow - wait + 1, Revision: leaderRev, Lease: 11, LeaseGone: No}
		}, false},
		{"nobody ever led", fresh, true},
		{"nobody of pgha ever led, but a Patroni is about", func(v *View) { fresh(v); setMember(v, "c", func(m *Member) { m.PghaVersion = "" }) }, false},
		{"nobody of pgha ever led, but somebody published a position", func(v *View) { fresh(v); v.Store.Cluster.Status = Status{Optime: 100, ModRevision: 60} }, false},
		{"nobody of pgha ever led, but there is a history", func(v *View) { fresh(v); v.Store.Cluster.HistorySeen = true }, false},
		{"the store was replaced: a lease it does not know proves nothing", func(v *View) { v.Store.Vacancy.Replaced = true }, false},
		{"the store was replaced: its release record proves nothing", func(v *View) { release(leaderRev, 90)(v); v.Store.Vacancy.Replaced = true }, false},
		{"the store was replaced: that it never saw a leader proves nothing", func(v *View) { fresh(v); v.Store.Vacancy.Replaced = true }, false},
		{"the store was replaced, and ttl and margin waited", func(v *View) { v.Store.Vacancy = Vacancy{Since: testNow - wait, Replaced: true} }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := vacant()
			tc.with(&v)
			v.Probes.StartedAt = max(v.Probes.StartedAt, v.Store.Vacancy.Since)
			if got := vacancyProven(&v); got != tc.proven {
				t.Errorf("proven: got %t, want %t (%q)", got, tc.proven, vacancyWhy(&v))
			}
			if v.Store.Vacancy.Since == 0 {
				return
			}
			if got := acquires(Decide(v)); got != tc.proven {
				t.Errorf("acquires: got %t, want %t", got, tc.proven)
			}
			v.Own = Own{}
			refused := Violation(v, Plan{Actions: []Action{AcquireLeader{}}})
			if tc.proven && refused != "" {
				t.Errorf("the guard refuses what is proven: %s", refused)
			}
		})
	}
}

// TestPeersAreToldWhoCannotLead: a planned change asks the candidate, so it must not be told of votes that
// only an unplanned one needs.
func TestPeersAreToldWhoCannotLead(t *testing.T) {
	v := healthyStandby()
	v.Store.Cluster.Sync = SyncState{
		Leader: "a", Standbys: []string{v.Self.Name}, ModRevision: 7,
		Electorate: &Electorate{Epoch: v.Store.Cluster.Reign.Epoch, LeaderData: "of a", Sets: []VoterSet{
			{Voters: []Voter{{Name: v.Self.Name, Data: "own"}}, Wait: 1, Quorum: 1},
		}},
	}
	v.Local.DataID = "own"
	if why := CannotLead(v); why != "" {
		t.Errorf("while a leads: %s", why)
	}
	v.Fencer.PromiseUntil = v.Now + time.Second
	if why := CannotLead(v); why != "" {
		t.Errorf("while a leads, and may hand the key over to whom it had promise: %s", why)
	}
	v.Store.Cluster.Leader = Leader{}
	if why := CannotLead(v); !strings.Contains(why, "promised") {
		t.Errorf("nobody leads, it promised not to race, and says: %q", why)
	}
	v.Fencer.PromiseUntil = 0
	if CannotLead(v) == "" {
		t.Error("the key of a synchronous cluster is vacant, and it says that it could take it by time")
	}
	v.Fencer.Lacks = "its fencer lacks something"
	if why := CannotLead(v); why != v.Fencer.Lacks {
		t.Errorf("its fencer lacks what is required, and it says: %q", why)
	}
	v.Fencer.Lacks = ""
	v.Self.Tags.NoFailover = true
	if CannotLead(v) == "" {
		t.Error("tagged nofailover, and it could lead")
	}
}

// TestABranchThatNobodyFollowedBarsNobody: the history may end with the timeline of a leader that fell
// before anybody followed it. In the synchronous modes the reign knows better.
func TestABranchThatNobodyFollowedBarsNobody(t *testing.T) {
	v := healthyStandby()
	c := &v.Store.Cluster
	c.HistorySeen, c.History = true, []TimelineRecord{{Timeline: v.Local.Timeline + 3}}
	c.Reign.ParentTimeline, c.Reign.NextTimeline = v.Local.Timeline, v.Local.Timeline+9
	if ineligible(&v) == "" {
		t.Error("with asynchronous replication a member behind the cluster's timeline may lead")
	}
	c.Sync = SyncState{Leader: "a", Standbys: []string{v.Self.Name}, ModRevision: 7}
	if why := ineligible(&v); why != "" {
		t.Errorf("on the timeline that the last leader came from: %s", why)
	}
	c.Reign.ParentTimeline++
	if ineligible(&v) == "" {
		t.Error("on a timeline older than the one that the last leader came from, and it may lead")
	}
}
