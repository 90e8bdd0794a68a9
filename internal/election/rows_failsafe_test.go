package election

import "time"

// failsafeSet are a, b and c as a publishes them.
func failsafeSet() []FailsafeMember {
	var out []FailsafeMember
	for _, n := range []string{"a", "b", "c"} {
		out = append(out, FailsafeMember{Name: n, APIURL: "http://" + n + ":8008/patroni"})
	}
	return out
}

// cutOff is a, which has published the failsafe set and cannot reach the store any more.
func cutOff() View {
	v := healthyLeader()
	v.Policy.FailsafeMode = true
	v.Store.Cluster.Failsafe, v.Store.Cluster.FailsafeRev = failsafeSet(), 60
	v.Own.Sent = testNow - 4500*time.Millisecond
	return v
}

func failsafeRows() []row {
	ask := []Action{AskPromises{Members: failsafeSet()[1:]}}
	no := func(name string, with func(*View)) row {
		return row{name: name, view: cutOff(), rule: "leader.steady", with: with}
	}
	return []row{
		{name: "the store is silent: the others are asked", view: cutOff(), rule: "leader.failsafe", trouble: true, want: ask},
		{
			name: "in the middle of a job", view: cutOff(), rule: "leader.failsafe", trouble: true, want: ask,
			with: func(v *View) { v.Job = Job{Kind: JobRestart, Writable: true} },
		},
		{
			name: "a set of unknown outcome is asked as well", view: cutOff(), rule: "leader.failsafe", trouble: true,
			with: func(v *View) { v.Failsafe.Unsettled = []FailsafeMember{{"a", "x"}, {"d", "http://d"}} },
			want: []Action{AskPromises{Members: append(failsafeSet()[1:], FailsafeMember{"d", "http://d"})}},
		},
		{
			name: "a refusal is asked about again", view: cutOff(), rule: "leader.failsafe", trouble: true, says: "refused by c", want: ask,
			with: func(v *View) { v.Failsafe.DoneAt, v.Failsafe.Refused = testNow-time.Second, "c: it is frozen" },
		},
		{
			name: "alone in the set nobody has to promise", view: cutOff(), rule: "leader.failsafe", trouble: true,
			with: func(v *View) { v.Store.Cluster.Failsafe = failsafeSet()[:1] }, want: []Action{AskPromises{}},
		},
		{
			name: "the promises wear off", view: cutOff(), rule: "leader.failsafe", trouble: true, want: ask,
			with: func(v *View) {
				v.Own.Sent, v.Own.Promised = testNow-testTTL, testNow-4*time.Second
				v.Failsafe.DoneAt = v.Own.Promised
			},
		},
		no("the promises are fresh", func(v *View) {
			v.Own.Sent, v.Own.Promised = testNow-testTTL, testNow-time.Second
			v.Failsafe.DoneAt = v.Own.Promised
		}),
		no("a round is under way", func(v *View) { v.Failsafe.Asking = true }),
		no("a round failed a moment ago", func(v *View) { v.Failsafe.DoneAt, v.Failsafe.Refused = testNow-500*time.Millisecond, "c" }),
		no("a renewal is only a little late", func(v *View) { v.Own.Sent = testNow - 4*time.Second }),
		no("a write that gives the set up is on its way", func(v *View) { v.Failsafe.Opening = true }),
		no("failsafe mode is off, and the title rests on promises: the set stays", func(v *View) {
			v.Policy.FailsafeMode = false
			v.Own.Promised, v.Failsafe.DoneAt = testNow-time.Second, testNow-time.Second
		}),
		no("a member came while a round runs: the set stays", func(v *View) {
			v.Store.Cluster.Failsafe = failsafeSet()[:2]
			v.Own.Sent, v.Failsafe.Asking = testNow-time.Second, true
		}),
		no("a member came, and the title rests on promises: the set stays", func(v *View) {
			v.Store.Cluster.Failsafe = failsafeSet()[:2]
			v.Own.Promised, v.Failsafe.DoneAt = testNow-time.Second, testNow-time.Second
		}),
		{
			name: "failsafe mode is off, so the set goes", view: cutOff(), rule: "leader.steady", with: func(v *View) { v.Policy.FailsafeMode = false },
			want: []Action{WriteFailsafe{}}, also: []RuleID{"reconcile.failsafe"},
		},
		{
			name: "a set that was never written is none", view: cutOff(), rule: "leader.steady",
			with: func(v *View) { v.Store.Cluster.Failsafe, v.Store.Cluster.FailsafeRev = nil, 0 },
			want: []Action{WriteFailsafe{Members: failsafeSet()}}, also: []RuleID{"reconcile.failsafe"},
		},
		no("a set seen before this reign is none", func(v *View) { v.Store.Cluster.Leader.ModRevision, v.Store.Cluster.Revision = leaderRev-9, leaderRev-1 }),
		{
			name: "a member came", view: healthyLeader(), rule: "leader.steady", also: []RuleID{"reconcile.failsafe"},
			with: func(v *View) {
				v.Policy.FailsafeMode = true
				v.Store.Cluster.Failsafe, v.Store.Cluster.FailsafeRev = failsafeSet()[:2], 60
			},
			want: []Action{WriteFailsafe{Members: failsafeSet()}},
		},
		{
			name: "the own member key is on its way back", view: healthyLeader(), rule: "leader.steady",
			with: func(v *View) {
				v.Policy.FailsafeMode = true
				v.Store.Cluster.Members = v.Store.Cluster.Members[1:]
				v.Store.Cluster.Failsafe, v.Store.Cluster.FailsafeRev = failsafeSet(), 60
			},
		},
		{
			name: "the margin ends what promises do not", view: cutOff(), rule: "title.margin", trouble: true,
			with: func(v *View) { v.Own.Sent = testNow - 7*time.Second }, want: []Action{Demote{Why: "lease margin reached"}},
		},
		{
			name: "the store is back without the key, and the promises hold", view: cutOff(), rule: "title.vanished", trouble: true,
			with: func(v *View) {
				v.Own.Sent, v.Own.Promised = testNow-2*testTTL, testNow-time.Second
				v.Store.Cluster.Leader = Leader{}
			},
			want: []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "a", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("a")}}},
		},
		{
			name: "not in the failsafe list, whatever the configuration says", view: vacant(), rule: "race.not_eligible", trouble: true, says: "failsafe",
			with: func(v *View) { v.Store.Cluster.Failsafe = []FailsafeMember{{Name: "a"}, {Name: "c"}} },
		},
		{
			name: "paused, a promise holds", view: vacant(), rule: "pause.primary_without_key", trouble: true,
			with: func(v *View) {
				v.Policy.Pause, v.Local.Role, v.Fencer.PromiseUntil = true, RolePrimary, testNow+time.Second
			},
		},
	}
}

// syncTitleRows are those of who comes to lead a synchronous cluster, and how, other than by votes.
func syncTitleRows() []row {
	voter := func(f func(*View)) func(*View) {
		return func(v *View) {
			gone(v)
			v.Store.Cluster.Members = v.Store.Cluster.Members[1:]
			v.Probes = vacant().Probes
			f(v)
		}
	}
	by := func(sync SyncState) []Action {
		a := crown()[0].(AcquireLeader)
		a.Sync = &sync
		return []Action{a}
	}
	nobody := SyncState{Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b")}}
	released := func(at LSN) func(*View) {
		return func(v *View) {
			v.Store.Cluster.Release = Release{LeaderRevision: leaderRev, Name: "a", Checkpoint: at, Timeline: 1, ModRevision: 96}
			if at > v.Local.LSN {
				v.Local.Freeze = Freeze{Fruitless: 1, LastThaw: testNow} // no vote for a while
			}
		}
	}
	patroni := func(v *View) { publish(v, SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}}) }
	took := func(v *View) {
		v.Own = Own{Revision: 95, Lease: leaseOf("b"), Epoch: 2, Sent: testNow - time.Second, TTL: testTTL}
		v.Store.Cluster.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: leaseOf("b")}
		v.Store.Cluster.Reign = Reign{Epoch: 2, Holder: "b", ModRevision: 95, Lease: leaseOf("b"), NextTimeline: 2}
		v.Store.Cluster.Revision = storeRev
		publish(v, wonSync())
	}
	return []row{
		{name: "a voter takes no key by time", view: syncVoter(), rule: "race.wait_votes", trouble: true, with: voter(func(v *View) {
			v.Local.Freeze = Freeze{Fruitless: 1, LastThaw: testNow}
		}), wake: raceRetry},
		{name: "a voter takes no key by time, and asks again", view: syncVoter(), rule: "race.wait_votes", trouble: true, with: voter(func(v *View) {
			v.Local.Freeze = Freeze{Fruitless: 1, LastThaw: testNow}
			v.Probes.DoneAt = testNow - 300*time.Millisecond
		}), want: []Action{ProbePeers{}}},
		{
			name: "the copy that led last takes the key, and leaves the electorate", view: syncVoter(), rule: "race.acquire", want: crown(),
			with: voter(func(v *View) {
				v.Store.Cluster.Sync.Leader, v.Store.Cluster.Reign.Holder, v.Store.Cluster.Sync.Electorate.LeaderData = "b", "b", dataOf("b")
				publish(v, SyncState{Leader: "b", Electorate: &Electorate{Epoch: 1, LeaderData: dataOf("b"), Sets: []VoterSet{setOf(1, "a", "c")}}})
				setProbe(v, "c", func(p *Probe) { p.LSN, p.Priority = 101, 9 })
			}),
		},
		{
			name: "the member that led last has another copy", view: syncVoter(), rule: "race.wait_votes", trouble: true,
			with: voter(func(v *View) {
				v.Store.Cluster.Reign.Holder = "b"
				publish(v, SyncState{Leader: "b", Electorate: &Electorate{Epoch: 1, LeaderData: "old", Sets: []VoterSet{setOf(1, "a", "c")}}})
			}),
		},
		{
			name: "one that has all of a leader that shut down cleanly", view: syncVoter(), rule: "race.acquire", with: voter(released(100)),
			want: by(wonSync()),
		},
		{name: "one that lacks the end of it", view: syncVoter(), rule: "race.wait_votes", trouble: true, with: voter(released(101))},
		{
			name: "one that has the end of it on another timeline", view: syncVoter(), rule: "race.wait_votes", trouble: true,
			with: voter(func(v *View) { released(101)(v); v.Store.Cluster.Release.Timeline = 2 }),
		},
		{name: "takeovers by time, enough answer", view: syncVoter(), rule: "race.acquire", with: voter(func(v *View) { v.Policy.Sync.TimeOnly = true }), want: by(wonSync())},
		{
			name: "takeovers by time, too few answer", view: syncVoter(), rule: "race.wait_votes", trouble: true, says: "1 of 2",
			with: voter(func(v *View) {
				v.Policy.Sync.TimeOnly = true
				setProbe(v, "c", func(p *Probe) { *p = Probe{Name: "c"} })
			}),
		},
		{
			name: "takeovers by time, while the set is made", view: syncVoter(), rule: "race.not_eligible", trouble: true,
			with: voter(func(v *View) { v.Policy.Sync.TimeOnly = true; publish(v, syncOf()) }),
		},
		{name: "a set that a Patroni wrote, enough answer", view: syncVoter(), rule: "race.acquire", with: voter(patroni), want: by(nobody)},
		{
			name: "a failover by hand", view: syncVoter(), rule: "race.acquire", want: by(nobody),
			with: voter(func(v *View) {
				v.Store.Cluster.Failover = FailoverRequest{Candidate: "b", ModRevision: 90}
			}),
		},
		{
			name: "a running primary that did not lead last is no leader", view: syncVoter(), rule: "vacant.demote", trouble: true,
			with: voter(func(v *View) { v.Local.Role = RolePrimary }), want: []Action{Demote{Why: "no title to the leader key"}},
		},
		{
			name: "the winner waits for the old leader or the other voter", view: syncVoter(), rule: "leader.promote", with: took,
			want: []Action{Promote{Sync: anyOf(1, "a", "c")}},
		},
		{
			name: "the winner waits until it sees what it published", view: syncVoter(), rule: "leader.wait_snapshot", wake: vanishedRetry,
			with: func(v *View) { took(v); v.Store.Cluster.Revision = 94 },
		},
		{
			name: "in mode on it waits in order", view: syncVoter(), rule: "leader.promote", with: func(v *View) { took(v); v.Policy.Sync.Mode = SyncOn },
			want: []Action{Promote{Sync: SyncSetting{Wait: 1, Names: []string{"a", "c"}}}},
		},
		{
			name: "without a set it waits for those that run", view: syncVoter(), rule: "leader.promote", want: []Action{Promote{Sync: anyOf(1, "a", "c")}},
			with: func(v *View) { took(v); publish(v, nobody) },
		},
		{
			name: "without anybody in strict mode it waits for nobody that there is", view: syncVoter(), rule: "leader.promote",
			with: func(v *View) {
				took(v)
				publish(v, nobody)
				v.Store.Cluster.Members, v.Policy.Sync.Strict = v.Store.Cluster.Members[1:2], true
			},
			want: []Action{Promote{Sync: anyOf(1, StrictPlaceholder)}},
		},
		{
			name: "without anybody, and not strict", view: syncVoter(), rule: "leader.promote", want: []Action{Promote{}},
			with: func(v *View) { took(v); publish(v, nobody); v.Store.Cluster.Members = v.Store.Cluster.Members[1:2] },
		},
		{
			name: "the server of a synchronous leader is down, and the voters run", view: syncLeader(), rule: "leader.crash_release", trouble: true,
			with: func(v *View) { v.Local.Server = ServerDown }, want: []Action{ReleaseLeader{Why: "server down"}},
		},
		{
			name: "too few voters run", view: syncLeader(), rule: "leader.restart_in_place",
			with: func(v *View) {
				v.Local.Server = ServerDown
				setMember(v, "c", func(m *Member) { m.State = StateStarting })
			},
			want: []Action{StartPrimary{}},
		},
		{
			name: "no voter may lead", view: syncLeader(), rule: "leader.restart_in_place", want: []Action{StartPrimary{}},
			with: func(v *View) {
				v.Local.Server = ServerDown
				setMember(v, "b", func(m *Member) { m.Tags.NoFailover = true })
				setMember(v, "c", func(m *Member) { m.Tags.NoFailover = true })
			},
		},
		{
			name: "the files of a stopped leader hold a weaker setting than what is published", view: syncLeader(), rule: "leader.start_as_standby", trouble: true,
			with: func(v *View) {
				v.Local.Server = ServerDown
				v.Store.Cluster.Reign.NextTimeline = 2 // pg_control does not show the promotion yet
				setMember(v, "c", func(m *Member) { m.State = StateStarting })
				v.Local.Sync = LocalSync{Known: true}
			},
			want: []Action{StartStandby{}},
		},
		{
			name: "a voter holds the setting that it would need", view: syncVoter(), rule: "member.steady", also: []RuleID{"sync.prepare"},
			with: func(v *View) { v.Local.Sync = LocalSync{Known: true} }, want: []Action{SetSync{Setting: anyOf(1, "a", "c")}},
		},
		{
			name: "a voter that holds it", view: syncVoter(), rule: "member.steady",
			with: func(v *View) { v.Local.Sync = LocalSync{Known: true, Setting: anyOf(1, "a", "c")} },
		},
	}
}

func syncSwitchoverRows() []row {
	asked := func(v View, to string) View {
		v.Store.Cluster.Failover = FailoverRequest{Leader: "a", Candidate: to, ModRevision: 90}
		v.Store.FailoverAt = testNow - time.Second
		v.Store.Cluster.Offers = []Offer{{Name: to, Lease: leaseOf(to), For: leaderRev, ModRevision: 92}}
		return v
	}
	inherit := inheriting(1, "a", "b")
	return []row{
		{
			name: "a voter is handed the key with an electorate of its own", view: asked(syncLeader(), "b"), rule: "switchover.hand_over",
			want: []Action{HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{
				Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{inherit, setOf(1, "a", "c")}},
			}}},
		},
		{
			name: "from a set that a Patroni wrote", view: asked(syncLeader(), "b"), rule: "switchover.hand_over",
			with: func(v *View) { publish(v, SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}}) },
			want: []Action{HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{
				Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{inherit, setOf(1, "a")}},
			}}},
		},
		{
			name: "to a copy without a name", view: asked(syncLeader(), "b"), rule: "switchover.hand_over",
			with: func(v *View) { setMember(v, "b", func(m *Member) { m.DataID = "" }) },
			want: []Action{HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{Leader: "b"}}},
		},
		{
			name: "a standby outside the set is refused", view: asked(syncLeader(), "c"), rule: "switchover.refused", trouble: true, says: "not in its set",
			with: func(v *View) { publish(v, syncOf(setOf(1, "b"))) },
			want: []Action{ClearFailover{Revision: 90, Why: "the cluster is synchronous, and c is not in its set"}},
		},
		{
			name: "a failover by hand goes to one outside the set", view: asked(syncLeader(), "c"), rule: "switchover.hand_over",
			with: func(v *View) { publish(v, syncOf(setOf(1, "b"))); v.Store.Cluster.Failover.Leader = "" },
			want: []Action{HandOver{Candidate: "c", OfferRevision: 92, Sync: &SyncState{
				Leader: "c", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("c"), Sets: []VoterSet{inheriting(1, "a", "c"), setOf(1, "a", "b")}},
			}}},
		},
		{
			name: "while nobody is named a hand-over is no less safe", view: asked(syncLeader(), "b"), rule: "switchover.hand_over",
			with: func(v *View) { publish(v, syncOf()) },
			want: []Action{HandOver{Candidate: "b", OfferRevision: 92, Sync: &SyncState{
				Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{inherit, setOf(1, "a")}},
			}}},
		},
	}
}
