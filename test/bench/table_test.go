package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestMedianIsTheMiddleOne(t *testing.T) {
	if got := cluster.Median([]time.Duration{5, 1, 9}); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
	if got := cluster.Median([]time.Duration{7}); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
}

func TestTheTableShowsMedianWorstAndWhatWasLost(t *testing.T) {
	r := result{
		Outages: []series{{
			Mode: "quorum", TTL: 5 * time.Second, Fault: "node", Client: "haproxy", Lost: 3, Acked: 1234,
			Outages: []time.Duration{900 * time.Millisecond, 1100 * time.Millisecond, 2 * time.Second},
		}},
		Idle: []idle{{
			Mode: "quorum", TTL: 5 * time.Second, Span: 30 * time.Second, EtcdWrites: 2,
			Members: []idleMember{{Name: "a", Role: "primary", AgentCPU: 300 * time.Millisecond, AgentRSS: 20 << 20}},
		}},
	}
	var b strings.Builder
	r.print(&b)
	for _, want := range []string{"1100", "2000", "1234", " 3 ", "0.60", "4.0", "20 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
