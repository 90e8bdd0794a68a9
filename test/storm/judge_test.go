package main

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/test/cluster"
)

func pgError(severity string) error { return &pgconn.PgError{Severity: severity, Code: "XX000"} }

// answers of a member, one every 50 ms.
func answers(member string, primary bool, from, to time.Duration) []sample {
	var out []sample
	for at := from; at < to; at += pollPeriod {
		out = append(out, sample{Sent: at, Received: at + 2*ms, Member: member, Primary: primary})
	}
	return out
}

func TestTwoPrimariesAtOnceAreFound(t *testing.T) {
	apart := slices.Concat(answers("a", true, 0, 1000*ms), answers("a", false, 1000*ms, 3000*ms), answers("b", true, 1500*ms, 3000*ms))
	if times, total := twoPrimaries(spans(apart)); times != 0 || total != 0 {
		t.Errorf("one after the other: got %d times, %s", times, total)
	}
	both := slices.Concat(answers("a", true, 0, 2000*ms), answers("b", true, 1500*ms, 3000*ms))
	if times, total := twoPrimaries(spans(both)); times != 1 || total != 448*ms {
		t.Errorf("together from 1502 to 1950 ms: got %d times, %s", times, total)
	}
	// One answer alone may have been under way for long: it proves no span of time.
	late := append(apart, sample{Sent: 900 * ms, Received: 2000 * ms, Member: "a", Primary: true})
	if times, _ := twoPrimaries(spans(late)); times != 0 {
		t.Errorf("a late answer: got %d times", times)
	}
}

func TestAnUnaskedChangeOfThePrimaryIsFalse(t *testing.T) {
	all := changes(spans(slices.Concat(answers("a", true, 0, 1000*ms), answers("b", true, 2000*ms, 3000*ms), answers("a", true, 4000*ms, 5000*ms))))
	if len(all) != 2 || all[0].To != "b" || all[1].To != "a" {
		t.Fatalf("got %+v, want to b and back to a", all)
	}
	records := []record{
		{Begin: 900 * ms, Settled: 2500 * ms, Moves: true},
		{Begin: 3500 * ms, Settled: 4500 * ms}, // a fault of a standby
	}
	if got := falseFailovers(all, records); len(got) != 1 || got[0].To != "a" {
		t.Errorf("got %+v, want the second", got)
	}
	records[1].Moves = true
	if got := falseFailovers(all, records); len(got) != 0 {
		t.Errorf("got %+v, want none", got)
	}
	if got := falseFailovers(all, nil); len(got) != 2 {
		t.Errorf("without any fault: got %+v, want both", got)
	}
}

// rows are acknowledged every 10 ms, each with 100 bytes of WAL.
func rows(server string, timeline int, first int64, from, to time.Duration) []cluster.Ack {
	var out []cluster.Ack
	for at := from; at < to; at += 10 * ms {
		out = append(out, cluster.Ack{ID: first, Sent: at, Received: at + ms, Server: server, Timeline: timeline, LSN: first * 100})
		first++
	}
	return out
}

func TestTheBoundOfAsynchronousReplication(t *testing.T) {
	// a writes ids 1 to 1000 in 10 s; then b.
	acks := slices.Concat(rows("a", 1, 1, 0, 10*time.Second), rows("b", 2, 2000, 12*time.Second, 13*time.Second))
	b := bound{MaximumLag: 20_000, Stale: 2 * time.Second}
	// Published at 8 s: id 800, byte 80000; so everything from byte 60000 on may be lost.
	if got := b.beyond(acks, []int64{1000, 801, 600}); len(got) != 0 {
		t.Errorf("within the bound: got %v", got)
	}
	if got := b.beyond(acks, []int64{1000, 598, 100}); !slices.Equal(got, []int64{100, 598}) {
		t.Errorf("got %v, want 100 and 598", got)
	}
	if got := b.beyond(acks, []int64{2000}); len(got) != 0 {
		t.Errorf("a reign shorter than the bound: got %v", got)
	}
}

func TestOverlapsOfDifferentClientsAreAddedUp(t *testing.T) {
	one, two := cluster.NewLedger(), cluster.NewLedger()
	if got := byArrival(one, two); len(got) != 0 {
		t.Fatalf("got %v from nothing", got)
	}
	acks := slices.Concat(rows("a", 1, 1, 0, 4*time.Second), rows("b", 2, 5000, 3*time.Second, 6*time.Second))
	overlaps, _ := cluster.Overlaps(acks)
	certain, possible := overlapOf(overlaps)
	if certain != 990*ms || possible != 0 {
		t.Errorf("got %s certain and %s possible, want 990 ms certain", certain, possible)
	}
}

// greenReport is one that nothing is wrong with.
func greenReport(mode cluster.Mode) *report {
	return &report{
		Mode: mode, Faults: 3, Acknowledged: 1000, TTL: 5 * time.Second, Length: time.Minute,
		Records: []record{
			{Number: 1, Kinds: []string{"switchover, then kill"}, Outage: 812345 * ms, Direct: 998765 * ms, Settled: 100 * time.Second},
			{Number: 2, Kinds: []string{"kill node", "cut off"}, Outage: ms, Settled: 60 * time.Second},
		},
	}
}

func TestTheVerdict(t *testing.T) {
	async, quorum := cluster.Asynchronous, cluster.Quorum
	tests := []struct {
		name   string
		mode   cluster.Mode
		change func(r *report)
		red    bool
	}{
		{"all well", async, func(*report) {}, false},
		{"all well", quorum, func(*report) {}, false},
		{"lost rows within the bound", async, func(r *report) { r.Lost, r.Lists.Lost, r.Lists.Ghosts = 5, []int64{1}, 2 }, false},
		{"lost rows beyond the bound", async, func(r *report) { r.Lost, r.LostBeyond = 5, 1 }, true},
		{"lost rows", quorum, func(r *report) { r.Lost = 1 }, true},
		{"lost rows", cluster.Synchronous, func(r *report) { r.Lost = 1 }, true},
		{"lost appends", quorum, func(r *report) { r.Lists.Lost = []int64{1} }, true},
		{"ghosts", quorum, func(r *report) { r.Lists.Ghosts = 1 }, true},
		{"readers may see what was never promised", quorum, func(r *report) { r.Lists.GhostReads = 1 }, false},
		{"inconsistent lists", async, func(r *report) { r.Lists.Violations = []string{"append 2 is there twice"} }, true},
		{"certain overlap", async, func(r *report) { r.Certain = make([]cluster.Overlap, 1) }, true},
		{"a timeline with two writers", async, func(r *report) { r.Forks = []int{3} }, true},
		{"a human", async, func(r *report) { r.Humans = 1 }, true},
		{"a crash", async, func(r *report) { r.Crashes = 1 }, true},
		{"diverged standby", async, func(r *report) { r.Diverged = []string{"b"} }, true},
		{"no fault", async, func(r *report) { r.Faults = 0 }, true},
		{"no writes", async, func(r *report) { r.Acknowledged = 0 }, true},
		{"ended early", async, func(r *report) { r.Aborted = "why" }, true},
	}
	for _, test := range tests {
		r := greenReport(test.mode)
		test.change(r)
		if got := r.verdict(); (len(got) > 0) != test.red {
			t.Errorf("%s (%s): got %q, want red %t", test.name, test.mode, got, test.red)
		}
	}
}

func TestTheTableFitsAHundredColumnsAndShowsWhatCounts(t *testing.T) {
	r := greenReport(cluster.Quorum)
	r.Lost, r.Acknowledged, r.Seed = 7654321, 123456789, 1<<32-1
	r.Aborted = strings.Repeat("a long reason ", 20)
	r.Red = r.verdict()
	text := r.table()
	for line := range strings.SplitSeq(text, "\n") {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"switchover, then kill", "two at once", "812345", "998765", "7654321", "RED"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
