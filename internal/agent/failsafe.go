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
	"github.com/pgha/pgha/internal/restapi"
	"github.com/pgha/pgha/internal/restapi/client"
)

// failsafeFacts is what a leader knows of its rounds of promises, and a member of those it gave.
type failsafeFacts struct {
	round   uint64
	asking  bool
	doneAt  election.Instant
	refused string
	okAt    election.Instant // when the last round was begun in which everybody promised
	// pending: a write of the failsafe set is not settled yet: it compared the set's revision over, under
	// the leader key of revision own. Until the snapshot shows another, its members are asked as well.
	pending   bool
	over, own int64
	unsettled []election.FailsafeMember
	opening   bool // one of those writes gives the set up
	// promised is the last promise that was given to a primary, pinged until then.
	promised election.Instant
}

// failsafeRound is the round as decisions see it. The set is known only if this leader wrote or saw it
// in its own reign: nobody but the leader changes it.
func (f *facts) failsafeRound(own election.Own) election.FailsafeRound {
	s := f.failsafe
	r := election.FailsafeRound{Asking: s.asking, DoneAt: s.doneAt, Refused: s.refused}
	if !own.Held() || f.cluster.Revision < own.Revision {
		return r
	}
	if s.pending && s.own == own.Revision && s.over == f.cluster.FailsafeRev {
		r.Unsettled, r.Opening = slices.Clone(s.unsettled), s.opening
	}
	r.Members, r.FailsafeRev = f.cluster.Failsafe, f.cluster.FailsafeRev
	return r
}

// publishFailsafe writes the failsafe set, unless it was written and the watch does not show that yet: each
// further try would fail, and be followed by the next at once.
func (a *Agent) publishFailsafe(ctx context.Context, v election.View, members []election.FailsafeMember) {
	const key = "write failsafe"
	if a.echo.awaits(key, v.Store.Cluster.Revision) {
		return
	}
	a.once(ctx, key, storeCall, func(ctx context.Context) error {
		revision, err := a.writeFailsafe(ctx, v, members)
		if err == nil {
			a.echo.sent(key, revision)
		}
		return err
	})
}

// writeFailsafe publishes the members that a round must ask. From the sending on until the snapshot shows
// another set, those of both are asked: some candidate may have read the new one.
func (a *Agent) writeFailsafe(ctx context.Context, v election.View, members []election.FailsafeMember) (int64, error) {
	over := v.Store.Cluster.FailsafeRev
	fresh, asked := false, false
	a.facts.with(func(f *facts) {
		s := &f.failsafe
		// Either this write is known when a round ends, or the round is known here.
		if asked = s.asking || s.doneAt != v.Failsafe.DoneAt; asked {
			return
		}
		fresh = !s.pending || s.own != v.Own.Revision || s.over != over
		if fresh {
			s.unsettled, s.opening = nil, false
		}
		s.opening = s.opening || len(members) == 0
		s.pending, s.own, s.over = true, v.Own.Revision, over
		s.unsettled = append(s.unsettled, members...)
	})
	if asked {
		return 0, errors.New("write the failsafe set: promises were asked for since that was decided")
	}
	res, err := a.store.Apply(ctx, dcs.WriteFailsafe(v.Own.Revision, over, members))
	if errors.Is(err, dcs.ErrUnavailable) && fresh {
		a.facts.with(func(f *facts) { f.failsafe.pending = false })
	}
	if err != nil {
		return 0, fmt.Errorf("write the failsafe set: %w", err)
	}
	if !res.Done {
		return 0, errors.New("write the failsafe set: it was changed meanwhile, perhaps by an earlier try")
	}
	a.metrics.write()
	return res.Revision, nil
}

// askPromises puts one round to the members of the failsafe set. Only if all of them promise does the
// title count from the moment before the first question; anything else changes nothing.
func (a *Agent) askPromises(ctx context.Context, v election.View, members []election.FailsafeMember) error {
	var call client.FailsafeCall
	a.facts.with(func(f *facts) {
		f.failsafe.round++
		f.failsafe.asking = true
		call = client.FailsafeCall{
			Name: f.cfg.Name, ConnURL: "postgres://" + f.cfg.PostgreSQL.ConnectAddress + "/" + f.cfg.PostgreSQL.Database,
			APIURL: apiURL(f.cfg),
			Extra: restapi.FailsafeExtra{
				TTLMillis: max(v.Own.TTL, v.Policy.TTL).Milliseconds(), Epoch: f.cluster.Reign.Epoch, Round: f.failsafe.round,
			},
		}
	})
	call.Extra.LeaderRevision = v.Own.Revision
	var targets []client.Target
	for _, m := range members {
		if m.Name != v.Self.Name {
			targets = append(targets, client.Target{Name: m.Name, APIURL: m.APIURL})
		}
	}
	sent := Now()
	refused := refusalIn(a.peers.FailsafeAll(ctx, targets, call, failsafePatience(v.Own.TTL)))
	if refused == "" {
		refused = election.RoundMisses(a.view(), members)
	}
	if refused == "" {
		if err := a.keeper.promised(ctx, v.Own.Revision, sent); err != nil {
			refused = err.Error()
		}
	}
	var was string
	a.facts.with(func(f *facts) {
		s := &f.failsafe
		was, s.asking, s.doneAt, s.refused = s.refused, false, Now(), refused
		if refused == "" {
			s.okAt = sent
		}
	})
	switch {
	case refused != "":
		a.counters.failsafeFailed.Add(1)
		if was != refused {
			a.log.Warn("failsafe: not everybody promised, the lease runs out", zap.String("why", refused))
		}
	default:
		a.counters.failsafeOK.Add(1)
		a.log.Info("failsafe: every member promised not to race", zap.Int("asked", len(targets)), zap.Duration("took", Now()-sent))
	}
	a.refreshLeaderUntil()
	return nil
}

// failsafeDue is when to decide again so that a round of promises is asked for in time.
func failsafeDue(own election.Own, doneAt election.Instant) election.Instant {
	due := max(own.Sent+own.TTL*5/12, doneAt+own.TTL/12)
	if own.Promised > own.Sent {
		due = max(due, own.Promised+own.TTL/3)
	}
	return due
}

// failsafeAlarm decides again when a round of promises is due. Every proof of ownership puts that moment
// off: so it is a timer that is moved, and nobody has to wake up for it as long as etcd answers.
type failsafeAlarm struct {
	mu    sync.Mutex
	on    bool
	timer *time.Timer
}

// set is called after each decision.
func (f *failsafeAlarm) set(v election.View, poke func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = v.Own.Held() && v.Policy.FailsafeMode
	switch {
	case !f.on:
		if f.timer != nil {
			f.timer.Stop()
		}
	case f.timer == nil:
		f.timer = time.AfterFunc(f.wait(v.Own, v.Failsafe.DoneAt), poke)
	default:
		f.timer.Reset(f.wait(v.Own, v.Failsafe.DoneAt))
	}
}

func (f *failsafeAlarm) wait(own election.Own, doneAt election.Instant) time.Duration {
	return max(failsafeDue(own, doneAt)-Now(), own.TTL/24)
}

// proven moves the alarm after a proof of ownership.
func (f *failsafeAlarm) proven(own election.Own) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on {
		f.timer.Reset(f.wait(own, 0))
	}
}

// failsafePatience bounds one round: rounds are repeated every third of the ttl, and an answer must leave
// time for the fencer to take the deadline over.
func failsafePatience(ttl time.Duration) time.Duration {
	return max(min(ttl/6, 2*time.Second), 300*time.Millisecond)
}

// refusalIn names the first member that did not promise; empty: all did.
func refusalIn(answers []client.FailsafeAnswer) string {
	for _, got := range answers {
		switch {
		case got.Err != nil:
			return got.Name + " does not answer: " + got.Err.Error()
		case !got.Accepted:
			return got.Name + " refuses: " + got.Text
		}
	}
	return ""
}

// promised lets the title count from a round in which everybody promised. It counts only after the fencer
// has taken the new deadline over (safety review, hole 11), and never brings back a title that has run
// into its margin.
func (k *keeper) promised(ctx context.Context, revision int64, sent election.Instant) error {
	m := k.margin()
	k.mu.Lock()
	own, claim := k.own, k.claim
	k.mu.Unlock()
	switch {
	case !own.Held() || claim || own.Revision != revision:
		return errors.New("the title changed meanwhile")
	case Now() >= own.DemoteAt(m):
		return errors.New("the title has run into its margin")
	}
	own.Promised = max(own.Promised, sent)
	if !k.extend(ctx, own) {
		return errors.New("the fencer did not take the new deadline")
	}
	return nil
}

// Failsafe answers a primary that cannot reach the store: it may go on if this member promises not to race
// for as long as it relies on that. The promise is with the fencer, durably, before it is given.
func (a *Agent) Failsafe(ctx context.Context, req restapi.FailsafeRequest) restapi.FailsafeReply {
	a.race.mu.Lock()
	defer a.race.mu.Unlock()
	v := a.view()
	switch why := election.MayPromise(v, req.Name); {
	case v.Own.Held() && v.Local.Role == election.RolePrimary:
		return restapi.FailsafeReply{Outcome: restapi.FailsafeIAmLeader}
	case !v.Policy.FailsafeMode && len(v.Store.Cluster.Failsafe) == 0:
		return restapi.FailsafeReply{Outcome: restapi.FailsafeOff}
	case why != "":
		a.log.Warn("failsafe: no promise given", zap.String("to", req.Name), zap.String("why", why))
		return restapi.FailsafeReply{Outcome: restapi.FailsafeRefused, Reason: why}
	}
	length := election.PromiseLength(v, req.TTL)
	if req.TTL == 0 {
		length = max(length, election.PatroniTTL) // a Patroni asks, and does not say for how long
	}
	until := req.ReceivedAt + length
	if err := a.guard.promise(ctx, until); err != nil {
		a.log.Warn("failsafe: no promise given", zap.String("to", req.Name), zap.Error(err))
		return restapi.FailsafeReply{Outcome: restapi.FailsafeRefused, Reason: "the promise could not be recorded: " + err.Error()}
	}
	first := false
	a.facts.with(func(f *facts) {
		first = f.failsafe.promised < Now()
		f.failsafe.promised = max(f.failsafe.promised, until)
	})
	a.counters.promises.Add(1)
	if first {
		a.log.Warn("failsafe: promised the primary not to race", zap.String("to", req.Name), zap.Duration("for", until-Now()))
	}
	a.poke()
	reply := restapi.FailsafeReply{Outcome: restapi.FailsafeAccepted}
	if v.Local.Role == election.RoleStandby {
		reply.LSN = v.Local.LSN
	}
	return reply
}

// promisedUntil is until when this member must not race by time. What was promised before the fencer's
// record was lost is waited out; without a failsafe set nobody can have asked. While somebody leads there
// is no race to stay out of, and a planned change of the leader need not wait.
func (f *facts) promisedUntil(st fencer.State) election.Instant {
	if f.cluster.FailsafeRev == 0 || f.cluster.Leader.Present {
		return st.PromiseUntil
	}
	return st.PromisedUntil(election.LongestPromise(f.cluster, f.dynamic.TTL))
}
