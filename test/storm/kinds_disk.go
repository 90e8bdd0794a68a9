package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func diskKinds() []kind {
	return []kind{
		{name: "disk full", weight: 3, alone: true, begin: fillDisk},
		{name: "disk lost", weight: 2, alone: true, begin: loseDisk},
		{name: "clone, then kill", weight: 3, alone: true, begin: cloneAndKill},
		{name: clockStep, weight: 3, begin: stepClock},
	}
}

// fillDisk leaves no byte on the volume of a member's data, and makes the server need some.
func fillDisk(ctx context.Context, sc *scene) error {
	m := sc.victim()
	sc.moves = m == sc.primary
	free, err := m.FillVolume()
	if err != nil {
		return err
	}
	sc.undoLater(func(context.Context) error { return free() })
	if m != sc.primary {
		return nil // what the primary sends will fill it, or not
	}
	fill := "SELECT count(pg_logical_emit_message(false, 'x', repeat('x', 10000))) FROM generate_series(1, 1000)"
	failed := false
	for range 20 { // ten megabytes each; WAL segments kept for later use take the first of them
		fctx, cancel := context.WithTimeout(ctx, sc.s.o.ttl)
		_, err := m.SQL(fctx, fill)
		cancel()
		if failed = err != nil; failed {
			break
		}
	}
	if !failed {
		return fmt.Errorf("the volume of %s is full and its server wrote 200 MB of WAL all the same", m.Name)
	}
	return nil
}

// loseDisk takes a node's power and everything on its disk. The new disk is empty.
func loseDisk(ctx context.Context, sc *scene) error {
	m := sc.victim()
	sc.moves = m == sc.primary
	if err := sc.down(ctx, m, cluster.Node); err != nil {
		return err
	}
	entries, err := os.ReadDir(m.Volume())
	if err != nil || len(entries) == 0 {
		return fmt.Errorf("the disk of %s holds nothing to lose (error: %w)", m.Name, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(m.Volume(), e.Name())); err != nil {
			return fmt.Errorf("lose the disk of %s: %w", m.Name, err)
		}
	}
	return nil
}

// cloneAndKill has a standby cloned anew, and takes its power in the middle.
func cloneAndKill(ctx context.Context, sc *scene) error {
	m := sc.other()
	delay := between(sc.rng, 0, 1500*time.Millisecond)
	sc.what = fmt.Sprintf("%s after %s", sc.role(m), round(delay))
	rctx, cancel := context.WithTimeout(ctx, commandTimeout)
	answer, err := m.HTTP(rctx, http.MethodPost, "/reinitialize", map[string]any{"force": true})
	cancel()
	if err != nil || answer.Code != http.StatusOK {
		return fmt.Errorf("POST /reinitialize to %s in a healthy cluster: %v (error: %w)", m.Name, answer, err)
	}
	if err := sc.s.pass(ctx, delay); err != nil {
		return err
	}
	return sc.down(ctx, m, cluster.Node)
}
