package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/fencer"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/restapi"
)

// publication is what REST handlers read, replaced as a whole.
type publication struct{ state *restapi.State }

// publish makes the present facts the ones that health checks, metrics and /patroni see.
func (a *Agent) publish() {
	st := &restapi.State{
		Version: PatroniVersion, PghaVersion: a.opt.Version, Incarnation: a.opt.Incarnation,
		Fencer: a.fencerState(), Counters: a.counters.view(),
	}
	v, spared := a.view(), a.guard.spares()
	st.LeaderRevision, st.LostLeader = v.Own.Revision, election.LostLeader(v)
	a.facts.with(func(f *facts) {
		st.Name, st.Scope = f.cfg.Name, f.cfg.Scope
		st.Epoch = f.cluster.Reign.Epoch
		st.Server = f.serverState()
		st.Replication = replicationRows(f.obs)
		st.Tags = f.cfg.Tags.Published()
		t := tagsOf(f.cfg)
		st.NoLoadBalance, st.FailoverPriority = t.NoLoadBalance, t.FailoverPriority
		if t.NoFailover {
			st.FailoverPriority = 0
		}
		if f.seen {
			st.ViewUntil = f.freshAt + f.dynamic.TTL
		}
		st.View = f.viewState()
		st.Sync = f.syncState(v)
		st.FailsafeUntil = f.failsafeUntil(v)
		st.Pause = f.dynamic.Pause && spared // said only once it is so
		st.WatchdogFailed = f.cannotLead != ""
		st.PendingRestart, st.PendingRestartReason = pendingReasons(f.obs)
		st.TTL = f.dynamic.TTL
		st.NextLoop = Now() + f.dynamic.LoopWait
	})
	st.DCSLastSeen = a.dcsLastSeen()
	job, prog := a.jobs.progress()
	if job.Kind != election.JobNone {
		st.Job = restJob(job, prog)
	}
	var last election.Plan
	st.Decisions, last = a.why.view()
	st.Loop = restapi.LoopState{LastAt: Now(), Rule: string(last.Rule), Reason: last.Reason}
	if last.Trouble {
		st.Loop.Problems = []string{last.Reason}
	}
	if w, _ := a.guard.snapshot(); w.Wire == fencer.WireFailed {
		st.Loop.Problems = append(st.Loop.Problems, "the server is not fenced on the wire (pgha.wire_fence): the fencer may not, or cannot; its log says why")
	}
	a.published.Store(&publication{state: st})
}

func (a *Agent) dcsLastSeen() time.Time {
	var fresh election.Instant
	var seen bool
	a.facts.with(func(f *facts) { fresh, seen = f.freshAt, f.seen })
	if !seen {
		return time.Time{}
	}
	return time.Now().Add(fresh - Now())
}

func restJob(job election.Job, p progress) *restapi.Job {
	r := &restapi.Job{Kind: string(job.Kind), Detail: job.Detail, Started: job.Since, Done: p.done, Total: p.total}
	if took := (Now() - job.Since).Seconds(); took > 0.2 && p.done > 0 {
		r.Rate = float64(p.done) / took
		if p.total > p.done {
			r.ETA = time.Duration(float64(p.total-p.done) / r.Rate * float64(time.Second))
		}
	}
	return r
}

func (a *Agent) fencerState() restapi.FencerState {
	st, alive := a.guard.snapshot()
	return restapi.FencerState{
		Connected: alive, PID: st.PID, Armed: st.Armed, Epoch: st.Token.Epoch, Until: st.Token.Until,
		Postmaster: st.Postmaster, Priority: st.Priority, KillMethod: st.KillMethod, FencedAt: st.FencedAt,
		PromiseUntil: st.PromiseUntil, Problems: st.Problems, Wire: string(st.Wire),
	}
}

// word is the state of row D-28.
func (f *facts) word() election.MemberState {
	if f.state != "" {
		return f.state
	}
	switch f.local.Server {
	case election.ServerRunning:
		return election.StateRunning
	case election.ServerStarting:
		return election.StateStarting
	case election.ServerDying:
		return election.StateStopping
	case election.ServerSilent:
		return election.StateRunning
	case election.ServerDown:
		for _, r := range f.results {
			if r.Kind == election.JobStart && r.Err != "" {
				return election.StateStartFailed
			}
			if r.Kind == election.JobClone && r.Err != "" && f.local.Data != election.DataCluster {
				return election.StateCreating
			}
		}
		return election.StateStopped
	case election.ServerUnknown:
	}
	return election.StateUnknown
}

// roleWord is the role of row D-29.
func (f *facts) roleWord() string {
	switch {
	case f.local.Server == election.ServerRunning || f.local.Server == election.ServerSilent:
		return f.local.Role.String()
	case f.local.Data != election.DataCluster:
		return "uninitialized"
	case f.local.Signal:
		return "replica"
	default:
		return "demoted"
	}
}

func (f *facts) serverState() restapi.ServerState {
	o, l := f.obs, f.local
	s := restapi.ServerState{
		ObservedAt: f.observed, State: f.word(), Role: f.roleWord(), Answering: f.answering, SystemID: l.SystemID,
		DataIncarnation: l.DataID, Frozen: f.frozenState(),
	}
	switch {
	case f.answering && l.Role == election.RolePrimary && f.state == "":
		s.Writable = election.Yes
	case f.answering && l.Role == election.RoleStandby, l.Server == election.ServerDown, l.Server == election.ServerDying:
		s.Writable = election.No
	}
	if !f.answering {
		return s
	}
	s.StartTime, s.Version, s.Timeline = o.StartTime, o.Version, l.Timeline
	s.Location = o.FlushLSN
	if l.Role == election.RoleStandby {
		s.Received, s.Replayed = max(o.ReceiveLSN, o.WrittenLSN), o.ReplayLSN
		if s.Received == 0 {
			s.Received = o.ReplayLSN
		}
		s.ReplayedTimestamp, s.ReplayPaused = o.ReplayTime, o.ReplayPaused == "paused"
		s.ReplicationState = replicationState(o)
		if o.WalReceiver != nil {
			s.LatestEnd = o.WalReceiver.LatestEndLSN
			s.UpstreamSeen = f.observed
		}
	}
	return s
}

func replicationState(o postgres.Observation) string {
	switch {
	case o.WalReceiver != nil && o.WalReceiver.Status == "streaming":
		return "streaming"
	case o.RestoreCommand != "" && o.WalReceiver == nil:
		return "in archive recovery"
	}
	return ""
}

func (f *facts) viewState() restapi.ViewState {
	c, d := f.cluster, f.dynamic
	v := restapi.ViewState{
		Leader: c.Leader.Name, LeaderOptime: c.Status.Optime, StandbyCluster: d.StandbyCluster != nil,
		MaximumLag: int64(d.MaximumLagOnFailover), FailsafeMode: d.FailsafeMode, Config: f.rawConfig,
	}
	if d.SynchronousMode != config.SyncOff {
		v.SynchronousMode = d.SynchronousMode.String()
	}
	in := restapi.InSync(c.Sync, f.cfg.Name)
	v.SyncStandby = in && d.SynchronousMode == config.SyncOn
	v.QuorumStandby = in && d.SynchronousMode == config.SyncQuorum
	for _, m := range c.Members {
		v.MemberAPIURLs = append(v.MemberAPIURLs, m.APIURL)
	}
	for _, m := range c.Failsafe {
		v.FailsafeMember = v.FailsafeMember || m.Name == f.cfg.Name
	}
	if kv, ok := f.snapshot.Get(dcs.KeyHistory); ok {
		v.History = kv.Value
	}
	if kv, ok := f.snapshot.Get(dcs.KeyFailsafe); ok {
		v.Failsafe = kv.Value
	}
	return v
}

func replicationRows(o postgres.Observation) []restapi.ReplicationRow {
	var rows []restapi.ReplicationRow
	for _, w := range o.Replication {
		r := restapi.ReplicationRow{
			Username: w.User, ApplicationName: w.ApplicationName, State: w.State,
			SyncState: w.SyncState, SyncPriority: w.SyncPriority,
		}
		if w.ClientAddr != "" {
			addr := w.ClientAddr
			r.ClientAddr = &addr
		}
		rows = append(rows, r)
	}
	return rows
}

func pendingReasons(o postgres.Observation) (bool, map[string]restapi.ChangedValue) {
	if len(o.PendingRestart) == 0 {
		return false, nil
	}
	m := make(map[string]restapi.ChangedValue, len(o.PendingRestart))
	for _, p := range o.PendingRestart {
		m[p.Name] = restapi.ChangedValue{Old: p.Current, New: p.New}
	}
	return true, m
}

// publishMember writes members/<name> when its content changed (row D-25). Mere positions are
// written at the heartbeat only, so that an idle cluster writes nothing.
func (a *Agent) publishMember(v election.View) {
	if v.Lease == 0 || !v.Store.Seen {
		return
	}
	st := a.published.Load().state
	m := a.memberData(st, v)
	value := dcs.EncodeMember(m)
	calm := m
	calm.XlogLocation, calm.ReceiveLSN, calm.ReplayLSN = 0, 0, 0
	quiet := dcs.EncodeMember(calm)
	due := false
	a.facts.with(func(f *facts) {
		stored, present := f.cluster.Member(v.Self.Name)
		// A write of unknown outcome may arrive after a newer one.
		missing := !present || stored.Lease != v.Lease || stored.ModRevision > f.memberRev
		switch {
		case f.memberFailed && Now()-f.memberAt < time.Second:
		case f.memberStale || f.memberLease != v.Lease || !slices.Equal(f.memberQuiet, quiet):
			due = true
		case missing && Now()-f.memberAt > time.Second:
			due = true
		case !dcs.SameMember(f.memberValue, value) && Now()-f.memberAt >= v.Policy.LoopWait-stepSlack(v.Policy.LoopWait):
			due = true
		}
	})
	if !due {
		return
	}
	a.once(a.background(), "publish member", storeCall, func(ctx context.Context) error {
		res, err := a.store.Apply(ctx, dcs.PutMember(v.Self.Name, v.Lease, value))
		switch {
		case errors.Is(err, dcs.ErrLeaseNotFound):
			a.facts.with(func(f *facts) { f.memberAt, f.memberFailed = Now(), true })
			a.keeper.now()
			return nil
		case err != nil:
			a.facts.with(func(f *facts) { f.memberAt, f.memberFailed = Now(), true })
			return err
		}
		if res.Done {
			a.metrics.write()
			a.facts.with(func(f *facts) {
				f.memberValue, f.memberQuiet, f.memberLease, f.memberStale = value, quiet, v.Lease, false
				f.memberAt, f.memberFailed, f.memberRev = Now(), false, res.Revision
			})
		}
		return nil
	})
}

func (a *Agent) memberData(st *restapi.State, v election.View) dcs.MemberData {
	var c *config.Config
	var leaving bool
	a.facts.with(func(f *facts) { c, leaving = f.cfg, f.leaving })
	s := st.Server
	m := dcs.MemberData{
		ConnURL: "postgres://" + c.PostgreSQL.ConnectAddress + "/" + c.PostgreSQL.Database,
		APIURL:  apiURL(c), State: s.State, Role: s.Role, Version: PatroniVersion, Tags: st.Tags,
		Pause: st.Pause, PendingRestart: st.PendingRestart,
		PghaVersion: a.opt.Version, Incarnation: a.opt.Incarnation, DataID: v.Local.DataID,
	}
	if leaving {
		m.Tags = c.Tags.SignedOff()
	}
	if c.PostgreSQL.ProxyAddress != "" {
		m.ProxyURL = "postgres://" + c.PostgreSQL.ProxyAddress + "/" + c.PostgreSQL.Database
	}
	if st.PendingRestart {
		m.PendingRestartReason = make(map[string]dcs.ParameterChange, len(st.PendingRestartReason))
		for k, r := range st.PendingRestartReason {
			m.PendingRestartReason[k] = dcs.ParameterChange{OldValue: r.Old, NewValue: r.New}
		}
	}
	if !s.Answering {
		return m
	}
	m.Timeline = s.Timeline
	if s.IsPrimary() {
		m.XlogLocation = s.Location
		if v.Own.Held() && v.Local.PromotedCheckpoint == election.No {
			m.CheckpointAfterPromote = election.No
		}
		return m
	}
	m.XlogLocation, m.ReceiveLSN, m.ReplayLSN = max(s.Received, s.Replayed), s.Received, s.Replayed
	m.ReplicationState = s.ReplicationState
	return m
}

func apiURL(c *config.Config) string {
	scheme := "http"
	if c.RestAPI.TLS() {
		scheme = "https"
	}
	return scheme + "://" + c.RestAPI.ConnectAddress + "/patroni"
}

// background is the context of short writes that belong to the agent's life, not to a plan.
func (a *Agent) background() context.Context { return a.life }

// logIgnored says once which settings have no effect.
func (a *Agent) logIgnored() {
	for _, s := range a.opt.Config.Ignored {
		a.log.Warn("setting without effect", zap.String("setting", s))
	}
	for _, s := range unsupported(a.opt.Config) {
		a.log.Warn("setting that this version does not honour", zap.String("setting", s))
	}
}

// unsupported names what was asked for and is not done, so that nobody relies on it unawares.
func unsupported(c *config.Config) []string {
	var out []string
	for _, m := range c.PostgreSQL.CreateReplicaMethods {
		if m != config.BaseBackupMethod {
			out = append(out, "postgresql.create_replica_methods: "+m+": clones are made with pg_basebackup")
		}
	}
	if c.Watchdog.Mode == config.WatchdogRequired {
		out = append(out, "watchdog.mode: required: the fencer does what a watchdog would; no device is used")
	}
	if c.Tags.NoStream() {
		out = append(out, "tags.nostream: this member streams like any other")
	}
	return out
}

// unsupportedDynamic is the same for the dynamic configuration.
func unsupportedDynamic(d config.Dynamic) []string {
	var out []string
	for _, s := range d.Slots {
		out = append(out, "slots: "+s.Name+": permanent slots are not made")
	}
	if d.StandbyCluster != nil {
		out = append(out, "standby_cluster: no member leads one")
	}
	return out
}
