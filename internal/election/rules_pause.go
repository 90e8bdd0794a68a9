package election

// pauseRules hold back what a paused cluster must not do (rows H-174 to H-181). They stand behind
// the title rules, so that a paused leader still renews and forgets its key, and before those that
// start, stop, promote and demote.
func pauseRules() []rule {
	paused := func(when func(*View) bool) func(*View) bool {
		return func(v *View) bool { return v.Policy.Pause && when(v) }
	}
	return []rule{
		{
			id:  "pause.take_free_key",
			doc: "Paused: a running primary takes a free leader key, if its system identifier is the cluster's.",
			when: paused(func(v *View) bool {
				return !v.Store.Cluster.Leader.Present && !v.Own.Held() && v.Local.Server == ServerRunning &&
					v.Local.Role == RolePrimary && v.Store.Cluster.Initialize.State == BootstrapDone &&
					v.Store.Cluster.Initialize.SystemID == v.Local.SystemID && v.Lease != 0 && vacancyProven(v) && !v.promised()
			}),
			then: func(v *View) Plan {
				return Plan{
					Reason:  "paused: the leader key is free and this server is a primary",
					Actions: []Action{AcquireLeader{Reign: nextReign(v), Sync: acquireSync(v)}},
				}
			},
		},
		{
			id:  "pause.release",
			doc: "Paused: the leader's server is down. The key is released; nobody is started or promoted.",
			when: paused(func(v *View) bool {
				return v.Own.Held() && v.Local.Server == ServerDown && v.Local.Data == DataCluster
			}),
			then: func(v *View) Plan {
				return trouble("paused: the leader's server is down", "", ReleaseLeader{Why: "server down while paused"})
			},
		},
		{
			id:   "pause.primary_without_key",
			doc:  "Paused: the server is a primary without the leader key. It is left as it is, and a person is told.",
			when: paused(func(v *View) bool { return !v.Own.Held() && v.writable() }),
			then: func(v *View) Plan {
				return trouble("paused: this server is a primary without the leader key", "the end of the pause")
			},
		},
		{
			id:  "pause.no_leader",
			doc: "Paused: nobody leads, and nobody is elected but a candidate named by an operator.",
			when: paused(func(v *View) bool {
				return !v.Store.Cluster.Leader.Present && !v.Own.Held() && v.Store.Cluster.Failover.Candidate != v.Self.Name
			}),
			then: func(v *View) Plan {
				return trouble("paused: the cluster has no leader", "the end of the pause, or a failover by hand")
			},
		},
		{
			id:  "pause.leader_not_running",
			doc: "Paused: the leader's server is neither up nor down; it is left as it is.",
			when: paused(func(v *View) bool {
				return v.Own.Held() && v.Local.Server != ServerRunning
			}),
			then: idle("paused: the leader's server is not running", "the end of the pause"),
		},
	}
}
