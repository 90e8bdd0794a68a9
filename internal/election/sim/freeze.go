package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// freezeRecord is what lies on disk before anything is frozen.
type freezeRecord struct {
	epoch     uint64
	revision  int64
	boot      int
	since     election.Instant
	fruitless int
}

const (
	freezeTime  = 3 * time.Second
	setSyncTime = 5 * time.Second
	acquireKey  = "acquire leader"
	adoptKey    = "adopt hand-over"
	claimKey    = "claim bootstrap"
	takeOverKey = "take over"
	failsafeKey = "write failsafe"
	votingKey   = "vote" // casting and withdrawing: never both under way
	settingSync = "set synchronous standbys"
)

// shortSync runs the short actions of the synchronous modes and of failsafe; false: it is none.
func (a *agent) shortSync(v *election.View, act election.Action) bool {
	switch act := act.(type) {
	case election.TakeOver:
		a.once(takeOverKey, func(t *task) error { return a.takeOver(t, v, act) })
	case election.FreezeServer:
		a.onceApart("freeze", func(t *task) error { return a.freezeServer(t, act) })
	case election.CastVote:
		a.castVote(v, act.Vote)
	case election.WithdrawVote:
		a.withdrawVote(v, act)
	case election.Thaw:
		a.once("thaw", func(t *task) error { return a.thaw(act.Why) })
	case election.SetSync:
		if !a.underway(settingSync) {
			a.settingTo = act.Setting
		}
		a.onceApart(settingSync, func(t *task) error { return a.setSync(t, act.Setting) })
	case election.WriteSync:
		a.writeSync(v, act.String(), act.State.Electorate, func(own, over int64) dcs.Txn { return dcs.WriteSync(own, over, act.State) })
	case election.DeleteSync:
		a.writeSync(v, act.String(), nil, dcs.DeleteSync)
	case election.AskPromises:
		a.once("ask for promises", func(t *task) error { return a.askPromises(t, v, act.Members) })
	case election.WriteFailsafe:
		if !a.awaitsEcho(failsafeKey, v.Store.Cluster.Revision) {
			a.once(failsafeKey, func(t *task) error { return a.writeFailsafe(t, v, act.Members) })
		}
	default:
		return false
	}
	return true
}

// loadFreeze takes up a freeze that an earlier life of the agent began. Whether it voted is not known,
// so it counts as having.
func (a *agent) loadFreeze() {
	rec := a.n.bound
	if rec == nil || a.w.bug(BugForgetFreeze) {
		return
	}
	since := rec.since
	if rec.boot != a.n.boots {
		since = a.now()
	}
	a.freeze = election.Freeze{
		Recorded: true, Epoch: rec.epoch, LeaderRevision: rec.revision, VoteSent: true, RestoreOff: true,
		Since: since, Fruitless: rec.fruitless,
	}
}

// freezeServer records durably that this member follows the holder of a leader key no longer, stops its
// walreceiver, and proves that. Where the log then ends may be voted with.
func (a *agent) freezeServer(t *task, act election.FreezeServer) error {
	n := a.n
	before := a.freeze
	again := before.Recorded && before.LeaderRevision == act.LeaderRevision
	rec := freezeRecord{epoch: act.Epoch, revision: act.LeaderRevision, boot: n.boots, since: a.now(), fruitless: before.Fruitless}
	if again {
		rec.since = before.Since
	}
	t.sleep(a.w.between(time.Millisecond, 20*time.Millisecond) + n.slowDisk())
	n.bound = &rec
	a.upstream, n.upstream = "", ""
	a.local.Upstream, a.local.UpstreamConnURL = "", ""
	a.freeze = election.Freeze{
		Recorded: true, Epoch: rec.epoch, LeaderRevision: rec.revision, RestoreOff: true, Since: rec.since,
		Fruitless: rec.fruitless, LastThaw: before.LastThaw, VoteSent: again && before.VoteSent,
	}
	if !again {
		a.note("frozen: follows %s no longer", act.Leader)
	}
	if err := a.fence(t, func(f *fencer) error { f.n.pg.reloadUpstream(); return nil }); err != nil {
		return err
	}
	pid := n.pg.pid
	for limit := a.now() + freezeTime; !a.stopped(); {
		if a.now() > limit || n.pg.pid != pid || !t.sleep(10*time.Millisecond) {
			return errNot("freeze: not proven")
		}
	}
	if a.freeze.LeaderRevision == rec.revision && a.freeze.Recorded {
		a.freeze.Proven, a.freeze.Timeline, a.freeze.LSN = true, n.disk.tl, n.disk.end()
		if a.w.bug(BugVoteReceiveLSN) {
			a.freeze.LSN = n.pg.receivedLSN()
		}
	}
	a.lookOnce(t)
	return nil
}

// stopped says that no walreceiver runs and that everything received has been replayed: the log moves no
// more.
func (a *agent) stopped() bool {
	pg := &a.n.pg
	if pg.state != srvStandby || pg.halted() || pg.stream != nil || pg.upstream != "" {
		return false
	}
	return pg.replayed >= a.n.disk.end() || a.w.bug(BugVoteReceiveLSN)
}

// castVote publishes where the frozen log ends. Of an unknown outcome nothing follows.
func (a *agent) castVote(v *election.View, vote election.Vote) {
	key := fmt.Sprintf("cast vote against %d at %s", vote.LeaderRevision, vote.LSN)
	z := &a.freeze
	if a.awaitsEcho(key, v.Store.Cluster.Revision) || a.underway(votingKey) || !z.Recorded || !z.Proven || z.Epoch != vote.Epoch ||
		z.LeaderRevision != vote.LeaderRevision || z.LSN != vote.LSN || z.Timeline != vote.Timeline {
		return
	}
	before := z.VoteSent
	z.VoteSent = true
	txn := dcs.CastVote(v.Store.Cluster, vote)
	a.onceApart(votingKey, func(t *task) error {
		res, err := a.store.apply(t, storeCall, txn)
		if err != nil || !res.Done {
			if !before && (err == nil || errors.Is(err, dcs.ErrUnavailable)) {
				a.freeze.VoteSent = false
			}
			if err == nil {
				err = errNot("the leader or its electorate changed meanwhile")
			}
			return err
		}
		a.echo = append(a.echo, echoed{key, res.Revision, a.now()})
		a.note("votes against revision %d: timeline %d, %s", vote.LeaderRevision, vote.Timeline, vote.LSN)
		return nil
	})
}

// withdrawVote empties the own vote key. Only when that is known to be done does the vote count as
// withdrawn.
func (a *agent) withdrawVote(v *election.View, act election.WithdrawVote) {
	key := fmt.Sprintf("withdraw vote %d", act.Revision)
	if a.awaitsEcho(key, v.Store.Cluster.Revision) {
		return
	}
	if a.underway(votingKey) {
		return
	}
	a.onceApart(votingKey, func(t *task) error {
		res, err := a.store.apply(t, storeCall, dcs.WithdrawVote(a.n.name, act.Revision, act.LeaderRevision))
		if a.w.bug(BugThawUnknown) && errors.Is(err, dcs.ErrUnknownOutcome) {
			a.freeze.VoteSent = false
			_ = a.thaw("the vote counts as withdrawn")
		}
		if err != nil {
			return err
		}
		if !res.Done {
			return errNot("the vote or the leader is not the one seen any more")
		}
		a.echo = append(a.echo, echoed{key, res.Revision, a.now()})
		a.freeze.VoteSent = false
		a.note("vote against revision %d withdrawn", act.LeaderRevision)
		return nil
	})
}

// thaw ends a freeze that came to nothing. A vote that was sent must be known to be withdrawn before.
func (a *agent) thaw(why string) error {
	before := a.freeze
	switch {
	case !before.Recorded:
		return nil
	case before.VoteSent:
		return errNot("thaw: the vote is not known to be withdrawn")
	}
	a.freeze = election.Freeze{Fruitless: before.Fruitless + 1, LastThaw: a.now()}
	a.n.bound = nil
	a.note("thaws: %s", why)
	a.look.raise()
	return nil
}

// released notes that the server follows another leader than the one it froze against, or leads itself.
// The record stays until it streams from there.
func (a *agent) released(revision int64) {
	if a.freeze.Recorded && a.freeze.LeaderRevision != revision {
		a.freeze = election.Freeze{RestoreOff: true}
	}
}

// tendFreeze removes the record once this member streams from the new leader on its timeline, or leads.
func (a *agent) tendFreeze(v *election.View) {
	leads := v.Own.Held() && v.Local.Server == election.ServerRunning && v.Local.Role == election.RolePrimary
	if leads {
		a.released(v.Own.Revision) // a freeze that was under way while this member came to lead
	}
	z, c := a.freeze, &v.Store.Cluster
	if !z.RestoreOff || z.Recorded {
		return
	}
	leader, ok := c.Member(c.Leader.Name)
	follows := ok && v.Local.Streaming && leader.Role == "primary" && leader.Timeline != 0 && v.Local.Timeline == leader.Timeline
	if leads || follows {
		a.freeze, a.n.bound = election.Freeze{}, nil
		a.news.raise()
	}
}

// takeOver replaces the leader key by the votes that the plan counted. Of an unknown outcome nothing
// follows: if it was done, the key hangs on the own lease, and the rules adopt it.
func (a *agent) takeOver(t *task, v *election.View, act election.TakeOver) error {
	lease, sent, ttl, err := a.freshLease(t)
	if err != nil {
		return err
	}
	act.Reign.Lease, act.Reign.TTL = lease, ttl
	if why := a.race.begin(t, a, v.Store.Cluster.Reign.ModRevision, true); why != "" {
		return errNot(why)
	}
	c := &v.Store.Cluster
	txn := dcs.TakeOver(v.Self.Name, lease, *c, act)
	if a.w.bug(BugUncheckedVotes) {
		txn.If = txn.If[:len(txn.If)-len(act.Votes)]
	}
	res, err := a.store.applyTakeOver(t, storeCall, txn, act.Votes)
	a.race.end(stillOpen(res, err))
	if stillOpen(res, err) && (act.Over != 0 || c.Release.LeaderRevision != c.Reign.ModRevision) {
		a.takenFromLive(err == nil, act.Over == 0)
	}
	switch {
	case err != nil:
		return err
	case !res.Done:
		return errNot("the takeover was forestalled: the leader, the electorate or a vote changed")
	}
	a.note("took over by %d votes at revision %d, epoch %d", len(act.Votes), res.Revision, act.Reign.Epoch)
	a.reserved = act.Reign.NextTimeline
	if !a.sureOf(res.RaftTerm) {
		return errNot("the raft term changed since the keep-alive; the title is proven anew")
	}
	return a.take(t, election.Own{Revision: res.Revision, Lease: lease, Epoch: act.Reign.Epoch, Sent: sent, TTL: ttl}, false)
}

// takenFromLive notes that the leader key was taken, or may have been, from a leader that may live.
func (a *agent) takenFromLive(known, vacant bool) {
	a.takenUnsure = !known
	if known {
		a.notBefore = election.ShownFrom(a.now(), a.set.Silence, vacant)
	}
}
