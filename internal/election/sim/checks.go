package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Names of the invariants. The I-numbers are those of docs/safety.md.
const (
	OneReign      = "I-01 one authority"
	TimeFence     = "I-02 time fence"
	OneWriter     = "I-03 disjoint writers"
	NothingLost   = "I-04 nothing acknowledged is lost"
	LagBound      = "I-04 loss beyond maximum_lag_on_failover"
	ArmedFirst    = "I-12 arm before writable"
	DownIsDown    = "I-13 down is down"
	OneHealthy    = "I-14 health disjoint"
	ExpiryRelease = "I-16 expiry or release"
	OneHistory    = "I-17 unique histories"
	NoGuess       = "I-18 no destruction on a guess"
	GuardSilent   = "guard: no plan is refused"
	NoNeedless    = "L2 no demotion right after a proof"
	Lively        = "L1 one writable primary, all members streaming"
)

// Violation is a broken invariant.
type Violation struct {
	Check string
	At    time.Duration
	Node  string
	What  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s violated at %s on %s: %s", v.Check, v.At.Round(time.Millisecond), v.Node, v.What)
}

// ack is a commit that a client was told of.
type ack struct {
	rec  record
	node int
	at   time.Duration
}

// reignKind says how the present holder of the leader key came to it.
type reignKind uint8

const (
	reignNone reignKind = iota
	reignRace
	reignHandOver
	reignPutBack
	reignRehang
	reignFirst
	reignVotes
)

// checks watches the world for broken invariants. It sees true time and all nodes at once, which
// nobody in the world does.
type checks struct {
	w *World
	// acks are the acknowledged commits that are not lost, oldest first.
	acks       []ack
	lost       int
	ackedCount int
	// The leader key.
	holder    string
	lastMod   int64
	kind      reignKind
	epoch     uint64
	failovers int
	takeovers int
	handovers int
	// branches are the timelines that were made.
	branches []branch
	twins    int
	// The holder was named by an operator: in any request, or in a failover by hand.
	named, byHand bool
	optime        election.LSN
	sync          syncChecks
}

type branch struct {
	tl    election.Timeline
	first uint64 // record that began it
	hist  election.History
}

// deadlineSlack is how long after T a server may still be there: the second strikes a little later,
// and killing takes its time. The margin covers it.
const deadlineSlack = 200 * time.Millisecond

func (c *checks) fail(check string, n *node, format string, args ...any) {
	c.w.fail(check, n, fmt.Sprintf(format, args...))
}

// writable looks at a server whose writability may have changed.
func (c *checks) writable(n *node) {
	if !n.pg.canAck() {
		return
	}
	for _, o := range c.w.nodes {
		if o != n && o.pg.canAck() && !c.votedOut(n) && !c.votedOut(o) {
			c.fail(OneWriter, n, "%s and %s can both acknowledge commits", n.name, o.name)
		}
	}
	c.armed(n)
}

func (c *checks) armed(n *node) {
	m := n.fencer.mem
	switch {
	case !m.armed && !n.fencer.busy:
		c.fail(ArmedFirst, n, "the server is writable and the fencer is not armed")
	case m.armed && n.now() > max(m.tok.until, n.fencer.longest)+deadlineSlack:
		c.fail(TimeFence, n, "the server is writable %s after its deadline", n.now()-m.tok.until)
	}
}

// deadline looks at a deadline that the fencer has just taken over: it must lie before the moment
// at which the store may give the key to another.
func (c *checks) deadline(n *node, t token) {
	s := c.w.store
	k, ok := s.get(dcs.KeyLeader)
	if !ok || k.mod != t.rev {
		return
	}
	i := s.leaseAt(k.lease)
	if i < 0 || !s.up {
		return
	}
	if at, end := n.trueAt(t.until), s.lease[i].expires; at+deadlineSlack/2 > end && !c.promisedAll(n, at) {
		c.fail(TimeFence, n, "the deadline lies %s after the end of the lease", at-end)
	}
}

// leaderKey sees every change of the leader key, in the store, at the moment it is true.
func (c *checks) leaderKey(before kv, had bool, after kv, has bool) {
	if !has {
		c.w.note(-1, "leader key of %s (revision %d) is gone", before.value, before.mod)
		return
	}
	s := c.w.store
	reign := s.decoded().Reign
	name, last := string(after.value), c.holder
	n := c.w.node(name)
	c.w.note(-1, "leader key: %s at revision %d, epoch %d", name, after.mod, reign.Epoch)
	switch {
	case last == "":
		c.kind = reignFirst
	case had && last == name:
		c.kind = reignRehang
	case s.byVotes:
		c.kind = reignVotes
		c.takeovers++
	case had:
		c.kind = reignHandOver
		c.handovers++
	case last == name:
		c.kind = reignPutBack
	default:
		c.kind = reignRace
		c.failovers++
	}
	if c.kind != reignRehang && reign.Epoch <= c.epoch && c.epoch != 0 {
		c.fail(OneReign, n, "epoch %d follows epoch %d", reign.Epoch, c.epoch)
	}
	if after.mod <= c.lastMod {
		c.fail(OneReign, n, "leader revision %d follows %d", after.mod, c.lastMod)
	}
	c.sync.holders[after.mod] = name
	ended := c.epoch
	c.holder, c.lastMod, c.epoch = name, after.mod, reign.Epoch
	c.sync.reigns[name] = reign.Epoch
	c.optime = s.decoded().Status.Optime
	if c.kind == reignRace || c.kind == reignVotes {
		f := s.decoded().Failover
		c.named = f.Candidate == name
		c.byHand = c.named && !f.IsSwitchover() && c.kind == reignRace
	}
	if c.kind == reignVotes {
		c.tookOver(n, ended)
		return
	}
	if c.kind == reignRace {
		c.outside(n, *s.decoded())
	}
	for _, o := range c.w.nodes {
		if o.name != name && o.pg.canAck() && !c.votedOut(o) {
			c.fail(ExpiryRelease, n, "%s becomes the holder while %s can acknowledge commits", name, o.name)
		}
	}
}

// primary looks at a server that has just left recovery, or was started again as the primary.
func (c *checks) primary(n *node, promoted bool) {
	if n.pg.local {
		return
	}
	d := &n.disk
	n.pg.reign = c.sync.reigns[n.name]
	c.crossing(n)
	before := d.end()
	if promoted {
		c.branch(n)
		before = d.hist[len(d.hist)-1].Switch
	}
	if c.votedOut(n) {
		return // a leader that does not know yet that it is none: its commits wait for ever
	}
	missing, first, broken := 0, ack{}, false
	for i := len(c.acks) - 1; i >= 0 && !d.holds(c.acks[i].rec); i-- {
		missing++
		first = c.acks[i]
		broken = broken || c.promisedToLast(first)
	}
	c.acks = c.acks[:len(c.acks)-missing]
	if missing == 0 {
		return
	}
	c.lost += missing
	c.w.note(n.index, "%d acknowledged commits are missing, the first from %s at %s", missing, c.w.nodes[first.node].name, line(first.at))
	switch {
	case broken && promoted:
		c.fail(NothingLost, n, "%d commits that were acknowledged by a synchronous cluster are lost", missing)
	case !promoted:
		c.fail(NothingLost, n, "a start in place lost %d acknowledged commits", missing)
	case c.kind == reignHandOver:
		c.fail(NothingLost, n, "a switchover lost %d acknowledged commits", missing)
	case !c.named && before+election.LSN(c.w.cfg.MaximumLag) < c.optime:
		c.fail(LagBound, n, "the new primary ends at %s, the last known position was %s", before, c.optime)
	}
}

// branch notes a new timeline.
func (c *checks) branch(n *node) {
	d := &n.disk
	b := branch{tl: d.tl, first: d.wal[len(d.wal)-1].id, hist: d.hist}
	for _, o := range c.branches {
		if o.tl == b.tl && o.first != b.first {
			c.twins++
			c.w.note(n.index, "timeline %d exists twice", b.tl)
			break
		}
	}
	c.branches = append(c.branches, b)
}

// acked records a commit that a client was told of.
func (c *checks) acked(n *node, r record) {
	c.ackedCount++
	c.acks = append(c.acks, ack{r, n.index, c.w.now})
	c.armed(n)
	c.above(n, r)
	c.w.mix(r.id)
}

// streaming and sameHistory see whether a standby's log is really the beginning of its upstream's.
func (c *checks) streaming(n, up *node) { c.sameHistory(n, up) }

func (c *checks) sameHistory(n, up *node) bool {
	if n.disk.prefixOf(&up.disk) {
		return true
	}
	c.fail(OneHistory, n, "%s streams from %s across a divergence (timelines %d and %d, %s and %s)", n.name, up.name,
		n.disk.tl, up.disk.tl, n.disk.end(), up.disk.end())
	return false
}

// destroy looks at data that is about to be overwritten or moved aside for a copy of another.
func (c *checks) destroy(n, src *node, what string) {
	if n.disk.kind != election.DataCluster {
		return
	}
	for _, a := range slices.Backward(c.acks) {
		if !n.disk.holds(a.rec) {
			continue
		}
		if !src.disk.holds(a.rec) {
			c.fail(NoGuess, n, "%s of %s from %s would drop a commit that was acknowledged at %s", what, n.name, src.name, line(a.at))
		}
		// Logs are beginnings of one another up to here: what lies before is in both.
		break
	}
	if src.disk.kind != election.DataCluster {
		c.fail(NoGuess, n, "%s of %s from %s, which has no whole copy itself", what, n.name, src.name)
	}
	if c.holder == n.name && n.pg.canAck() {
		c.fail(NoGuess, n, "%s of the holder's own data", what)
	}
}

// reportedDown looks whether a server that is said to be down is so.
func (c *checks) reportedDown(n *node) {
	if n.pg.open || n.pg.running() {
		c.fail(DownIsDown, n, "the server is reported down while it has processes")
	}
}

// seenDown looks whether an agent takes the server for down rightly; one that it asks for just now may
// run before it is told. So may one that somebody else started: an agent before it, or a former life of it.
func (c *checks) seenDown(a *agent) {
	if pg := &a.n.pg; pg.running() && !a.guard.asking && a.n.fencer.agent == a && c.w.now-pg.since > 100*time.Millisecond {
		c.fail(DownIsDown, a.n, "the agent takes the server for down while it runs")
	}
}

// healthy says whether /primary of a node answers 200 at this very moment.
func (c *checks) healthy(n *node) bool {
	a := n.agent
	if a == nil || !a.p.alive || a.p.halted() || !n.power {
		return false
	}
	return a.until > a.now()
}

// health looks at all health checks at once.
func (c *checks) health(n *node) {
	if !c.healthy(n) {
		return
	}
	for _, o := range c.w.nodes {
		if o != n && c.healthy(o) {
			c.fail(OneHealthy, n, "/primary of %s and %s both answer 200", n.name, o.name)
		}
	}
}

// plan looks at every plan.
func (c *checks) plan(n *node, v *election.View, p election.Plan) {
	if age := v.Now - v.Own.Sent; p.Rule == "title.margin" && age < v.Own.TTL/3 {
		c.fail(NoNeedless, n, "a title proven %s ago, for %s, is given up", age, v.Own.TTL)
	}
	if p.Rule == "guard.refused" || p.Rule == "decide.none" {
		c.fail(GuardSilent, n, "%s", p.Reason)
	}
}

// lively says whether the cluster is as it should be; otherwise what is missing.
func (c *checks) lively() string {
	var primary *node
	for _, n := range c.w.nodes {
		if n.pg.canAck() {
			primary = n
		}
	}
	if primary == nil {
		return "no writable primary"
	}
	k, ok := c.w.store.get(dcs.KeyLeader)
	if !ok || string(k.value) != primary.name {
		return fmt.Sprintf("%s is writable and the leader key says %q", primary.name, k.value)
	}
	for _, n := range c.w.nodes {
		if n == primary {
			continue
		}
		if n.pg.state != srvStandby || n.pg.stream == nil || n.pg.stream.closed {
			return n.name + " does not stream"
		}
		if end := primary.disk.end(); n.disk.end()+1_000_000 < end {
			return n.name + " has not caught up"
		}
	}
	if why := c.settled(primary); why != "" {
		return why
	}
	if len(c.acks) == 0 || c.w.now-c.acks[len(c.acks)-1].at > 5*time.Second {
		return "nothing is acknowledged"
	}
	return ""
}
