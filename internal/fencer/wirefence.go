package fencer

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/fencer/wire"
)

const (
	// wireLag is how long after T the wire closes (F = T + wireLag). A server that is killed at T
	// needs some milliseconds to be gone, and its clients are to hear its farewell. The lag and
	// wireSlow come out of the 0.3 s of the margin that are there for waking up and killing, which
	// the kernel needs no time for; what the margin has for clocks that run apart stays untouched.
	wireLag = 150 * time.Millisecond
	// wireSlow bounds how much later than computed the kernel may have begun to count.
	wireSlow = 100 * time.Millisecond
	// wireTries is for a machine so busy that a renewal takes longer than that.
	wireTries = 4
)

// wireFence keeps the kernel's fence in step with the token: while a deadline runs, the kernel by
// itself closes the server's port soon after it, whether or not a process of pgha lives or runs
// then. The deadline thread knows nothing of it.
type wireFence struct {
	mu   sync.Mutex // also held by whoever changes token and fence together
	conn *wire.Conn
	// end is where the server listens; zero: no fence is asked for.
	end    wire.Endpoint
	secret wire.Secret

	// up: there is a fence of ours, or may be. Written with mu held.
	up      atomic.Bool
	asked   atomic.Bool
	problem atomic.Pointer[string]
	log     *slog.Logger
	// ahead says that the deadline that counts now has not passed.
	ahead func() bool
}

// recall takes over what the fencer before may have left in the kernel. A token that still counts
// keeps its fence, and one whose time has passed keeps it until the server is proven down. Without
// any state nobody knows what the server is, so the fence stays until it is down, or armed, or found
// not to be writable.
func (w *wireFence) recall(s *server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = s.log
	w.ahead = func() bool { return s.sh.state() == stateArmed && s.sh.remaining() > 0 }
	conn, err := wire.Dial()
	if err != nil {
		w.failed(err)
	}
	w.conn = conn
	w.end, w.secret = s.d.Wire, s.d.WireSecret
	if w.secret == (wire.Secret{}) {
		_, _ = rand.Read(w.secret[:]) // never fails on Linux
		s.d.WireSecret = w.secret
	}
	w.asked.Store(!w.end.IsZero())
	w.up.Store(true)
	if (!s.d.Armed || s.sh.letsBe()) && !s.stateLost {
		w.lift()
	}
}

func (w *wireFence) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

func (w *wireFence) state() WireState {
	switch {
	case !w.asked.Load():
		return WireOff
	case w.problem.Load() != nil:
		return WireFailed
	case w.up.Load():
		return WireUp
	default:
		return WireReady
	}
}

// trouble is why there is no fence although one is asked for.
func (w *wireFence) trouble() string {
	if p := w.problem.Load(); p != nil && w.asked.Load() {
		return *p
	}
	return ""
}

// failed notes why, and tells the log once.
func (w *wireFence) failed(err error) {
	text := err.Error()
	if errors.Is(err, unix.EPERM) {
		text = "the server is not fenced on the wire: it needs CAP_NET_ADMIN (" + text + ")"
	}
	if last := w.problem.Swap(&text); last == nil || *last != text {
		w.log.Warn("no fence on the wire", slog.String("error", text))
	}
}

var errNoNetlink = errors.New("wire fence: no netlink socket")

// until closes the wire at F of the deadline T, and not before. It returns without error when that
// is in force, or when there is no fence that could close too early. Callers hold mu.
func (w *wireFence) until(t time.Duration, renewal bool) error {
	if w.end.IsZero() {
		return nil
	}
	raw := rawDeadline(t)
	left := func() time.Duration { return min(t-Now(), raw-rawNow()) + wireLag }
	for range wireTries {
		began := left()
		if began <= wireLag {
			w.shut()
			return fmt.Errorf("%w: by %s", ErrPast, wireLag-began)
		}
		if err := w.put(began, renewal); err != nil {
			return w.giveUp(err)
		}
		// The kernel counts from when it got to it. A process that stood still before would close
		// the wire too late by as much: count again.
		if began-left() < wireSlow {
			w.problem.Store(nil)
			return nil
		}
		renewal = true
	}
	// T stays where it is, and the fence with it.
	return w.giveUp(fmt.Errorf("wire fence: no renewal within %s", wireSlow))
}

// put writes one deadline to the kernel. A renewal opens nothing that has closed: whoever calls has
// seen that T has not passed, so a fence that is not open has been taken away by somebody (all rules
// of a machine are when its packet filter is loaded anew), and is put up again.
func (w *wireFence) put(left time.Duration, renewal bool) error {
	if w.conn == nil {
		return errNoNetlink
	}
	if renewal && w.up.Load() && w.problem.Load() == nil {
		err := w.conn.Renew(w.end, left)
		if err == nil || !errors.Is(err, wire.ErrClosed) {
			return err
		}
		up, err := w.conn.Up(w.end)
		// One that is there and closed although the old deadline lies ahead was emptied by somebody, or has
		// been opened by word for a fencer without rights: it is made anew as well.
		if err != nil || up && !w.ahead() {
			return errors.Join(wire.ErrClosed, err)
		}
		w.log.Warn("the fence on the wire was not as it was left", slog.String("table", w.end.Table()), slog.Bool("there", up))
	}
	err := w.conn.Guard(w.end, w.secret, left)
	if err == nil {
		w.up.Store(true)
	}
	return err
}

// giveUp does without a fence that cannot be put up. One that is there and can neither be renewed
// nor removed closes at its own time: then T must not be moved beyond it, and the error says so.
func (w *wireFence) giveUp(err error) error {
	if errors.Is(err, wire.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrPast, err)
	}
	w.failed(err)
	if !w.lift() {
		return fmt.Errorf("the server will be cut off the wire and that cannot be put off: %w", err)
	}
	return nil
}

func (w *wireFence) shut() {
	if w.conn != nil && w.up.Load() {
		_ = w.conn.Shut(w.end)
	}
}

// lift opens the wire, with the rights of this process or, if it has none, by the word that the
// fencer before left. False: a fence is there and stays. Callers hold mu.
func (w *wireFence) lift() bool {
	if !w.up.Load() || w.end.IsZero() {
		return true
	}
	err := errNoNetlink
	if w.conn != nil {
		err = w.conn.Lift(w.end)
	}
	if err == nil {
		w.up.Store(false)
		return true
	}
	w.failed(err)
	switch kerr := wire.Knock(w.end, w.secret); {
	case kerr == nil:
		w.log.Warn("the fence on the wire was opened by word, not removed", slog.String("table", w.end.Table()))
	case !errors.Is(kerr, wire.ErrNoFence):
		w.failed(errors.Join(err, kerr))
		return false
	}
	w.up.Store(false)
	return true
}

// liftUnarmed opens the wire if no token counts. Callers hold wire.mu.
func (s *server) liftUnarmed() {
	if s.sh.state() == stateIdle {
		s.wire.lift()
	}
}

// settleWire is for a server that is known not to be writable.
func (s *server) settleWire() {
	if !s.wire.up.Load() {
		return
	}
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.liftUnarmed()
}

// setEndpoint says where the server listens, or will. A server that runs stays where it is, so what
// an agent says at its hello is for the next one then; starts: this is the next one.
func (s *server) setEndpoint(e wire.Endpoint, starts bool) {
	w := &s.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	s.mu.Lock()
	runs := s.srv != nil || s.watch.busy()
	armed, until, lost := s.d.Armed, s.d.Token.Until, s.stateLost
	s.mu.Unlock()
	if !starts && runs && !w.end.IsZero() && !e.IsZero() || s.sh.state() == stateStruck && !w.end.IsZero() {
		e = w.end // until the server is proven down, if it was struck
	}
	if !e.Equal(w.end) {
		if !w.end.IsZero() {
			w.lift()
		}
		w.end = e
		w.up.Store(true) // one of an earlier life may be there
		w.asked.Store(!e.IsZero())
		s.mu.Lock()
		s.d.Wire = e
		s.mu.Unlock()
		s.saveSoon()
	}
	switch {
	case e.IsZero():
	case s.sh.letsBe() && s.sh.state() != stateStruck:
		w.lift()
		w.probe()
	case armed && s.sh.state() == stateArmed:
		if err := w.until(until, w.problem.Load() == nil); err != nil {
			s.log.Warn("wire fence not in force", slog.String("error", err.Error()))
		}
	case !armed && (starts || !runs || !lost):
		w.lift()
		w.probe()
	}
}

// probe finds out, while nothing depends on it, whether the fence can be put up.
func (w *wireFence) probe() {
	err := errNoNetlink
	if w.conn != nil {
		err = w.conn.Probe(w.end)
	}
	if err != nil {
		w.failed(err)
		return
	}
	w.problem.Store(nil)
}
