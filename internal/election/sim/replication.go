package sim

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// follow points a running standby at another upstream, by reload.
func (s *server) follow(upstream string) {
	if s.upstream == upstream {
		return
	}
	s.upstream = upstream
	s.hangUp()
	s.dial(20 * time.Millisecond)
}

// reloadUpstream has the running server read that it follows nobody.
func (s *server) reloadUpstream() {
	s.later(s.w().tail(time.Millisecond, 500*time.Millisecond), func() {
		if s.n.upstream == "" {
			s.follow("")
			s.catchUpReplay()
		}
	})
}

// hangUp ends the own stream.
func (s *server) hangUp() {
	if s.stream != nil {
		s.stream.close()
	}
}

// close ends a stream; the standby dials again, if it still is one.
func (st *stream) close() {
	if st.closed {
		return
	}
	st.closed = true
	st.send(&word{st: st, hangUp: true})
	if st.to.stream == st {
		st.to.stream = nil
		st.to.dial(st.to.w().between(20*time.Millisecond, time.Second))
	}
}

// dial tries to connect to the upstream, again and again while this life lasts.
func (s *server) dial(d time.Duration) {
	if s.state != srvStandby {
		return
	}
	s.dials++
	turn := s.dials
	s.later(d, func() {
		if s.state != srvStandby || turn != s.dials || s.asked || s.stream != nil {
			return
		}
		if s.upstream == "" || !s.connect() {
			s.dial(s.w().between(200*time.Millisecond, time.Second))
		}
	})
}

// connect begins to stream, if PostgreSQL would.
func (s *server) connect() bool {
	w := s.w()
	n := w.node(s.upstream)
	if n == nil || n == s.n || !n.power || !w.net.both(s.n.index, n.index) {
		return false
	}
	up := &n.pg
	serves := up.state == srvPrimary && !up.local || up.state == srvStandby
	if !serves || up.halted() || !streamable(s.disk(), up.disk()) {
		return false
	}
	if w.now < s.n.mutedUntil {
		return false
	}
	st := &stream{from: up, to: s, fromPid: up.pid, toPid: s.pid, sync: up.master}
	s.stream, s.received = st, true
	up.senders = append(up.senders, st)
	w.note(s.n.index, "streams from %s at timeline %d, %s", n.name, s.disk().tl, s.disk().end())
	w.checks.streaming(s.n, n)
	st.reply()
	st.push()
	return true
}

// push sends what is new to all standbys.
func (s *server) push() {
	keep := s.senders[:0]
	for _, st := range s.senders {
		if !st.over() {
			keep = append(keep, st)
			st.push()
		}
	}
	s.senders = keep
}

// push schedules the next delivery of a stream.
func (st *stream) push() {
	if st.busy || st.closed {
		return
	}
	st.busy = true
	w := st.from.w()
	d := w.net.delay(st.from.n.index, st.to.n.index) + w.tail(0, w.cfg.ReplicationLag)
	w.cue(d, st, 0)
}

func (st *stream) act(uint64) { st.deliver() }

// valid says that both ends still live the life in which the stream began.
func (st *stream) valid() bool {
	alive := st.from.state == srvPrimary || st.from.state == srvStandby || st.from.state == srvStopping || st.from.state == srvOrphaned
	return !st.closed && st.from.pid == st.fromPid && st.to.pid == st.toPid && alive &&
		st.to.state == srvStandby && st.to.n.power && st.from.n.power
}

func (st *stream) deliver() {
	st.busy = false
	if !st.valid() {
		st.close()
		return
	}
	w := st.from.w()
	if !w.net.both(st.from.n.index, st.to.n.index) || st.from.halted() || st.to.halted() {
		const again = 400 * time.Millisecond
		if st.stuck += again; st.stuck > w.cfg.WalTimeout {
			w.note(st.to.n.index, "stream from %s breaks", st.from.n.name)
			st.close()
			st.ended = true
			return
		}
		st.busy = true
		w.cue(again, st, 0)
		return
	}
	st.stuck = 0
	to, from := st.to.disk(), st.from.disk()
	if !w.checks.sameHistory(st.to.n, st.from.n) {
		st.close()
		return
	}
	if n := len(to.wal); n < len(from.wal) {
		to.wal = append(to.wal, from.wal[n:]...)
		if to.tl != from.tl {
			to.tl, to.hist = from.tl, from.hist
			st.to.n.learn(from.tl)
		}
		st.to.replayed = to.end()
		st.to.noteReplay()
		st.to.push()
		st.reply()
	}
}

// receivedLSN is what the standby says it has: what it received in this life, or else only what it
// has replayed.
func (s *server) receivedLSN() election.LSN {
	if s.received {
		return s.disk().end()
	}
	return s.replayed
}
