package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// jobSlot holds the one long job that may run at a time.
type jobSlot struct {
	a *Agent

	mu      sync.Mutex
	job     election.Job
	cancelF context.CancelFunc
	done    chan struct{}
	bytes   progress
}

type progress struct {
	done, total int64
	started     election.Instant
}

func (j *jobSlot) init(a *Agent) { j.a = a }

func (j *jobSlot) view() election.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.job
}

func (j *jobSlot) kind() election.JobKind { return j.view().Kind }

// progress is what restapi shows of a running copy.
func (j *jobSlot) progress() (election.Job, progress) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.job, j.bytes
}

func (j *jobSlot) setProgress(done, total int64) {
	j.mu.Lock()
	j.bytes.done, j.bytes.total = done, total
	j.mu.Unlock()
}

func (j *jobSlot) setDetail(s string) {
	j.mu.Lock()
	j.job.Detail = s
	j.mu.Unlock()
}

// cancel calls the running job off; it ends by itself soon after.
func (j *jobSlot) cancel(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.job.Kind == election.JobNone || j.job.Cancelling {
		return
	}
	j.job.Cancelling = true
	j.cancelF()
	j.a.log.Warn("job called off", zap.String("job", string(j.job.Kind)), zap.String("why", why))
}

func (j *jobSlot) cancelAndWait() {
	j.mu.Lock()
	cancel, done := j.cancelF, j.done
	running := j.job.Kind != election.JobNone
	j.mu.Unlock()
	if !running {
		return
	}
	cancel()
	<-done
}

// run starts a job unless one runs. Its outcome becomes a fact.
func (j *jobSlot) run(ctx context.Context, job election.Job, fn func(context.Context) error) {
	j.mu.Lock()
	if j.job.Kind != election.JobNone {
		j.mu.Unlock()
		return
	}
	jctx, cancel := context.WithCancel(ctx)
	job.Since = Now()
	done := make(chan struct{})
	j.job, j.cancelF, j.done, j.bytes = job, cancel, done, progress{started: job.Since}
	j.mu.Unlock()
	j.a.log.Info("job started", zap.String("job", string(job.Kind)), zap.String("detail", job.Detail))
	go func() {
		defer close(done)
		var before election.Role
		j.a.facts.with(func(f *facts) { before = f.local.Role })
		err := fn(jctx)
		if err != nil && jctx.Err() != nil && !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%w (%w)", context.Canceled, err)
		}
		cancel()
		j.finish(job, err)
		j.a.afterJob(job.Kind, before, err)
	}()
}

func (j *jobSlot) finish(job election.Job, err error) {
	now := Now()
	res := election.JobResult{Kind: job.Kind, At: now, For: job.For}
	took := now - job.Since
	if err != nil {
		res.Err, res.Class = err.Error(), classify(err)
		j.a.log.Warn("job failed", zap.String("job", string(job.Kind)), zap.Duration("took", took),
			zap.String("class", string(res.Class)), zap.Error(err))
		j.a.why.result(string(job.Kind) + ": " + err.Error())
	} else {
		j.a.log.Info("job done", zap.String("job", string(job.Kind)), zap.Duration("took", took))
	}
	j.a.metrics.job(job.Kind, err, took)
	if err != nil && took < actionRetry {
		sleepCtx(j.a.life, actionRetry)
	}
	j.a.facts.with(func(f *facts) {
		f.setResult(res)
		f.state = ""
	})
	// Look before the slot is free, so that the next decision sees what the job left behind.
	lctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	j.a.lookOnce(lctx)
	cancel()
	j.mu.Lock()
	j.job = election.Job{}
	j.mu.Unlock()
	j.a.poke()
}

// classified is an error whose class is known where it arose.
type classified struct {
	class election.FailureClass
	err   error
}

func (c classified) Error() string { return c.err.Error() }
func (c classified) Unwrap() error { return c.err }

func classify(err error) election.FailureClass {
	var c classified
	switch {
	case errors.As(err, &c):
		return c.class
	case errors.Is(err, context.Canceled):
		return election.ClassCanceled
	case errors.Is(err, dcs.ErrUnavailable) || errors.Is(err, dcs.ErrUnknownOutcome):
		return election.ClassStore
	}
	switch postgres.Classify(err) {
	case postgres.ProblemData:
		return election.ClassData
	case postgres.ProblemEnvironment:
		return election.ClassEnv
	case postgres.ProblemPeer:
		return election.ClassPeer
	default:
		return election.ClassOther
	}
}

// startJob turns a long action into the running job.
func (a *Agent) startJob(ctx context.Context, v election.View, act election.Action) {
	job := election.Job{For: v.Store.Cluster.Leader.ModRevision}
	var fn func(context.Context) error
	switch act := act.(type) {
	case election.Bootstrap:
		job.Kind, job.Detail = election.JobBootstrap, "initdb"
		fn = func(ctx context.Context) error { return a.bootstrap(ctx, v) }
	case election.StartStandby:
		job.Kind = election.JobStart
		fn = func(ctx context.Context) error { return a.startStandby(ctx, v, act.Upstream, act.ConnURL) }
	case election.StartPrimary:
		job.Kind, job.Writable = election.JobStart, true
		fn = func(ctx context.Context) error { return a.startPrimary(ctx, v) }
	case election.Promote:
		job.Kind, job.Writable, job.For = election.JobPromote, true, v.Own.Revision
		fn = func(ctx context.Context) error { return a.promote(ctx, v, act) }
	case election.Demote:
		job.Kind, job.Detail = election.JobDemote, act.Why
		fn = func(ctx context.Context) error { return a.demote(ctx, v) }
	case election.StopServer:
		job.Kind = election.JobStop
		fn = func(ctx context.Context) error { return a.stopServer(ctx, v, act) }
	case election.HandOver:
		job.Kind, job.Detail, job.For = election.JobHandOver, act.Candidate, v.Store.Cluster.Failover.ModRevision
		fn = func(ctx context.Context) error { return a.handOver(ctx, v, act) }
	case election.CompareHistory:
		job.Kind, job.Detail = election.JobCompare, act.Leader
		fn = func(ctx context.Context) error { return a.compare(ctx, v, act.Leader) }
	case election.Rewind:
		job.Kind, job.Detail = election.JobRewind, act.Source
		fn = func(ctx context.Context) error { return a.rewind(ctx, v, act) }
	case election.Clone:
		job.Kind, job.Detail = election.JobClone, act.Source
		fn = func(ctx context.Context) error { return a.clone(ctx, v, act) }
	case election.RestartServer:
		job.Kind, job.Writable = election.JobRestart, v.Local.Role == election.RolePrimary
		fn = func(ctx context.Context) error { return a.restartServer(ctx, v, act) }
	default:
		a.log.Error("job not carried out", zap.Stringer("action", act))
		return
	}
	a.jobs.run(ctx, job, fn)
}

// setState names what a job makes the server do, for members/<name> and REST.
func (a *Agent) setState(s election.MemberState) {
	a.facts.with(func(f *facts) { f.state = s })
	a.poke()
}

// pollEvery is how often a job looks for what nobody reports (the startup answer, pg_control).
const pollEvery = 5 * time.Millisecond
