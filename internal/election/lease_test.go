package election

import (
	"testing"
	"time"
)

func TestMarginFloor(t *testing.T) {
	for _, tc := range []struct{ ttl, want time.Duration }{
		{0, 300 * time.Millisecond},
		{3 * time.Second, 675 * time.Millisecond},
		{10 * time.Second, 1550 * time.Millisecond},
		{30 * time.Second, 4050 * time.Millisecond},
	} {
		if got := MarginFloor(tc.ttl); got != tc.want {
			t.Errorf("MarginFloor(%s): got %s, want %s", tc.ttl, got, tc.want)
		}
	}
}

func TestLinesOfTheLease(t *testing.T) {
	const s = 100 * time.Second
	for _, tc := range []struct {
		name                           string
		ttl, margin                    time.Duration
		demote, fence, expire, renewal time.Duration // relative to the send time
	}{
		{"ten seconds at the floor", 10 * time.Second, 1550 * time.Millisecond, 6900 * time.Millisecond, 8450 * time.Millisecond, 10 * time.Second, 3333333333},
		{"ten seconds with a wider margin", 10 * time.Second, 2 * time.Second, 6 * time.Second, 8 * time.Second, 10 * time.Second, 3333333333},
		{"the shortest ttl", 3 * time.Second, 675 * time.Millisecond, 1650 * time.Millisecond, 2325 * time.Millisecond, 3 * time.Second, time.Second},
		{"a margin below the floor of the granted ttl is raised", 30 * time.Second, time.Second, 21900 * time.Millisecond, 25950 * time.Millisecond, 30 * time.Second, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Own{Revision: 1, Sent: s, TTL: tc.ttl}
			for _, line := range []struct {
				name      string
				got, want time.Duration
			}{
				{"demote", o.DemoteAt(tc.margin) - s, tc.demote},
				{"fence", o.FenceAt(tc.margin) - s, tc.fence},
				{"expire", o.ExpiresAt() - s, tc.expire},
				{"renew", RenewEvery(tc.ttl), tc.renewal},
			} {
				if line.got != line.want {
					t.Errorf("%s: got %s, want %s", line.name, line.got, line.want)
				}
			}
		})
	}
}

func TestTheLinesKeepTheirOrderAndLeaveTimeForARenewal(t *testing.T) {
	for ttl := 3 * time.Second; ttl <= 300*time.Second; ttl += 500 * time.Millisecond {
		for _, margin := range []time.Duration{0, MarginFloor(ttl)} {
			o := Own{Revision: 1, Sent: 7 * time.Second, TTL: ttl}
			demote, fence, expire := o.DemoteAt(margin), o.FenceAt(margin), o.ExpiresAt()
			if o.Sent >= demote || demote >= fence || fence >= expire {
				t.Errorf("ttl %s, margin %s: sent %s, demote %s, fence %s, expire %s are out of order", ttl, margin, o.Sent, demote, fence, expire)
			}
			if o.Sent+RenewEvery(ttl) >= demote {
				t.Errorf("ttl %s, margin %s: the first renewal comes after the demotion", ttl, margin)
			}
			if fence-demote < MarginFloor(ttl) || expire-fence < MarginFloor(ttl) {
				t.Errorf("ttl %s, margin %s: less than the floor between two lines", ttl, margin)
			}
			if VacancyWait(ttl, margin) < expire-o.Sent+MarginFloor(ttl) {
				t.Errorf("ttl %s, margin %s: a candidate waits less than the holder may write", ttl, margin)
			}
		}
	}
}

func TestTitleIsGoodUntilItsMargin(t *testing.T) {
	another := Leader{Present: true, Name: "c", ModRevision: 95, Lease: leaseOf("c")}
	for _, tc := range []struct {
		name string
		with func(*View)
		good bool
	}{
		{"proven a second ago", func(*View) {}, true},
		{"no title", func(v *View) { v.Own = Own{} }, false},
		{"one nanosecond before the margin", func(v *View) { v.Now = v.Own.DemoteAt(testMargin) - 1 }, true},
		{"at the margin", func(v *View) { v.Now = v.Own.DemoteAt(testMargin) }, false},
		{"a newer key of another", func(v *View) { v.Store.Cluster.Leader = another }, false},
		{"a snapshot of before the own write, with the key of another", func(v *View) {
			v.Store.Cluster.Leader, v.Store.Cluster.Revision = another, leaderRev-1
		}, true},
		{"a snapshot of exactly the own write", func(v *View) { v.Store.Cluster.Revision = leaderRev }, true},
		{"the key was deleted", func(v *View) { v.Store.Cluster.Leader = Leader{} }, true},
		{"the own name under another lease", func(v *View) { v.Store.Cluster.Leader.ModRevision, v.Store.Cluster.Leader.Lease = 95, 99 }, false},
		{"the own name under the own lease, written again", func(v *View) { v.Store.Cluster.Leader.ModRevision = 95 }, true},
		{"another's name under the own lease", func(v *View) { v.Store.Cluster.Leader.ModRevision, v.Store.Cluster.Leader.Name = 95, "c" }, false},
	} {
		v := healthyLeader()
		tc.with(&v)
		if got := v.titleGood(); got != tc.good {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.good)
		}
	}
}

func TestRetryWaitDoublesUpToAMinute(t *testing.T) {
	for n, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if got := retryWait(n); got != want*time.Second {
			t.Errorf("retryWait(%d): got %s, want %s", n, got, want*time.Second)
		}
	}
	if got := retryWait(-1); got != 0 {
		t.Errorf("retryWait(-1): got %s", got)
	}
	if got := retryWait(1 << 40); got != retryMost {
		t.Errorf("retryWait of very many: got %s", got)
	}
}

func TestLSN(t *testing.T) {
	for _, tc := range []struct {
		text string
		want LSN
	}{{"0/0", 0}, {"0/3000148", 0x3000148}, {"1A/2B", 0x1A0000002B}, {"FFFFFFFF/FFFFFFFF", 1<<64 - 1}} {
		got, err := ParseLSN(tc.text)
		if err != nil || got != tc.want || got.String() != tc.text {
			t.Errorf("%s: got %d (%s), %v", tc.text, got, got, err)
		}
	}
	for _, bad := range []string{"", "1", "/", "x/1", "1/x", "100000000/0", "0/100000000", "-1/0", "1/2/3"} {
		if got, err := ParseLSN(bad); err == nil {
			t.Errorf("%q was read as %s", bad, got)
		}
	}
}

func TestHistoriesAreTheSameOnlyEntryByEntry(t *testing.T) {
	h := History{{1, 100}, {2, 200}}
	for _, tc := range []struct {
		name  string
		other History
		want  bool
	}{
		{"equal", History{{1, 100}, {2, 200}}, true},
		{"left at another position (hole 10)", History{{1, 98}, {2, 200}}, false},
		{"shorter", h[:1], false},
		{"none", nil, false},
	} {
		if got := h.SameBranch(tc.other); got != tc.want {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.want)
		}
	}
}
