package election

import (
	"testing"
	"time"
)

func cloneOf(name string) Clone { return Clone{Source: name, ConnURL: urlOf(name)} }

func memberDataRows() []row {
	primary := func(v *View) { v.Local.Role, v.Local.Signal = RolePrimary, false }
	demote := []Action{Demote{Why: "another member leads"}}
	empty := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Local = Local{Data: DataEmpty, Server: ServerDown, At: testNow, ConfigRev: 8}
			if f != nil {
				f(v)
			}
		}
	}
	return []row{
		{name: "a primary while another leads", view: healthyStandby(), rule: "member.demote", trouble: true, with: primary, want: demote},
		{
			name: "a primary that does not answer while another leads", view: healthyStandby(), rule: "member.demote", trouble: true, want: demote,
			with: func(v *View) { primary(v); v.Local.Server = ServerSilent },
		},
		{
			name: "a server that starts as a primary while another leads", view: healthyStandby(), rule: "member.demote", trouble: true, want: demote,
			with: func(v *View) { primary(v); v.Local.Server = ServerStarting },
		},
		{
			name: "the key bears the own name and is not ours: only reads are served", view: downStandby(), rule: "member.own_name", trouble: true,
			with: func(v *View) { v.Store.Cluster.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: 99} },
			want: []Action{StartStandby{}},
		},
		{
			name: "the key bears the own name and the own server is a primary (hole 8)", view: healthyStandby(), rule: "member.demote", trouble: true,
			with: func(v *View) {
				primary(v)
				v.Store.Cluster.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: 99}
			},
			want: demote,
		},
		{
			name: "a directory that cannot be read is left alone", view: downStandby(), rule: "member.data_unreadable", trouble: true,
			with: func(v *View) { v.Local.Data, v.Local.DataDetail = DataUnreadable, "permission denied" }, says: "permission denied",
		},
		{
			name: "a directory with foreign files is left alone", view: downStandby(), rule: "member.data_foreign", trouble: true,
			with: func(v *View) { v.Local.Data = DataForeign },
		},
		{name: "an empty directory is filled", view: downStandby(), rule: "member.clone", with: empty(nil), want: []Action{cloneOf("a")}},
		{
			name: "an unfinished copy is begun anew", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) { v.Local.Data = DataPartial }),
			want: []Action{Clone{Source: "a", ConnURL: urlOf("a"), Partial: true}}, says: "unfinished",
		},
		{
			name: "an empty directory is filled from the member named by replicatefrom", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) { v.Self.Tags.ReplicateFrom = "c" }), want: []Action{cloneOf("c")},
		},
		{
			name: "an empty directory is filled from the leader when the member named by replicatefrom is away", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) {
				v.Self.Tags.ReplicateFrom = "c"
				setMember(v, "c", func(m *Member) { m.State = StateStopped })
			}),
			want: []Action{cloneOf("a")},
		},
		{
			name: "no copy before the leader serves, not even from another standby", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) {
				v.Self.Tags.ReplicateFrom = "c"
				setMember(v, "a", func(m *Member) { m.State = StateStarting })
			}),
			says: "does not serve yet",
		},
		{
			name: "no copy before the bootstrap is over", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) { v.Store.Cluster.Initialize.State = BootstrapRunning }), says: "bootstrap",
		},
		{
			name: "no copy from a leader without an address", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) { setMember(v, "a", func(m *Member) { m.ConnURL = "" }) }), says: "nothing to clone from",
		},
		{
			name: "a copy that failed is tried again later", view: downStandby(), rule: "member.clone", trouble: true,
			with: empty(func(v *View) { v.Results = []JobResult{failed(JobClone, ClassPeer, 3, time.Second)} }), wake: 3 * time.Second,
		},
		{
			name: "a copy that failed long ago is tried again", view: downStandby(), rule: "member.clone",
			with: empty(func(v *View) { v.Results = []JobResult{failed(JobClone, ClassPeer, 3, 4*time.Second)} }), want: []Action{cloneOf("a")},
		},
		{
			name: "a paused member does not fill its directory (row H-009)", view: downStandby(), rule: "member.pause_down",
			with: empty(func(v *View) { v.Policy.Pause = true }),
		},
	}
}

func memberDownRows() []row {
	diverged := func(d Divergence) func(*View) {
		return func(v *View) { v.Local.Divergence, v.Local.DivergenceFor = d, leaderRev }
	}
	known := diverged(DivergenceNone)
	badData := func(v *View) { v.Results = []JobResult{failed(JobStart, ClassData, 2, time.Second)} }
	reinit := func(v *View) { v.Commands = []Command{{Kind: CommandReinit, ID: 4}} }
	rewind := []Action{Rewind{Source: "a", ConnURL: urlOf("a")}}
	start := []Action{StartStandby{Upstream: "a", ConnURL: urlOf("a")}}
	rows := []row{
		{name: "paused, a server that is down stays down", view: downStandby(), rule: "member.pause_down", with: func(v *View) { v.Policy.Pause = true }},
		{name: "a fresh copy by an operator's word", view: downStandby(), rule: "member.reinit_command", with: reinit, want: []Action{cloneOf("a")}},
		{
			name: "a fresh copy of a running standby by an operator's word", view: healthyStandby(), rule: "member.reinit_command", with: reinit,
			want: []Action{cloneOf("a")},
		},
		{
			name: "a fresh copy of a standby that never came up", view: healthyStandby(), rule: "member.reinit_command", want: []Action{cloneOf("a")},
			with: func(v *View) { reinit(v); v.Local.Server, v.Local.Role = ServerStarting, RoleUnknown },
		},
		{
			name: "a fresh copy waits until it is known that the running server is no primary", view: healthyStandby(), rule: "member.wait_server",
			with: func(v *View) { reinit(v); v.Local.Role, v.Local.Signal = RoleUnknown, false },
		},
		{
			name: "a fresh copy is made while paused (row H-105)", view: downStandby(), rule: "member.reinit_command",
			with: func(v *View) { reinit(v); v.Policy.Pause = true }, want: []Action{cloneOf("a")},
		},
		{
			name: "a fresh copy from the leader, although replicatefrom names another", view: downStandby(), rule: "member.reinit_command",
			with: func(v *View) { reinit(v); v.Self.Tags.ReplicateFrom = "c"; v.Commands[0].FromLeader = true }, want: []Action{cloneOf("a")},
		},
		{
			name: "a fresh copy is refused while the leader does not serve", view: downStandby(), rule: "member.reinit_command", trouble: true,
			with: func(v *View) { reinit(v); setMember(v, "a", func(m *Member) { m.Role = "replica" }) },
			want: []Action{RefuseCommand{Command: 4, Why: "the leader does not serve"}},
		},
		{
			name: "a fresh copy of another system is refused", view: downStandby(), rule: "member.reinit_command", trouble: true,
			with: func(v *View) { reinit(v); diverged(DivergenceWrongOwner)(v) },
			want: []Action{RefuseCommand{Command: 4, Why: "the leader serves another system"}},
		},
		{
			name: "a directory that PostgreSQL cannot start from is replaced", view: downStandby(), rule: "member.start_bad_data", trouble: true,
			with: badData, want: []Action{cloneOf("a")},
		},
		{
			name: "a directory is not replaced by another system's", view: downStandby(), rule: "member.down_diverged", trouble: true,
			with: func(v *View) { badData(v); diverged(DivergenceWrongOwner)(v) }, says: "another system",
		},
		{
			name: "a directory is not replaced because a port is taken", view: downStandby(), rule: "member.start", trouble: true,
			with: func(v *View) { known(v); v.Results = []JobResult{failed(JobStart, ClassEnv, 9, time.Second)} }, wake: 59 * time.Second,
		},
		{
			name: "a directory is not replaced by a leader that does not serve", view: downStandby(), rule: "member.start_bad_data", trouble: true,
			with: func(v *View) { badData(v); setMember(v, "a", func(m *Member) { m.State = StateStarting }) },
		},
		{name: "a server that went its own way is rewound", view: downStandby(), rule: "member.down_diverged", trouble: true, with: diverged(DivergenceRewind), want: rewind},
		{
			name: "a comparison with an older leader key does not count", view: downStandby(), rule: "member.compare",
			with: func(v *View) { diverged(DivergenceRewind)(v); v.Local.DivergenceFor-- }, want: []Action{CompareHistory{Leader: "a"}},
		},
		{
			name: "no rewind before the leader serves", view: downStandby(), rule: "member.down_diverged",
			with: func(v *View) {
				diverged(DivergenceRewind)(v)
				setMember(v, "a", func(m *Member) { m.Role = "replica" })
			},
		},
		{
			name: "a store that does not answer says nothing against a rewind", view: downStandby(), rule: "member.down_diverged", trouble: true,
			with: func(v *View) {
				diverged(DivergenceRewind)(v)
				v.Results = []JobResult{failed(JobRewind, ClassStore, 9, 4*time.Second)}
			},
			want: rewind,
		},
		{
			name: "after a store that did not answer the pause is short", view: downStandby(), rule: "member.down_diverged", trouble: true, wake: 3 * time.Second,
			with: func(v *View) {
				diverged(DivergenceRewind)(v)
				v.Results = []JobResult{failed(JobRewind, ClassStore, 9, time.Second)}
			},
		},
		{
			name: "a rewind that failed is tried again later", view: downStandby(), rule: "member.down_diverged", trouble: true, wake: 500 * time.Millisecond,
			with: func(v *View) {
				diverged(DivergenceRewind)(v)
				v.Results = []JobResult{failed(JobRewind, ClassPeer, 1, 500*time.Millisecond)}
			},
		},
		{
			name: "a rewind that failed twice gives way to a copy", view: downStandby(), rule: "member.down_diverged", trouble: true,
			with: func(v *View) {
				diverged(DivergenceRewind)(v)
				v.Results = []JobResult{failed(JobRewind, ClassData, 2, time.Second)}
			},
			want: []Action{cloneOf("a")},
		},
		{
			name: "without pg_rewind a copy is made", view: downStandby(), rule: "member.down_diverged", trouble: true,
			with: func(v *View) { diverged(DivergenceRewind)(v); v.Policy.UseRewind = false }, want: []Action{cloneOf("a")},
		},
		{
			name: "what cannot be rewound is copied", view: downStandby(), rule: "member.down_diverged", trouble: true,
			with: diverged(DivergenceClone), want: []Action{cloneOf("a")},
		},
		{name: "a server that is down is compared with the leader first", view: downStandby(), rule: "member.compare", want: []Action{CompareHistory{Leader: "a"}}},
		{
			name: "a standby starts while the leader is on its way", view: downStandby(), rule: "member.compare",
			with: func(v *View) { setMember(v, "a", func(m *Member) { m.Role = "replica" }) }, want: []Action{StartStandby{}},
		},
		{
			name: "a former primary waits while the leader is on its way", view: downStandby(), rule: "member.compare",
			with: func(v *View) {
				v.Local.Signal = false
				setMember(v, "a", func(m *Member) { m.Role = "replica" })
			},
		},
		{
			name: "a comparison that failed is made again later", view: downStandby(), rule: "member.compare", trouble: true,
			with: func(v *View) { v.Results = []JobResult{failed(JobCompare, ClassPeer, 1, 0)} }, wake: time.Second,
		},
		{
			name: "a comparison that cannot be made does not keep the server down for ever", view: downStandby(), rule: "member.start",
			with: func(v *View) { v.Results = []JobResult{failed(JobCompare, ClassPeer, 3, 0)} }, want: start,
		},
		{name: "a server that can stream is started", view: downStandby(), rule: "member.start", with: known, want: start},
	}
	return rows
}

func memberRunningRows() []row {
	quiet := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Local.Streaming, v.Local.StreamingLostAt = false, testNow-time.Second
			if f != nil {
				f(v)
			}
		}
	}
	named := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Store.Cluster.Failover = FailoverRequest{Leader: "a", Candidate: "b", ModRevision: 90}
			if f != nil {
				f(v)
			}
		}
	}
	offers := []Action{OfferLease{For: leaderRev}}
	return []row{
		{
			name: "on its way up", view: healthyStandby(), rule: "member.wait_server", with: func(v *View) { v.Local.Server = ServerStarting }, wake: time.Second,
		},
		{name: "an unknown role", view: healthyStandby(), rule: "member.wait_server", with: func(v *View) { v.Local.Role = RoleUnknown }},
		{
			name: "an operator's restart of a synchronous standby", view: syncVoter(), rule: "member.sign_off",
			with: func(v *View) { v.Commands = []Command{{Kind: CommandRestart, ID: 3, Asked: testNow}} },
		},
		{
			name: "an operator's restart of a synchronous standby that is let go too late", view: syncVoter(), rule: "member.restart_command",
			with: func(v *View) {
				v.Commands = []Command{{Kind: CommandRestart, ID: 3, Asked: testNow - 2*v.Policy.LoopWait}}
			},
			want: []Action{RestartServer{Command: 3}},
		},
		{
			name: "an operator's restart", view: healthyStandby(), rule: "member.restart_command",
			with: func(v *View) { v.Commands = []Command{{Kind: CommandRestart, ID: 7}} }, want: []Action{RestartServer{Command: 7}},
		},
		{
			name: "a new leader is followed", view: healthyStandby(), rule: "member.follow", with: func(v *View) { v.Local.Upstream = "c" },
			want: []Action{Follow{Upstream: "a", ConnURL: urlOf("a")}},
		},
		{
			name: "a leader that moved is followed", view: healthyStandby(), rule: "member.follow", with: func(v *View) { v.Local.UpstreamConnURL = "postgres://old" },
			want: []Action{Follow{Upstream: "a", ConnURL: urlOf("a")}},
		},
		{
			name: "the member named by replicatefrom is followed", view: healthyStandby(), rule: "member.follow",
			with: func(v *View) { v.Self.Tags.ReplicateFrom = "c" }, want: []Action{Follow{Upstream: "c", ConnURL: urlOf("c")}},
		},
		{
			name: "a source stays when the leader has no address (row H-090)", view: healthyStandby(), rule: "member.steady",
			with: func(v *View) { setMember(v, "a", func(m *Member) { m.ConnURL = "" }) },
		},
		{
			name: "a running standby that went its own way is rewound", view: healthyStandby(), rule: "member.diverged", trouble: true,
			with: quiet(func(v *View) { v.Local.Divergence, v.Local.DivergenceFor = DivergenceRewind, leaderRev }),
			want: []Action{Rewind{Source: "a", ConnURL: urlOf("a")}},
		},
		{
			name: "a paused standby that went its own way is left alone", view: healthyStandby(), rule: "member.not_streaming",
			with: quiet(func(v *View) {
				v.Local.Divergence, v.Local.DivergenceFor = DivergenceRewind, leaderRev
				v.Policy.Pause = true
			}),
		},
		{
			name: "a running standby whose directory vanished is not rewound", view: healthyStandby(), rule: "member.not_streaming",
			with: quiet(func(v *View) {
				v.Local.Data, v.Local.Divergence, v.Local.DivergenceFor = DataEmpty, DivergenceRewind, leaderRev
			}),
		},
		{
			name: "without a stream for a while the histories are compared", view: healthyStandby(), rule: "member.compare_running", trouble: true,
			with: quiet(func(v *View) { v.Local.StreamingLostAt = testNow - 3*time.Second }), want: []Action{CompareHistory{Leader: "a"}},
		},
		{name: "a short gap in the stream is waited out", view: healthyStandby(), rule: "member.not_streaming", with: quiet(nil), wake: time.Second},
		{
			name: "a long gap that is no matter of history is told", view: healthyStandby(), rule: "member.not_streaming", trouble: true,
			with: quiet(func(v *View) {
				v.Local.StreamingLostAt = testNow - time.Minute
				v.Local.Divergence, v.Local.DivergenceFor = DivergenceNone, leaderRev
			}),
		},
		{name: "a switchover names this member", view: healthyStandby(), rule: "member.offer", with: named(nil), want: offers},
		{
			name: "an offer for an older leader key is made again", view: healthyStandby(), rule: "member.offer", want: offers,
			with: named(func(v *View) {
				v.Store.Cluster.Offers = []Offer{{Name: "b", Lease: leaseOf("b"), For: leaderRev - 1, ModRevision: 92}}
			}),
		},
		{
			name: "an offer of a lease that is gone is made again", view: healthyStandby(), rule: "member.offer", want: offers,
			with: named(func(v *View) {
				v.Store.Cluster.Offers = []Offer{{Name: "b", Lease: 99, For: leaderRev, ModRevision: 92}}
			}),
		},
		{
			name: "an offer that stands is not repeated", view: healthyStandby(), rule: "member.steady",
			with: named(func(v *View) {
				v.Store.Cluster.Offers = []Offer{{Name: "b", Lease: leaseOf("b"), For: leaderRev, ModRevision: 92}}
			}),
		},
		{
			name: "no offer before the time has come", view: healthyStandby(), rule: "member.steady",
			with: named(func(v *View) { v.Store.Cluster.Failover.ScheduledAt = testWall.Add(time.Minute) }),
		},
		{
			name: "no offer by a member whose fencer is silent", view: healthyStandby(), rule: "member.steady",
			with: named(func(v *View) { v.Fencer = Fencer{} }),
		},
		{
			name: "an offer left over is withdrawn", view: healthyStandby(), rule: "member.withdraw_offer",
			with: func(v *View) {
				v.Store.Cluster.Offers = []Offer{{Name: "b", Lease: leaseOf("b"), For: leaderRev, ModRevision: 92}}
			},
			want: []Action{WithdrawOffer{Revision: 92}},
		},
		{
			name: "a member that streams from nobody by its tag is steady", view: healthyStandby(), rule: "member.steady",
			with: quiet(func(v *View) { v.Self.Tags.NoStream = true }),
		},
	}
}

func TestAMemberWhoseServerIsAboutToStopSignsOff(t *testing.T) {
	restart := []Command{{Kind: CommandRestart, ID: 3}}
	for _, tc := range []struct {
		name string
		view View
		with func(*View)
		want bool
	}{
		{"a standby", healthyStandby(), func(*View) {}, false},
		{"a standby that stops", healthyStandby(), func(v *View) { v.Stopping = true }, true},
		{"a standby that is to be restarted", healthyStandby(), func(v *View) { v.Commands = restart }, true},
		{"a standby that is being restarted", healthyStandby(), func(v *View) { v.Job.Kind = JobRestart }, true},
		{"a leader that stops", healthyLeader(), func(v *View) { v.Stopping = true }, false},
		{"a leader that is to be restarted", healthyLeader(), func(v *View) { v.Commands = restart }, false},
	} {
		tc.with(&tc.view)
		if got := Leaving(tc.view); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}
