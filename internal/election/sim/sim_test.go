package sim

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The environment says how much to try: PGHA_SIM_SEEDS is a number of new seeds, PGHA_SIM_SEED one
// seed to replay with its whole story.
const (
	seedsVariable = "PGHA_SIM_SEEDS"
	seedVariable  = "PGHA_SIM_SEED"
	freshSeeds    = 15
	// storyLines is how much of a failing seed's story is shown.
	storyLines = 120
)

// corpus are the seeds that are always tried: the first ones, and those that once failed.
func corpus() []uint64 {
	seeds := []uint64{17180865305736, 16270046738950, 46, 81, 88, 97, 100, 104, 119, 121, 165, 175, 253, 270, 316, 336}
	for s := range uint64(20) {
		seeds = append(seeds, s)
	}
	return seeds
}

func try(t *testing.T, seed uint64) Result {
	t.Helper()
	r := Run(seed, false)
	if r.Violation != nil {
		t.Error(Run(seed, true).Tell(storyLines))
	}
	return r
}

// TestSeedsOfTheCorpusKeepTheInvariants also shows that the worlds are rough enough: most rules are
// reached.
func TestSeedsOfTheCorpusKeepTheInvariants(t *testing.T) {
	t.Parallel()
	reached := map[string]int{}
	for _, seed := range corpus() {
		for id, n := range try(t, seed).Rules {
			reached[id] += n
		}
	}
	for _, id := range []string{
		"title.margin", "title.vanished", "leader.restart_in_place", "leader.promote", "leader.steady", "leader.dying",
		"member.follow", "member.clone", "member.compare", "member.steady", "member.down_diverged", "race.acquire",
		"race.wait_lease", "race.yield", "race.not_eligible", "bootstrap.claim", "bootstrap.run", "switchover.hand_over",
		"switchover.refused", "stop.done",
	} {
		if reached[id] == 0 {
			t.Errorf("rule %s was never reached", id)
		}
	}
}

// TestReplay tells the whole story of one seed, when one is asked for.
func TestReplay(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64)
	if err != nil {
		return
	}
	r := Run(seed, true)
	fmt.Println(r.Tell(1 << 30))
	if r.Violation != nil {
		t.Errorf("seed %d: %s", seed, r.Violation)
	}
}

func TestFreshSeedsKeepTheInvariants(t *testing.T) {
	want := freshSeeds
	if n, err := strconv.Atoi(os.Getenv(seedsVariable)); err == nil {
		want = n
	}
	var random [8]byte
	if _, err := crand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	first := binary.LittleEndian.Uint64(random[:]) >> 20
	var virtual, slowest time.Duration
	var acked, lost, failovers, handovers int
	begin := cpuTime(t)
	for i := range uint64(want) {
		r := try(t, first+i)
		virtual += r.Virtual
		slowest = max(slowest, r.Recovery)
		acked, lost = acked+r.Acked, lost+r.Lost
		failovers, handovers = failovers+r.Failovers, handovers+r.HandOvers
		if t.Failed() {
			break
		}
	}
	took := (cpuTime(t) - begin).Seconds()
	fmt.Printf("sim: %d seeds from %d: %.1f seeds a second, %.1f simulated hours a CPU minute; %d commits, %d lost, %d failovers, %d switchovers, slowest recovery %s\n",
		want, first, float64(want)/took, virtual.Hours()/(took/60), acked, lost, failovers, handovers, slowest)
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

func TestAReplayIsIdentical(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 7, 46, 121} {
		first, second := Run(seed, false), Run(seed, true)
		if first.Hash != second.Hash || first.Events != second.Events || first.Acked != second.Acked {
			t.Errorf("seed %d: got hash %x after %d events, and %x after %d when told", seed, first.Hash, first.Events, second.Hash, second.Events)
		}
		third := Run(seed, true)
		if !slices.Equal(second.Story, third.Story) {
			t.Errorf("seed %d: two stories:\n%s\n---\n%s", seed, strings.Join(second.Story, "\n"), strings.Join(third.Story, "\n"))
		}
	}
}
