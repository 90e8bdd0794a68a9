package sim

import "github.com/pgha/pgha/internal/election"

// Bug is a deliberate defect, in the simulated shell or by bending what the core is given. It shows
// that the check it is meant for can fail.
type Bug uint8

// The defects. Each is what a careless reading of the design would do.
const (
	NoBug Bug = iota
	// BugNoMargin: the fencer's deadline is the end of the lease itself.
	BugNoMargin
	// BugFencerIgnoresT: the deadline passes and nothing happens.
	BugFencerIgnoresT
	// BugSentAtReceive: a proof counts from the arrival of its answer.
	BugSentAtReceive
	// BugKeepAliveAlone: a keep-alive is taken for a proof of ownership.
	BugKeepAliveAlone
	// BugIgnoreTerm: a keep-alive answered by a former etcd leader counts.
	BugIgnoreTerm
	// BugAdoptByValue: a leader key that bears the own name is taken for the own one.
	BugAdoptByValue
	// BugAcquireOnDelete: a key that is gone is taken without proof that its lease is over.
	BugAcquireOnDelete
	// BugPromoteUnarmed: start and promotion go through without an armed fencer.
	BugPromoteUnarmed
	// BugPromoteAfterT: the fencer does not look at the deadline before a promotion or a start.
	BugPromoteAfterT
	// BugForgetBeforeDown: the title is dropped and the fencer disarmed before the server is down.
	BugForgetBeforeDown
	// BugReleaseRunning: the leader key is released while the server still stops.
	BugReleaseRunning
	// BugDownAtExit: the server counts as down as soon as its postmaster has exited.
	BugDownAtExit
	// BugHandOverEarly: the key is handed over before the shutdown checkpoint has arrived.
	BugHandOverEarly
	// BugUnknownIsFailure: a hand-over of unknown outcome counts as not done.
	BugUnknownIsFailure
	// BugReadOutcome: a read decides whether a request of unknown outcome was carried out, while the
	// request may still be on its way.
	BugReadOutcome
	// BugSameTimelineNumber: equal timeline numbers count as one history.
	// They are then not kept apart either.
	BugSameTimelineNumber
	// BugCloneOnGuess: a member without a leader clones from the first other member that answers.
	BugCloneOnGuess
	// BugIgnoreOthers: a candidate does not stand back behind one that is further, nor look at how
	// far the leader was.
	BugIgnoreOthers
	// BugEarlyHealth: /primary answers 200 for as long as the lease, whatever its margin.
	BugEarlyHealth
	// BugNeverStart: a member that is down is never started again.
	BugNeverStart
	// BugShortLeaseKeepsT: the key moves to a shorter lease while the fencer keeps the deadline that
	// the longer one gave.
	BugShortLeaseKeepsT
	// BugFreshWithoutTerm: a title just won counts from a keep-alive that a former leader of the
	// store may have answered.
	BugFreshWithoutTerm
	// BugBootstrapUnknown: a bootstrap whose publication has an unknown outcome counts as failed, and
	// what was published is not recognized later.
	BugBootstrapUnknown
	// BugStaleServer: a start that was not answered in time leaves the server down in the agent's eyes.
	BugStaleServer
	// BugOvertakenStart: a fencer that is asked how things stand says "down" although a start was asked
	// for before.
	BugOvertakenStart
	// BugTwinTimelines: a promotion takes the next number that is free in the own directory.
	BugTwinTimelines
	// BugStaleEpoch: an arm that was not answered in time is never heard of again.
	BugStaleEpoch
	// BugStaleSource: data is moved away on the word of a late watch, and before the source answers.
	BugStaleSource
	// BugShortVacancy: the wait for a vanished key is as long as the ttl that is asked for by now,
	// whatever its lease was granted for.
	BugShortVacancy
	// BugForgetFreeze: an agent that starts does not look whether its server is frozen.
	BugForgetFreeze
	// BugVoteReceiveLSN: the vote names what the walreceiver received in this life, before it is proven
	// to be stopped.
	BugVoteReceiveLSN
	// BugKeepData: a new copy of the data keeps the name, and so the vote, of the one before.
	BugKeepData
	// BugThawUnknown: a withdrawal of unknown outcome counts as done.
	BugThawUnknown
	// BugUncheckedVotes: the takeover does not compare the votes that it counts.
	BugUncheckedVotes
	// BugShowIsInForce: a setting counts as in force as soon as the server says that it has read it.
	BugShowIsInForce
	// BugPromoteAlone: a server is promoted with commits that wait for nobody.
	BugPromoteAlone
	// BugOverlappingSet: a setting that is just being changed counts as in force.
	BugOverlappingSet
	// BugSyncUnknown: a write of the sync key of unknown outcome counts as not done.
	BugSyncUnknown
	// BugForgetPromise: a promise does not outlive the process that gave it.
	BugForgetPromise
	// BugEarlierLife: an agent takes up a title of an earlier life as it is, while a request of that life
	// may still be on its way.
	BugEarlierLife
	// BugLateRed: /primary answers 200 although the voters may have replaced this leader.
	BugLateRed
	// BugPublishEarly: the new set is published alone before its members hold what was acknowledged.
	BugPublishEarly
	// BugLoosenFirst: commits wait no more before it is published that nobody else may lead.
	BugLoosenFirst
	// BugReplaceAtOnce: commits wait for other standbys before those are published.
	BugReplaceAtOnce
	// BugWinnerBehind: a frozen member takes over although another vote lies beyond its log.
	BugWinnerBehind
	// BugQuorumByConfig: the votes needed are computed from the configuration.
	BugQuorumByConfig
	// BugPromoteTwice: a server is promoted again in a reign in which it was promoted already.
	BugPromoteTwice
	// BugSetGivenUp: the failsafe set changes although the title rests on the promises of its members, and a
	// round counts by the set that was asked, whatever stands at its end.
	BugSetGivenUp
	// BugSetUnderWay: a failsafe set is written while promises are asked for, or while the title rests on them.
	BugSetUnderWay
	// BugKeepClaim: a bootstrap claim that nobody came to use is held for ever.
	BugKeepClaim
	lastBug
)

func (b Bug) String() string {
	names := []string{
		"none", "no margin", "fencer ignores T", "sent = receive time", "keep-alive alone", "ignore the raft term",
		"adopt by value", "acquire on delete", "promote unarmed", "promote after T", "forget before down",
		"release while running", "down at exit", "hand over early", "unknown is failure", "read the outcome", "same timeline number",
		"clone on a guess", "ignore others", "early health", "never start",
		"short lease keeps T", "fresh without term", "bootstrap unknown", "stale server", "overtaken start", "twin timelines", "stale epoch", "stale source", "short vacancy",
		"forget the freeze", "vote with the receive LSN", "keep the data's name", "unknown thaw", "unchecked votes", "SHOW is in force",
		"promote alone", "overlapping set", "unknown sync write", "forget the promise", "earlier life", "late red", "publish early",
		"loosen first", "replace at once", "winner behind", "quorum by configuration", "promote twice", "set given up",
		"set under way", "keep the claim",
	}
	return names[b]
}

func (w *World) bug(b Bug) bool { return w.cfg.Bug == b }

// bend changes what the core is told, for the bugs that live there.
func (w *World) bend(v *election.View) {
	switch w.cfg.Bug {
	case BugAcquireOnDelete:
		if v.Store.Vacancy.Since != 0 {
			v.Store.Vacancy.LeaseGone = election.Yes
			if v.Store.Vacancy.Lease == 0 {
				v.Store.Vacancy.Lease = 1
			}
		}
	case BugPromoteTwice:
		if r := &v.Store.Cluster.Reign; v.Own.Held() && r.Holder == v.Self.Name && r.ModRevision == v.Own.Revision {
			r.NextTimeline = max(r.NextTimeline, v.Local.Timeline+1)
		}
	case BugSetGivenUp, BugSetUnderWay:
		v.Failsafe.Asking = false
		v.Own.Sent = max(v.Own.Sent, v.Own.Promised)
	case BugIgnoreOthers:
		v.Store.Cluster.Status.Optime = 0
		for i := range v.Probes.Answers {
			v.Probes.Answers[i].Answered = false
		}
	}
}

// bendPlan changes what the core said.
func (w *World) bendPlan(a *agent, v *election.View, p *election.Plan) {
	switch w.cfg.Bug {
	case BugAdoptByValue:
		l := v.Store.Cluster.Leader
		if !v.Own.Held() && l.Present && l.Name == v.Self.Name && v.Job.Kind == election.JobNone && a.lease != 0 {
			own := election.Own{Revision: l.ModRevision, Lease: l.Lease, Sent: a.now(), TTL: a.ttl}
			a.once("adopt by value", func(t *task) error { return a.take(t, own, false) })
		}
	case BugCloneOnGuess:
		if v.Store.Cluster.Leader.Present || v.Job.Kind != election.JobNone || v.Local.Data != election.DataCluster || v.Own.Held() {
			return
		}
		for _, pr := range v.Probes.Answers {
			if pr.Answered && v.Store.Cluster.Initialize.State == election.BootstrapDone {
				p.Actions = []election.Action{election.Clone{Source: pr.Name, ConnURL: connURL(pr.Name)}}
				return
			}
		}
	case BugNeverStart:
		kept := p.Actions[:0]
		for _, act := range p.Actions {
			switch act.(type) {
			case election.StartStandby, election.StartPrimary:
			default:
				kept = append(kept, act)
			}
		}
		p.Actions = kept
	}
}
