package sim

import (
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Bounds of the shell, as the real one has them.
const (
	storeCall    = 2 * time.Second
	fencerCall   = 2 * time.Second
	fencerRetry  = 100 * time.Millisecond
	lookSettling = 200 * time.Millisecond
	probeTime    = 300 * time.Millisecond
	pollEvery    = 25 * time.Millisecond
	actionRetry  = 50 * time.Millisecond
	retryMost    = 2 * time.Second
	askPause     = 100 * time.Millisecond
	syncLook     = time.Second
	echoTime     = 2 * time.Second
)

// agent is one life of an agent process: the observe, decide, act loop round the real core.
type agent struct {
	// reloadOwed: the last reload did not reach the server, as far as is known.
	reloadOwed bool
	changing   bool // the lease is being exchanged for one with another ttl
	w          *World
	n          *node
	p          proc
	store      storeClient
	inc        string

	// what is known of the store
	seen                        bool
	seenAt, freshAt, failoverAt election.Instant
	statusAt                    election.Instant
	snapRev                     int64
	cluster                     election.Cluster
	vacancy                     election.Vacancy
	set                         settings
	ttl                         time.Duration
	// ttlMost is the longest ttl that was ever in force as far as this agent knows: the lease of a
	// key that vanished may have had it.
	ttlMost time.Duration
	watch   *watcher

	// the local server
	local      election.Local
	answering  bool
	upstream   string
	followedAt election.Instant
	config     int64

	// synchronous replication, votes and promises
	freeze    election.Freeze
	syncWrite election.SyncWrite
	settingTo election.SyncSetting
	sentSync  *election.Electorate
	proof     syncProof
	streamed  []election.Streamed
	contact   election.Contact
	target    string        // whose contact is kept
	askedLast time.Duration // when it turned out that there is nobody to ask; zero: questions are asked
	hearing   hearing
	race      race
	failsafe  failsafeFacts
	notBefore election.Instant
	// adopted: the title is one of an earlier life, whose writes may still arrive.
	adopted     bool
	takenUnsure bool
	// refuted is the revision of a title that a proof showed to be another's.
	refuted int64

	results  []election.JobResult
	commands []election.Command
	leaving  bool
	command  uint64
	stopping bool
	state    election.MemberState
	member   memberEcho
	uses     int // of known values
	echo     []echoed
	busy     []string // short actions under way
	failures map[string]int
	// historyDone: the published history cannot be made to fit this timeline better.
	historyDone election.Timeline

	// the title
	lease     election.LeaseID
	leaseTTL  time.Duration
	leaseSent election.Instant
	leaseTerm uint64
	own       election.Own
	armEpoch  uint64
	claim     bool
	isSettled bool
	// giving is the revision of a leader key that a hand-over or release may still give away: until
	// that is resolved nothing writable starts under it.
	giving int64
	// reserved is the timeline that the own reign may make.
	reserved election.Timeline

	// the fencer, as last heard
	guard guard
	job   jobSlot
	round election.Probes
	pub   published
	until election.Instant // how long /primary answers 200

	news, look, kick, watchBroken, fencerGone, down, settled signal
	firstFencer                                              signal
	lastRule                                                 election.RuleID
	lastJob                                                  reflect.Type
	// last is what the last decision rested on.
	last *election.View
	// lastUsed: actions under way refer to it. Spare is a View that nothing refers to any more.
	lastUsed bool
	spare    *election.View
	// hungUntil: whatever decides or looks stands still until then, while the part of the process
	// that answers health checks runs.
	hungUntil election.Instant
}

// guard is what the agent knows of the fencer.
type guard struct {
	connected bool
	armed     bool
	tok       token
	last      uint64
	pid       int
	dying     bool
	// unanswered: a start was asked for and not answered, and what the fencer said since may be older.
	unanswered bool
	// told counts the events.
	told uint64
	// asking: a start is being asked for.
	asking bool
	ackAt  election.Instant
	// What the fencer keeps of promises.
	promise, lostAt election.Instant
}

// published is what other members are told when they ask.
type published struct {
	state     election.MemberState
	role      election.Role
	tl        election.Timeline
	lsn       election.LSN
	answering bool
	streaming bool
}

type echoed struct {
	key string
	rev int64
	at  election.Instant
}

func newAgent(n *node) *agent {
	a := &agent{w: n.w, n: n, set: n.w.cfg.settings(), ttl: n.w.cfg.TTL, upstream: n.upstream, failures: map[string]int{}}
	a.store = storeClient{a}
	a.inc = n.name + "-" + strconv.Itoa(n.lives)
	a.p = proc{e: n.w.engine, n: n}
	for _, s := range []*signal{&a.news, &a.look, &a.kick, &a.watchBroken, &a.fencerGone, &a.down, &a.settled, &a.firstFencer} {
		s.e = n.w.engine
	}
	a.pub.state = election.StateUnknown
	return a
}

func (a *agent) begin() {
	a.p.begin()
	a.note("agent starts")
	a.loadFreeze()
	a.p.spawn(a.runFencer)
	a.p.spawn(a.runKeeper)
	a.p.spawn(a.runWatch)
	a.p.spawn(a.runLook)
	a.p.spawn(a.runLoop)
	a.keepContact()
}

func (a *agent) now() election.Instant { return a.n.now() }

func (a *agent) note(format string, args ...any) { a.w.note(a.n.index, format, args...) }

func (a *agent) tell(format string, args ...any) { a.w.tell(a.n.index, format, args...) }

func (a *agent) margin() time.Duration {
	ttl := a.ttl
	if a.own.Held() {
		ttl = a.own.TTL // the lease that counts, not the one that is asked for by now
	}
	return election.MarginFloor(ttl) + time.Duration(a.w.cfg.Extra*float64(ttl))
}

// runLoop decides and acts whenever there is news, and at the heartbeat.
func (a *agent) runLoop(t *task) {
	wake := time.Duration(0)
	for first := true; ; first = false {
		if !first && !t.on(&a.news, wake) {
			a.look.raise()
		}
		a.hang(t)
		if slow := a.w.cfg.SlowAgent; slow > 0 && a.w.chance(slow) {
			t.sleep(a.w.tail(0, 2*time.Second))
		}
		v := a.view()
		a.w.bend(v)
		a.w.bendSync(v)
		p := election.DecideOn(v)
		a.w.bendPlan(a, v, &p)
		a.w.bendSyncPlan(a, v, &p)
		a.leaving = election.LeavingOn(v)
		a.remember(&p)
		if a.last != nil && !a.lastUsed {
			a.spare = a.last
		}
		a.last, a.lastUsed = v, false
		a.w.checks.plan(a.n, v, p)
		a.execute(v, p)
		a.publish()
		a.publishMember(v)
		a.tendFreeze(v)
		a.tendServer()
		if p.Rule == "stop.done" && a.job.view.Kind == election.JobNone {
			a.note("agent stopped in order")
			a.w.after(0, func() { a.p.kill() })
			a.n.superviseAgent(a.w.between(5*time.Second, 20*time.Second))
			t.sleep(time.Hour)
		}
		wake = a.nextWake(v, p)
	}
}

// hang is what a deadlock or a starved scheduler would do to a loop.
func (a *agent) hang(t *task) {
	for a.now() < a.hungUntil {
		t.sleep(a.hungUntil - a.now())
	}
}

func (a *agent) nextWake(v *election.View, p election.Plan) time.Duration {
	wake := v.Policy.LoopWait
	if p.Wake > 0 {
		wake = min(wake, p.Wake)
	}
	if v.Own.Held() {
		if left := v.Own.DemoteAt(v.Policy.Margin) - a.now(); left > 0 {
			wake = min(wake, left+time.Millisecond)
		}
	}
	return max(wake, 2*time.Millisecond)
}

// remember tells a decision if it differs from the one before.
func (a *agent) remember(p *election.Plan) {
	a.w.rules.count(p.Rule)
	var job reflect.Type
	for _, act := range p.Actions {
		if election.IsJob(act) {
			job = reflect.TypeOf(act)
		}
	}
	if p.Rule == a.lastRule && job == a.lastJob {
		return
	}
	a.lastRule, a.lastJob = p.Rule, job
	if a.w.recording {
		a.tell("decides %s", *p)
	}
	a.w.mixString(string(p.Rule))
}

func (a *agent) view() *election.View {
	cfg := &a.w.cfg
	own := a.own
	if a.claim {
		own = election.Own{}
	}
	ttl := a.ttl
	if a.vacancy.Since != 0 && !a.w.bug(BugShortVacancy) {
		ttl = max(ttl, a.ttlMost, a.w.cfg.TTL)
	}
	v := a.spare
	a.spare = nil
	if v == nil {
		v = new(election.View)
	}
	// One by one, all but StopAsked, which is never set: a literal would be made beside the View, and copied.
	v.Now, v.Wall = a.now(), time.Unix(0, 0).Add(a.w.now)
	v.Self = election.Self{Name: a.n.name, Tags: a.n.tags, MayBootstrap: true}
	v.Policy = election.Policy{
		TTL: ttl, Margin: a.margin(), LoopWait: cfg.LoopWait, MaximumLag: cfg.MaximumLag,
		PrimaryStartTimeout: cfg.StartTimeout, UseRewind: cfg.UseRewind, UseSlots: true,
		Sync: a.set.sync(), FailsafeMode: a.set.Failsafe,
	}
	v.Own, v.Lease, v.Local, v.Job, v.Probes, v.Stopping = own, a.lease, a.local, a.job.view, a.round, a.stopping
	v.Results, v.Commands = slices.Clip(a.results), slices.Clip(a.commands)
	v.Store.Seen, v.Store.SeenAt, v.Store.FreshAt = a.seen, a.seenAt, a.freshAt
	v.Store.Cluster, v.Store.Vacancy = a.cluster, a.vacancy
	v.Store.StatusAt, v.Store.FailoverAt, v.Store.SyncWrite = a.statusAt, a.failoverAt, a.syncWrite
	v.Contact, v.Failsafe, v.Racing = a.contact, a.failsafeRound(own), a.race.open()
	v.Fencer = election.Fencer{
		Alive: a.guard.connected, Armed: a.guard.armed, Epoch: a.guard.tok.epoch, Until: a.guard.tok.until,
		Revision: a.guard.tok.rev,
		AckAt:    a.guard.ackAt, PromiseUntil: a.promisedUntil(),
	}
	v.Local.ConfigRev, v.Local.Freeze = a.config, a.freeze
	if a.underway(settingSync) && !a.w.bug(BugOverlappingSet) {
		v.Local.Sync.InForce = false
		v.Local.Sync.Known = a.settingTo.Equal(a.n.sync.setting) // another may stand any moment
	}
	return v
}

// runWatch keeps a watch on the store.
func (a *agent) runWatch(t *task) {
	for !a.isSettled {
		t.on(&a.settled, 0)
	}
	for {
		a.watchBroken.raised = false
		var wt *watcher
		since, blind := a.snapRev, a.w.chance(a.w.cfg.Compaction)
		err := a.store.call(t, storeCall, false, func() error {
			wt = a.w.store.open(a, since, blind)
			return nil
		})
		if err == nil && wt != nil {
			a.watch = wt
			wt.lag = a.w.tail(0, a.w.cfg.WatchLag)
			broken := false
			for !broken {
				broken = t.on(&a.watchBroken, 0)
			}
		}
		a.w.mix(7)
		t.sleep(300 * time.Millisecond)
	}
}

// takeSnapshot makes a snapshot the present one.
func (a *agent) takeSnapshot(d delivery) {
	if d.rev < a.snapRev {
		return
	}
	now := a.now()
	before := a.cluster
	a.snapRev, a.cluster, a.freshAt = d.rev, *d.cluster, now
	if before.Failover.ModRevision != a.cluster.Failover.ModRevision {
		a.failoverAt = now
	}
	if !a.seen {
		a.seen, a.seenAt = true, now
		if a.adopted {
			a.syncWrite = election.SyncWrite{Sent: true, Over: a.cluster.Sync.ModRevision}
		}
	}
	a.vacancy = vacancyAfter(a.vacancy, &before, &a.cluster, d.vanished, now)
	a.race.moved(a.cluster.Reign.ModRevision)
	if a.w.bug(BugAcquireOnDelete) && a.vacancy.Since != 0 {
		a.vacancy.LeaseGone = election.Yes
	}
	if before.ConfigRev != a.cluster.ConfigRev {
		a.takeConfig(d.config)
	}
	a.lookWhomToAsk()
	if before.Leader != a.cluster.Leader || before.Failover != a.cluster.Failover {
		a.look.raise()
		a.kick.raise()
	}
	a.news.raise()
}

// takeConfig reads the dynamic configuration.
func (a *agent) takeConfig(value []byte) {
	if set, ok := a.w.config.read(value); ok {
		a.set, a.ttl, a.ttlMost = set, set.TTL, max(a.ttlMost, set.TTL)
		a.kick.raise()
	}
}

// vacancyAfter follows the leader key's absence from one snapshot to the next.
func vacancyAfter(v election.Vacancy, before, after *election.Cluster, vanished []dcs.KV, now election.Instant) election.Vacancy {
	if after.Leader.Present {
		return election.Vacancy{}
	}
	gone := election.Vacancy{Since: now}
	switch {
	case before.ClusterID != 0 && before.ClusterID != after.ClusterID:
		gone.Replaced = true
		return gone
	case before.Leader.Present:
		gone.Revision, gone.Lease = before.Leader.ModRevision, before.Leader.Lease
	case v.Since != 0:
		gone = v
	case after.Reign.Lease != 0:
		gone.Lease = after.Reign.Lease
	}
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

// contradicted takes up what a proof read of the leader key showed.
func (a *agent) contradicted(p dcs.Proof) {
	if p.Revision <= a.cluster.Revision {
		return
	}
	leader := election.Leader{}
	if p.Present {
		leader = dcs.DecodeLeader(p.Leader)
	}
	a.cluster.Revision, a.cluster.Leader = p.Revision, leader
	if p.Present || a.now() >= a.own.Promised+a.own.TTL-2*a.margin() {
		a.refuted = a.own.Revision // a key that is merely gone is put back while promises hold
	}
	a.lookWhomToAsk()
	a.refreshUntil()
	if !p.Present && a.vacancy.Since == 0 {
		a.vacancy = election.Vacancy{Since: a.now()}
	}
	a.news.raise()
}

func (a *agent) heard() { a.freshAt = a.now() }

// once runs a short action beside the loop, unless one of the same key is under way.
func (a *agent) once(key string, fn func(*task) error) {
	if !a.underway(key) {
		a.lastUsed = true
		a.onceApart(key, fn)
	}
}

// onceApart is once for an action that does not refer to the View it was decided on.
func (a *agent) onceApart(key string, fn func(*task) error) {
	if a.underway(key) {
		return
	}
	a.busy = append(a.busy, key)
	a.p.spawn(func(t *task) {
		err := fn(t)
		if err != nil {
			t.sleep(min(actionRetry<<min(a.failures[key], 10), retryMost))
			a.failures[key]++
		} else {
			delete(a.failures, key)
		}
		for i, k := range a.busy {
			if k == key {
				a.busy = append(a.busy[:i], a.busy[i+1:]...)
				break
			}
		}
		if err != nil && a.w.recording {
			a.tell("%s failed: %s", key, err)
		}
		a.news.raise()
	})
}

func (a *agent) underway(key string) bool {
	return slices.Contains(a.busy, key)
}
