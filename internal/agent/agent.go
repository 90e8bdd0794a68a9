// Package agent is the shell round the pure core: it observes the store, the local server, the
// peers and the clock, asks election.Decide what follows, and carries it out, one long job at a
// time. It decides nothing itself about who may write: every step towards a writable server goes
// through a plan of the core and the fencer's armed deadline.
//
// One goroutine runs the loop, one keeps the lease, one watches the store, one observes the local
// server, one owns the fencer's connection; a job has a goroutine of its own. They share the facts
// (facts.go), each under its one lock, and wake the loop when something changed.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/restapi/client"
)

// PatroniVersion is what members/<name> shows, so that a Patroni peer knows which protocol it
// meets (row D-30).
const PatroniVersion = "4.1.4"

// Options are the parts an agent is made of.
type Options struct {
	Config      *config.Config
	Store       dcs.Store
	Postgres    *postgres.Server
	Fencer      fencer.Options
	Peers       *client.Client
	Registry    prometheus.Registerer
	Log         *zap.Logger
	Version     string
	Incarnation string
	// Reload reads the node-local configuration again.
	Reload func() (*config.Config, error)
	// MoveEtcd, if set, moves the leadership of an embedded etcd off this node.
	MoveEtcd func(context.Context) error
	// Notify tells the service manager a state: "READY=1", "STATUS=…". May be nil.
	Notify func(string)
}

// Agent is one member's agent.
type Agent struct {
	opt     Options
	log     *zap.Logger
	store   dcs.Store
	pg      *postgres.Server
	peers   *client.Client
	metrics *metrics

	facts    facts
	keeper   *keeper
	guard    fencerConn
	failsafe failsafeAlarm
	jobs     jobSlot
	peered   peerRound
	why      journal
	echo     echo

	filesMu  sync.Mutex // serializes what writes the server's configuration
	contact  contact
	hearing  hearing
	race     race
	counters counters
	calls    callbacks
	etcdAt   election.Instant // when etcd was last looked after

	leaderUntil atomic.Int64 // election.Instant; zero: not the leader
	published   atomic.Pointer[publication]

	news       chan struct{}
	look       chan struct{}
	inflight   sync.Map // key → struct{}: short actions under way
	wg         sync.WaitGroup
	stopped    chan struct{}
	caughtUp   broadcaster
	complaints complaints
	life       context.Context //nolint:containedctx // the agent's own life, for work that no plan owns
}

// New wires an agent. Nothing runs yet.
func New(o Options) (*Agent, error) {
	if o.Config == nil || o.Store == nil || o.Postgres == nil || o.Log == nil {
		return nil, errors.New("agent: configuration, store, server and logger are needed")
	}
	a := &Agent{
		opt: o, log: o.Log, store: o.Store, pg: o.Postgres, peers: o.Peers,
		news: make(chan struct{}, 1), look: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	a.metrics = newMetrics(o.Registry, o.Version)
	a.facts.configure(o.Config, firstDynamic(o.Config))
	a.facts.upstream = loadUpstream(o.Postgres.Options().StateDir)
	// The agent before may have died between writing the files and having the server read them.
	a.facts.reloadOwed = true
	a.loadFreeze()
	a.keeper = newKeeper(a)
	a.guard.init(a)
	a.jobs.init(a)
	a.caughtUp.init()
	a.contact.init(o.Peers, o.Config.Name)
	a.publish()
	return a, nil
}

// firstDynamic is what counts until the store has answered: what this member would write for a new
// cluster, so that its first lease has the right time to live.
func firstDynamic(c *config.Config) config.Dynamic {
	if raw, err := c.InitialDynamic(); err == nil {
		if d, _, err := config.ParseDynamic(raw); err == nil {
			return d
		}
	}
	return config.DefaultDynamic()
}

// Run blocks until ctx ends, or until an orderly stop (Stop) has brought the server down. The
// server and the fencer are left as they are when ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	a.life = ctx
	a.logIgnored()
	g.Go(func() error { return a.guard.run(ctx) })
	g.Go(func() error { return a.watchStore(ctx) })
	g.Go(func() error { return a.keeper.run(ctx) })
	g.Go(func() error { return a.observeLocal(ctx) })
	g.Go(func() error { return a.keepContact(ctx) })
	g.Go(func() error { return a.loop(ctx) })
	err := g.Wait()
	a.jobs.cancelAndWait()
	a.wg.Wait()
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// errStopped ends Run after an orderly stop.
var errStopped = errors.New("stopped")

// Stop asks for an orderly stop: the server is shut down, the leader key released, then Run ends.
func (a *Agent) Stop() {
	a.facts.with(func(f *facts) { f.stopping, f.stopAsked = true, Now() })
	a.poke()
}

// ReloadNow reads the node-local configuration again and applies it.
func (a *Agent) ReloadNow() error {
	if a.opt.Reload == nil {
		return errors.New("reload: not available")
	}
	c, err := a.opt.Reload()
	if err != nil {
		return fmt.Errorf("reload: the old configuration stays: %w", err)
	}
	a.facts.with(func(f *facts) {
		f.configure(c, f.dynamic)
		f.appliedConfig = 0
		f.memberStale = true
	})
	a.poke()
	return nil
}

// poke wakes the loop. It never blocks.
func (a *Agent) poke() {
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// lookNow wakes the observer of the local server. It never blocks.
func (a *Agent) lookNow() {
	select {
	case a.look <- struct{}{}:
	default:
	}
}

// loop decides and acts whenever there is news, and at the heartbeat.
func (a *Agent) loop(ctx context.Context) error {
	var wake time.Duration
	for first := true; ; first = false {
		if !first {
			t := time.NewTimer(wake)
			select {
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			case <-a.news:
				t.Stop()
			case <-t.C:
			}
		}
		start := Now()
		view := a.view()
		plan := election.Decide(view)
		a.facts.with(func(f *facts) { f.cannotLead, f.leaving = election.CannotLead(view), election.Leaving(view) })
		a.note(view, plan)
		a.execute(ctx, view, plan)
		a.publish()
		a.publishMember(view)
		a.tendEtcd(ctx, view)
		a.tendFencer(ctx, view)
		a.tendSlots(ctx, view)
		a.tendFreeze(ctx, view)
		a.tendVoter(ctx, view)
		a.dropStaleCommands(view)
		a.metrics.loop(Now() - start)
		if plan.Rule == "stop.done" && a.jobs.kind() == election.JobNone {
			a.lastWord(ctx, view)
			return errStopped
		}
		wake = a.nextWake(view, plan)
	}
}

// lastWord publishes the stopped state; the key stays until its lease runs out (row H-233).
func (a *Agent) lastWord(ctx context.Context, v election.View) {
	if v.Lease == 0 {
		return
	}
	wctx, cancel := context.WithTimeout(ctx, storeCall)
	defer cancel()
	value := dcs.EncodeMember(a.memberData(a.State(), v))
	if _, err := a.store.Apply(wctx, dcs.PutMember(v.Self.Name, v.Lease, value)); err != nil {
		a.log.Warn("stopped state not published", zap.Error(err))
	}
}

// etcdTend is how often a leader looks whether etcd's leadership is on its own node.
const etcdTend = 30 * time.Second

// tendEtcd moves the leadership of an embedded etcd off the primary's node (safety review, hole 20).
func (a *Agent) tendEtcd(ctx context.Context, v election.View) {
	if a.opt.MoveEtcd == nil || !v.Own.Held() || v.Now-a.etcdAt < etcdTend && a.etcdAt != 0 {
		return
	}
	a.etcdAt = v.Now
	a.once(ctx, "move etcd's leadership", 3*storeCall, a.opt.MoveEtcd)
}

// nextWake bounds the sleep: the heartbeat, what the plan asks for, and the lines of the lease.
func (a *Agent) nextWake(v election.View, p election.Plan) time.Duration {
	wake := v.Policy.LoopWait
	if wake <= 0 {
		wake = 3 * time.Second
	}
	wake = inStep(Now(), wake, wake)
	if p.Wake > 0 {
		wake = min(wake, p.Wake)
	}
	if v.Own.Held() {
		if left := v.Own.DemoteAt(v.Policy.Margin) - Now(); left > 0 {
			wake = min(wake, left+time.Millisecond)
		}
	}
	a.failsafe.set(v, a.poke)
	return max(wake, 2*time.Millisecond)
}

// note remembers and logs a decision, once per change.
func (a *Agent) note(v election.View, p election.Plan) {
	if !a.why.add(p) {
		return
	}
	a.metrics.decision(p)
	fields := []zap.Field{
		zap.String("rule", string(p.Rule)), zap.String("reason", p.Reason),
		zap.String("role", v.Local.Role.String()), zap.Uint32("timeline", uint32(v.Local.Timeline)),
		zap.Stringer("lsn", v.Local.LSN),
	}
	if v.Own.Held() {
		fields = append(fields, zap.Duration("lease_remaining", v.Own.ExpiresAt()-v.Now))
	}
	if p.Change != "" {
		fields = append(fields, zap.String("change", p.Change))
	}
	switch {
	case p.Rule == "guard.refused":
		a.metrics.guard()
		a.log.Error("plan refused by the guard", fields...)
	case p.Trouble:
		a.log.Warn("decision changed", fields...)
	default:
		a.log.Info("decision changed", fields...)
	}
}

// actionRetry is the first pause after a short action that failed; it doubles up to actionRetryMost.
const (
	actionRetry     = 50 * time.Millisecond
	actionRetryMost = 2 * time.Second
)

// once runs a short action unless one with the same key is under way. Its end is news.
func (a *Agent) once(ctx context.Context, key string, timeout time.Duration, fn func(context.Context) error) {
	if _, busy := a.inflight.LoadOrStore(key, struct{}{}); busy {
		return
	}
	a.wg.Go(func() {
		actx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		err := fn(actx)
		if err != nil {
			// What fails at once must not be tried again at once.
			sleepCtx(ctx, a.complaints.pause(key))
		}
		if err == nil {
			a.complaints.forget(key)
		}
		a.inflight.Delete(key)
		if err != nil && !errors.Is(err, context.Canceled) {
			a.why.result(key + ": " + err.Error())
			if a.complaints.fresh(key, err) {
				a.log.Warn("action failed", zap.String("action", key), zap.Error(err))
			}
		}
		a.poke()
	})
}

// rawConfig is the dynamic configuration as stored, for REST and for restoring it.
func (a *Agent) rawConfig() json.RawMessage {
	var raw json.RawMessage
	a.facts.with(func(f *facts) { raw = f.rawConfig })
	return raw
}
