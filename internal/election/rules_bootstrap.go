package election

import "time"

// bootstrapRules apply while nobody leads and the cluster is not made yet.
func bootstrapRules() []rule {
	free := func(s BootstrapState, when func(*View) bool) func(*View) bool {
		return func(v *View) bool {
			return !v.Store.Cluster.Leader.Present && v.Store.Cluster.Initialize.State == s && when(v)
		}
	}
	return append(
		bootstrapNeverRules(func(when func(*View) bool) func(*View) bool { return free(BootstrapNever, when) }),
		bootstrapRunningRules(func(when func(*View) bool) func(*View) bool { return free(BootstrapRunning, when) })...)
}

// fillable says that the directory holds nothing of worth.
func fillable(v *View) bool { return v.Local.Data == DataEmpty || v.Local.Data == DataPartial }

func bootstrapNeverRules(never func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:   "bootstrap.adopt_existing",
			doc:  "The store knows no cluster, and this directory holds one that was a primary: its identifier becomes the cluster's.",
			when: never(func(v *View) bool { return v.Local.Data == DataCluster && !v.Local.Signal && v.Local.SystemID != "" }),
			then: func(*View) Plan {
				return Plan{Reason: "the cluster is made from the existing data directory", Actions: []Action{WriteInitialize{}}}
			},
		},
		{
			id:   "bootstrap.only_standby",
			doc:  "The store knows no cluster, and this directory is a standby's (or its identifier cannot be read): the primary's agent must start first.",
			when: never(func(v *View) bool { return v.Local.Data == DataCluster }),
			then: func(v *View) Plan {
				if !v.Local.Signal {
					return trouble("the store knows no such cluster, and the system identifier here cannot be read", "a readable pg_control")
				}
				return trouble("the store knows no such cluster, and this server is a standby", "the start of the primary's agent")
			},
		},
		{
			id:  "bootstrap.claim",
			doc: "Nobody ever made this cluster, the directory is empty, and the local file says how: try to become the one who makes it.",
			when: never(func(v *View) bool {
				return fillable(v) && v.Self.MayBootstrap && !v.Self.Tags.NoFailover && v.Lease != 0 && v.Local.Server == ServerDown
			}),
			then: func(v *View) Plan {
				if v.notYet(JobBootstrap) > 0 {
					return waitFor(v, JobBootstrap, "the bootstrap")
				}
				return Plan{Reason: "the cluster does not exist yet", Actions: []Action{ClaimBootstrap{}}}
			},
		},
		{
			id:   "bootstrap.wait_claim",
			doc:  "Nobody ever made this cluster, and this member may not.",
			when: never(always),
			then: func(v *View) Plan {
				return Plan{
					Reason: "waiting for another member to make the cluster", Trouble: v.Local.Data != DataEmpty,
					Change: "a member with a bootstrap section and an empty data directory",
				}
			},
		},
	}
}

func bootstrapRunningRules(running func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:  "bootstrap.run",
			doc: "This member won the claim: initdb, start, roles, publish. Never into a directory that holds something else.",
			when: running(func(v *View) bool {
				return v.Store.Cluster.Initialize.Runner == v.Self.Name && v.Lease != 0 && fillable(v) && v.Local.Server == ServerDown
			}),
			then: func(v *View) Plan {
				return Plan{Reason: "this member makes the cluster", Actions: []Action{Bootstrap{}}}
			},
		},
		{
			id:  "bootstrap.reclaim",
			doc: "A pgha member began to make the cluster and died: its lease is gone, so another begins afresh.",
			when: running(func(v *View) bool {
				in := v.Store.Cluster.Initialize
				return in.Runner == "" && in.RunnerEver && fillable(v) && v.Self.MayBootstrap &&
					!v.Self.Tags.NoFailover && v.Lease != 0 && v.Local.Server == ServerDown
			}),
			then: func(v *View) Plan {
				if v.notYet(JobBootstrap) > 0 {
					return waitFor(v, JobBootstrap, "the bootstrap")
				}
				return Plan{Reason: "the member that was making the cluster is gone", Actions: []Action{ClaimBootstrap{Reclaim: true}}}
			},
		},
		{
			id:   "bootstrap.wait",
			doc:  "Another member makes the cluster.",
			when: running(always),
			then: func(v *View) Plan {
				in := v.Store.Cluster.Initialize
				p := Plan{Reason: "waiting for " + in.Runner + " to make the cluster", Change: "a leader", Wake: time.Second}
				if in.Runner == v.Self.Name {
					p = trouble("this member claimed to make the cluster, and a server or other data stand in the way here",
						"the end of the claim's lease, or an operator who removes the initialize key")
				}
				if in.Runner == "" {
					p = trouble("somebody began to make the cluster and left no word of who", "its end, or an operator who removes the initialize key")
				}
				return p
			},
		},
	}
}
