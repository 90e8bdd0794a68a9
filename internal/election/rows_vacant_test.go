package election

import (
	"testing"
	"time"
)

// crown is what b does when it may lead.
func crown() []Action {
	return []Action{AcquireLeader{Reign: Reign{Epoch: 2, Holder: "b", ParentTimeline: 1, NextTimeline: 2, LSN: 100, Lease: leaseOf("b")}}}
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
