package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// syncProof is the last proof that a setting is in force. It holds for one life of the server and one
// version of the files.
type syncProof struct {
	pid, gen int
	barrier  election.LSN
	copies   []election.Voter
}

// managed says that synchronous_standby_names is pgha's.
func (a *agent) managed() bool { return a.set.Mode != election.SyncOff || a.cluster.Sync.Active() }

// setSync makes a setting the one in force, and proves it as far as that is possible in the time given.
// What is not proven is asked for again.
func (a *agent) setSync(t *task, setting election.SyncSetting) error {
	copies := election.CopiesNamed(setting, a.cluster)
	t.sleep(a.w.between(time.Millisecond, 20*time.Millisecond))
	// What was seen before says nothing any more, whatever comes of this.
	defer func() { a.local.Sync.Known, a.local.Sync.InForce = false, false; a.look.raise() }()
	if err := a.loadFiles(t, setting); err != nil {
		return err
	}
	pg := &a.n.pg
	pid, gen := pg.pid, a.n.sync.gen
	for limit := a.now() + 2*time.Second; ; {
		switch {
		case pg.pid != pid || a.n.sync.gen != gen || !pg.running():
			return errNot("the server or its files changed meanwhile")
		case pg.state == srvStandby && pg.sync.gen == gen:
			return nil
		case pg.state == srvPrimary && !pg.halted() && (pg.proven() || a.w.bug(BugShowIsInForce) && pg.master.gen == gen):
			a.proof = syncProof{pid, gen, a.n.disk.end(), copies}
			a.note("synchronous standbys in force: %s, barrier %s", setting, a.proof.barrier)
			return nil
		}
		if a.now() > limit || !t.sleep(20*time.Millisecond) {
			return nil // not proven; it is asked for again
		}
	}
}

// voidVote makes sure that no vote that this member cast earlier can arrive any more, before its copy of
// the data is replaced: it would count for a copy that is gone.
func (a *agent) voidVote(t *task) error {
	if !a.cluster.Sync.Active() || a.w.bug(BugKeepData) {
		return nil
	}
	var vote election.Vote
	err := a.store.call(t, storeCall, false, func() error {
		vote, _ = a.w.store.decoded().Vote(a.n.name)
		return nil
	})
	if err != nil {
		return err
	}
	res, err := a.store.apply(t, storeCall, dcs.WithdrawVote(a.n.name, vote.ModRevision, 0))
	if err == nil && !res.Done {
		err = errNot("void the own vote: it changed meanwhile")
	}
	if err == nil {
		a.freeze.VoteSent = false
	}
	return err
}

// loadFiles writes the setting and has the server read it. A reload that comes late finds what the files say
// by then.
func (a *agent) loadFiles(t *task, setting election.SyncSetting) error {
	a.n.writeSync(setting)
	return a.reload(t)
}

// reload has the server read its files again; one that failed is owed.
func (a *agent) reload(t *task) error {
	a.reloadOwed = true
	err := a.fence(t, func(f *fencer) error {
		f.n.pg.reload()
		return nil
	})
	a.reloadOwed = err != nil
	return err
}

// tendServer makes up for a reload that did not reach the server.
func (a *agent) tendServer() {
	if a.reloadOwed && a.guard.connected && a.guard.pid != 0 {
		a.once("reload again", a.reload)
	}
}

// loadSync is what a standby needs right before it is promoted: the setting, taken over by what makes
// commits wait.
func (a *agent) loadSync(t *task, v *election.View) error {
	if !a.managed() || v.Store.Cluster.Initialize.State != election.BootstrapDone {
		return nil
	}
	// What was decided on may be older than the takeover that made this member the leader.
	for a.cluster.Revision < a.own.Revision {
		if !a.own.Held() || !t.sleep(pollEvery) {
			return errNot("called off")
		}
	}
	setting := election.SyncForPromotion(*a.view())
	a.spare = nil
	if a.w.bug(BugPromoteAlone) {
		setting = election.SyncSetting{}
	}
	pg := &a.n.pg
	prepared := pg.sync.setting.Wait > 0 // from one that is not empty to another nothing goes unconfirmed
	if err := a.loadFiles(t, setting); err != nil {
		return err
	}
	ready := func() bool { return setting.Wait == 0 || prepared || pg.sync.gen == a.n.sync.gen }
	for limit := a.now() + 10*time.Second; !ready(); {
		if a.now() > limit || !t.sleep(pollEvery) {
			return errNot("promote: synchronous standbys not taken over by the server")
		}
	}
	return nil
}

// keepWaiting: a primary whose configuration has lost its synchronous standbys does not start with
// commits that wait for nobody while the published electorate says that they do.
func (a *agent) keepWaiting(v *election.View) {
	s := v.Store.Cluster.Sync
	if !a.managed() || s.Leader != v.Self.Name || a.n.sync.setting.Wait > 0 {
		return
	}
	if want := election.PublishedSetting(s, a.set.Mode); want.Wait > 0 {
		a.n.writeSync(want)
	}
}

// writeSync writes or removes the sync key. From the sending on until the snapshot shows another, the
// key may change any moment.
func (a *agent) writeSync(v *election.View, key string, e *election.Electorate, text func(own, over int64) dcs.Txn) {
	over := v.Store.Cluster.Sync.ModRevision
	if a.awaitsEcho(key, v.Store.Cluster.Revision) || a.underway(key) {
		return
	}
	txn := text(v.Own.Revision, over)
	fresh := !a.syncWrite.Sent || a.syncWrite.Over != over
	a.syncWrite = election.SyncWrite{Sent: true, Over: over}
	if e != nil && len(e.Sets) > 0 {
		a.sentSync = e
		a.refreshUntil()
	}
	a.onceApart(key, func(t *task) error {
		res, err := a.store.apply(t, storeCall, txn)
		lost := errors.Is(err, dcs.ErrUnavailable) || err == nil && !res.Done
		// A try over the same revision that came before may be why this one was refused, or still arrive.
		if (lost && fresh || err != nil && a.w.bug(BugSyncUnknown)) && a.syncWrite.Over == over {
			a.syncWrite = election.SyncWrite{}
		}
		if err != nil {
			return err
		}
		if !res.Done {
			return errNot("somebody else changed it at the same time")
		}
		a.echo = append(a.echo, echoed{key, res.Revision, a.now()})
		return nil
	})
}

// lookSync adds to a look at the server what synchronous replication needs.
func (a *agent) lookSync(l *election.Local) {
	d, pg := &a.n.disk, &a.n.pg
	if l.Data == election.DataCluster {
		l.DataID = d.data
	}
	if l.Server != election.ServerRunning {
		return
	}
	l.Sync = election.LocalSync{Known: true, Setting: a.n.sync.setting}
	if p := a.proof; pg.state == srvPrimary && p.pid == pg.pid && p.gen == a.n.sync.gen && p.barrier != 0 {
		l.Sync.InForce, l.Sync.Barrier, l.Sync.Copies = true, p.barrier, p.copies
	}
	if pg.state != srvPrimary {
		a.streamed = nil
		return
	}
	next := slices.Clone(a.streamed) // decisions refer to the one before
	for i := range l.Walsenders {
		name := l.Walsenders[i].Name
		i, there := slices.BinarySearchFunc(next, name, func(s election.Streamed, name string) int { return strings.Compare(s.Name, name) })
		if !there {
			next = slices.Insert(next, i, election.Streamed{Name: name})
		}
		next[i].At = a.now()
	}
	a.streamed = next
	l.Streamed = a.streamed
}

// reached counts the standbys of the setting whose log goes beyond its barrier.
func reached(l *election.Local) int {
	n := 0
	for _, w := range l.Walsenders {
		if l.Sync.InForce && w.LSN >= l.Sync.Barrier && slices.Contains(l.Sync.Setting.Names, w.Name) {
			n++
		}
	}
	return n
}

// syncDiffers says whether a decision about synchronous replication could come out otherwise.
func syncDiffers(a, b *election.Local) bool {
	return a.Sync.Known != b.Sync.Known || a.Sync.InForce != b.Sync.InForce || a.Sync.Barrier != b.Sync.Barrier ||
		!a.Sync.Setting.Equal(b.Sync.Setting) || a.DataID != b.DataID || reached(a) != reached(b)
}
