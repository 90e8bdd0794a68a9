package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

// walFile is the segment of a timeline that holds a position.
func (n *node) walFile(tl election.Timeline, at election.LSN) string {
	n.t.Helper()
	c, err := n.Control()
	if err != nil {
		n.t.Fatal(err)
	}
	return n.inData("pg_wal", walFileName(tl, uint64(at), uint64(c.WALSegmentSize)))
}

// beginNextTimeline gives a stopped standby what it has when a primary died that had begun timeline 2
// and had sent so many pages of the present segment on it.
func (n *node) beginNextTimeline(end, fork election.LSN, pages int) (file string) {
	n.t.Helper()
	old, err := os.ReadFile(n.walFile(1, end))
	if err != nil {
		n.t.Fatal(err)
	}
	for i := pages * 8192; i < len(old); i++ {
		old[i] = 0
	}
	file = n.walFile(2, end)
	if err := n.writeDurably(file, old, 0o600); err != nil {
		n.t.Fatal(err)
	}
	history := fmt.Sprintf("1\t%s\tno recovery target specified\n", fork)
	if err := n.writeDurably(n.historyPath(2), []byte(history), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return file
}

func TestASegmentThatTheNextPrimaryDidNotFinishSendingIsNoEndOfTheLog(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) i")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	const size = 1 << 20 // of a segment
	rows, end := 1000, election.LSN(0)
	for uint64(end)%size < 8*8192 || uint64(end)%size > size-8*8192 { // well inside a segment
		a.sql("INSERT INTO t SELECT generate_series(1, 500)")
		rows, end = rows+500, a.observe().FlushLSN
	}
	b.waitFor("has everything", func(o Observation) bool { return o.ReplayLSN >= end })
	a.pm.Stop()
	b.pm.Stop()
	fork := election.LSN((uint64(end)/size+1)*size - 64) // beyond the end, in the same segment
	whole := uint64(end)%size/8192 + 1

	// As far as the old one, or further than the point at which the timelines part: nothing is torn.
	for _, tc := range []struct {
		name  string
		fork  election.LSN
		pages int
	}{
		{"all of it", fork, int(whole)},
		{"the timelines part before", election.LSN(uint64(end)/size*size) + 8192, 2},
	} {
		file := b.beginNextTimeline(end, tc.fork, tc.pages)
		if err := b.MendWAL(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}

	file := b.beginNextTimeline(end, fork, 2)
	if err := b.MendWAL(); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(b.opt.StateDir, "torn_wal", filepath.Base(file))
	if _, err := os.Stat(moved); err != nil {
		t.Fatalf("the torn segment was not kept: %v", err)
	}
	for _, left := range []string{file, b.historyPath(2)} {
		if _, err := os.Stat(left); !os.IsNotExist(err) {
			t.Fatalf("%s is still there: %v", left, err)
		}
	}
	b.configure(ConfigSpec{Standby: true, StandbySignal: true})
	b.launch()
	pgtest.Wait(t, "b has what it had", func() (bool, string) {
		o := b.observe()
		return o.ReplayLSN >= end, fmt.Sprintf("%s of %s", o.ReplayLSN, end)
	})
	// It can be promoted, too, past the number that was begun.
	if err := b.ReserveTimeline(1, 3); err != nil {
		t.Fatal(err)
	}
	b.promote()
	if got := b.sql("SELECT count(*) FROM t"); got != strconv.Itoa(rows) {
		t.Errorf("%s rows, want %d", got, rows)
	}
	if o := b.observe(); o.Timeline != 3 {
		t.Errorf("promoted to timeline %d", o.Timeline)
	}
}
