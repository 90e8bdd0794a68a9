package election

import "time"

// wonSync is the sync key with which b takes over from a, whose set was {b, c}.
func wonSync() SyncState {
	next := setOf(1, "a", "c")
	return SyncState{Leader: "b", Electorate: &Electorate{
		Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{inheriting(2, "b", "c"), next},
	}}
}

func victory(over int64, votes ...Vote) []Action {
	return []Action{TakeOver{
		Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")},
		Over:  over, Votes: votes, Sync: wonSync(),
	}}
}

func syncRows() []row {
	dropped := func(names ...string) func(*View) {
		return func(v *View) {
			for _, n := range names {
				for i, w := range v.Local.Walsenders {
					if w.Name == n {
						v.Local.Walsenders = append(append([]Walsender{}, v.Local.Walsenders[:i]...), v.Local.Walsenders[i+1:]...)
						break
					}
				}
				for i := range v.Local.Streamed {
					if v.Local.Streamed[i].Name == n {
						v.Local.Streamed[i].At = testNow - 3*time.Second
					}
				}
			}
		}
	}
	both := syncOf(setOf(1, "b", "c"), setOf(1, "b"))
	step := func(name string, id RuleID, with func(*View), a Action) row {
		return row{name: name, view: syncLeader(), rule: "leader.steady", with: with, want: []Action{a}, also: []RuleID{id}}
	}
	rest := func(name string, with func(*View)) row {
		return row{name: name, view: syncLeader(), rule: "leader.steady", with: with}
	}
	return []row{
		rest("a synchronous leader that lacks nothing", nil),
		step("the mode is new", "sync.activate", func(v *View) { v.Store.Cluster.Sync, v.Local.Sync = SyncState{}, LocalSync{Known: true} },
			WriteSync{State: syncOf()}),
		step("a Patroni wrote the key", "sync.activate", func(v *View) { v.Store.Cluster.Sync.Electorate = nil }, WriteSync{State: syncOf()}),
		step("the key is of another copy of the data", "sync.activate", func(v *View) {
			publish(v, SyncState{Leader: "a", Electorate: &Electorate{Epoch: 1, LeaderData: "old", Sets: []VoterSet{setOf(1, "b", "c")}}})
		}, WriteSync{State: syncOf()}),
		step("nobody else may lead, and the first setting is made", "sync.apply", func(v *View) {
			publish(v, syncOf())
			v.Local.Sync = LocalSync{Known: true}
		}, SetSync{Setting: anyOf(1, "b", "c")}),
		step("the first set is confirmed", "sync.confirm", func(v *View) { publish(v, syncOf()) }, WriteSync{State: syncOf(setOf(1, "b", "c"))}),
		rest("the first set waits until one has everything", func(v *View) { publish(v, syncOf()); v.Local.Sync.Barrier = 101 }),
		rest("a set is not confirmed by a barrier that is not known", func(v *View) { publish(v, syncOf()); v.Local.Sync.Barrier = 0 }),
		rest("a voter that went a moment ago keeps its place", func(v *View) {
			dropped("c")(v)
			v.Local.Streamed[1].At = testNow - time.Second
		}),
		step("a voter went for good: both sets are published", "sync.announce", dropped("c"), WriteSync{State: both}),
		step("both are published: the setting follows", "sync.apply", func(v *View) { dropped("c")(v); publish(v, both) },
			SetSync{Setting: anyOf(1, "b")}),
		step("the setting is made, but not proven", "sync.apply", func(v *View) {
			dropped("c")(v)
			publish(v, both)
			v.Local.Sync = LocalSync{Known: true, Setting: anyOf(1, "b")}
		}, SetSync{Setting: anyOf(1, "b")}),
		step("the new voters have everything", "sync.confirm", func(v *View) {
			dropped("c")(v)
			publish(v, both)
			v.Local.Sync.Setting = anyOf(1, "b")
		}, WriteSync{State: syncOf(setOf(1, "b"))}),
		rest("the new voters lack something", func(v *View) {
			dropped("c")(v)
			publish(v, both)
			v.Local.Sync.Setting, v.Local.Sync.Barrier = anyOf(1, "b"), 101
		}),
		step("the old set is wanted again before the new one came", "sync.confirm", func(v *View) { publish(v, both) },
			WriteSync{State: syncOf(setOf(1, "b", "c"))}),
		step("a set that never came into force is left out of the next announcement", "sync.announce", func(v *View) {
			publish(v, both)
			v.Policy.Sync.Nodes = 2
		}, WriteSync{State: syncOf(setOf(1, "b", "c"), setOf(2, "b", "c"))}),
		step("a set that may be in force is not left out", "sync.announce", func(v *View) {
			publish(v, both)
			v.Policy.Sync.Nodes, v.Local.Sync.InForce = 2, false
		}, WriteSync{State: syncOf(setOf(1, "b", "c"), setOf(1, "b"), setOf(2, "b", "c"))}),
		step("mode on takes as many as asked for", "sync.announce", func(v *View) { v.Policy.Sync.Mode = SyncOn }, WriteSync{State: both}),
		step("mode on, with sync_priority", "sync.announce", func(v *View) {
			v.Policy.Sync.Mode = SyncOn
			setMember(v, "c", func(m *Member) { m.Tags.SyncPriority = 2 })
		}, WriteSync{State: syncOf(setOf(1, "b", "c"), setOf(1, "c"))}),
		step("the same set, waited for in order", "sync.apply", func(v *View) {
			v.Policy.Sync.Mode, v.Policy.Sync.Nodes = SyncOn, 2
			publish(v, syncOf(setOf(2, "b", "c")))
		},
			SetSync{Setting: SyncSetting{Wait: 2, Names: []string{"b", "c"}}}),
		step("a voter was made anew since the barrier was read: another one is", "sync.apply", func(v *View) {
			publish(v, syncOf())
			v.Local.Sync.Copies = []Voter{{"b", "old"}, {"c", dataOf("c")}}
		}, SetSync{Setting: anyOf(1, "b", "c")}),
		rest("a voter whose agent is gone is not proven again and again", func(v *View) {
			v.Store.Cluster.Members = v.Store.Cluster.Members[:2]
			v.Local.SlotMembers = []string{"b"}
			v.Local.Sync.Copies = CopiesNamed(v.Local.Sync.Setting, v.Store.Cluster)
		}),
		step("a voter that never came is not waited for when others have", "sync.announce", func(v *View) {
			dropped("c")(v)
			v.Local.Streamed = v.Local.Streamed[:1]
		}, WriteSync{State: both}),
		step("after a restart of the agent the setting is proven anew", "sync.apply", func(v *View) { v.Local.Sync.InForce, v.Local.Sync.Barrier = false, 0 },
			SetSync{Setting: anyOf(1, "b", "c")}),
		step("somebody changed the setting", "sync.apply", func(v *View) { v.Local.Sync.Foreign = true }, SetSync{Setting: anyOf(1, "b", "c")}),
		step("the fields that Patroni members read are wrong", "sync.confirm", func(v *View) { v.Store.Cluster.Sync.Quorum = 0 }, WriteSync{State: syncOf(setOf(1, "b", "c"))}),
		step("a standby tagged nosync is no voter", "sync.announce", func(v *View) { setMember(v, "c", func(m *Member) { m.Tags.NoSync = true }) }, WriteSync{State: both}),
		step("one that may not lead is no voter while there are better (row H-145)", "sync.announce", func(v *View) {
			setMember(v, "c", func(m *Member) { m.Tags.NoFailover = true })
		}, WriteSync{State: both}),
		step("a voter that was cloned anew is another", "sync.announce", func(v *View) {
			setMember(v, "c", func(m *Member) { m.DataID = "fresh" })
		}, WriteSync{State: syncOf(setOf(1, "b", "c"), VoterSet{Voters: []Voter{{"b", dataOf("b")}, {"c", "fresh"}}, Wait: 1, Quorum: 2})}),
		rest("a voter whose agent is gone streams on", func(v *View) {
			v.Store.Cluster.Members = v.Store.Cluster.Members[:2]
			v.Local.SlotMembers = []string{"b"}
		}),
		step("a standby that lags too far is no voter (row H-130)", "sync.announce", func(v *View) {
			v.Policy.Sync.MaximumLag, v.Local.Walsenders = 10, []Walsender{{Name: "b", State: "streaming", LSN: 100}, {Name: "c", State: "streaming", LSN: 80}}
		}, WriteSync{State: both}),
		step("nobody is left: that is published first", "sync.loosen", dropped("b", "c"), WriteSync{State: syncOf()}),
		step("nobody is left, which is published: commits wait no more", "sync.relax", func(v *View) { dropped("b", "c")(v); publish(v, syncOf()) }, SetSync{}),
		rest("nobody is left, and the mode is strict: commits wait", func(v *View) { dropped("b", "c")(v); v.Policy.Sync.Strict = true }),
		rest("a voter frozen against this leader is given longer to come back", func(v *View) { dropped("b", "c")(v); cast(v, voteOf("b", 100), voteOf("c", 90)) }),
		step("strict from the start, with nobody", "sync.apply", func(v *View) {
			dropped("b", "c")(v)
			publish(v, syncOf())
			v.Local.Sync, v.Policy.Sync.Strict = LocalSync{Known: true}, true
		}, SetSync{Setting: anyOf(1, StrictPlaceholder)}),
		step("strict, and the setting is gone under a published set", "sync.apply", func(v *View) {
			dropped("b", "c")(v)
			v.Local.Sync, v.Policy.Sync.Strict = LocalSync{Known: true}, true
		}, SetSync{Setting: anyOf(1, "b", "c")}),
		step("a setting does not change while a write of the key may arrive", "sync.settle", func(v *View) {
			dropped("b", "c")(v)
			publish(v, syncOf())
			v.Store.SyncWrite = SyncWrite{Sent: true, Over: syncRev}
		}, WriteSync{State: syncOf()}),
		step("a write of the key that has arrived is settled", "sync.relax", func(v *View) {
			dropped("b", "c")(v)
			publish(v, syncOf())
			v.Store.SyncWrite = SyncWrite{Sent: true, Over: syncRev - 1}
		}, SetSync{}),
		step("the setting is proven anew although a write of the key may arrive", "sync.apply", func(v *View) {
			v.Local.Sync.InForce = false
			v.Store.SyncWrite = SyncWrite{Sent: true, Over: syncRev}
		}, SetSync{Setting: anyOf(1, "b", "c")}),
		step("the mode was switched off", "sync.turn_off", func(v *View) { v.Policy.Sync.Mode = SyncOff }, DeleteSync{}),
		step("the mode was switched off, and the key is gone", "sync.relax", func(v *View) {
			v.Policy.Sync.Mode, v.Store.Cluster.Sync = SyncOff, SyncState{}
		}, SetSync{}),
		rest("the mode is off, and the setting is the user's own", func(v *View) {
			v.Policy.Sync.Mode, v.Store.Cluster.Sync, v.Local.Sync = SyncOff, SyncState{}, LocalSync{Known: true, Foreign: true, Setting: anyOf(1, "x")}
		}),
		rest("the mode is off, and the setting is the user's own, in words that pgha uses, too", func(v *View) {
			v.Policy.Sync.Mode, v.Policy.Sync.Own, v.Store.Cluster.Sync = SyncOff, anyOf(1, "b", "c"), SyncState{}
		}),
		step("the mode was switched off, and the user's own setting is another", "sync.relax", func(v *View) {
			v.Policy.Sync.Mode, v.Policy.Sync.Own, v.Store.Cluster.Sync = SyncOff, anyOf(2, "b", "c"), SyncState{}
		}, SetSync{}),
		rest("what the server goes by is not known", func(v *View) { v.Local.Sync = LocalSync{}; v.Store.Cluster.Sync = SyncState{} }),
		rest("the own copy has no name yet", func(v *View) { v.Local.DataID = ""; v.Store.Cluster.Sync = SyncState{} }),
	}
}

// patroniRows are those of a set with a Patroni in it.
func patroniRows() []row {
	mixed := func(f func(*View)) func(*View) {
		return func(v *View) {
			setMember(v, "c", func(m *Member) { m.PghaVersion, m.DataID = "", "" })
			if f != nil {
				f(v)
			}
		}
	}
	goal := SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}}
	step := func(name string, id RuleID, with func(*View), a Action) row {
		return row{name: name, view: syncLeader(), rule: "leader.steady", with: mixed(with), want: []Action{a}, also: []RuleID{id}}
	}
	rest := func(name string, with func(*View)) row {
		return row{name: name, view: syncLeader(), rule: "leader.steady", with: mixed(with)}
	}
	return []row{
		step("a voter turned out to be a Patroni: first nobody else may lead", "sync.activate", nil, WriteSync{State: syncOf()}),
		step("with Patroni members the setting comes while nobody else may lead", "sync.apply", func(v *View) { publish(v, syncOf()); v.Local.Sync = LocalSync{Known: true} },
			SetSync{Setting: anyOf(1, "b", "c")}),
		step("with Patroni members the set is published without pgha's part", "sync.confirm", func(v *View) { publish(v, syncOf()) }, WriteSync{State: goal}),
		rest("with Patroni members the set waits for the barrier", func(v *View) { publish(v, syncOf()); v.Local.Sync.Barrier = 101 }),
		rest("a set with Patroni members is at rest", func(v *View) { publish(v, goal) }),
		step("a set with Patroni members is proven anew", "sync.apply", func(v *View) { publish(v, goal); v.Local.Sync.InForce = false }, SetSync{Setting: anyOf(1, "b", "c")}),
		step("a set with Patroni members changes by way of nobody", "sync.activate", func(v *View) { publish(v, goal); v.Policy.Sync.Nodes = 2 }, WriteSync{State: syncOf()}),
		rest("strict, and all Patroni members are gone: commits wait", func(v *View) {
			publish(v, goal)
			v.Policy.Sync.Strict, v.Local.Walsenders, v.Local.Streamed = true, nil, nil
		}),
	}
}

func freezeRows() []row {
	freeze := []Action{FreezeServer{Epoch: 1, LeaderRevision: leaderRev, Leader: "a"}}
	alone := func(v *View) { publish(v, syncOf(setOf(1, "b"))) }
	again := func(v *View) { v.Contact.HeardAt, v.Contact.Silent = testNow, 0 }
	noTrouble := func(name string, with func(*View)) row {
		return row{name: name, view: lostVoter(), rule: "member.steady", with: with}
	}
	return []row{
		{name: "the leader is lost: the others are asked", view: lostVoter(), rule: "freeze.ask", trouble: true, want: []Action{ProbePeers{}}},
		{name: "the others still reach the leader", view: lostVoter(), rule: "freeze.ask", trouble: true, with: func(v *View) { heard(v) }, wake: freezeWake},
		{
			name: "the others still reach the leader, and an operator asks for something", view: lostVoter(), rule: "member.restart_command",
			with: func(v *View) { heard(v); v.Commands = []Command{{Kind: CommandRestart, ID: 7}} }, want: []Action{RestartServer{Command: 7}},
		},
		noTrouble("two unanswered questions are no loss", func(v *View) { v.Contact.Silent = 2 }),
		noTrouble("a short silence is no loss", func(v *View) { v.Contact.HeardAt = testNow - 600*time.Millisecond }),
		noTrouble("the silence of an earlier leader is no loss", func(v *View) { v.Contact.Revision = leaderRev - 1 }),
		noTrouble("an agent that has just started has not been asking for long", func(v *View) { v.Contact.HeardAt, v.Store.SeenAt = 0, testNow-100*time.Millisecond }),
		noTrouble("no vote where takeovers rest on time", func(v *View) { v.Policy.Sync.TimeOnly = true }),
		noTrouble("no vote while paused", func(v *View) { v.Policy.Pause = true }),
		noTrouble("no vote in a set that a Patroni wrote", func(v *View) { v.Store.Cluster.Sync.Electorate = nil }),
		noTrouble("no vote with another copy of the data", func(v *View) { v.Local.DataID = "fresh" }),
		noTrouble("no vote for one outside the set", func(v *View) { publish(v, syncOf(setOf(1, "c"))) }),
		noTrouble("no vote against a Patroni that led since", func(v *View) { v.Store.Cluster.Leader.ModRevision = 95; v.Contact.Revision = 95 }),
		noTrouble("no freeze right after one that came to nothing", func(v *View) { v.Local.Freeze = Freeze{Fruitless: 1, LastThaw: testNow - time.Second} }),
		{name: "the others have lost it, too", view: lostVoter(), rule: "freeze.freeze", trouble: true, with: func(v *View) { heard(v, "c") }, want: freeze},
		{
			name: "a vote says that its caster has lost it", view: lostVoter(), rule: "freeze.freeze", trouble: true,
			with: func(v *View) { cast(v, voteOf("c", 90)) }, want: freeze,
		},
		{
			name: "one that could decide alone needs another's word", view: lostVoter(), rule: "freeze.ask", trouble: true, wake: freezeWake,
			with: func(v *View) { alone(v); heard(v) },
		},
		{name: "one that could decide alone has another's word", view: lostVoter(), rule: "freeze.freeze", trouble: true, with: func(v *View) { alone(v); heard(v, "c") }, want: freeze},
		{
			name: "one that could decide alone, and hears nobody of those that are there", view: lostVoter(), rule: "freeze.ask", trouble: true, wake: freezeWake,
			with: func(v *View) {
				alone(v)
				v.Probes = Probes{StartedAt: testNow - 150*time.Millisecond, DoneAt: testNow - 50*time.Millisecond}
			},
		},
		{
			name: "one that could decide alone, and there is nobody else", view: lostVoter(), rule: "freeze.freeze", trouble: true, want: freeze,
			with: func(v *View) {
				alone(v)
				v.Store.Cluster.Members = v.Store.Cluster.Members[:2]
				v.Probes = Probes{StartedAt: testNow - 150*time.Millisecond, DoneAt: testNow - 50*time.Millisecond}
			},
		},
		{name: "the key is gone for good: nobody needs to be asked", view: syncVoter(), rule: "freeze.freeze", trouble: true, with: gone, want: freeze},
		{
			name: "the key went during a pause that ended a moment ago: its holder may come back", view: syncVoter(), rule: "race.wait_resumed", wake: raceRetry,
			with: func(v *View) { gone(v); v.Store.ResumedAt = testNow - time.Millisecond },
		},
		{
			name: "the leader gave the key up: no silence is waited for", view: syncVoter(), rule: "freeze.freeze", trouble: true, want: freeze,
			with: func(v *View) {
				gone(v)
				v.Store.Vacancy.LeaseGone = No
				v.Store.Cluster.Release = Release{LeaderRevision: leaderRev, Name: "a", ModRevision: 96}
			},
		},
		{
			name: "the key was deleted, and its holder answers", view: syncVoter(), rule: "race.wait_lease",
			with: func(v *View) { gone(v); v.Store.Vacancy.LeaseGone = No }, want: []Action{AskLease{Lease: leaseOf("a")}, ProbePeers{}},
		},
		{name: "recorded, not proven", view: frozenVoter(), rule: "freeze.prove", with: func(v *View) { v.Local.Freeze.Proven = false }, want: freeze},
		{
			name: "proven: the vote", view: frozenVoter(), rule: "freeze.vote",
			want: []Action{CastVote{Vote: Vote{Name: "b", Data: dataOf("b"), Epoch: 1, LeaderRevision: leaderRev, Timeline: 1, LSN: 100}}},
		},
		{
			name: "an own vote of an earlier reign is replaced", view: frozenVoter(), rule: "freeze.vote",
			with: func(v *View) { old := voteOf("b", 50); old.LeaderRevision = leaderRev - 9; cast(v, old) },
			want: []Action{CastVote{Vote: Vote{Name: "b", Data: dataOf("b"), Epoch: 1, LeaderRevision: leaderRev, Timeline: 1, LSN: 100}}},
		},
		{name: "one vote of two", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true, with: func(v *View) { cast(v, voteOf("b", 100)) }},
		{name: "both votes", view: winner(), rule: "freeze.take_over", want: victory(leaderRev, voteOf("b", 100), voteOf("c", 90))},
		{name: "both votes, the key gone", view: winner(), rule: "freeze.take_over", with: gone, want: victory(0, voteOf("b", 100), voteOf("c", 90))},
		{
			name: "a promise bars no takeover by votes", view: winner(), rule: "freeze.take_over", with: func(v *View) { v.Fencer.PromiseUntil = testNow + time.Minute },
			want: victory(leaderRev, voteOf("b", 100), voteOf("c", 90)),
		},
		{
			name: "the other holds more", view: frozenVoter(), rule: "freeze.yield", says: "left to c",
			with: func(v *View) { cast(v, voteOf("b", 100), voteOf("c", 101)) },
		},
		{
			name: "the other holds more, does nothing, and is needed", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true, says: "holds more",
			with: func(v *View) {
				cast(v, voteOf("b", 100), voteOf("c", 101))
				v.Local.Freeze.Since = testNow - 1500*time.Millisecond
			},
		},
		{
			name: "the other holds more, does nothing, and is not needed", view: frozenVoter(), rule: "freeze.take_over", want: []Action{TakeOver{
				Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")}, Over: leaderRev,
				Votes: []Vote{voteOf("b", 100), voteOf("d", 90)},
				Sync:  SyncState{Leader: "b", Electorate: &Electorate{Epoch: 2, LeaderData: dataOf("b"), Sets: []VoterSet{inheriting(2, "b", "c", "d"), setOf(2, "a", "c", "d")}}},
			}},
			with: func(v *View) {
				publish(v, syncOf(setOf(2, "b", "c", "d")))
				cast(v, voteOf("b", 100), voteOf("c", 101), voteOf("d", 90))
				v.Local.Freeze.Since = testNow - 1500*time.Millisecond
			},
		},
		{
			name: "the other is as far and preferred", view: frozenVoter(), rule: "freeze.yield", says: "left to c",
			with: func(v *View) {
				cast(v, voteOf("b", 100), voteOf("c", 100))
				setMember(v, "c", func(m *Member) { m.Tags.FailoverPriority = 2 })
			},
		},
		{
			name: "the votes suffice, and this member must not lead", view: winner(), rule: "freeze.wait_votes", trouble: true, says: "nofailover",
			with: func(v *View) { v.Self.Tags.NoFailover = true },
		},
		{
			name: "a vote with another copy of the data is none", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true,
			with: func(v *View) { other := voteOf("c", 90); other.Data = "fresh"; cast(v, voteOf("b", 100), other) },
		},
		{
			name: "a vote against an earlier key of the same reign is none", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true,
			with: func(v *View) { other := voteOf("c", 90); other.LeaderRevision--; cast(v, voteOf("b", 100), other) },
		},
		{
			name: "a vote from a branch that was left aside is none (hole 17)", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true,
			with: func(v *View) {
				dead := voteOf("c", 300)
				dead.Timeline = 2
				v.Store.Cluster.Reign.ParentTimeline, v.Store.Cluster.Reign.NextTimeline = 1, 3
				cast(v, voteOf("b", 100), dead)
			},
		},
		{
			name: "a vote from the past counts", view: frozenVoter(), rule: "freeze.take_over",
			with: func(v *View) {
				v.Store.Cluster.Reign.ParentTimeline, v.Store.Cluster.Reign.NextTimeline = 2, 3
				v.Local.Freeze.Timeline, v.Local.Timeline = 2, 2
				own := voteOf("b", 100)
				own.Timeline = 2
				cast(v, own, voteOf("c", 300))
			},
			want: []Action{func() Action {
				own := voteOf("b", 100)
				own.Timeline = 2
				t := victory(leaderRev, own, voteOf("c", 300))[0].(TakeOver)
				t.Reign.ParentTimeline, t.Reign.NextTimeline = 2, 4
				return t
			}()},
		},
		{
			name: "a vote from the past does not win", view: frozenVoter(), rule: "freeze.wait_votes", trouble: true, says: "timeline 1",
			with: func(v *View) {
				v.Store.Cluster.Reign.ParentTimeline, v.Store.Cluster.Reign.NextTimeline = 2, 3
				cast(v, voteOf("b", 100), voteOf("c", 90))
			},
		},
		{
			name: "while two sets are published both quorums are needed", view: winner(), rule: "freeze.wait_votes", trouble: true,
			with: func(v *View) { publish(v, syncOf(setOf(1, "b", "c"), setOf(1, "b", "d"))) },
		},
		{
			name: "the leader answers again", view: winner(), rule: "freeze.withdraw", trouble: true, with: again, says: "answers again",
			want: []Action{WithdrawVote{Revision: 71, LeaderRevision: leaderRev}},
		},
		{
			name: "too few voted for too long", view: frozenVoter(), rule: "freeze.withdraw", trouble: true, says: "too few",
			with: func(v *View) { cast(v, voteOf("b", 100)); v.Local.Freeze.Since = testNow - freezeLimit - 1 },
			want: []Action{WithdrawVote{Revision: 71, LeaderRevision: leaderRev}},
		},
		{
			name: "a vote of unknown outcome is shut out first", view: frozenVoter(), rule: "freeze.withdraw", trouble: true,
			with: func(v *View) { again(v); v.Local.Freeze.VoteSent = true }, want: []Action{WithdrawVote{LeaderRevision: leaderRev}},
		},
		{
			name: "a vote that stands without a freeze (a lost directory)", view: syncVoter(), rule: "freeze.withdraw", trouble: true,
			with: func(v *View) { v.Local.Data, v.Local.Server = DataEmpty, ServerDown; cast(v, voteOf("b", 100)) },
			want: []Action{WithdrawVote{Revision: 71, LeaderRevision: leaderRev}},
		},
		{
			name: "a Patroni replaced the leader while a vote stands", view: winner(), rule: "freeze.withdraw_replaced",
			with: func(v *View) { v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: 99} },
			want: []Action{WithdrawVote{Revision: 71}},
		},
		{
			name: "withdrawn: the server is freed", view: frozenVoter(), rule: "freeze.thaw",
			with: func(v *View) { again(v); cast(v, Vote{Name: "b", ModRevision: 80}) }, want: []Action{Thaw{Why: "the leader answers again"}},
		},
		{name: "never voted: the server is freed", view: frozenVoter(), rule: "freeze.thaw", with: again, want: []Action{Thaw{Why: "the leader answers again"}}},
		{
			name: "paused: the server is freed", view: frozenVoter(), rule: "freeze.thaw", with: func(v *View) { v.Policy.Pause = true },
			want: []Action{Thaw{Why: "the cluster is paused"}},
		},
		{
			name: "a frozen server that is down is started to follow nobody", view: frozenVoter(), rule: "freeze.start",
			with: func(v *View) { v.Local.Server, v.Local.Role = ServerDown, RoleUnknown }, want: []Action{StartStandby{}},
		},
		{
			name: "a frozen server that failed to start", view: frozenVoter(), rule: "freeze.start", trouble: true,
			with: func(v *View) {
				v.Local.Server, v.Local.Role = ServerDown, RoleUnknown
				v.Results = []JobResult{failed(JobStart, ClassEnv, 2, time.Second)}
			},
		},
		{name: "a frozen server on its way up", view: frozenVoter(), rule: "freeze.wait_server", with: func(v *View) { v.Local.Server = ServerStarting }, wake: time.Second},
		{
			name: "a new reign: the new leader is followed although the vote still stands", view: winner(), rule: "member.follow",
			with: func(v *View) { reign2(v) }, want: []Action{Follow{Upstream: "c", ConnURL: urlOf("c")}, WithdrawVote{Revision: 71}}, also: []RuleID{"reconcile.old_vote"},
		},
		{
			name: "streaming from the new leader, the old vote is cleared away", view: syncVoter(), rule: "member.steady",
			with: func(v *View) {
				reign2(v)
				cast(v, voteOf("b", 100))
				v.Local.Upstream, v.Local.UpstreamConnURL = "c", urlOf("c")
			},
			want: []Action{WithdrawVote{Revision: 71}}, also: []RuleID{"reconcile.old_vote"},
		},
		{
			name: "told to stop: the vote is withdrawn", view: winner(), rule: "stop.withdraw_vote",
			with: func(v *View) { v.Stopping, v.Local.Server = true, ServerDown }, want: []Action{WithdrawVote{Revision: 71, LeaderRevision: leaderRev}},
		},
		{
			name: "told to stop while nobody leads: the vote is withdrawn", view: winner(), rule: "stop.withdraw_vote",
			with: func(v *View) { gone(v); v.Stopping, v.Local.Server = true, ServerDown }, want: []Action{WithdrawVote{Revision: 71}},
		},
		{
			name: "told to stop, and etcd does not answer: the vote stays", view: winner(), rule: "stop.done",
			with: func(v *View) { v.Stopping, v.Local.Server, v.Store.FreshAt = true, ServerDown, testNow-time.Hour },
		},
	}
}

// reign2 lets c begin the next reign.
func reign2(v *View) {
	v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
	v.Store.Cluster.Reign = Reign{Epoch: 2, Holder: "c", ModRevision: 95, Lease: leaseOf("c"), NextTimeline: 2, ParentTimeline: 1}
	setMember(v, "c", func(m *Member) { m.Role = "primary" })
}
