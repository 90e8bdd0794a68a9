package sim

import (
	"os"
	"strconv"
	"testing"
)

func TestOne(t *testing.T) {
	from, n := 0, 30
	if s := os.Getenv("FROM"); s != "" {
		from, _ = strconv.Atoi(s)
	}
	if s := os.Getenv("N"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	tell, _ := strconv.Atoi(os.Getenv("TELL"))
	for seed := uint64(from); seed < uint64(from+n); seed++ {
		r := Run(seed, tell > 0)
		if tell > 0 && r.Violation != nil {
			t.Log(r.Tell(tell))
		}
		if r.Violation != nil || tell == 0 && n <= 30 {
			t.Logf("seed %d: %v virtual %s events %d acked %d lost %d failovers %d handovers %d recovery %s", seed, r.Violation, r.Virtual, r.Events, r.Acked, r.Lost, r.Failovers, r.HandOvers, r.Recovery)
		}
	}
}
