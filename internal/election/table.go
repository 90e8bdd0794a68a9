package election

import "slices"

// group is a run of role rules that have a condition in common: where it does not hold none of them
// applies, so none is asked.
type group struct {
	only  func(*View) bool
	rules []rule
}

// within is a condition of a rule that is asked only where that of its group holds.
func within(when func(*View) bool) func(*View) bool { return when }

// The tables are made once: simulation and model decide millions of times. Nobody changes them afterwards.
//
//nolint:gochecknoglobals // constants in all but name
var (
	roleGroups     = makeRoleGroups()
	roleTable      = flat(roleGroups)
	reconcileTable = slices.Concat(reconcileRules(), syncRules())
)

// makeRoleGroups lists the role rules in order of precedence: what stops everything, what keeps a title
// good without the store, the running job, an orderly stop, the title to the key, what its owner does,
// what a voter does, what a member does while another leads, and what is done while nobody leads.
func makeRoleGroups() []group {
	nobody := func(v *View) bool { return !v.Store.Cluster.Leader.Present }
	return slices.Concat(
		[]group{
			{always, slices.Concat(blockRules(), failsafeRules())},
			{func(v *View) bool { return v.Job.Kind != JobNone }, jobRules()},
			{func(v *View) bool { return v.Stopping }, stopRules()},
			{func(v *View) bool { return v.Own.Held() || v.keyOnOwnLease() }, titleRules()},
			{func(v *View) bool { return v.Policy.Pause }, pauseRules()},
			{(*View).titleGood, ownerRules()},
		},
		freezeGroups(), memberGroups(),
		[]group{{nobody, slices.Concat(bootstrapRules(), vacantRules())}},
	)
}

func flat(groups []group) (all []rule) {
	for _, g := range groups {
		all = append(all, g.rules...)
	}
	return all
}

// applies is the first role rule that applies.
func applies(v *View) *rule {
	for i := range roleGroups {
		g := &roleGroups[i]
		if !g.only(v) {
			continue
		}
		for k := range g.rules {
			if r := &g.rules[k]; r.when(v) {
				return r
			}
		}
	}
	return nil
}
