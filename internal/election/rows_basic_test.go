package election

import "time"

func blockRows() []row {
	other := func(v *View) { v.Local.SystemID = "7999" }
	return []row{
		{
			name: "nothing is done before the store was read", view: healthyStandby(), rule: "store.unread", trouble: true,
			with: func(v *View) { v.Store = Store{} },
		},
		{
			name: "nothing is done before the local server was looked at", view: healthyStandby(), rule: "local.unobserved",
			with: func(v *View) { v.Local = Local{} }, wake: time.Second,
		},
		{
			name: "an unknown server of a known directory is waited for", view: downStandby(), rule: "local.unobserved",
			with: func(v *View) { v.Local.Server = ServerUnknown },
		},
		{
			name: "a standby of another system is left alone", view: healthyStandby(), rule: "system.mismatch", with: other, trouble: true,
			says: "7999",
		},
		{
			name: "a primary of another system is silenced", view: healthyStandby(), rule: "system.mismatch", trouble: true,
			with: func(v *View) { other(v); v.Local.Role = RolePrimary },
			want: []Action{Demote{Why: "system identifier mismatch"}},
		},
		{
			name: "the key of a leader of another system that is down is released", view: healthyLeader(), rule: "system.mismatch", trouble: true,
			with: func(v *View) { other(v); v.Local.Server = ServerDown },
			want: []Action{ReleaseLeader{Why: "system identifier mismatch"}},
		},
		{
			name: "the key of a leader of another system that is a standby is given up", view: healthyLeader(), rule: "system.mismatch", trouble: true,
			with: func(v *View) {
				other(v)
				v.Local.Role, v.Local.Signal = RoleStandby, true
			},
			want: []Action{StopServer{Fast: true, ReleaseAfter: true}},
		},
		{
			name: "a paused primary of another system is left as it is", view: healthyLeader(), rule: "system.mismatch", trouble: true,
			with: func(v *View) { other(v); v.Policy.Pause = true },
		},
	}
}

func jobRows() []row {
	clone := func(v *View) { v.Job = Job{Kind: JobClone, Detail: "a", For: leaderRev} }
	return []row{
		{
			name: "a start of a primary is called off when the margin is reached", view: healthyLeader(), rule: "job.title_lost", trouble: true,
			with: func(v *View) {
				v.Job = Job{Kind: JobStart, Writable: true}
				v.Own.Sent = testNow - testTTL + 2*testMargin
			},
			want: []Action{CancelJob{Why: "title lost"}},
		},
		{
			name: "a promotion is called off when the key is another's", view: healthyLeader(), rule: "job.title_lost", trouble: true,
			with: func(v *View) {
				v.Job = Job{Kind: JobPromote, Writable: true}
				v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
			},
			want: []Action{CancelJob{Why: "title lost"}},
		},
		{
			name: "a job that is being called off is not called off again", view: healthyLeader(), rule: "job.running",
			with: func(v *View) { v.Job = Job{Kind: JobStart, Writable: true, Cancelling: true}; v.Own.Sent = 0 },
		},
		{
			name: "a promotion under a good title goes on", view: healthyLeader(), rule: "job.running",
			with: func(v *View) { v.Job = Job{Kind: JobPromote, Writable: true} }, says: "the promote job is running",
		},
		{
			name: "a clone is called off when the agent stops", view: downStandby(), rule: "job.stop_asked",
			with: func(v *View) { clone(v); v.Stopping = true }, want: []Action{CancelJob{Why: "agent stops"}},
		},
		{
			name: "a demotion is not called off when the agent stops", view: downStandby(), rule: "job.running",
			with: func(v *View) { v.Job = Job{Kind: JobDemote}; v.Stopping = true },
		},
		{
			name: "a clone is called off when its source lost the key", view: downStandby(), rule: "job.source_gone",
			with: func(v *View) {
				clone(v)
				v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
			},
			want: []Action{CancelJob{Why: "source lost the leader key"}},
		},
		{
			name: "a clone goes on when the same leader rewrote its key", view: downStandby(), rule: "job.running",
			with: func(v *View) { clone(v); v.Store.Cluster.Leader.ModRevision = 95 }, says: "(a)",
		},
		{
			name: "a clone goes on while nobody leads", view: downStandby(), rule: "job.running",
			with: func(v *View) { clone(v); v.Store.Cluster.Leader = Leader{} },
		},
		{
			name: "a comparison is called off when its leader leads no more", view: downStandby(), rule: "job.compare_moot",
			with: func(v *View) {
				v.Job = Job{Kind: JobCompare, Detail: "a", For: v.Store.Cluster.Leader.ModRevision}
				v.Store.Cluster.Revision++
				v.Store.Cluster.Leader = Leader{}
			},
			want: []Action{CancelJob{Why: "its leader leads no more"}},
		},
		{
			name: "a comparison with the present leader goes on", view: downStandby(), rule: "job.running",
			with: func(v *View) { v.Job = Job{Kind: JobCompare, Detail: "a", For: v.Store.Cluster.Leader.ModRevision} },
		},
	}
}

func stopRows() []row {
	stop := func(v *View) { v.Stopping, v.StopAsked = true, testNow }
	down := func(v *View) { stop(v); v.Local.Server = ServerDown }
	return []row{
		{
			name: "a leader's server is shut down and the key given up", view: healthyLeader(), rule: "stop.server", with: stop,
			want: []Action{StopServer{Fast: true, ReleaseAfter: true}},
		},
		{
			name: "a standby is shut down", view: healthyStandby(), rule: "stop.server", with: stop,
			want: []Action{StopServer{Fast: true}},
		},
		{
			name: "a synchronous standby signs off first", view: syncVoter(), rule: "stop.sign_off", with: stop,
		},
		{
			name: "a synchronous standby that the primary has let go", view: syncVoter(), rule: "stop.server",
			with: func(v *View) { stop(v); publish(v, syncOf(setOf(1, "c"))) }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "a change of the set has begun, and the old one still names the member", view: syncVoter(), rule: "stop.sign_off",
			with: func(v *View) { stop(v); publish(v, syncOf(setOf(1, "b", "c"), setOf(1, "c"))) },
		},
		{
			name: "the only voter of a strict set cannot be let go", view: syncVoter(), rule: "stop.server",
			with: func(v *View) { stop(v); v.Policy.Sync.Strict = true; publish(v, syncOf(setOf(1, "b"))) }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "the only voter of a set that may be empty", view: syncVoter(), rule: "stop.sign_off",
			with: func(v *View) { stop(v); publish(v, syncOf(setOf(1, "b"))) },
		},
		{
			name: "the primary does not let go in time", view: syncVoter(), rule: "stop.server",
			with: func(v *View) { stop(v); v.StopAsked -= 2 * v.Policy.LoopWait }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "without a primary nobody can let go", view: syncVoter(), rule: "stop.server",
			with: func(v *View) { stop(v); v.Store.Cluster.Leader = Leader{} }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "a frozen voter has no primary to sign off with", view: frozenVoter(), rule: "stop.server", with: stop, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "a standby that Patroni's fields name", view: syncVoter(), rule: "stop.sign_off",
			with: func(v *View) { stop(v); publish(v, SyncState{Leader: "a", Standbys: []string{"B"}}) },
		},
		{
			name: "a member that never is a voter", view: syncVoter(), rule: "stop.server",
			with: func(v *View) { stop(v); v.Self.Tags.NoSync = true }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "an unread store does not hold up the shutdown", view: healthyStandby(), rule: "stop.server",
			with: func(v *View) { stop(v); v.Store = Store{} }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "a directory of another system does not hold up the shutdown", view: healthyStandby(), rule: "stop.server",
			with: func(v *View) { stop(v); v.Local.SystemID = "7999" }, want: []Action{StopServer{Fast: true}},
		},
		{
			name: "the key of a server that is down is released", view: healthyLeader(), rule: "stop.release", with: down,
			want: []Action{ReleaseLeader{Why: "agent stopped"}},
		},
		{
			name: "the key is released even within the margin, because the server is down", view: healthyLeader(), rule: "stop.release",
			with: func(v *View) { down(v); v.Own.Sent = testNow - testTTL + testMargin/2 },
			want: []Action{ReleaseLeader{Why: "agent stopped"}},
		},
		{
			name: "a lease that is over needs no release, so a silent store cannot hold up the end", view: healthyLeader(), rule: "stop.forget",
			with: func(v *View) { down(v); v.Own.Sent = testNow - testTTL }, want: []Action{ForgetLeader{}},
		},
		{
			name: "a key that is another's is not released", view: healthyLeader(), rule: "stop.forget",
			with: func(v *View) {
				down(v)
				v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
			},
			want: []Action{ForgetLeader{}},
		},
		{name: "a standby that is down is done", view: downStandby(), rule: "stop.done", with: stop},
		{
			name: "an empty directory is done", view: emptyStore(), rule: "stop.done", with: stop,
		},
	}
}

func titleRows() []row {
	taken := func(v *View) {
		v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
	}
	vanished := func(v *View) { v.Store.Cluster.Leader = Leader{} }
	late := func(v *View) { v.Own.Sent = testNow - testTTL + 2*testMargin }
	const why = "lease margin reached"
	return []row{
		{
			name: "paused and out of time, the title is forgotten and the server runs on (row H-181)", view: healthyLeader(),
			rule: "title.pause_lost", trouble: true, with: func(v *View) { v.Policy.Pause = true; late(v) }, want: []Action{ForgetLeader{}},
		},
		{
			name: "paused, out of time and the key expired: the server still runs on (row H-174)", view: healthyLeader(),
			rule: "title.pause_lost", trouble: true, with: func(v *View) { v.Policy.Pause = true; late(v); vanished(v) }, want: []Action{ForgetLeader{}},
		},
		{
			name: "paused and the key taken, the server runs on (row H-057)", view: healthyLeader(),
			rule: "title.pause_lost", trouble: true, with: func(v *View) { v.Policy.Pause = true; taken(v) }, want: []Action{ForgetLeader{}},
		},
		{
			name: "out of time with the server down", view: healthyLeader(), rule: "title.forget",
			with: func(v *View) { v.Local.Server = ServerDown; late(v) }, want: []Action{ForgetLeader{}},
		},
		{
			name: "taken by another member", view: healthyLeader(), rule: "title.taken", trouble: true, with: taken, says: "taken over by c",
			want: []Action{Demote{Why: "leader key taken"}},
		},
		{
			name: "taken by somebody of the own name under another lease (hole 8)", view: healthyLeader(), rule: "title.taken", trouble: true,
			with: func(v *View) { v.Store.Cluster.Leader.ModRevision, v.Store.Cluster.Leader.Lease = 95, 99 },
			want: []Action{Demote{Why: "leader key taken"}},
		},
		{
			name: "an older snapshot with another leader proves nothing", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) {
				taken(v)
				v.Store.Cluster.Leader.ModRevision = 30
				v.Store.Cluster.Revision = leaderRev - 1
			},
		},
		{
			name: "the margin is reached to the nanosecond", view: healthyLeader(), rule: "title.margin", trouble: true, with: late,
			want: []Action{Demote{Why: why}},
		},
		{
			name: "one nanosecond before the margin nothing happens", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) { late(v); v.Own.Sent++ },
		},
		{
			name: "the floor of the granted time to live counts when the configured margin is below it", view: healthyLeader(),
			rule: "title.margin", trouble: true, want: []Action{Demote{Why: why}},
			with: func(v *View) {
				v.Own.TTL = 30 * time.Second
				v.Own.Sent = testNow - 30*time.Second + 2*MarginFloor(30*time.Second)
			},
		},
		{
			name: "a running server of unknown role is silenced as well", view: healthyLeader(), rule: "title.margin", trouble: true,
			with: func(v *View) { late(v); v.Local.Server, v.Local.Role = ServerSilent, RoleUnknown }, want: []Action{Demote{Why: why}},
		},
		{
			name: "the holder puts its deleted key back", view: healthyLeader(), rule: "title.vanished", trouble: true, with: vanished,
			want: []Action{AcquireLeader{Reign: Reign{
				Epoch: 2, Holder: "a", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("a"),
			}}},
		},
		{
			name: "a key put back while the server starts keeps the timelines of its reign", view: healthyLeader(), rule: "title.vanished", trouble: true,
			with: func(v *View) {
				vanished(v)
				v.Local.Server, v.Local.Timeline = ServerStarting, 0
				v.Store.Cluster.Reign.ParentTimeline, v.Store.Cluster.Reign.NextTimeline, v.Store.Cluster.Reign.LSN = 4, 6, 77
			},
			want: []Action{AcquireLeader{Reign: Reign{
				Epoch: 2, Holder: "a", ParentTimeline: 4, NextTimeline: 6, LSN: 77, Lease: leaseOf("a"),
			}}},
		},
		{
			name: "a key that went after another had led since is not put back", view: healthyLeader(), rule: "title.taken", trouble: true,
			with: func(v *View) {
				vanished(v)
				v.Store.Cluster.Reign.Holder, v.Store.Cluster.Reign.ModRevision = "c", v.Own.Revision+1
			},
			want: []Action{Demote{Why: "leader key taken"}},
		},
		{
			name: "a key put back before the promotion keeps the timeline that it reserved", view: healthyLeader(), rule: "title.vanished", trouble: true,
			with: func(v *View) {
				vanished(v)
				r := &v.Store.Cluster.Reign
				r.Holder, r.ParentTimeline, r.NextTimeline, r.LSN = v.Self.Name, v.Local.Timeline, 6, 77
			},
			want: []Action{AcquireLeader{Reign: Reign{
				Epoch: 2, Holder: "a", ParentTimeline: 1, NextTimeline: 6, LSN: 77, Lease: leaseOf("a"),
			}}},
		},
		{
			name: "without a lease there is nothing to hang it on", view: healthyLeader(), rule: "title.vanished", trouble: true,
			with: func(v *View) { vanished(v); v.Lease = 0 }, wake: vanishedRetry,
		},
		{
			name: "the key hangs on the own lease: it was handed over", view: healthyStandby(), rule: "title.adopt",
			with: func(v *View) {
				v.Store.Cluster.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: leaseOf("b")}
			},
			want: []Action{AdoptHandOver{Revision: 95}},
		},
		{
			name: "the own write that put the key back is seen before its answer: no reason to fall silent", view: healthyLeader(), rule: "title.adopt",
			with: func(v *View) { v.Store.Cluster.Leader.ModRevision = 95 }, want: []Action{AdoptHandOver{Revision: 95}},
		},
		{
			name: "a key on the own lease does not stretch time", view: healthyLeader(), rule: "title.margin", trouble: true,
			with: func(v *View) { v.Store.Cluster.Leader.ModRevision = 95; late(v) }, want: []Action{Demote{Why: why}},
		},
	}
}

func pauseRows() []row {
	pause := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Policy.Pause = true
			if f != nil {
				f(v)
			}
		}
	}
	primary := func(v *View) { v.Local.Role, v.Local.Signal = RolePrimary, false }
	return []row{
		{
			name: "a running primary takes a free key", view: vacant(), rule: "pause.take_free_key", with: pause(primary),
			want: []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")}}},
		},
		{
			name: "a free key is not taken before its vacancy is proven", view: vacant(), rule: "pause.primary_without_key", trouble: true,
			with: pause(func(v *View) { primary(v); v.Store.Vacancy.LeaseGone = No }),
		},
		{
			name: "a free key is not taken for a system that nobody knows", view: vacant(), rule: "pause.primary_without_key", trouble: true,
			with: pause(func(v *View) { primary(v); v.Store.Cluster.Initialize = Initialize{} }),
		},
		{
			name: "the key of a leader that is down is released", view: healthyLeader(), rule: "pause.release", trouble: true,
			with: pause(func(v *View) { v.Local.Server = ServerDown }), want: []Action{ReleaseLeader{Why: "server down while paused"}},
		},
		{
			name: "a primary without the key runs on", view: healthyStandby(), rule: "pause.primary_without_key", trouble: true, with: pause(primary),
		},
		{
			name: "a primary without the key that does not answer runs on", view: healthyStandby(), rule: "pause.primary_without_key", trouble: true,
			with: pause(func(v *View) { primary(v); v.Local.Server = ServerSilent }),
		},
		{
			name: "a primary that is starting without the key goes on", view: healthyStandby(), rule: "pause.primary_without_key", trouble: true,
			with: pause(func(v *View) { primary(v); v.Local.Server = ServerStarting }),
		},
		{name: "nobody is elected", view: vacant(), rule: "pause.no_leader", trouble: true, with: pause(nil)},
		{
			name: "the candidate of a failover by hand is elected", view: vacant(), rule: "race.acquire",
			with: pause(func(v *View) { v.Store.Cluster.Failover = FailoverRequest{Candidate: "b", ModRevision: 90} }),
			want: []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")}}},
		},
		{
			name: "a leader's server that is starting is left alone", view: healthyLeader(), rule: "pause.leader_not_running",
			with: pause(func(v *View) { v.Local.Server = ServerStarting }),
		},
		{
			name: "a key that this very server led by is free at once", view: pausedAway(), rule: "pause.take_free_key", with: pause(nil), want: back(),
		},
		{name: "a paused leader leads", view: healthyLeader(), rule: "leader.steady", with: pause(nil)},
		{name: "a paused standby follows", view: healthyStandby(), rule: "member.steady", with: pause(nil)},
	}
}
