package election

import "time"

// IDs that no row of the table bears: both stand for a defect.
const (
	ruleRefused RuleID = "guard.refused"
	ruleNone    RuleID = "decide.none"
)

// rule is one row of the decision table. When and Then look at nothing but the View.
type rule struct {
	id  RuleID
	doc string
	// when says whether the rule applies.
	when func(*View) bool
	// then makes the plan; Rule is filled in by Decide.
	then func(*View) Plan
	// steady: the reconcile rules add their actions to this plan.
	steady bool
}

// Decide walks the role rules in order; the first that applies makes the plan. A steady plan gets
// the actions of every reconcile rule that applies. The guard then looks at the result with eyes
// of its own (guard.go).
func Decide(v View) Plan { return DecideOn(&v) }

// DecideOn is Decide for a caller that decides very often: the View is not copied, nor changed.
func DecideOn(v *View) Plan {
	if r := applies(v); r != nil {
		p := r.then(v)
		p.Rule = r.id
		if r.steady {
			reconcile(v, &p)
		}
		return guarded(v, p)
	}
	// Every View has a rule (the exhaustive walk shows it); getting here is a defect, shown as one.
	return Plan{Rule: ruleNone, Reason: "no rule applies", Trouble: true}
}

func always(*View) bool { return true }

func idle(reason, change string) func(*View) Plan {
	return func(*View) Plan { return Plan{Reason: reason, Change: change} }
}

func trouble(reason, change string, actions ...Action) Plan {
	return Plan{Reason: reason, Change: change, Trouble: true, Actions: actions}
}

func blockRules() []rule {
	return []rule{
		{
			id:   "store.unread",
			doc:  "The consensus store has not been read yet in this life of the agent: nothing is known, nothing is done. The fencer watches a running server meanwhile.",
			when: func(v *View) bool { return !v.Store.Seen && !v.Stopping },
			then: func(v *View) Plan {
				return trouble("the consensus store has not answered yet", "an answer from any etcd endpoint")
			},
		},
		{
			id:  "local.unobserved",
			doc: "The own data directory and server have not been looked at yet.",
			when: func(v *View) bool {
				return !v.Own.Held() && (v.Local.Data == DataUnknown || v.Local.Server == ServerUnknown)
			},
			then: func(v *View) Plan {
				return Plan{Reason: "the local server has not been observed yet", Wake: time.Second}
			},
		},
		{
			id:  "system.mismatch",
			doc: "The data directory belongs to another cluster than the one in the store: it is never touched, and its server never leads here.",
			when: func(v *View) bool {
				in := v.Store.Cluster.Initialize
				return in.State == BootstrapDone && v.Local.SystemID != "" && v.Local.SystemID != in.SystemID &&
					v.Job.Kind == JobNone && !v.Stopping
			},
			then: systemMismatch,
		},
	}
}

func systemMismatch(v *View) Plan {
	reason := "data directory has system identifier " + v.Local.SystemID + ", the cluster has " +
		v.Store.Cluster.Initialize.SystemID
	p := trouble(reason, "another data_dir or scope in the configuration, or an emptied directory")
	switch {
	case v.Policy.Pause:
	case v.Own.Held() && v.Local.Server == ServerDown:
		p.Actions = []Action{ReleaseLeader{Why: "system identifier mismatch"}}
	case v.Local.Server != ServerDown && v.Local.Server != ServerUnknown && v.Local.Role == RolePrimary:
		p.Actions = []Action{Demote{Why: "system identifier mismatch"}}
	case v.Own.Held() && v.Local.Server == ServerRunning && v.Local.Role == RoleStandby:
		p.Actions = []Action{StopServer{Fast: true, ReleaseAfter: true}} // a standby: the key is for another
	}
	return p
}

func jobRules() []rule {
	return append([]rule{
		{
			id:  "job.title_lost",
			doc: "A job that may make the server writable runs, but the title to the leader key has run into its margin or is another's: the job is called off.",
			when: func(v *View) bool {
				return v.Job.Kind != JobNone && v.Job.Writable && !v.Job.Cancelling && !v.titleGood()
			},
			then: func(v *View) Plan {
				return trouble("the "+string(v.Job.Kind)+" job needs the leader key, which is no longer safely held",
					"", CancelJob{Why: "title lost"})
			},
		},
		{
			id:  "job.stop_asked",
			doc: "The agent was told to stop: a clone, rewind, comparison or bootstrap is called off first.",
			when: func(v *View) bool {
				return v.Stopping && v.Job.Kind != JobNone && !v.Job.Cancelling && cancelledByStop(v.Job.Kind)
			},
			then: func(v *View) Plan {
				return Plan{
					Reason:  "the agent is stopping, the " + string(v.Job.Kind) + " job is called off",
					Actions: []Action{CancelJob{Why: "agent stops"}},
				}
			},
		},
	}, jobRunningRules()...)
}

// jobRunningRules are for a job that nothing but its own purpose could end.
func jobRunningRules() []rule {
	return []rule{
		{
			id:  "job.source_gone",
			doc: "A clone runs, but the leader it copies from has lost the key to another: it is called off and begun again.",
			when: func(v *View) bool {
				c := &v.Store.Cluster
				return v.Job.Kind == JobClone && !v.Job.Cancelling && v.Job.For != 0 && c.Leader.Present &&
					c.Leader.ModRevision != v.Job.For && c.Revision > v.Job.For && c.Leader.Name != v.Job.Detail &&
					v.Job.Detail != ""
			},
			then: func(v *View) Plan {
				return Plan{
					Reason:  "the leader changed to " + v.Store.Cluster.Leader.Name + " while cloning from " + v.Job.Detail,
					Actions: []Action{CancelJob{Why: "source lost the leader key"}},
				}
			},
		},
		compareMootRule(),
		{
			id:   "job.running",
			doc:  "A local job runs; its end is the next news.",
			when: func(v *View) bool { return v.Job.Kind != JobNone },
			then: func(v *View) Plan {
				reason := "the " + string(v.Job.Kind) + " job is running"
				if v.Job.Detail != "" {
					reason += " (" + v.Job.Detail + ")"
				}
				return Plan{Reason: reason}
			},
		},
	}
}

func compareMootRule() rule {
	return rule{
		id: "job.compare_moot",
		doc: "The history is being compared with a leader that leads no more: the comparison, which may wait long for a " +
			"node that is cut off, is called off, because the race for the key is on.",
		when: func(v *View) bool {
			c := &v.Store.Cluster
			return v.Job.Kind == JobCompare && !v.Job.Cancelling && v.Job.For != 0 && c.Revision > v.Job.For &&
				c.Leader.ModRevision != v.Job.For
		},
		then: func(v *View) Plan {
			return Plan{
				Reason:  "the leader " + v.Job.Detail + " leads no more, the comparison with it is moot",
				Actions: []Action{CancelJob{Why: "its leader leads no more"}},
			}
		},
	}
}

func cancelledByStop(k JobKind) bool {
	return k == JobClone || k == JobRewind || k == JobCompare || k == JobBootstrap
}

func stopRules() []rule {
	return []rule{
		{
			id: "stop.withdraw_vote",
			doc: "Told to stop, the server is proven down, and a vote of this member stands or may still arrive: it is withdrawn if etcd answers, " +
				"for nobody may keep the freeze who starts this server without pgha.",
			when: func(v *View) bool {
				return v.Stopping && v.Local.Server == ServerDown && !v.Own.Held() && v.voteOut() && v.bound() && v.Fresh()
			},
			then: func(v *View) Plan {
				w := WithdrawVote{Revision: ownVoteRevision(v)}
				if l := v.Store.Cluster.Leader; l.Present && l.ModRevision == v.against() {
					w.LeaderRevision = l.ModRevision
				}
				return Plan{Reason: "stopping: the own vote is withdrawn", Actions: []Action{w}, Wake: freezeWake}
			},
		},
		{
			id:  "stop.release",
			doc: "Told to stop, and the server is proven down: the leader key is given up with a release record, so that a successor need not wait.",
			when: func(v *View) bool {
				return v.Stopping && v.Local.Server == ServerDown && v.Own.Held() && v.Now < v.Own.ExpiresAt() && !v.keyTaken()
			},
			then: func(v *View) Plan {
				return Plan{Reason: "stopping: the server is down", Actions: []Action{ReleaseLeader{Why: "agent stopped"}}}
			},
		},
		{
			id:   "stop.forget",
			doc:  "Told to stop, the server is proven down, and the title is over or another's: there is nothing left to release, whether the store answers or not.",
			when: func(v *View) bool { return v.Stopping && v.Local.Server == ServerDown && v.Own.Held() },
			then: func(v *View) Plan {
				return Plan{Reason: "stopping: the server is down and the leader key is lost", Actions: []Action{ForgetLeader{}}}
			},
		},
		{
			id:   "stop.done",
			doc:  "Told to stop, and there is nothing left to stop.",
			when: func(v *View) bool { return v.Stopping && v.Local.Server == ServerDown },
			then: idle("stopping: the server is down", ""),
		},
		signOffBeforeStop(),
		{
			id:   "stop.server",
			doc:  "Told to stop: the server is shut down cleanly; a leader gives the key up afterwards.",
			when: func(v *View) bool { return v.Stopping },
			then: func(v *View) Plan {
				return Plan{
					Reason:  "stopping: the server is shut down",
					Actions: []Action{StopServer{Fast: true, ReleaseAfter: v.Own.Held()}},
				}
			},
		},
	}
}
