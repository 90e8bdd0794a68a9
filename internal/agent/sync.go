package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// syncFacts is what is known of synchronous replication of the own server, beyond what it says itself.
type syncFacts struct {
	gate gate
	// notBefore is when this member, which took over by votes, may first show itself as the leader: by
	// then the one it replaced has stopped doing so (safety review, hole 12).
	notBefore election.Instant
	// changing is the setting that was decided on last, while that change has not ended yet.
	changing *election.SyncSetting
	// endedAt is when the last change ended, whatever came of it: a look that began before may have seen
	// the setting that it replaced.
	endedAt election.Instant
	// copies are the standbys of the setting that was last proven, with the copies of the data that they
	// had before the barrier was read.
	copies []election.Voter
	// prepared is the life of the standby that is known to have loaded a setting that is not empty.
	prepared serverLife
	// unsure: such a takeover was sent, and it is not known whether it was carried out.
	unsure bool
}

// takenFromLive notes that the leader key was taken, or may have been, from a leader that may live, and
// so go on showing itself for a while; vacant: the key was gone by then.
func (f *facts) takenFromLive(known, vacant bool) {
	f.sync.unsure = !known
	if known {
		f.sync.notBefore = election.ShownFrom(Now(), f.silence(), vacant)
	}
}

// adopted settles a takeover whose outcome was not known: the key is this member's. How it was taken is
// not remembered, so the longer time counts.
func (f *facts) adopted() {
	if f.sync.unsure {
		f.takenFromLive(true, true)
	}
}

// managed says that synchronous_standby_names is pgha's and not the user's: a synchronous mode is
// configured, or was and its sync key still stands. Until that key is known to be gone, nothing may
// empty the setting.
func managed(mode election.SyncMode, published election.SyncState) bool {
	return mode != election.SyncOff || published.Active()
}

// managed is that by the newest facts.
func (f *facts) managed() bool {
	return f.dynamic.SynchronousMode != config.SyncOff || f.cluster.Sync.Active()
}

// The short actions that change synchronous_standby_names.
const (
	setSyncKey     = "set synchronous standbys"
	prepareSyncKey = "prepare synchronous standbys"
)

// changeSync begins to make a setting of synchronous_standby_names the one in force. From now until that has
// ended nothing counts as in force: what is published meanwhile must cover the old setting and the new one.
func (a *Agent) changeSync(ctx context.Context, v election.View, setting election.SyncSetting) {
	if _, busy := a.inflight.Load(setSyncKey); busy {
		return
	}
	a.facts.with(func(f *facts) { f.sync.changing = &setting })
	a.once(ctx, setSyncKey, setSyncTime, func(ctx context.Context) error {
		defer a.facts.with(func(f *facts) { f.sync.changing = nil })
		return a.setSync(ctx, v, setting)
	})
}

// setSync makes a setting the one in force, and proves it as far as that is possible in the time given. What
// is not proven is asked for again. A setting that was decided on from another sync key is not made.
func (a *Agent) setSync(ctx context.Context, v election.View, setting election.SyncSetting) error {
	old := false
	var copies []election.Voter
	a.facts.with(func(f *facts) {
		copies = election.CopiesNamed(setting, f.cluster)
		old = f.cluster.Sync.ModRevision != v.Store.Cluster.Sync.ModRevision || f.syncWrite != v.Store.SyncWrite
	})
	if old {
		return nil
	}
	res, err := a.pg.SetSync(ctx, setting, a.guard.reload)
	a.facts.with(func(f *facts) { f.sync.ended(&f.local.Sync, Now()) })
	if err != nil {
		return fmt.Errorf("set synchronous standbys: %w", err) // the next look says what stands in the files
	}
	if res.InForce {
		a.facts.with(func(f *facts) { f.sync.copies = copies })
	} else if res.Why != "" {
		a.why.result("set synchronous standbys: not proven yet: " + res.Why)
	}
	if setting.Wait == 0 && !managed(v.Policy.Sync.Mode, v.Store.Cluster.Sync) {
		// The setting is the user's again.
		a.facts.with(func(f *facts) { f.appliedConfig = 0 })
	}
	a.lookOnce(ctx)
	return nil
}

// overlay takes back what a change under way makes uncertain. While another setting is on its way to the
// files nothing is known: it may be the one in force at any moment.
func (s *syncFacts) overlay(l *election.LocalSync) {
	if l.InForce {
		l.Copies = s.copies
	}
	if s.changing == nil {
		return
	}
	l.Known = l.Known && s.changing.Equal(l.Setting)
	l.InForce = false
}

// ended notes the end of a change: what was seen of the setting before says nothing any more.
func (s *syncFacts) ended(l *election.LocalSync, now election.Instant) {
	s.endedAt = now
	l.Known, l.InForce = false, false
}

// writeSync changes the sync key, or removes it if state is nil. From before the sending on it is a fact that the key may change
// any moment: until the snapshot shows another, no setting may rest on what it shows now. One that
// was certainly not carried out is forgotten again, unless an earlier one like it may still be.
func (a *Agent) writeSync(ctx context.Context, v election.View, state *election.SyncState) {
	const key = "write the sync key"
	if _, busy := a.inflight.Load(key); busy || a.echo.awaits(key, v.Store.Cluster.Revision) {
		return
	}
	own, over := v.Own.Revision, v.Store.Cluster.Sync.ModRevision
	txn, sent := dcs.DeleteSync(own, over), election.SyncState{}
	if state != nil {
		txn, sent = dcs.WriteSync(own, over, *state), *state
	}
	next := election.SyncWrite{Sent: true, Over: over}
	fresh := false
	a.facts.with(func(f *facts) {
		fresh = f.syncWrite != next
		f.syncWrite = next
		if fresh {
			f.syncSent = nil
		}
	})
	a.once(ctx, key, storeCall, func(ctx context.Context) error {
		a.boundBy(ctx, sent)
		res, err := a.store.Apply(ctx, txn)
		if fresh && errors.Is(err, dcs.ErrUnavailable) {
			a.facts.with(func(f *facts) { f.syncWrite = election.SyncWrite{} })
		}
		if err != nil {
			return err
		}
		if !res.Done {
			return errors.New("somebody else changed it at the same time")
		}
		a.echo.sent(key, res.Revision)
		a.metrics.write()
		return nil
	})
}

// boundBy lets a sync key that is about to be sent count for how long this member may show itself as the
// leader. Where it is the first that allows a takeover, ownership is proven before, so that the check does
// not turn red for want of a proof that nobody needed until now.
func (a *Agent) boundBy(ctx context.Context, sent election.SyncState) {
	if before, _ := a.takeoverSets(); len(before) == 0 && len(lastSet(nil, sent)) > 0 {
		begun := Now()
		a.keeper.now()
		pctx, cancel := context.WithTimeout(ctx, proofPatience)
		for {
			if own, _ := a.keeper.title(); own.Sent >= begun || !sleepCtx(pctx, pollEvery) {
				break
			}
		}
		cancel()
	}
	a.facts.with(func(f *facts) { f.syncSent = append(f.syncSent, sent) })
	a.refreshLeaderUntil()
	a.keeper.now()
}

// proofPatience is how long a change of the sync key waits for a proof of ownership.
const proofPatience = 500 * time.Millisecond

// syncSpec says what becomes of synchronous_standby_names when the files are written. In the synchronous
// modes only SetSync changes it, with one exception: a primary whose configuration has lost it must not
// start with commits that wait for nobody while the published electorate says that they do.
func (a *Agent) syncSpec(v election.View, standby bool, spec *postgres.ConfigSpec) error {
	published := v.Store.Cluster.Sync
	if !managed(v.Policy.Sync.Mode, published) || v.Store.Cluster.Initialize.State != election.BootstrapDone {
		return nil // in a directory that was just made there is nothing to keep
	}
	spec.KeepSync = true
	want := election.PublishedSetting(published, v.Policy.Sync.Mode)
	if standby || published.Leader != v.Self.Name || want.Wait == 0 {
		return nil
	}
	has, err := a.pg.SyncNow(postgres.Observation{})
	if err == nil && has.Setting.Wait > 0 {
		return nil
	}
	text, err := postgres.SyncText(want)
	if err != nil {
		return err
	}
	a.log.Warn("the configuration has lost its synchronous standbys, those published count", zap.Stringer("setting", want))
	spec.KeepSync, spec.SyncNames = false, &text
	return nil
}

// gate holds /primary back after a start or a promotion until the commits of the last life are
// confirmed: rows of a commit that nobody confirmed are visible on a restarted primary, and must not be
// served as committed (safety review, exclusions).
type gate struct {
	start  time.Time    // of the server; zero: none was looked at yet
	end    election.LSN // of the log when it was first seen as a primary
	passed bool
}

// look takes up one observation of the own primary and says whether the gate is open.
func (g *gate) look(o postgres.Observation, managed bool, now election.LocalSync) bool {
	if !g.start.Equal(o.StartTime) {
		*g = gate{start: o.StartTime, end: max(o.FlushLSN, o.WriteLSN)}
	}
	set := now.Setting
	nobody := set.Wait == 0 && now.Known && !now.Foreign
	g.passed = g.passed || !managed || nobody || set.Wait > 0 && confirmed(o, set, g.end) >= set.Wait
	return g.passed
}

// confirmed counts the named standbys that stream and have made the log durable up to a position.
func confirmed(o postgres.Observation, setting election.SyncSetting, lsn election.LSN) int {
	var seen []string
	for _, w := range o.Replication {
		name := strings.ToLower(w.ApplicationName)
		named := slices.ContainsFunc(setting.Names, func(n string) bool { return strings.EqualFold(n, name) })
		if named && w.State == "streaming" && w.FlushLSN >= lsn && !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}
	return len(seen)
}

// lookSync adds to a look at the server what synchronous replication needs. It says whether to look again
// soon: something is about to change that nobody reports.
func (f *facts) lookSync(l *election.Local, o postgres.Observation, answering bool, now election.Instant) (unsure bool) {
	l.Freeze = f.freeze
	if now < f.sync.endedAt {
		l.Sync.Known, l.Sync.InForce = false, false
	}
	if !answering {
		return false
	}
	l.Walsenders, l.Streamed = f.replicas.look(o, now)
	if o.Role != election.RolePrimary {
		return false
	}
	s := l.Sync
	open := f.sync.gate.look(o, f.managed(), s)
	return f.managed() && (!open || !s.Known || s.InForce && confirmed(o, s.Setting, 1) >= s.Setting.Wait && reached(s, l.Walsenders) < s.Setting.Wait)
}

// reached counts the standbys of the setting whose log goes beyond its barrier.
func reached(s election.LocalSync, senders []election.Walsender) int {
	n := 0
	for _, w := range senders {
		if s.InForce && w.State == "streaming" && w.LSN >= s.Barrier && slices.Contains(s.Setting.Names, w.Name) {
			n++
		}
	}
	return n
}

// syncDiffers says whether a decision about synchronous replication could come out otherwise.
func syncDiffers(a, b election.Local) bool {
	return a.Sync.Known != b.Sync.Known || a.Sync.InForce != b.Sync.InForce || a.Sync.Foreign != b.Sync.Foreign ||
		a.Sync.Barrier != b.Sync.Barrier || !a.Sync.Setting.Equal(b.Sync.Setting) || a.Freeze != b.Freeze ||
		a.DataID != b.DataID || reached(a.Sync, a.Walsenders) != reached(b.Sync, b.Walsenders) ||
		streaming(a) != streaming(b)
}

// streaming counts the standbys that stream.
func streaming(l election.Local) int {
	n := 0
	for _, w := range l.Walsenders {
		if w.State == "streaming" {
			n++
		}
	}
	return n
}

// Pace of looking at the primary of a synchronous cluster: a standby that is gone keeps its commits
// waiting until it is noticed, and while only the confirmation by its standbys keeps a new primary from
// being shown as one, every look counts.
const (
	syncLook     = time.Second
	gateLook     = 20 * time.Millisecond
	gatePatience = 5 * time.Second
)

// lookWait is how long to wait for the next look when nobody asks for one.
func (a *Agent) lookWait(settling bool) time.Duration {
	var d time.Duration
	a.facts.with(func(f *facts) {
		primary := f.managed() && f.local.Role == election.RolePrimary && f.answering
		d = inStep(Now(), f.dynamic.LoopWait, f.dynamic.LoopWait)
		switch {
		case primary && !f.sync.gate.passed && Now()-f.local.Since < gatePatience:
			d = gateLook
		case settling:
			d = lookSettling
		case primary:
			d = min(d, syncLook)
		}
	})
	return d
}

// silence is how long a leader must be unreachable before its voters freeze.
func (f *facts) silence() time.Duration { return syncPolicyOf(f.dynamic).Silence }
