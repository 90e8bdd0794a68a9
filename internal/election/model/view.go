package model

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// peer is what the store says of another member's own data.
type peer struct {
	up, role, data uint8
	lease          leaseID
}

// viewKey is everything that one decision of one member rests on. Equal keys give equal plans.
type viewKey struct {
	self     uint8
	snap     ref
	gap      gap
	own      title
	lease    leaseID
	job      job
	probes   probes
	lost     revision
	handFail revision
	div      uint8
	divFor   revision
	inForce  uint8
	barrier  uint8
	copies   [maxMembers]uint8
	round    round
	racing   uint8
	writing  uint8
	over     revision
	changing changing
	tok      token
	promise  uint8
	server   serverState
	clean    uint8
	signal   uint8
	end      uint8 // of the log as the agent sees it
	whole    uint8 // end of the log, and its timeline
	tip      uint8
	timeline uint8
	streams  uint8
	up       uint8
	data     uint8
	now      setting
	frz      freeze
	voteSent uint8
	senders  [maxMembers]uint8
	peers    [maxMembers]peer
	noSync   uint8
	absent   uint8
}

// streams says that a standby's walreceiver is connected to a server that accepts it. A server looks
// at the number of the timeline and the position only, not at the whole history.
func (s *State) streams(i int) bool {
	m := &s.m[i]
	if m.server != serverStandby || m.recv == 0 || m.cut != 0 || m.frozen != 0 || m.wal.n == 0 {
		return false
	}
	u := &s.m[m.recv-1]
	if u.frozen != 0 || u.cut == 2 || u.server != serverPrimary && u.server != serverStandby && u.server != serverStopping {
		return false
	}
	return m.wal.n <= u.wal.end(m.wal.timeline())
}

// key is what member i knows.
func (w *world) key(s *State, i int) viewKey {
	m := &s.m[i]
	k := viewKey{
		self: uint8(i), snap: m.snap, gap: m.gap, own: m.own, lease: m.lease, job: m.job, probes: m.probes, lost: m.lost,
		handFail: m.handFail, div: m.div, divFor: m.divFor, inForce: m.inForce, barrier: m.barrier, copies: m.copies, round: m.round, racing: m.racing, writing: m.writing, over: m.over, changing: m.changing,
		tok: m.tok, promise: m.promise, server: m.server, clean: m.clean, signal: m.signal, end: m.wal.n, whole: m.wal.n, tip: m.wal.timeline(),
		timeline: m.wal.timeline(), up: m.up, data: m.data, now: m.now, frz: m.frz, voteSent: m.voteSent,
	}
	if m.lag != 0 && k.end > 1 {
		k.end--
		k.timeline = m.wal.e[k.end-1].timeline()
	}
	k.streams = flag(s.streams(i))
	for j := range w.n {
		if j == i {
			continue
		}
		o := &s.m[j]
		k.peers[j] = peer{up: flag(o.runs() || o.server == serverStopping), data: o.pub, lease: o.lease}
		if o.server == serverPrimary {
			k.peers[j].role = 1
		}
		if m.server == serverPrimary && o.recv == uint8(i+1) && s.streams(j) {
			k.senders[j] = o.wal.n
		}
		k.noSync |= o.noSync << j
		if m.server == serverPrimary {
			k.absent |= o.absent << j
		}
	}
	k.noSync |= m.noSync << i
	return k
}

// view builds the real View from what a member knows.
func (w *world) view(k *viewKey) election.View {
	c := w.content(k.snap).cluster()
	i := int(k.self)
	v := election.View{
		Now: worldNow, Wall: time.Unix(1_000_000, 0),
		Self:  election.Self{Name: nameOf(i), Tags: w.tags(k, i)},
		Lease: election.LeaseID(k.lease),
		Policy: election.Policy{
			TTL: worldTTL, Margin: w.margin, LoopWait: 10 * time.Second, MaximumLag: 1 << 40, UseRewind: true,
			CheckTimeline: true, FailsafeMode: w.cfg.Failsafe,
			Sync: election.SyncPolicy{Mode: w.cfg.Mode, Strict: w.cfg.Strict, Nodes: w.cfg.Nodes, Silence: silence},
		},
		Fencer: election.Fencer{Alive: true, Armed: k.tok.armed != 0, AckAt: worldNow - 100*time.Millisecond},
	}
	if k.promise != 0 {
		v.Fencer.PromiseUntil = worldNow + time.Second
	}
	v.Store = election.Store{
		Seen: true, SeenAt: time.Second, FreshAt: worldNow - 50*time.Millisecond, FailoverAt: worldNow - time.Second,
		Cluster: c, StatusAt: worldNow,
	}
	w.viewMembers(k, &v)
	w.viewVacancy(k, &v)
	if k.own.rev != 0 {
		v.Own = election.Own{
			Revision: int64(k.own.rev), Lease: election.LeaseID(k.own.lease), Epoch: uint64(k.own.epoch), TTL: worldTTL,
			Sent: w.instant(k.own.age),
		}
		if k.own.promised < over {
			v.Own.Promised = w.instant(k.own.promised)
		}
	}
	v.Racing = k.racing != 0
	if k.writing != 0 && w.cfg.Bug != BugSetWhileWriting {
		v.Store.SyncWrite = election.SyncWrite{Sent: true, Over: int64(k.over)}
	}
	v.Failsafe.Asking = k.round.asking != 0
	w.viewLocal(k, &v)
	w.viewJob(k, &v)
	w.viewProbes(k, &v)
	w.viewContact(k, &v)
	return v
}

func (w *world) tags(k *viewKey, i int) election.Tags {
	return election.Tags{FailoverPriority: 1, NoSync: k.noSync&(1<<i) != 0}
}

// instant is a moment of the given age.
func (w *world) instant(a age) election.Instant {
	switch a {
	case fresh:
		return worldNow - 100*time.Millisecond
	case overdue:
		return worldNow - worldTTL/2
	case giveUp:
		return worldNow - (worldTTL - 2*w.margin) - 100*time.Millisecond
	case strikes:
		return worldNow - (worldTTL - w.margin) - 100*time.Millisecond
	default:
		return worldNow - worldTTL - 100*time.Millisecond
	}
}

func (w *world) viewMembers(k *viewKey, v *election.View) {
	for j := range w.n {
		p := k.peers[j]
		if j == int(k.self) {
			p = peer{up: flag(k.server == serverStandby || k.server == serverPrimary), data: k.data, lease: k.lease}
			p.role = flag(k.server == serverPrimary)
		}
		m := election.Member{
			Name: nameOf(j), ConnURL: connURL(nameOf(j)), APIURL: apiURL(nameOf(j)), State: election.StateStopped, Role: "replica",
			Version: "4.1.4", PghaVersion: "1", DataID: dataID(j, p.data), Lease: election.LeaseID(p.lease),
			Tags: w.tags(k, j), ModRevision: 1,
		}
		if p.up != 0 {
			m.State = election.StateRunning
		}
		if p.role != 0 {
			m.Role = "primary"
		}
		v.Store.Cluster.Members = append(v.Store.Cluster.Members, m)
	}
}

func (w *world) viewVacancy(k *viewKey, v *election.View) {
	if k.gap.open == 0 {
		return
	}
	v.Store.Vacancy = election.Vacancy{
		Since: worldNow - time.Second, Revision: int64(k.gap.rev), Lease: election.LeaseID(k.gap.lease),
		LeaseGone: election.Tristate(k.gap.gone),
	}
	if k.gap.waited != 0 {
		v.Store.Vacancy.Since = worldNow - election.VacancyWait(worldTTL, w.margin) - time.Second
	}
}

func (w *world) viewLocal(k *viewKey, v *election.View) {
	l := election.Local{
		Data: election.DataCluster, SystemID: systemID, At: worldNow, Since: worldNow - time.Minute,
		Signal: k.signal != 0, CleanShutdown: election.KnownBool(k.clean != 0), Timeline: election.Timeline(k.timeline),
		LSN: lsnOf(k.end), Upstream: nameOrNone(k.up), UpstreamConnURL: connURL(nameOrNone(k.up)), Streaming: k.streams != 0,
		Divergence: election.Divergence(k.div), DivergenceFor: int64(k.divFor), ConfigRev: 1,
		DataID: dataID(int(k.self), k.data), PromotedCheckpoint: election.Yes,
	}
	switch k.server {
	case serverDown:
		l.Server = election.ServerDown
	case serverStandby:
		l.Server, l.Role, l.Signal = election.ServerRunning, election.RoleStandby, true
	case serverPromoting:
		l.Server, l.Role, l.Signal = election.ServerRunning, election.RoleStandby, true
	case serverPrimary:
		l.Server, l.Role = election.ServerRunning, election.RolePrimary
	default:
		l.Server, l.Role = election.ServerDying, election.RolePrimary
		if w.cfg.Bug == BugDownEarly {
			l.Server = election.ServerDown
		}
	}
	if k.end == 0 {
		l.Data, l.SystemID, l.DataID = election.DataEmpty, "", ""
	}
	if k.server == serverPrimary {
		for j := range w.n {
			if k.senders[j] != 0 {
				l.Walsenders = append(l.Walsenders, election.Walsender{Name: nameOf(j), State: "streaming", LSN: lsnOf(k.senders[j])})
			}
			if j != int(k.self) && k.absent&(1<<j) == 0 {
				l.Streamed = append(l.Streamed, election.Streamed{Name: nameOf(j), At: worldNow - 100*time.Millisecond})
			}
		}
	}
	if !l.Streaming && k.server == serverStandby {
		l.StreamingLostAt = worldNow - 3*time.Second
	}
	w.viewSync(k, &l)
	v.Local = l
}

func (w *world) viewJob(k *viewKey, v *election.View) {
	kinds := map[jobKind]election.JobKind{
		jobStandby: election.JobStart, jobStart: election.JobStart, jobPromote: election.JobPromote, jobDemote: election.JobDemote,
		jobStop: election.JobStop, jobHandOver: election.JobHandOver, jobCompare: election.JobCompare, jobRewind: election.JobRewind,
		jobClone: election.JobClone,
	}
	if k.job.kind != jobNone {
		v.Job = election.Job{
			Kind: kinds[k.job.kind], Since: worldNow - time.Second, Writable: k.job.kind == jobStart || k.job.kind == jobPromote,
			Cancelling: k.job.cancel != 0, For: int64(k.job.forRev),
		}
		if k.job.kind == jobClone {
			v.Job.Detail = nameOrNone(k.job.arg)
		}
	}
	if k.handFail != 0 {
		v.Results = append(v.Results, election.JobResult{
			Kind: election.JobHandOver, At: worldNow - time.Second, Err: "failed", Class: election.ClassOther, Failures: 1,
			For: int64(k.handFail),
		})
	}
}

func (w *world) viewProbes(k *viewKey, v *election.View) {
	if k.probes.state == 0 {
		return
	}
	v.Probes = election.Probes{StartedAt: worldNow - 200*time.Millisecond, DoneAt: worldNow - 100*time.Millisecond}
	for j := range w.n {
		if j == int(k.self) {
			continue
		}
		a := k.probes.ans[j]
		p := election.Probe{Name: nameOf(j)}
		if a.ok != 0 {
			p = election.Probe{
				Name: nameOf(j), Answered: true, Role: election.RoleStandby, Timeline: election.Timeline(a.timeline),
				LSN: lsnOf(a.length), Priority: 1, WatchdogFailed: a.barred != 0, Lost: int64(a.lost),
			}
			if a.role != 0 {
				p.Role = election.RolePrimary
			}
		}
		v.Probes.Answers = append(v.Probes.Answers, p)
	}
}
