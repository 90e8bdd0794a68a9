//go:build integration

package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/test/cluster"
)

// wired are options for an asynchronous cluster, in which nothing but time keeps a second server from
// acknowledging, with or without the fence on the wire.
func wired(fence string) cluster.Options {
	return cluster.Options{
		Network: cluster.Namespaces, HAProxy: true, TTL: 5 * time.Second,
		Config: func(_ string, config map[string]any) { config["pgha"] = map[string]any{"wire_fence": fence} },
	}
}

// TestTheWireIsClosedWhenNoProcessIsLeftToFence kills agent and both fencer processes of the primary
// together, and starts none of them again; and it freezes the node and lets the server run on before
// its fencer. Without the fence on the wire the same faults show two servers that acknowledge.
func TestTheWireIsClosedWhenNoProcessIsLeftToFence(t *testing.T) {
	t.Parallel()
	for _, fence := range []string{"required", "off"} {
		t.Run("wire_fence "+fence, func(t *testing.T) {
			t.Parallel()
			s := begin(t, wired(fence))
			s.chapter("agent and both fencer processes are killed", func(s *story) {
				s.wireStory(fence, func(old *cluster.Member) { s.ok(old.Kill9(s.ctx, cluster.Agent|cluster.Fencers)) },
					func(*cluster.Member) {},
					func(old *cluster.Member) { s.ok(old.Start()) })
			})
			s.chapter("the node stands still, and the server goes on before its fencer", func(s *story) {
				s.wireStory(fence, func(old *cluster.Member) { s.ok(old.Freeze(s.ctx, cluster.Node)) },
					func(old *cluster.Member) { s.ok(old.ThawOnly(s.ctx, cluster.Server)) },
					func(old *cluster.Member) { s.ok(old.Thaw(s.ctx)) })
			})
		})
	}
}

// wireStory tells one fault of the primary: it begins, another member leads, the old server is given
// the time to acknowledge beside it, and the fault ends.
func (s *story) wireStory(fence string, begin, wake, end func(*cluster.Member)) {
	s.Helper()
	w := s.load(cluster.WriterOptions{})
	witness := s.witness()
	old := s.settle()
	server := old.PostmasterPID()
	fault := cluster.Mono()
	begin(old)
	successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
	s.ok(err)
	s.resumed(w, successor)
	wake(old)
	woken := cluster.Mono()
	s.ok(s.WaitFor(s.ctx, noticeTime, "a second of the new reign", func(context.Context) (bool, string) {
		return cluster.Mono()-woken > time.Second, "not yet"
	}))
	if pid := old.PostmasterPID(); pid != server {
		s.Fatalf("the old server is not there any more (process %d, it was %d): nothing is shown", pid, server)
	}
	late := lateAcks(witness.Ledger, old, successor)
	end(old)
	s.outage(w, fault)
	s.settle()
	clients, sessions := w.Stop(), witness.Stop()
	if fence == "off" {
		// The deliberate gap: a test that finds nothing here would find nothing above.
		if late == 0 || len(sessions.Overlaps) == 0 {
			s.Errorf("without the fence no second writer was seen, so this test shows nothing: %s", sessions)
		}
		s.Logf("without the fence: %d acknowledgements of the old server after the new one's first; %s", late, sessions)
		return
	}
	if late = lateAcks(witness.Ledger, old, successor); late > 0 || len(sessions.Overlaps)+len(clients.Overlaps) > 0 {
		s.Errorf("%d acknowledgements of the old server after the new one's first: %s", late, sessions)
	}
	s.Logf("client: %s; witness: %s", clients, sessions)
	if lost, err := s.Verify(s.ctx, successor, w.Ledger); err != nil || len(beforeTail(w.Ledger.Acks(), lost, fault)) > 0 {
		s.Errorf("rows are missing: %v, %v", lost, err)
	}
}

// lateAcks counts what the old server acknowledged after the new one's first acknowledgement.
func lateAcks(l *cluster.Ledger, old, successor *cluster.Member) int {
	late, led := 0, false
	for _, a := range l.Acks() {
		switch a.Server {
		case successor.PG():
			led = true
		case old.PG():
			if led {
				late++
			}
		}
	}
	return late
}

// TestTheWireIsClosedWithoutRoot: in a container the program file bears the right, and only the fencer
// may keep it.
func TestTheWireIsClosedWithoutRoot(t *testing.T) {
	t.Parallel()
	o := wired("required")
	o.AsPostgres, o.Names, o.Agent = true, []string{"a", "b"}, withRight(t)
	s := begin(t, o)
	for _, m := range s.Members {
		for kind, want := range map[cluster.Kind]bool{
			cluster.Agent: false, cluster.Postmaster: false, cluster.Backend: false, cluster.Fencers: true,
		} {
			found, err := m.Processes(kind)
			s.ok(err)
			if len(found) == 0 {
				t.Errorf("%s has no %s", m.Name, kind)
			}
			for _, p := range found {
				if got := mayCloseWires(t, p.PID); got != want {
					t.Errorf("%s of %s: has CAP_NET_ADMIN: %v", kind, m.Name, got)
				}
			}
		}
	}
	s.chapter("the fencer is replaced", func(s *story) {
		old := s.settle()
		s.ok(old.Kill9(s.ctx, cluster.Fencers))
		s.ok(s.WaitFor(s.ctx, noticeTime, "the next fencer to keep the wire", func(ctx context.Context) (bool, string) {
			answer, err := old.HTTP(ctx, "GET", "/pgha/status", nil)
			next := fmt.Sprintf(`"fencer":{"connected":true,"pid":%d,`, old.FencerPID())
			return err == nil && strings.Contains(answer.Body, next) && strings.Contains(answer.Body, `"wire":"up"`), fmt.Sprint(answer, err)
		}))
	})
}

// withRight is a copy of the agent's program that bears CAP_NET_ADMIN, as in the image.
func withRight(t *testing.T) string {
	t.Helper()
	dir, err := cluster.BinDir()
	if err == nil {
		var content []byte
		if content, err = os.ReadFile(filepath.Join(dir, "pgha-agent")); err == nil {
			dir, err = os.MkdirTemp("", "pgha-right-")
		}
		if err == nil {
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "pgha-agent"), content, 0o755))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "pgha-agent")
	// Version 2, permitted only: a file that also made it effective could not be started where the
	// container has not been given the right.
	right := binary.LittleEndian.AppendUint32(nil, 0x02000000)
	for _, word := range []uint32{1 << unix.CAP_NET_ADMIN, 0, 0, 0} {
		right = binary.LittleEndian.AppendUint32(right, word)
	}
	if err := unix.Setxattr(path, "security.capability", right, 0); err != nil {
		t.Fatalf("give the program CAP_NET_ADMIN: %v", err)
	}
	return path
}

// mayCloseWires reads from the kernel whether any thread of a process has the right or may take it.
func mayCloseWires(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of process %d: %v", pid, err)
	}
	var all uint64
	for _, status := range threads {
		content, _ := os.ReadFile(status) // a thread may have ended
		for line := range strings.Lines(string(content)) {
			name, value, _ := strings.Cut(line, ":")
			if name == "CapPrm" || name == "CapInh" || name == "CapAmb" {
				bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				all |= bits
			}
		}
	}
	return all&(1<<unix.CAP_NET_ADMIN) != 0
}

// TestNoLeaderWithoutARequiredFence: a member that may not close the wire stands back, and says why.
func TestNoLeaderWithoutARequiredFence(t *testing.T) {
	t.Parallel()
	o := wired("required")
	o.Network, o.AsPostgres, o.Names = cluster.Loopback, true, []string{"a"}
	s := &story{t, cluster.New(t, o), t.Context()}
	s.ok(s.WaitFor(s.ctx, bootTime, "the member to say what it lacks", func(ctx context.Context) (bool, string) {
		out, err := s.Pghactl("why")
		return err == nil && strings.Contains(out, "pgha.wire_fence: required"), fmt.Sprint(out, err)
	}))
	s.ok(s.Holds(s.ctx, s.Options.TTL, "nobody leads", func(ctx context.Context) (bool, string) {
		p := s.Primary(ctx)
		return p == nil, fmt.Sprint(p)
	}))
}
