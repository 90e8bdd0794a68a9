package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// jobSlot holds the one long job that may run at a time.
type jobSlot struct {
	view election.Job
	t    *task
}

// failure is an error whose class is known where it arose.
type failure struct {
	class election.FailureClass
	what  string
}

func (f failure) Error() string { return f.what }

func (j *jobSlot) cancel(a *agent, why string) {
	if j.view.Kind == election.JobNone || j.view.Cancelling {
		return
	}
	j.view.Cancelling = true
	a.note("job %s called off: %s", j.view.Kind, why)
	j.t.cancel()
}

// runJob starts a job unless one runs. Its outcome becomes a fact.
func (a *agent) runJob(job election.Job, fn func(*task) error) {
	if a.job.view.Kind != election.JobNone {
		return
	}
	job.Since = a.now()
	a.job.view = job
	a.job.t = a.p.spawn(func(t *task) {
		err := fn(t)
		if a.w.recording {
			a.tell("job %s ends: %v", job.Kind, err)
		}
		if err != nil && a.now()-job.Since < actionRetry {
			t.shielded = true
			t.sleep(actionRetry)
		}
		res := election.JobResult{Kind: job.Kind, At: a.now(), For: job.For}
		if err != nil {
			res.Err, res.Class = err.Error(), election.ClassOther
			if f, ok := err.(failure); ok { //nolint:errorlint // failures are never wrapped here
				res.Class = f.class
			}
			if errors.Is(err, dcs.ErrUnavailable) || errors.Is(err, dcs.ErrUnknownOutcome) {
				res.Class = election.ClassStore
			}
			if t.cancelled {
				res.Class = election.ClassCanceled
			}
		}
		a.setResult(res)
		a.state = ""
		t.cancelled = false
		a.lookOnce(t)
		a.job.view = election.Job{}
		a.news.raise()
	})
}

func (a *agent) setResult(r election.JobResult) {
	a.results = slices.Clone(a.results) // decisions refer to the one before
	for i := range a.results {
		if a.results[i].Kind == r.Kind {
			if r.Err != "" {
				r.Failures = a.results[i].Failures + 1
			}
			a.results[i] = r
			return
		}
	}
	if r.Err != "" {
		r.Failures = 1
	}
	a.results = append(a.results, r)
	slices.SortFunc(a.results, func(x, y election.JobResult) int { return strings.Compare(string(x.Kind), string(y.Kind)) })
}

func (a *agent) forgetResults(kinds ...election.JobKind) {
	a.results = slices.DeleteFunc(slices.Clone(a.results), func(r election.JobResult) bool { return slices.Contains(kinds, r.Kind) })
}

func (a *agent) finishCommand(id uint64) {
	a.commands = slices.DeleteFunc(slices.Clone(a.commands), func(c election.Command) bool { return c.ID == id })
}

// startJob turns a long action into the running job.
func (a *agent) startJob(v *election.View, act election.Action) {
	job := election.Job{For: v.Store.Cluster.Leader.ModRevision}
	switch act := act.(type) {
	case election.Bootstrap:
		job.Kind, job.Detail = election.JobBootstrap, "initdb"
		a.runJob(job, func(t *task) error { return a.bootstrap(t, v) })
	case election.StartStandby:
		job.Kind = election.JobStart
		a.runJob(job, func(t *task) error { return a.startStandby(t, v, act.Upstream) })
	case election.StartPrimary:
		job.Kind, job.Writable = election.JobStart, true
		a.runJob(job, func(t *task) error { return a.startPrimary(t, v) })
	case election.Promote:
		job.Kind, job.Writable, job.For = election.JobPromote, true, v.Own.Revision
		a.runJob(job, func(t *task) error { return a.promote(t, v) })
	case election.Demote:
		job.Kind, job.Detail = election.JobDemote, act.Why
		a.runJob(job, func(t *task) error { return a.demote(t, v) })
	case election.StopServer:
		job.Kind = election.JobStop
		a.runJob(job, func(t *task) error { return a.stopServer(t, v, act) })
	case election.HandOver:
		job.Kind, job.Detail, job.For = election.JobHandOver, act.Candidate, v.Store.Cluster.Failover.ModRevision
		a.runJob(job, func(t *task) error { return a.handOver(t, v, act) })
	case election.CompareHistory:
		job.Kind, job.Detail = election.JobCompare, act.Leader
		a.runJob(job, func(t *task) error { return a.compare(t, v, act.Leader) })
	case election.Rewind:
		job.Kind, job.Detail = election.JobRewind, act.Source
		a.runJob(job, func(t *task) error { return a.rewind(t, v, act) })
	case election.Clone:
		job.Kind, job.Detail = election.JobClone, act.Source
		a.runJob(job, func(t *task) error { return a.clone(t, v, act) })
	case election.RestartServer:
		job.Kind, job.Writable = election.JobRestart, v.Local.Role == election.RolePrimary
		a.runJob(job, func(t *task) error { return a.restartServer(t, v, act) })
	default:
		a.w.fail("shell", a.n, "job not carried out: "+act.String())
	}
}

func (a *agent) setState(s election.MemberState) {
	a.state = s
	a.news.raise()
}

const (
	startPatience   = 5 * time.Second
	fastPatience    = 60 * time.Second
	immediateWait   = 500 * time.Millisecond
	killPatience    = 20 * time.Second
	promotePatience = 60 * time.Second
)

func (a *agent) startStandby(t *task, v *election.View, upstream string) error {
	a.setState(election.StateStarting)
	if err := a.writeFiles(v, upstream); err != nil {
		return err
	}
	err := a.launch(t, startSpec{upstream: upstream})
	if err != nil && a.n.pg.running() && a.n.pg.upstream != upstream {
		// A server that was started earlier runs, and has not read these files.
		a.upstream, a.n.upstream = "", ""
	}
	return err
}

func (a *agent) startPrimary(t *task, v *election.View) error {
	a.setState(election.StateStarting)
	if err := a.writeFiles(v, ""); err != nil {
		return err
	}
	a.keepWaiting(v)
	a.released(a.own.Revision)
	epoch, err := a.ensureArmed(t)
	if err != nil {
		return err
	}
	return a.launch(t, startSpec{primary: true, epoch: epoch})
}

// launch starts the postmaster and waits until it accepts connections, exits, or has been given
// the usual time.
func (a *agent) launch(t *task, spec startSpec) error {
	if err := a.startServer(t, spec); err != nil {
		return err
	}
	limit := a.now() + startPatience
	for a.now() < limit {
		if a.isDown() {
			return failure{election.ClassEnv, "the server exited at its start"}
		}
		if s := a.n.pg.state; (s == srvPrimary || s == srvStandby) && !a.n.pg.halted() {
			return nil
		}
		if !t.sleep(pollEvery) {
			return errNot("called off")
		}
	}
	return nil
}

// promote arms the fencer, promotes, and returns when the server is a primary.
func (a *agent) promote(t *task, v *election.View) error {
	if err := a.loadSync(t, v); err != nil {
		return err
	}
	a.released(a.own.Revision)
	epoch, err := a.ensureArmed(t)
	if err != nil {
		return err
	}
	if a.w.cfg.PrePromote > 0 && !t.sleep(a.w.tail(0, a.w.cfg.PrePromote)) {
		return errNot("called off")
	}
	burnt := a.reserved
	if r := a.cluster.Reign; r.Holder == a.n.name {
		burnt = max(burnt, r.NextTimeline)
	}
	if a.w.bug(BugTwinTimelines) || a.w.bug(BugSameTimelineNumber) {
		burnt = 0
	}
	if err := a.fence(t, func(f *fencer) error { return f.promote(epoch, burnt) }); err != nil {
		return err
	}
	limit := a.now() + promotePatience
	for a.n.pg.state != srvPrimary || a.n.pg.halted() {
		if a.isDown() {
			return errNot("promote: the server exited")
		}
		if a.now() > limit {
			return errNot("promote: recovery does not end")
		}
		if !t.sleep(pollEvery) {
			return errNot("called off")
		}
	}
	a.lookOnce(t)
	a.publish()
	return nil
}

// demote silences the server: the immediate way first, then by force.
func (a *agent) demote(t *task, v *election.View) error {
	a.setUntil(0)
	a.setState(election.StateStopping)
	t.shielded = true
	if a.w.bug(BugForgetBeforeDown) {
		a.drop(t)
	}
	_ = a.fence(t, func(f *fencer) error { f.n.pg.stopImmediate(); return nil })
	wait := immediateWait
	if v.Own.Held() {
		wait = max(0, min(wait, v.Policy.Margin/3))
	}
	if !a.waitDown(t, wait) {
		if err := a.killServer(t, killPatience); err != nil {
			return err
		}
		if !a.waitDown(t, killPatience) {
			return errNot("demote: the server is not down")
		}
	}
	a.drop(t)
	return nil
}

// stopServer shuts the server down and, if asked, gives the leader key up with a record.
func (a *agent) stopServer(t *task, v *election.View, act election.StopServer) error {
	a.setUntil(0)
	a.setState(election.StateStopping)
	if a.w.bug(BugReleaseRunning) && act.ReleaseAfter {
		_ = a.release(t, "server stopped")
	}
	if act.Fast && v.Local.Role == election.RolePrimary && v.Local.Server == election.ServerRunning {
		a.checkpointFirst(t)
	}
	if err := a.shutdown(t, act.Fast); err != nil {
		return err
	}
	if !act.ReleaseAfter {
		return nil
	}
	return a.release(t, "server stopped")
}

func (a *agent) checkpointFirst(t *task) {
	t.sleep(a.w.tail(10*time.Millisecond, time.Second))
	a.n.pg.checkpoint()
}

// shutdown goes down the ladder: fast, immediate, kill. It returns when no process is left.
func (a *agent) shutdown(t *task, fast bool) error {
	if a.isDown() {
		return nil
	}
	if fast {
		if err := a.fence(t, func(f *fencer) error { f.n.pg.stopFast(); return nil }); err != nil {
			return err
		}
		if a.waitDown(t, fastPatience) {
			return nil
		}
		if t.called() {
			return errNot("called off")
		}
	}
	if err := a.fence(t, func(f *fencer) error { f.n.pg.stopImmediate(); return nil }); err != nil {
		return err
	}
	if a.waitDown(t, 5*time.Second) {
		return nil
	}
	if t.called() {
		return errNot("called off")
	}
	if err := a.killServer(t, killPatience); err != nil {
		return err
	}
	if !a.waitDown(t, killPatience) {
		return errNot("the server is not down")
	}
	return nil
}

// restartServer stops the server and starts it again in the role it has.
func (a *agent) restartServer(t *task, v *election.View, act election.RestartServer) error {
	err := a.restartSteps(t, v, v.Local.Role == election.RolePrimary)
	a.finishCommand(act.Command)
	return err
}

func (a *agent) restartSteps(t *task, v *election.View, primary bool) error {
	a.setUntil(0)
	if primary {
		a.checkpointFirst(t)
	}
	a.setState(election.StateRestarting)
	if err := a.shutdown(t, true); err != nil {
		return err
	}
	if primary {
		return a.startPrimary(t, v)
	}
	return a.startStandby(t, v, a.upstream)
}
