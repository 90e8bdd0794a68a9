package main

import (
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestOffsetsAreTakenOutOfTheServersTimes(t *testing.T) {
	day := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	k := &clocks{steps: []clockChange{
		{server: "a", from: 1000 * ms, until: 2000 * ms, offset: time.Hour},
		{server: "a", from: 5000 * ms, until: 6000 * ms},
	}}
	at := func(server string, sent, received time.Duration) cluster.Ack {
		return cluster.Ack{Server: server, Sent: sent, Received: received, Executed: day}
	}
	acks := []cluster.Ack{
		at("a", 100*ms, 200*ms),   // before
		at("a", 900*ms, 1100*ms),  // under way while it was stepped
		at("a", 2100*ms, 2200*ms), // an hour ahead
		at("b", 2100*ms, 2200*ms), // another server
		at("a", 4900*ms, 5100*ms), // while it was stepped back
		at("a", 6100*ms, 6200*ms), // right again
	}
	want := []time.Time{day, {}, day.Add(-time.Hour), day, {}, day}
	for i, a := range k.correct(acks) {
		if !a.Executed.Equal(want[i]) {
			t.Errorf("acknowledgement %d: got %s, want %s", i, a.Executed, want[i])
		}
	}
	if !acks[1].Executed.Equal(day) {
		t.Error("the ledger itself was changed")
	}
}
