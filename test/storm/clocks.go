package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// clockStep is the name of the fault.
const clockStep = "clock step"

// clocks are the wall clocks of the members' PostgreSQL servers, faked by a preloaded library that
// reads an offset from a file. Agents, fencers and etcd have no library to preload: their clocks
// are the machine's.
type clocks struct {
	library, dir string
	steps        []clockChange
}

// clockChange is a step of one server's clock.
type clockChange struct {
	server string // host:port, as in acknowledgements
	// from is before the step, until when every process of the server has the new offset.
	from, until time.Duration
	offset      time.Duration
}

// clockCache is how long a process may go on with an offset that it has read, as told to the
// library, which counts in whole seconds.
const clockCache = time.Second

// findClocks is nil if the library is not installed.
func findClocks() *clocks {
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "pgha-clocks-")
	if err != nil {
		return nil
	}
	k := &clocks{library: found[0], dir: dir}
	if os.Chmod(dir, 0o755) != nil {
		k.close()
		return nil
	}
	return k
}

func (k *clocks) close() { _ = os.RemoveAll(k.dir) } // small files in the temporary directory

func (k *clocks) file(member string) string { return filepath.Join(k.dir, member) }

// env is what makes a member's server use the library.
func (k *clocks) env(member string) []string {
	if err := k.set(member, 0); err != nil {
		return nil // the proof of a step will fail
	}
	return []string{
		"LD_PRELOAD=" + k.library, "FAKETIME_TIMESTAMP_FILE=" + k.file(member), "DONT_FAKE_MONOTONIC=1",
		"FAKETIME_CACHE_DURATION=" + strconv.Itoa(int(clockCache.Seconds())),
	}
}

// set writes an offset. The file is replaced: a reader must not find half of one.
func (k *clocks) set(member string, offset time.Duration) error {
	text := fmt.Sprintf("%+d\n", int64(offset.Seconds()))
	next := k.file(member) + ".next"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return fmt.Errorf("clock of %s: %w", member, err)
	}
	if err := os.Rename(next, k.file(member)); err != nil {
		return fmt.Errorf("clock of %s: %w", member, err)
	}
	return nil
}

// step sets a member's clock off by so much and proves it with a new session.
func (k *clocks) step(ctx context.Context, m *cluster.Member, offset time.Duration) error {
	k.steps = append(k.steps, clockChange{server: m.PG(), from: cluster.Mono(), offset: offset, until: 1 << 62})
	now := &k.steps[len(k.steps)-1]
	if err := k.set(m.Name, offset); err != nil {
		return err
	}
	var seen time.Duration
	for end := cluster.Mono() + 10*time.Second; cluster.Mono() < end; {
		text, err := m.SQL(ctx, "SELECT extract(epoch FROM clock_timestamp())")
		if err != nil {
			return fmt.Errorf("clock of %s: %w", m.Name, err)
		}
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("clock of %s: %w", m.Name, err)
		}
		seen = time.Until(time.UnixMicro(int64(seconds * 1e6)))
		if (seen - offset).Abs() < time.Second {
			now.until = cluster.Mono() + 2*clockCache
			return nil
		}
	}
	return fmt.Errorf("clock of %s: it is off by %s, not by %s", m.Name, seen, offset)
}

// correct takes the offsets out of the servers' times in acknowledgements, and those times out
// that were taken while a clock was being stepped.
func (k *clocks) correct(acks []cluster.Ack) []cluster.Ack {
	out := slices.Clone(acks)
	for i := range out {
		a := &out[i]
		var offset time.Duration
		for _, s := range k.steps {
			switch {
			case s.server != a.Server || a.Received < s.from:
			case a.Sent < s.until:
				a.Executed = time.Time{}
			default:
				offset = s.offset
			}
		}
		if !a.Executed.IsZero() {
			a.Executed = a.Executed.Add(-offset)
		}
	}
	return out
}

// stepClock steps the clock of a server, there and back.
func stepClock(ctx context.Context, sc *scene) error {
	m := sc.victim()
	offsets := []time.Duration{-24 * time.Hour, -time.Hour, -5 * time.Second, 5 * time.Second, time.Hour, 24 * time.Hour}
	offset := offsets[sc.rng.IntN(len(offsets))]
	sc.what += fmt.Sprintf(", by %s", offset)
	if sc.second {
		// Beside another fault the server may not answer to prove it.
		return fmt.Errorf("%w: clocks are stepped alone or first", errVoid)
	}
	clocks := sc.s.o.clocks
	if err := clocks.step(ctx, m, offset); err != nil {
		return err
	}
	sc.undoLater(func(context.Context) error {
		last := cluster.Mono()
		clocks.steps = append(clocks.steps, clockChange{server: m.PG(), from: last, until: last + 5*clockCache})
		return clocks.set(m.Name, 0)
	})
	return nil
}
