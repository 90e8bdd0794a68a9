package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func TestObserveComesBackAfterARestartAndKnowsItsOwnServer(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	first := a.observe()
	pid := a.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgha'")
	a.observe()
	if again := a.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgha'"); again != pid {
		t.Errorf("connections %s and %s: not kept", pid, again)
	}

	a.sql("SELECT pg_terminate_backend(" + pid + ")")
	if o := a.observe(); o.StartTime != first.StartTime {
		t.Errorf("start time %s, before %s", o.StartTime, first.StartTime)
	}
	a.pm.Stop()
	if o, err := a.Observe(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopped server: %+v, %v", o, err)
	}
	if r, err := a.Ready(t.Context()); r != NoAnswer || err == nil {
		t.Errorf("stopped server: %s, %v", r, err)
	}
	if o := a.launch(); !o.StartTime.After(first.StartTime) {
		t.Errorf("start time %s, before %s", o.StartTime, first.StartTime)
	}

	// Another server at the address in postmaster.pid must not be taken for ours.
	other := newPrimary(t, "other")
	a.pm.Stop()
	file, err := os.ReadFile(other.inData("postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.inData("postmaster.pid"), file, 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := a.Observe(t.Context()); !errors.Is(err, ErrOtherServer) {
		t.Errorf("another server: %+v, %v", o, err)
	}
	if err := a.Checkpoint(t.Context()); !errors.Is(err, ErrOtherServer) {
		t.Errorf("another server: %v", err)
	}
	if err := os.Remove(a.inData("postmaster.pid")); err != nil {
		t.Fatal(err)
	}
}

func TestObserveGivesUpOnAFrozenServer(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.observe()
	pid := a.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgha'")
	var backend int
	if _, err := fmt.Sscan(pid, &backend); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(backend, syscall.SIGCONT) }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := a.Observe(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	// The next observation uses a new connection.
	a.observe()
}

func TestPendingRestartIsReadOnlyAfterAReload(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	if o := a.observe(); len(o.PendingRestart) != 0 {
		t.Fatalf("%+v", o.PendingRestart)
	}
	p := a.parameters()
	p["shared_buffers"], p["work_mem"] = "24MB", "5MB"
	ch := a.configure(ConfigSpec{Parameters: p})
	if !ch.RestartNeeded || !slices.Equal(ch.Settings, []string{"shared_buffers", "work_mem"}) {
		t.Fatalf("%+v", ch)
	}
	a.pm.Reload()
	o := a.waitFor("shared_buffers waits for a restart", func(o Observation) bool { return len(o.PendingRestart) == 1 })
	want := PendingSetting{Name: "shared_buffers", Current: "2048", New: "24MB", Unit: "8kB", FromFile: true}
	if o.PendingRestart[0] != want {
		t.Errorf("%+v", o.PendingRestart[0])
	}
	if o := a.observe(); len(o.PendingRestart) != 1 {
		t.Errorf("forgotten: %+v", o.PendingRestart)
	}
	if ch := a.configure(ConfigSpec{}); !ch.Files {
		t.Fatalf("%+v", ch)
	}
	a.pm.Reload()
	a.waitFor("nothing waits", func(o Observation) bool { return len(o.PendingRestart) == 0 })
}

func TestReadyTellsAStandbyThatIsNotConsistent(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	b.pm.Stop()
	// A standby with neither a source nor WAL after a crash-like state stays inconsistent: its
	// minimum recovery point is ahead of the WAL that it has.
	b2 := newNode(t, "c")
	if err := b2.BaseBackup(t.Context(), a.source(), BackupOptions{Options: []Option{{"max-rate", "32M"}}}, nil); err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadDir(b2.inData("pg_wal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range wal {
		if len(e.Name()) == 24 {
			if err := os.Remove(b2.inData("pg_wal", e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	b2.configure(ConfigSpec{Standby: true, Upstream: &Source{Host: "127.0.0.1", Port: "1"}, StandbySignal: true})
	bin, args, env := b2.StartArgs()
	b2.pm = pgtest.Launch(t, bin, args, env)
	pgtest.Wait(t, "the standby says that it starts", func() (bool, string) {
		r, err := b2.Ready(t.Context())
		return r == Starting || r == NotConsistent, fmt.Sprint(r, err)
	})
	if _, err := b2.Observe(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
}

func TestRefusalsAreReadByTheirCode(t *testing.T) {
	for _, tc := range []struct {
		code, message, detail string
		want                  Readiness
	}{
		{"57P03", "the database system is starting up", "", Starting},
		{"57P03", "le système de bases de données se lance", "", Starting},
		{"57P03", "the database system is not yet accepting connections", "Consistent recovery state has not been yet reached.", NotConsistent},
		{"57P03", "the database system is shutting down", "", ShuttingDown},
		{"57P03", "the database system is in recovery mode", "", Starting},
		{"57P01", "terminating connection", "", ShuttingDown},
		{"53300", "sorry, too many clients already", "", Accepting},
		{"28000", "no pg_hba.conf entry", "", Accepting},
	} {
		got, err := readinessOf(map[byte]string{'C': tc.code, 'M': tc.message, 'D': tc.detail})
		if got != tc.want || (err == nil) != (got == Accepting) {
			t.Errorf("%s %q: %s, %v", tc.code, tc.message, got, err)
		}
	}
}

func TestSlotsAreMadeMendedAdvancedAndDropped(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("SELECT pg_create_physical_replication_slot('old'), pg_create_physical_replication_slot('keep_me'), pg_create_physical_replication_slot('unreserved')")
	done, err := a.SetSlots(t.Context(), []WantSlot{{Name: "b"}, {Name: "unreserved"}}, func(s Slot) bool { return s.Name == "keep_me" })
	if err != nil || fmt.Sprintf("%v", done) != "{[b unreserved] [old unreserved] [] [keep_me]}" {
		t.Fatalf("%v, %v", done, err)
	}
	a.sql("SELECT pg_switch_wal()")
	at := a.observe().FlushLSN
	done, err = a.SetSlots(t.Context(), []WantSlot{{Name: "b", AdvanceTo: at}, {Name: "unreserved"}, {Name: "Bad-Name"}}, func(Slot) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "Bad-Name") || fmt.Sprintf("%v", done.Advanced) != "[b]" {
		t.Fatalf("%v, %v", done, err)
	}
	o := a.observe()
	i := slices.IndexFunc(o.Slots, func(s Slot) bool { return s.Name == "b" })
	if i < 0 || o.Slots[i].RestartLSN != at || !o.Slots[i].Physical || o.Slots[i].Active {
		t.Errorf("%+v", o.Slots)
	}
	if err := errors.Join(a.DropSlot(t.Context(), "b"), a.DropSlot(t.Context(), "nosuch")); err != nil {
		t.Error(err)
	}

	// A standby that streams through a slot makes it active; it is then not dropped.
	if _, err := a.SetSlots(t.Context(), []WantSlot{{Name: "b"}}, nil); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, "b")
	src := a.source()
	src.Slot = "b"
	if err := b.BaseBackup(t.Context(), src, BackupOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	b.configure(ConfigSpec{Standby: true, Upstream: &src, StandbySignal: true})
	b.launch()
	if o := b.waitStreaming(a); o.WalReceiver.Slot != "b" {
		t.Errorf("%+v", o.WalReceiver)
	}
	if done, err := a.SetSlots(t.Context(), nil, nil); err != nil || !slices.Contains(done.Kept, "b") {
		t.Errorf("%+v, %v", done, err)
	}
	// Standbys keep slots for each other too (row H-108).
	if done, err := b.SetSlots(t.Context(), []WantSlot{{Name: "c"}}, nil); err != nil || !slices.Equal(done.Created, []string{"c"}) {
		t.Errorf("on a standby: %+v, %v", done, err)
	}
}

func TestObserveOnAStandbySaysWhyItWaits(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	b.waitFor("the startup process has read everything", func(o Observation) bool { return o.StartupWait == "RecoveryWalStream" })
	b.sql("SELECT pg_wal_replay_pause()")
	b.waitFor("paused", func(o Observation) bool { return o.ReplayPaused == "paused" })
	if err := b.ResumeReplay(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.waitFor("goes on", func(o Observation) bool { return o.ReplayPaused == "not paused" })
	a.sql("CREATE TABLE t AS SELECT 1")
	o := b.waitStreaming(a)
	if o.ReplayTime.IsZero() || o.ReceiveLSN < o.ReplayLSN || o.WrittenLSN < o.ReceiveLSN || o.WalReceiver.LastMessage.IsZero() {
		t.Errorf("%+v %+v", o, o.WalReceiver)
	}
	a.pm.Crash()
	b.waitFor("the walreceiver is gone", func(o Observation) bool { return o.WalReceiver == nil && o.Role == election.RoleStandby })
}
