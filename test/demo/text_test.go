package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestCensusCountsWhatANodeIsMadeOf(t *testing.T) {
	got := census([]cluster.Process{
		{Comm: "postgres"},
		{Comm: "pgha-agent", Args: []string{"pgha-agent", "fencer"}},
		{Comm: "postgres"},
		{Comm: "pgha-agent", Args: []string{"pgha-agent", "a.yml"}},
		{Comm: "pgha-agent", Args: []string{"pgha-agent", "etcd", "a.yml"}},
	})
	if want := "agent, etcd, fencer, 2 PostgreSQL"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAScreenWithoutColourPrintsPlainText(t *testing.T) {
	var b strings.Builder
	s := &screen{w: &b}
	s.title("Title")
	s.good("it took %d ms", 12)
	s.strike("gone")
	if got := b.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "✓ it took 12 ms") {
		t.Errorf("got %q", got)
	}
}

func TestEventsAreToldInTheOrderInWhichTheyHappened(t *testing.T) {
	events := []event{{3 * time.Second, "c"}, {time.Second, "a"}, {2 * time.Second, "b"}}
	sortEvents(events)
	if events[0].text != "a" || events[2].text != "c" {
		t.Errorf("got %v", events)
	}
}
