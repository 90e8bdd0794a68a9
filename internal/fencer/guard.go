package fencer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"
)

const guardEvery = time.Second

// guard watches a server that runs without a token: if it becomes writable (a promotion by hand, a
// recovery target with action promote, a plain start after a promotion that crashed), it is killed
// after a short grace (safety review, hole 14). It reads the disk, so it has a goroutine of its own.
func (s *server) guard(ctx context.Context) {
	var events *controlEvents
	defer func() {
		if events != nil {
			events.close()
		}
	}()
	for {
		changed, running := s.controlWatch(&events)
		wait := guardEvery
		if running {
			wait = s.guardOnce()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		s.tidy()
	}
}

// controlWatch keeps the inotify watch as long as a server runs.
func (s *server) controlWatch(events **controlEvents) (<-chan struct{}, bool) {
	s.mu.Lock()
	running := s.srv != nil
	s.mu.Unlock()
	if !running {
		if *events != nil {
			(*events).close()
			*events = nil
		}
		return nil, false
	}
	if *events == nil {
		e, err := watchControl(s.opts.DataDir)
		if err != nil {
			return nil, true // the tick of guardEvery remains
		}
		*events = e
	}
	return (*events).changed, true
}

func (s *server) wakeGuard() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// guardOnce looks once and returns when to look again.
func (s *server) guardOnce() time.Duration {
	s.mu.Lock()
	r := s.srv
	unarmed := r != nil && s.sh.state() == stateIdle && !s.watch.busy()
	if r != nil && !unarmed {
		r.writableSince, r.observed = 0, false
	}
	s.mu.Unlock()
	if !unarmed {
		return guardEvery
	}
	c, err := readControl(s.opts.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("cannot tell whether the server is writable", slog.String("error", err.Error()))
	}
	writable := err == nil && c.writableSince(r.control, r.since)
	return s.judge(r, writable)
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
