package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func anyOf(wait int, names ...string) election.SyncSetting {
	return election.SyncSetting{Any: true, Wait: wait, Names: names}
}

func TestSyncTextIsWrittenReadAndRefused(t *testing.T) {
	for _, tc := range []struct {
		set  election.SyncSetting
		text string
	}{
		{election.SyncSetting{}, ""},
		{anyOf(1, "b", "c"), "ANY 1 (b,c)"},
		{election.SyncSetting{Wait: 1, Names: []string{"b"}}, "b"},
		{election.SyncSetting{Wait: 2, Names: []string{"b-1", "c"}}, `2 ("b-1",c)`},
	} {
		text, err := SyncText(tc.set)
		if text != tc.text || err != nil {
			t.Errorf("%v: %q, %v", tc.set, text, err)
		}
		if back, err := ParseSyncText(text); fmt.Sprint(back) != fmt.Sprint(tc.set) || err != nil {
			t.Errorf("%q: %v, %v", text, back, err)
		}
	}
	for _, bad := range []election.SyncSetting{anyOf(1, "*"), anyOf(1, "b", "B"), anyOf(2, "b"), anyOf(1, ""), anyOf(0, "b")} {
		if text, err := SyncText(bad); !errors.Is(err, ErrForeignSync) {
			t.Errorf("%v: %q, %v", bad, text, err)
		}
	}
	for _, bad := range []string{"*", "ANY 1 (*)", "ANY 2 (b)", "b,b", "ANY x"} {
		if set, err := ParseSyncText(bad); !errors.Is(err, ErrForeignSync) {
			t.Errorf("%q: %v, %v", bad, set, err)
		}
	}
}

// stopProcess freezes one process of the server, found by its kind, until the returned function.
func (n *node) stopProcess(where string) (resume func()) {
	n.t.Helper()
	pid, err := strconv.Atoi(n.sql("SELECT pid FROM pg_stat_activity WHERE " + where))
	if err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	resume = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	n.t.Cleanup(resume)
	return resume
}

func (n *node) reload(context.Context) error { n.pm.Reload(); return nil }

// notInForce wants a setting that does not come into force, for the reason given. A machine that is
// busy may need more than one try to get as far as that reason.
func (n *node) notInForce(set election.SyncSetting, why string) SyncResult {
	n.t.Helper()
	var res SyncResult
	pgtest.Wait(n.t, set.String()+": "+why, func() (bool, string) {
		ctx, cancel := context.WithTimeout(n.t.Context(), soon)
		defer cancel()
		var err error
		if res, err = n.SetSync(ctx, set, n.reload); res.InForce || n.syncNow().InForce {
			n.t.Fatalf("in force, want %q: %+v", why, res)
		}
		return err == nil && strings.Contains(res.Why, why), fmt.Sprintf("%+v %v", res, err)
	})
	return res
}

// waitSync tries until the setting is in force.
func (n *node) waitSync(set election.SyncSetting) SyncResult {
	n.t.Helper()
	var res SyncResult
	pgtest.Wait(n.t, set.String()+" is in force", func() (bool, string) {
		var err error
		res, err = n.SetSync(n.t.Context(), set, n.reload)
		return err == nil && res.InForce, fmt.Sprintf("%+v %v", res, err)
	})
	if now := n.syncNow(); !now.InForce || now.Barrier != res.Barrier || now.Setting.String() != set.String() || now.Foreign {
		n.t.Fatalf("observed as %+v after %+v", now, res)
	}
	return res
}

func (n *node) syncNow() election.LocalSync {
	n.t.Helper()
	now, err := n.SyncNow(n.waitFor("has loaded the files", func(o Observation) bool {
		l, err := n.SyncNow(o)
		return err == nil && l.Known
	}))
	if err != nil {
		n.t.Fatal(err)
	}
	return now
}

// commits says whether a commit returns in time; it needs an ordinary session that waits.
func (n *node) commits(limit time.Duration) bool {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	_, err := pgtest.Query(ctx, n.dsn(), "INSERT INTO t VALUES (1)")
	if err != nil && ctx.Err() == nil {
		n.t.Fatal(err)
	}
	return err == nil
}

const (
	soon  = 400 * time.Millisecond // for what shall not happen
	while = 10 * time.Second       // for what shall
)

// The steps share one cluster, because starting servers takes longer than all of them.
func TestASyncSettingIsInForceOnlyWhenCommitsGoByIt(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE t (i int)")
	b, c := newStandby(t, "b", a), newStandby(t, "c", a)
	b.waitStreaming(a)
	c.waitStreaming(a)

	res := a.waitSync(anyOf(1, "b", "c"))
	flush := a.observe().FlushLSN
	if res.Barrier == 0 || res.Barrier > flush {
		t.Errorf("barrier %s, and the log is flushed to %s: an idle cluster would never reach it", res.Barrier, flush)
	}
	if !a.commits(while) {
		t.Fatal("no commit with two standbys")
	}
	a.laggingObservations()
	a.emptySettingWhileTheCheckpointerStands(b, c)
	a.settingsWithAStalledWalsender()
	a.settingsWithAnIdleReplicationConnection()
	a.foreignSettings()

	if res := b.notInForce(anyOf(1, "a", "c"), "shows after the promotion"); !res.Standby || !res.Loaded {
		t.Errorf("on a standby: %+v", res)
	}
	a.settingWithoutAStandby(b, c)
	a.settingAfterACrashOfABackend()
}

// laggingObservations come from a session that has read the files before, or after, the one that
// proved the setting.
func (n *node) laggingObservations() {
	n.t.Helper()
	now := n.observe()
	for _, tc := range []struct {
		text                    string
		ago                     time.Duration
		known, inForce, strange bool
	}{
		{now.SyncNames, 0, true, true, false},
		{now.SyncNames, time.Hour, true, true, false},
		{"", time.Hour, false, false, false},
		{"", -time.Hour, true, false, true},
	} {
		o := now
		o.SyncNames, o.ConfLoadTime = tc.text, now.ConfLoadTime.Add(-tc.ago)
		l, err := n.SyncNow(o)
		if err != nil || l.Known != tc.known || l.InForce != tc.inForce || l.Foreign != tc.strange {
			n.t.Errorf("%+v: %+v, %v", tc, l, err)
		}
	}
}

func (n *node) emptySettingWhileTheCheckpointerStands(b, c *node) {
	t := n.t
	t.Helper()
	// From set to empty: commits go on waiting, and nobody releases them.
	resume := n.stopProcess("backend_type = 'checkpointer'")
	n.notInForce(election.SyncSetting{}, "checkpointer")
	resume()
	n.waitSync(election.SyncSetting{})
	if !n.commits(while) {
		t.Fatal("commits wait for nobody, and do not return")
	}

	// From empty to set: the new text is to be seen, and commits still wait for nobody.
	// The standbys have every commit a moment later, which proves nothing.
	resume = n.stopProcess("backend_type = 'checkpointer'")
	n.notInForce(anyOf(1, "b", "c"), "checkpointer")
	resumeB, resumeC := b.stopProcess("backend_type = 'walreceiver'"), c.stopProcess("backend_type = 'walreceiver'")
	if text := n.sql("SHOW synchronous_standby_names"); text != "ANY 1 (b,c)" {
		t.Errorf("the server shows %q", text)
	}
	if !n.commits(while) {
		t.Error("a commit waits although the checkpointer stands: the case that this is about does not exist")
	}
	resume()
	pgtest.Wait(t, "a commit waits", func() (bool, string) { return !n.commits(soon / 4), "it returned" })
	// Commits wait now, but what the walsenders go by is not known before they have replied.
	n.notInForce(anyOf(1, "b", "c"), "walsender")
	resumeB()
	resumeC()
	n.waitSync(anyOf(1, "b", "c"))
}

func (n *node) settingsWithAStalledWalsender() {
	t := n.t
	t.Helper()
	resume := n.stopProcess("backend_type = 'walsender' AND application_name = 'c'")
	n.notInForce(anyOf(2, "b", "c"), "walsender of c")
	// One that only the value before names counts as well, also when that was never in force.
	n.notInForce(election.SyncSetting{Wait: 1, Names: []string{"b"}}, "walsender of c")
	resume()
	n.waitSync(anyOf(2, "b", "c"))
}

// settingsWithAnIdleReplicationConnection: a walsender between two commands, as it is kept by a standby
// that gets no further, would never be seen in the sleep of one that streams.
func (n *node) settingsWithAnIdleReplicationConnection() {
	t := n.t
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), n.dsn()+" replication=true application_name=c")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if got := n.sql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'c' AND state = 'startup'"); got != "1" {
		t.Fatalf("%s walsenders are idle, want 1", got)
	}
	n.waitSync(anyOf(1, "b"))
	n.waitSync(anyOf(2, "b", "c"))
}

func (n *node) foreignSettings() {
	t := n.t
	t.Helper()
	n.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
	n.pm.Reload()
	n.waitFor("the superuser's value", func(o Observation) bool { return o.SyncNames == "*" })
	if now := n.syncNow(); !now.Foreign || now.InForce {
		t.Errorf("observed as %+v", now)
	}
	if res := n.notInForce(anyOf(1, "b", "c"), "overrides"); res.Foreign != "*" {
		t.Errorf("overridden by the superuser: %+v", res)
	}
	n.sql("ALTER SYSTEM RESET synchronous_standby_names")
	n.waitSync(anyOf(1, "b", "c"))
}

func (n *node) settingWithoutAStandby(b, c *node) {
	t := n.t
	t.Helper()
	b.pm.Stop()
	c.pm.Stop()
	n.waitFor("nobody is connected", func(o Observation) bool { return len(o.Replication) == 0 })
	n.waitSync(anyOf(1, "b"))
	if n.commits(soon) {
		t.Error("a commit returned without a standby")
	}
	// The files are rendered anew without losing it.
	if ch := n.configure(ConfigSpec{KeepSync: true}); ch.Files {
		t.Errorf("rendered anew: %+v", ch)
	}
	pgtest.Wait(t, "no session of pgha waits for a standby", func() (bool, string) {
		left := n.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'pgha'")
		return left == "0", left
	})
	n.waitSync(election.SyncSetting{})
}

func (n *node) settingAfterACrashOfABackend() {
	t := n.t
	t.Helper()
	n.waitSync(anyOf(1, "b"))
	before := n.observe()
	pid, err := strconv.Atoi(n.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgha'"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := n.waitFor("begins again", func(o Observation) bool { return o.CheckpointerPID != before.CheckpointerPID })
	if !after.StartTime.Equal(before.StartTime) {
		t.Errorf("the postmaster itself began again: %s, %s", before.StartTime, after.StartTime)
	}
	if now := n.syncNow(); now.InForce {
		t.Errorf("a proof of before the crash still counts: %+v", now)
	}
	n.waitSync(anyOf(1, "b"))
}
