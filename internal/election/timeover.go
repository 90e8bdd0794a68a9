package election

import "fmt"

// In a synchronous cluster time alone makes no leader: that the old one is silent says nothing about who
// holds what it acknowledged. A vacant key is taken by votes, or by one that is known to hold everything.

// ownCopyLed says that this member led last, and on this very copy of its data: it holds all that was
// ever acknowledged (the copy is known by its name only where a Patroni wrote the key last).
func ownCopyLed(v *View) bool {
	s := v.Store.Cluster.Sync
	if s.Leader != v.Self.Name {
		return false
	}
	if s.Electorate == nil {
		return true
	}
	_, current := v.votingElectorate()
	return (current || v.Store.Vacancy.Replaced) && v.Local.DataID != "" && s.Electorate.LeaderData == v.Local.DataID
}

// holdsFinalCheckpoint says that the last leader shut down cleanly, and that this member, one of its
// standbys, has all of its log.
func holdsFinalCheckpoint(v *View) bool {
	c := &v.Store.Cluster
	r := c.Release
	return released(c, v.Store.Vacancy) && !v.Store.Vacancy.Replaced && r.Checkpoint != 0 && v.Local.LSN >= r.Checkpoint &&
		r.Timeline != 0 && r.Timeline == v.Local.Timeline && inSyncSet(c.Sync, v.Self.Name)
}

// cannotBeAhead says that a member that is further, or preferred, is no reason to stand back: it may
// not take the key by time, and this one may.
func cannotBeAhead(v *View, p Probe) bool {
	s := v.Store.Cluster.Sync
	if !s.Active() {
		return false
	}
	return !inSyncSet(s, p.Name) || v.Store.Cluster.Reign.branchOf(p.Timeline) == branchDead && p.Timeline != 0 || s.Electorate != nil && ownCopyLed(v) && !v.Store.Vacancy.Replaced
}

// timeBarred says why this member must not take the vacant key of a synchronous cluster without votes;
// empty: it may, or the cluster is not synchronous.
func timeBarred(v *View) string {
	if !v.Store.Cluster.Sync.Active() || byHand(v) || ownCopyLed(v) || holdsFinalCheckpoint(v) {
		return ""
	}
	if why := votesNeeded(v); why != "" {
		return why
	}
	return tooFewHeard(v)
}

// votesNeeded is why this member cannot take the key by time, whatever the others say; empty: it may be
// that it can.
func votesNeeded(v *View) string {
	s := v.Store.Cluster.Sync
	if !s.Active() || s.Electorate == nil || byHand(v) || ownCopyLed(v) || holdsFinalCheckpoint(v) ||
		v.Policy.Sync.TimeOnly || v.Store.Vacancy.Replaced {
		return ""
	}
	return "the cluster is synchronous: its next leader needs the votes of frozen members, or is the copy that led last"
}

// tooFewHeard says why the members that answered are too few to be sure that this one holds every commit
// that was acknowledged; empty: they are enough (rows H-027 and H-028).
func tooFewHeard(v *View) string {
	s := v.Store.Cluster.Sync
	if s.Electorate == nil {
		if n := heardBehind(v, append([]string{s.Leader}, s.Standbys...)); n < s.Quorum+1 {
			return fmt.Sprintf("the cluster is synchronous: %d of %d needed members are known to be no further than this one", n, s.Quorum+1)
		}
		return ""
	}
	for _, set := range s.Electorate.Sets {
		if n := heardBehind(v, set.Names()); n < set.Quorum {
			return fmt.Sprintf("the cluster is synchronous: %d of %d needed members are known to be no further than this one", n, set.Quorum)
		}
	}
	if len(s.Electorate.Sets) == 0 {
		return "the cluster is synchronous, and only " + s.Leader + " may lead it"
	}
	return ""
}

// heardBehind counts those of the names that are this member, or answered as a standby that is not
// further. One that may not lead is asked, but its answer is no vote (row H-024).
func heardBehind(v *View, names []string) int {
	n := 0
	seen := make(map[string]bool)
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if name == v.Self.Name {
			n++
			continue
		}
		p, ok := v.Probes.Answer(name)
		behind := p.Timeline == 0 || p.Timeline < v.Local.Timeline || p.Timeline == v.Local.Timeline && p.LSN <= v.Local.LSN
		dead := p.Timeline != 0 && v.Store.Cluster.Reign.branchOf(p.Timeline) == branchDead
		if ok && !dead && p.Answered && !p.NoFailover && p.Role != RolePrimary && p.LSN != 0 && behind {
			n++
		}
	}
	return n
}

// acquireSync is what the sync key becomes when this member takes a vacant key; nil leaves it.
func acquireSync(v *View) *SyncState {
	s := v.Store.Cluster.Sync
	switch {
	case !s.Active():
		return nil
	case s.Electorate != nil && ownCopyLed(v):
		return nil
	case holdsFinalCheckpoint(v) || v.Policy.Sync.TimeOnly && timeBarred(v) == "" && !byHand(v):
		return inheritedSync(v)
	}
	return ownSync(v)
}
