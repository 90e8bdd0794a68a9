package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func TestOnlyAWaitThatEndedWithoutProgressWasCancelled(t *testing.T) {
	begun := time.Unix(1000, 0)
	session := func(pid int, statement int64) observedWait {
		return observedWait{PID: pid, Backend: begun, Query: begun.Add(time.Duration(statement))}
	}
	x, y := session(7, 1), session(8, 1)
	type look struct {
		setting  string
		flushed  [2]election.LSN // of b and c
		crashed  bool            // the server has another life
		waits    []observedWait
		noSender bool
	}
	const any1, both, first = "ANY 1 (b,c)", "2 (b,c)", "1 (b,c)"
	at := [2]election.LSN{100, 50}
	for _, tc := range []struct {
		name  string
		looks []look
		ended []observedWait // in the last look
	}{
		{"a wait that goes on", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}}, nil},
		{"seen twice, gone", []look{{any1, at, false, []observedWait{x, y}, false}, {any1, at, false, []observedWait{x, y}, false}, {any1, at, false, []observedWait{y}, false}}, []observedWait{x}},
		{"seen once, gone", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, nil, false}}, nil},
		{"the same session waits again", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{session(7, 2)}, false}}, []observedWait{x}},
		{"confirmed meanwhile", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {any1, [2]election.LSN{101, 50}, false, nil, false}}, nil},
		{"one of the two that are needed moved", []look{{both, at, false, []observedWait{x}, false}, {both, at, false, []observedWait{x}, false}, {both, [2]election.LSN{101, 50}, false, nil, false}}, []observedWait{x}},
		{"the other one moved", []look{{both, at, false, []observedWait{x}, false}, {both, at, false, []observedWait{x}, false}, {both, [2]election.LSN{100, 51}, false, nil, false}}, nil},
		{"first of several cannot be told", []look{{first, at, false, []observedWait{x}, false}, {first, at, false, []observedWait{x}, false}, {first, at, false, nil, false}}, nil},
		{"another setting", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {both, [2]election.LSN{100, 100}, false, nil, false}}, nil},
		{"no setting", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {"", at, false, nil, false}}, nil},
		{"the server crashed", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {any1, at, true, nil, false}}, nil},
		{"a standby left", []look{{any1, at, false, []observedWait{x}, false}, {any1, at, false, []observedWait{x}, false}, {any1, at, false, nil, true}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w waitWatch
			var got []observedWait
			for _, l := range tc.looks {
				o := Observation{Role: election.RolePrimary, SyncNames: l.setting, StartTime: begun, CheckpointerPID: 1}
				if l.crashed {
					o.CheckpointerPID = 2
				}
				if !l.noSender {
					o.Replication = []WalSender{{ApplicationName: "b", FlushLSN: l.flushed[0]}, {ApplicationName: "C", FlushLSN: l.flushed[1]}}
				}
				got = w.look(o, l.waits)
			}
			if !slices.Equal(got, tc.ended) {
				t.Errorf("ended: %v, want %v", got, tc.ended)
			}
		})
	}
}

// writer is a session whose commit waits.
type writer struct {
	conn *pgx.Conn
	done chan error
}

func (n *node) write() *writer {
	n.t.Helper()
	conn, err := pgx.Connect(n.t.Context(), n.dsn())
	if err != nil {
		n.t.Fatal(err)
	}
	w := &writer{conn: conn, done: make(chan error, 1)}
	n.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	go func() {
		_, err := conn.Exec(context.WithoutCancel(n.t.Context()), "INSERT INTO waited VALUES (1)")
		w.done <- err
	}()
	pid := strconv.Itoa(int(conn.PgConn().PID()))
	pgtest.Wait(n.t, "the commit waits", func() (bool, string) {
		got := n.sql("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = " + pid)
		return got == "SyncRep", got
	})
	return w
}

func (w *writer) pid() string { return strconv.Itoa(int(w.conn.PgConn().PID())) }

func TestCommitsWhoseWaitWasCancelledAreCounted(t *testing.T) {
	t.Parallel()
	n := newPrimary(t, "n")
	n.sql("CREATE TABLE waited (i int)")
	names := func(value string) {
		n.sql("ALTER SYSTEM SET synchronous_standby_names = '" + value + "'")
		n.pm.Reload()
		pgtest.Wait(t, "the setting is loaded", func() (bool, string) {
			got := n.sql("SHOW synchronous_standby_names")
			return got == value, got
		})
	}
	counted := func(want int) {
		t.Helper()
		if o := n.observe(); o.CancelledWaits != want {
			t.Errorf("%d waits were cancelled, want %d", o.CancelledWaits, want)
		}
	}
	names("ANY 1 (absent)")
	cancelled, killed, patient := n.write(), n.write(), n.write()
	counted(0)
	counted(0)
	n.sql("SELECT pg_cancel_backend(" + cancelled.pid() + ")")
	if err := <-cancelled.done; err != nil {
		t.Fatalf("PostgreSQL did not acknowledge the commit: %v", err)
	}
	counted(1)
	counted(0)
	n.sql("SELECT pg_terminate_backend(" + killed.pid() + ")")
	if err := <-killed.done; err == nil {
		t.Fatal("a terminated session acknowledged its commit")
	}
	pgtest.Wait(t, "the session is gone", func() (bool, string) {
		got := n.sql("SELECT count(*) FROM pg_stat_activity WHERE pid = " + killed.pid())
		return got == "0", got
	})
	counted(0)
	names("")
	if err := <-patient.done; err != nil {
		t.Fatal(err)
	}
	counted(0)

	standby := newStandby(t, "s", n)
	names("ANY 1 (s)")
	resume := standby.stopProcess("backend_type = 'walreceiver'")
	confirmed := n.write()
	counted(0)
	counted(0)
	resume()
	if err := <-confirmed.done; err != nil {
		t.Fatal(err)
	}
	counted(0)
}

func TestSettingsThatWaitForLessAreCounted(t *testing.T) {
	t.Parallel()
	n := newPrimary(t, "n")
	steps := []struct {
		sql  string
		want int
	}{
		{"ALTER ROLE ALL SET synchronous_commit = 'remote_apply'", 0},
		{"ALTER DATABASE postgres SET synchronous_commit = off", 1},
		{"CREATE ROLE hasty", 1},
		{"ALTER ROLE hasty SET synchronous_commit = 'local'", 2},
		{"ALTER ROLE hasty SET synchronous_commit = 'on'", 1},
	}
	for i, st := range steps {
		n.sql("SET synchronous_commit = off; " + st.sql)
		if o := n.observe(); o.Lowered != 0 {
			t.Errorf("%d without a set to wait for", o.Lowered)
		}
		n.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (absent)'")
		n.pm.Reload()
		pgtest.Wait(t, fmt.Sprint("step ", i), func() (bool, string) {
			o := n.observe()
			// The observing session has the database's own value from when it connected.
			return o.SyncNames != "" && o.Lowered == st.want, fmt.Sprintf("%q %d", o.SyncNames, o.Lowered)
		})
		n.sql("ALTER SYSTEM RESET synchronous_standby_names")
		n.pm.Reload()
		pgtest.Wait(t, "no set", func() (bool, string) { o := n.observe(); return o.SyncNames == "", o.SyncNames })
	}
}
