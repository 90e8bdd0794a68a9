package election

// syncRules are the steps of the set machine (sync.go). Each adds the next step of a change to the plan
// of a leader that is steady; at most one of them applies. The last one is for its voters.
func syncRules() []reconcileRule {
	rules := []reconcileRule{
		{
			id: "sync.activate",
			doc: "The synchronous mode is asked for, and the sync key is absent, another's, or of a form that this change must leave: " +
				"this leader writes itself with nobody, so that nobody else may lead until a set is known to hold every commit.",
			move: syncActivate,
		},
		{
			id: "sync.announce",
			doc: "Another set of voters than the published one is called for (a standby came or went, the mode or the numbers changed): " +
				"it is published beside the old one, and a takeover needs the quorum of both.",
			move: syncAnnounce,
		},
		{
			id: "sync.apply",
			doc: "The server does not, or not provably, go by the setting that the published set asks for: it is set, and proven with every process that goes by it. " +
				"In strict mode without a standby it is one that makes commits wait.",
			move: syncApply,
		},
		{
			id: "sync.confirm",
			doc: "The new setting is in force, and enough voters of the new set hold everything that was acknowledged before: " +
				"the set is published alone, with the fields that a Patroni reads.",
			move: syncConfirm,
		},
		{
			id:   "sync.loosen",
			doc:  "No standby is left for commits to wait for, and the mode is not strict: first it is published that nobody else may lead.",
			move: syncLoosen,
		},
		{
			id:   "sync.relax",
			doc:  "It is published that nobody else may lead, or the mode was switched off: commits wait no more.",
			move: syncRelax,
		},
		{
			id: "sync.settle",
			doc: "The setting should change, but a write of the sync key that this agent sent may still arrive: " +
				"the key is written once more as it is, so that whatever is on its way comes too late.",
			move: syncSettle,
		},
		{
			id:   "sync.turn_off",
			doc:  "The synchronous mode was switched off: the sync key is removed first, the setting afterwards (row D-59).",
			move: syncTurnOff,
		},
		{
			id: "sync.prepare",
			doc: "A voter's server holds the setting that it would need as the next leader, where it has no effect yet: " +
				"a promotion then never goes through a moment in which commits wait for nobody.",
			when: func(v *View) bool {
				if !v.standby() || v.Own.Held() || !v.Local.Sync.Known {
					return false
				}
				want := settingOnceLeader(v)
				return want.Wait > 0 && !v.Local.Sync.Setting.Equal(want)
			},
			then: func(v *View) Action { return SetSync{Setting: settingOnceLeader(v)} },
		},
	}
	for i := range rules {
		if move := rules[i].move; move != syncRest {
			rules[i].leader = true
			rules[i].when = func(v *View) bool { return nextSyncStep(v).move == move }
			rules[i].then = func(v *View) Action { return nextSyncStep(v).action() }
		}
	}
	return rules
}
