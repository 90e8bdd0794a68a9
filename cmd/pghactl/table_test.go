package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgha/pgha/internal/dcs"
)

// longCluster has names as long as people really make them, and everything wrong at once.
func longCluster() *clusterView {
	snap := dcs.Snapshot{Revision: 7}
	add := func(key, value string) {
		snap.KVs = append(snap.KVs, dcs.KV{Key: key, Value: []byte(value), ModRevision: 3})
	}
	long := "postgres-production-eu-central-1a-customer-orders-database"
	add("initialize", "7321456789012345678")
	add("config", `{"synchronous_mode":true,"pause":true}`)
	add("failover", fmt.Sprintf(`{"leader":"%s-0","member":"%s-1","scheduled_at":"2031-05-05T05:00:00+02:00"}`, long, long))
	add("failsafe", fmt.Sprintf(`{"%s-9":"http://x:8008/patroni"}`, long))
	for i := range 3 {
		state := []string{"running", "start failed", "creating replica"}[i]
		add(fmt.Sprintf("members/%s-%d", long, i), fmt.Sprintf(`{"conn_url":"postgres://%s-%d.internal.example.org:15432/postgres","api_url":"http://x:8008/patroni",
			"state":%q,"role":"primary","version":"4.1.4","timeline":4294967295,"xlog_location":18446744073709551615,"receive_lsn":1,
			"pending_restart":true,"pending_restart_reason":{"shared_preload_libraries":{"old_value":"pg_stat_statements","new_value":"pg_stat_statements,auto_explain,%s"}},
			"scheduled_restart":{"schedule":"2031-05-05T05:00:00+02:00","postgres_version":"15.99"},
			"tags":{"replicatefrom":"%s-1","a_tag_with_a_long_name":"%s"}}`, long, i, state, long, long, long))
	}
	add("leader", long+"-0")
	add("status", `{"optime":18446744073709551615}`)
	c := decodeCluster(snap, long)
	v := viewOf(c, settings{namespace: "/service"})
	v.Problems = findProblems(c)
	for i := range v.Problems {
		v.Problems[i].Decision = &decision{Rule: "standby.a_rule_with_a_rather_long_identifier", Reason: strings.Repeat(long+" ", 3), Change: strings.Repeat("x", 150)}
	}
	return v
}

func assertFits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if textWidth(line) > tableWidth {
			t.Errorf("%d columns: %s", textWidth(line), line)
		}
	}
}

func TestListFitsTheWidthWithLongNames(t *testing.T) {
	for _, opt := range []listOptions{{}, {extended: true}, {tree: true}, {tree: true, extended: true}} {
		var b bytes.Buffer
		v := longCluster()
		printCluster(&b, v, opt)
		assertFits(t, b.String())
		squeezed := strings.Join(strings.Fields(strings.ReplaceAll(b.String(), "\n", "")), "")
		if !strings.Contains(squeezed, "customer-orders-database-9:isknowntothecluster") {
			t.Errorf("a problem is missing in\n%s", b.String())
		}
	}
}

func TestWhyFitsTheWidth(t *testing.T) {
	var b bytes.Buffer
	long := strings.Repeat("a very long reason that goes on and on, ", 10)
	printWhy(&b, memberWhy{
		Member: "a", Role: "leader", State: "running", Reachable: true, Now: &ruleNow{Rule: "r", Reason: long, Problems: []string{long}},
		Decisions: []decision{{At: time.Unix(0, 0).UTC(), Rule: "r", Reason: long, Change: long, Actions: []string{long}, Result: long}},
	})
	assertFits(t, b.String())
}

func TestTableFoldsWithoutLosingText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := table{cols: []column{{title: "A", wrap: true}, {title: "B", wrap: true}, {title: "C", wrap: true}, {title: "N", right: true}}}
		var all strings.Builder
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			row := make([]string, 4)
			for i := range 3 {
				row[i] = rapid.StringMatching(`[a-z0-9._:-]{0,120}`).Draw(t, "cell")
			}
			row[3] = fmt.Sprint(rapid.Uint32().Draw(t, "number"))
			tab.rows = append(tab.rows, row)
			all.WriteString(strings.Join(row, ""))
		}
		var b bytes.Buffer
		tab.render(&b)
		printed := map[rune]int{}
		for _, r := range b.String() {
			printed[r]++
		}
		for _, r := range all.String() {
			printed[r]--
			if printed[r] < 0 {
				t.Fatalf("%q was lost in\n%s", r, b.String())
			}
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			if textWidth(line) > tableWidth {
				t.Fatalf("%d columns: %s", textWidth(line), line)
			}
		}
	})
}

func TestProgressTextShowsShareRateAndETA(t *testing.T) {
	for name, tc := range map[string]struct {
		done, total int64
		rate        float64
		want        string
	}{
		"nothing known":           {0, 0, 0, "x"},
		"no end known":            {5 << 20, 0, 1 << 20, "x  5.0 MiB  1.0 MiB/s"},
		"a quarter":               {1 << 30, 4 << 30, 100 << 20, "x [#####...............]  25%  1.0 GiB of 4.0 GiB  100 MiB/s  ETA 31s"},
		"hours":                   {0, 1 << 42, 100 << 20, "x [....................]   0%  0 B of 4.0 TiB  100 MiB/s  ETA 11h39m0s"},
		"more than was announced": {5 << 20, 4 << 20, 0, "x [####################] 100%  5.0 MiB of 4.0 MiB"},
	} {
		if got := progressText("x", tc.done, tc.total, tc.rate); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestProgressCountsTheRateItselfAndRedrawsOnATerminal(t *testing.T) {
	var b bytes.Buffer
	clock := newFakeClock()
	p := &progressLine{w: &b, tty: true, now: clock.Now}
	p.update("clone", 0, 100<<20, 0)
	clock.Advance(2 * time.Second)
	p.update("clone", 20<<20, 100<<20, 0)
	p.end()
	want := "\r\x1b[Kclone [....................]   0%  0 B of 100 MiB" +
		"\r\x1b[Kclone [####................]  20%  20 MiB of 100 MiB  10 MiB/s  ETA 8s\r\x1b[K"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestProgressPrintsPlainLinesNowAndThenWithoutATerminal(t *testing.T) {
	var b bytes.Buffer
	clock := newFakeClock()
	p := &progressLine{w: &b, now: clock.Now}
	for range 21 {
		p.update("clone", 1, 0, 0)
		clock.Advance(time.Second)
	}
	p.end()
	if got := strings.Count(b.String(), "\n"); got != 3 || strings.Contains(b.String(), "\x1b") {
		t.Errorf("want 3 plain lines in 20 s, got %q", b.String())
	}
}
