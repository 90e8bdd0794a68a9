package election

import "slices"

// reconcileRule adds one action to a steady plan.
type reconcileRule struct {
	id  RuleID
	doc string
	// leader: it is asked of a leader whose server is a running primary.
	leader bool
	when   func(*View) bool
	then   func(*View) Action
	// move, if not syncRest, is the step of the set machine that the rule stands for: such rules are
	// asked together, since to find out the step costs more than all other rules.
	move syncMove
}

func reconcile(v *View, p *Plan) {
	step, known := syncStep{}, false
	leads := v.leadsRunning()
	for i := range reconcileTable {
		r := &reconcileTable[i]
		switch {
		case r.leader && !leads:
			continue
		case r.move == syncRest:
			if r.when(v) {
				p.Actions = append(p.Actions, r.then(v))
			}
			continue
		case !known:
			step, known = nextSyncStep(v), true
		}
		if step.move == r.move {
			p.Actions = append(p.Actions, step.action())
		}
	}
}

// leadsRunning says that this is a leader whose server is a running primary.
func (v *View) leadsRunning() bool {
	return v.titleGood() && v.Local.Server == ServerRunning && v.Local.Role == RolePrimary
}

func reconcileRules() []reconcileRule {
	return slices.Concat(reconcileStoreRules(), reconcileLeaderRules())
}

// reconcileLeaderRules are about what the leader publishes and keeps of the others.
func reconcileLeaderRules() []reconcileRule {
	return []reconcileRule{
		{
			id:     "reconcile.slots",
			doc:    "The replication slots here are not those of the members that should stream from here.",
			leader: true,
			when: func(v *View) bool {
				return v.Policy.UseSlots && v.Local.SlotsKnown && !slices.Equal(v.Local.SlotMembers, slotMembers(v))
			},
			then: func(v *View) Action { return SetSlots{Members: slotMembers(v)} },
		},
		{
			id:     "reconcile.status",
			doc:    "The leader's position moved since it was last published.",
			leader: true,
			when: func(v *View) bool {
				return v.Local.LSN != 0 && v.Local.LSN != v.Store.Cluster.Status.Optime &&
					(v.Store.StatusAt == 0 || v.Now-v.Store.StatusAt >= v.Policy.LoopWait)
			},
			then: func(v *View) Action { return WriteStatus{Optime: v.Local.LSN} },
		},
		{
			id:     "reconcile.history",
			doc:    "The published timeline history does not end where the leader's timeline began (row D-71).",
			leader: true,
			when:   historyStale,
			then:   func(*View) Action { return WriteHistory{} },
		},
		{
			id:     "reconcile.checkpoint",
			doc:    "The leader was promoted and pg_control still shows the old timeline: a checkpoint makes it a source for pg_rewind (row H-084).",
			leader: true,
			when:   func(v *View) bool { return v.Local.PromotedCheckpoint == No },
			then:   func(*View) Action { return CheckpointNow{} },
		},
		{
			id:     "reconcile.failsafe",
			doc:    "The published failsafe set is not that of the members that can be asked, or there should be none (row D-72). While the title rests on promises, or they are being asked for, it stays.",
			leader: true,
			when:   func(v *View) bool { return failsafeStale(v) && !v.restsOnPromises() },
			then:   func(v *View) Action { return WriteFailsafe{Members: failsafeWanted(v)} },
		},
		{
			id:  "reconcile.old_vote",
			doc: "A vote of this member against a reign that is over is still in the store.",
			when: func(v *View) bool {
				vote, ok := v.Store.Cluster.Vote(v.Self.Name)
				return ok && vote.Standing() && vote.LeaderRevision < v.Store.Cluster.Reign.ModRevision
			},
			then: func(v *View) Action { return WithdrawVote{Revision: ownVoteRevision(v)} },
		},
	}
}

// reconcileStoreRules are about the store and its content.
func reconcileStoreRules() []reconcileRule {
	return []reconcileRule{
		{
			id:  "reconcile.config",
			doc: "The dynamic configuration changed: write the files and reload.",
			when: func(v *View) bool {
				return v.Store.Cluster.ConfigRev != 0 && v.Store.Cluster.ConfigRev != v.Local.ConfigRev
			},
			then: func(*View) Action { return ApplyConfig{} },
		},
		{
			id:     "reconcile.initialize",
			doc:    "The initialize key does not hold the system identifier: the leader repairs it (row D-49).",
			leader: true,
			when:   func(v *View) bool { return v.Store.Cluster.Initialize.State != BootstrapDone && v.Local.SystemID != "" },
			then:   func(*View) Action { return WriteInitialize{} },
		},
		{
			id:     "reconcile.restore_config",
			doc:    "The dynamic configuration is gone from the store: the leader writes back what it remembers (row H-013).",
			leader: true,
			when:   func(v *View) bool { return v.Store.Cluster.ConfigRev == 0 },
			then:   func(*View) Action { return RestoreConfig{} },
		},
		{
			id:     "reconcile.failover_done",
			doc:    "The failover request named this member, which leads now: it is cleared.",
			leader: true,
			when: func(v *View) bool {
				return v.requestDone()
			},
			then: func(v *View) Action {
				return ClearFailover{Revision: v.Store.Cluster.Failover.ModRevision, Why: "done"}
			},
		},
	}
}

// slotMembers are the other members that stream from this one, sorted by name.
func slotMembers(v *View) []string {
	names := make([]string, 0, len(v.Store.Cluster.Members))
	for i := range v.Store.Cluster.Members {
		m := &v.Store.Cluster.Members[i]
		if m.Name == v.Self.Name || m.Tags.NoStream {
			continue
		}
		if from := m.Tags.ReplicateFrom; from != "" && from != v.Self.Name && from != m.Name {
			if _, ok := v.Store.Cluster.Member(from); ok {
				continue
			}
		}
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

func historyStale(v *View) bool {
	c, tl := &v.Store.Cluster, v.Local.Timeline
	switch {
	case tl == 0:
		return false
	case tl == 1:
		return len(c.History) != 0
	case !c.HistorySeen || len(c.History) == 0:
		return true
	}
	return c.History[len(c.History)-1].Timeline != tl-1
}
