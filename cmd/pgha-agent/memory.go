package main

import (
	"bufio"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// settleTime is when the start is over and its pages are not needed any more.
const settleTime = 10 * time.Second

// fixProcs lets one thread at a time run the agent's code. All that it does is short or waits, and with
// more of them every wake of an idle agent wakes a second thread to look for work that is not there.
// What blocks in the kernel gives its place up by itself. Said explicitly, the number is also not looked
// for again every second for ever, which would be the most frequent thing an idle agent does.
func fixProcs() { runtime.GOMAXPROCS(1) }

// trimMemory gives back what only the start needed: heap, and the pages of the program file that
// initialization touched (the program carries a whole etcd server that the agent never runs). Those
// pages are read-only and backed by the file, so dropping them costs a page fault at most.
func trimMemory() {
	debug.FreeOSMemory()
	self, err := os.Executable()
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if start, size, ok := readOnlyRange(lines.Text(), self); ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, start, size, syscall.MADV_DONTNEED)
		}
	}
}

// readOnlyRange reads one line of /proc/self/maps; ok is false unless it is a mapping of the file
// that cannot be written, whose pages the kernel can always read again.
func readOnlyRange(line, file string) (start, size uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[5] != file || !strings.HasPrefix(fields[1], "r-") {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	a, err1 := strconv.ParseUint(from, 16, int(8*unsafe.Sizeof(uintptr(0))))
	b, err2 := strconv.ParseUint(to, 16, int(8*unsafe.Sizeof(uintptr(0))))
	if err1 != nil || err2 != nil || b <= a {
		return 0, 0, false
	}
	return uintptr(a), uintptr(b - a), true
}
