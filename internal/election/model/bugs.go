package model

import (
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Bug is a deliberate defect of a plan, a transaction, the shell or the world. Each shows that the
// check it is meant for can fail. The numbers in the comments are those of the list of bugs that the
// model must be shown to catch.
type Bug uint8

// The defects.
const (
	NoBug Bug = iota
	// BugVotesNotCompared: the takeover does not compare the votes that it counts (1).
	BugVotesNotCompared
	// BugUnfreezeOnRestart: a new agent forgets that its server is frozen (2).
	BugUnfreezeOnRestart
	// BugNoBarrier: the new electorate is published before it holds the old commits (3).
	BugNoBarrier
	// BugNoWaitAtPromotion: a new primary's commits wait for nobody (4).
	BugNoWaitAtPromotion
	// BugKeepAliveAlone: a living lease is taken for ownership (5).
	BugKeepAliveAlone
	// BugAcquireOnDelete: a key that is gone is taken without word that its lease is over (6).
	BugAcquireOnDelete
	// BugSentAtReceive: a proof counts from when its answer arrives (7).
	BugSentAtReceive
	// BugDownEarly: a server is down when its postmaster is (8).
	BugDownEarly
	// BugAdoptByValue: a leader key that bears the own name is the own one (9).
	BugAdoptByValue
	// BugVoteAfterRestart: a vote is cast before replay came to the end of what is there (10).
	BugVoteAfterRestart
	// BugVoteBeforeStopped: a vote is cast while the walreceiver still runs (10).
	BugVoteBeforeStopped
	// BugSameData: a fresh copy keeps the name of the data it replaces (11).
	BugSameData
	// BugTwinTimelines: a promotion takes the next free number, reserved or not (12).
	BugTwinTimelines
	// BugSameNumber: equal timeline numbers are taken for one history (12).
	BugSameNumber
	// BugLoosenFirst: the setting is loosened before the electorate says so (13).
	BugLoosenFirst
	// BugShowIsForce: a setting counts as in force when it was written (13).
	BugShowIsForce
	// BugOneStep: the set is replaced in one step (14).
	BugOneStep
	// BugPromoteLate: a promotion goes through without an armed fencer (15).
	BugPromoteLate
	// BugDisarmEarly: the fencer is disarmed before the server is down (15).
	BugDisarmEarly
	// BugFencerDeaf: the deadline passes and nothing happens (15).
	BugFencerDeaf
	// BugPromiseForgotten: a promise does not outlive the agent (16).
	BugPromiseForgotten
	// BugRestoreEarly: the archive is read again before the member streams from the winner (19).
	BugRestoreEarly
	// BugHandOverEarly: the key is handed over before the candidate has everything (17).
	BugHandOverEarly
	// BugWinnerBehind: a member with a higher priority leads although a counted vote is further (18).
	BugWinnerBehind
	// BugQuorumByConfig: the quorum is computed from the configuration (20).
	BugQuorumByConfig
	// BugUnknownThaws: a withdrawal of unknown outcome thaws (21).
	BugUnknownThaws
	// BugUnknownFails: a hand-over of unknown outcome counts as not done (21).
	BugUnknownFails
	// BugTimeOnly: a takeover by time in a synchronous mode, of a primary whose clock stood still (22).
	BugTimeOnly
	// BugSetWhileWriting: the setting is changed while a write of the electorate is on its way (13, 21).
	BugSetWhileWriting
	// BugTokenProven: a title is taken up after a restart of the agent without writing the key anew, so
	// that requests of the earlier life may still be carried out (17, 21).
	BugTokenProven
	// BugCloneKeepsVote: a directory is replaced while a vote for it stands or is on its way (11).
	BugCloneKeepsVote
	// BugOldBarrier: nobody remembers whose copies the barrier was proven with (11, 14).
	BugOldBarrier
	// BugNeverThaw: a freeze that came to nothing does not end. No state is wrong; one is stuck.
	BugNeverThaw
	// BugVotesOverlap: a vote is cast while the withdrawal of an older one is on its way (1, 21).
	BugVotesOverlap
	// BugSettingsOverlap: the electorate is published while another setting is on its way (13).
	BugSettingsOverlap
	// BugReleaseForgotten: a title that is dropped takes with it that its release is on its way (21).
	BugReleaseForgotten
	// BugPromiseRacing: a promise is given by a member whose own attempt to take the key may yet succeed (16).
	BugPromiseRacing
	// BugPromiseAndRace: and such an attempt does not compare the reign that it was decided in, either (16).
	BugPromiseAndRace
	// BugStaleLease: the key is handed to a lease that the candidate keeps alive no more, and the candidate
	// takes it for its own by value, with the time of its new lease (17).
	BugStaleLease
	// BugTakesBack: a leader whose hand-over had an unknown outcome takes the key back by value (17).
	BugTakesBack
	// BugAlwaysDeaf: voters freeze against a leader that they hear. No state is wrong; the key never rests.
	BugAlwaysDeaf
	lastBug
)

// bendView changes what the core is told.
func (w *world) bendView(v *election.View) {
	c := &v.Store.Cluster
	switch w.cfg.Bug {
	case BugVoteAfterRestart:
		if v.Local.Freeze.Recorded && v.Local.Freeze.Proven {
			v.Local.Freeze.LSN, v.Local.Freeze.Timeline = v.Local.LSN, v.Local.Timeline
		}
	case BugUnfreezeOnRestart:
		c.Votes = slices.DeleteFunc(slices.Clone(c.Votes), func(o election.Vote) bool {
			return o.Name == v.Self.Name && !v.Local.Freeze.Recorded
		})
	case BugWinnerBehind:
		for n := range c.Votes {
			if f := v.Local.Freeze; f.Recorded && c.Votes[n].LSN > f.LSN {
				c.Votes[n].LSN = f.LSN
			}
		}
	case BugQuorumByConfig:
		if e := c.Sync.Electorate; e != nil && c.Sync.Leader != v.Self.Name {
			for n := range e.Sets {
				e.Sets[n].Quorum = 1
			}
		}
	case BugOldBarrier:
		v.Local.Sync.Copies = nil
	case BugStaleLease:
		leasesByName(v)
	case BugAlwaysDeaf:
		if v.Contact.Silent == 0 {
			v.Contact.HeardAt, v.Contact.Silent = worldNow-10*time.Second, 10
		}
	case BugTimeOnly:
		v.Policy.Sync.TimeOnly = true
	default: // elsewhere
	}
}

// leasesByName: whatever bears a member's name is taken to hang on the lease that it lives by.
func leasesByName(v *election.View) {
	c := &v.Store.Cluster
	if c.Leader.Name == v.Self.Name {
		c.Leader.Lease = v.Lease
	}
	for n := range c.Members {
		if o, ok := c.Offer(c.Members[n].Name); ok {
			c.Members[n].Lease = o.Lease
		}
	}
}

// bendPlan changes what the core said.
func (w *world) bendPlan(v *election.View, p *election.Plan) {
	for n, a := range p.Actions {
		switch a := a.(type) {
		case election.TakeOver:
			if e := a.Sync.Electorate; w.cfg.Bug == BugNoBarrier && e != nil {
				a.Sync.Electorate = &election.Electorate{Epoch: e.Epoch, LeaderData: e.LeaderData, Sets: []election.VoterSet{
					whoStreams(e.Sets[len(e.Sets)-1], v.Store.Cluster.Sync.Leader),
				}}
				p.Actions[n] = a
			}
		case election.WriteSync:
			w.bendWriteSync(p, n, a)
		default: // stays as it is
		}
	}
}

// whoStreams is the set without the former leader, whose node is gone.
func whoStreams(set election.VoterSet, former string) election.VoterSet {
	set.Voters = slices.DeleteFunc(slices.Clone(set.Voters), func(o election.Voter) bool { return o.Name == former })
	set.Wait = min(set.Wait, len(set.Voters))
	set.Quorum = len(set.Voters) - set.Wait + 1
	return set
}

func (w *world) bendWriteSync(p *election.Plan, n int, a election.WriteSync) {
	e := a.State.Electorate
	switch {
	case e == nil:
	case w.cfg.Bug == BugLoosenFirst && len(e.Sets) == 0:
		p.Actions[n] = election.SetSync{}
	case w.cfg.Bug == BugOneStep && len(e.Sets) > 1:
		a.State.Electorate = &election.Electorate{Epoch: e.Epoch, LeaderData: e.LeaderData, Sets: e.Sets[len(e.Sets)-1:]}
		p.Actions[n] = a
	}
}

// bendTxn changes a transaction on its way to the store.
func (w *world) bendTxn(t *transaction) {
	var skip []string // prefixes of keys that are not compared
	switch {
	case w.cfg.Bug == BugVotesNotCompared && t.kind == txnTakeOver:
		skip = []string{dcs.PrefixVote}
	case w.cfg.Bug == BugPromiseAndRace && t.kind == txnAcquire:
		skip = []string{dcs.KeyEpoch, dcs.KeySync, dcs.KeyFailsafe}
	case w.cfg.Bug == BugStaleLease && t.kind == txnHandOver:
		skip = []string{dcs.PrefixOffer}
	default:
		return
	}
	t.txn.If = slices.DeleteFunc(slices.Clone(t.txn.If), func(c dcs.Cmp) bool {
		return slices.ContainsFunc(skip, func(p string) bool { return strings.HasPrefix(c.Key, p) })
	})
}
