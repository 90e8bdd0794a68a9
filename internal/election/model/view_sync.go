package model

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// setting as the core names it.
func (g setting) election() election.SyncSetting {
	if g.wait == 0 {
		return election.SyncSetting{}
	}
	return election.SyncSetting{Any: g.anyOf != 0, Wait: int(g.wait), Names: namesOf(g.mask)}
}

func packSetting(g election.SyncSetting) setting {
	return setting{anyOf: flag(g.Any), wait: uint8(g.Wait), mask: maskOf(g.Names)}
}

// viewSync adds what belongs to the synchronous modes.
func (w *world) viewSync(k *viewKey, l *election.Local) {
	l.Sync = election.LocalSync{Known: true, Setting: k.now.election(), InForce: k.inForce != 0, Barrier: lsnOf(k.barrier)}
	if k.changing.phase != 0 && w.cfg.Bug != BugSettingsOverlap {
		// While another setting is on its way nothing is known: it may be the one in force at any moment.
		l.Sync.Known, l.Sync.InForce = k.changing.phase == 2 || k.changing.next == k.now, false
	}
	for j, data := range k.copies {
		if data != 0 {
			l.Sync.Copies = append(l.Sync.Copies, election.Voter{Name: nameOf(j), Data: dataID(j, data)})
		}
	}
	f := k.frz
	if f.recorded == 0 {
		return
	}
	l.Freeze = election.Freeze{
		Recorded: true, Epoch: uint64(f.epoch), LeaderRevision: int64(f.rev), Proven: f.proven != 0, RestoreOff: f.restoreOff != 0,
		VoteSent: k.voteSent != 0, Since: worldNow - 100*time.Millisecond,
	}
	if f.old != 0 {
		l.Freeze.Since = worldNow - 5*time.Second
	}
	if f.proven != 0 {
		l.Freeze.Timeline, l.Freeze.LSN = election.Timeline(k.tip), lsnOf(k.whole)
	}
}

// viewContact says whether the leader was heard of late.
func (w *world) viewContact(k *viewKey, v *election.View) {
	if !w.sync() {
		return
	}
	rev := v.Store.Cluster.Reign.ModRevision
	v.Contact = election.Contact{Revision: rev, HeardAt: worldNow - 50*time.Millisecond}
	if k.lost != 0 && int64(k.lost) == rev {
		v.Contact.HeardAt, v.Contact.Silent = worldNow-10*time.Second, 10
	}
}
