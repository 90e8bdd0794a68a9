package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// syncLoadPatience is how long a promotion waits for its server to take the synchronous standbys over. A
// server whose checkpointer has not, would acknowledge commits that nobody else has.
const syncLoadPatience = 10 * time.Second

// readyToLead is what a standby still needs right before it is promoted: the standbys that its commits
// wait for, never an empty set by accident (safety review, holes 3 and 13), and the timeline number that
// was reserved for this reign (hole 10).
func (a *Agent) readyToLead(ctx context.Context, v election.View, setting election.SyncSetting) error {
	now, err := a.seenReign(ctx)
	if err != nil {
		return err
	}
	if managed(v.Policy.Sync.Mode, v.Store.Cluster.Sync) {
		if published := election.SyncForPromotion(now); !published.Equal(setting) {
			a.log.Info("synchronous standbys of the promotion changed with the news", zap.Stringer("to", published), zap.Stringer("from", setting))
			setting = published
		}
		if err := a.loadSync(ctx, setting); err != nil {
			return err
		}
	}
	reign := now.Store.Cluster.Reign
	switch {
	case reign.Holder != v.Self.Name:
		a.log.Warn("no timeline number is reserved for this promotion", zap.String("reign_of", reign.Holder))
		return nil
	case reign.NextTimeline <= v.Local.Timeline:
		return fmt.Errorf("timeline %d, reserved for this reign, is used", reign.NextTimeline)
	}
	return a.pg.ReserveTimeline(v.Local.Timeline, reign.NextTimeline)
}

// seenReign waits for the news of the own reign: what its commits wait for is published with it.
func (a *Agent) seenReign(ctx context.Context) (election.View, error) {
	ctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	for {
		v := a.view()
		if v.Store.Cluster.Revision >= v.Own.Revision {
			return v, nil
		}
		if !sleepCtx(ctx, pollEvery) {
			return v, errors.New("the store's news lag behind the takeover")
		}
	}
}

// loadSync writes the setting and waits until the standby has it loaded in all that matters.
func (a *Agent) loadSync(ctx context.Context, setting election.SyncSetting) error {
	ctx, cancel := context.WithTimeout(ctx, syncLoadPatience)
	defer cancel()
	// What was begun before this reign must not write its setting over this one.
	for _, key := range []string{prepareSyncKey, setSyncKey} {
		for a.underWay(key) {
			if !sleepCtx(ctx, pollEvery) {
				return errors.New("synchronous standbys: an earlier change has not ended: " + key)
			}
		}
	}
	for {
		res, err := a.pg.SetSync(ctx, setting, a.guard.reload)
		switch {
		case err != nil:
			return fmt.Errorf("synchronous standbys: %w", err)
		case res.Loaded || res.InForce || setting.Wait == 0 || a.commitsWait():
			return nil
		}
		if !sleepCtx(ctx, pollEvery) {
			return errors.New("synchronous standbys not taken over by the server: " + res.Why)
		}
	}
}

// underWay says that a short action is under way.
func (a *Agent) underWay(key string) bool {
	_, busy := a.inflight.Load(key)
	return busy
}

// commitsWait says that this life of the server is known to have loaded a setting that is not empty: from
// one such setting to another there is no moment in which commits wait for nobody.
func (a *Agent) commitsWait() bool {
	known := false
	a.facts.with(func(f *facts) { known = f.answering && f.sync.prepared == lifeOf(f.obs) })
	return known
}

// serverLife is one life of a server's shared memory.
type serverLife struct {
	start        time.Time
	checkpointer int
}

func lifeOf(o postgres.Observation) serverLife {
	return serverLife{o.StartTime.UTC(), o.CheckpointerPID}
}

// tendVoter keeps a setting that is not empty in a standby of a synchronous cluster, where it has no
// effect. Its promotion then need not wait for a checkpointer that is busy, which is what tells commits to
// wait.
func (a *Agent) tendVoter(ctx context.Context, v election.View) {
	if v.Local.Server != election.ServerRunning || v.Local.Role != election.RoleStandby || v.Job.Kind != election.JobNone ||
		!managed(v.Policy.Sync.Mode, v.Store.Cluster.Sync) {
		return
	}
	var life, done serverLife
	a.facts.with(func(f *facts) { life, done = lifeOf(f.obs), f.sync.prepared })
	if life == done || life.checkpointer == 0 {
		return
	}
	setting := v.Local.Sync.Setting
	if setting.Wait == 0 {
		setting = election.SyncSetting{Any: true, Wait: 1, Names: []string{election.StrictPlaceholder}}
	}
	a.once(ctx, prepareSyncKey, setSyncTime, func(ctx context.Context) error {
		res, err := a.pg.SetSync(ctx, setting, a.guard.reload)
		if err != nil {
			return err
		}
		if !res.Loaded && !res.InForce {
			return errors.New(res.Why)
		}
		a.facts.with(func(f *facts) { f.sync.prepared = life })
		return nil
	})
}
