package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/election"
)

func TestHistoriesAreComparedAsWholeLists(t *testing.T) {
	hist := func(e ...election.HistoryEntry) election.History { return e }
	at := func(tl election.Timeline, lsn election.LSN) election.HistoryEntry {
		return election.HistoryEntry{Timeline: tl, Switch: lsn}
	}
	local := func(tl election.Timeline, lsn election.LSN, h election.History) localPosition {
		return localPosition{SystemID: 1, Timeline: tl, LSN: lsn, History: h}
	}
	clean := func(p localPosition) localPosition { p.Clean = true; return p }
	source := func(tl election.Timeline, lsn election.LSN, h election.History) SourceInfo {
		return SourceInfo{SystemID: 1, Timeline: tl, LSN: lsn, History: h, InRecovery: election.No}
	}
	standby := func(s SourceInfo) SourceInfo { s.InRecovery = election.Yes; return s }
	for _, tc := range []struct {
		name   string
		local  localPosition
		source SourceInfo
		want   Verdict
		fork   election.LSN
		lost   int64
	}{
		{"behind on the same timeline", local(1, 90, nil), source(1, 100, nil), VerdictStreamable, 90, 0},
		{"level on the same timeline", local(1, 100, nil), source(1, 100, nil), VerdictStreamable, 100, 0},
		{"ahead of a primary on the same timeline", local(1, 110, nil), source(1, 100, nil), VerdictNeedsClone, 100, 10},
		{"ahead of a cascading standby on the same timeline", local(1, 110, nil), standby(source(1, 100, nil)), VerdictStreamable, 110, 0},
		{"standby that ends before the switch", local(1, 90, nil), source(2, 200, hist(at(1, 100))), VerdictStreamable, 100, 0},
		{"standby that ends at the switch", local(1, 100, nil), source(2, 200, hist(at(1, 100))), VerdictStreamable, 100, 0},
		{"standby that went beyond the switch", local(1, 101, nil), source(2, 200, hist(at(1, 100))), VerdictNeedsRewind, 100, 1},
		{"former primary whose shutdown checkpoint ends at the switch", clean(local(1, 100, nil)), source(2, 200, hist(at(1, 100))), VerdictStreamable, 100, 0},
		{"former primary that wrote beyond the switch", clean(local(1, 140, nil)), source(2, 120, hist(at(1, 100))), VerdictNeedsRewind, 100, 40},
		{"an older copy of a former primary", clean(local(1, 90, nil)), source(2, 200, hist(at(1, 100))), VerdictNeedsClone, 100, 0},
		{"two switches ago", local(1, 100, nil), source(3, 300, hist(at(1, 100), at(2, 200))), VerdictStreamable, 100, 0},
		{"beyond, two switches ago", local(2, 220, hist(at(1, 100))), source(3, 300, hist(at(1, 100), at(2, 200))), VerdictNeedsRewind, 200, 20},
		{"own promotion after the source's last timeline", local(2, 150, hist(at(1, 100))), source(1, 130, nil), VerdictNeedsRewind, 100, 50},
		{"own promotion beyond what the source ever had", local(2, 150, hist(at(1, 100))), source(1, 80, nil), VerdictNeedsClone, 80, 70},
		{"both made the same timeline number", local(2, 150, hist(at(1, 100))), source(2, 180, hist(at(1, 98))), VerdictNeedsClone, 98, 52},
		{"both made the same timeline number at the same place", local(2, 150, hist(at(1, 100))), source(2, 180, hist(at(1, 100))), VerdictStreamable, 150, 0},
		{"the source skipped our number", local(2, 150, hist(at(1, 100))), source(3, 180, hist(at(1, 98))), VerdictNeedsRewind, 98, 52},
		{"same number further down", local(3, 400, hist(at(1, 100), at(2, 300))), source(4, 400, hist(at(1, 98), at(2, 200))), VerdictNeedsRewind, 98, 302},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := compareHistories(tc.local, tc.source)
			if d.Verdict != tc.want || d.ForkLSN != tc.fork || d.LostBytes != tc.lost || d.Why == "" {
				t.Errorf("got %s, fork %d, lost %d (%s); want %s, %d, %d", d.Verdict, d.ForkLSN, d.LostBytes, d.Why, tc.want, tc.fork, tc.lost)
			}
		})
	}
	d := compareHistories(localPosition{SystemID: 2, Timeline: 1, LSN: 1}, source(1, 2, nil))
	if d.Verdict != VerdictDifferentSystem {
		t.Errorf("%+v", d)
	}
}

func TestTimelineHistoryIsReadAsAWhole(t *testing.T) {
	got, err := ParseHistory(4, "1\t0/3000148\tno recovery target specified\n\n# note\n2\t0/5000000\tafter\r\n")
	want := election.History{{Timeline: 1, Switch: 0x3000148}, {Timeline: 2, Switch: 0x5000000}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for _, bad := range []string{"1", "x\t0/1\t", "1\tx\t", "0\t0/1\t", "4\t0/1\t", "2\t0/2\t\n1\t0/3\t", "1\t0/3\t\n2\t0/2\t"} {
		if h, err := ParseHistory(4, bad); err == nil {
			t.Errorf("%q was read as %v", bad, h)
		}
	}
	s := newNode(t, "n").Server
	if h, err := s.TimelineHistory(1); h != nil || err != nil {
		t.Errorf("%v, %v", h, err)
	}
	if _, err := s.TimelineHistory(2); !errors.Is(err, ErrNoHistory) {
		t.Errorf("%v", err)
	}
}

func FuzzParseHistoryNeverPanics(f *testing.F) {
	f.Add("1\t0/3000148\tx\n")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHistory(9, s)
		for i := range h {
			if err == nil && i > 0 && h[i].Timeline <= h[i-1].Timeline {
				t.Fatalf("%v", h)
			}
		}
	})
}

// Two servers that were promoted apart both call their timeline 2. pg_rewind takes them for the
// same; the verdict must not (safety review, hole 10).
func TestSameTimelineNumberMadeTwiceNeedsAClone(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	b, c := newStandby(t, "b", a), newStandby(t, "c", a)
	b.waitStreaming(a)
	c.waitStreaming(a)
	a.pm.Crash()
	b.promote()
	c.promote()
	b.sql("CREATE TABLE only_b (i int)")
	c.sql("CREATE TABLE only_c (i int)")
	if tb, tc := b.observe().Timeline, c.observe().Timeline; tb != 2 || tc != 2 {
		t.Fatalf("timelines %d and %d", tb, tc)
	}
	hb, err1 := b.TimelineHistory(2)
	hc, err2 := c.TimelineHistory(2)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	// Both had the same WAL, so both left timeline 1 at the same byte: the lists are equal too,
	// and only the WAL tells the two apart.
	if !hb.SameBranch(hc) {
		t.Logf("the histories differ: %v and %v", hb, hc)
	}
	twin := c.divergence(b)
	wantVerdict(t, twin, VerdictNeedsClone)
	if twin.ForkLSN != hb[0].Switch || twin.LostBytes == 0 || twin.LostTransactions < 1 {
		t.Errorf("%+v", twin)
	}
	// A running standby of the one is as far from the other, also while nobody feeds it.
	d := newStandby(t, "d", c)
	d.waitStreaming(c)
	if can, err := d.CanFollow(t.Context(), c.source()); err != nil || can.Verdict != VerdictStreamable {
		t.Errorf("the standby's own source: %+v, %v", can, err)
	}
	c.pm.Stop()
	wantVerdict(t, c.divergence(b), VerdictNeedsClone)
	// By positions and histories alone it would be behind b, on the same line.
	b.sql("CREATE TABLE more AS SELECT generate_series(1, 60000)")
	can, err := d.CanFollow(t.Context(), b.source())
	if err != nil || can.LocalLSN >= can.SourceLSN {
		t.Fatalf("%+v, %v", can, err)
	}
	wantVerdict(t, can, VerdictNeedsClone)
	if can, err := b.CanFollow(t.Context(), d.source()); err == nil || can.Verdict != VerdictUnknown {
		t.Errorf("a primary: %+v, %v", can, err)
	}
}

func TestAnotherClusterIsNeverMixedIn(t *testing.T) {
	t.Parallel()
	a, b := newPrimary(t, "a"), newPrimary(t, "b")
	wantVerdict(t, a.divergence(b), VerdictDifferentSystem)
	a.pm.Stop()
	wantVerdict(t, a.divergence(b), VerdictDifferentSystem)
	if _, err := a.Rewind(t.Context(), b.source(), RewindOptions{}, nil); !errors.Is(err, ErrCannotRewind) {
		t.Errorf("%v", err)
	}
	if st, err := a.DataDir(); st != DataCluster || err != nil {
		t.Errorf("%s, %v", st, err)
	}
	b.pm.Stop()
	d, err := a.Divergence(t.Context(), b.source())
	if err == nil || d.Verdict != VerdictUnknown || d.Why == "" {
		t.Errorf("a source that is down: %+v, %v", d, err)
	}
}

func TestRewindThatCannotLogInLeavesTheClusterWhole(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	a.pm.Crash()
	b.promote()
	bad := newNode(t, "a", func(o *Options) { *o = a.opt; o.Rewind.Password = "wrong" })
	_, err := bad.Rewind(t.Context(), b.source(), RewindOptions{}, nil)
	var h *HelperError
	if !errors.As(err, &h) || h.Kind != FailurePassword || strings.Contains(err.Error(), "password=") {
		t.Fatalf("%v", err)
	}
	if st, err := bad.DataDir(); st != DataCluster || err != nil {
		t.Errorf("%s, %v", st, err)
	}
}
