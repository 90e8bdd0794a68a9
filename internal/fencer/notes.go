package fencer

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// What the watcher reports, and what becomes of it.

// handle takes one note of the deadline thread.
func (s *server) handle(n note) {
	switch n.kind {
	case noteFenced:
		s.mu.Lock()
		s.d.FencedAt = n.at
		epoch := s.d.Token.Epoch
		s.mu.Unlock()
		s.log.Warn("deadline passed, server is being killed",
			slog.Duration("late", n.at-n.until), slog.Duration("until", n.until))
		s.emit(Event{Kind: EventFenced, At: n.at, Epoch: epoch, Reason: "deadline passed without renewal"})
	case noteLapsed:
		s.lapsed(n)
	case noteExited:
		s.exited(n)
	case noteDown:
		s.down(n)
	}
}

// lapsed: a deadline passed while the policy is to let the server be.
func (s *server) lapsed(n note) {
	s.mu.Lock()
	over := s.d.Armed && s.sh.state() == stateIdle // else it was armed anew meanwhile
	if over {
		s.d.Armed = false
	}
	epoch := s.d.Token.Epoch
	s.mu.Unlock()
	if !over {
		return
	}
	s.settleWire()
	s.log.Warn("deadline passed, and the server is left as it is, which is the policy", slog.Duration("until", n.until))
	s.emit(Event{Kind: EventLapsed, At: n.at, Epoch: epoch, Reason: "deadline passed without renewal"})
	s.saveSoon()
	s.wakeGuard() // after that word: what it sees is the news that follows
}

func (s *server) exited(n note) {
	s.reap.reap()
	s.mu.Lock()
	if s.srv == nil || s.srv.pidfd != n.server {
		s.mu.Unlock()
		return
	}
	status := ExitStatus{}
	if s.srv.child != nil {
		status, _ = s.srv.child.ended()
	}
	pid := s.srv.pid
	s.srv.exitTold = true
	s.lastExitPid, s.lastExit = pid, status
	s.mu.Unlock()
	s.log.Info("postmaster exited", slog.Int("pid", pid), slog.Any("status", status))
	s.emit(Event{Kind: EventExited, Pid: pid, Status: status, At: n.at})
}

func (s *server) down(n note) {
	s.mu.Lock()
	untold := s.srv != nil && s.srv.pidfd == n.server && !s.srv.exitTold
	s.mu.Unlock()
	if untold { // a killed postmaster in uninterruptible sleep: silent, so as good as gone
		s.exited(n)
	}
	lingering := s.lingering()
	s.wire.mu.Lock()
	s.mu.Lock()
	pid := 0
	if s.srv != nil && s.srv.pidfd == n.server {
		pid = s.srv.pid
		s.forget()
	}
	if n.reason == reasonDeadline {
		s.d.Armed = false
		s.d.EndedEpoch = max(s.d.EndedEpoch, s.d.Token.Epoch)
		s.sh.disarm()
	}
	s.watch.active.Add(-1)
	close(s.downCh)
	s.downCh = make(chan struct{})
	s.mu.Unlock()
	s.liftUnarmed()
	s.wire.mu.Unlock()
	s.saveSoon()
	s.wakeGuard()
	s.log.Info("server is down", slog.Int("pid", pid), slog.String("reason", n.reason.String()),
		slog.Any("lingering", lingering))
	s.emit(Event{Kind: EventDown, Pid: pid, At: n.at, Reason: n.reason.String(), Lingering: lingering})
	s.removeStaleGroups()
}

// forget drops the server at hand. Callers hold mu.
func (s *server) forget() {
	_ = unix.Close(s.srv.pidfd)
	if s.srv.cgroup != nil {
		s.srv.cgroup.close()
		s.staleGroups = append(s.staleGroups, s.srv.cgroup.path)
	}
	s.srv = nil
	s.d.Server = nil
	s.sh.postmaster.Store(0)
	s.sh.setCgroup("")
}
