package fencer

import "time"

// idle says that nobody needs this process.
func (s *server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent == nil && s.srv == nil && !s.d.Armed && !s.watch.busy()
}

// lookBusy is how often a fencer that is needed looks whether it still is.
const lookBusy = 10 * time.Second

// lookAfter is when to look next whether anything is to be tidied up, or nobody needs this process.
func (s *server) lookAfter() time.Duration {
	idle := s.idle()
	s.mu.Lock()
	defer s.mu.Unlock()
	every := lookBusy
	if idle || len(s.staleGroups) > 0 {
		every = time.Second
	}
	return min(every, s.opts.IdleExit)
}

// idleFor is how long nobody has needed this process, counted from the first look that found it so.
func (s *server) idleFor() time.Duration {
	idle := s.idle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !idle {
		s.idleSince = 0
		return 0
	}
	if s.idleSince == 0 {
		s.idleSince = Now()
	}
	return Now() - s.idleSince
}
