package election

import (
	"cmp"
	"slices"
	"strings"
)

// A new reign does not know at once which commits of the one before were acknowledged by whom. So what
// it publishes asks for the old quorums as well, until its own set holds everything (safety review,
// hole 3). Patroni's fields name nobody meanwhile.

// inheritedSync is the sync key with which this member takes over from the reign before: the sets it
// finds, which wait for nothing any more, and its own new one.
func inheritedSync(v *View) *SyncState {
	e := v.Store.Cluster.Sync.Electorate
	if e == nil || v.Local.DataID == "" {
		return ownSync(v)
	}
	sets := make([]VoterSet, 0, len(e.Sets)+1)
	for _, s := range e.Sets {
		sets = append(sets, VoterSet{Voters: s.Voters, Quorum: s.Quorum})
	}
	next := nextSet(e, Voter{Name: v.Store.Cluster.Sync.Leader, Data: e.LeaderData}, v.Self.Name)
	if len(next.Voters) == 0 {
		return ownSync(v)
	}
	return &SyncState{Leader: v.Self.Name, Electorate: &Electorate{
		Epoch: v.Store.Cluster.Reign.Epoch + 1, LeaderData: v.Local.DataID, Sets: append(sets, next),
	}}
}

// ownSync is the sync key of a member that leads without knowing whom the reign before waited for: until
// it has a set of its own nobody else may lead.
func ownSync(v *View) *SyncState {
	s := &SyncState{Leader: v.Self.Name}
	if v.Local.DataID != "" {
		s.Electorate = &Electorate{Epoch: v.Store.Cluster.Reign.Epoch + 1, LeaderData: v.Local.DataID}
	}
	return s
}

// nextSet is the set of a new reign: the voters of the old one and its leader, without the new leader.
// Commits wait for as many as before.
func nextSet(e *Electorate, former Voter, leader string) VoterSet {
	byName := make(map[string]Voter)
	wait := 1
	if e != nil {
		for _, s := range e.Sets {
			for _, voter := range s.Voters {
				byName[voter.Name] = voter // of two copies of one member the newer set names the newer
			}
			wait = max(wait, s.Wait)
		}
	}
	if former.Name != "" && former.Data != "" {
		byName[former.Name] = former
	}
	delete(byName, leader)
	set := VoterSet{}
	for _, voter := range byName {
		set.Voters = append(set.Voters, voter)
	}
	slices.SortFunc(set.Voters, func(a, b Voter) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Data, b.Data)) })
	n := len(set.Voters)
	set.Wait = min(wait, n)
	set.Quorum = n - set.Wait + 1
	return set
}

// handOverSync is the sync key with which the candidate is handed the leader key; nil leaves it. Both
// the old leader and the candidate hold every commit then, so the vote of either of them covers all that
// was acknowledged before.
func handOverSync(v *View, candidate string) *SyncState {
	c := &v.Store.Cluster
	m, _ := c.Member(candidate)
	if !c.Sync.Active() || !m.IsPgha() {
		return nil
	}
	s := &SyncState{Leader: candidate}
	if m.DataID == "" {
		return s
	}
	s.Electorate = &Electorate{Epoch: c.Reign.Epoch + 1, LeaderData: m.DataID}
	if v.Local.DataID == "" {
		return s
	}
	self := Voter{Name: v.Self.Name, Data: v.Local.DataID}
	both := VoterSet{Voters: []Voter{self, {Name: candidate, Data: m.DataID}}, Quorum: 1}
	slices.SortFunc(both.Voters, func(a, b Voter) int { return strings.Compare(a.Name, b.Name) })
	e := c.Sync.Electorate
	if _, mine := v.published(); !mine {
		e = nil
	}
	s.Electorate.Sets = []VoterSet{both, nextSet(e, self, candidate)}
	return s
}

// settingOnceLeader is the setting that a voter would need if it came to lead by votes; zero: it is none.
func settingOnceLeader(v *View) SyncSetting {
	e, ok := v.votingElectorate()
	if !ok || !e.has(v.Self.Name, v.Local.DataID) {
		return SyncSetting{}
	}
	former := Voter{Name: v.Store.Cluster.Sync.Leader, Data: e.LeaderData}
	return settingOf(nextSet(&e, former, v.Self.Name), v.Policy.Sync.Mode != SyncOn)
}

// setToWaitFor is the published set that a promoted leader's commits must reach; Wait zero: there is none.
// A key that a Patroni wrote says nothing of how many commits wait for: as many as its quorum needs.
func setToWaitFor(v *View) VoterSet {
	s := v.Store.Cluster.Sync
	if s.Leader != v.Self.Name {
		return VoterSet{}
	}
	if s.Electorate != nil {
		if last := lastWaiting(s.Electorate.Sets); last.Wait > 0 {
			return last
		}
	}
	set := VoterSet{Quorum: s.Quorum + 1}
	for _, name := range s.Standbys {
		if name != v.Self.Name {
			set.Voters = append(set.Voters, Voter{Name: name})
		}
	}
	set.Wait = max(0, len(set.Voters)-set.Quorum+1)
	return set
}

// settingTooWeak says that the setting in the server's files may acknowledge a commit that a takeover by
// the published sets could miss.
func settingTooWeak(v *View) bool {
	s := v.Store.Cluster.Sync
	if !v.Local.Sync.Known || s.Leader != v.Self.Name {
		return false
	}
	sets := []VoterSet{setToWaitFor(v)}
	if s.Electorate != nil {
		sets = s.Electorate.Sets
	}
	for _, set := range sets {
		if meets(v.Local.Sync.Setting, set, v.Self.Name) {
			return false
		}
	}
	return len(sets) > 0 && (s.Electorate != nil || len(sets[0].Voters) > 0)
}

// meets says that every choice of standbys that may release a commit has a voter in common with every
// quorum of the set, the leader not counted.
func meets(s SyncSetting, set VoterSet, leader string) bool {
	n, strangers := 0, 0
	for _, voter := range set.Voters {
		if voter.Name != leader {
			n++
		}
	}
	for _, name := range s.Names {
		if _, ok := set.Voter(name); !ok || name == leader {
			strangers++
		}
	}
	return s.Wait > len(s.Names) || n-max(0, s.Wait-strangers) < set.Quorum
}

// SyncForPromotion is the setting of synchronous_standby_names that must stand before this member, which
// holds the leader key, is promoted: that of the newest set it published. Where it published none, its
// commits wait for any of the members that run, as in the steady state, until it has looked at them.
func SyncForPromotion(v View) SyncSetting { return v.syncForPromotion() }

func (v *View) syncForPromotion() SyncSetting {
	policy := v.Policy.Sync
	if set := setToWaitFor(v); set.Wait > 0 {
		return settingOf(set, policy.Mode != SyncOn)
	}
	if policy.Mode == SyncOff {
		return SyncSetting{}
	}
	var names []string
	for _, m := range v.Store.Cluster.Members {
		if m.Name != v.Self.Name && !m.Tags.NoSync && !m.Tags.NoStream && m.State == StateRunning {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) > 0:
		return SyncSetting{Any: policy.Mode == SyncQuorum, Wait: min(max(policy.Nodes, 1), len(names)), Names: names}
	case policy.Strict:
		return strictSetting(v)
	}
	return SyncSetting{}
}

// PublishedSetting is the setting that belongs to the published sync key: what a primary starts with
// whose own configuration has lost it.
func PublishedSetting(s SyncState, mode SyncMode) SyncSetting {
	out := SyncSetting{Any: mode != SyncOn}
	switch {
	case !s.Active():
		return SyncSetting{}
	case s.Electorate != nil && len(s.Electorate.Sets) > 0:
		set := s.Electorate.Sets[len(s.Electorate.Sets)-1]
		out.Wait, out.Names = max(set.Wait, len(set.Voters)+1-set.Quorum), set.Names()
	case s.Electorate == nil && len(s.Standbys) > 0:
		out.Wait, out.Names = max(1, len(s.Standbys)-s.Quorum), slices.Clone(s.Standbys)
	default:
		return SyncSetting{}
	}
	slices.Sort(out.Names)
	return out
}
