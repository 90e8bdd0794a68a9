package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// Synchronous replication, the way PostgreSQL does it. Whether a commit waits at all is what the
// checkpointer has loaded; which standbys release it is what each walsender has loaded, at its own time
// (safety review, hole 13).

// waiting is a commit that has not been acknowledged yet.
type waiting struct {
	rec record
	// released: its backend may answer the client; it has not run since.
	released bool
}

// waitersMost is how many sessions wait at a time; more do not begin a transaction.
const waitersMost = 6

// syncFiles is what the configuration says that pgha writes.
type syncFiles struct {
	setting election.SyncSetting
	gen     int // counts the versions
}

// writeSync changes the file. The server goes by it after a reload only.
func (n *node) writeSync(s election.SyncSetting) {
	if n.sync.setting.Equal(s) {
		return
	}
	n.sync.gen++
	n.sync.setting = s
	n.w.note(n.index, "synchronous_standby_names becomes %s", s)
}

// reload has every process of the server read the files, each when it comes to it.
func (s *server) reload() {
	if !s.running() {
		return
	}
	w := s.w()
	s.master = s.n.sync
	s.later(w.tail(time.Millisecond, 2*time.Second), func() { s.load() })
	for _, st := range s.senders {
		s.later(w.tail(time.Millisecond, 2*time.Second), func() {
			st.sync = s.master
			w.checks.crossing(s.n)
			s.release(st)
		})
	}
}

// load is the checkpointer: it says whether commits wait. When they need not any more, those that do
// are let go.
func (s *server) load() {
	if s.sync.gen == s.master.gen {
		return
	}
	s.sync = s.master
	s.w().checks.crossing(s.n)
	if s.sync.setting.Wait == 0 {
		s.letGo(s.disk().end())
	}
}

// proven says that every process of the server goes by the files.
func (s *server) proven() bool {
	return s.sync.gen == s.n.sync.gen && s.sendersLoaded()
}

// sendersLoaded says that every walsender goes by the files.
func (s *server) sendersLoaded() bool {
	for _, st := range s.senders {
		if !st.over() && st.sync.gen != s.n.sync.gen {
			return false
		}
	}
	return true
}

// release is what a walsender does with a reply: it computes, by the setting that it has loaded itself,
// how far the commits are confirmed, if its own standby counts at all.
func (s *server) release(st *stream) {
	set := st.sync.setting
	if s.state == srvStandby || set.Wait == 0 || !slices.Contains(set.Names, st.to.n.name) {
		return
	}
	var at []election.LSN
	for _, name := range set.Names {
		best := election.LSN(0)
		found := false
		for _, o := range s.senders {
			if !o.over() && o.to.n.name == name {
				best, found = max(best, o.acked), true
			}
		}
		if found {
			at = append(at, best)
		}
	}
	if len(at) < set.Wait {
		return
	}
	if set.Any {
		slices.Sort(at)
		s.letGo(at[len(at)-set.Wait])
		return
	}
	s.letGo(slices.Min(at[:set.Wait]))
}

// letGo releases the commits up to a position.
func (s *server) letGo(lsn election.LSN) {
	for i := range s.waiters {
		if s.waiters[i].rec.end <= lsn {
			s.waiters[i].released = true
		}
	}
	s.answer()
}

// answer lets the released backends tell their clients, if they run.
func (s *server) answer() {
	if !s.canAck() {
		return
	}
	keep := s.waiters[:0]
	for _, wt := range s.waiters {
		if wt.released {
			s.w().checks.acked(s.n, wt.rec)
		} else {
			keep = append(keep, wt)
		}
	}
	s.waiters = keep
}

// commit is one client's transaction. It is acknowledged at once, or waits for its standbys.
func (s *server) commit() {
	if !s.canAck() || len(s.waiters) >= waitersMost {
		return
	}
	w, d := s.w(), s.disk()
	r := w.newRecord(d.tl, d.end(), election.LSN(80+w.rng.IntN(4000)))
	d.append(r)
	if s.sync.setting.Wait > 0 {
		s.waiters = append(s.waiters, waiting{rec: r})
	} else {
		w.checks.acked(s.n, r)
	}
	s.push()
}

// over says that the primary's end of a stream is closed.
func (st *stream) over() bool { return st.ended || st.from.pid != st.fromPid }

// reply is what the standby says it has made durable.
func (st *stream) reply() {
	n, lsn := st.to.n, st.to.disk().end()
	n.disk.told = max(n.disk.told, lsn)
	st.from.w().checks.replied(n, st.from.n)
	st.send(&word{st: st, lsn: lsn})
}

// word is something on its way to the primary's end of a stream: what the standby has made durable, or that
// it hung up.
type word struct {
	st       *stream
	lsn      election.LSN
	hangUp   bool
	patience time.Duration
}

// send brings something to the primary's end, in the order in which it was sent: what was sent before
// the standby hung up still arrives, late perhaps.
func (st *stream) send(o *word) {
	w := st.from.w()
	o.patience = w.cfg.WalTimeout
	st.wire = max(st.wire, w.now+w.net.delay(st.to.n.index, st.from.n.index))
	w.cue(st.wire-w.now, o, 0)
}

// act is its arrival.
func (o *word) act(uint64) {
	st := o.st
	w := st.from.w()
	const again = 300 * time.Millisecond
	switch {
	case st.over() || !st.from.n.power:
	case st.from.halted():
		w.cue(again, o, 0)
	case w.net.open(st.to.n.index, st.from.n.index):
		if o.hangUp {
			st.ended = true
			return
		}
		st.acked = max(st.acked, o.lsn)
		st.from.release(st)
	case o.patience <= 0:
		st.ended = true
		w.after(w.cfg.WalTimeout, st.close) // the standby hears nothing more
	default:
		o.patience -= again
		st.wire = max(st.wire, w.now+again)
		w.cue(st.wire-w.now, o, 0)
	}
}

// walsenders are the standbys as the server's own view shows them. One that has left log unconfirmed for
// a while counts as gone.
func (s *server) walsenders() []election.Walsender {
	var out []election.Walsender
	for _, st := range s.senders {
		if st.over() || st.stuck >= staleReply {
			continue
		}
		w := election.Walsender{Name: st.to.n.name, State: "streaming", LSN: st.acked}
		i, there := slices.BinarySearchFunc(out, w.Name, func(o election.Walsender, name string) int { return strings.Compare(o.Name, name) })
		if there {
			out[i].LSN = max(out[i].LSN, w.LSN)
		} else {
			out = slices.Insert(out, i, w)
		}
	}
	return out
}

// staleReply is how long a standby may leave log unconfirmed before it counts as gone.
const staleReply = 2 * time.Second
