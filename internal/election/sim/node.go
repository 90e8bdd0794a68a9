package sim

import (
	"slices"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// node is one machine with its disk and processes.
type node struct {
	w     *World
	index int
	name  string
	// voteKey is asked for at every reply of a standby.
	voteKey string
	url     string
	clock   clock
	tags    election.Tags

	power  bool
	frozen int
	boots  int

	disk   disk
	asides []disk
	// newestTL is the highest timeline whose history file lies here.
	newestTL election.Timeline
	// upstream is the record of what the written configuration follows.
	upstream string
	slots    []string
	// sync is what the files say of synchronous replication, bound the durable record of a freeze.
	sync   syncFiles
	bound  *freezeRecord
	pg     server
	fencer fencer
	agent  *agent
	lives  int // of the agent

	slowUntil  time.Duration
	mutedUntil time.Duration
	fullUntil  time.Duration
	restartGen int
}

func (n *node) now() election.Instant { return n.clock.read(n.w.now) }

// trueTime says how much true time passes while the node's clock moves on by d.
func (n *node) trueTime(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return n.clock.duration(d)
}

// trueAt is the first moment at which the node's clock shows at least t.
func (n *node) trueAt(t election.Instant) time.Duration {
	at := n.clock.since + n.clock.duration(t-n.clock.base)
	for n.clock.read(at) < t {
		at++
	}
	return at
}

func (n *node) learn(tl election.Timeline) { n.newestTL = max(n.newestTL, tl) }

// slowDisk is what a slow disk adds to an operation.
func (n *node) slowDisk() time.Duration {
	if n.w.now < n.slowUntil {
		return n.w.tail(100*time.Millisecond, 15*time.Second)
	}
	return 0
}

func (n *node) startAgent() {
	if !n.power || n.agent != nil && n.agent.p.alive {
		return
	}
	n.lives++
	n.agent = newAgent(n)
	n.agent.begin()
}

// killAgent kills the agent; its supervisor starts another one later.
func (n *node) killAgent(again time.Duration) {
	if n.agent == nil || !n.agent.p.alive {
		return
	}
	n.w.note(n.index, "agent killed")
	n.agent.p.kill()
	n.w.checks.health(n)
	n.superviseAgent(again)
}

func (n *node) superviseAgent(again time.Duration) {
	n.restartGen++
	gen := n.restartGen
	n.w.after(again, func() {
		if gen == n.restartGen {
			n.startAgent()
		}
	})
}

func (n *node) killFencer() {
	if n.fencer.p.alive {
		n.w.note(n.index, "fencer killed")
		n.fencer.kill()
	}
}

func (n *node) freezeAgent() (thaw func()) {
	if n.agent == nil || !n.agent.p.alive {
		return func() {}
	}
	n.w.note(n.index, "agent frozen")
	goOn := n.agent.p.freeze()
	n.w.checks.health(n)
	return func() {
		n.w.note(n.index, "agent thaws")
		goOn()
	}
}

func (n *node) freezeFencer() (thaw func()) {
	n.w.note(n.index, "fencer frozen")
	goOn := n.fencer.p.freeze()
	return func() {
		n.w.note(n.index, "fencer thaws")
		goOn()
	}
}

func (n *node) freezeServer() (thaw func()) {
	n.w.note(n.index, "server frozen")
	goOn := n.pg.freeze()
	return func() {
		n.w.note(n.index, "server thaws")
		goOn()
	}
}

// freeze stops everything on the node; its clock goes on.
func (n *node) freeze() (thaw func()) {
	if !n.power {
		return func() {}
	}
	boots := n.boots
	n.w.note(n.index, "node frozen")
	n.frozen++
	n.pg.settle()
	n.w.checks.health(n)
	return func() {
		if n.boots != boots || n.frozen == 0 {
			return
		}
		n.w.note(n.index, "node thaws")
		n.frozen--
		if n.frozen > 0 {
			return
		}
		// The fencer is first: it stops the backends before they can run on.
		n.fencer.afterThaw()
		n.pg.settle()
		n.pg.answer()
		n.fencer.p.flush()
		if n.agent != nil {
			n.agent.p.flush()
		}
	}
}

// powerOff ends everything at once. What was flushed stays.
func (n *node) powerOff() {
	if !n.power {
		return
	}
	n.w.note(n.index, "power off")
	n.restartGen++
	if n.agent != nil {
		n.agent.p.kill()
	}
	n.fencer.agent = nil
	n.fencer.p.kill()
	n.power = false
	n.pg.end(srvDown, "power off")
	n.pg.frozen = 0
	n.pg.setOpen(false)
	n.pg.settle()
	n.frozen = 0
	n.fencer.busy = false
	n.fencer.gen++
	n.w.checks.health(n)
}

// powerOn boots the machine: another boot id, a clock that begins anew.
func (n *node) powerOn() {
	if n.power {
		return
	}
	n.w.note(n.index, "power on")
	n.power = true
	n.boots++
	n.clock.since, n.clock.base = n.w.now, n.w.between(time.Second, time.Hour)
	f := &n.fencer
	f.file = fencerMemory{last: f.file.last, ended: f.file.ended}
	f.mem = f.file
	f.pid = 0
	n.superviseAgent(n.w.between(time.Second, 3*time.Second))
}

// restoreBackup replaces the data of a standby by an older copy of itself, as a person might.
func (n *node) restoreBackup() {
	d := &n.disk
	keep := len(d.wal) - 1 - n.w.rng.IntN(40)
	if d.kind != election.DataCluster || !n.power || keep < 1 || d.wal[keep-1].tl != d.tl || d.wal[keep-1].tl == 0 {
		return
	}
	n.w.note(n.index, "an older copy of the data is restored, which ends at %s", d.wal[keep-1].end)
	n.killAgent(n.w.between(100*time.Millisecond, time.Second))
	n.killFencer()
	n.pg.killAll("restored")
	old := copyOf(d)
	old.wal = slices.Clip(old.wal[:keep])
	old.ctl.minEnd, old.ctl.checkpoint = old.end(), min(old.ctl.checkpoint, old.end())
	if !n.w.bug(BugKeepData) {
		old.data = n.w.newData()
	}
	n.disk, n.bound = old, nil
}
