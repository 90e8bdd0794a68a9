package cluster

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// history writes acknowledgements of one server, one every 10 ms.
func history(server string, timeline int, firstID int64, from, to time.Duration) []Ack {
	var acks []Ack
	for at := from; at <= to; at += 10 * ms {
		acks = append(acks, Ack{ID: firstID, Sent: at - 2*ms, Received: at, Server: server, Timeline: timeline})
		firstID++
	}
	return acks
}

func TestOverlapsFindsTwoWritersAndOnlyThose(t *testing.T) {
	old, successor := history("a", 1, 1, 0, 1000*ms), history("b", 2, 1000, 3000*ms, 4000*ms)
	late := Ack{ID: 500, Sent: 900 * ms, Received: 3500 * ms, Server: "a", Timeline: 1}
	certain := Ack{ID: 501, Sent: 3400 * ms, Received: 3500 * ms, Server: "a", Timeline: 1}
	day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	successor[0].Executed = day
	ranLate := Ack{ID: 502, Sent: 900 * ms, Received: 3500 * ms, Executed: day.Add(ms), Server: "a", Timeline: 1}
	tests := []struct {
		name    string
		acks    []Ack
		by      time.Duration // 0: no overlap
		certain bool
		forks   []int
	}{
		{"one after the other", slices.Concat(old, successor), 0, false, nil},
		{"a late answer of the old server", slices.Concat(old, successor, []Ack{late}), 500 * ms, false, nil},
		{"the old server takes a new request", slices.Concat(old, successor, []Ack{certain}), 500 * ms, true, nil},
		{"a late answer to a statement that ran too late", slices.Concat(old, successor, []Ack{ranLate}), 500 * ms, true, nil},
		{"both write at once", slices.Concat(history("a", 1, 1, 0, 4000*ms), successor), 1000 * ms, true, nil},
		{"both write on one timeline", slices.Concat(old, history("b", 1, 1000, 500*ms, 2000*ms)), 500 * ms, true, []int{1}},
		{"the old server leads again on its next timeline", slices.Concat(old, successor, history("a", 3, 2000, 5000*ms, 6000*ms)), 0, false, nil},
		{"nothing", nil, 0, false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			overlaps, forks := Overlaps(test.acks)
			if !slices.Equal(forks, test.forks) {
				t.Errorf("forks: got %v, want %v", forks, test.forks)
			}
			if test.by == 0 {
				if len(overlaps) != 0 {
					t.Fatalf("got %v, want none", overlaps)
				}
				return
			}
			if len(overlaps) != 1 || overlaps[0].By != test.by || overlaps[0].Certain != test.certain {
				t.Fatalf("got %v, want one of %s, certain %t", overlaps, test.by, test.certain)
			}
		})
	}
}

func TestOutageIsTheLongestGapAfterTheFault(t *testing.T) {
	steady := history("a", 1, 1, 0, 1000*ms)
	resumed := slices.Concat(steady, history("b", 2, 1000, 3200*ms, 4000*ms))
	tests := []struct {
		name         string
		acks         []Ack
		fault, until time.Duration
		want         time.Duration
		open         bool
	}{
		{"no gap but the period", steady, 500 * ms, 1000 * ms, 10 * ms, false},
		{"from the last write of the old to the first of the new", resumed, 1003 * ms, 4000 * ms, 2200 * ms, false},
		{"a gap before the fault does not count", resumed, 3500 * ms, 4000 * ms, 10 * ms, false},
		{"a gap that the fault falls into counts whole", resumed, 2000 * ms, 4000 * ms, 2200 * ms, false},
		{"writes never came back", steady, 900 * ms, 9000 * ms, 8000 * ms, true},
		{"nothing was ever written", nil, 100 * ms, 600 * ms, 500 * ms, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gap := Outage(test.acks, test.fault, test.until)
			if gap.Length() != test.want || gap.Open != test.open {
				t.Errorf("got %s, open %t; want %s, open %t", gap.Length(), gap.Open, test.want, test.open)
			}
		})
	}
}

func TestLostFindsARowThatWasPromisedAndIsGone(t *testing.T) {
	acks := history("a", 1, 1, 0, 50*ms) // ids 1 to 6
	if lost := Lost(acks, []int64{1, 2, 3, 4, 5, 6, 7}); len(lost) != 0 {
		t.Errorf("nothing is missing, got %v", lost)
	}
	if lost := Lost(acks, []int64{1, 2, 4, 5, 6}); !slices.Equal(lost, []int64{3}) {
		t.Errorf("got %v, want row 3", lost)
	}
	acks[2].Local = true
	if lost := Lost(acks, []int64{1, 2, 4, 5, 6}); len(lost) != 0 {
		t.Errorf("a row acknowledged with a warning was no promise, got %v", lost)
	}
}
