package sim

import (
	"slices"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// runLook looks at the local server on demand and at a pace of its own.
func (a *agent) runLook(t *task) {
	for !a.guard.connected {
		t.on(&a.firstFencer, 0)
	}
	for {
		a.hang(t)
		wait := a.w.cfg.LoopWait
		if a.lookOnce(t) {
			wait = lookSettling
		} else if a.managed() && a.local.Role == election.RolePrimary && a.answering {
			wait = min(wait, syncLook)
		}
		t.on(&a.look, wait)
	}
}

// lookOnce observes the local server. It says whether things are in motion.
func (a *agent) lookOnce(t *task) (settling bool) {
	prev := a.local
	now := a.now()
	if a.w.chance(0.25) { // mostly the answer is there within the moment
		t.sleep(a.w.tail(500*time.Microsecond, 20*time.Millisecond))
	}
	next, answering := a.examine(prev)
	next.At, next.Since = now, prev.Since
	if next.Server != prev.Server {
		next.Since = now
	}
	switch {
	case next.Streaming:
		next.StreamingLostAt = 0
	case prev.Streaming:
		next.StreamingLostAt = now
	default:
		next.StreamingLostAt = prev.StreamingLostAt
	}
	next.Divergence, next.DivergenceFor = a.local.Divergence, a.local.DivergenceFor
	next.DivergenceDetail, next.LostBytes = a.local.DivergenceDetail, a.local.LostBytes
	next.Upstream, next.UpstreamConnURL = a.upstream, a.urlOf(a.upstream)
	if a.followedAt > next.StreamingLostAt && !next.Streaming {
		next.StreamingLostAt = a.followedAt
	}
	if next.Streaming && next.Divergence != election.DivergenceUnknown && a.cluster.Leader.Present {
		next.Divergence = election.DivergenceUnknown
	}
	a.lookSync(&next)
	changed := differs(&a.local, &next)
	a.local, a.answering = next, answering
	a.refreshUntil()
	if changed {
		a.news.raise()
	}
	l := &a.local
	unsure := a.managed() && l.Role == election.RolePrimary && answering && (!l.Sync.Known || l.Sync.InForce && reached(l) < l.Sync.Setting.Wait)
	return unsure || next.Server == election.ServerStarting || next.Server == election.ServerDying || !a.cluster.Leader.Present ||
		next.Server == election.ServerRunning && next.Role == election.RoleStandby && !next.Streaming
}

func differs(a, b *election.Local) bool {
	return a.Data != b.Data || a.Server != b.Server || a.Role != b.Role || a.Timeline != b.Timeline ||
		a.Streaming != b.Streaming || a.SystemID != b.SystemID || a.PromotedCheckpoint != b.PromotedCheckpoint ||
		a.Signal != b.Signal || !slices.Equal(a.SlotMembers, b.SlotMembers) || len(a.Walsenders) != len(b.Walsenders) ||
		syncDiffers(a, b)
}

// examine looks at directory, fencer and server.
func (a *agent) examine(prev election.Local) (l election.Local, answering bool) {
	if !a.guard.connected {
		return prev, false
	}
	d := &a.n.disk
	if in := a.cluster.Initialize; !a.w.bug(BugBootstrapUnknown) && d.made && d.kind == election.DataPartial && in.SystemID == d.system && a.job.view.Kind == election.JobNone {
		// The cluster was published, and whoever did that died before it could take the mark away.
		d.kind = election.DataCluster
	}
	l.Data = d.kind
	switch {
	case a.guard.pid != 0:
		answering = a.examineServer(prev, &l)
	case a.guard.dying:
		l.Server, l.Role, l.SystemID = election.ServerDying, prev.Role, prev.SystemID
		return l, false
	default:
		l.Server = election.ServerDown
		a.w.checks.seenDown(a)
	}
	if l.Data == election.DataCluster && !answering {
		l.Signal, l.SystemID = d.signal, d.system
		l.CleanShutdown = election.KnownBool(d.ctl.state == shutDown || d.ctl.state == shutDownInRecovery)
		l.Timeline = max(d.ctl.tl, d.ctl.minTL)
		l.LSN = max(d.ctl.checkpoint, d.ctl.minEnd)
	}
	return l, answering
}

func (a *agent) examineServer(prev election.Local, l *election.Local) bool {
	d, pg := &a.n.disk, &a.n.pg
	l.Role = prev.Role
	switch {
	case pg.halted() && (pg.state == srvPrimary || pg.state == srvStandby):
		l.Server = election.ServerSilent
		l.SystemID, l.Timeline, l.LSN = prev.SystemID, prev.Timeline, prev.LSN
		return false
	case pg.state == srvStarting:
		l.Server = election.ServerStarting
		return false
	case pg.state == srvStopping || pg.state == srvDown || pg.state == srvOrphaned:
		l.Server = election.ServerDying
		return false
	}
	l.Server, l.SystemID, l.Timeline = election.ServerRunning, d.system, d.tl
	if pg.state == srvPrimary {
		l.Role, l.LSN = election.RolePrimary, d.end()
		l.PromotedCheckpoint = election.KnownBool(d.ctl.tl == d.tl)
		l.Walsenders = pg.walsenders()
	} else {
		l.Role, l.Signal = election.RoleStandby, true
		l.LSN = max(pg.receivedLSN(), pg.replayed)
		l.Streaming = pg.stream != nil && !pg.stream.closed
	}
	l.SlotMembers, l.SlotsKnown = slices.Clone(a.n.slots), true
	return true
}

// word is the state that a member publishes.
func (a *agent) word() election.MemberState {
	if a.state != "" {
		return a.state
	}
	switch a.local.Server {
	case election.ServerRunning, election.ServerSilent:
		return election.StateRunning
	case election.ServerStarting:
		return election.StateStarting
	case election.ServerDying:
		return election.StateStopping
	case election.ServerDown:
		for _, r := range a.results {
			if r.Kind == election.JobStart && r.Err != "" {
				return election.StateStartFailed
			}
			if r.Kind == election.JobClone && r.Err != "" && a.local.Data != election.DataCluster {
				return election.StateCreating
			}
		}
		return election.StateStopped
	}
	return election.StateUnknown
}

func (a *agent) roleWord() string {
	switch {
	case a.local.Server == election.ServerRunning || a.local.Server == election.ServerSilent:
		return a.local.Role.String()
	case a.local.Data != election.DataCluster:
		return "uninitialized"
	case a.local.Signal:
		return "replica"
	default:
		return "demoted"
	}
}

// publish makes the present facts the ones that other members are told.
func (a *agent) publish() {
	a.pub = published{
		state: a.word(), role: a.local.Role, tl: a.local.Timeline, lsn: a.local.LSN, answering: a.answering,
		streaming: a.local.Streaming,
	}
}

// urlOf is connURL without making the text anew.
func (a *agent) urlOf(name string) string {
	if n := a.w.node(name); n != nil {
		return n.url
	}
	return connURL(name)
}

func connURL(name string) string {
	if name == "" {
		return ""
	}
	return "postgres://" + name + ":5432/postgres"
}
