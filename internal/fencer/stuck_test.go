package fencer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKilledProcessThatCannotDieIsSilentButBlocksAStart freezes one backend with the freezer of
// cgroup v1, whose victims sit in uninterruptible sleep and die only when they are thawed.
func TestKilledProcessThatCannotDieIsSilentButBlocksAStart(t *testing.T) {
	freezer := "/sys/fs/cgroup/freezer/pgha-test-" + strconv.Itoa(os.Getpid())
	must(t, os.Mkdir(freezer, 0o755)) // needs cgroup v1; see the list of what CI provides
	t.Cleanup(func() {
		waitFor(t, 10*time.Second, "freezer is removed", func() (bool, string) {
			err := os.Remove(freezer)
			return err == nil || os.IsNotExist(err), fmt.Sprint(err)
		})
	})
	b := newBench(t)
	thaw := func() {
		_ = os.WriteFile(filepath.Join(freezer, "freezer.state"), []byte("THAWED"), 0)
	}
	t.Cleanup(thaw)
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	pid := b.startStandin(c, 2, true, 1)
	backend := 0
	for _, p := range cwdProcesses(b.data) {
		if p != pid {
			backend = p
		}
	}
	must(t, os.WriteFile(filepath.Join(freezer, "cgroup.procs"), []byte(strconv.Itoa(backend)), 0))
	must(t, os.WriteFile(filepath.Join(freezer, "freezer.state"), []byte("FROZEN"), 0))
	b.wait("backend is frozen", func() (bool, string) {
		// Its own word, since a page fault looks the same in the process's state.
		state, err := os.ReadFile(filepath.Join(freezer, "freezer.state"))
		return strings.TrimSpace(string(state)) == "FROZEN", fmt.Sprint(string(state), err)
	})
	must(t, c.Kill(b.ctx()))
	down := b.expect(c, EventDown)
	if !slices.Contains(down.Lingering, backend) {
		t.Errorf("lingering %v, want %d among them", down.Lingering, backend)
	}
	_, err := c.Start(b.ctx(), StartSpec{Bin: "/bin/true", Args: []string{"true"}, Primary: true, Epoch: 1})
	wantErr(t, err, ErrOrphans)
	thaw()
	b.wait("backend dies when it is thawed", func() (bool, string) { return !alive(backend), "alive" })
	b.startStandin(c, 1, true, 1)
}
