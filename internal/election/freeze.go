package election

import (
	"cmp"
	"slices"
	"time"
)

// Times of a takeover by votes. They bound waiting; no safety rests on them.
const (
	// freezeLimit is how long a voter stays frozen against a leader that still leads.
	freezeLimit = 2 * time.Second
	// betterFirst is how long a voter leaves the takeover to a better one.
	betterFirst = time.Second
	// backOffMost bounds the pause after freezes that came to nothing.
	backOffMost = 30 * time.Second
	// lostAskAgain is when the others are asked again whether they have lost the leader, too.
	lostAskAgain = 200 * time.Millisecond
)

// against is the revision of the leader key that this member is bound against: by its freeze record,
// by a vote of its own that stands, or by one that may still arrive. Zero: it is free.
func (v *View) against() int64 {
	rev := int64(0)
	if v.Local.Freeze.Recorded {
		rev = v.Local.Freeze.LeaderRevision
	}
	for i := range v.Store.Cluster.Votes {
		if vote := &v.Store.Cluster.Votes[i]; vote.Name == v.Self.Name {
			rev = max(rev, vote.LeaderRevision)
		}
	}
	return rev
}

// bound says that this member is frozen against a reign that may not be over. A reign is over for good
// once a newer one stands in the store: no transaction that compares it can succeed any more.
func (v *View) bound() bool {
	rev := v.against()
	return rev != 0 && v.Store.Cluster.Reign.ModRevision <= rev
}

// boundToLeader says that it is the present leader that this member may not follow: the one it is bound
// against, or one that came to lead without a reign of its own (a Patroni), until the vote is withdrawn.
func (v *View) boundToLeader() bool {
	l, rev := &v.Store.Cluster.Leader, v.against()
	if !l.Present || rev == 0 {
		return false
	}
	return l.ModRevision == rev || v.bound() && v.voteOut()
}

// voteOut says that a vote of this member stands, or may still arrive.
func (v *View) voteOut() bool {
	vote, ok := v.Store.Cluster.Vote(v.Self.Name)
	return ok && vote.Standing() || v.Local.Freeze.VoteSent
}

// frozen says that the freeze record is one against the present reign.
func (v *View) frozen() bool {
	f, r := &v.Local.Freeze, &v.Store.Cluster.Reign
	return f.Recorded && f.LeaderRevision == r.ModRevision && f.Epoch == r.Epoch
}

// mayVote says that votes may end the present reign and that this copy of the data has one.
func (v *View) mayVote() bool {
	if v.Policy.Pause || v.Policy.Sync.TimeOnly || v.Local.Data != DataCluster || v.Own.Held() {
		return false
	}
	e, ok := v.votingElectorate()
	return ok && v.Store.Cluster.Leader.Name != v.Self.Name && e.has(v.Self.Name, v.Local.DataID)
}

// standby says that the server runs and is a standby.
func (v *View) standby() bool { return v.Local.Server == ServerRunning && v.Local.Role == RoleStandby }

// thawWhy says why a member that is bound against the leader should follow it again; empty: it should not.
func thawWhy(v *View) string {
	f := v.Local.Freeze
	switch {
	case v.Policy.Pause:
		return "the cluster is paused"
	case !v.mayVote():
		return "this member has no vote against the leader (any more)"
	case !f.Recorded:
		return "a vote of this member stands although its server is not frozen"
	case !v.lost():
		return "the leader answers again"
	case v.Now-f.Since > freezeLimit:
		return "too few members have voted within " + ago(freezeLimit)
	}
	return ""
}

// backOff is how long this member must still wait before it freezes again.
func backOff(v *View) time.Duration {
	f := v.Local.Freeze
	if f.Fruitless == 0 {
		return 0
	}
	wait := max(v.Policy.Sync.Silence, 100*time.Millisecond) << min(f.Fruitless, 9)
	return max(0, f.LastThaw+min(wait, backOffMost)-v.Now)
}

// lostToo says that enough others have lost the leader, too, for a takeover to come about. A standing
// vote says so as well. With a quorum of one this member would decide alone: then another one must confirm,
// if there is any; a member that hears nobody at all is more likely cut off itself.
func lostToo(v *View) bool {
	e, ok := v.votingElectorate()
	if !ok || len(e.Sets) == 0 {
		return false
	}
	gone := map[string]bool{v.Self.Name: true}
	for _, vote := range v.countVotes() {
		gone[vote.Name] = true
	}
	others := false
	leader := v.Store.Cluster.Reign.Holder
	for _, p := range v.Probes.Answers {
		m, _ := v.Store.Cluster.Member(p.Name)
		if !p.Answered || p.Name == v.Self.Name || p.Name == leader || !m.IsPgha() {
			continue
		}
		if p.Lost == v.Store.Cluster.Reign.ModRevision {
			gone[p.Name] = true
		}
	}
	for _, m := range v.Store.Cluster.Members {
		others = others || m.IsPgha() && m.Name != v.Self.Name && m.Name != leader
	}
	alone := false
	for _, s := range e.Sets {
		n := 0
		for _, voter := range s.Voters {
			if gone[voter.Name] {
				n++
			}
		}
		if n < s.Quorum {
			return false
		}
		alone = alone || s.Quorum == 1
	}
	return !alone || !others || len(gone) > 1
}

// lostAsked says that the others were asked a moment ago whether they have lost the leader.
func lostAsked(v *View) bool {
	p := v.Probes
	return p.DoneAt != 0 && !probing(v) && v.Now-p.DoneAt <= lostAskAgain
}

// ownVote is the vote that the frozen server calls for.
func ownVote(v *View) Vote {
	f, r := v.Local.Freeze, v.Store.Cluster.Reign
	return Vote{
		Name: v.Self.Name, Data: v.Local.DataID, Epoch: r.Epoch, LeaderRevision: r.ModRevision,
		Timeline: f.Timeline, LSN: f.LSN,
	}
}

// voteCast says that the vote in the store is the one that the frozen server calls for.
func voteCast(v *View) bool {
	vote, ok := v.Store.Cluster.Vote(v.Self.Name)
	if !ok {
		return false
	}
	vote.ModRevision = 0
	return vote == ownVote(v)
}

// winningVotes are the votes by which this member takes over: all that do not lie beyond its own log. Any
// votes that reach the quorum of every set will do, if the winner holds at least as much as each of them.
// Nil: this member cannot take over.
func winningVotes(v *View) []Vote {
	own, ok := v.Store.Cluster.Vote(v.Self.Name)
	if !ok || !v.frozen() || !v.Local.Freeze.Proven || !voteCast(v) {
		return nil
	}
	if v.Store.Cluster.Reign.branchOf(own.Timeline) < branchParent {
		return nil
	}
	var counted []Vote
	for _, vote := range v.countVotes() {
		if compareVotes(vote, own) <= 0 {
			counted = append(counted, vote)
		}
	}
	e, ok := v.votingElectorate()
	if !ok || !e.Satisfied(counted) || !slices.Contains(counted, own) {
		return nil
	}
	return counted
}

// betterVoter names the voter that the takeover is left to for a moment; empty: nobody.
func betterVoter(v *View) string {
	own, _ := v.Store.Cluster.Vote(v.Self.Name)
	if v.Now-v.Local.Freeze.Since >= betterFirst {
		return ""
	}
	priority := func(name string) int {
		if name == v.Self.Name {
			return v.Self.Tags.FailoverPriority
		}
		m, _ := v.Store.Cluster.Member(name)
		return m.Tags.FailoverPriority
	}
	best := own
	for _, vote := range v.countVotes() {
		m, there := v.Store.Cluster.Member(vote.Name)
		if vote.Name == v.Self.Name || !there || m.Tags.NoFailover {
			continue
		}
		if cmp.Or(compareVotes(vote, best), cmp.Compare(priority(vote.Name), priority(best.Name)), cmp.Compare(best.Name, vote.Name)) > 0 {
			best = vote
		}
	}
	if best.Name == v.Self.Name {
		return ""
	}
	return best.Name
}

// takeOver is the transaction that ends the present reign by votes.
func takeOver(v *View, votes []Vote) TakeOver {
	reign := nextReign(v)
	// What the vote says is where the log ends; from there the new timeline branches off.
	reign.ParentTimeline, reign.LSN = v.Local.Freeze.Timeline, v.Local.Freeze.LSN
	return TakeOver{Reign: reign, Over: v.Store.Cluster.Leader.ModRevision, Votes: votes, Sync: *inheritedSync(v)}
}
