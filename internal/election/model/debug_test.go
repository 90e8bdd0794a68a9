package model

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/pgha/pgha/internal/election"
)

func TestDebug(t *testing.T) {
	if os.Getenv("DBG") == "" {
		t.Skip()
	}
	max, _ := strconv.Atoi(os.Getenv("DBG"))
	for _, c := range []Config{
		{Name: "q21", Mode: election.SyncQuorum, Nodes: 1, Members: 3, Left: map[budget]int{budCommit: 1, budFreeze: 2, budReigns: 1}},
		{Name: "q22", Mode: election.SyncQuorum, Nodes: 2, Members: 3, Left: map[budget]int{budCommit: 1, budFreeze: 2, budReigns: 1}},
	} {
		c.MaxStates = max
		c.Left[budSilent] = 1
		r := Explore(c)
		fmt.Println(r.String())
		fmt.Println(r.world.cfg.Bounds())
		for id, n := range r.world.rules {
			fmt.Println("   rule", id, n)
		}
		for k := range numSteps {
			if r.kinds[k] > 0 {
				fmt.Printf("   %-60s %8d %8d\n", stepText(k)+strconv.Itoa(int(k)), r.kinds[k], r.fresh[k])
			}
		}
		if r.Violation != 0 {
			fmt.Println(r.Story())
		}
	}
}
