package fencer

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func join(pids []int) string { return fmt.Sprint(pids) }

func joinStrings(s []string) string { return strings.Join(s, " ") }

// startForeign starts the test binary in the data directory, not through the fencer.
func startForeign(t *testing.T, b *bench, args ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0] = "postgres"
	cmd.Dir = b.data
	cmd.Env = append(os.Environ(), "PGHA_TEST_ROOT="+b.root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(t, cmd.Start())
	pid := cmd.Process.Pid
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b.wait("process runs in the data directory", func() (bool, string) {
		cwd, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
		return cwd == b.data, fmt.Sprint(cwd, err)
	})
	return pid
}

// cwdProcesses are the living processes whose working directory is dir.
func cwdProcesses(dir string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && cwd == dir && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}
