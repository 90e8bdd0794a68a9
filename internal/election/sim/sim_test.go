package sim

import (
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The environment says how much to try: PGHA_SIM_SEEDS is a number of new seeds, PGHA_SIM_FIRST the first
// of them (otherwise drawn; from 9223372036854775808 on they are rough), PGHA_SIM_SEED one seed to replay with its whole story.
const (
	seedsVariable = "PGHA_SIM_SEEDS"
	seedVariable  = "PGHA_SIM_SEED"
	firstVariable = "PGHA_SIM_FIRST"
	freshSeeds    = 150
	// storyLines is how much of a failing seed's story is shown.
	storyLines = 120
	// tellEvery is how often a long run says how far it is.
	tellEvery = 10 * time.Second
)

// corpus are the seeds that are always tried: the first ones, and those that once failed.
func corpus() []uint64 {
	seeds := []uint64{
		5035642170741, 11512820437985, 12590728319010, 652056379066, 2840392579720, 30820480972, 77000513, 79001531,
		80000074, 80001904, 80001981, 81000582, 17180865305736, 16270046738950, 46, 81, 88, 97, 100, 104, 119, 121, 165, 175, 253, 270, 316, 336,
		411001177, 411010021, 512000007676, 613000006470, 613000007993, 613000014246, 815000003429, 917000006872,
		918000004389, 921000001394, 931000010439, 932000054678, 932000067900, 932000126742,
		Rough + 2225, Rough + 6918, Rough + 932049237, Rough + 932076958,
	}
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
		"switchover.refused", "stop.done", "freeze.freeze", "freeze.vote", "freeze.take_over", "freeze.withdraw", "freeze.thaw",
		"leader.failsafe", "leader.crash_release", "race.wait_votes",
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

// TestFreshSeedsKeepTheInvariants tries new seeds, on all processors. A simulated cluster-hour is an hour
// of the simulated time of one whole cluster, its making, faults and healing included; CPU time is user
// and system time of this process, the collector's included.
func TestFreshSeedsKeepTheInvariants(t *testing.T) {
	want := freshSeeds
	if n, err := strconv.Atoi(os.Getenv(seedsVariable)); err == nil {
		want = n
	}
	first := firstSeed(t)
	// A world is small: the collector's work is in how often it begins. Much more than this, and the memory
	// in use leaves the caches.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	wall := time.Now //nolint:forbidigo // how long the sweep takes, not what happens in it
	begin, used := wall(), cpuTime(t)
	told := begin
	sum := Sweep(first, want, func(sum Totals) {
		if now := wall(); now.Sub(told) >= tellEvery {
			told = now
			fmt.Printf("sim: %d of %d seeds in %s: %s\n", sum.Seeds, want, now.Sub(begin).Round(time.Second), pace(sum, cpuTime(t)-used))
		}
	})
	fmt.Printf("sim: %d seeds from %d in %s on %d processors: %s; %d commits, %d lost, %d failovers, %d switchovers, slowest recovery %s\n",
		sum.Seeds, first, wall().Sub(begin).Round(100*time.Millisecond), runtime.GOMAXPROCS(0), pace(sum, cpuTime(t)-used),
		sum.Acked, sum.Lost, sum.Failovers, sum.HandOvers, sum.Slowest)
	if sum.Failed != nil {
		t.Error(Run(sum.Failed.Seed, true).Tell(storyLines))
	}
}

// pace is how much was simulated for the processor time that it took.
func pace(sum Totals, used time.Duration) string {
	return fmt.Sprintf("%.1f seeds a CPU second, %.0f simulated cluster-hours and %.0f faults a CPU minute",
		float64(sum.Seeds)/used.Seconds(), sum.Virtual.Hours()/used.Minutes(), float64(sum.Faults)/used.Minutes())
}

// firstSeed is where to begin: as asked, else at random, so that each run tries others.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	if n, err := strconv.ParseUint(os.Getenv(firstVariable), 10, 64); err == nil {
		return n
	}
	var random [8]byte
	if _, err := crand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(random[:]) >> 20
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// A crew that has been through other worlds makes no difference.
func TestAWorldDoesNotDependOnTheOneBefore(t *testing.T) {
	t.Parallel()
	c := newCrew()
	defer c.close()
	for _, seed := range []uint64{7, 1, 121, 46, 1} {
		if got, want := c.run(seed, Random(seed), false), Run(seed, false); got.Hash != want.Hash || got.Events != want.Events {
			t.Errorf("seed %d: got hash %x after %d events, want %x after %d", seed, got.Hash, got.Events, want.Hash, want.Events)
		}
	}
}
