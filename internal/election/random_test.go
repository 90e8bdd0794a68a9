package election

import (
	"time"

	"pgregory.net/rapid"
)

// chance draws from a few values. Most facts below come from small sets whose members meet each
// other: equal revisions, equal leases, names that are members and names that are not.
func chance[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func anyTags(t *rapid.T) Tags {
	return Tags{
		NoFailover: chance(t, "nofailover", false, false, false, true), FailoverPriority: chance(t, "priority", 1, 1, 2, 0),
		NoStream: chance(t, "nostream", false, false, true), ReplicateFrom: chance(t, "replicatefrom", "", "", "a", "c", "x"),
	}
}

func anyMember(t *rapid.T, name string) Member {
	m := testMember(name, chance(t, "role", "primary", "replica", "promoted", "demoted"))
	m.State = chance(t, "state", StateRunning, StateRunning, StateStarting, StateStopped)
	m.Tags = anyTags(t)
	m.ConnURL = chance(t, "conn_url", m.ConnURL, m.ConnURL, "")
	m.APIURL = chance(t, "api_url", m.APIURL, m.APIURL, "")
	m.PghaVersion = chance(t, "pgha", "test", "test", "")
	m.Lease = chance(t, "member lease", m.Lease, 99)
	return m
}

func anyCluster(t *rapid.T) Cluster {
	rev := func(label string) int64 { return chance(t, label, int64(0), 20, leaderRev, 90, 95) }
	c := Cluster{
		Revision: chance(t, "revision", int64(0), leaderRev-1, leaderRev, storeRev), ClusterID: 1,
		Initialize: Initialize{
			State:    chance(t, "initialize", BootstrapDone, BootstrapDone, BootstrapDone, BootstrapUnknown, BootstrapNever, BootstrapRunning),
			SystemID: chance(t, "system", testSystem, testSystem, testSystem, "7999"), Runner: chance(t, "runner", "", "b", "c"),
			RunnerEver: chance(t, "runner ever", true, false), ModRevision: 5,
		},
		Status:   Status{Optime: chance(t, "optime", LSN(0), 100, 200), ModRevision: rev("status")},
		Reign:    Reign{Epoch: chance(t, "epoch", uint64(0), 1, 4), Holder: chance(t, "holder", "", "a", "b", "c"), NextTimeline: chance(t, "next", Timeline(0), 2, 9), ModRevision: rev("reign")},
		Release:  Release{LeaderRevision: rev("released"), ModRevision: rev("release")},
		Failover: FailoverRequest{Leader: chance(t, "of", "", "", "a", "b"), Candidate: chance(t, "to", "", "", "a", "b", "c", "x"), ModRevision: rev("failover")},

		ConfigRev: chance(t, "config", int64(8), 8, 0, 9), HistorySeen: chance(t, "history seen", true, false),
	}
	if chance(t, "leader", true, false) {
		c.Leader = Leader{
			Present: true, Name: chance(t, "leader name", "a", "a", "b", "c", "x"), ModRevision: chance(t, "leader revision", int64(leaderRev), 95),
			Lease: chance(t, "leader lease", leaseOf("a"), leaseOf("b"), 99),
		}
	}
	if at := chance(t, "scheduled", 0, 0, -time.Hour, -time.Second, time.Hour); at != 0 {
		c.Failover.ScheduledAt = testWall.Add(at)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if chance(t, "is there", true, true, true, false) {
			c.Members = append(c.Members, anyMember(t, name))
		}
		if chance(t, "offers", false, false, true) {
			c.Offers = append(c.Offers, Offer{Name: name, Lease: chance(t, "offer", leaseOf(name), 99), For: rev("for"), ModRevision: 92})
		}
	}
	if chance(t, "history", true, false) {
		c.History = []TimelineRecord{{Timeline: chance(t, "last", Timeline(0), 1, 2)}}
	}
	if chance(t, "failsafe", false, false, true) {
		c.Failsafe = []FailsafeMember{{Name: "a"}, {Name: chance(t, "other", "b", "c")}}
	}
	return c
}

func anyInstant(t *rapid.T, label string) Instant {
	return testNow - chance(t, label, 0, time.Millisecond, time.Second, testTTL-2*testMargin, testTTL, 2*testTTL, testNow)
}

func anyLocal(t *rapid.T) Local {
	return Local{
		Data:     chance(t, "data", DataCluster, DataCluster, DataCluster, DataUnknown, DataEmpty, DataPartial, DataForeign, DataUnreadable),
		SystemID: chance(t, "own system", testSystem, testSystem, ""), At: anyInstant(t, "at"), Since: anyInstant(t, "since"),
		Server:   chance(t, "server", ServerRunning, ServerRunning, ServerDown, ServerDown, ServerUnknown, ServerDying, ServerStarting, ServerSilent),
		Role:     chance(t, "own role", RolePrimary, RoleStandby, RoleUnknown),
		Signal:   chance(t, "signal", true, false),
		Timeline: chance(t, "timeline", Timeline(1), 1, 2, 0), LSN: chance(t, "lsn", LSN(100), 101, 99, 0),
		Upstream: chance(t, "upstream", "a", "c", ""), UpstreamConnURL: chance(t, "upstream url", urlOf("a"), urlOf("c"), ""),
		Streaming: chance(t, "streaming", true, false), StreamingLostAt: anyInstant(t, "lost"),
		Divergence: chance(t, "divergence", DivergenceUnknown, DivergenceNone, DivergenceRewind, DivergenceClone, DivergenceWrongOwner),

		DivergenceFor: chance(t, "divergence for", int64(leaderRev), 95), ConfigRev: 8,
		Walsenders:  []Walsender{{Name: "c", State: chance(t, "sender", "streaming", "catchup"), LSN: chance(t, "sent", LSN(100), 50)}, {Name: "a", State: "streaming", LSN: 100}},
		SlotMembers: chance(t, "slots", nil, []string{"a", "c"}), SlotsKnown: chance(t, "slots known", true, false),

		PromotedCheckpoint: chance(t, "checkpoint", Yes, No, Unknown),
	}
}

func anyResults(t *rapid.T) []JobResult {
	var out []JobResult
	for _, k := range []JobKind{JobBootstrap, JobClone, JobCompare, JobHandOver, JobPromote, JobRewind, JobStart} {
		if chance(t, "result", false, false, true) {
			r := failed(k, chance(t, "class", ClassData, ClassEnv, ClassPeer, ClassCanceled, ClassOther), chance(t, "failures", 1, 2, 3, 9), 0)
			r.At, r.For = anyInstant(t, "failed at"), chance(t, "failed for", int64(leaderRev), 90)
			if chance(t, "succeeded", false, false, true) {
				r.Err, r.Class = "", ClassNone
			}
			out = append(out, r)
		}
	}
	return out
}

func anyProbes(t *rapid.T) Probes {
	p := Probes{StartedAt: anyInstant(t, "probe started"), DoneAt: anyInstant(t, "probe done")}
	for _, name := range []string{"a", "c", "d"} {
		if chance(t, "probed", true, false) {
			p.Answers = append(p.Answers, Probe{
				Name: name, Answered: chance(t, "answered", true, false), Role: chance(t, "its role", RoleStandby, RoleStandby, RoleUnknown, RolePrimary),
				Timeline: chance(t, "its timeline", Timeline(1), 2, 0), LSN: chance(t, "its lsn", LSN(100), 101, 0),
				NoFailover: chance(t, "its nofailover", false, false, true), Priority: chance(t, "its priority", 1, 2),
			})
		}
	}
	return p
}

// anyView draws a View of b, true or not.
func anyView(t *rapid.T) View {
	v := testView("b")
	v.Self.Tags, v.Self.MayBootstrap = anyTags(t), chance(t, "may bootstrap", true, false)
	v.Policy = Policy{
		TTL: testTTL, Margin: chance(t, "margin", testMargin, testMargin, 2*time.Second, 0), LoopWait: 3 * time.Second,
		MaximumLag: chance(t, "maximum lag", uint64(1<<20), 0), PrimaryStartTimeout: chance(t, "start timeout", 300*time.Second, time.Millisecond, 0),
		UseRewind: chance(t, "use rewind", true, false), Pause: chance(t, "pause", false, false, true), UseSlots: chance(t, "use slots", true, false),
		StandbyCluster: chance(t, "standby cluster", false, false, false, true), FailsafeMode: chance(t, "failsafe mode", false, true),
	}
	v.Store = Store{
		Seen: chance(t, "seen", true, true, true, true, false), FreshAt: anyInstant(t, "fresh"), Cluster: anyCluster(t),
		FailoverAt: anyInstant(t, "failover at"), ResumedAt: chance(t, "resumed", 0, 0, testNow-time.Second, testNow-2*testTTL), StatusAt: anyInstant(t, "status at"),
	}
	if !v.Store.Cluster.Leader.Present {
		v.Store.Vacancy = Vacancy{
			Since: anyInstant(t, "vacant since"), Revision: chance(t, "vacated", int64(0), leaderRev, 95), Lease: chance(t, "vacated lease", 0, leaseOf("a")),
			LeaseGone: chance(t, "lease gone", Unknown, No, Yes), Replaced: chance(t, "replaced", false, false, false, true),
		}
	}
	if chance(t, "title", true, false) {
		v.Own = Own{Revision: leaderRev, Lease: leaseOf("b"), Epoch: 1, Sent: anyInstant(t, "sent"), TTL: chance(t, "granted", testTTL, testTTL, 30*time.Second)}
	}
	v.Lease = chance(t, "lease", leaseOf("b"), leaseOf("b"), 0)
	v.Local = anyLocal(t)
	v.Fencer = Fencer{Alive: chance(t, "fencer", true, true, true, false), Revision: chance(t, "armed for", 0, 0, int64(leaderRev))}
	if chance(t, "job", false, false, false, true) {
		v.Job = Job{
			Kind:   chance(t, "job kind", JobBootstrap, JobClone, JobRewind, JobCompare, JobStart, JobPromote, JobDemote, JobStop, JobRestart, JobHandOver),
			Detail: chance(t, "detail", "a", "c", ""), Writable: chance(t, "writable", true, false), Cancelling: chance(t, "cancelling", false, true), For: leaderRev,
		}
	}
	v.Results, v.Probes = anyResults(t), anyProbes(t)
	for _, k := range []CommandKind{CommandRestart, CommandReinit} {
		if chance(t, "command", false, false, false, true) {
			v.Commands = append(v.Commands, Command{Kind: k, ID: 7, FromLeader: chance(t, "from leader", false, true)})
		}
	}
	v.Stopping = chance(t, "stopping", false, false, false, true)
	anySynchronous(t, &v)
	return v
}
