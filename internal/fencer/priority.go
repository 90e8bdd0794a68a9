package fencer

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// Priorities as State reports them.
const (
	priorityFIFO   = "fifo"
	priorityRR     = "rr"
	priorityNice   = "nice"
	priorityNormal = "normal"
)

const (
	// fifoLevel is above any ordinary real-time work and below the kernel's own watchdogs.
	fifoLevel    = 20
	bestNice     = -20
	memoryLimit  = 192 << 20
	spareThreads = 6
)

// prepareRuntime keeps the Go runtime out of the deadline thread's way. The collector never starts
// by itself: collecting stops the world by way of threads of normal priority. tidy collects at
// moments when the deadline is far. There are always more Ps than threads that compute, so the
// deadline thread never waits for one; the fixed number also ends the runtime's own adjustments,
// which stop the world too.
func prepareRuntime() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryLimit)
	runtime.GOMAXPROCS(max(spareThreads, runtime.NumCPU()+2))
}

// harden asks for what keeps a process alive and running on a machine in trouble. It returns what
// was refused.
func harden() []string {
	var problems []string
	note := func(what string, err error) {
		if err != nil {
			problems = append(problems, what+": "+err.Error())
		}
	}
	note("oom_score_adj -1000", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))
	// On fault: what is in memory stays there, and what the rehearsal of the strike touched is in
	// memory. Without it the whole binary and the runtime's reserves would be filled in.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_ONFAULT); err != nil {
		note("lock memory", err)
	}
	return problems
}

// takePriority gives the calling thread, which must be locked to its goroutine, the best priority
// to be had. Children never inherit it.
func takePriority() (string, []string) {
	var problems []string
	for _, p := range []struct {
		name   string
		policy uint32
	}{{priorityFIFO, unix.SCHED_FIFO}, {priorityRR, unix.SCHED_RR}} {
		err := setSched(0, p.policy, fifoLevel, 0)
		if err == nil {
			return p.name, problems
		}
		problems = append(problems, fmt.Sprintf("priority %s: %v", p.name, err))
	}
	if err := setSched(0, unix.SCHED_NORMAL, 0, bestNice); err != nil {
		return priorityNormal, append(problems, fmt.Sprintf("priority nice %d: %v", bestNice, err))
	}
	return priorityNice, problems
}

// favourOtherThreads gives the threads that exist a better nice value, so that none of them is
// descheduled for long while it holds a lock of the runtime. Best effort: it needs the same right
// that takePriority reports about.
func favourOtherThreads() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			_ = setSched(tid, unix.SCHED_NORMAL, 0, bestNice)
		}
	}
}

func setSched(tid int, policy, level uint32, nice int32) error {
	attr := unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   policy,
		Flags:    unix.SCHED_FLAG_RESET_ON_FORK,
		Nice:     nice,
		Priority: level,
	}
	return unix.SchedSetAttr(tid, &attr, 0)
}

// resetOOM gives a child the score that this process had before harden: the kernel's killer must
// find PostgreSQL's backends before the postmaster only if the operator arranged it so.
func resetOOM(pid int, score []byte) error {
	if len(score) == 0 {
		return nil
	}
	if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", score, 0); err != nil {
		return fmt.Errorf("oom score of the server: %w", err)
	}
	return nil
}
