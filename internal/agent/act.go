package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
)

// storeCall bounds one short write to the store. It moves no line of the lease.
const storeCall = 2 * time.Second

// execute carries out a plan: short steps at once or beside the loop, long ones as the one job.
func (a *Agent) execute(ctx context.Context, v election.View, p election.Plan) {
	for _, act := range p.Actions {
		a.metrics.action(act)
		if election.IsJob(act) {
			a.startJob(ctx, v, act)
			continue
		}
		a.short(ctx, v, act)
	}
}

// short runs one short action. Those that only touch memory run here; those that wait for
// somebody run beside the loop, one at a time per kind.
func (a *Agent) short(ctx context.Context, v election.View, act election.Action) {
	switch act := act.(type) {
	case election.ForgetLeader:
		a.once(ctx, "forget leader", fencerCall, func(ctx context.Context) error {
			a.keeper.drop(ctx)
			return nil
		})
	case election.CancelJob:
		a.jobs.cancel(act.Why)
	case election.RefuseCommand:
		a.facts.with(func(f *facts) { f.finishCommand(act.Command, act.Why) })
	case election.ProbePeers:
		a.once(ctx, "probe peers", 2*probeTime, func(ctx context.Context) error {
			return a.probePeers(ctx, v.Store.Cluster.Members)
		})
	case election.AskLease:
		a.once(ctx, "ask lease", storeCall, func(ctx context.Context) error { return a.askLease(ctx, act.Lease) })
	case election.AcquireLeader:
		a.once(ctx, acquireKey, storeCall, func(ctx context.Context) error { return a.acquire(ctx, v, act) })
	case election.TakeOver:
		a.once(ctx, takeOverKey, storeCall, func(ctx context.Context) error { return a.takeOver(ctx, v, act) })
	case election.FreezeServer:
		a.prepareSlots(ctx, v)
		a.once(ctx, "freeze", freezeTime, func(ctx context.Context) error { return a.freezeServer(ctx, act) })
	case election.CastVote:
		a.castVote(ctx, v, act.Vote)
	case election.WithdrawVote:
		a.withdrawVote(ctx, v, act)
	case election.Thaw:
		a.once(ctx, "thaw", storeCall, func(ctx context.Context) error { return a.thaw(ctx, act.Why) })
	case election.SetSync:
		a.changeSync(ctx, v, act.Setting)
	case election.WriteSync:
		a.writeSync(ctx, v, &act.State)
	case election.DeleteSync:
		a.writeSync(ctx, v, nil)
	case election.AskPromises:
		a.once(ctx, "ask for promises", storeCall+fencerCall, func(ctx context.Context) error { return a.askPromises(ctx, v, act.Members) })
	case election.WriteFailsafe:
		a.publishFailsafe(ctx, v, act.Members)
	case election.AdoptHandOver:
		if a.taking() {
			return // the watch was faster than the answer, whose arrival is news
		}
		a.once(ctx, "adopt hand-over", storeCall, func(ctx context.Context) error { return a.keeper.adopt(ctx, act.Revision) })
	case election.ReleaseLeader:
		a.once(ctx, "release leader", storeCall, func(ctx context.Context) error { return a.release(ctx, act.Why) })
	case election.Follow:
		a.once(ctx, "follow", storeCall, func(ctx context.Context) error { return a.follow(ctx, v, act) })
	case election.ApplyConfig:
		a.once(ctx, "apply configuration", storeCall, func(ctx context.Context) error { return a.applyConfig(ctx, v) })
	case election.SetSlots:
		a.once(ctx, "set slots", storeCall, func(ctx context.Context) error { return a.setSlots(ctx, act.Members) })
	case election.CheckpointNow:
		a.once(ctx, "checkpoint", 10*time.Minute, func(ctx context.Context) error {
			err := a.pg.Checkpoint(ctx)
			a.lookOnce(ctx) // the news that it is done, before it is asked for again
			return err
		})
	default:
		a.storeWrite(ctx, v, act)
	}
}

// storeWrite runs one of the plain writes to the store.
func (a *Agent) storeWrite(ctx context.Context, v election.View, act election.Action) {
	var txn dcs.Txn
	c := v.Store.Cluster
	own := v.Own.Revision
	switch act := act.(type) {
	case election.ClaimBootstrap:
		a.once(ctx, "claim bootstrap", storeCall, func(ctx context.Context) error { return a.claimBootstrap(ctx, v, act.Reclaim) })
		return
	case election.WriteHistory:
		var done election.Timeline
		a.facts.with(func(f *facts) { done = f.historyDone })
		if done == v.Local.Timeline {
			return
		}
		a.once(ctx, "write history", storeCall, func(ctx context.Context) error { return a.writeHistory(ctx, v) })
		return
	case election.WriteStatus:
		txn = dcs.WriteStatus(own, dcs.WithOptime(c.Status, act.Optime), false)
		a.facts.with(func(f *facts) { f.statusAt = v.Now - stepSlack(v.Policy.LoopWait) })
	case election.ClearBootstrap:
		txn = dcs.ClearBootstrap(act.Revision)
	case election.WriteInitialize:
		txn = dcs.AdoptInitialize(c.Initialize, v.Local.SystemID)
		if v.Own.Held() {
			txn = dcs.WriteInitialize(own, c.Initialize, v.Local.SystemID)
		}
	case election.OfferLease:
		a.prepareSlots(ctx, v)
		txn = dcs.PutOffer(election.Offer{Name: v.Self.Name, Lease: v.Lease, Incarnation: a.opt.Incarnation, For: act.For})
	case election.WithdrawOffer:
		txn = dcs.WithdrawOffer(v.Self.Name, act.Revision)
	case election.NameCandidate:
		f := c.Failover
		f.Candidate = act.Candidate
		txn = dcs.ReplaceFailover(act.Revision, f)
	case election.ClearFailover:
		a.log.Info("failover request cleared", zap.String("why", act.Why))
		a.why.refused(act.Why)
		txn = dcs.ClearFailover(act.Revision)
	case election.RestoreConfig:
		raw := a.rawConfig()
		if len(raw) == 0 {
			return
		}
		txn = dcs.RestoreConfig(own, raw)
	default:
		a.log.Error("action not carried out", zap.Stringer("action", act))
		return
	}
	key := act.String()
	if a.echo.awaits(key, c.Revision) {
		return
	}
	a.once(ctx, key, storeCall, func(ctx context.Context) error {
		res, err := a.store.Apply(ctx, txn)
		if err != nil {
			return err
		}
		if !res.Done {
			return errors.New("somebody else changed it at the same time")
		}
		a.echo.sent(key, res.Revision)
		a.metrics.write()
		return nil
	})
}

// The short actions that take the leader key.
const (
	acquireKey  = "acquire leader"
	takeOverKey = "take over"
)

// taking says that a transaction that takes the leader key has not been answered yet. Taking the title up
// from the store's news as well would arm the fencer twice, and the first promotion would come to nothing.
func (a *Agent) taking() bool {
	_, acquires := a.inflight.Load(acquireKey)
	_, takes := a.inflight.Load(takeOverKey)
	return acquires || takes
}

// echoTime is how long a write that was done is waited for in the watch before it is made again.
const echoTime = 2 * time.Second

// echo remembers the writes that were done and are not in the snapshot yet, so that a decision
// made from the older snapshot does not repeat them: an offer made twice is another offer.
type echo struct {
	mu   sync.Mutex
	done map[string]echoed
}

type echoed struct {
	revision int64
	at       election.Instant
}

func (e *echo) sent(key string, revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done == nil {
		e.done = make(map[string]echoed)
	}
	e.done[key] = echoed{revision, Now()}
}

func (e *echo) awaits(key string, seen int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, ok := e.done[key]
	if ok && (d.revision <= seen || Now()-d.at > echoTime) {
		delete(e.done, key)
		return false
	}
	return ok
}

// leaseAskPause is how long to wait after the store said that a lease lives.
const leaseAskPause = 100 * time.Millisecond

// askLease asks the store whether the vanished key's lease is over.
func (a *Agent) askLease(ctx context.Context, lease election.LeaseID) error {
	gone, err := a.store.LeaseGone(ctx, lease)
	if err != nil {
		return err
	}
	a.facts.with(func(f *facts) {
		if f.vacancy.Since != 0 && f.vacancy.Lease == lease {
			f.vacancy.LeaseGone = election.KnownBool(gone)
		}
	})
	if !gone {
		sleepCtx(ctx, leaseAskPause)
	}
	return nil
}

// acquire tries to create the leader key. Of an unknown outcome nothing follows: if it was done,
// the key hangs on the own lease, and the snapshot that shows it leads to title.adopt.
func (a *Agent) acquire(ctx context.Context, v election.View, act election.AcquireLeader) error {
	a.keeper.turn.Lock()
	defer a.keeper.turn.Unlock()
	reign := act.Reign
	lease, sent, ttl, err := a.keeper.fresh(ctx)
	if err != nil {
		return err
	}
	if a.keeper.givingAway(v.Own.Revision) {
		// The key is gone because it was given away. An error, so that it is not asked again at once.
		return errors.New("acquire the leader key: it is not known yet whether it was given away")
	}
	reign.Lease, reign.TTL = lease, ttl
	if v.Own.Held() && v.Store.Cluster.Reign.ModRevision > v.Own.Revision {
		return errors.New("acquire the leader key: another reign began since this title, the key that is gone was not its")
	}
	// Putting the own key back is no race: the promises were given to this very title.
	if why := a.race.begin(v.Store.Cluster.Reign.ModRevision, v.Own.Held(), a.promisedUntil); why != "" {
		return errors.New("acquire the leader key: " + why)
	}
	res, err := a.store.Apply(ctx, dcs.AcquireLeaderWithSync(v.Self.Name, lease, v.Store.Cluster, reign, act.Sync))
	a.race.end(stillOpen(res, err))
	if err != nil {
		return fmt.Errorf("acquire the leader key: %w", err)
	}
	if !res.Done {
		a.log.Info("the leader key went to another member")
		if p, err := a.store.Prove(ctx); err == nil {
			a.contradicted(p, v.Own.Revision)
		}
		return nil
	}
	a.metrics.write()
	if term := a.keeper.term(); term != res.RaftTerm {
		// The keep-alive may have been answered by a leader that was none any more. The key hangs on
		// the own lease, so it is adopted, with a proof of its own.
		a.log.Info("leader key acquired in another raft term than the lease was renewed in")
		return nil
	}
	a.log.Info("leader key acquired", zap.Int64("revision", res.Revision), zap.Uint64("epoch", reign.Epoch))
	return a.keeper.take(ctx, election.Own{Revision: res.Revision, Lease: lease, Epoch: reign.Epoch, Sent: sent, TTL: ttl}, false)
}

// release gives the leader key up with a record that the server is down.
func (a *Agent) release(ctx context.Context, why string) error {
	own, _ := a.keeper.title()
	if !own.Held() {
		return nil
	}
	// From here on nothing is armed any more for this key: a start that was decided meanwhile either sees
	// that, or its deadline is seen here and taken back.
	before := a.keeper.givingAway(own.Revision)
	undo := func() {
		if !before { // else an earlier request may still be on its way
			a.keeper.giveAway(0)
		}
	}
	a.keeper.giveAway(own.Revision)
	if !a.guard.isDown() {
		undo()
		return errors.New("the server is not proven down")
	}
	rec := election.Release{Name: a.name(), Reason: why}
	var status *election.Status
	if c, err := a.pg.Control(); err == nil && c.State == postgres.ControlShutDown {
		if end, err := a.pg.ShutdownCheckpointEnd(c); err == nil {
			rec.Checkpoint, rec.Timeline = end, c.Timeline
			a.facts.with(func(f *facts) { s := dcs.WithOptime(f.cluster.Status, c.Checkpoint); status = &s })
		}
	}
	// Disarmed first: the fencer does that behind any start that is still under way, and refuses if
	// that made the server writable.
	if err := a.guard.disarm(ctx, a.keeper.armed()); err != nil {
		undo()
		return fmt.Errorf("release the leader key: %w", err)
	}
	res, err := a.store.Apply(ctx, dcs.ReleaseLeader(own.Revision, rec, status))
	if err != nil {
		if errors.Is(err, dcs.ErrUnavailable) {
			undo()
			return fmt.Errorf("release the leader key: %w", err)
		}
		kept, berr := a.keeper.burn(a.life, own)
		if berr != nil || kept {
			return fmt.Errorf("release the leader key: %w", errors.Join(err, berr))
		}
	} else if !res.Done {
		a.log.Warn("leader key not released: it is another's already")
	}
	a.keeper.drop(context.WithoutCancel(ctx))
	return nil
}

// follow points the running standby at another source.
func (a *Agent) follow(ctx context.Context, v election.View, act election.Follow) error {
	if err := a.mayFollow(ctx, v, act); err != nil {
		return err
	}
	if err := a.voidVote(ctx, false); err != nil {
		return err
	}
	if _, err := a.writeFiles(v, true, act.Upstream, act.ConnURL); err != nil {
		return err
	}
	if err := a.guard.reload(ctx); err != nil {
		return errors.Join(err, a.forgetUpstream())
	}
	a.facts.with(func(f *facts) { f.reloadOwed = false })
	a.lookNow()
	return nil
}

// mayFollow compares histories before a running standby is pointed at another source: by its timeline's
// number alone it could stream from one whose history is not its own (safety review, hole 10). What has
// diverged is left to the rules.
func (a *Agent) mayFollow(ctx context.Context, v election.View, act election.Follow) error {
	if act.ConnURL == "" || v.Local.Server != election.ServerRunning {
		return nil
	}
	src, err := postgres.ParseSource(act.Upstream, act.ConnURL)
	if err != nil {
		return err
	}
	d, err := a.pg.CanFollow(ctx, src)
	switch {
	case err != nil:
		return fmt.Errorf("follow %s: %w", act.Upstream, err)
	case d.Verdict == postgres.VerdictStreamable:
		return nil
	}
	a.takeDivergence(v, act.Upstream, d)
	return fmt.Errorf("follow %s: %s", act.Upstream, d.Why)
}

func (a *Agent) owesReload() bool {
	owed := false
	a.facts.with(func(f *facts) { owed = f.reloadOwed })
	return owed
}

// applyConfig writes the files for the present role and reloads.
func (a *Agent) applyConfig(ctx context.Context, v election.View) error {
	up := a.upstreamNow()
	standby := v.Local.Role != election.RolePrimary
	if !standby {
		up = upstreamRecord{}
	}
	changed, err := a.writeFiles(v, standby, up.Name, up.ConnURL)
	if err != nil {
		return err
	}
	if changed.Files || a.owesReload() {
		if err := a.guard.reload(ctx); err != nil {
			return err
		}
		a.facts.with(func(f *facts) { f.reloadOwed = false })
	}
	if changed.Files {
		a.callback("on_reload", v.Local.Role.String())
		a.log.Info("configuration applied", zap.Strings("settings", changed.Settings), zap.Bool("restart_needed", changed.RestartNeeded))
	}
	a.facts.with(func(f *facts) { f.appliedConfig = v.Store.Cluster.ConfigRev })
	a.lookNow()
	return nil
}

// tendFencer makes the fencer's policy towards a writable server that is not armed, or not any more, that of the
// pause mode, whatever else is going on: left at "observe" after a pause, a fence would be missing.
func (a *Agent) tendFencer(ctx context.Context, v election.View) {
	st, alive := a.guard.snapshot()
	if alive && st.Postmaster != 0 && a.guard.reloadOwed() {
		a.once(ctx, "reload again", fencerCall, a.guard.reload)
	}
	want := fencer.PolicyKill
	if v.Policy.Pause {
		want = fencer.PolicyObserve
	}
	if !alive || !v.Store.Seen || st.Policy == want || st.Policy == "" && want == fencer.PolicyKill {
		return
	}
	a.once(ctx, "fencer policy", fencerCall, func(ctx context.Context) error { return a.guard.policy(ctx, want) })
}

// dropStaleCommands refuses what cannot be meant for a leader, so that it does not come true in
// another life.
func (a *Agent) dropStaleCommands(v election.View) {
	if !v.Own.Held() {
		return
	}
	for _, c := range v.Commands {
		if c.Kind == election.CommandReinit {
			a.facts.with(func(f *facts) { f.finishCommand(c.ID, "this member leads now") })
		}
	}
}

// writeHistory publishes the timeline history with what is known about the last switch.
func (a *Agent) writeHistory(ctx context.Context, v election.View) error {
	hist, err := a.pg.TimelineHistory(v.Local.Timeline)
	if err != nil {
		return fmt.Errorf("timeline history: %w", err)
	}
	old := make(map[election.Timeline]election.TimelineRecord)
	for _, r := range v.Store.Cluster.History {
		old[r.Timeline] = r
	}
	rows := make([]election.TimelineRecord, 0, len(hist))
	for i, h := range hist {
		r := election.TimelineRecord{Timeline: h.Timeline, Switch: h.Switch, Reason: "no recovery target specified"}
		if o, ok := old[h.Timeline]; ok && o.Switch == h.Switch {
			r = o
		} else if i == len(hist)-1 {
			r.Timestamp, r.NewLeader = time.Now().UTC().Format("2006-01-02T15:04:05.000000-07:00"), v.Self.Name
		}
		rows = append(rows, r)
	}
	if n := a.maxHistory(); n > 0 && len(rows) > n {
		rows = rows[len(rows)-n:]
	}
	if slices.Equal(rows, v.Store.Cluster.History) {
		// The numbers have a gap that no writing closes.
		a.facts.with(func(f *facts) { f.historyDone = v.Local.Timeline })
		return nil
	}
	res, err := a.store.Apply(ctx, dcs.WriteHistory(v.Own.Revision, rows))
	if err != nil {
		return err
	}
	if res.Done {
		a.metrics.write()
	}
	return nil
}

func (a *Agent) maxHistory() int {
	n := 0
	a.facts.with(func(f *facts) { n = f.dynamic.MaxTimelinesHistory })
	return n
}

// claimBootstrap tries to become the one who makes the cluster.
func (a *Agent) claimBootstrap(ctx context.Context, v election.View, reclaim bool) error {
	a.keeper.turn.Lock()
	defer a.keeper.turn.Unlock()
	lease, sent, ttl, err := a.keeper.fresh(ctx)
	if err != nil {
		return err
	}
	txn := dcs.BootstrapClaim(v.Self.Name, a.opt.Incarnation, lease)
	if reclaim {
		txn = dcs.BootstrapReclaim(v.Self.Name, a.opt.Incarnation, lease, v.Store.Cluster.Initialize)
	}
	res, err := a.store.Apply(ctx, txn)
	if err != nil {
		return fmt.Errorf("claim the bootstrap: %w", err)
	}
	if !res.Done {
		a.log.Info("another member makes the cluster")
		return nil
	}
	return a.keeper.take(ctx, election.Own{Revision: res.Revision, Lease: lease, Sent: sent, TTL: ttl}, true)
}
