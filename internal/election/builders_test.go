package election

import "time"

// The cluster of the tests: a leads, b and c follow, everybody is at LSN 100 on timeline 1.
const (
	testNow    = 1000 * time.Second
	testTTL    = 10 * time.Second
	testMargin = 1550 * time.Millisecond
	testSystem = "7000000000000000001"

	leaderRev = 50 // the revision of the leader key as a wrote it
	storeRev  = 100
)

var testWall = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func leaseOf(name string) LeaseID { return LeaseID(10 + name[0] - 'a') }
func urlOf(name string) string    { return "postgres://" + name + ":5432/postgres" }

func testMember(name, role string) Member {
	return Member{
		Name: name, ConnURL: urlOf(name), APIURL: "http://" + name + ":8008/patroni",
		State: StateRunning, Role: role, Timeline: 1, XlogLocation: 100,
		Tags: Tags{FailoverPriority: 1}, Version: "4.1.4", PghaVersion: "test", Lease: leaseOf(name), ModRevision: 20,
	}
}

func testView(self string) View {
	return View{
		Now: testNow, Wall: testWall,
		Self: Self{Name: self, Tags: Tags{FailoverPriority: 1}, MayBootstrap: true},
		Policy: Policy{
			TTL: testTTL, Margin: testMargin, LoopWait: 3 * time.Second, MaximumLag: 1 << 20,
			PrimaryStartTimeout: 300 * time.Second, UseRewind: true, CheckTimeline: true, UseSlots: true,
		},
		Store: Store{
			Seen: true, FreshAt: testNow, SeenAt: 10 * time.Second,
			Cluster: Cluster{
				Revision: storeRev, ClusterID: 1,
				Leader:     Leader{Present: true, Name: "a", ModRevision: leaderRev, Lease: leaseOf("a")},
				Initialize: Initialize{State: BootstrapDone, SystemID: testSystem, ModRevision: 5},
				Members:    []Member{testMember("a", "primary"), testMember("b", "replica"), testMember("c", "replica")},
				Status:     Status{Optime: 100, ModRevision: 60},
				Reign:      Reign{Epoch: 1, Holder: "a", NextTimeline: 1, Lease: leaseOf("a"), ModRevision: leaderRev},
				ConfigRev:  8,
			},
		},
		Lease: leaseOf(self),
		Local: Local{
			Data: DataCluster, SystemID: testSystem, At: testNow, Server: ServerRunning, Since: 100 * time.Second,
			Timeline: 1, LSN: 100, ConfigRev: 8,
		},
		Fencer: Fencer{Alive: true},
	}
}

// healthyLeader is a, which leads and lacks nothing.
func healthyLeader() View {
	v := testView("a")
	v.Own = Own{Revision: leaderRev, Lease: leaseOf("a"), Epoch: 1, Sent: testNow - time.Second, TTL: testTTL}
	v.Local.Role = RolePrimary
	v.Local.PromotedCheckpoint = Yes
	v.Local.Walsenders = []Walsender{{Name: "b", State: "streaming", LSN: 100}, {Name: "c", State: "streaming", LSN: 100}}
	v.Local.SlotMembers, v.Local.SlotsKnown = []string{"b", "c"}, true
	v.Fencer = Fencer{Alive: true, Armed: true, Epoch: 1, Until: v.Own.FenceAt(testMargin), AckAt: testNow - time.Second}
	return v
}

// healthyStandby is b, which streams from a.
func healthyStandby() View {
	v := testView("b")
	v.Local.Role = RoleStandby
	v.Local.Signal = true
	v.Local.Upstream, v.Local.UpstreamConnURL = "a", urlOf("a")
	v.Local.Streaming = true
	return v
}

// downStandby is b with its server proven down.
func downStandby() View {
	v := healthyStandby()
	v.Local.Server, v.Local.Streaming, v.Local.Role = ServerDown, false, RoleUnknown
	return v
}

// vacant is b after a is gone and its lease is known to be over; c answered and is as far.
func vacant() View {
	v := healthyStandby()
	v.Local.Streaming, v.Local.StreamingLostAt = false, testNow-2*time.Second
	v.Store.Cluster.Leader = Leader{}
	v.Store.Cluster.Members = v.Store.Cluster.Members[1:] // the key of a hung on its lease
	v.Store.Vacancy = Vacancy{Since: testNow - 500*time.Millisecond, Revision: leaderRev, Lease: leaseOf("a"), LeaseGone: Yes}
	v.Probes = Probes{
		StartedAt: testNow - 300*time.Millisecond, DoneAt: testNow - 100*time.Millisecond,
		Answers: []Probe{
			{Name: "a"},
			{Name: "c", Answered: true, Role: RoleStandby, Timeline: 1, LSN: 100, Priority: 1},
		},
	}
	return v
}

// emptyStore is b in front of a store that has never held a cluster.
func emptyStore() View {
	v := testView("b")
	v.Store.Cluster = Cluster{Revision: 7, ClusterID: 1, Initialize: Initialize{State: BootstrapNever}, Members: []Member{testMember("b", "uninitialized")}}
	v.Store.Vacancy = Vacancy{Since: testNow - time.Second}
	v.Local = Local{Data: DataEmpty, Server: ServerDown, At: testNow}
	return v
}

// asked puts a due request for a switchover from a to b before the leader.
func asked(candidate string) View {
	v := healthyLeader()
	v.Store.Cluster.Failover = FailoverRequest{Leader: "a", Candidate: candidate, ModRevision: 90}
	v.Store.FailoverAt = testNow - time.Second
	return v
}

// setProbe changes what a member answered.
func setProbe(v *View, name string, f func(*Probe)) {
	for i := range v.Probes.Answers {
		if v.Probes.Answers[i].Name == name {
			f(&v.Probes.Answers[i])
			return
		}
	}
	p := Probe{Name: name, Answered: true, Role: RoleStandby, Timeline: 1, LSN: 100, Priority: 1}
	f(&p)
	v.Probes.Answers = append(v.Probes.Answers, p)
}

// setMember changes what a member published.
func setMember(v *View, name string, f func(*Member)) {
	for i := range v.Store.Cluster.Members {
		if v.Store.Cluster.Members[i].Name == name {
			f(&v.Store.Cluster.Members[i])
		}
	}
}

func failed(kind JobKind, class FailureClass, times int, before time.Duration) JobResult {
	return JobResult{Kind: kind, At: testNow - before, Err: "it broke", Class: class, Failures: times}
}

// toBePromoted has a leader's server be the standby that it was when it won the key.
func toBePromoted(v *View) {
	v.Local.Role, v.Local.Signal = RoleStandby, true
	v.Store.Cluster.Reign.NextTimeline = v.Local.Timeline + 1
}
