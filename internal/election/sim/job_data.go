package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// claimBootstrap tries to become the one who makes the cluster.
func (a *agent) claimBootstrap(t *task, v *election.View, reclaim bool) error {
	lease, sent, ttl, err := a.freshLease(t)
	if err != nil {
		return err
	}
	txn := dcs.BootstrapClaim(v.Self.Name, a.inc, lease)
	if reclaim {
		txn = dcs.BootstrapReclaim(v.Self.Name, a.inc, lease, v.Store.Cluster.Initialize)
	}
	res, err := a.store.apply(t, storeCall, txn)
	if err != nil {
		return err
	}
	if !res.Done {
		return errNot("another member makes the cluster")
	}
	return a.take(t, election.Own{Revision: res.Revision, Lease: lease, Sent: sent, TTL: ttl}, true)
}

// bootstrap makes the first cluster.
func (a *agent) bootstrap(t *task, v *election.View) error {
	a.setState(election.StateInitializing)
	for a.underway(claimKey) && !(a.claim && a.own.Held()) {
		if !t.sleep(pollEvery) {
			return errNot("called off")
		}
	}
	if !a.claim || !a.own.Held() {
		if _, err := a.store.apply(t, storeCall, dcs.BootstrapCancel(v.Store.Cluster.Initialize.ModRevision)); err != nil {
			return err
		}
		return errNot("the claim was made by an earlier life of this agent")
	}
	claim := a.own.Revision
	err := a.bootstrapSteps(t, v, claim)
	if err != nil {
		t.shielded = true
		for limit := a.now() + killPatience; a.shutdown(t, false) != nil; t.sleep(fencerRetry) {
			if a.now() > limit {
				return err
			}
		}
		a.drop(t)
		_, _ = a.store.apply(t, storeCall, dcs.BootstrapCancel(claim))
	}
	return err
}

func (a *agent) bootstrapSteps(t *task, v *election.View, claim int64) error {
	n := a.n
	if n.disk.kind == election.DataPartial {
		n.moveAside()
	}
	n.disk = disk{kind: election.DataPartial}
	if !t.sleep(a.w.between(500*time.Millisecond, 3*time.Second) + n.slowDisk()) {
		return errNot("called off")
	}
	n.disk = disk{kind: election.DataPartial, system: a.w.newSystem(), data: a.w.newData(), tl: 1, ctl: control{state: shutDown, tl: 1}}
	n.newestTL = 1
	n.disk.append(a.w.newRecord(1, 0, 20_000_000))
	n.disk.ctl.checkpoint, n.disk.ctl.end = n.disk.end(), n.disk.end()
	epoch, err := a.ensureArmed(t)
	if err != nil {
		return err
	}
	if err := a.startServer(t, startSpec{primary: true, epoch: epoch, local: true}); err != nil {
		return err
	}
	for n.pg.state != srvPrimary {
		if a.isDown() {
			return errNot("the server exited")
		}
		if !t.sleep(pollEvery) {
			return errNot("called off")
		}
	}
	if err := a.shutdown(t, true); err != nil {
		return err
	}
	n.disk.made = true
	return a.finishBootstrap(t, v, claim)
}

func (a *agent) finishBootstrap(t *task, v *election.View, claim int64) error {
	n := a.n
	lease, sent, ttl, err := a.freshLease(t)
	if err != nil {
		return err
	}
	reign := election.Reign{Epoch: a.cluster.Reign.Epoch + 1, Holder: n.name, NextTimeline: 1, Lease: lease}
	res, err := a.store.apply(t, storeCall, dcs.BootstrapFinish(dcs.FinishSpec{
		Self: v.Self.Name, Lease: lease, Claim: claim, SystemID: n.disk.system,
		Config: a.set.encode(), ConfigRevision: a.cluster.ConfigRev, Seen: a.cluster, Reign: reign,
	}))
	if errors.Is(err, dcs.ErrUnknownOutcome) && !a.w.bug(BugBootstrapUnknown) {
		return a.resolveFinish(t, claim)
	}
	if err != nil {
		return err
	}
	if !res.Done {
		return errNot("somebody else took the bootstrap over meanwhile")
	}
	n.disk.kind = election.DataCluster
	a.note("initialized a new cluster")
	if !a.sureOf(res.RaftTerm) {
		a.own, a.claim = election.Own{}, false
		return nil
	}
	return a.take(t, election.Own{Revision: res.Revision, Lease: lease, Epoch: reign.Epoch, Sent: sent, TTL: ttl}, false)
}

// resolveFinish finds out whether the new cluster was published. A read would not do, because the
// request may still be on its way: the claim is taken back, which is refused exactly if it was
// carried out. Then the leader key hangs on the own lease, and the rules take it up.
func (a *agent) resolveFinish(t *task, claim int64) error {
	for {
		res, err := a.store.apply(t, storeCall, dcs.BootstrapCancel(claim))
		if err == nil && res.Done {
			return errNot("the new cluster was not published")
		}
		var c election.Cluster
		if err == nil {
			err = a.store.call(t, storeCall, false, func() error {
				c = *a.w.store.decoded()
				return nil
			})
		}
		switch {
		case err == nil && c.Initialize.SystemID == a.n.disk.system:
			a.n.disk.kind = election.DataCluster
			a.own, a.claim = election.Own{}, false
			a.note("initialized a new cluster after all")
			return nil
		case err == nil:
			return errNot("the new cluster was not published")
		}
		if !t.sleep(100 * time.Millisecond) {
			return errNot("called off")
		}
	}
}

// moveAside keeps the directory under another name; the newest two are kept.
func (n *node) moveAside() {
	if n.disk.kind != election.DataEmpty {
		n.asides = append(n.asides, n.disk)
		if len(n.asides) > 2 {
			n.asides = n.asides[len(n.asides)-2:]
		}
	}
	n.disk = disk{kind: election.DataEmpty}
}

// source is a member's server as a source to read from, if it can be reached and serves.
func (a *agent) source(name string) (*node, bool) {
	n := a.w.node(name)
	if n == nil || n == a.n || !n.power || n.pg.halted() || !a.w.net.both(a.n.index, n.index) {
		return nil, false
	}
	ok := n.pg.state == srvPrimary && !n.pg.local || n.pg.state == srvStandby
	return n, ok
}

// compare finds out how the local history stands to the leader's.
func (a *agent) compare(t *task, v *election.View, leader string) error {
	if !t.sleep(a.w.tail(20*time.Millisecond, 3*time.Second)) {
		return errNot("called off")
	}
	src, ok := a.source(leader)
	if !ok {
		return failure{election.ClassPeer, "compare: " + leader + " cannot be asked"}
	}
	verdict, lost := compare(&a.n.disk, &src.disk, src.pg.state == srvStandby, !a.w.bug(BugSameTimelineNumber))
	if a.w.bug(BugSameTimelineNumber) && a.n.disk.tl == src.disk.tl {
		verdict = election.DivergenceNone
	}
	a.note("history compared with %s: verdict %d, %d bytes beyond the fork", leader, verdict, lost)
	a.local.Divergence, a.local.DivergenceFor = verdict, v.Store.Cluster.Leader.ModRevision
	a.local.DivergenceDetail, a.local.LostBytes = fmt.Sprintf("verdict %d", verdict), uint64(lost)
	return nil
}

// stillDestructive looks again right before data is touched: the store itself, because what the
// watch last said may be old.
func (a *agent) stillDestructive(t *task, v *election.View) error {
	if a.own.Held() && !a.claim {
		return errNot("this member holds the leader key now")
	}
	if a.w.bug(BugCloneOnGuess) {
		return nil
	}
	rev := a.cluster.Leader.ModRevision
	if !a.w.bug(BugStaleSource) {
		p, err := a.store.prove(t, storeCall)
		if err != nil {
			return err
		}
		rev = p.Leader.ModRevision
	}
	if rev == 0 || rev != v.Store.Cluster.Leader.ModRevision {
		return errNot("the leader changed since this was decided")
	}
	return nil
}

// copyFrom waits while data is copied, as long as the source can be reached.
func (a *agent) copyFrom(t *task, name string, pid int, took time.Duration) error {
	for end := a.now() + took; a.now() < end; {
		if !t.sleep(min(500*time.Millisecond, end-a.now())) {
			return errNot("called off")
		}
		if src, ok := a.source(name); !ok || src.pg.pid != pid {
			return failure{election.ClassPeer, "the source " + name + " is gone"}
		}
		if a.w.now < a.n.fullUntil {
			return failure{election.ClassEnv, "no space left on device"}
		}
	}
	return nil
}

// rewind brings the directory back to the leader's history.
func (a *agent) rewind(t *task, v *election.View, act election.Rewind) error {
	if err := a.shutdown(t, true); err != nil {
		return err
	}
	if err := a.stillDestructive(t, v); err != nil {
		return err
	}
	if err := a.voidVote(t); err != nil {
		return err
	}
	a.setState(election.StateCreating)
	src, ok := a.source(act.Source)
	if !ok || src.pg.state != srvPrimary {
		return failure{election.ClassPeer, "rewind: the source does not serve"}
	}
	pid := src.pg.pid
	if a.w.chance(a.w.cfg.RewindFails) {
		return failure{election.ClassData, "rewind: could not find a common checkpoint"}
	}
	a.w.checks.destroy(a.n, src, "rewind")
	a.n.disk.kind = election.DataPartial
	if !a.w.bug(BugKeepData) {
		a.n.disk.data = ""
	}
	a.n.disk.made = false
	if err := a.copyFrom(t, act.Source, pid, a.w.between(200*time.Millisecond, a.w.cfg.CopyTime)); err != nil {
		return err
	}
	a.takeCopy(src)
	a.local.Divergence = election.DivergenceNone
	a.forgetResults(election.JobStart, election.JobCompare)
	a.note("rewound to timeline %d at %s", a.n.disk.tl, a.n.disk.end())
	return nil
}

// takeCopy makes the own directory a copy of another: data of a name of its own, which has no vote that
// the data before had.
func (a *agent) takeCopy(src *node) {
	d := copyOf(&src.disk)
	d.data = a.w.newData()
	if a.w.bug(BugKeepData) && a.n.disk.data != "" {
		d.data = a.n.disk.data
	}
	a.n.disk = d
	a.n.newestTL = src.newestTL
}

// clone replaces the directory by a copy of the source. What was there is moved aside.
func (a *agent) clone(t *task, v *election.View, act election.Clone) error {
	err := a.cloneSteps(t, v, act)
	for _, c := range a.commands {
		if c.Kind == election.CommandReinit {
			a.finishCommand(c.ID)
			break
		}
	}
	return err
}

func (a *agent) cloneSteps(t *task, v *election.View, act election.Clone) error {
	a.setState(election.StateCreating)
	if err := a.shutdown(t, true); err != nil {
		return err
	}
	if err := a.stillDestructive(t, v); err != nil {
		return err
	}
	if err := a.voidVote(t); err != nil {
		return err
	}
	src, ok := a.source(act.Source)
	if !ok && !a.w.bug(BugStaleSource) {
		return failure{election.ClassPeer, "clone: the source does not serve"}
	}
	if src != nil {
		a.w.checks.destroy(a.n, src, "clone")
	}
	data := a.n.disk.data
	a.n.moveAside()
	if a.w.bug(BugKeepData) {
		a.n.disk.data = data
	}
	a.upstream, a.n.upstream = "", ""
	if !ok {
		return failure{election.ClassPeer, "clone: the source does not serve"}
	}
	pid := src.pg.pid
	a.n.disk.kind = election.DataPartial
	if err := a.copyFrom(t, act.Source, pid, a.w.between(500*time.Millisecond, a.w.cfg.CopyTime)); err != nil {
		return err
	}
	a.takeCopy(src)
	a.n.sync = syncFiles{gen: a.n.sync.gen + 1}
	a.local.Divergence, a.local.DivergenceFor = election.DivergenceNone, v.Store.Cluster.Leader.ModRevision
	a.forgetResults(election.JobStart, election.JobCompare, election.JobRewind)
	a.note("cloned from %s: timeline %d at %s", act.Source, a.n.disk.tl, a.n.disk.end())
	return a.startStandby(t, v, act.Source)
}
