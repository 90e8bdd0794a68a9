package election

import (
	"fmt"
	"time"
)

// The rules of a voter. They stand before those of a member that follows and of the race: a member that
// is frozen against the leader does nothing else until it is free again. What holds for a vacant key as
// well (voting, taking over) comes first; then what ends a freeze against a leader that still leads.

// freezeWake is when a frozen member looks again.
const freezeWake = 50 * time.Millisecond

func freezeGroups() []group {
	voter := func(when func(*View) bool) func(*View) bool {
		return func(v *View) bool { return !v.Own.Held() && when(v) }
	}
	return []group{
		{voter(func(v *View) bool { return v.boundToLeader() && !v.writable() }), thawRules()},
		{voter(func(v *View) bool { return v.frozen() && v.mayVote() && v.standby() }), voteRules()},
		{voter((*View).lost), []rule{freezeRule(), askRule()}},
	}
}

// thawRules free a member that is bound against the leader.
func thawRules() []rule {
	bound := within // to the present leader, with a server that is no primary
	same := func(v *View) bool { return v.Store.Cluster.Leader.ModRevision == v.against() }
	return []rule{
		{
			id: "freeze.withdraw_replaced",
			doc: "Another came to lead without a reign of its own (a Patroni), and a vote of this member against the leader before stands or may still arrive: " +
				"it is withdrawn before anybody is followed.",
			when: bound(func(v *View) bool { return !same(v) }),
			then: func(v *View) Plan {
				return Plan{
					Reason: "the leader voted against has been replaced by " + v.Store.Cluster.Leader.Name, Wake: freezeWake,
					Actions: []Action{WithdrawVote{Revision: ownVoteRevision(v)}},
				}
			},
		},
		{
			id: "freeze.withdraw",
			doc: "The freeze came to nothing: the leader answers again, too few members voted, or this member has no vote any more. " +
				"The vote is withdrawn while that leader still leads; only when that is known may it be followed again.",
			when: bound(func(v *View) bool { return thawWhy(v) != "" && v.voteOut() }),
			then: func(v *View) Plan {
				return Plan{
					Reason: "withdrawing the vote: " + thawWhy(v), Trouble: true, Wake: freezeWake,
					Change:  "word from etcd that it is withdrawn",
					Actions: []Action{WithdrawVote{Revision: ownVoteRevision(v), LeaderRevision: v.against()}},
				}
			},
		},
		{
			id:   "freeze.thaw",
			doc:  "The freeze came to nothing, and no vote stands or is on its way: the freeze record is removed, and the server follows the leader again.",
			when: bound(func(v *View) bool { return thawWhy(v) != "" }),
			then: func(v *View) Plan {
				return Plan{Reason: "no longer frozen: " + thawWhy(v), Actions: []Action{Thaw{Why: thawWhy(v)}}, Wake: freezeWake}
			},
		},
		{
			id:   "freeze.start",
			doc:  "The server of a frozen member is down: it is started as a standby of nobody, since it may not follow the leader it is frozen against.",
			when: bound(func(v *View) bool { return v.Local.Server == ServerDown }),
			then: func(v *View) Plan {
				if v.notYet(JobStart) > 0 {
					return waitFor(v, JobStart, "the start")
				}
				return Plan{Reason: "frozen against the leader, and the server is down", Actions: []Action{StartStandby{}}}
			},
		},
		{
			id:   "freeze.wait_server",
			doc:  "The server of a frozen member is on its way up or down.",
			when: bound(func(v *View) bool { return !v.standby() }),
			then: func(*View) Plan {
				return Plan{Reason: "frozen against the leader, and the server is not ready", Wake: time.Second}
			},
		},
	}
}

// ownVoteRevision is the revision of the own vote key; zero: it is absent.
func ownVoteRevision(v *View) int64 {
	vote, _ := v.Store.Cluster.Vote(v.Self.Name)
	return vote.ModRevision
}

// voteRules bring a takeover by votes about, once the server is frozen.
func voteRules() []rule {
	frozen := within // with a vote, and a server that is a standby
	return []rule{
		{
			id:   "freeze.prove",
			doc:  "The freeze is recorded and not yet proven: no vote before it is certain that nothing more is acknowledged.",
			when: frozen(func(v *View) bool { return !v.Local.Freeze.Proven }),
			then: func(v *View) Plan {
				return Plan{Reason: "freezing", Change: "the end of the walreceiver", Actions: []Action{freezeNow(v)}, Wake: freezeWake}
			},
		},
		{
			id:   "freeze.vote",
			doc:  "The server is proven frozen: where its log ends is published as its vote.",
			when: frozen(func(v *View) bool { return !voteCast(v) && v.Local.Freeze.Timeline != 0 && v.Local.Freeze.LSN != 0 }),
			then: func(v *View) Plan {
				vote := ownVote(v)
				return Plan{
					Reason:  fmt.Sprintf("the log ends at %s on timeline %d", vote.LSN, vote.Timeline),
					Actions: []Action{CastVote{Vote: vote}}, Wake: freezeWake,
				}
			},
		},
		{
			id:   "freeze.yield",
			doc:  "The votes suffice, and a voter that holds more, or is preferred, could lead: it is given a second.",
			when: frozen(func(v *View) bool { return enoughVotes(v) && betterVoter(v) != "" }),
			then: func(v *View) Plan {
				return Plan{Reason: "left to " + betterVoter(v), Change: "its silence", Wake: freezeWake}
			},
		},
		{
			id: "freeze.take_over",
			doc: "Frozen members reach the quorum of every published set, and this one holds at least as much of the log as each that is counted: " +
				"it takes the key, in one transaction that compares the leader key, the reign, the sync key and every vote counted.",
			when: frozen(func(v *View) bool { return cannotLead(v) == "" && winningVotes(v) != nil }),
			then: func(v *View) Plan {
				votes := winningVotes(v)
				return Plan{
					Reason:  fmt.Sprintf("the votes of %d frozen members suffice", len(votes)),
					Actions: []Action{takeOver(v, votes)}, Wake: freezeWake,
				}
			},
		},
		waitVotesRule(frozen),
	}
}

func waitVotesRule(frozen func(func(*View) bool) func(*View) bool) rule {
	return rule{
		id:   "freeze.wait_votes",
		doc:  "Frozen against a leader that still holds the key; the votes do not suffice yet, or this member may not lead.",
		when: frozen(func(v *View) bool { return v.Store.Cluster.Leader.Present }),
		then: func(v *View) Plan {
			return waitingTrouble(waitVotesReason(v), "more votes, an answer of the leader, or "+ago(freezeLimit)+" of waiting")
		},
	}
}

func askRule() rule {
	return rule{
		id:  "freeze.ask",
		doc: "The leader does not answer this voter any more: the others are asked, again and again, whether they have lost it, too.",
		when: within(func(v *View) bool {
			// What an operator asks for is not held up by that.
			return wantsFreeze(v) && (!lostAsked(v) && !probing(v) || len(v.Commands) == 0 && v.Store.Cluster.Failover.IsZero() && v.Store.Cluster.Leader.Present)
		}),
		then: func(v *View) Plan {
			p := waitingTrouble("the leader "+v.Store.Cluster.Reign.Holder+" does not answer", "an answer of the leader, or as many members that have lost it as a takeover needs")
			if !lostAsked(v) && !probing(v) {
				p.Actions = []Action{ProbePeers{}}
			}
			return p
		},
		steady: true,
	}
}

func freezeRule() rule {
	return rule{
		id: "freeze.freeze",
		doc: "The leader is lost to this voter and to as many others as a takeover needs, or its key is gone for good: the server is frozen, " +
			"which is recorded first, so that it outlives a restart of the agent and of the server.",
		when: within(func(v *View) bool {
			return wantsFreeze(v) && (lostToo(v) || !v.Store.Cluster.Leader.Present && vacancyProven(v) && len(v.Store.Cluster.Sync.Electorate.Sets) > 0)
		}),
		then: func(v *View) Plan {
			return Plan{
				Reason: "the leader " + v.Store.Cluster.Reign.Holder + " is lost", Trouble: true,
				Actions: []Action{freezeNow(v)}, Wake: freezeWake,
			}
		},
	}
}

// wantsFreeze says that this member has a vote, is free, and has lost the leader. One that may take the
// vacant key without votes does that.
func wantsFreeze(v *View) bool {
	if holderAwaited(v) || !v.Store.Cluster.Leader.Present && ineligible(v) == "" && timeBarred(v) == "" {
		return false
	}
	return v.mayVote() && v.standby() && !v.frozen() && v.lost() && backOff(v) == 0
}

func freezeNow(v *View) FreezeServer {
	r := v.Store.Cluster.Reign
	return FreezeServer{Epoch: r.Epoch, LeaderRevision: r.ModRevision, Leader: r.Holder}
}

func enoughVotes(v *View) bool {
	e, ok := v.votingElectorate()
	return ok && voteCast(v) && e.Satisfied(v.countVotes())
}

func waitVotesReason(v *View) string {
	n := len(v.countVotes())
	if why := cannotLead(v); why != "" && enoughVotes(v) {
		return fmt.Sprintf("the votes of %d frozen members suffice, and this member must not lead: %s", n, why)
	}
	if v.Store.Cluster.Reign.branchOf(v.Local.Freeze.Timeline) < branchParent {
		return fmt.Sprintf("frozen against the leader; timeline %d is not the one that it came from", v.Local.Freeze.Timeline)
	}
	if enoughVotes(v) {
		return fmt.Sprintf("the votes of %d frozen members suffice only for one that holds more of the log", n)
	}
	return fmt.Sprintf("frozen against the leader; %d votes do not reach the quorum", n)
}

func waitingTrouble(reason, change string) Plan {
	return Plan{Reason: reason, Change: change, Trouble: true, Wake: freezeWake}
}
