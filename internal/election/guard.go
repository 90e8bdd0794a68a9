package election

import (
	"fmt"
	"time"
)

// guarded is the second opinion: the few sacred rules, checked again on the finished plan, in
// other words than the rules that made it. A plan that breaks one is dropped, and the cluster is
// left as it is; the fencer's deadline stands behind that. The reason says what was refused.
func guarded(v *View, p Plan) Plan {
	if why := violation(v, p); why != "" {
		return Plan{Rule: ruleRefused, Trouble: true, Reason: fmt.Sprintf("plan of rule %s refused: %s", p.Rule, why)}
	}
	return p
}

// Violation says which sacred rule a plan breaks; empty: none. It is exported so that simulation
// and model can ask it about mutated plans.
func Violation(v View, p Plan) string { return violation(&v, p) }

func violation(v *View, p Plan) string {
	jobs := 0
	for _, a := range p.Actions {
		if IsJob(a) {
			jobs++
		}
		if why := actionViolation(v, a); why != "" {
			return why
		}
	}
	if jobs > 1 {
		return "more than one job at a time"
	}
	if jobs == 1 && v.Job.Kind != JobNone {
		return "a job while another runs"
	}
	return ""
}

//nolint:gocognit // one flat list of sacred rules, read side by side
func actionViolation(v *View, a Action) string {
	if why := syncViolation(v, a); why != "" {
		return why
	}
	switch a := a.(type) {
	case Promote, StartPrimary:
		return writableViolation(v)
	case RestartServer:
		if v.Local.Role == RolePrimary {
			return writableViolation(v)
		}
	case HandOver:
		if w := writableViolation(v); w != "" {
			return w
		}
		if a.Candidate == "" || a.Candidate == v.Self.Name {
			return "hand-over to nobody or to itself"
		}
	case ReleaseLeader:
		if v.Local.Server != ServerDown {
			return "the leader key is released while the server is not proven down"
		}
	case ForgetLeader:
		if v.Local.Server != ServerDown && !v.Policy.Pause {
			return "the title is forgotten while the server is not proven down"
		}
	case AcquireLeader:
		return acquireViolation(v)
	case AdoptHandOver:
		if l := v.Store.Cluster.Leader; !l.Present || v.Lease == 0 || l.Lease != v.Lease || l.ModRevision != a.Revision {
			return "a leader key is adopted that does not hang on the own lease"
		}
	case WriteFailsafe:
		if v.Own.Promised > v.Own.Sent || v.Failsafe.Asking {
			return "the failsafe set changes while the title rests on the promises of its members"
		}
	case Clone:
		return cloneViolation(v, a)
	case Rewind:
		if w := destroyViolation(v, a.Source); w != "" {
			return w
		}
		if v.Local.Data != DataCluster || v.Local.Divergence != DivergenceRewind {
			return "rewind of a directory that is not known to need it"
		}
	case Bootstrap, ClaimBootstrap:
		if v.Store.Cluster.Initialize.State == BootstrapDone || v.Store.Cluster.Leader.Present {
			return "bootstrap of a cluster that exists"
		}
		if v.Local.Data != DataEmpty && v.Local.Data != DataPartial {
			return "bootstrap into a directory that is not empty"
		}
	default: // what can neither write, nor destroy, nor give the title away
	}
	return ""
}

// syncViolation asks the sacred rules of the synchronous modes (guard_sync.go).
func syncViolation(v *View, a Action) string {
	switch a := a.(type) {
	case WriteSync:
		return writeSyncViolation(v, a.State)
	case SetSync:
		return settingViolation(v, a.Setting)
	case DeleteSync:
		if v.Own.Revision == 0 || v.Policy.Sync.Mode != SyncOff {
			return "the sync key is removed while the synchronous mode is on, or by one that does not lead"
		}
	case TakeOver:
		return takeOverViolation(v, a)
	case AcquireLeader:
		return acquireSyncViolation(v, a)
	case Promote:
		return promoteViolation(v, a.Sync)
	case StartPrimary:
		if v.Local.Sync.Known {
			return promoteViolation(v, v.Local.Sync.Setting)
		}
	case HandOver:
		return handOverSyncViolation(v, a)
	case FreezeServer:
		if v.Own.Revision != 0 || v.Local.Role == RolePrimary {
			return "a leader, or a primary, is frozen"
		}
	case CastVote:
		return voteViolation(v, a.Vote)
	case WithdrawVote:
		return withdrawViolation(v, a)
	case Thaw:
		return thawViolation(v)
	case Follow, Rewind, Clone:
		return boundViolation(v)
	case StartStandby:
		if a.Upstream != "" {
			return boundViolation(v)
		}
	default: // what touches neither commits nor votes
	}
	return ""
}

// writableViolation: no writable PostgreSQL without the key by its revision, the margin of its
// lease and a living fencer.
func writableViolation(v *View) string {
	switch {
	case v.Own.Revision == 0:
		return "a writable server without a title to the leader key"
	case v.Store.Cluster.Leader.Present && v.Store.Cluster.Revision > v.Own.Revision &&
		v.Store.Cluster.Leader.ModRevision != v.Own.Revision:
		return "a writable server while the leader key is another's"
	case max(v.Own.Sent, v.Own.Promised)+v.Own.TTL-v.Now <= 2*guardMargin(v):
		return "a writable server within the safety margin of the lease"
	case !v.Fencer.Alive:
		return "a writable server without a fencer"
	case v.Local.SystemID != "" && v.Store.Cluster.Initialize.State == BootstrapDone &&
		v.Local.SystemID != v.Store.Cluster.Initialize.SystemID:
		return "a writable server of another system identifier"
	}
	return ""
}

// guardMargin is the configured margin, or the floor that is sound for the granted time to live.
func guardMargin(v *View) time.Duration {
	return max(v.Policy.Margin, v.Own.TTL/8+300*time.Millisecond)
}

func acquireViolation(v *View) string {
	gap := v.Store.Vacancy
	switch {
	case v.Store.Cluster.Leader.Present:
		return "the leader key is taken while it is there"
	case v.Own.Revision != 0 && v.Store.Cluster.Reign.ModRevision > v.Own.Revision && v.Store.Cluster.Reign.Holder != v.Self.Name:
		return "a key that was another's is put back as the own"
	case v.Own.Held() && v.Now < max(v.Own.Sent, v.Own.Promised)+v.Own.TTL-2*guardMargin(v):
		return "" // its own key, deleted under it
	case gap.Since != 0 && v.Now-gap.Since >= max(v.Policy.TTL, v.Store.Cluster.Reign.TTL)+v.Policy.Margin:
		return ""
	case gap.Replaced:
		return "the leader key is taken on the word of another store than the one that held it"
	case v.Store.Cluster.Release.LeaderRevision != 0 && v.Store.Cluster.Release.LeaderRevision >= gap.Revision &&
		v.Store.Cluster.Release.ModRevision > v.Store.Cluster.Reign.ModRevision:
		return ""
	case gap.Lease != 0 && gap.LeaseGone == Yes:
		return ""
	case v.Fencer.Revision != 0 && v.Fencer.Revision == v.Store.Cluster.Reign.ModRevision && v.Store.Cluster.Reign.Holder == v.Self.Name &&
		(gap.Revision == 0 || gap.Revision == v.Fencer.Revision) && v.Local.Role == RolePrimary:
		return "" // the former holder is this server
	case v.Store.Cluster.Reign.Epoch == 0 && v.Store.Cluster.Status.ModRevision == 0 && gap.Revision == 0:
		return ""
	}
	return "the leader key is taken while its last lease may still be running"
}

// destroyViolation: data is only ever removed or overwritten on a node that has no title, under a
// leader that is another member and known to serve the same system.
func destroyViolation(v *View, source string) string {
	c := &v.Store.Cluster
	leader, ok := c.Member(c.Leader.Name)
	switch {
	case v.Own.Held():
		return "data of the leader key's holder is overwritten"
	case !c.Leader.Present || c.Leader.Name == v.Self.Name || !ok:
		return "data is overwritten while no other member is known to lead"
	case leader.State != StateRunning:
		return "data is overwritten while the leader does not serve"
	case source == "" || source == v.Self.Name:
		return "data is overwritten from no other member"
	case v.Local.Data == DataCluster && v.Local.Divergence == DivergenceWrongOwner && v.Local.DivergenceFor == c.Leader.ModRevision:
		return "data is overwritten from another system"
	case v.Local.Role == RolePrimary && v.Local.Server == ServerRunning:
		return "data of a running primary is overwritten"
	case v.Local.Role == RoleUnknown && v.Local.Server != ServerDown && !v.Local.Signal:
		return "data of a server of unknown role is overwritten"
	case v.Local.Data == DataUnknown || v.Local.Data == DataForeign || v.Local.Data == DataUnreadable:
		return "data is overwritten in a directory that is not known"
	}
	return ""
}

func cloneViolation(v *View, a Clone) string {
	if w := destroyViolation(v, a.Source); w != "" {
		return w
	}
	if v.Local.Data == DataEmpty || v.Local.Data == DataPartial {
		return ""
	}
	if a.Partial {
		return "a whole directory is treated as an unfinished copy"
	}
	in := v.Store.Cluster.Initialize
	if v.Local.SystemID != "" && in.State == BootstrapDone && v.Local.SystemID != in.SystemID {
		return "a directory of another system is overwritten"
	}
	_, asked := v.command(CommandReinit)
	if asked || v.Local.Divergence == DivergenceClone || v.Local.Divergence == DivergenceRewind ||
		v.Result(JobStart).Class == ClassData {
		return ""
	}
	return "a directory is cloned over that nothing is known against"
}
