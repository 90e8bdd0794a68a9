package election

import (
	"slices"
	"strings"
	"time"
)

// signOffLoops is how many loop_waits a member that is about to stop its server waits for the primary
// to leave it out of the synchronous set (row H-137).
const signOffLoops = 2

// Leaving says that this standby's server is about to go down on purpose. Its member key then carries
// the tag nosync, by which a primary, a Patroni too, takes it out of the synchronous set before
// commits have to wait for it (row H-137).
func Leaving(v View) bool { return LeavingOn(&v) }

// LeavingOn is Leaving for a caller that asks very often: the View is not copied.
func LeavingOn(v *View) bool {
	if v.Own.Held() || v.Local.Role != RoleStandby {
		return false
	}
	_, restart := v.command(CommandRestart)
	return v.Stopping || restart || v.Job.Kind == JobRestart
}

// signsOff says that the stop of this standby's server, asked for at an instant, still waits for the
// primary to let it go. It never waits for a primary that cannot: one that is not there, that was not
// heard of, or that has nobody else and must keep the set.
func (v *View) signsOff(asked Instant) bool {
	c := &v.Store.Cluster
	return LeavingOn(v) && !v.Policy.Pause && v.Store.Cluster.Sync.Active() && !v.Self.Tags.NoSync &&
		v.Local.Server == ServerRunning && v.Local.Streaming && !v.Local.Freeze.Recorded && !v.frozen() &&
		v.Fresh() && c.Leader.Present && strings.EqualFold(c.Leader.Name, c.Sync.Leader) &&
		c.Sync.awaits(v.Self.Name, v.Policy.Sync.Strict) && v.Now < asked+v.signOffBound()
}

func (v *View) signOffBound() time.Duration { return signOffLoops * v.Policy.LoopWait }

// awaits says that commits may wait for a member, and that the leader could do without it.
func (s SyncState) awaits(name string, strict bool) bool {
	sets := [][]string{s.Standbys}
	if s.Electorate != nil {
		for _, set := range s.Electorate.Sets {
			sets = append(sets, set.Names())
		}
	}
	named := func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
	}
	alone := strict && len(sets[len(sets)-1]) == 1 && named(sets[len(sets)-1])
	return !alone && slices.ContainsFunc(sets, named)
}

// signOff is the plan while that wait lasts.
func (v *View) signOff(what string, asked Instant) Plan {
	return Plan{
		Reason: what + ": the primary takes this member out of the synchronous set first",
		Change: "a set without this member, or the end of " + v.signOffBound().String(),
		Wake:   max(asked+v.signOffBound()-v.Now, time.Millisecond),
	}
}

func signOffBeforeStop() rule {
	return rule{
		id: "stop.sign_off",
		doc: "Told to stop, and commits may wait for this standby: its member key says that it is leaving, and for at most two " +
			"loop_waits the shutdown waits until the primary has taken it out of the synchronous set.",
		when: func(v *View) bool { return v.Stopping && v.signsOff(v.StopAsked) },
		then: func(v *View) Plan { return v.signOff("stopping", v.StopAsked) },
	}
}

func signOffBeforeRestart(running func(func(*View) bool) func(*View) bool) rule {
	return rule{
		id: "member.sign_off",
		doc: "An operator asked for a restart of this standby, and commits may wait for it: its member key says that it is leaving, " +
			"and for at most two loop_waits the restart waits until the primary has taken it out of the synchronous set.",
		when: running(func(v *View) bool {
			c, ok := v.command(CommandRestart)
			return ok && v.signsOff(c.Asked)
		}),
		then: func(v *View) Plan {
			c, _ := v.command(CommandRestart)
			return v.signOff("an operator asked for a restart", c.Asked)
		},
	}
}
