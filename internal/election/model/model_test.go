package model

import (
	"testing"

	"github.com/pgha/pgha/internal/election"
)

func TestAsyncTwoMembers(t *testing.T) {
	r := Explore(Config{
		Name: "async, 2 members", Members: 2, Clock: true, Mode: election.SyncOff, MaxStates: 400_000,
		Left: map[budget]int{budAgentKill: 1, budUnknown: 1, budServerCrash: 1},
	})
	t.Log(r.String())
	if r.Violation != violNone {
		t.Fatal(r.Story())
	}
}
