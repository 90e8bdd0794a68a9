package sim

import (
	"slices"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// serverState is where a server is in its life.
type serverState uint8

const (
	srvDown     serverState = iota
	srvStarting             // recovering, no connections
	srvStandby
	srvPrimary
	srvStopping // told to stop; how far it is, is in the fields
	srvOrphaned // the postmaster is dead, its backends are not
)

// server is one PostgreSQL server: processes, not data.
type server struct {
	n     *node
	state serverState
	// pid numbers the lives of the postmaster.
	pid int
	// since is when it was started.
	since time.Duration
	// open: there are backends that can acknowledge a commit.
	open bool
	// local: it listens to nobody outside (bootstrap).
	local  bool
	asked  bool // promotion was requested
	burnt  election.Timeline
	frozen int
	// replayed is how far a standby has replayed; received that a walreceiver ran in this life.
	replayed election.LSN
	received bool
	upstream string
	stream   *stream
	dials    int
	// senders are the streams to standbys, in the order in which they came.
	senders []*stream
	// What the postmaster and the checkpointer have loaded.
	master, sync syncFiles
	waiters      []waiting
	// reign is the epoch in which this server was made writable.
	reign uint64
}

// stream is a replication connection.
type stream struct {
	from, to *server
	fromPid  int
	toPid    int
	acked    election.LSN // as the primary knows
	busy     bool
	stuck    time.Duration
	// closed at the standby's end, ended at the primary's: its walsender is gone.
	closed, ended bool
	// wire is when the last thing sent to the primary arrives.
	wire time.Duration
	// sync is what the walsender has loaded.
	sync syncFiles
}

func (s *server) disk() *disk { return &s.n.disk }
func (s *server) w() *World   { return s.n.w }

// running says that there is a postmaster.
func (s *server) running() bool { return s.state != srvDown && s.state != srvOrphaned }

// canAck says whether a client's commit could be acknowledged at this very moment.
func (s *server) canAck() bool { return s.open && !s.local && !s.halted() && s.n.power }

// halted says that its processes are stopped, alone or with the whole node.
func (s *server) halted() bool { return s.frozen > 0 || s.n.frozen > 0 }

// settle tells the checks that writability may have changed.
func (s *server) settle() { s.w().checks.writable(s.n) }

// setOpen lets backends acknowledge, or no longer.
func (s *server) setOpen(open bool) {
	if s.open == open {
		return
	}
	s.open = open
	if open {
		s.client(s.pid)
	} else {
		s.waiters = nil // whoever waits is cut off without an answer
	}
	s.settle()
}

// client commits as long as this life of the server takes commits.
func (s *server) client(pid int) {
	w := s.w()
	w.cue(w.between(w.cfg.CommitEvery/2, w.cfg.CommitEvery*3/2), s, uint64(pid))
}

func (s *server) act(pid uint64) {
	if uint64(s.pid) == pid && s.open {
		s.commit()
		s.client(s.pid)
	}
}

// later runs a step of the server's own life, unless that life is over by then. A frozen server
// waits.
func (s *server) later(d time.Duration, fn func()) {
	pid := s.pid
	var step func()
	step = func() {
		switch {
		case s.pid != pid || !s.running():
		case s.halted() || !s.n.power:
			s.w().after(50*time.Millisecond, step)
		default:
			fn()
		}
	}
	s.w().after(d, step)
}

// start makes a postmaster. What it becomes is decided by what lies on disk.
func (s *server) start(upstream string, local bool) {
	w, d := s.w(), s.disk()
	s.pid++
	s.since = s.n.w.now
	s.frozen = 0
	w.note(s.n.index, "postmaster %d starts (standby %t, timeline %d, %s)", s.pid, d.signal, d.tl, d.end())
	s.state, s.asked, s.local, s.received = srvStarting, false, local, false
	s.master, s.sync, s.waiters = s.n.sync, s.n.sync, nil
	s.upstream = upstream
	s.replayed = d.ctl.checkpoint
	took := w.between(50*time.Millisecond, 400*time.Millisecond)
	if d.ctl.state == inProduction && !d.signal {
		took += w.tail(0, w.cfg.RecoveryMax)
	}
	took += s.n.slowDisk()
	if w.cfg.StartFails > 0 && w.chance(w.cfg.StartFails) && !w.healed {
		s.later(took, func() { s.exit("could not start") })
		return
	}
	s.later(took, func() {
		if d.signal {
			s.becomeStandby()
			return
		}
		d.ctl.state = inProduction
		s.replayed = d.end()
		s.state = srvPrimary
		w.note(s.n.index, "server is a primary on timeline %d at %s", d.tl, d.end())
		w.checks.primary(s.n, false)
		s.setOpen(true)
		s.settle()
	})
}

func (s *server) becomeStandby() {
	w, d := s.w(), s.disk()
	d.ctl.state = inRecovery
	s.state = srvStandby
	s.catchUpReplay()
	s.dial(0)
	w.note(s.n.index, "server is a standby on timeline %d at %s", d.tl, d.end())
}

// catchUpReplay replays what lies in the local log, in steps.
func (s *server) catchUpReplay() {
	d := s.disk()
	if s.state != srvStandby || s.replayed >= d.end() {
		return
	}
	s.later(s.w().tail(5*time.Millisecond, 2*time.Second), func() {
		if s.state == srvStandby {
			s.replayed = s.disk().end()
			s.noteReplay()
		}
	})
}

func (s *server) noteReplay() {
	d := s.disk()
	d.ctl.minTL, d.ctl.minEnd = d.tl, s.replayed
}

// promote ends recovery: everything in the local log is replayed first, then a new timeline begins.
//
// Burnt is the number that the reign reserved: those below it may have been used by others, and
// their history files were put here so that PostgreSQL passes them over.
func (s *server) promote(burnt election.Timeline) {
	if s.state != srvStandby || s.asked {
		return
	}
	s.asked, s.burnt = true, burnt
	w := s.w()
	s.later(w.tail(20*time.Millisecond, w.cfg.PromoteMax)+s.n.slowDisk(), func() {
		if s.state != srvStandby {
			return
		}
		s.hangUp()
		d := s.disk()
		next := max(s.n.newestTL+1, s.burnt)
		d.hist = append(slices.Clone(d.hist), election.HistoryEntry{Timeline: d.tl, Switch: d.end()})
		d.tl = next
		s.n.learn(next)
		d.append(w.newRecord(next, d.end(), 200))
		d.signal = false
		d.ctl.state = inProduction
		d.ctl.minTL, d.ctl.minEnd = next, d.end()
		s.replayed = d.end()
		s.state = srvPrimary
		// The walsender of a standby that streams already loads the files before it begins the new timeline,
		// and confirms nothing of that before.
		for _, st := range s.senders {
			st.sync = s.master
		}
		w.note(s.n.index, "promoted: timeline %d begins at %s", next, d.end())
		w.checks.primary(s.n, true)
		s.setOpen(true)
		s.settle()
	})
}

// checkpoint writes a checkpoint record.
func (s *server) checkpoint() {
	if s.state != srvPrimary {
		return
	}
	d := s.disk()
	d.append(s.w().newRecord(d.tl, d.end(), 120))
	d.ctl.checkpoint, d.ctl.tl = d.end(), d.tl
	s.push()
}

// stopFast shuts down cleanly: backends go first, then the shutdown checkpoint is written and sent
// to the standbys that are connected, then the postmaster exits.
func (s *server) stopFast() {
	w := s.w()
	switch s.state {
	case srvStarting, srvStandby:
		s.hangUp()
		s.state = srvStopping
		s.later(w.between(10*time.Millisecond, 200*time.Millisecond), func() {
			s.disk().ctl.state = shutDownInRecovery
			s.noteReplay()
			s.exit("stopped")
		})
	case srvPrimary:
		s.state = srvStopping
		w.note(s.n.index, "fast shutdown begins")
		s.later(w.between(0, 20*time.Millisecond), func() {
			s.setOpen(false)
			s.later(w.tail(5*time.Millisecond, 3*time.Second)+s.n.slowDisk(), func() {
				d := s.disk()
				d.append(w.newRecord(d.tl, d.end(), 120))
				d.ctl = control{state: shutDown, checkpoint: d.end() - 120, end: d.end(), tl: d.tl}
				w.note(s.n.index, "shutdown checkpoint ends at %s", d.end())
				s.push()
				s.drain(w.now + w.between(2*time.Second, 10*time.Second))
			})
		})
	}
}

// drain waits until the connected standbys have everything.
func (s *server) drain(limit time.Duration) {
	w := s.w()
	for _, st := range s.senders {
		if !st.over() && st.acked < s.disk().end() && w.now < limit {
			s.later(10*time.Millisecond, func() { s.drain(limit) })
			return
		}
	}
	s.later(w.tail(2*time.Millisecond, 2*time.Second), func() { s.exit("shut down") })
}

// stopImmediate ends all backends without a checkpoint.
func (s *server) stopImmediate() {
	if !s.running() {
		return
	}
	w := s.w()
	s.state = srvStopping
	s.later(w.tail(time.Millisecond, 300*time.Millisecond), func() { s.exit("stopped at once") })
}

// exit ends the postmaster in order, with no backend left.
func (s *server) exit(why string) {
	s.end(srvDown, why)
	s.setOpen(false)
	s.n.fencer.exited(s.pid)
}

// killPostmaster is kill -9 of the postmaster alone: backends live on until they notice.
func (s *server) killPostmaster() {
	if !s.running() {
		return
	}
	was := s.open
	w := s.w()
	if !was {
		s.end(srvDown, "postmaster killed")
	} else {
		// Backends and walsenders go on until they notice.
		w.note(s.n.index, "server ends: postmaster killed")
		s.hangUp()
		s.state = srvOrphaned
		pid := s.pid
		w.after(w.between(500*time.Millisecond, 8*time.Second), func() {
			if s.pid == pid && s.state == srvOrphaned {
				s.end(srvDown, "orphans notice")
				s.setOpen(false)
			}
		})
	}
	s.n.fencer.exited(s.pid)
}

// killAll leaves no process.
func (s *server) killAll(why string) {
	was := s.state
	s.end(srvDown, why)
	s.setOpen(false)
	if was != srvDown && was != srvOrphaned {
		s.n.fencer.exited(s.pid)
	}
}

func (s *server) end(to serverState, why string) {
	if s.state != srvDown {
		s.w().note(s.n.index, "server ends: %s", why)
	}
	s.hangUp()
	for _, st := range s.senders {
		st.close()
	}
	s.senders, s.waiters = nil, nil
	s.state, s.frozen = to, 0
}

// freeze stops the processes of the server until the result is called.
func (s *server) freeze() (thaw func()) {
	pid := s.pid
	s.frozen++
	s.settle()
	return func() {
		if s.pid == pid && s.frozen > 0 {
			s.frozen--
			s.settle()
			s.answer()
		}
	}
}
