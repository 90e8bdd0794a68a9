package election

import (
	"fmt"
	"testing"
)

// faults says what is wrong with the plan that a View gets, in words of its own: neither the rules
// nor the guard are asked for an opinion, but the guard's is compared.
func faults(v View, p Plan) []string {
	var bad []string
	fail := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	if p.Rule == ruleRefused || p.Rule == ruleNone {
		fail("a defect: %s", p)
	}
	if why := Violation(v, p); why != "" {
		fail("the guard would refuse: %s", why)
	}
	if p.Wake < 0 {
		fail("negative wake %s", p.Wake)
	}
	if p.Reason == "" {
		fail("no reason")
	}
	if v.Stopping && !progresses(p) {
		fail("stopping, and nothing moves")
	}
	for _, a := range p.Actions {
		if why := fault(v, a); why != "" {
			fail("%s: %s", a, why)
		}
	}
	return bad
}

// progresses says that a stop goes on: something is done, a job is waited for, it is over, or the
// server has not been looked at yet.
func progresses(p Plan) bool {
	return len(p.Actions) > 0 || p.Rule == "stop.done" || p.Rule == "job.running" || p.Rule == "local.unobserved" ||
		p.Rule == "stop.sign_off" && p.Wake > 0
}

// safeTitle: the key is ours by revision, and two sound margins of time are left.
func safeTitle(v View) bool {
	o, c := v.Own, v.Store.Cluster
	left := max(o.Sent, o.Promised) + o.TTL - v.Now
	newer := c.Revision > o.Revision && c.Leader.Present && c.Leader.ModRevision != o.Revision
	return o.Revision != 0 && !newer && left > 2*MarginFloor(o.TTL) && left > 2*v.Policy.Margin
}

// armedForTheLastReign: whoever wrote last wrote here.
func armedForTheLastReign(v View) bool {
	r := v.Store.Cluster.Reign
	return r.ModRevision != 0 && v.Fencer.Revision == r.ModRevision && r.Holder == v.Self.Name && v.Local.Role == RolePrimary && !v.Store.Vacancy.Replaced
}

func makesWritable(v View, a Action) bool {
	switch a.(type) {
	case Promote, StartPrimary, HandOver:
		return true
	case RestartServer:
		return v.Local.Role != RoleStandby
	}
	return false
}

func fault(v View, a Action) string {
	c := &v.Store.Cluster
	switch {
	case makesWritable(v, a) && !safeTitle(v):
		return "writable without a title"
	case makesWritable(v, a) && !v.Fencer.Alive:
		return "writable without a fencer"
	case IsDestructive(a) && v.Own.Revision != 0:
		return "the holder's data is destroyed"
	case IsDestructive(a) && (!c.Leader.Present || c.Leader.Name == v.Self.Name):
		return "data is destroyed while nobody else leads"
	case IsDestructive(a) && (v.Local.Data == DataUnknown || v.Local.Server == ServerUnknown || v.Local.Data == DataForeign || v.Local.Data == DataUnreadable):
		return "unknown data is destroyed"
	case IsDestructive(a) && v.Local.Server != ServerDown && v.Local.Role == RoleUnknown && !v.Local.Signal:
		return "data of a server of unknown role is destroyed"
	case IsJob(a) && v.Job.Kind != JobNone:
		return "a second job"
	}
	if why := syncFault(v, a); why != "" {
		return why
	}
	switch a := a.(type) {
	case ReleaseLeader:
		if v.Local.Server != ServerDown {
			return "the key is released while the server may write"
		}
	case AcquireLeader:
		if v.Lease == 0 || c.Leader.Present {
			return "the key is taken without a lease or while it is there"
		}
		if v.Store.Vacancy.LeaseGone != Yes && c.Release == (Release{}) && v.Now-v.Store.Vacancy.Since < v.Policy.TTL &&
			(c.Reign.Epoch != 0 || c.Status.ModRevision != 0) && !safeTitle(v) && !armedForTheLastReign(v) {
			return "the key is taken from a holder that may still write"
		}
	case Demote:
		if v.Policy.Pause && v.Local.SystemID == testSystem && v.Local.Data == DataCluster {
			return "a demotion while paused"
		}
	case StartStandby, Clone, Rewind:
		if v.Stopping {
			return "a start while stopping"
		}
	case Follow:
		if a.Upstream == v.Self.Name {
			return "it follows itself"
		}
	}
	return ""
}

// syncFault is fault for what touches votes and acknowledged commits.
func syncFault(v View, a Action) string {
	c, f := v.Store.Cluster, v.Local.Freeze
	towards := func(upstream string) string {
		vote, _ := c.Vote(v.Self.Name)
		if upstream != "" && c.Leader.Present && (f.Recorded && f.LeaderRevision == c.Leader.ModRevision || vote.LeaderRevision == c.Leader.ModRevision) {
			return "it follows whom it is frozen against"
		}
		return ""
	}
	switch a := a.(type) {
	case Follow:
		return towards(a.Upstream)
	case StartStandby:
		return towards(a.Upstream)
	case Clone:
		return towards(a.Source)
	case Rewind:
		return towards(a.Source)
	case AcquireLeader:
		if v.Fencer.PromiseUntil > v.Now && !v.Own.Held() {
			return "a promise is broken"
		}
	case TakeOver:
		if !f.Proven || v.Own.Held() || len(a.Votes) == 0 || len(a.Sync.Electorate.Sets) <= len(c.Sync.Electorate.Sets) || v.Policy.Pause || v.Policy.Sync.TimeOnly {
			return "a takeover that rests on nothing"
		}
	case CastVote:
		if !f.Recorded || !f.Proven || v.Own.Held() {
			return "a vote of one that may still acknowledge"
		}
	case Thaw:
		if vote, _ := c.Vote(v.Self.Name); vote.Standing() || f.VoteSent {
			return "it thaws with a vote"
		}
	case SetSync:
		open := len(c.Sync.Standbys) > 0 || c.Sync.Electorate != nil && len(c.Sync.Electorate.Sets) > 0
		if a.Setting.Wait == 0 && c.Sync.Leader != "" && open {
			return "commits wait for nobody while others may take over"
		}
	case FreezeServer:
		if v.Own.Held() || v.Local.Role != RoleStandby {
			return "a freeze of one that does not follow"
		}
	}
	return ""
}

func mustBeSound(t testing.TB, v View) (Plan, bool) {
	p := Decide(v)
	bad := faults(v, p)
	if len(bad) > 0 {
		t.Errorf("%v\nplan: %s\nview: %+v", bad, p, v)
	}
	return p, len(bad) == 0
}

func TestTheRowsAreSound(t *testing.T) {
	for _, r := range allRows() {
		if _, ok := mustBeSound(t, r.build()); !ok {
			t.Logf("row %s/%s", r.rule, r.name)
		}
	}
}
