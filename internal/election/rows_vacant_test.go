package election

import (
	"testing"
	"time"
)

// crown is what b does when it may lead.
func crown() []Action {
	return []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")}}}
}

// back is what a does when it may lead again.
func back() []Action {
	return []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "a", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("a")}}}
}

// pausedAway is a, whose agent was away during a pause until its lease had run out, and whose server led on.
func pausedAway() View {
	v := healthyLeader()
	v.Own, v.Store.Cluster.Leader = Own{}, Leader{}
	v.Fencer = Fencer{Alive: true, Epoch: 1, Revision: leaderRev}
	v.Store.Vacancy = Vacancy{Since: testNow - 100*time.Millisecond, Lease: 99}
	v.Store.SeenAt = testNow - 100*time.Millisecond
	return v
}

// fresh has the others asked a moment ago.
func fresh(v *View) {
	v.Probes.StartedAt, v.Probes.DoneAt = testNow-50*time.Millisecond, testNow-10*time.Millisecond
}

func bootstrapRows() []row {
	running := func(runner string, ever bool) func(*View) {
		return func(v *View) {
			v.Store.Cluster.Initialize = Initialize{State: BootstrapRunning, ModRevision: 6, Runner: runner, RunnerEver: ever}
		}
	}
	data := func(signal bool, system string) func(*View) {
		return func(v *View) { v.Local.Data, v.Local.Signal, v.Local.SystemID = DataCluster, signal, system }
	}
	return []row{
		{name: "an existing primary's directory makes the cluster", view: emptyStore(), rule: "bootstrap.adopt_existing", with: data(false, testSystem), want: []Action{WriteInitialize{}}},
		{
			name: "a directory whose identifier cannot be read makes no cluster", view: emptyStore(), rule: "bootstrap.only_standby", trouble: true,
			with: data(false, ""), says: "identifier",
		},
		{
			name: "a standby's directory makes no cluster (row H-012)", view: emptyStore(), rule: "bootstrap.only_standby", trouble: true,
			with: data(true, testSystem), says: "standby",
		},
		{name: "the first claims", view: emptyStore(), rule: "bootstrap.claim", want: []Action{ClaimBootstrap{}}},
		{
			name: "an unfinished copy is no obstacle", view: emptyStore(), rule: "bootstrap.claim", with: func(v *View) { v.Local.Data = DataPartial },
			want: []Action{ClaimBootstrap{}},
		},
		{
			name: "after a failure the claim waits", view: emptyStore(), rule: "bootstrap.claim", trouble: true, wake: time.Second,
			with: func(v *View) { v.Results = []JobResult{failed(JobBootstrap, ClassEnv, 1, 0)} },
		},
		{name: "without a bootstrap section others are waited for", view: emptyStore(), rule: "bootstrap.wait_claim", with: func(v *View) { v.Self.MayBootstrap = false }},
		{
			name: "foreign files make no cluster", view: emptyStore(), rule: "bootstrap.wait_claim", trouble: true, with: func(v *View) { v.Local.Data = DataForeign },
		},
		{name: "the winner of the claim makes the cluster", view: emptyStore(), rule: "bootstrap.run", with: running("b", true), want: []Action{Bootstrap{}}},
		{
			name: "a claim of an earlier life does not fill a directory that holds something", view: emptyStore(), rule: "bootstrap.wait", trouble: true,
			with: func(v *View) { running("b", true)(v); data(false, testSystem)(v) },
		},
		{
			name: "a pgha member that died at it is replaced", view: emptyStore(), rule: "bootstrap.reclaim", with: running("", true),
			want: []Action{ClaimBootstrap{Reclaim: true}},
		},
		{
			name: "after a failure the reclaim waits", view: emptyStore(), rule: "bootstrap.reclaim", trouble: true, wake: time.Second,
			with: func(v *View) {
				running("", true)(v)
				v.Results = []JobResult{failed(JobBootstrap, ClassEnv, 1, 0)}
			},
		},
		{name: "another member makes the cluster", view: emptyStore(), rule: "bootstrap.wait", with: running("c", true), says: "waiting for c", wake: time.Second},
		{name: "somebody unknown makes the cluster, perhaps a Patroni", view: emptyStore(), rule: "bootstrap.wait", with: running("", false), trouble: true},
	}
}

func vacantRows() []row {
	primary := func(f func(*View)) func(*View) {
		return func(v *View) {
			v.Local.Role, v.Local.Signal = RolePrimary, false
			if f != nil {
				f(v)
			}
		}
	}
	demote := []Action{Demote{Why: "no title to the leader key"}}
	silenced := func(name string, with func(*View)) row {
		return row{name: name, view: pausedAway(), rule: "vacant.demote", trouble: true, want: demote, with: with}
	}
	resumed := func(name string, rule RuleID, with func(*View)) row {
		return row{name: name, view: vacant(), rule: rule, want: crown(), with: func(v *View) { v.Store.ResumedAt = testNow - 100*time.Millisecond; with(v) }}
	}
	return []row{
		{name: "a running primary takes a key that is provably free (row H-064)", view: vacant(), rule: "vacant.retake", with: primary(nil), want: crown()},
		{
			name: "a running primary is silenced while the vacancy is not proven", view: vacant(), rule: "vacant.demote", trouble: true, want: demote,
			with: primary(func(v *View) { v.Store.Vacancy.LeaseGone = No }),
		},
		{
			name: "a running primary on an older timeline is silenced (row H-064)", view: vacant(), rule: "vacant.demote", trouble: true, want: demote,
			with: primary(func(v *View) {
				v.Store.Cluster.History, v.Store.Cluster.HistorySeen = []TimelineRecord{{Timeline: 1}}, true
			}),
		},
		{
			name: "a primary whose agent was away takes the key by which it led last, whatever became of the lease", view: pausedAway(), rule: "vacant.retake", want: back(),
		},
		{
			name: "an agent that has just started waits for a lease", view: pausedAway(), rule: "vacant.retake_soon", wake: vanishedRetry,
			with: func(v *View) { v.Lease, v.Store.SeenAt = 0, testNow-999*time.Millisecond },
		},
		{
			name: "a server that led last and does not answer just now is waited for", view: pausedAway(), rule: "vacant.retake_soon", wake: vanishedRetry,
			with: func(v *View) { v.Local.Server, v.Store.SeenAt = ServerSilent, testNow-999*time.Millisecond },
		},
		{
			name: "and silenced if it goes on not to answer", view: pausedAway(), rule: "vacant.demote", trouble: true, want: demote,
			with: func(v *View) { v.Local.Server, v.Store.SeenAt = ServerSilent, testNow-time.Second },
		},
		{
			name: "an agent that lost its lease during a pause waits for another", view: pausedAway(), rule: "vacant.retake_soon", wake: vanishedRetry,
			with: func(v *View) {
				v.Lease, v.Store.SeenAt, v.Store.ResumedAt = 0, time.Second, testNow-999*time.Millisecond
			},
		},
		silenced("an agent waits no longer than a second for a lease", func(v *View) { v.Lease, v.Store.SeenAt = 0, testNow-time.Second }),
		silenced("the fencer was armed for an earlier reign", func(v *View) { v.Fencer.Revision-- }),
		silenced("the name alone proves nothing", func(v *View) { v.Fencer.Revision = 0 }),
		silenced("the key that went was another's", func(v *View) { v.Store.Vacancy.Revision = leaderRev + 1 }),
		silenced("the store is another one", func(v *View) { v.Store.Vacancy.Replaced = true }),
		silenced("a Patroni may have led since", func(v *View) { setMember(v, "b", func(m *Member) { m.PghaVersion = "" }) }),
		{
			name: "after a pause its holder may take a key again that ran out", view: vacant(), rule: "race.wait_resumed", says: "a, which led last", wake: raceRetry,
			with: func(v *View) { v.Store.ResumedAt = testNow - 100*time.Millisecond },
		},
		resumed("it is waited for as long as the ttl", "race.acquire", func(v *View) { v.Store.ResumedAt = testNow - testTTL; v.Store.Vacancy.Since -= testTTL }),
		resumed("a key that goes after the pause is another matter", "race.acquire", func(v *View) { v.Store.Vacancy.Since = testNow - 99*time.Millisecond; fresh(v) }),
		resumed("a holder that released the key is not waited for", "race.acquire", func(v *View) {
			v.Store.Cluster.Release = Release{LeaderRevision: leaderRev, ModRevision: leaderRev + 5}
		}),
		resumed("the candidate of a failover by hand does not wait", "race.acquire", func(v *View) {
			v.Store.Cluster.Failover = FailoverRequest{Candidate: "b", ModRevision: 90}
		}),
		{
			name: "a primary that does not answer is silenced", view: vacant(), rule: "vacant.demote", trouble: true, want: demote,
			with: primary(func(v *View) { v.Local.Server = ServerSilent }),
		},
		{
			name: "a member without data cannot lead", view: vacant(), rule: "vacant.no_data", trouble: true,
			with: func(v *View) { v.Local = Local{Data: DataPartial, DataDetail: "half a copy", Server: ServerDown} }, says: "half a copy",
		},
		{
			name: "a server that is down takes part again", view: vacant(), rule: "vacant.start", with: func(v *View) { v.Local.Server = ServerDown },
			want: []Action{StartStandby{}},
		},
		{
			name: "a start that failed is tried again later", view: vacant(), rule: "vacant.start", trouble: true, wake: time.Second,
			with: func(v *View) {
				v.Local.Server = ServerDown
				v.Results = []JobResult{failed(JobStart, ClassEnv, 1, 0)}
			},
		},
		{name: "a server on its way up is waited for", view: vacant(), rule: "vacant.wait_server", with: func(v *View) { v.Local.Server = ServerStarting }, wake: time.Second},
		{name: "a server of unknown role is waited for", view: vacant(), rule: "vacant.wait_server", with: func(v *View) { v.Local.Role = RoleUnknown }},
	}
}

func TestTheExpectationOfTheRowsIsWhatNextReignMakes(t *testing.T) {
	v := vacant()
	if got := nextReign(&v); got != crown()[0].(AcquireLeader).Reign {
		t.Errorf("got %+v", got)
	}
}
