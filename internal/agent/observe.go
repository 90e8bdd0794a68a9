package agent

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// Pace of looking at the local server. Events (fencer, store, requests) ask for a look at once;
// these are for what nobody reports.
const (
	lookSettling = 100 * time.Millisecond // while the server or its role is changing
	lookTimeout  = 3 * time.Second
	readyTimeout = 500 * time.Millisecond
)

// observeLocal looks at the local server on demand and at a pace of its own.
func (a *Agent) observeLocal(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.guard.first:
	}
	for {
		settling := a.lookOnce(ctx)
		t := time.NewTimer(a.lookWait(settling))
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-a.look:
		case <-t.C:
		}
		t.Stop()
	}
}

func (a *Agent) loopWait() time.Duration {
	var d time.Duration
	a.facts.with(func(f *facts) { d = f.dynamic.LoopWait })
	return d
}

// lookOnce observes and publishes the outcome as facts. It says whether things are in motion.
func (a *Agent) lookOnce(ctx context.Context) (settling bool) {
	var prev election.Local
	a.facts.with(func(f *facts) { prev = f.local })
	now := Now()
	next, obs, answering, problem := a.examine(ctx, prev)
	next.At = now
	next.Since = prev.Since
	if next.Server != prev.Server {
		next.Since = now
	}
	switch {
	case next.Streaming:
		next.StreamingLostAt = 0
	case prev.Streaming:
		next.StreamingLostAt = now
	default:
		next.StreamingLostAt = prev.StreamingLostAt
	}
	changed := false
	var members []election.Member
	var leaderHere, unsure bool
	a.facts.with(func(f *facts) {
		if now < f.local.At {
			return // a later look is in already; this one hung
		}
		members = f.cluster.Members
		// What jobs write meanwhile is theirs.
		next.Divergence, next.DivergenceFor = f.local.Divergence, f.local.DivergenceFor
		next.DivergenceDetail, next.LostBytes = f.local.DivergenceDetail, f.local.LostBytes
		next.Upstream, next.UpstreamConnURL = f.upstream.Name, f.upstream.ConnURL
		if f.followedAt > next.StreamingLostAt && !next.Streaming {
			next.StreamingLostAt = f.followedAt
		}
		next.SlotMembers, next.SlotsKnown = slotMembers(obs.Slots, members, answering)
		unsure = f.lookSync(&next, obs, answering, now)
		if next.Streaming && next.Divergence != election.DivergenceUnknown && f.cluster.Leader.Present {
			next.Divergence = election.DivergenceUnknown // a stream is the better answer
		}
		changed = differs(f.local, next) || f.observeErr != problem
		f.local, f.obs, f.answering, f.observed, f.observeErr = next, obs, answering, now, problem
		leaderHere = f.cluster.Leader.Present
	})
	a.caughtUp.wake()
	a.refreshLeaderUntil()
	if changed {
		a.poke()
	}
	return next.Server == election.ServerStarting || next.Server == election.ServerDying || !leaderHere || unsure ||
		next.Server == election.ServerRunning && next.Role == election.RoleStandby && !next.Streaming
}

// differs says whether a decision could come out otherwise. Positions move all the time and are
// read at the heartbeat.
func differs(a, b election.Local) bool {
	return a.Data != b.Data || a.Server != b.Server || a.Role != b.Role || a.Timeline != b.Timeline ||
		a.Streaming != b.Streaming || a.SystemID != b.SystemID || a.PendingRestart != b.PendingRestart ||
		a.PromotedCheckpoint != b.PromotedCheckpoint || a.Signal != b.Signal || syncDiffers(a, b) ||
		!slices.Equal(a.SlotMembers, b.SlotMembers) || len(a.Walsenders) != len(b.Walsenders)
}

// examine looks at directory, fencer and server.
func (a *Agent) examine(ctx context.Context, prev election.Local) (l election.Local, obs postgres.Observation, answering bool, problem string) {
	pid, dying, known := a.guard.server()
	if !known {
		// Without the fencer's word the last known state stands; nothing writable can be
		// started meanwhile, because only the fencer starts.
		return prev, obs, false, "the fencer does not answer"
	}
	l.Data, l.DataDetail = a.dataState()
	switch {
	case pid != 0:
		a.examineServer(ctx, prev, &l, &obs, &answering, &problem)
	case dying:
		a.guard.doubt(ctx)
		l.Server, l.Role, l.SystemID = election.ServerDying, prev.Role, prev.SystemID
		return l, obs, false, ""
	default:
		l.Server = election.ServerDown
	}
	if l.Data == election.DataCluster {
		l.DataID, _ = a.pg.DataIDUnder(pid) // without one this copy has no vote
	}
	if l.Data == election.DataCluster && !answering {
		a.examineFiles(prev, &l)
	}
	return l, obs, answering, problem
}

func (a *Agent) dataState() (election.DataState, string) {
	st, err := a.pg.DataDir()
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	switch st {
	case postgres.DataMissing, postgres.DataEmpty:
		return election.DataEmpty, detail
	case postgres.DataCluster:
		return election.DataCluster, detail
	case postgres.DataPartial:
		if a.publishedAlready() {
			return election.DataCluster, detail
		}
		return election.DataPartial, detail
	case postgres.DataForeign:
		return election.DataForeign, detail
	default:
		return election.DataUnreadable, detail
	}
}

// publishedAlready ends a bootstrap whose cluster is published and whose directory is still declared
// unfinished: the agent died, or the answer was lost, between the two.
func (a *Agent) publishedAlready() bool {
	if a.jobs.kind() == election.JobBootstrap {
		return false
	}
	mark, err := a.pg.Unfinished()
	if err != nil || mark == nil || mark.Operation != "initdb" {
		return false
	}
	c, err := a.pg.Control()
	if err != nil || c.State != postgres.ControlShutDown {
		return false
	}
	var in election.Initialize
	a.facts.with(func(f *facts) { in = f.cluster.Initialize })
	if in.State != election.BootstrapDone || in.SystemID != strconv.FormatUint(c.SystemID, 10) {
		return false
	}
	return a.pg.FinishInit() == nil
}

// examineServer asks a server that has a postmaster.
func (a *Agent) examineServer(ctx context.Context, prev election.Local, l *election.Local, obs *postgres.Observation, answering *bool, problem *string) {
	octx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	o, err := a.pg.Observe(octx)
	if err == nil {
		*obs, *answering = o, true
		if o.CancelledWaits > 0 {
			a.counters.cancelled.Add(uint64(o.CancelledWaits))
			a.log.Warn("commits were acknowledged without their standbys: a wait was cancelled", zap.Int("commits", o.CancelledWaits))
		}
		a.fillRunning(o, prev, l)
		return
	}
	*problem = err.Error()
	rctx, rcancel := context.WithTimeout(ctx, readyTimeout)
	defer rcancel()
	ready, _ := a.pg.Ready(rctx)
	l.Role = prev.Role
	switch {
	case ready == postgres.Starting || ready == postgres.NotConsistent:
		l.Server = election.ServerStarting
	case ready == postgres.NoAnswer && prev.Server != election.ServerRunning && prev.Server != election.ServerSilent:
		l.Server = election.ServerStarting
	case errors.Is(err, postgres.ErrNotRunning) && ready == postgres.ShuttingDown:
		l.Server = election.ServerDying
	default:
		l.Server = election.ServerSilent
		l.SystemID, l.Timeline, l.LSN = prev.SystemID, prev.Timeline, prev.LSN
	}
}

func (a *Agent) fillRunning(o postgres.Observation, prev election.Local, l *election.Local) {
	l.Server, l.Role, l.Timeline = election.ServerRunning, o.Role, o.Timeline
	l.SystemID = strconv.FormatUint(o.SystemID, 10)
	l.PendingRestart = len(o.PendingRestart) > 0
	if o.Role == election.RolePrimary {
		l.LSN = o.FlushLSN
		l.PromotedCheckpoint = election.KnownBool(o.CheckpointTimeline == o.Timeline)
	} else {
		l.Signal = true
		l.LSN = max(o.ReceiveLSN, o.ReplayLSN)
		if o.WalReceiver == nil {
			l.Timeline = max(l.Timeline, a.replayTimeline(o, prev))
		}
		a.facts.with(func(f *facts) { l.Streaming = f.receiver.look(o.WalReceiver, Now()) })
	}
	l.Walsenders = connected(o)
	// Nothing known is what an error leaves, too: no decision rests on it.
	l.Sync, _ = a.pg.SyncNow(o)
}

// replayTimeline is the timeline of a standby that receives nothing at the moment: the one it was
// last seen on, or the one of the log that it holds at its position, whichever is later. pg_control
// alone lags behind until the next restartpoint.
func (a *Agent) replayTimeline(o postgres.Observation, prev election.Local) election.Timeline {
	tl := o.CheckpointTimeline
	if prev.Server == election.ServerRunning && prev.Role == election.RoleStandby {
		tl = max(tl, prev.Timeline)
	}
	if wal, err := a.pg.WALTimeline(max(o.ReceiveLSN, o.ReplayLSN)); err == nil {
		tl = max(tl, wal)
	}
	return tl
}

// examineFiles reads what pg_control and the signal file say of a server that does not answer.
func (a *Agent) examineFiles(prev election.Local, l *election.Local) {
	l.Signal = a.pg.HasStandbySignal()
	c, err := a.pg.Control()
	if err != nil {
		l.DataDetail = err.Error()
		l.SystemID = prev.SystemID
		return
	}
	l.SystemID = strconv.FormatUint(c.SystemID, 10)
	l.CleanShutdown = election.KnownBool(c.State == postgres.ControlShutDown || c.State == postgres.ControlShutDownInRecovery)
	l.Timeline = max(c.Timeline, c.MinRecoveryEndTimeline)
	l.LSN = max(c.Checkpoint, c.MinRecoveryEnd)
}

// slotMembers are the members for which a physical slot exists here.
func slotMembers(slots []postgres.Slot, members []election.Member, known bool) ([]string, bool) {
	if !known {
		return nil, false
	}
	var names []string
	for _, m := range members {
		want := conf.SlotName(m.Name)
		if slices.ContainsFunc(slots, func(s postgres.Slot) bool { return s.Physical && s.Name == want }) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names, true
}

// refreshLeaderUntil computes how long /primary may answer 200: the title's own line, only while
// the server is a primary and the fencer has taken the deadline over. It is one atomic store, and
// nothing has to happen for it to run out.
func (a *Agent) refreshLeaderUntil() {
	own, lease := a.keeper.title()
	st, alive := a.guard.snapshot()
	ok, contradicted := false, int64(0)
	var notBefore election.Instant
	a.facts.with(func(f *facts) {
		contradicted = f.contradictedRev
		if c := f.cluster; c.Leader.Present && c.Revision > own.Revision && c.Leader.ModRevision != own.Revision && c.Leader.Lease != lease {
			contradicted = own.Revision // the snapshot shows a successor
		}
		ok = f.answering && f.local.Role == election.RolePrimary && f.local.Server == election.ServerRunning && f.state == "" &&
			f.sync.gate.passed && f.seen // an agent that has just started does not know yet who may replace it
		notBefore = f.sync.notBefore
	})
	if !ok || !alive || !own.Held() || !st.Armed || own.Revision == contradicted {
		a.leaderUntil.Store(0)
		return
	}
	m := a.margin()
	until := min(own.DemoteAt(m), st.Token.Until-m)
	sets, silence := a.takeoverSets()
	for _, set := range sets {
		seen := election.ShownUntil(own, a.hearing.reached(set, own.Revision), silence)
		until = min(until, seen)
		if seen <= Now()+silence/8 {
			a.keeper.now() // the keeper may not know yet that its proofs are needed
		}
	}
	if left := notBefore - Now(); left > 0 {
		until = 0
		time.AfterFunc(left, a.refreshLeaderUntil)
	}
	a.leaderUntil.Store(int64(until))
}

func tagsOf(c *config.Config) election.Tags {
	t := c.Tags
	return election.Tags{
		NoFailover: t.NoFailover(), FailoverPriority: t.FailoverPriority(), NoLoadBalance: t.NoLoadBalance(),
		NoSync: t.NoSync(), SyncPriority: t.SyncPriority(), NoStream: t.NoStream(), CloneFrom: t.CloneFrom(),
		ReplicateFrom: t.ReplicateFrom(),
	}
}
