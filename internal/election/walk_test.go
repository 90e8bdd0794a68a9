package election

import (
	"testing"
	"time"
)

// The walk tries every combination of the small facts below. It finds what no row and no random
// View happens to meet: a rule order with a gap, a plan that the guard refuses.

type keyState uint8

const (
	keyAbsentProven keyState = iota
	keyAbsentUnproven
	keyNeverThere
	keyOther
	keyOtherStarting
	keyOwnRevision
	keyOwnNameOtherLease
	keyOwnLease
	keyStates
)

type titleState uint8

const (
	titleNone titleState = iota
	titleGood
	titleAtMargin
	titleExpired
	titleStates
)

func walkKey(v *View, k keyState) {
	c := &v.Store.Cluster
	v.Store.Vacancy = Vacancy{}
	switch k {
	case keyAbsentProven, keyAbsentUnproven, keyNeverThere:
		c.Leader = Leader{}
		v.Store.Vacancy = Vacancy{Since: testNow - 500*time.Millisecond, Revision: leaderRev, Lease: leaseOf("a"), LeaseGone: No}
		if k == keyAbsentProven {
			v.Store.Vacancy.LeaseGone = Yes
		}
		if k == keyNeverThere {
			v.Store.Vacancy = Vacancy{Since: testNow - time.Second}
			c.Reign, c.Status, c.Initialize = Reign{}, Status{}, Initialize{State: BootstrapNever}
		}
	case keyOther, keyOtherStarting:
		c.Leader = Leader{Present: true, Name: "a", ModRevision: 95, Lease: leaseOf("a")}
		if k == keyOtherStarting {
			setMember(v, "a", func(m *Member) { m.State, m.Role = StateStarting, "replica" })
		}
	case keyOwnRevision:
		c.Leader = Leader{Present: true, Name: "b", ModRevision: leaderRev, Lease: leaseOf("b")}
	case keyOwnNameOtherLease:
		c.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: 99}
	case keyOwnLease:
		c.Leader = Leader{Present: true, Name: "b", ModRevision: 95, Lease: leaseOf("b")}
	}
}

func walkTitle(v *View, s titleState) {
	if s == titleNone {
		return
	}
	v.Own = Own{Revision: leaderRev, Lease: leaseOf("b"), Epoch: 1, Sent: testNow - time.Second, TTL: testTTL}
	switch s {
	case titleAtMargin:
		v.Own.Sent = testNow - testTTL + 2*testMargin
	case titleExpired:
		v.Own.Sent = testNow - 2*testTTL
	}
}

// walk calls f with every combination of the facts about the local server, given the states of the
// directory and of the signal file.
func walk(datas []DataState, signals []bool, f func(Local)) {
	for _, data := range datas {
		for server := ServerUnknown; server <= ServerSilent; server++ {
			for role := RoleUnknown; role <= RoleStandby; role++ {
				for _, signal := range signals {
					l := vacant().Local
					l.Data, l.Server, l.Role, l.Signal = data, server, role, signal
					f(l)
				}
			}
		}
	}
}

func TestExhaustiveWalk(t *testing.T) {
	bools := []bool{false, true}
	views, hit := 0, make(map[RuleID]bool)
	try := func(jobs ...Job) func(Local) {
		return func(l Local) {
			for key := range keyStates {
				for title := range titleStates {
					base := vacant()
					base.Store.Cluster.Members = []Member{testMember("a", "primary"), testMember("b", "replica"), testMember("c", "replica")}
					base.Local = l
					walkKey(&base, key)
					walkTitle(&base, title)
					for _, job := range jobs {
						for _, pause := range bools {
							for _, stopping := range bools {
								v := base
								v.Job, v.Policy.Pause, v.Stopping = job, pause, stopping
								views++
								p, ok := mustBeSound(t, v)
								if !ok {
									t.Fatalf("after %d views", views)
								}
								hit[p.Rule] = true
							}
						}
					}
				}
			}
		}
	}
	walk([]DataState{DataUnknown, DataEmpty, DataCluster, DataPartial, DataForeign, DataUnreadable}, bools, try(Job{}))
	// While a job runs the directory's content is the job's business: known or not is all there is.
	walk([]DataState{DataUnknown, DataCluster}, []bool{true}, try(
		Job{Kind: JobClone, Detail: "c", For: leaderRev}, Job{Kind: JobStart, Writable: true}, Job{Kind: JobDemote},
		Job{Kind: JobPromote, Writable: true, Cancelling: true},
	))
	t.Logf("%d views, %d rules", views, len(hit))
}

// TestExhaustiveWalkOfTheOwnDirectory tries what the leader key and the own history say of a
// directory, with what has failed before and what an operator asks.
func TestExhaustiveWalkOfTheOwnDirectory(t *testing.T) {
	reinit, restart := []Command{{Kind: CommandReinit, ID: 1}}, []Command{{Kind: CommandRestart, ID: 3}}
	type past struct {
		from     string
		results  []JobResult
		commands []Command
	}
	pasts := []past{
		{},
		{commands: reinit},
		{commands: restart},
		{from: "c"},
		{from: "c", commands: reinit},
		{from: "c", commands: []Command{{Kind: CommandReinit, ID: 2, FromLeader: true}}},
	}
	for _, r := range []JobResult{
		failed(JobStart, ClassData, 2, time.Minute), failed(JobStart, ClassEnv, 5, time.Second), failed(JobRewind, ClassData, 2, time.Minute),
		failed(JobCompare, ClassPeer, 3, time.Minute), failed(JobClone, ClassPeer, 1, 0),
	} {
		pasts = append(pasts, past{results: []JobResult{r}}, past{results: []JobResult{r}, commands: reinit})
	}
	walk([]DataState{DataEmpty, DataCluster, DataPartial}, []bool{false, true}, func(l Local) {
		for divergence := DivergenceUnknown; divergence <= DivergenceWrongOwner; divergence++ {
			for _, key := range []keyState{keyOther, keyOtherStarting, keyOwnNameOtherLease} {
				for _, w := range pasts {
					v := healthyStandby()
					walkKey(&v, key)
					l.Divergence, l.DivergenceFor = divergence, v.Store.Cluster.Leader.ModRevision
					l.Streaming = l.Server == ServerRunning && divergence == DivergenceNone
					v.Local, v.Self.Tags.ReplicateFrom, v.Results, v.Commands = l, w.from, w.results, w.commands
					v.Policy.Pause = l.Signal && divergence == DivergenceNone || len(w.commands) > 0 && divergence == DivergenceRewind
					if _, ok := mustBeSound(t, v); !ok {
						t.FailNow()
					}
				}
			}
		}
	})
}
