package model

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/pgha/pgha/internal/election"
)

func TestDebug2(t *testing.T) {
	if os.Getenv("DBG2") == "" {
		t.Skip()
	}
	max, _ := strconv.Atoi(os.Getenv("DBG2"))
	c := Config{Name: "switch", Mode: election.SyncOff, Members: 2, Clock: true, Left: map[budget]int{budSwitchover: 1, budAgentKill: 1, budReigns: 1}, MaxStates: max}
	r := Explore(c)
	fmt.Println(r.String())
	if r.Violation != 0 {
		fmt.Println(r.Story())
	}
}
