package sim

import (
	"errors"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// Refusals of the fencer.
var (
	errEpoch      = errors.New("fencer: another epoch")
	errPast       = errors.New("fencer: the deadline has passed")
	errBusy       = errors.New("fencer: processes of the server are being cleared away")
	errRunning    = errors.New("fencer: a server runs")
	errNotRunning = errors.New("fencer: no server runs")
	errWritable   = errors.New("fencer: the server may be writable")
	errNoAnswer   = errors.New("fencer: no answer")
	errNoFencer   = errors.New("fencer: not connected")
)

type token struct {
	epoch uint64
	lease election.LeaseID
	rev   int64
	until election.Instant
}

// fencerMemory is what the fencer knows; a copy of it lies on disk, a little behind.
type fencerMemory struct {
	armed bool
	tok   token
	last  uint64 // greatest epoch ever armed
	ended uint64 // greatest epoch that a strike ended
	// primary and promoted say how the present server was started.
	primary, promoted bool
	// promise is until when this member has promised not to race. LostAt is when a fencer of this boot
	// found no state; zero: never.
	promise, lostAt election.Instant
	boot            int
}

// fencer is the process that alone starts and promotes the server, and silences it when the
// deadline passes. Its second process shares the memory and strikes a little later if the fencer
// itself is dead or frozen.
type fencer struct {
	n    *node
	p    proc
	mem  fencerMemory
	file fencerMemory
	// longest is the latest deadline of the armed epoch, which the second process knows even when a
	// new fencer has read an older one from the file.
	longest election.Instant
	gen     uint64
	busy    bool
	pid     int // the postmaster it watches
	// starting counts the starts that were asked for and are not done; another process counts anew.
	starting *int
	// wire is when the last thing that was said arrives.
	wire time.Duration
	// agent is the connected one; only the newest is listened to.
	agent *agent
}

func (f *fencer) w() *World { return f.n.w }

// comes: a server may come up by a start that was asked for.
func (f *fencer) comes() bool { return *f.starting > 0 && !f.w().bug(BugOvertakenStart) }

// goes: the server does not count as down yet.
func (f *fencer) goes() bool { return f.busy || f.comes() }

// save writes the file; behind a renewal it is not waited for.
func (f *fencer) save(now bool) {
	if now {
		f.file = f.mem
		return
	}
	f.w().after(5*time.Millisecond, func() {
		if f.p.alive && f.n.power {
			f.file = f.mem
		}
	})
}

func (f *fencer) now() election.Instant { return f.n.now() }

func (f *fencer) arm(t token) error {
	switch {
	case t.until <= f.now():
		return errPast
	case f.busy && f.n.pg.state != srvDown:
		return errBusy
	case f.mem.armed && t.epoch == f.mem.tok.epoch:
		f.mem.tok.lease = t.lease
		return f.extend(t.until, t.rev)
	case t.epoch == 0 || t.epoch <= f.mem.ended || f.mem.armed && t.epoch < f.mem.tok.epoch:
		return errEpoch
	}
	f.mem.armed, f.mem.tok = true, t
	f.mem.last = max(f.mem.last, t.epoch)
	f.longest = t.until
	f.watch()
	f.save(true)
	f.w().note(f.n.index, "fencer armed: epoch %d, leader revision %d, for %s", t.epoch, t.rev, t.until-f.now())
	f.w().checks.deadline(f.n, t)
	f.w().checks.writable(f.n)
	return nil
}

func (f *fencer) extend(until election.Instant, rev int64) error {
	if f.mem.tok.until <= f.now() {
		return errPast
	}
	f.mem.tok.rev = rev
	if until > f.mem.tok.until {
		f.mem.tok.until = until
		f.longest = until
		f.watch()
		f.w().checks.deadline(f.n, f.mem.tok)
	}
	return nil
}

func (f *fencer) check(epoch uint64) error {
	switch {
	case f.mem.armed && f.mem.tok.epoch == epoch:
		return nil
	case epoch != 0 && epoch == f.mem.ended:
		return errPast
	}
	return errEpoch
}

func (f *fencer) renew(epoch uint64, rev int64, until election.Instant) error {
	if err := f.check(epoch); err != nil {
		return err
	}
	if until <= f.now() {
		return errPast
	}
	if err := f.extend(until, rev); err != nil {
		return err
	}
	f.save(false)
	return nil
}

// mayWrite says that the server may be made writable at this very moment.
func (f *fencer) mayWrite(epoch uint64) error {
	if f.w().bug(BugPromoteUnarmed) {
		return nil
	}
	if err := f.check(epoch); err != nil && !f.w().bug(BugPromoteAfterT) {
		return err
	}
	if f.mem.tok.until <= f.now() && !f.w().bug(BugPromoteAfterT) {
		return errPast
	}
	return nil
}

func (f *fencer) disarm(epoch uint64) error {
	if !f.mem.armed && epoch == f.mem.last {
		return nil
	}
	if err := f.check(epoch); err != nil {
		return err
	}
	pg := &f.n.pg
	if !f.w().bug(BugForgetBeforeDown) {
		if f.busy || pg.state == srvOrphaned && f.pid != 0 {
			return errBusy
		}
		if pg.running() && (f.mem.primary || f.mem.promoted) {
			return errWritable
		}
	}
	f.mem.armed = false
	f.gen++
	f.save(true)
	f.w().note(f.n.index, "fencer disarmed")
	f.w().checks.writable(f.n)
	f.sawWritable()
	return nil
}

// startSpec is one start of the server.
type startSpec struct {
	primary  bool
	epoch    uint64
	upstream string
	local    bool
}

func (f *fencer) start(spec startSpec) error {
	pg := &f.n.pg
	switch {
	case pg.running():
		return errRunning
	case f.busy || pg.state != srvDown:
		return errBusy
	case f.n.disk.kind != election.DataCluster && !spec.local:
		return errNot("start: no data")
	}
	if spec.primary {
		if err := f.mayWrite(spec.epoch); err != nil {
			return err
		}
	}
	f.n.disk.signal = !spec.primary
	f.mem.primary, f.mem.promoted = spec.primary, false
	f.save(true)
	pg.start(spec.upstream, spec.local)
	f.pid = pg.pid
	return nil
}

func (f *fencer) promote(epoch uint64, burnt election.Timeline) error {
	if err := f.mayWrite(epoch); err != nil {
		return err
	}
	if !f.n.pg.running() {
		return errNotRunning
	}
	f.mem.promoted = true
	f.save(true)
	f.n.pg.promote(burnt)
	return nil
}

// watch schedules the deadline.
func (f *fencer) watch() {
	f.gen++
	gen := f.gen
	f.w().at(f.n.trueAt(f.mem.tok.until), func() { f.deadline(gen) })
}

// deadline is the moment T on the node's own clock.
func (f *fencer) deadline(gen uint64) {
	w := f.w()
	if gen != f.gen || !f.mem.armed || !f.n.power || f.n.frozen > 0 || w.bug(BugFencerIgnoresT) {
		return
	}
	lag := w.between(0, 3*time.Millisecond)
	if !f.p.alive || f.p.halted() {
		lag += 50 * time.Millisecond
	}
	w.after(lag, func() {
		if gen == f.gen && f.mem.armed && f.n.power && f.n.frozen == 0 {
			f.strike()
		}
	})
}

// strike ends the epoch and the server with it.
func (f *fencer) strike() {
	w := f.w()
	w.note(f.n.index, "fencer strikes: deadline of epoch %d passed", f.mem.tok.epoch)
	f.mem.armed, f.mem.ended = false, f.mem.tok.epoch
	f.gen++
	f.file = f.mem
	f.tell(func(a *agent) { a.fenced() })
	f.down()
}

// afterThaw is the first thing that runs when a whole node goes on.
func (f *fencer) afterThaw() {
	if f.mem.armed && f.now() >= f.mem.tok.until && !f.w().bug(BugFencerIgnoresT) {
		f.n.pg.killAll("struck at the thaw")
		f.strike()
		return
	}
	if f.busy { // the freeze came in the middle of it
		f.n.pg.killAll("struck at the thaw")
	}
	if f.mem.armed {
		f.watch()
	}
}

// down is the procedure that leaves no process, and says so then.
func (f *fencer) down() {
	if f.busy {
		return
	}
	f.busy = true
	w := f.w()
	w.after(w.tail(time.Millisecond, 80*time.Millisecond), f.downDone)
}

func (f *fencer) downDone() {
	if f.n.frozen > 0 {
		f.w().after(10*time.Millisecond, f.downDone)
		return
	}
	f.n.pg.killAll("silenced")
	f.busy = false
	f.p.run(func() {
		if !f.busy && f.n.pg.state == srvDown {
			f.pid = 0
			f.reportDown(f.n.pg.pid)
		}
	})
}

func (f *fencer) reportDown(pid int) {
	f.w().checks.reportedDown(f.n)
	f.tell(func(a *agent) { a.serverDown(pid) })
}

// exited is the end of the postmaster, as the kernel reports it.
func (f *fencer) exited(pid int) {
	f.p.run(func() {
		if f.busy || f.pid != pid || f.n.pg.pid != pid {
			return
		}
		f.tell(func(a *agent) { a.serverExited(pid) })
		if f.w().bug(BugDownAtExit) {
			f.pid = 0
			f.reportDown(pid)
			return
		}
		f.down()
	})
}

// sawWritable looks after a grace whether a server is writable without a token.
func (f *fencer) sawWritable() {
	if f.w().bug(BugPromoteUnarmed) || f.w().bug(BugForgetBeforeDown) {
		return
	}
	f.w().after(time.Second, func() {
		f.p.run(func() {
			if f.n.pg.open && !f.mem.armed && !f.busy {
				f.w().note(f.n.index, "fencer: writable without a token")
				f.down()
			}
		})
	})
}

// says is when something that is sent now arrives: what the fencer says comes in the order in which it
// said it, answers and events alike.
func (f *fencer) says(took time.Duration) time.Duration {
	f.wire = max(f.wire, f.w().now+took)
	return f.wire - f.w().now
}

// tell sends word to the connected agent.
func (f *fencer) tell(fn func(*agent)) {
	f.p.run(func() {
		a := f.agent
		f.w().after(f.says(time.Millisecond), func() {
			if a != nil && f.agent == a {
				a.p.run(func() { fn(a) })
			}
		})
	})
}

// begin starts the process anew, with what its predecessor left on disk.
func (f *fencer) begin() {
	f.p.begin()
	f.mem, f.agent, f.starting = f.file, nil, new(int)
	if f.mem.boot != f.n.boots {
		f.mem.boot, f.mem.promise, f.mem.lostAt = f.n.boots, 0, f.now()
		f.file = f.mem
	}
	if f.w().bug(BugForgetPromise) {
		f.mem.promise, f.mem.lostAt = 0, 0
	}
	pg := &f.n.pg
	f.w().note(f.n.index, "fencer starts (armed %t)", f.mem.armed)
	f.gen++
	if f.mem.armed {
		f.watch()
	}
	f.pid = 0
	switch {
	case pg.running():
		f.pid = pg.pid
	case pg.state == srvOrphaned:
		f.busy = false
		f.down()
	}
	f.sawWritable()
	f.w().checks.writable(f.n)
}

func (f *fencer) kill() {
	f.p.kill()
	if f.agent != nil {
		a := f.agent
		f.agent = nil
		f.w().after(time.Millisecond, func() { a.p.run(func() { a.fencerLost() }) })
	}
}
