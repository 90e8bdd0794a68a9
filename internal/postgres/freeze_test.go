package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

var againstA = FreezeRecord{Epoch: 3, LeaderRevision: 77, Leader: "a", Since: 5 * time.Second, Fruitless: 1}

func (n *node) freeze(limit time.Duration) (Frozen, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	return n.Freeze(ctx, againstA, n.reload)
}

func (n *node) mustFreeze() Frozen {
	n.t.Helper()
	var f Frozen
	pgtest.Wait(n.t, "it is frozen", func() (bool, string) {
		var err error
		f, err = n.freeze(while)
		return err == nil, fmt.Sprint(err)
	})
	if o := n.observe(); o.WalReceiver != nil || o.PrimaryConnInfo != "" || o.RestoreCommand != "" {
		n.t.Fatalf("not frozen: %+v", o)
	}
	return f
}

// thaw points the standby at a source again, once the record is gone.
func (n *node) thaw(from *node) {
	n.t.Helper()
	if err := n.RemoveFreezeRecord(); err != nil {
		n.t.Fatal(err)
	}
	src := from.source()
	n.configure(ConfigSpec{Standby: true, Upstream: &src})
	n.pm.Reload()
	n.waitStreaming(from)
}

// unproven wants a freeze that is not proven, for the reason given.
func (n *node) unproven(reason string) {
	n.t.Helper()
	pgtest.Wait(n.t, "it is not proven: "+reason, func() (bool, string) {
		f, err := n.freeze(soon)
		if !errors.Is(err, ErrNotProven) {
			n.t.Fatalf("%+v, %v; want it not proven: %s", f, err, reason)
		}
		return strings.Contains(err.Error(), reason), err.Error()
	})
	if rec, err := n.FreezeRecord(); rec == nil || err != nil {
		n.t.Fatalf("the record: %+v, %v", rec, err)
	}
}

func TestAFrozenStandbyStaysWhereItIsThroughEverything(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE t (i int)")
	if _, err := a.freeze(while); !errors.Is(err, ErrCannotFreeze) {
		t.Fatalf("a primary: %v", err)
	}
	if rec, err := a.FreezeRecord(); rec != nil || err != nil {
		t.Fatalf("a primary left a record: %+v, %v", rec, err)
	}
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	a.waitSync(anyOf(1, "b"))
	a.sql("INSERT INTO t VALUES (1)") // acknowledged by b
	acked := a.observe().FlushLSN

	f := b.mustFreeze()
	t.Logf("frozen after %s", f.Took)
	if f.LSN < acked || f.Timeline != 1 {
		t.Errorf("vote %s on timeline %d, acknowledged %s", f.LSN, f.Timeline, acked)
	}
	if rec, err := b.FreezeRecord(); err != nil || *rec != againstA {
		t.Errorf("the record: %+v, %v", rec, err)
	}
	if a.commits(soon) {
		t.Error("a commit was acknowledged by a frozen standby")
	}
	b.gateWhileFrozen(a)

	// A crash of server and agent forgets that a walreceiver ever ran, and thaws nothing.
	b.pm.Crash()
	if _, err := b.freeze(soon); !errors.Is(err, ErrNotProven) {
		t.Errorf("a server that is down: %v", err)
	}
	if o := b.launch(); o.WalReceiver != nil || o.ReceiveLSN != 0 {
		t.Errorf("after the restart: %+v", o)
	}
	if again := b.mustFreeze(); again.LSN != f.LSN || again.Timeline != f.Timeline {
		t.Errorf("vote %s after a restart, before %s", again.LSN, f.LSN)
	}
	b.thaw(a)
	if !a.commits(while) {
		t.Error("no commit after the thaw")
	}
}

// gateWhileFrozen tries every way to write primary_conninfo.
func (n *node) gateWhileFrozen(a *node) {
	t := n.t
	t.Helper()
	src := a.source()
	conf := func() string {
		t.Helper()
		s := readSettings(t, n.inData("postgresql.conf"))
		return s["primary_conninfo"] + "|" + s["restore_command"]
	}
	spec := ConfigSpec{
		Standby: true, Upstream: &src, HBA: testHBA, Parameters: n.parameters(),
		RecoveryConf: map[string]string{"restore_command": "cp /nowhere/%f %p"},
	}
	for _, revision := range []int64{0, againstA.LeaderRevision} {
		spec.LeaderRevision = revision
		if ch, err := n.WriteConfig(spec); !errors.Is(err, ErrFrozen) || ch.Files || conf() != "|" {
			t.Fatalf("revision %d: %+v, %v, %s", revision, ch, err, conf())
		}
	}
	file := filepath.Join(n.opt.StateDir, freezeFile)
	record, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.LeaderRevision = againstA.LeaderRevision + 1
	if _, err := n.WriteConfig(spec); !errors.Is(err, ErrFrozen) {
		t.Fatalf("with a record that cannot be read: %v", err)
	}
	if err := os.WriteFile(file, record, 0o600); err != nil {
		t.Fatal(err)
	}
	// The next leader is followed, without its archive.
	if _, err := n.WriteConfig(spec); err != nil || !strings.Contains(conf(), "host=127.0.0.1") || !strings.HasSuffix(conf(), "|") {
		t.Fatalf("%v, %s", err, conf())
	}
	spec.Upstream, spec.LeaderRevision = nil, 0
	if _, err := n.WriteConfig(spec); err != nil || conf() != "|" {
		t.Fatalf("%v, %s", err, conf())
	}
	// What Freeze writes is what WriteConfig would: nothing is left to reload.
	n.configure(ConfigSpec{Standby: true, Frozen: true})
	n.mustFreeze()
	if ch := n.configure(ConfigSpec{Standby: true, Frozen: true}); ch.Files {
		t.Errorf("%+v", ch)
	}
}

// The new text shows at once, and the walreceiver lives on: only the startup process can stop it.
func TestAFreezeIsNotProvenBeforeTheStartupProcessTakesItUp(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE t (i int)")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)

	resume := b.stopProcess("backend_type = 'startup'")
	b.unproven("walreceiver")
	if text := b.sql("SHOW primary_conninfo"); text != "" {
		t.Errorf("a new session shows %q", text)
	}
	a.waitSync(anyOf(1, "b"))
	if !a.commits(while) {
		t.Error("a walreceiver that lives on acknowledges nothing: the case that this is about does not exist")
	}
	acked := a.observe().FlushLSN
	resume()
	if f := b.mustFreeze(); f.LSN < acked {
		t.Errorf("vote %s, acknowledged %s", f.LSN, acked)
	}
	b.thaw(a)

	// A query on the standby holds the replay up for ever; the freeze ends it.
	b.sql("ALTER SYSTEM SET max_standby_streaming_delay = -1")
	b.pm.Reload()
	b.waitFor("the setting", func(Observation) bool { return b.sql("SHOW max_standby_streaming_delay") == "-1" })
	blocker, err := pgx.Connect(t.Context(), b.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(blocker)
	if _, err := blocker.Exec(t.Context(), "BEGIN; SELECT * FROM t"); err != nil {
		t.Fatal(err)
	}
	a.sql("DROP TABLE t; CREATE TABLE t (i int)")
	b.waitFor("the replay waits for a lock", func(o Observation) bool { return o.StartupWait == "relation" })
	if !a.commits(while) {
		t.Fatal("no commit while the replay waits")
	}
	acked = a.observe().FlushLSN
	if f := b.mustFreeze(); f.LSN < acked {
		t.Errorf("vote %s, acknowledged %s", f.LSN, acked)
	}
	b.thaw(a)
	b.votesOfASlowReplay(a)
	b.freezeWhileConnecting()
}

// freezeWhileConnecting: the leader's machine takes connections and says nothing, so the walreceiver is
// there and no view shows it.
func (n *node) freezeWhileConnecting() {
	t := n.t
	t.Helper()
	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	_, port, err := net.SplitHostPort(silent.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveFreezeRecord(); err != nil {
		t.Fatal(err)
	}
	n.configure(ConfigSpec{Standby: true, Upstream: &Source{Host: "127.0.0.1", Port: port}})
	n.pm.Reload()
	n.waitFor("a walreceiver that connects", func(o Observation) bool {
		return o.WalReceiver == nil && n.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'") == "1"
	})
	n.mustFreeze()
	if left := n.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'"); left != "0" {
		t.Errorf("%s walreceivers", left)
	}
}

// votesOfASlowReplay are votes where less is replayed than was acknowledged.
func (n *node) votesOfASlowReplay(a *node) {
	t := n.t
	t.Helper()
	n.sql("SELECT pg_wal_replay_pause()")
	n.waitFor("paused", func(o Observation) bool { return o.ReplayPaused == "paused" })
	if !a.commits(while) {
		t.Fatal("no commit while the replay is paused")
	}
	acked := a.observe().FlushLSN
	if o := n.observe(); o.ReplayLSN >= acked {
		t.Fatalf("replayed %s, acknowledged %s: the case that this is about does not exist", o.ReplayLSN, acked)
	}
	if f := n.mustFreeze(); f.LSN < acked {
		t.Errorf("vote %s, acknowledged %s", f.LSN, acked)
	}
	n.thaw(a)

	// After a restart nothing is known to be received, and a delay keeps the replay behind.
	src := a.source()
	delayed := ConfigSpec{Standby: true, Upstream: &src, RecoveryConf: map[string]string{"recovery_min_apply_delay": "1h"}}
	n.configure(delayed)
	n.pm.Reload()
	n.waitFor("the delay", func(Observation) bool { return n.sql("SHOW recovery_min_apply_delay") == "1h" })
	if !a.commits(while) {
		t.Fatal("no commit with a delayed replay")
	}
	acked = a.observe().FlushLSN
	n.pm.Crash()
	delayed.Upstream, delayed.Frozen = nil, true
	n.configure(delayed)
	if o := n.launch(); o.ReceiveLSN != 0 || o.ReplayLSN >= acked {
		t.Fatalf("received %s, replayed %s, acknowledged %s: the case that this is about does not exist", o.ReceiveLSN, o.ReplayLSN, acked)
	}
	n.unproven("ApplyDelay")
	n.configure(ConfigSpec{Standby: true, Frozen: true}) // without the delay
	if f := n.mustFreeze(); f.LSN < acked {
		t.Errorf("vote %s, acknowledged %s", f.LSN, acked)
	}
}

func TestAFreezeRecordOfAnEarlierBootHasNoTime(t *testing.T) {
	s := newNode(t, "n").Server
	if err := s.writeFreezeRecord(againstA); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.opt.StateDir, freezeFile)
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), bootID()) || bootID() == "" {
		t.Fatalf("%s, %v", b, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), bootID(), "other", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	want := againstA
	want.Since = election.Instant(0)
	if rec, err := s.FreezeRecord(); err != nil || *rec != want {
		t.Errorf("%+v, %v", rec, err)
	}
	if err := errors.Join(s.RemoveFreezeRecord(), s.RemoveFreezeRecord()); err != nil {
		t.Error(err)
	}
	if rec, err := s.FreezeRecord(); rec != nil || err != nil {
		t.Errorf("%+v, %v", rec, err)
	}
}
