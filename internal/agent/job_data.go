package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
)

// bootstrap makes the first cluster: initdb, a start that nobody outside can reach, roles, a clean
// stop, and one transaction that publishes the system identifier and takes the leader key. The
// server is then started like any leader's. A server that is armed by the claim alone never
// accepts a client's commit.
func (a *Agent) bootstrap(ctx context.Context, v election.View) (err error) {
	a.setState(election.StateInitializing)
	claim := a.awaitClaim(ctx)
	if claim == 0 {
		return a.abandonClaim(ctx, v)
	}
	defer func() {
		if err == nil {
			return
		}
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killPatience)
		defer cancel()
		a.undoBootstrap(cctx, claim)
	}()
	var cfg *config.Config
	a.facts.with(func(f *facts) { cfg = f.cfg })
	if m := cfg.Bootstrap.Method; m != "" && m != "initdb" {
		return classified{election.ClassEnv, fmt.Errorf("bootstrap.method: %q: this version bootstraps with initdb only", m)}
	}
	if err := a.clearPartial(); err != nil {
		return err
	}
	if err := a.pg.InitDB(ctx, postgres.InitOptions{Options: options(cfg.Bootstrap.InitDB), KeepMark: true}, a.jobs.setProgress); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := a.bootstrapRoles(ctx, v, cfg); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	c, err := a.pg.Control()
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return a.finishBootstrap(ctx, v, cfg, claim, c.SystemID)
}

// undoBootstrap ends a bootstrap that failed: its server is stopped, its claim given up. Both are tried
// again until ctx ends: a fencer that is being replaced comes back soon, and whether the cluster was
// published after all (its answer lost) is known only when the store has answered, because that answer
// is what keeps a late publication from coming true.
func (a *Agent) undoBootstrap(ctx context.Context, claim int64) {
	for {
		err := a.shutdown(ctx, false)
		if err == nil {
			break
		}
		if !sleepCtx(ctx, fencerRetry) {
			a.log.Error("server of a failed bootstrap not stopped", zap.Error(err))
			return
		}
	}
	a.keeper.drop(ctx)
	for {
		actx, cancel := context.WithTimeout(ctx, storeCall)
		_, err := a.store.Apply(actx, dcs.BootstrapCancel(claim))
		cancel()
		if err == nil {
			return
		}
		if !sleepCtx(ctx, fencerRetry) {
			a.log.Warn("bootstrap not cancelled in the store", zap.Error(err))
			return
		}
	}
}

// bootstrapRoles starts the server for itself alone, makes the roles, and stops it cleanly.
func (a *Agent) bootstrapRoles(ctx context.Context, v election.View, cfg *config.Config) error {
	a.jobs.setDetail("roles")
	if _, err := a.writeFiles(v, false, "", ""); err != nil {
		return err
	}
	epoch, err := a.keeper.ensureArmed(ctx)
	if err != nil {
		return err
	}
	spec := fencer.StartSpec{Primary: true, Epoch: epoch, LogFile: a.logFile(), Wire: a.opt.Fencer.Wire}
	bin, args, env, err := a.pg.LocalStartArgs()
	if err != nil {
		return err
	}
	spec.Bin, spec.Args, spec.Env = bin, append([]string{bin}, args...), env
	mark := postgres.LogMark(spec.LogFile)
	if err := a.guard.start(ctx, spec); err != nil {
		return err
	}
	if err := a.waitAccepting(ctx, mark); err != nil {
		return err
	}
	if err := a.pg.PostBootstrap(ctx, postgres.BootstrapSpec{
		Command: cfg.Bootstrap.PostBootstrap,
	}); err != nil {
		return err
	}
	a.jobs.setDetail("stop after the roles")
	return a.shutdown(ctx, true)
}

func (a *Agent) waitAccepting(ctx context.Context, mark int64) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if a.guard.isDown() {
			return a.startFailure(mark)
		}
		rctx, cancel := context.WithTimeout(ctx, readyTimeout)
		ready, _ := a.pg.Ready(rctx)
		cancel()
		if ready == postgres.Accepting {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// finishBootstrap publishes the cluster and takes the leader key.
func (a *Agent) finishBootstrap(ctx context.Context, v election.View, cfg *config.Config, claim int64, sysid uint64) error {
	a.keeper.turn.Lock()
	defer a.keeper.turn.Unlock()
	raw, err := cfg.InitialDynamic()
	if err != nil {
		return fmt.Errorf("bootstrap.dcs: %w", err)
	}
	lease, sent, ttl, err := a.keeper.fresh(ctx)
	if err != nil {
		return err
	}
	var seen election.Cluster
	var configRevision int64
	a.facts.with(func(f *facts) {
		seen = f.cluster
		if kv, ok := f.snapshot.Get(dcs.KeyConfig); ok {
			configRevision = kv.ModRevision
		}
	})
	reign := election.Reign{Epoch: seen.Reign.Epoch + 1, Holder: v.Self.Name, NextTimeline: 1, Lease: lease, TTL: ttl}
	fctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	res, err := a.store.Apply(fctx, dcs.BootstrapFinish(dcs.FinishSpec{
		Self: v.Self.Name, Lease: lease, Claim: claim, SystemID: strconv.FormatUint(sysid, 10),
		Config: raw, ConfigRevision: configRevision, Seen: seen, Reign: reign,
	}))
	if err != nil {
		return fmt.Errorf("publish the new cluster: %w", err)
	}
	if !res.Done {
		return errors.New("publish the new cluster: somebody else took it over meanwhile")
	}
	if err := a.pg.FinishInit(); err != nil {
		return err
	}
	a.log.Info("initialized a new cluster", zap.Uint64("system_identifier", sysid))
	a.facts.with(func(f *facts) { f.rawConfig = json.RawMessage(raw) })
	return a.keeper.take(ctx, election.Own{Revision: res.Revision, Lease: lease, Epoch: reign.Epoch, Sent: sent, TTL: ttl}, false)
}

// awaitClaim is the revision of the own claim. The store's news of it may be faster than the answer
// to the transaction that made it.
func (a *Agent) awaitClaim(ctx context.Context) int64 {
	for {
		claim := a.keeper.claimRevision()
		if _, underway := a.inflight.Load("claim bootstrap"); claim != 0 || !underway {
			return a.keeper.claimRevision()
		}
		if !sleepCtx(ctx, pollEvery) {
			return 0
		}
	}
}

// abandonClaim gives up a claim that this life of the agent did not make itself.
func (a *Agent) abandonClaim(ctx context.Context, v election.View) error {
	cctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	if _, err := a.store.Apply(cctx, dcs.BootstrapCancel(v.Store.Cluster.Initialize.ModRevision)); err != nil {
		return fmt.Errorf("bootstrap: give up a claim of an earlier life: %w", err)
	}
	return errors.New("bootstrap: the claim was made by an earlier life of this agent; it is given up and made again")
}

// clearPartial makes room for a copy. What a clone or an initdb of our own left half done holds
// nothing of worth and is removed; anything else (half rewound, half moved) is moved aside.
func (a *Agent) clearPartial() error {
	st, err := a.pg.DataDir()
	if err != nil || st != postgres.DataPartial {
		return err
	}
	mark, err := a.pg.Unfinished()
	if err != nil {
		return err
	}
	if mark != nil && (mark.Operation == "clone" || mark.Operation == "initdb") {
		a.log.Warn("unfinished copy removed", zap.String("operation", mark.Operation))
		if err := a.pg.RemoveData(); err != nil {
			return fmt.Errorf("unfinished copy in the data directory: %w", err)
		}
		return nil
	}
	return a.moveAside()
}

// compare finds out how the local history stands to the leader's.
func (a *Agent) compare(ctx context.Context, v election.View, leader string) error {
	m, ok := v.Store.Cluster.Member(leader)
	if !ok {
		return fmt.Errorf("compare: %s is not a member", leader)
	}
	src, err := postgres.ParseSource(m.Name, m.ConnURL)
	if err != nil {
		return err
	}
	cctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	d, err := a.pg.Divergence(cctx, src)
	if err != nil {
		return fmt.Errorf("compare with %s: %w", leader, err)
	}
	if !a.takeDivergence(v, leader, d) {
		return fmt.Errorf("compare with %s: %s", leader, d.Why)
	}
	return nil
}

// takeDivergence makes the outcome of a comparison a fact; false: it came to none.
func (a *Agent) takeDivergence(v election.View, with string, d postgres.Divergence) bool {
	verdict := map[postgres.Verdict]election.Divergence{
		postgres.VerdictStreamable: election.DivergenceNone, postgres.VerdictNeedsRewind: election.DivergenceRewind,
		postgres.VerdictNeedsClone: election.DivergenceClone, postgres.VerdictDifferentSystem: election.DivergenceWrongOwner,
	}[d.Verdict]
	a.log.Info("history compared", zap.String("with", with), zap.String("outcome", d.Why),
		zap.Int64("lost_bytes", d.LostBytes), zap.Int("lost_transactions", d.LostTransactions),
		zap.Uint32("own_timeline", uint32(d.LocalTimeline)), zap.Stringer("own_lsn", d.LocalLSN),
		zap.Stringer("fork", d.ForkLSN))
	if verdict == election.DivergenceUnknown {
		return false
	}
	a.facts.with(func(f *facts) {
		f.local.Divergence, f.local.DivergenceFor = verdict, v.Store.Cluster.Leader.ModRevision
		f.local.DivergenceDetail, f.local.LostBytes = divergenceWords(d), uint64(max(0, d.LostBytes))
	})
	if verdict == election.DivergenceRewind || verdict == election.DivergenceClone {
		a.metrics.lost(d.LostBytes, d.LostTransactions)
	}
	return true
}

func divergenceWords(d postgres.Divergence) string {
	s := d.Why
	if d.LostBytes > 0 {
		s += fmt.Sprintf("; %d bytes of WAL beyond the fork at %s", d.LostBytes, d.ForkLSN)
	}
	if d.LostTransactions >= 0 && d.LostBytes > 0 {
		at := ""
		if d.LostAtLeast {
			at = "at least "
		}
		s += fmt.Sprintf(", %s%d transactions", at, d.LostTransactions)
	}
	return s
}

// rewind brings the directory back to the leader's history. It is stopped first; what pg_rewind
// leaves half done is never started.
func (a *Agent) rewind(ctx context.Context, v election.View, act election.Rewind) error {
	src, err := postgres.ParseSource(act.Source, act.ConnURL)
	if err != nil {
		return err
	}
	if err := a.shutdown(ctx, true); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	if err := a.stillDestructive(ctx, v); err != nil {
		return err
	}
	if err := a.voidVote(ctx, true); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	a.setState(election.StateCreating)
	var opts []postgres.Option
	a.facts.with(func(f *facts) { opts = options(f.effective.Rewind) })
	if _, err := a.pg.Rewind(ctx, src, postgres.RewindOptions{Options: opts}, a.jobs.setProgress); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	a.facts.with(func(f *facts) {
		f.local.Divergence = election.DivergenceNone
		f.forgetResults(election.JobStart, election.JobCompare)
	})
	return nil
}

// clone replaces the directory by a copy of the source. What was there is moved aside.
func (a *Agent) clone(ctx context.Context, v election.View, act election.Clone) (err error) {
	defer func() {
		outcome := ""
		if err != nil {
			outcome = err.Error()
		}
		a.facts.with(func(f *facts) {
			for _, c := range f.commands {
				if c.Kind == election.CommandReinit {
					f.finishCommand(c.ID, outcome)
					return
				}
			}
		})
	}()
	src, err := postgres.ParseSource(act.Source, act.ConnURL)
	if err != nil {
		return err
	}
	// The source is proven before anything here is touched: moved aside, this member could not even
	// stand for election.
	if err := a.proveSource(ctx, v, src); err != nil {
		return err
	}
	a.setState(election.StateCreating)
	if err := a.shutdown(ctx, true); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if err := a.stillDestructive(ctx, v); err != nil {
		return err
	}
	if err := a.proveSource(ctx, v, src); err != nil {
		return err
	}
	if err := a.voidVote(ctx, true); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if act.Partial {
		if err := a.clearPartial(); err != nil {
			return err
		}
	} else if err := a.moveAside(); err != nil {
		return err
	}
	var opts []postgres.Option
	a.facts.with(func(f *facts) {
		opts = options(f.effective.BaseBackup)
		f.upstream = upstreamRecord{}
	})
	if err := a.pg.BaseBackup(ctx, src, postgres.BackupOptions{Options: opts}, a.jobs.setProgress); err != nil {
		a.pruneAsides()
		return fmt.Errorf("clone from %s: %w", act.Source, err)
	}
	a.facts.with(func(f *facts) {
		f.local.Divergence, f.local.DivergenceFor = election.DivergenceNone, v.Store.Cluster.Leader.ModRevision
		f.forgetResults(election.JobStart, election.JobCompare, election.JobRewind)
	})
	a.pruneAsides()
	return a.startStandby(ctx, v, act.Source, act.ConnURL)
}

// proveSource asks the source who it is: it must answer, and serve this cluster's system.
func (a *Agent) proveSource(ctx context.Context, v election.View, src postgres.Source) error {
	pctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := a.pg.IdentifySource(pctx, src)
	if err != nil {
		return classified{election.ClassPeer, fmt.Errorf("clone: the source does not let us in: %w", err)}
	}
	if id := strconv.FormatUint(info.SystemID, 10); id != v.Store.Cluster.Initialize.SystemID {
		return classified{election.ClassPeer, fmt.Errorf("clone: %s serves system %s, the cluster is %s", src, id, v.Store.Cluster.Initialize.SystemID)}
	}
	return nil
}

func (a *Agent) moveAside() error {
	path, err := a.pg.MoveAside("replaced")
	if err != nil {
		return classified{election.ClassEnv, fmt.Errorf("move the data directory aside: %w", err)}
	}
	if path != "" {
		a.log.Warn("data directory moved aside", zap.String("path", path))
	}
	return nil
}

// stillDestructive observes and decides again right before data is touched: the title may have
// come, or the leader gone, since the plan was made.
func (a *Agent) stillDestructive(ctx context.Context, v election.View) error {
	now := a.view()
	if now.Own.Held() {
		return errors.New("this member holds the leader key now; its data is not touched")
	}
	pctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	p, err := a.store.Prove(pctx)
	if err != nil {
		return fmt.Errorf("the data is not touched while it is not known who leads: %w", err)
	}
	if !p.Present || p.Leader.ModRevision != v.Store.Cluster.Leader.ModRevision {
		return errors.New("the leader changed since this was decided; the data is not touched")
	}
	l := now.Store.Cluster.Leader
	if !l.Present || l.ModRevision != v.Store.Cluster.Leader.ModRevision {
		return errors.New("the leader changed since this was decided; the data is not touched")
	}
	return nil
}

func options(list config.CommandOptions) []postgres.Option {
	out := make([]postgres.Option, 0, len(list))
	for _, o := range list {
		out = append(out, postgres.Option{Name: o.Name, Value: o.Value})
	}
	return out
}

// keptAsides is how many directories that were moved aside are kept. Where the volume is nearly full
// only the newest is: what was moved away before it has been superseded, and stands in the way.
const keptAsides = 2

// pruneAsides removes all but the newest of what was moved aside.
func (a *Agent) pruneAsides() {
	keep := keptAsides
	tight, err := a.pg.SpaceIsTight()
	if tight {
		keep = 1
	}
	removed, rerr := a.pg.RemoveAsides(keep)
	if len(removed) > 0 {
		a.log.Info("old moved-aside directories removed", zap.Strings("paths", removed), zap.Bool("volume_nearly_full", tight))
	}
	if err := errors.Join(err, rerr); err != nil {
		a.log.Warn("old moved-aside directories not removed", zap.Error(err))
	}
}
