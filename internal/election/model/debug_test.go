package model

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

func TestDebug(t *testing.T) {
	if os.Getenv("DBG") == "" {
		t.Skip()
	}
	max, _ := strconv.Atoi(os.Getenv("DBG"))
	for _, c := range []Config{
		quorum(3, 1, map[budget]int{budCommit: 1, budFreeze: 2}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 2}),
		quorum(3, 2, map[budget]int{budCommit: 1, budFreeze: 2, budReigns: 2}),
		quorum(3, 2, map[budget]int{budServerCrash: 1, budFreeze: 2}),
		quorum(4, 2, map[budget]int{budCommit: 1, budFreeze: 2}),
	} {
		c.MaxStates = max
		c.Name = c.Key()
		r, _ := exploreWith(c, nil)
		fmt.Println(r.String())
		if r.Violation != 0 {
			fmt.Println(r.Story())
		}
	}
}
