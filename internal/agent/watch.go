package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// watchStore turns what the store delivers into facts. It waits until it is settled whether the
// fencer's token is a title, so that no decision is made about a running primary before.
func (a *Agent) watchStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.keeper.settled:
	}
	checked := false
	for u := range a.store.Watch(ctx) {
		if u.Err != nil {
			a.storeTrouble(u.Err)
			continue
		}
		if !checked {
			if err := a.refuseNamesake(ctx, u.Snapshot); err != nil {
				return err
			}
			checked = true
		}
		a.takeSnapshot(u.Snapshot, u.Vanished)
		a.poke()
	}
	return ctx.Err()
}

// ErrNamesake says that another agent of the same name is alive (row H-002). Two of them would take each
// other's keys for their own.
var ErrNamesake = errors.New("another member of this name is running")

// refuseNamesake asks the address that members/<own name> shows. An answer by this very process, or
// silence, is in order; an answer by anybody else is not.
func (a *Agent) refuseNamesake(ctx context.Context, s dcs.Snapshot) error {
	seen := dcs.Decode(s)
	m, ok := seen.Member(a.name())
	if !ok || m.APIURL == "" || m.Incarnation == a.opt.Incarnation {
		return nil
	}
	pctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	st, err := a.peers.Peer(pctx, m.APIURL)
	if err != nil || st.Pgha.Incarnation == a.opt.Incarnation || st.Name != "" && st.Name != a.name() {
		return nil // whoever it was is gone
	}
	return fmt.Errorf("%w: %s answers at %s; give this one another name, or stop that one", ErrNamesake, a.name(), m.APIURL)
}

// takeSnapshot makes a snapshot the present one.
func (a *Agent) takeSnapshot(s dcs.Snapshot, vanished []dcs.KV) {
	c := dcs.Decode(s)
	now := Now()
	var look, dynamicChanged bool
	a.facts.with(func(f *facts) {
		before := f.cluster
		if s.Revision < f.snapshot.Revision {
			// The watch delivers in order, so a store that goes back was restored from a copy.
			before.ClusterID = s.ClusterID + 1
			a.log.Error("the consensus store went back in time: it was restored or replaced",
				zap.Int64("revision", s.Revision), zap.Int64("was", f.snapshot.Revision))
		}
		f.snapshot, f.cluster = s, c
		if before.Failover.ModRevision != c.Failover.ModRevision {
			f.failoverAt = now
		}
		f.freshAt, f.storeErr = now, ""
		if !f.seen {
			f.seen, f.seenAt = true, now
		}
		f.vacancy = vacancyAfter(f.vacancy, before, c, vanished, now)
		look = before.Leader != c.Leader || before.Failover != c.Failover
		if c.ConfigRev != before.ConfigRev {
			dynamicChanged = f.takeDynamic(s, a.log)
		}
	})
	a.race.moved(c.Reign.ModRevision)
	a.contact.poke()
	a.refreshLeaderUntil()
	if look {
		a.lookNow()
		a.keeper.now()
	}
	if dynamicChanged {
		a.keeper.now()
	}
}

// vacancyAfter follows the leader key's absence from one snapshot to the next.
func vacancyAfter(v election.Vacancy, before, after election.Cluster, vanished []dcs.KV, now election.Instant) election.Vacancy {
	if after.Leader.Present {
		return election.Vacancy{}
	}
	gone := election.Vacancy{Since: now}
	switch {
	case before.ClusterID != 0 && before.ClusterID != after.ClusterID:
		// Another store than before: whatever it says about old leases means nothing.
		gone.Replaced = true
		return gone
	case before.Leader.Present:
		gone.Revision, gone.Lease = before.Leader.ModRevision, before.Leader.Lease
	case v.Since != 0:
		gone = v
	case after.Reign.Lease != 0: // v is the zero value: this is the first look
		// Gone before this agent looked: the last reign tells which lease it hung on.
		gone.Lease = after.Reign.Lease
	}
	// The store's own word about what was deleted is newer than the last snapshot: the key may have
	// come and gone in between, or hung on another lease at its end. If the store does not know any
	// more (its history is compacted), the last value seen must not be believed either.
	for _, kv := range vanished {
		switch {
		case kv.Key != dcs.KeyLeader:
		case kv.ModRevision == 0:
			gone = election.Vacancy{Since: now, Replaced: true}
		case kv.ModRevision > gone.Revision:
			gone = election.Vacancy{Since: now, Revision: kv.ModRevision, Lease: kv.Lease}
		}
	}
	return gone
}

// takeDynamic reads the dynamic configuration; a version that cannot be used leaves the old one
// in force (row C-008).
func (f *facts) takeDynamic(s dcs.Snapshot, log *zap.Logger) bool {
	kv, ok := s.Get(dcs.KeyConfig)
	if !ok {
		return false
	}
	d, warnings, err := config.ParseDynamic(kv.Value)
	if err != nil {
		log.Error("dynamic configuration rejected, the old one stays", zap.Error(err))
		return false
	}
	for _, w := range warnings {
		log.Warn("dynamic configuration", zap.String("warning", w.String()))
	}
	for _, s := range unsupportedDynamic(d) {
		log.Warn("setting that this version does not honour", zap.String("setting", s))
	}
	if f.dynamic.Pause && !d.Pause {
		f.resumedAt = Now()
	}
	f.configure(f.cfg, d)
	f.rawConfig = kv.Value
	return true
}

// heard notes that the store answered.
func (a *Agent) heard() {
	a.facts.with(func(f *facts) { f.freshAt, f.storeErr = Now(), "" })
}

// storeTrouble notes and logs that the store does not answer, once per kind of message.
func (a *Agent) storeTrouble(err error) {
	changed := false
	a.facts.with(func(f *facts) {
		if f.storeErr != err.Error() {
			f.storeErr, changed = err.Error(), true
		}
	})
	if changed {
		a.log.Warn("consensus store", zap.Error(err))
	}
}

// contradicted takes up what a proof read of the leader key showed, which may be newer than the
// watch: the title that the proof was for must not outlive it. A title won since then is another's matter.
func (a *Agent) contradicted(p dcs.Proof, revision int64) {
	own, _ := a.keeper.title()
	margin := a.margin()
	a.facts.with(func(f *facts) {
		if p.Revision <= f.cluster.Revision {
			return
		}
		leader := election.Leader{}
		if p.Present {
			leader = dcs.DecodeLeader(p.Leader)
		}
		f.cluster.Revision, f.cluster.Leader = p.Revision, leader
		if p.Present || own.Revision != revision || Now() >= own.Promised+own.TTL-2*margin {
			f.contradictedRev = revision // a key that is merely gone is put back while promises hold
		}
		if !p.Present && f.vacancy.Since == 0 {
			f.vacancy = election.Vacancy{Since: Now()}
		}
	})
	a.refreshLeaderUntil()
	a.poke()
}

func (a *Agent) reign() election.Reign {
	var r election.Reign
	a.facts.with(func(f *facts) { r = f.cluster.Reign })
	return r
}

func (a *Agent) name() string {
	var n string
	a.facts.with(func(f *facts) { n = f.cfg.Name })
	return n
}

// Paused says that the cluster is paused as far as this agent knows.
func (a *Agent) Paused() bool { return a.paused() }

func (a *Agent) paused() bool {
	var p bool
	a.facts.with(func(f *facts) { p = f.dynamic.Pause })
	return p
}

func (a *Agent) ttl() time.Duration {
	var d time.Duration
	a.facts.with(func(f *facts) { d = f.dynamic.TTL })
	return d
}

func (a *Agent) margin() time.Duration {
	var d time.Duration
	a.facts.with(func(f *facts) { d = config.Margin(f.dynamic.TTL, f.cfg.Pgha.SafetyMargin) })
	return d
}

// offering says that this member, which does not lead, has offered its lease for a hand-over: the key may
// come to hang on it at any moment, so it is not exchanged for another.
func (a *Agent) offering() bool {
	if own, _ := a.keeper.title(); own.Held() {
		return false
	}
	var offered bool
	a.facts.with(func(f *facts) { _, offered = f.cluster.Offer(f.cfg.Name) })
	return offered
}
