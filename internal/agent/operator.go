package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

var _ restapi.Node = (*Agent)(nil)

// State is the last published snapshot.
func (a *Agent) State() *restapi.State { return a.published.Load().state }

// Now is the clock of the lease.
func (a *Agent) Now() election.Instant { return Now() }

// LeaderUntil is how long /primary may answer 200.
func (a *Agent) LeaderUntil() election.Instant { return election.Instant(a.leaderUntil.Load()) }

// Fresh looks at the server once more and returns the state after it.
func (a *Agent) Fresh(ctx context.Context) *restapi.State {
	ch := a.caughtUp.wait()
	a.lookNow()
	select {
	case <-ch:
		a.publish()
	case <-ctx.Done():
	case <-time.After(readyTimeout):
	}
	return a.State()
}

// Cluster loads the consensus store's content now.
func (a *Agent) Cluster(ctx context.Context) (restapi.ClusterView, error) {
	s, err := a.store.Load(ctx)
	if err != nil {
		return restapi.ClusterView{}, err
	}
	view := restapi.ClusterView{Cluster: dcs.Decode(s), Members: make(map[string]json.RawMessage)}
	for _, kv := range s.KVs {
		if len(kv.Key) > len(dcs.PrefixMembers) && kv.Key[:len(dcs.PrefixMembers)] == dcs.PrefixMembers {
			view.Members[kv.Key[len(dcs.PrefixMembers):]] = kv.Value
		}
	}
	a.facts.with(func(f *facts) {
		view.Scope = f.cfg.Scope
		view.Pause = f.dynamic.Pause
		view.StandbyCluster = f.dynamic.StandbyCluster != nil
		if f.dynamic.SynchronousMode != config.SyncOff {
			view.SynchronousMode = f.dynamic.SynchronousMode.String()
		}
	})
	return view, nil
}

// PatchConfig merges a patch into the dynamic configuration, by compare and swap.
func (a *Agent) PatchConfig(ctx context.Context, patch json.RawMessage) restapi.Reply {
	var p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		return restapi.Refused(http.StatusBadRequest, "the patch is not a JSON object: "+err.Error())
	}
	s, err := a.store.Load(ctx)
	if err != nil {
		return restapi.Failed(err)
	}
	kv, ok := s.Get(dcs.KeyConfig)
	if !ok {
		return restapi.ConfigMissing()
	}
	next, different, err := config.Patch(kv.Value, p)
	if err != nil {
		return restapi.Refused(http.StatusBadRequest, err.Error())
	}
	if !different {
		return restapi.ConfigDocument(kv.Value)
	}
	return a.storeConfig(ctx, next, dcs.ReplaceConfig(kv.ModRevision, next))
}

// PutConfig replaces the dynamic configuration.
func (a *Agent) PutConfig(ctx context.Context, doc json.RawMessage) restapi.Reply {
	return a.storeConfig(ctx, doc, dcs.PutConfig(doc))
}

func (a *Agent) storeConfig(ctx context.Context, doc []byte, txn dcs.Txn) restapi.Reply {
	if _, _, err := config.ParseDynamic(doc); err != nil {
		return restapi.Refused(http.StatusBadRequest, err.Error())
	}
	res, err := a.store.Apply(ctx, txn)
	switch {
	case err != nil:
		return restapi.WriteFailed()
	case !res.Done:
		return restapi.Conflict()
	}
	a.poke()
	return restapi.ConfigDocument(doc)
}

// Switchover writes the request, and waits for its outcome unless it is scheduled.
func (a *Agent) Switchover(ctx context.Context, req restapi.SwitchoverRequest) restapi.Reply {
	s, err := a.store.Load(ctx)
	if err != nil {
		return restapi.Failed(err)
	}
	c := dcs.Decode(s)
	if why, code := a.precheck(ctx, c, req); why != "" {
		return restapi.Refused(code, why)
	}
	request := election.FailoverRequest{Leader: req.Leader, Candidate: req.Candidate, ScheduledAt: req.ScheduledAt}
	begun := time.Now()
	if _, err := a.store.Apply(ctx, dcs.WriteFailover(request)); err != nil {
		return req.WriteFailed()
	}
	if !req.ScheduledAt.IsZero() {
		return req.Scheduled()
	}
	return a.awaitSwitchover(ctx, c.Leader, req, begun)
}

// precheck refuses before anything is touched (row R-107).
func (a *Agent) precheck(ctx context.Context, c election.Cluster, req restapi.SwitchoverRequest) (why string, code int) {
	const refused = http.StatusPreconditionFailed
	var paused bool
	a.facts.with(func(f *facts) { paused = f.dynamic.Pause })
	switch {
	case paused && !req.ScheduledAt.IsZero():
		return "Can't schedule switchover in the paused state", http.StatusBadRequest
	case paused && req.IsSwitchover() && req.Candidate == "":
		return "Switchover is possible only to a specific candidate in a paused state", http.StatusBadRequest
	case req.IsSwitchover() && req.Leader != c.Leader.Name:
		return "leader name does not match", refused
	}
	if !req.ScheduledAt.IsZero() {
		return "", 0
	}
	noun := "switchover"
	if !req.IsSwitchover() {
		noun = "failover"
	}
	if req.Candidate != "" {
		m, ok := c.Member(req.Candidate)
		if !ok {
			return "candidate does not exists", refused
		}
		if m.Tags.NoFailover {
			return noun + " is not possible: candidate " + m.Name + " is tagged nofailover", refused
		}
		c.Members = []election.Member{m}
	}
	return a.anyGood(ctx, c, noun), refused
}

// anyGood asks the candidates whether at least one of them answers and may lead; empty: one does.
func (a *Agent) anyGood(ctx context.Context, c election.Cluster, noun string) string {
	var others []election.Member
	for _, m := range c.Members {
		if m.Name != c.Leader.Name {
			others = append(others, m)
		}
	}
	if len(others) == 0 {
		return noun + " is not possible: cluster does not have members except leader"
	}
	for _, m := range others {
		if m.Name == a.name() {
			st := a.State()
			if st.Server.Answering && st.FailoverPriority > 0 {
				return ""
			}
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := a.peers.Peer(pctx, m.APIURL)
		cancel()
		if err == nil && s.Answering && !s.NoFailover && !s.WatchdogFailed {
			return ""
		}
	}
	return noun + " is not possible: no good candidates have been found"
}

// promotionWait is how long the answer to a switchover is held back for the new leader to serve.
const promotionWait = 3 * time.Second

// awaitSwitchover follows the store's news until the leader changed or the request is gone.
func (a *Agent) awaitSwitchover(ctx context.Context, old election.Leader, req restapi.SwitchoverRequest, begun time.Time) restapi.Reply {
	patience := 2 * max(10*time.Second, a.loopWait())
	wctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var changed time.Time
	for {
		var now election.Cluster
		a.facts.with(func(f *facts) { now = f.cluster })
		if l := now.Leader; l.Present && l.ModRevision > old.ModRevision && l.Name != old.Name {
			if changed.IsZero() {
				changed = time.Now()
			}
			if m, _ := now.Member(l.Name); m.Role == "primary" || time.Since(changed) > promotionWait {
				return req.Succeeded(l.Name)
			}
		}
		if why := a.why.refusalSince(begun); why != "" && now.Leader.Name == old.Name && now.Failover.IsZero() {
			r := req.Failed()
			r.Text += ": " + why
			return r
		}
		if !sleepCtx(wctx, 20*time.Millisecond) {
			return req.StatusUnknown(time.Since(begun))
		}
	}
}

// CancelSwitchover drops a scheduled switchover.
func (a *Agent) CancelSwitchover(ctx context.Context) restapi.Reply {
	s, err := a.store.Load(ctx)
	if err != nil {
		return restapi.Failed(err)
	}
	c := dcs.Decode(s)
	if c.Failover.IsZero() || c.Failover.ScheduledAt.IsZero() {
		return restapi.NoSwitchoverScheduled()
	}
	res, err := a.store.Apply(ctx, dcs.ClearFailover(c.Failover.ModRevision))
	switch {
	case err != nil:
		return restapi.Failed(err)
	case !res.Done:
		return restapi.Conflict()
	}
	return restapi.SwitchoverCancelled()
}

// ask hands a command to the rules and waits for its outcome.
func (a *Agent) ask(ctx context.Context, c election.Command) (string, error) {
	ch := make(chan string, 1)
	a.facts.with(func(f *facts) {
		f.nextCommand++
		c.ID, c.Asked = f.nextCommand, Now()
		f.commands = append(f.commands, c)
		if f.answers == nil {
			f.answers = make(map[uint64]chan string)
		}
		f.answers[c.ID] = ch
	})
	a.poke()
	select {
	case out := <-ch:
		return out, nil
	case <-ctx.Done():
		a.facts.with(func(f *facts) { f.finishCommand(c.ID, "given up") })
		return "", ctx.Err()
	}
}

// Restart restarts the local server and waits for it.
func (a *Agent) Restart(ctx context.Context, req restapi.RestartRequest) restapi.Reply {
	st := a.State()
	switch {
	case !req.Schedule.IsZero() && st.Pause:
		return restapi.RestartWhilePaused()
	case !req.Schedule.IsZero():
		return restapi.Refused(http.StatusNotImplemented, "scheduled restarts are not supported by this version; restart now, or by cron")
	case req.Role != "" && req.Role != st.Server.Role,
		req.RestartPending && !st.PendingRestart,
		req.PostgresVersion != "" && !olderThan(st.Server.Version, req.PostgresVersion):
		return restapi.RestartNotNeeded()
	case st.Job != nil:
		return restapi.InProgress(st.Job.Kind)
	case st.Server.State == election.StateStarting:
		return restapi.StillStarting()
	}
	timeout := req.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Minute
	}
	rctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := a.ask(rctx, election.Command{Kind: election.CommandRestart})
	if err != nil || out != "" {
		r := restapi.RestartFailed()
		if out != "" {
			r.Text += ": " + out
		}
		return r
	}
	return restapi.Restarted()
}

// CancelRestart has nothing to drop: nothing is ever scheduled.
func (a *Agent) CancelRestart(context.Context) restapi.Reply { return restapi.NoRestartScheduled() }

// Reload asks the main loop to read the local configuration again.
func (a *Agent) Reload(context.Context) restapi.Reply {
	if err := a.ReloadNow(); err != nil {
		return restapi.Refused(http.StatusInternalServerError, err.Error())
	}
	return restapi.ReloadScheduled()
}

// Reinitialize asks for a fresh copy of the data. It answers when the copy is begun.
func (a *Agent) Reinitialize(_ context.Context, req restapi.ReinitializeRequest) restapi.Reply {
	v := a.view()
	switch {
	case v.Own.Held() || v.Store.Cluster.Leader.Name == v.Self.Name:
		return restapi.ReinitializeLeader()
	case !v.Store.Cluster.Leader.Present:
		return restapi.ReinitializeNoLeader()
	case v.Job.Kind != election.JobNone && !req.Force:
		return restapi.InProgress(string(v.Job.Kind))
	case v.Job.Kind != election.JobNone:
		a.jobs.cancel("reinitialize was asked for with force")
	}
	a.facts.with(func(f *facts) {
		f.nextCommand++
		f.commands = append(f.commands, election.Command{
			Kind: election.CommandReinit, ID: f.nextCommand, FromLeader: req.FromLeader, Force: req.Force,
		})
	})
	a.poke()
	return restapi.ReinitializeStarted()
}

// CaughtUp waits until the standby has received the log up to lsn.
func (a *Agent) CaughtUp(ctx context.Context, lsn election.LSN) (election.LSN, bool) {
	for {
		got, err := a.pg.ReceivedLSN(ctx)
		if err == nil && got >= lsn {
			return got, true
		}
		if errors.Is(ctx.Err(), context.Canceled) || !sleepCtx(ctx, pollEvery) {
			return got, false
		}
	}
}

// olderThan compares server_version_num with "X.Y" or "X.Y.Z".
func olderThan(have int, want string) bool {
	n := 0
	for i, part := range splitVersion(want) {
		switch i {
		case 0:
			n += part * 10000
		case 1:
			n += part
		}
	}
	return have < n
}

func splitVersion(s string) []int {
	var out []int
	cur, digits := 0, false
	for _, r := range s + "." {
		if r >= '0' && r <= '9' {
			cur, digits = cur*10+int(r-'0'), true
			continue
		}
		if digits {
			out = append(out, cur)
		}
		cur, digits = 0, false
	}
	return out
}
