package election

import (
	"cmp"
	"slices"
)

// StrictPlaceholder stands in synchronous_standby_names when commits must wait and there is no standby
// that they could wait for. A Patroni knows it as well (row H-135).
const StrictPlaceholder = "__patroni_strict_sync_replica_placeholder__"

// Equal says that two sets are the same: voters, copies and numbers.
func (s VoterSet) Equal(o VoterSet) bool {
	return s.Wait == o.Wait && s.Quorum == o.Quorum && slices.Equal(s.Voters, o.Voters)
}

// Voter finds a voter by name.
func (s VoterSet) Voter(name string) (Voter, bool) {
	for _, v := range s.Voters {
		if v.Name == name {
			return v, true
		}
	}
	return Voter{}, false
}

// Names of the voters, sorted.
func (s VoterSet) Names() []string {
	names := make([]string, len(s.Voters))
	for i, v := range s.Voters {
		names[i] = v.Name
	}
	return names
}

// Equal says that two settings ask for the same. All that wait for nobody are equal.
func (s SyncSetting) Equal(o SyncSetting) bool {
	if s.Wait == 0 || o.Wait == 0 {
		return s.Wait == o.Wait
	}
	return s.Any == o.Any && s.Wait == o.Wait && slices.Equal(s.Names, o.Names)
}

// settingOf is the setting by which every commit that is acknowledged has reached Wait of the voters.
func settingOf(set VoterSet, anyOf bool) SyncSetting {
	if set.Wait == 0 || len(set.Voters) == 0 {
		return SyncSetting{}
	}
	return SyncSetting{Any: anyOf, Wait: set.Wait, Names: set.Names()}
}

// has says that this very copy of the member's data is a voter of some set.
func (e Electorate) has(name, data string) bool {
	for _, s := range e.Sets {
		if v, ok := s.Voter(name); ok && v.Data == data && data != "" {
			return true
		}
	}
	return false
}

// Satisfied says that the votes reach the quorum of every set. A vote counts in a set only with the
// copy of the data that the set names. Without a set nobody may take over.
func (e Electorate) Satisfied(votes []Vote) bool {
	for _, s := range e.Sets {
		n := 0
		for _, vote := range votes {
			if v, ok := s.Voter(vote.Name); ok && v.Data == vote.Data {
				n++
			}
		}
		if n < s.Quorum {
			return false
		}
	}
	return len(e.Sets) > 0
}

// VotingElectorate is the electorate by whose votes the present reign may be ended, if there is one:
// published by pgha, for the holder of this very reign, and the leader key, as it is or as it was before
// it went, is the one of this reign (a Patroni that led since left the reign as it was).
func VotingElectorate(v View) (Electorate, bool) { return v.votingElectorate() }

func (v *View) votingElectorate() (Electorate, bool) {
	c := &v.Store.Cluster
	e := c.Sync.Electorate
	if e == nil || c.Reign.Epoch == 0 || c.Sync.Leader != c.Reign.Holder || e.Epoch > c.Reign.Epoch || c.Reign.ModRevision == 0 {
		return Electorate{}, false
	}
	if c.Leader.Present {
		return *e, c.Leader.ModRevision == c.Reign.ModRevision
	}
	gap := v.Store.Vacancy
	// In a store that was restored, votes stand that their voters withdrew long ago.
	return *e, !gap.Replaced && (gap.Revision == 0 || gap.Revision == c.Reign.ModRevision)
}

// branch says how a timeline stands to the history of the reign's leader.
type branch uint8

// The kinds of branches, the less useful first.
const (
	// branchDead: it was begun by a reign whose end the present one did not build on.
	branchDead branch = iota
	// branchPast: older than the timeline that the leader came from. It may be its past or not.
	branchPast
	// branchParent: the timeline that the leader came from, and which it is on until it is promoted.
	branchParent
	// branchOwn: the timeline of the reign itself.
	branchOwn
)

// branchOf sorts a timeline. Numbers alone do not order logs: a leader that fell before anybody followed
// it leaves a timeline with a high number that lacks what its successor, on an older one, had
// acknowledged. Such a timeline lies between the one that the present leader came from and its own, since
// each reign reserves a higher one than all before.
func (r Reign) branchOf(tl Timeline) branch {
	switch {
	case tl >= r.NextTimeline:
		return branchOwn
	case tl == r.ParentTimeline:
		return branchParent
	case tl < r.ParentTimeline:
		return branchPast
	}
	return branchDead
}

// CountVotes gives the votes that stand against the present reign, by name. Each is a frozen copy of the
// data that some set of the electorate names, on no dead branch. It is empty if no takeover may rest on votes.
func CountVotes(v View) []Vote { return v.countVotes() }

func (v *View) countVotes() []Vote {
	e, ok := v.votingElectorate()
	if !ok {
		return nil
	}
	var out []Vote
	for _, vote := range v.Store.Cluster.Votes {
		if v.againstThisReign(vote) && e.has(vote.Name, vote.Data) && v.Store.Cluster.Reign.branchOf(vote.Timeline) != branchDead {
			out = append(out, vote)
		}
	}
	slices.SortFunc(out, func(a, b Vote) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (v *View) againstThisReign(vote Vote) bool {
	r := v.Store.Cluster.Reign
	return vote.Standing() && vote.Epoch == r.Epoch && vote.LeaderRevision == r.ModRevision
}

// compareVotes orders votes that are on no dead branch by how much they hold of what the leader of the
// reign had acknowledged. Whoever is on a newer timeline has gone past the point where it was branched
// off, by a leader that held everything acknowledged before. Of two votes from the past (branchPast) the
// order may be wrong: such a vote counts, and never wins.
func compareVotes(a, b Vote) int {
	if c := cmp.Compare(a.Timeline, b.Timeline); c != 0 {
		return c
	}
	return cmp.Compare(a.LSN, b.LSN)
}

// lostAfter is how many questions in a row must stay unanswered before a leader counts as lost.
const lostAfter = 3

// LostLeader is the revision of the leader key whose holder this member has lost sight of; zero: none.
// It is what peers are told in Probe.Lost. A key that is gone for good counts as well.
func LostLeader(v View) int64 {
	if v.lost() {
		return v.Store.Cluster.Reign.ModRevision
	}
	return 0
}

// lost says that the holder of the present reign does not answer any more, or is proven to be none.
func (v *View) lost() bool {
	c := &v.Store.Cluster
	if c.Reign.ModRevision == 0 || c.Leader.Present && c.Leader.ModRevision != c.Reign.ModRevision {
		return false
	}
	if !c.Leader.Present && vacancyProven(v) {
		return true
	}
	heard := v.Contact
	heard.HeardAt = max(heard.HeardAt, v.Store.SeenAt)
	return heard.Revision == c.Reign.ModRevision && heard.Lost(v.Now, v.Policy.Sync.Silence)
}
