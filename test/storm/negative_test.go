//go:build integration

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// short is a storm of a few seconds on real servers.
func short(t *testing.T, args ...string) *report {
	t.Helper()
	o, err := parse(append([]string{"-seed", "1"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", r.table())
	return r
}

func TestAStormWithoutSabotageIsGreen(t *testing.T) {
	r := short(t, "-minutes", "0.1", "-faults", "switchover,upgrade agent")
	if len(r.Red) > 0 {
		t.Errorf("red: %q", r.Red)
	}
}

// Without its fencer a primary whose agent stands still writes on beside its successor. A storm that
// does not see that sees nothing.
func TestTheCheckersSeeADisabledFencer(t *testing.T) {
	r := short(t, "-sabotage", noFencer, "-mode", string(cluster.Asynchronous))
	if !strings.Contains(strings.Join(r.Red, "; "), "two servers acknowledged at once") {
		t.Errorf("the fencer was off, and the verdict is %q", r.Red)
	}
	if r.Overlap < time.Second || r.Lost == 0 {
		t.Errorf("overlap %s, %d rows lost: want more than a second and some", r.Overlap, r.Lost)
	}
}

// A published set of which one vote is enough, although any member may have confirmed the last
// commits alone, loses those. A storm that does not see that sees nothing.
func TestTheCheckersSeeAWrongSynchronousSet(t *testing.T) {
	r := short(t, "-sabotage", wrongSet, "-mode", string(cluster.Quorum))
	if !strings.Contains(strings.Join(r.Red, "; "), "acknowledged rows are lost") || r.Lost == 0 || len(r.Lists.Lost) == 0 {
		t.Errorf("the set was wrong, %d rows and %d appends are lost, and the verdict is %q", r.Lost, len(r.Lists.Lost), r.Red)
	}
}
