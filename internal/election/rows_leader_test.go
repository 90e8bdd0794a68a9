package election

import (
	"slices"
	"time"
)

func ownerRows() []row {
	return []row{
		{
			name: "a title without a look at the server means nothing yet", view: healthyLeader(), rule: "leader.unobserved",
			with: func(v *View) { v.Local = Local{} }, wake: time.Second,
		},
		{
			name: "the directory is gone under the running server", view: healthyLeader(), rule: "leader.data_gone", trouble: true,
			with: func(v *View) { v.Local.Data = DataEmpty }, want: []Action{Demote{Why: "data directory gone"}},
		},
		{
			name: "the directory is gone and the server down", view: healthyLeader(), rule: "leader.data_gone", trouble: true,
			with: func(v *View) { v.Local.Data, v.Local.Server = DataEmpty, ServerDown },
			want: []Action{ReleaseLeader{Why: "data directory gone"}},
		},
		{
			name: "the fencer does not answer", view: healthyLeader(), rule: "leader.fencer_lost", trouble: true,
			with: func(v *View) { v.Fencer = Fencer{} },
		},
		{
			name: "the postmaster is gone and its processes may be left", view: healthyLeader(), rule: "leader.dying",
			with: func(v *View) { v.Local.Server = ServerDying },
		},
		{
			name: "the postmaster does not answer", view: healthyLeader(), rule: "leader.silent", trouble: true,
			with: func(v *View) { v.Local.Server = ServerSilent },
		},
		{
			name: "an operator's restart", view: healthyLeader(), rule: "leader.restart_command",
			with: func(v *View) { v.Commands = []Command{{Kind: CommandRestart, ID: 7}} }, want: []Action{RestartServer{Command: 7}},
		},
		{
			name: "the winner of the race is promoted", view: healthyLeader(), rule: "leader.promote",
			with: toBePromoted, want: []Action{Promote{}},
		},
		{
			name: "a server that was promoted in this very reign is not promoted again (hole 10)", view: healthyLeader(), rule: "leader.reserve", trouble: true,
			with: func(v *View) { toBePromoted(v); v.Local.Timeline = v.Store.Cluster.Reign.NextTimeline },
			want: []Action{StopServer{Fast: true, ReleaseAfter: true}},
		},
		{
			name: "a promotion that failed for another key is tried again", view: healthyLeader(), rule: "leader.promote",
			with: func(v *View) {
				toBePromoted(v)
				r := failed(JobPromote, ClassOther, startAttempts, time.Minute)
				r.For = leaderRev - 20
				v.Results = []JobResult{r}
			},
			want: []Action{Promote{}},
		},
		{
			name: "a promotion that failed too often gives the key up", view: healthyLeader(), rule: "leader.promote", trouble: true,
			with: func(v *View) {
				toBePromoted(v)
				r := failed(JobPromote, ClassOther, startAttempts, time.Second)
				r.For = leaderRev
				v.Results = []JobResult{r}
			},
			want: []Action{StopServer{Fast: true, ReleaseAfter: true}},
		},
		{name: "a leader that lacks nothing", view: healthyLeader(), rule: "leader.steady"},
		{
			name: "a leader whose lease was proven a moment ago in an unread part of the store", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { v.Store.FreshAt = 0 },
		},
	}
}

func startRows() []row {
	down := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Local.Server = ServerDown
			if f != nil {
				f(v)
			}
		}
	}
	starting := func(v *View) { v.Local.Server, v.Local.Since = ServerStarting, testNow-301*time.Second }
	return []row{
		{name: "a crashed primary is started in place", view: healthyLeader(), rule: "leader.restart_in_place", with: down(nil), want: []Action{StartPrimary{}}},
		{
			name: "a start that was called off thrice is tried again", view: healthyLeader(), rule: "leader.restart_in_place",
			with: down(func(v *View) { v.Results = []JobResult{failed(JobStart, ClassCanceled, 3, time.Second)} }), want: []Action{StartPrimary{}},
		},
		{
			name: "a standby that won the key and stopped is started as a standby", view: healthyLeader(), rule: "leader.start_as_standby",
			with: down(toBePromoted), want: []Action{StartStandby{}},
		},
		{
			name: "nor is it started for that", view: healthyLeader(), rule: "leader.reserve", trouble: true,
			with: down(func(v *View) { toBePromoted(v); v.Local.Timeline = v.Store.Cluster.Reign.NextTimeline }),
			want: []Action{ReleaseLeader{Why: "timeline 2, reserved for this reign, is used"}},
		},
		{
			name: "a server that does not come up gives the key up", view: healthyLeader(), rule: "leader.give_up", trouble: true,
			with: down(func(v *View) { v.Results = []JobResult{failed(JobStart, ClassEnv, 3, time.Second)} }),
			want: []Action{ReleaseLeader{Why: "server does not start"}},
		},
		{
			name: "a recovery that takes too long is ended when another could lead", view: healthyLeader(), rule: "leader.start_timeout", trouble: true,
			with: starting, want: []Action{StopServer{ReleaseAfter: true}},
		},
		{
			name: "a recovery that takes long goes on when nobody else could lead", view: healthyLeader(), rule: "leader.starting",
			with: func(v *View) {
				starting(v)
				setMember(v, "b", func(m *Member) { m.Tags.NoFailover = true })
				setMember(v, "c", func(m *Member) { m.State = StateStopped })
			},
		},
		{
			name: "a recovery within primary_start_timeout goes on", view: healthyLeader(), rule: "leader.starting",
			with: func(v *View) { v.Local.Server, v.Local.Since = ServerStarting, testNow-299*time.Second },
		},
	}
}

func offer(v *View, name string) {
	v.Store.Cluster.Offers = []Offer{{Name: name, Lease: leaseOf(name), For: v.Own.Revision, ModRevision: 92}}
}

func refused(why string) []Action { return []Action{ClearFailover{Revision: 90, Why: why}} }

func switchoverRows() []row {
	at := func(d time.Duration) func(*View) {
		return func(v *View) { v.Store.Cluster.Failover.ScheduledAt = testWall.Add(d) }
	}
	rows := []row{
		{
			name: "the local server is looked at once more first", view: asked("b"), rule: "switchover.look",
			with: func(v *View) { v.Store.FailoverAt = testNow; v.Local.At = testNow - time.Millisecond }, wake: 50 * time.Millisecond,
		},
		{
			name: "scheduled for later", view: asked("b"), rule: "switchover.scheduled", with: at(time.Hour), wake: time.Hour,
		},
		{
			name: "without a candidate the most advanced standby is named", view: asked(""), rule: "switchover.name_candidate",
			with: func(v *View) { v.Local.Walsenders[0].LSN = 90 }, want: []Action{NameCandidate{Candidate: "c", Revision: 90}},
		},
		{
			name: "without a candidate the higher priority is named among equals", view: asked(""), rule: "switchover.name_candidate",
			with: func(v *View) { setMember(v, "c", func(m *Member) { m.Tags.FailoverPriority = 2 }) },
			want: []Action{NameCandidate{Candidate: "c", Revision: 90}},
		},
		{
			name: "without a candidate the first by name is named among equals", view: asked(""), rule: "switchover.name_candidate",
			with: func(v *View) { c := v.Store.Cluster.Members; c[1], c[2] = c[2], c[1] },
			want: []Action{NameCandidate{Candidate: "b", Revision: 90}},
		},
		{
			name: "the candidate has offered its lease", view: asked("b"), rule: "switchover.hand_over",
			with: func(v *View) { offer(v, "b") }, want: []Action{HandOver{Candidate: "b", OfferRevision: 92}},
		},
		{
			name: "a Patroni cannot offer and is handed the key by a release", view: asked("b"), rule: "switchover.hand_over",
			with: func(v *View) { setMember(v, "b", func(m *Member) { m.PghaVersion = "" }) }, want: []Action{HandOver{Candidate: "b"}},
		},
		{
			name: "a manual failover names no leader", view: asked("b"), rule: "switchover.hand_over",
			with: func(v *View) { v.Store.Cluster.Failover.Leader = ""; offer(v, "b") }, want: []Action{HandOver{Candidate: "b", OfferRevision: 92}},
		},
		{name: "the candidate has not offered yet", view: asked("b"), rule: "switchover.wait_offer"},
		{
			name: "an offer for an older key does not count (hole 16)", view: asked("b"), rule: "switchover.wait_offer",
			with: func(v *View) { offer(v, "b"); v.Store.Cluster.Offers[0].For = leaderRev - 1 },
		},
		{
			name: "an offer of a lease that the member key does not hang on does not count (hole 16)", view: asked("b"), rule: "switchover.wait_offer",
			with: func(v *View) { offer(v, "b"); v.Store.Cluster.Offers[0].Lease = 99 },
		},
		{
			name: "a scheduled switchover gives its candidate time from the moment it is due", view: asked("b"), rule: "switchover.wait_offer",
			with: func(v *View) { at(-switchoverTime / 2)(v); v.Store.FailoverAt = testNow - time.Hour },
		},
	}
	for _, r := range []struct {
		name, candidate, why string
		with                 func(*View)
	}{
		{"the leader is another", "b", "the leader is a, not c", func(v *View) { v.Store.Cluster.Failover.Leader = "c" }},
		{"the candidate leads already", "a", "a is already the leader", nil},
		{"nothing is scheduled while paused", "b", "nothing scheduled is done while the cluster is paused", func(v *View) { at(time.Hour)(v); v.Policy.Pause = true }},
		{"a paused cluster needs a named candidate", "", "a paused cluster switches over only to a named candidate", func(v *View) { v.Policy.Pause = true }},
		{"the time is over", "b", "it was scheduled for 2026-01-02T03:03:05Z, which is over", at(-time.Minute)},
		{"nobody streams", "", "no standby streams from the leader closely enough", func(v *View) { v.Local.Walsenders = nil }},
		{"there is no such member", "x", "there is no member x", nil},
		{"the candidate is tagged nofailover", "b", "b is tagged nofailover", func(v *View) { setMember(v, "b", func(m *Member) { m.Tags.NoFailover = true }) }},
		{"the candidate has no address", "b", "b has no API address", func(v *View) { setMember(v, "b", func(m *Member) { m.APIURL = "" }) }},
		{"the candidate does not run", "b", "b is not running (stopped)", func(v *View) { setMember(v, "b", func(m *Member) { m.State = StateStopped }) }},
		{"the candidate only catches up", "b", "b does not stream from the leader", func(v *View) { v.Local.Walsenders[0].State = "catchup" }},
		{"the candidate is too far behind", "b", "b is 60 bytes behind, more than maximum_lag_on_failover (50)", func(v *View) { v.Policy.MaximumLag = 50; v.Local.Walsenders[0].LSN = 40 }},
		{"the hand-over failed for this request", "b", "the hand-over failed: it broke", func(v *View) {
			r := failed(JobHandOver, ClassPeer, 1, time.Second)
			r.For = 90
			v.Results = []JobResult{r}
		}},
		{"the candidate never offered its lease", "b", "b has not offered to take over within 10s", func(v *View) { v.Store.FailoverAt = testNow - 11*time.Second }},
	} {
		rows = append(rows, row{
			name: r.name, view: asked(r.candidate), with: r.with, rule: "switchover.refused", want: refused(r.why), says: r.why, trouble: true,
		})
	}
	return rows
}

func reconcileRows() []row {
	leads := func(id RuleID, name string, with func(*View), want ...Action) row {
		return row{name: name, view: healthyLeader(), rule: "leader.steady", with: with, also: []RuleID{id}, want: want}
	}
	return []row{
		leads("reconcile.config", "a new configuration is applied", func(v *View) { v.Local.ConfigRev = 7 }, ApplyConfig{}),
		{
			name: "a standby applies a new configuration as well", view: healthyStandby(), rule: "member.steady", also: []RuleID{"reconcile.config"},
			with: func(v *View) { v.Local.ConfigRev = 7 }, want: []Action{ApplyConfig{}},
		},
		leads("reconcile.initialize", "a lost initialize key is repaired", func(v *View) { v.Store.Cluster.Initialize = Initialize{State: BootstrapNever} }, WriteInitialize{}),
		leads("reconcile.restore_config", "a lost configuration is written back", func(v *View) { v.Store.Cluster.ConfigRev = 0 }, RestoreConfig{}),
		leads("reconcile.slots", "a missing slot is made", func(v *View) { v.Local.SlotMembers = []string{"b"} }, SetSlots{Members: []string{"b", "c"}}),
		leads("reconcile.slots", "a member that streams from another needs no slot here", func(v *View) {
			setMember(v, "c", func(m *Member) { m.Tags.ReplicateFrom = "b" })
		}, SetSlots{Members: []string{"b"}}),
		leads("reconcile.slots", "a member that streams from nobody needs no slot", func(v *View) {
			setMember(v, "c", func(m *Member) { m.Tags.NoStream = true })
		}, SetSlots{Members: []string{"b"}}),
		{
			name: "a member whose source is gone gets its slot here (row H-096)", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { setMember(v, "c", func(m *Member) { m.Tags.ReplicateFrom = "x" }) },
		},
		{
			name: "members in another order need the same slots", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { slices.Reverse(v.Store.Cluster.Members) },
		},
		{
			name: "slots that could not be read are left alone", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { v.Local.SlotMembers, v.Local.SlotsKnown = nil, false },
		},
		leads("reconcile.status", "a position that moved is published", func(v *View) { v.Local.LSN = 200 }, WriteStatus{Optime: 200}),
		{
			name: "a position is published once per heartbeat at most", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { v.Local.LSN = 200; v.Store.StatusAt = testNow - 2*time.Second },
		},
		leads("reconcile.history", "the history of a new timeline is published", func(v *View) { v.Local.Timeline = 2 }, WriteHistory{}),
		leads("reconcile.history", "a history left over on timeline one is emptied (row D-71)", func(v *View) {
			v.Store.Cluster.History, v.Store.Cluster.HistorySeen = []TimelineRecord{{Timeline: 1}}, true
		}, WriteHistory{}),
		{
			name: "a history that ends where the timeline began is left alone", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) {
				v.Local.Timeline = 3
				v.Store.Cluster.History, v.Store.Cluster.HistorySeen = []TimelineRecord{{Timeline: 1}, {Timeline: 2}}, true
			},
		},
		leads("reconcile.checkpoint", "a checkpoint follows a promotion", func(v *View) { v.Local.PromotedCheckpoint = No }, CheckpointNow{}),
		leads("reconcile.failover_done", "the request that made this member the leader is cleared, and not called refused", func(v *View) {
			v.Store.Cluster.Failover = FailoverRequest{Leader: "c", Candidate: "a", ModRevision: leaderRev - 1}
		}, ClearFailover{Revision: leaderRev - 1, Why: "done"}),
	}
}
