package election

import (
	"strings"
	"testing"
	"time"
)

// TestGuardRefuses doctors a plan or a View for each sacred rule. The first part of each case is
// the control: the same plan on the View as it was passes.
func TestGuardRefuses(t *testing.T) {
	promotable := func() View {
		v := healthyLeader()
		toBePromoted(&v)
		return v
	}
	downLeader := func() View { v := healthyLeader(); v.Local.Server = ServerDown; return v }
	diverged := func() View {
		v := downStandby()
		v.Local.Divergence, v.Local.DivergenceFor = DivergenceRewind, leaderRev
		return v
	}
	emptied := func() View {
		v := downStandby()
		v.Local = Local{Data: DataEmpty, Server: ServerDown}
		return v
	}
	gifted := func() View {
		v := healthyStandby()
		v.Store.Cluster.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: leaseOf("b")}
		return v
	}
	stranger := func(v *View) {
		v.Store.Cluster.Leader = Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
	}
	rewind, clone := Rewind{Source: "a", ConnURL: urlOf("a")}, cloneOf("a")
	for _, tc := range []struct {
		name   string
		view   func() View
		action Action
		doctor func(*View)
		want   string
	}{
		{"promotion without a title", promotable, Promote{}, func(v *View) { v.Own = Own{} }, "without a title"},
		{"promotion while another holds the key", promotable, Promote{}, stranger, "another's"},
		{"promotion within the margin", promotable, Promote{}, func(v *View) { v.Now = v.Own.DemoteAt(testMargin) }, "safety margin"},
		{"promotion under a margin that is no margin", promotable, Promote{}, func(v *View) {
			v.Policy.Margin = 0
			v.Now = v.Own.Sent + v.Own.TTL - time.Second
		}, "safety margin"},
		{"promotion without a fencer", promotable, Promote{}, func(v *View) { v.Fencer.Alive = false }, "fencer"},
		{"promotion to a timeline that nobody reserved", promotable, Promote{}, func(v *View) { v.Local.Timeline = 2 }, "nobody reserved"},
		{"promotion of another system", promotable, Promote{}, func(v *View) { v.Local.SystemID = "7999" }, "system identifier"},
		{"start of a primary without a title", downLeader, StartPrimary{}, func(v *View) { v.Own = Own{} }, "without a title"},
		{"start of a primary within the margin", downLeader, StartPrimary{}, func(v *View) { v.Own.Sent = 0 }, "safety margin"},
		{"restart of a primary without a title", healthyLeader, RestartServer{}, func(v *View) { v.Own = Own{} }, "without a title"},
		{"hand-over without a title", healthyLeader, HandOver{Candidate: "b"}, func(v *View) { v.Own = Own{} }, "without a title"},
		{"hand-over to itself", healthyLeader, HandOver{Candidate: "b"}, func(v *View) { v.Self.Name = "b" }, "to itself"},
		{"another failsafe set under a title that rests on promises", healthyLeader, WriteFailsafe{}, func(v *View) { v.Own.Promised = v.Own.Sent + 1 }, "promises"},
		{"another failsafe set while promises are asked for", healthyLeader, WriteFailsafe{}, func(v *View) { v.Failsafe.Asking = true }, "promises"},
		{"release of the key under a running server", downLeader, ReleaseLeader{}, func(v *View) { v.Local.Server = ServerRunning }, "not proven down"},
		{"release of the key under a dying server (hole 7)", downLeader, ReleaseLeader{}, func(v *View) { v.Local.Server = ServerDying }, "not proven down"},
		{"release of the key under an unknown server", downLeader, ReleaseLeader{}, func(v *View) { v.Local.Server = ServerUnknown }, "not proven down"},
		{"forgetting a title under a running server", downLeader, ForgetLeader{}, func(v *View) { v.Local.Server = ServerRunning }, "not proven down"},
		{"taking a key that is there", vacant, AcquireLeader{}, stranger, "while it is there"},
		{"taking a deleted key whose lease lives (hole 5)", vacant, AcquireLeader{}, func(v *View) { v.Store.Vacancy.LeaseGone = No }, "still be running"},
		{"taking a key whose lease is not known", vacant, AcquireLeader{}, func(v *View) { v.Store.Vacancy.Lease = 0 }, "still be running"},
		{"taking a key on a stale release record", vacant, AcquireLeader{}, func(v *View) {
			v.Store.Vacancy.LeaseGone = No
			v.Store.Cluster.Release = Release{LeaderRevision: leaderRev - 20, ModRevision: leaderRev - 10}
		}, "still be running"},
		{"taking a key on the word of another store", vacant, AcquireLeader{}, func(v *View) { v.Store.Vacancy.Replaced = true }, "another store"},
		{"taking a key by which the own fencer was armed, on the word of another store", pausedAway, AcquireLeader{}, func(v *View) { v.Store.Vacancy.Replaced = true }, "another store"},
		{"taking the key of a later reign than the fencer was armed for", pausedAway, AcquireLeader{}, func(v *View) { v.Fencer.Revision-- }, "still be running"},
		{"taking a key for a standby because the own fencer was armed", pausedAway, AcquireLeader{}, func(v *View) { v.Local.Role = RoleStandby }, "still be running"},
		{"adopting a key of the own name that hangs on another lease (hole 8)", gifted, AdoptHandOver{Revision: 95}, func(v *View) {
			v.Store.Cluster.Leader.Lease = 99
		}, "own lease"},
		{"adopting a key without a lease", gifted, AdoptHandOver{Revision: 95}, func(v *View) { v.Lease, v.Store.Cluster.Leader.Lease = 0, 0 }, "own lease"},
		{"adopting a key that was written again since", gifted, AdoptHandOver{Revision: 95}, func(v *View) {
			v.Store.Cluster.Leader.ModRevision = 96
		}, "own lease"},
		{"rewind by the holder of the key", diverged, rewind, func(v *View) { v.Own = Own{Revision: 1} }, "holder"},
		{"rewind while nobody leads", diverged, rewind, func(v *View) { v.Store.Cluster.Leader = Leader{} }, "no other member"},
		{"rewind while the key bears the own name", diverged, rewind, func(v *View) { v.Store.Cluster.Leader.Name = "b" }, "no other member"},
		{"rewind under a leader that is no member", diverged, rewind, func(v *View) { v.Store.Cluster.Leader.Name = "x" }, "no other member"},
		{"rewind under a leader that does not serve", diverged, rewind, func(v *View) {
			setMember(v, "a", func(m *Member) { m.State = StateStarting })
		}, "does not serve"},
		{"rewind against itself", diverged, Rewind{Source: "a"}, func(v *View) { v.Self.Name = "a"; v.Store.Cluster.Leader.Name = "c" }, "from no other member"},
		{"rewind of a running primary", diverged, rewind, func(v *View) { v.Local.Server, v.Local.Role = ServerRunning, RolePrimary }, "running primary"},
		{"rewind of a server of unknown role", diverged, rewind, func(v *View) { v.Local.Server, v.Local.Signal = ServerSilent, false }, "unknown role"},
		{"rewind of an unknown directory", diverged, rewind, func(v *View) { v.Local.Data = DataUnknown }, "not known"},
		{"rewind of a directory that needs none", diverged, rewind, func(v *View) { v.Local.Divergence = DivergenceNone }, "not known to need it"},
		{"rewind on no comparison", diverged, rewind, func(v *View) { v.Local.Divergence = DivergenceUnknown }, "not known to need it"},
		{"copy over a directory that nothing is known against", diverged, clone, func(v *View) { v.Local.Divergence = DivergenceUnknown }, "nothing is known against"},
		{"copy over a directory whose start failed for the sake of a port", diverged, clone, func(v *View) {
			v.Local.Divergence = DivergenceUnknown
			v.Results = []JobResult{failed(JobStart, ClassEnv, 9, 0)}
		}, "nothing is known against"},
		{"copy over a whole directory as if it were unfinished", emptied, Clone{Source: "a", Partial: true}, func(v *View) { v.Local.Data = DataCluster }, "unfinished copy"},
		{"copy over a directory of another system", diverged, clone, func(v *View) { v.Local.SystemID = "7999" }, "another system"},
		{"copy from another system", diverged, clone, func(v *View) { v.Local.Divergence = DivergenceWrongOwner }, "another system"},
		{"copy over foreign files", emptied, clone, func(v *View) { v.Local.Data = DataForeign }, "not known"},
		{"copy over what cannot be read", emptied, clone, func(v *View) { v.Local.Data = DataUnreadable }, "not known"},
		{"copy by the holder of the key", emptied, clone, func(v *View) { v.Own = Own{Revision: 1} }, "holder"},
		{"bootstrap of a cluster that exists", emptyStore, Bootstrap{}, func(v *View) { v.Store.Cluster.Initialize.State = BootstrapDone }, "exists"},
		{"bootstrap under a leader", emptyStore, ClaimBootstrap{}, stranger, "exists"},
		{"bootstrap into data", emptyStore, ClaimBootstrap{}, func(v *View) { v.Local.Data = DataCluster }, "not empty"},
		{"bootstrap into the unknown", emptyStore, Bootstrap{}, func(v *View) { v.Local.Data = DataUnknown }, "not empty"},
		{"a job while another runs", downLeader, StartPrimary{}, func(v *View) { v.Job = Job{Kind: JobStop} }, "while another runs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, p := tc.view(), Plan{Rule: "some.rule", Actions: []Action{tc.action}}
			if _, partial := tc.action.(Clone); !partial || !tc.action.(Clone).Partial {
				if why := Violation(v, p); why != "" {
					t.Fatalf("the control is refused: %s", why)
				}
			}
			tc.doctor(&v)
			why := Violation(v, p)
			if !strings.Contains(why, tc.want) {
				t.Fatalf("got %q, want a refusal that says %q", why, tc.want)
			}
			got := guarded(&v, p)
			if got.Rule != ruleRefused || len(got.Actions) != 0 || !got.Trouble || !strings.Contains(got.Reason, "some.rule") || !strings.Contains(got.Reason, why) {
				t.Errorf("the refused plan became %s", got)
			}
		})
	}
}

func TestGuardRefusesTwoJobsAtOnce(t *testing.T) {
	v := healthyLeader()
	v.Local.Server = ServerDown
	if why := Violation(v, Plan{Actions: []Action{StartPrimary{}, StartPrimary{}}}); why != "more than one job at a time" {
		t.Errorf("got %q", why)
	}
}

func TestGuardSeesEveryActionOfAPlan(t *testing.T) {
	v := healthyStandby()
	if why := Violation(v, Plan{Actions: []Action{ApplyConfig{}, ProbePeers{}, Promote{}}}); why == "" {
		t.Error("a promotion behind two harmless actions was not seen")
	}
}

func TestGuardLetsAHolderPutItsKeyBack(t *testing.T) {
	v := healthyLeader()
	v.Store.Cluster.Leader = Leader{}
	p := Plan{Actions: []Action{AcquireLeader{}}}
	if why := Violation(v, p); why != "" {
		t.Errorf("refused: %s", why)
	}
	v.Now = v.Own.DemoteAt(testMargin)
	if why := Violation(v, p); why == "" {
		t.Error("not refused at the margin")
	}
}

func TestGuardLetsAPausedTitleBeForgotten(t *testing.T) {
	v := healthyLeader()
	v.Policy.Pause = true
	if why := Violation(v, Plan{Actions: []Action{ForgetLeader{}}}); why != "" {
		t.Errorf("refused: %s", why)
	}
}
