package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

// histories lists the history files in pg_wal, with a mark at the burnt ones.
func (n *node) histories() []string {
	n.t.Helper()
	files, err := filepath.Glob(n.inData("pg_wal", "*.history"))
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			n.t.Fatal(err)
		}
		name := strings.TrimLeft(strings.TrimSuffix(filepath.Base(f), ".history"), "0")
		if string(b) == burntText {
			name += " burnt"
		}
		out = append(out, name)
	}
	return out
}

func (n *node) wantHistories(when string, want ...string) {
	n.t.Helper()
	if d := cmp.Diff(want, n.histories()); d != "" {
		n.t.Errorf("%s: history files of %s: %s", when, n.opt.Name, d)
	}
}

// A promotion takes the reserved number, and the numbers burnt for that harm nobody: not the
// standby before, not those who follow, not a rewind, not the archive, not a later start.
func TestAPromotionTakesTheReservedTimeline(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	archive := pgtest.Dir(t)
	a.sql("CREATE TABLE t (i int)")
	c, d := newStandby(t, "c", a), newStandby(t, "d", a)
	c.waitStreaming(a)
	d.waitStreaming(a)
	p := c.parameters()
	p["archive_mode"], p["archive_command"] = "on", "cp %p "+archive+"/%f"
	c.pm.Stop()
	src := a.source()
	c.configure(ConfigSpec{Standby: true, Upstream: &src, Parameters: p})
	c.launch()
	c.waitStreaming(a)
	a.pm.Crash()

	if err := c.ReserveTimeline(1, 4); err != nil {
		t.Fatal(err)
	}
	c.wantHistories("reserved", "2 burnt", "3 burnt")
	// The startup process looks for new timelines again and again, and does not take these.
	pgtest.Wait(t, "the standby saw the burnt numbers and refused them", func() (bool, string) {
		return strings.Count(c.pm.Log(), "new timeline 3 is not a child") > 1, c.pm.Log()
	})
	if o := c.observe(); o.Role != election.RoleStandby || o.Timeline != 1 {
		t.Fatalf("%+v", o)
	}
	// A start would trip over them: it comes after a WriteConfig, which takes them away.
	c.pm.Crash()
	c.configure(ConfigSpec{Standby: true, Parameters: p})
	c.wantHistories("written for a start")
	c.launch()
	if err := c.ReserveTimeline(1, 4); err != nil {
		t.Fatal(err)
	}
	c.promote()
	if o := c.observe(); o.Timeline != 4 {
		t.Fatalf("promoted to timeline %d", o.Timeline)
	}
	h, err := c.TimelineHistory(4)
	if err != nil || len(h) != 1 || h[0].Timeline != 1 {
		t.Fatalf("history %v, %v", h, err)
	}
	c.followersAfterAReservation(a, d)
	pgtest.Wait(t, "the archive has the new history", func() (bool, string) {
		_, err := os.Stat(filepath.Join(archive, "00000004.history"))
		return err == nil, fmt.Sprint(err)
	})
	if files, err := filepath.Glob(filepath.Join(archive, "0000000[23]*")); err != nil || len(files) != 0 {
		t.Errorf("archived: %v, %v", files, err)
	}
	c.pm.Crash()
	if o := c.launch(); o.Timeline != 4 || o.Role != election.RolePrimary {
		t.Errorf("after a crash: %+v", o)
	}
	d.pm.Stop()
	d.follow(c)
	if o := d.waitStreaming(c); o.Timeline != 4 {
		t.Errorf("after a restart: %+v", o)
	}
}

// followersAfterAReservation: d re-points while it runs, a comes back through a rewind.
func (n *node) followersAfterAReservation(a, d *node) {
	t := n.t
	t.Helper()
	can, err := d.CanFollow(t.Context(), n.source())
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, can, VerdictStreamable)
	src := n.source()
	d.configure(ConfigSpec{Standby: true, Upstream: &src})
	d.pm.Reload()
	if o := d.waitStreaming(n); o.Timeline != 4 {
		t.Errorf("timeline %d", o.Timeline)
	}
	d.wantHistories("follows", "2 burnt", "3 burnt", "4")
	d.configure(ConfigSpec{Standby: true, Upstream: &src})
	d.wantHistories("written again while it follows", "2 burnt", "3 burnt", "4")

	// Without a walreceiver nothing but the log itself says which timeline it is on.
	d.configure(ConfigSpec{Standby: true, Frozen: true})
	d.pm.Reload()
	d.waitFor("follows nobody", func(o Observation) bool { return o.WalReceiver == nil && o.StartupWait == freezeWait })
	if can, err = d.CanFollow(t.Context(), n.source()); err != nil || can.Verdict != VerdictStreamable || can.LocalTimeline != 4 {
		t.Errorf("after following: %+v, %v", can, err)
	}
	d.configure(ConfigSpec{Standby: true, Upstream: &src})
	d.pm.Reload()
	d.waitStreaming(n)

	a.configure(ConfigSpec{})
	a.launch()
	a.sql("INSERT INTO t VALUES (1)")
	before := a.dataID()
	a.pm.Stop()
	wantVerdict(t, a.divergence(n), VerdictNeedsRewind)
	if err := n.PromoteCheckpoint(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Rewind(t.Context(), n.source(), RewindOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if after := a.dataID(); after == before {
		t.Error("a rewound directory kept its identity")
	}
	a.follow(n)
	if o := a.waitStreaming(n); o.Timeline != 4 {
		t.Errorf("timeline %d", o.Timeline)
	}
}

func TestATimelineThatIsTakenIsNotReserved(t *testing.T) {
	t.Parallel()
	s := newNode(t, "n").Server
	write := func(tl election.Timeline, text string) {
		t.Helper()
		makeFiles(t, s.opt.DataDir, "pg_wal/")
		if err := os.WriteFile(s.historyPath(tl), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(5, "1\t0/3000000\tx\n")
	for _, tc := range []struct{ current, next election.Timeline }{{1, 1}, {2, 1}, {0, 2}, {1, 5}, {1, 7}} {
		if err := s.ReserveTimeline(tc.current, tc.next); !errors.Is(err, ErrTimelineTaken) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	// A line that does not come from ours is only a number that is taken.
	if err := s.ReserveTimeline(4, 7); err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(s.inData("pg_wal", "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("%v, %v", files, err)
	}
}
