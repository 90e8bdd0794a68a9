package fencer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

// How often the guard looks when nothing tells it to. An idle fencer should wake as seldom as it can.
const (
	guardEvery = time.Second
	// guardWatched is for a server whose pg_control is watched: the look is a second line behind the
	// events.
	guardWatched = 5 * time.Second
	// guardAway is for when there is nothing to see: no server, or a token. The end of either state wakes
	// the guard.
	guardAway = time.Minute
)

// guard watches a server that runs without a token: if it becomes writable (a promotion by hand, a
// recovery target with action promote, a plain start after a promotion that crashed), it is killed
// after a short grace (safety review, hole 14). It reads the disk, so it has a goroutine of its own.
func (s *server) guard(ctx context.Context) {
	var w controlWatch
	defer w.end()
	for {
		s.mu.Lock()
		r := s.srv
		s.mu.Unlock()
		w.follow(r, s.opts.DataDir)
		wait := guardAway
		if r != nil {
			wait = s.guardOnce(w.works())
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-w.changed():
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		s.tidy()
	}
}

// controlWatch keeps the inotify watch as long as one and the same server runs: the next one may run on
// another directory of the same name.
type controlWatch struct {
	of     *running
	events *controlEvents
}

// follow makes the watch that of the server at hand. Where there is none to be had, the looks every
// guardEvery remain.
func (w *controlWatch) follow(r *running, dataDir string) {
	if w.of == r && (r == nil || w.works()) {
		return
	}
	w.end()
	w.of = r
	if r == nil {
		return
	}
	if e, err := watchControl(dataDir); err == nil {
		w.events = e
	}
}

// works says that a change of the file will be reported.
func (w *controlWatch) works() bool {
	if w.events == nil {
		return false
	}
	select {
	case <-w.events.done:
		return false
	default:
		return true
	}
}

func (w *controlWatch) changed() <-chan struct{} {
	if w.events == nil {
		return nil
	}
	return w.events.changed
}

func (w *controlWatch) end() {
	if w.events != nil {
		w.events.close()
		w.events = nil
	}
}

func (s *server) wakeGuard() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// guardOnce looks once and returns when to look again. watched: a change of pg_control will be told.
func (s *server) guardOnce(watched bool) time.Duration {
	s.mu.Lock()
	r := s.srv
	state, busy := s.sh.state(), s.watch.busy()
	unarmed := r != nil && state == stateIdle && !busy
	if r != nil && !unarmed {
		r.writableSince, r.observed = 0, false
	}
	s.mu.Unlock()
	switch {
	case unarmed:
	case state == stateArmed && !busy:
		return guardAway
	default:
		return guardEvery // the server is being killed
	}
	c, err := readControl(s.opts.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("cannot tell whether the server is writable", slog.String("error", err.Error()))
	}
	writable := err == nil && c.writableSince(r.control, r.since)
	if err == nil && !writable {
		s.settleWire()
	}
	wait := s.judge(r, writable)
	if watched && err == nil && !writable {
		wait = guardWatched
	}
	return wait
}

// judge decides about a server without a token.
func (s *server) judge(r *running, writable bool) time.Duration {
	s.mu.Lock()
	// Armed or gone while the file was read.
	if s.srv != r || s.sh.state() != stateIdle || s.watch.busy() {
		s.mu.Unlock()
		return guardEvery
	}
	now := Now()
	if !r.looked {
		r.looked, r.foundWritable = true, r.adopted && writable
	}
	if !writable {
		r.writableSince, r.observed = 0, false
		s.mu.Unlock()
		return guardEvery
	}
	if r.writableSince == 0 {
		r.writableSince = now
	}
	killAt := r.writableSince + s.opts.UnarmedGrace
	if r.foundWritable {
		killAt = max(killAt, r.adoptedAt+s.opts.AdoptGrace)
	}
	if s.d.Policy == PolicyObserve {
		if s.d.PolicyUntil == 0 {
			killAt = now + 24*time.Hour
		}
		killAt = max(killAt, s.d.PolicyUntil)
	}
	kill := now >= killAt
	tell := kill || !r.observed
	r.observed = true
	r.condemned = kill // an arm that comes now is refused
	pid := r.pid
	s.mu.Unlock()
	if tell {
		s.tellUnarmed(pid, kill, killAt-now)
	}
	if kill {
		s.watch.ask(reasonUnarmed)
	}
	return min(guardEvery, max(killAt-now, time.Millisecond))
}

func (s *server) tellUnarmed(pid int, kill bool, left time.Duration) {
	if kill {
		s.log.Error("server is writable without a token and is being killed", slog.Int("pid", pid))
		s.emit(Event{Kind: EventKilled, Pid: pid, At: Now(), Reason: reasonUnarmed.String()})
		return
	}
	s.log.Warn("server is writable without a token", slog.Int("pid", pid), slog.Duration("killed_in", left))
	s.emit(Event{Kind: EventObserved, Pid: pid, At: Now(), Reason: reasonUnarmed.String()})
}
