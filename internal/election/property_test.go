package election

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestMain raises the number of random Views, which cost little, and keeps failures out of the
// source tree: a failing property prints the seed that replays it (-rapid.seed).
func TestMain(m *testing.M) {
	flag.Parse()
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": "800", "rapid.nofailfile": "true"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestAnyViewGetsASoundPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		p := Decide(v)
		if bad := faults(v, p); len(bad) > 0 {
			t.Fatalf("%v\nplan: %s", bad, p)
		}
		if diff := cmp.Diff(p, Decide(v)); diff != "" {
			t.Fatalf("the same View got another plan the second time:\n%s", diff)
		}
	})
}

func TestTheViewIsNotChangedByTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		before := fmt.Sprintf("%#v", v)
		Decide(v)
		if after := fmt.Sprintf("%#v", v); after != before {
			t.Fatalf("before %s\nafter  %s", before, after)
		}
	})
}

func TestTheOrderOfMembersAndAnswersDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		w := v
		w.Store.Cluster.Members = rapid.Permutation(v.Store.Cluster.Members).Draw(t, "members")
		w.Store.Cluster.Offers = rapid.Permutation(v.Store.Cluster.Offers).Draw(t, "offers")
		w.Store.Cluster.Failsafe = rapid.Permutation(v.Store.Cluster.Failsafe).Draw(t, "failsafe")
		w.Probes.Answers = rapid.Permutation(v.Probes.Answers).Draw(t, "answers")
		w.Local.Walsenders = rapid.Permutation(v.Local.Walsenders).Draw(t, "walsenders")
		w.Store.Cluster.Votes = rapid.Permutation(v.Store.Cluster.Votes).Draw(t, "votes")
		w.Local.Streamed = rapid.Permutation(v.Local.Streamed).Draw(t, "streamed")
		w.Results = rapid.Permutation(v.Results).Draw(t, "results")
		a, b := Decide(v), Decide(w)
		b.Reason = a.Reason // of several members that are better, the first is named
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("another order, another plan (-one +other):\n%s", diff)
		}
	})
}

// drastic says that an action is one that not knowing must never lead to.
func drastic(v View, a Action) bool {
	switch a.(type) {
	case Demote, ReleaseLeader, StopServer, Rewind, Clone, AcquireLeader, Bootstrap, ClaimBootstrap, TakeOver, FreezeServer, CastVote, SetSync:
		return true
	}
	return makesWritable(v, a)
}

func TestNotKnowingLeadsToNothingDrastic(t *testing.T) {
	for name, forget := range map[string]func(*View){
		"an unread store":                     func(v *View) { v.Store = Store{} },
		"a local server never looked at":      func(v *View) { v.Local = Local{} },
		"a directory never looked at":         func(v *View) { v.Local.Data, v.Local.SystemID = DataUnknown, "" },
		"a server whose state is not known":   func(v *View) { v.Local.Server = ServerUnknown },
		"a store and a server never observed": func(v *View) { v.Store, v.Local, v.Fencer, v.Probes = Store{}, Local{}, Fencer{}, Probes{} },
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				v := anyView(t)
				v.Stopping = false // an operator's word, not a guess
				if v.Own.Held() && !v.titleGood() {
					v.Own = Own{} // a title that is over is knowledge
				}
				forget(&v)
				p := Decide(v)
				for _, a := range p.Actions {
					// A holder whose key was deleted knows that it is its own.
					if _, ok := a.(AcquireLeader); ok && v.Own.Held() {
						continue
					}
					if drastic(v, a) {
						t.Fatalf("%s", p)
					}
				}
			})
		})
	}
}

func TestAnUnknownRoleIsNeitherPromotedNorSilencedNorOverwritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.Local.Role, v.Local.Signal = RoleUnknown, false
		v.Local.Server = chance(t, "up", ServerRunning, ServerSilent, ServerStarting)
		v.Stopping = false
		if v.Own.Held() && (!v.titleGood() || v.Local.Data != DataCluster || v.Policy.PrimaryStartTimeout != 0) {
			v.Own = Own{}
		}
		p := Decide(v)
		for _, a := range p.Actions {
			if _, ok := a.(AcquireLeader); !ok && drastic(v, a) {
				t.Fatalf("%s", p)
			}
		}
	})
}

func TestASilentFencerMakesNobodyALeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.Fencer = Fencer{}
		p := Decide(v)
		for _, a := range p.Actions {
			_, offers := a.(OfferLease)
			_, takes := a.(AcquireLeader)
			if makesWritable(v, a) || offers || takes && !v.Own.Held() && !v.Policy.Pause {
				t.Fatalf("%s", p)
			}
		}
	})
}

func TestAPausedServerIsNeitherStartedNorStoppedNorPromoted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.Policy.Pause, v.Stopping, v.Commands = true, false, nil
		v.Store.Cluster.Failover, v.Local.Data, v.Store.Cluster.Initialize.SystemID = FailoverRequest{}, DataCluster, testSystem
		if v.Own.Held() && v.Local.Role != RolePrimary {
			v.Own = Own{}
		}
		p := Decide(v)
		for _, a := range p.Actions {
			if _, looks := a.(CompareHistory); IsJob(a) && !looks {
				t.Fatalf("%s", p)
			}
		}
	})
}

// TestTheMostAdvancedEligibleMemberWins lets members of one cluster see each other after the leader
// is gone, and asks each of them.
func TestTheMostAdvancedEligibleMemberWins(t *testing.T) {
	type rank struct {
		timeline Timeline
		lsn      LSN
		priority int
	}
	better := func(a, b rank) bool {
		if a.timeline != b.timeline {
			return a.timeline > b.timeline
		}
		if a.lsn != b.lsn {
			return a.lsn > b.lsn
		}
		return a.priority > b.priority
	}
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"b", "c", "d", "e"}[:rapid.IntRange(1, 4).Draw(t, "members")]
		ranks, barred := make(map[string]rank), make(map[string]bool)
		var members []Member
		for _, n := range names {
			ranks[n] = rank{chance(t, "timeline", Timeline(1), 1, 2), chance(t, "lsn", LSN(100), 101, 102), chance(t, "priority", 1, 2, 3)}
			barred[n] = chance(t, "nofailover", false, false, true)
			m := testMember(n, "replica")
			m.Tags = Tags{NoFailover: barred[n], FailoverPriority: ranks[n].priority}
			members = append(members, m)
		}
		for _, n := range names {
			v := vacant()
			v.Self = Self{Name: n, Tags: Tags{NoFailover: barred[n], FailoverPriority: ranks[n].priority}}
			v.Lease, v.Store.Cluster.Members = leaseOf(n), members
			v.Local.Timeline, v.Local.LSN = ranks[n].timeline, ranks[n].lsn
			v.Probes.Answers = []Probe{{Name: "a"}}
			for _, o := range names {
				if o != n {
					v.Probes.Answers = append(v.Probes.Answers, Probe{
						Name: o, Answered: true, Role: RoleStandby, Timeline: ranks[o].timeline, LSN: ranks[o].lsn,
						Priority: ranks[o].priority, NoFailover: barred[o],
					})
				}
			}
			wins := !barred[n] && !slices.ContainsFunc(names, func(o string) bool { return !barred[o] && better(ranks[o], ranks[n]) })
			if p := Decide(v); acquires(p) != wins {
				t.Fatalf("%s of %v (barred: %v) acquires: %t, want %t: %s", n, ranks, barred, acquires(p), wins, p)
			}
		}
	})
}

func TestOnlyOneOfTwoViewsOfTheSameKeyHasATitle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Whatever two members believe to hold, a snapshot newer than both leaves one title at most.
		c := anyCluster(t)
		c.Revision = storeRev
		if c.Leader.ModRevision == 95 { // written by c, then
			c.Leader.Name, c.Leader.Lease = "c", leaseOf("c")
		}
		v, w := anyView(t), anyView(t)
		w.Self.Name, w.Lease = "c", leaseOf("c")
		v.Store.Cluster, w.Store.Cluster = c, c
		v.Own.Revision, w.Own.Revision = leaderRev, 95
		if c.Leader.Present && v.titleGood() && w.titleGood() {
			t.Fatalf("both: %+v", c.Leader)
		}
	})
}

func TestWakeIsNeverBeyondReach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		v.Wall = time.Time{}
		if p := Decide(v); p.Wake < 0 {
			t.Fatalf("%s: wake %s", p, p.Wake)
		}
	})
}
