package fencer

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An idle fencer wakes seldom, but never at the price of not seeing what it is there for.
func TestGuardLooksAsSeldomAsTheEventsAllow(t *testing.T) {
	sh := newTestShared(t)
	data := t.TempDir()
	must(t, os.Mkdir(filepath.Join(data, "global"), 0o700))
	head := make([]byte, controlHead)
	must(t, os.WriteFile(filepath.Join(data, "global", "pg_control"), head, 0o600))
	w, err := newWatcher(sh)
	must(t, err)
	s := &server{sh: sh, watch: w, srv: &running{since: time.Now()}, opts: ServerOptions{DataDir: data, UnarmedGrace: time.Second}}
	s.log = slog.New(slog.DiscardHandler)
	look := func(state string, watched bool, want time.Duration) {
		t.Helper()
		if got := s.guardOnce(watched); got != want {
			t.Errorf("%s, watched %v: next look after %s, want %s", state, watched, got, want)
		}
	}
	look("a standby", true, guardWatched)
	look("a standby", false, guardEvery)
	sh.arm(Now()+time.Hour, rawNow()+time.Hour)
	look("armed", true, guardAway)
	w.active.Store(1)
	look("armed and being killed", true, guardEvery)
	w.active.Store(0)
	sh.disarm()
	head[controlStateOffset] = controlInProduction
	must(t, os.WriteFile(filepath.Join(data, "global", "pg_control"), head, 0o600))
	if got := s.guardOnce(true); got > time.Second {
		t.Errorf("writable without a token: next look after %s, later than the grace", got)
	}
}

// A watch is for one server: the directory may be another one under the next, and a watch that has
// ended must not be relied on.
func TestControlWatchIsMadeAnewForEachServer(t *testing.T) {
	data := t.TempDir()
	must(t, os.Mkdir(filepath.Join(data, "global"), 0o700))
	var w controlWatch
	t.Cleanup(w.end)
	told := func() {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(data, "global", "pg_control"), nil, 0o600))
		select {
		case <-w.changed():
		case <-time.After(10 * time.Second):
			t.Fatal("a change of pg_control was not reported")
		}
	}
	first := &running{}
	w.follow(first, data)
	told()
	must(t, os.Rename(data, data+".aside"))
	must(t, os.MkdirAll(filepath.Join(data, "global"), 0o700))
	w.follow(&running{}, data)
	told()
	_ = w.events.file.Close()
	<-w.events.done
	if w.works() {
		t.Error("a watch that has ended counts as one")
	}
	w.follow(w.of, data)
	told()
	if w.follow(nil, data); w.works() || w.changed() != nil {
		t.Error("a watch without a server")
	}
}

// The time without need counts from when it was found, not from an earlier one.
func TestIdleTimeBeginsAnew(t *testing.T) {
	sh := newTestShared(t)
	w, err := newWatcher(sh)
	must(t, err)
	s := &server{sh: sh, watch: w, opts: ServerOptions{IdleExit: time.Minute}, idleSince: Now() - time.Hour}
	if s.idleFor() < time.Hour || s.lookAfter() != time.Second {
		t.Errorf("idle: for %s, looks every %s", s.idleFor(), s.lookAfter())
	}
	s.d.Armed = true
	if s.idleFor() != 0 || s.lookAfter() != lookBusy {
		t.Errorf("needed: idle for %s, looks every %s", s.idleFor(), s.lookAfter())
	}
	s.d.Armed = false
	if got := s.idleFor(); got > time.Minute {
		t.Errorf("idle again: for %s", got)
	}
}
