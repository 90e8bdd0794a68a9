package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

// files gives a Server that looks at a directory without any server running in it.
func filesOf(t *testing.T, dataDir string) *Server {
	t.Helper()
	n := newNode(t, "files", func(o *Options) {
		o.DataDir, o.StateDir = dataDir, filepath.Join(filepath.Dir(dataDir), "files.pgha")
	})
	return n.Server
}

// controlText is what pg_controldata says, by label.
func controlText(t *testing.T, dataDir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for line := range strings.SplitSeq(pgtest.Run(t, filepath.Join(pgtest.BinDir(t), "pg_controldata"), "-D", dataDir), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			m[k] = strings.TrimSpace(v)
		}
	}
	return m
}

func TestControlDataAgreesWithPgControldata(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, "max_connections=37", "max_worker_processes=9", "max_wal_senders=7",
		"max_prepared_transactions=3", "max_locks_per_transaction=71", "track_commit_timestamp=on", "wal_level=logical")
	s := filesOf(t, pg.DataDir)
	check := func() ControlData {
		t.Helper()
		c, err := s.Control()
		if err != nil {
			t.Fatal(err)
		}
		onOff := func(b bool) string { return pick(b, "on", "off") }
		want := controlText(t, pg.DataDir)
		for label, got := range map[string]string{
			"Database system identifier":         fmt.Sprint(c.SystemID),
			"pg_control version number":          fmt.Sprint(c.ControlVersion),
			"Catalog version number":             fmt.Sprint(c.CatalogVersion),
			"Database cluster state":             c.State.String(),
			"Latest checkpoint location":         c.Checkpoint.String(),
			"Latest checkpoint's REDO location":  c.Redo.String(),
			"Latest checkpoint's TimeLineID":     fmt.Sprint(c.Timeline),
			"Latest checkpoint's PrevTimeLineID": fmt.Sprint(c.PrevTimeline),
			"Minimum recovery ending location":   c.MinRecoveryEnd.String(),
			"Min recovery ending loc's timeline": fmt.Sprint(c.MinRecoveryEndTimeline),
			"Backup start location":              c.BackupStart.String(),
			"Backup end location":                c.BackupEnd.String(),
			"End-of-backup record required":      pick(c.BackupEndRequired, "yes", "no"),
			"wal_level setting":                  []string{"minimal", "replica", "logical"}[c.WALLevel],
			"wal_log_hints setting":              onOff(c.WALLogHints),
			"max_connections setting":            fmt.Sprint(c.MaxConnections),
			"max_worker_processes setting":       fmt.Sprint(c.MaxWorkerProcesses),
			"max_wal_senders setting":            fmt.Sprint(c.MaxWALSenders),
			"max_prepared_xacts setting":         fmt.Sprint(c.MaxPreparedXacts),
			"max_locks_per_xact setting":         fmt.Sprint(c.MaxLocksPerXact),
			"track_commit_timestamp setting":     onOff(c.TrackCommitTimestamp),
			"WAL block size":                     fmt.Sprint(c.WALBlockSize),
			"Bytes per WAL segment":              fmt.Sprint(c.WALSegmentSize),
			"Data page checksum version":         pick(c.DataChecksums, "1", "0"),
		} {
			if w, ok := want[label]; !ok || w != got {
				t.Errorf("%s: got %s, pg_controldata says %q", label, got, w)
			}
		}
		return c
	}
	if c := check(); c.State != ControlInProduction || c.MaxConnections != 37 {
		t.Errorf("%+v", c)
	}
	pg.Stop()
	if c := check(); c.State != ControlShutDown {
		t.Errorf("%+v", c)
	}
	if err := os.WriteFile(filepath.Join(pg.DataDir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pg.Restart(t)
	pg.SQL(t, "CHECKPOINT")
	if c := check(); c.State != ControlInArchiveRecovery {
		t.Errorf("%+v", c)
	}
	pg.Stop()
	if c := check(); c.State != ControlShutDownInRecovery || c.MinRecoveryEnd == 0 {
		t.Errorf("%+v", c)
	}
}

// This one needs no pg_controldata, so it can run with any version's server alone.
func TestControlDataHoldsTheSettingsOfTheLastRun(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, "max_connections=41", "max_worker_processes=11", "max_wal_senders=6",
		"max_prepared_transactions=4", "max_locks_per_transaction=73", "track_commit_timestamp=on", "wal_level=logical")
	s := filesOf(t, pg.DataDir)
	id := pg.SQL(t, "SELECT system_identifier FROM pg_control_system()")
	pg.Stop()
	c, err := s.Control()
	if err != nil {
		t.Fatal(err)
	}
	if end, err := s.ShutdownCheckpointEnd(c); err != nil || end <= c.Checkpoint {
		t.Errorf("shutdown checkpoint at %s ends at %s: %v", c.Checkpoint, end, err)
	}
	want := ControlData{
		SystemID: c.SystemID, ControlVersion: c.ControlVersion, CatalogVersion: c.CatalogVersion, State: ControlShutDown,
		Checkpoint: c.Checkpoint, Redo: c.Checkpoint, Timeline: 1, PrevTimeline: 1, WALLevel: 2, WALLogHints: true,
		MaxConnections: 41, MaxWorkerProcesses: 11, MaxWALSenders: 6, MaxPreparedXacts: 4, MaxLocksPerXact: 73,
		TrackCommitTimestamp: true, WALBlockSize: 8192, WALSegmentSize: 16 << 20, DataChecksums: true,
	}
	if fmt.Sprint(int64(c.SystemID)) != id || c != want {
		t.Errorf("system %s\n got %+v\nwant %+v", id, c, want)
	}
}

func TestControlDataIsNotBelievedWithoutItsChecksum(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	path := filepath.Join(pg.DataDir, "global", "pg_control")
	pg.Stop()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"one bit":     func(b []byte) []byte { b[ctlCheckpoint] ^= 1; return b },
		"torn":        func(b []byte) []byte { clear(b[128:]); return b },
		"short":       func(b []byte) []byte { return b[:200] },
		"empty":       func([]byte) []byte { return nil },
		"new version": func(b []byte) []byte { binary.LittleEndian.PutUint32(b[ctlVersion:], 9900); return b },
	} {
		changed := change(append([]byte(nil), b...))
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := filesOf(t, pg.DataDir).Control(); !errors.Is(err, ErrControl) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func FuzzParseControlNeverPanics(f *testing.F) {
	seed := make([]byte, ctlMaxSize)
	binary.LittleEndian.PutUint32(seed[ctlVersion:], 1300)
	f.Add(seed)
	f.Add([]byte("short"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseControl(b) })
}

// dumpLine is what pg_waldump prints for one record.
var dumpLine = regexp.MustCompile(`rmgr: (\S+)\s+len \(rec/tot\):\s*\d+/\s*(\d+), tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), prev ([0-9A-F]+/[0-9A-F]+), desc: (\S+)`)

// compareWithWaldump reads the log with both, from a position on, and returns how many records
// and how many of them cross a page.
func compareWithWaldump(t *testing.T, s *Server, dataDir string, c ControlData, from election.LSN) (records, crossing int) {
	t.Helper()
	r, err := newWALReader(filepath.Join(dataDir, "pg_wal"), c, c.Timeline, nil)
	if err != nil {
		t.Fatal(err)
	}
	end, err := s.ShutdownCheckpointEnd(c)
	if err != nil {
		t.Fatal(err)
	}
	out := pgtest.Run(t, filepath.Join(pgtest.BinDir(t), "pg_waldump"), "-p", filepath.Join(dataDir, "pg_wal"),
		"-t", strconv.Itoa(int(c.Timeline)), "-s", from.String(), "-e", end.String())
	commits := 0
	last := walRecord{End: from}
	for line := range strings.SplitSeq(out, "\n") {
		m := dumpLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		records++
		rec, err := r.record(last.End)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		at, err1 := election.ParseLSN(m[4])
		prev, err2 := election.ParseLSN(m[5])
		if err1 != nil || err2 != nil || rec.Start != at || rec.Prev != prev || strconv.Itoa(int(rec.XID)) != m[3] {
			t.Fatalf("record %+v, pg_waldump says %s", rec, line)
		}
		if uint64(rec.Start)/8192 != uint64(rec.End-1)/8192 {
			crossing++
		}
		if rec.isCommit() != (m[1] == "Transaction" && strings.HasPrefix(m[6], "COMMIT")) {
			t.Fatalf("commit or not: %s", line)
		}
		if rec.isCommit() {
			commits++
		}
		last = rec
	}
	if last.Start != c.Checkpoint || last.End != end {
		t.Fatalf("last record %+v, want the shutdown checkpoint at %s ending at %s", last, c.Checkpoint, end)
	}
	scan, err := r.scan(from, 0, 1<<40)
	if err != nil || scan.End != end || scan.Records != records || scan.Commits != commits {
		t.Fatalf("scan %+v, %v; want end %s, %d records, %d commits", scan, err, end, records, commits)
	}
	return records, crossing
}

func TestShutdownCheckpointEndAgreesWithPgWaldump(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, "autovacuum=off", "max_prepared_transactions=5", "wal_keep_size=128MB")
	s := filesOf(t, pg.DataDir)
	from, err := election.ParseLSN(pg.SQL(t, "SELECT redo_lsn FROM pg_control_checkpoint()"))
	if err != nil {
		t.Fatal(err)
	}
	pg.SQL(t, "CREATE TABLE t AS SELECT i, repeat('z', 300) AS v FROM generate_series(1, 3000) i")
	pg.SQL(t, "BEGIN; INSERT INTO t VALUES (0, 'a'); PREPARE TRANSACTION 'p'")
	pg.SQL(t, "COMMIT PREPARED 'p'")
	pg.SQL(t, "BEGIN; INSERT INTO t VALUES (0, 'b'); ROLLBACK")
	pg.SQL(t, "SELECT pg_switch_wal()")
	pg.SQL(t, "INSERT INTO t VALUES (1, repeat(md5('q'), 5000))")
	pg.Stop()
	c, err := s.Control()
	if err != nil {
		t.Fatal(err)
	}
	records, crossing := compareWithWaldump(t, s, pg.DataDir, c, from)
	if records < 3000 || crossing < 50 {
		t.Errorf("only %d records, %d across pages: the test shows nothing", records, crossing)
	}
}

// The shutdown checkpoint record is made to cross a page boundary, by filling the page before
// with records of known length until it must.
func TestShutdownCheckpointEndAcrossAPageBoundary(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t, "autovacuum=off", "bgwriter_lru_maxpages=0", "checkpoint_timeout=1d")
	s := filesOf(t, pg.DataDir)
	seen := ""
	for range 12 {
		// The record takes 114 bytes: it must start within that of the page's end. What the
		// shutdown itself writes before it is measured by the round before.
		for try := 0; ; try++ {
			at, err := election.ParseLSN(pg.SQL(t, "SELECT pg_current_wal_insert_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			left := 8192 - int(at)%8192
			if left < 100 && left > 24 || try > 200 {
				break
			}
			size := min(max(left-140, 8), 2000)
			pg.SQL(t, fmt.Sprintf("SELECT pg_logical_emit_message(false, 'x', repeat('x', %d))", size))
		}
		pg.Stop()
		c, err := s.Control()
		if err != nil {
			t.Fatal(err)
		}
		compareWithWaldump(t, s, pg.DataDir, c, c.Checkpoint)
		end, err := s.ShutdownCheckpointEnd(c)
		if err != nil {
			t.Fatal(err)
		}
		seen += fmt.Sprintf("%s..%s ", c.Checkpoint, end)
		pg.Restart(t)
		if uint64(c.Checkpoint)/8192 != uint64(end-1)/8192 {
			// The server's own word for where the record ended: the next record starts behind it.
			next, err := election.ParseLSN(pg.SQL(t, "SELECT redo_lsn FROM pg_control_checkpoint()"))
			if err != nil || next != c.Checkpoint {
				t.Fatalf("%s, %v", next, err)
			}
			return
		}
	}
	t.Fatalf("no checkpoint record crossed a page: %s", seen)
}
