//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func TestMain(m *testing.M) {
	clean, err := programs()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		os.Exit(1)
	}
	code := m.Run()
	clean()
	os.Exit(code)
}

// programs makes sure that the programs under test exist, and builds them if not.
func programs() (clean func(), err error) {
	dir, err := cluster.BinDir()
	if err != nil {
		return nil, err
	}
	_, errAgent := os.Stat(filepath.Join(dir, "pgha-agent"))
	_, errCtl := os.Stat(filepath.Join(dir, "pghactl"))
	if errors.Join(errAgent, errCtl) == nil {
		return func() {}, nil
	}
	if dir, err = os.MkdirTemp("", "pgha-bin-"); err != nil {
		return nil, err
	}
	clean = func() { _ = os.RemoveAll(dir) } // a leftover in the temporary directory harms nobody
	if err := os.Chmod(dir, 0o755); err != nil {
		clean()
		return nil, err
	}
	build := exec.Command("go", "build", "-o", dir+"/", "github.com/pgha/pgha/cmd/pgha-agent", "github.com/pgha/pgha/cmd/pghactl")
	if out, err := build.CombinedOutput(); err != nil {
		clean()
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	return clean, os.Setenv("PGHA_BIN", dir)
}

// Times that stories wait for. They are bounds for a busy machine of two cores, not expectations.
const (
	bootTime    = 60 * time.Second
	healTime    = 60 * time.Second
	promoteTime = 40 * time.Second
	noticeTime  = 20 * time.Second
	// noise is what an undisturbed writer sees at worst on such a machine.
	noise = 500 * time.Millisecond
)

// story is one cluster and the test that uses it at the moment.
type story struct {
	*testing.T
	*cluster.Cluster
	ctx context.Context
}

// begin starts a cluster and waits until all standbys stream.
func begin(t *testing.T, o cluster.Options) *story {
	t.Helper()
	s := &story{t, cluster.New(t, o), t.Context()}
	if !o.Idle {
		s.settle()
	}
	return s
}

// durable are options for a cluster whose commits wait for a standby.
func durable(t *testing.T) cluster.Options {
	t.Helper()
	o := cluster.Options{HAProxy: true, TTL: 5 * time.Second}
	if err := o.SetMode(cluster.AnyOne); err != nil {
		t.Fatal(err)
	}
	return o
}

// chapter runs a part of the story. It begins with a settled cluster. After a failed chapter the
// faults are undone first, so that the rest of the story is told too; if the cluster does not
// settle by that, the next chapter fails at its start.
func (s *story) chapter(name string, f func(s *story)) {
	s.T.Helper()
	broken := s.T.Failed()
	s.T.Run(name, func(t *testing.T) {
		part := &story{t, s.Cluster, t.Context()}
		if broken {
			part.ok(s.Repair(t.Context()))
		}
		part.settle()
		s.MarkLogs()
		begin := cluster.Mono()
		f(part)
		t.Logf("took %s", (cluster.Mono() - begin).Round(10*time.Millisecond))
	})
}

// ok ends the test on an error.
func (s *story) ok(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Fatal(err)
	}
}

// settle waits for a primary that all other running members follow, and returns it. In a
// synchronous mode commits wait for a standby by then.
func (s *story) settle() *cluster.Member {
	s.T.Helper()
	running := 0
	for _, m := range s.Members {
		if m.Running() {
			running++
		}
	}
	primary, err := s.WaitHealthy(s.ctx, running-1, healTime)
	s.ok(err)
	if running > 1 {
		s.ok(s.WaitSynchronous(s.ctx, primary, healTime))
	}
	return primary
}

// load starts the writer of a client.
func (s *story) load(o cluster.WriterOptions) *cluster.Writer {
	s.T.Helper()
	w, err := s.StartWriter(s.ctx, o)
	s.ok(err)
	s.T.Cleanup(func() { w.Stop() })
	s.ok(w.WaitAcks(s.ctx, 50, noticeTime))
	return w
}

// witness starts the clients that never let go of any server. A load must be running.
func (s *story) witness() *cluster.Witness {
	s.T.Helper()
	w, err := s.StartWitness(s.ctx, 50)
	s.ok(err)
	s.T.Cleanup(func() { w.Stop() })
	s.ok(s.WaitFor(s.ctx, noticeTime, "the witness to write", func(context.Context) (bool, string) {
		n := w.Ledger.Count()
		return n > 10, fmt.Sprint(n, " rows")
	}))
	return w
}

// resumed waits until writes are acknowledged by this member.
func (s *story) resumed(w *cluster.Writer, m *cluster.Member) {
	s.T.Helper()
	s.ok(s.WaitFor(s.ctx, promoteTime, "writes on "+m.Name, func(context.Context) (bool, string) {
		acks := w.Ledger.Acks()
		last := acks[len(acks)-1].Server
		return last == m.PG(), "last acknowledged by " + last
	}))
	s.ok(w.WaitAcks(s.ctx, 50, noticeTime))
}

// outage logs and returns the longest gap that the client saw after the fault.
func (s *story) outage(w *cluster.Writer, fault time.Duration) time.Duration {
	s.T.Helper()
	gap := w.Ledger.Outage(fault)
	s.T.Logf("outage %s (%s to %s)", gap.Length().Round(time.Millisecond), gap.Before.Server, gap.After.Server)
	return gap.Length()
}

// promise says what may be missing after a fault.
type promise uint8

const (
	nothingLost promise = iota
	// tailLost: an asynchronous cluster may lose the last rows before the fault.
	tailLost
)

// judge ends the clients and checks what they were promised: one writer at a time, and no
// acknowledged row missing (but for the tail, where that is the mode).
func (s *story) judge(p promise, fault time.Duration, w *cluster.Writer, witness *cluster.Witness) {
	s.T.Helper()
	primary := s.settle()
	ledgers := []*cluster.Ledger{w.Ledger}
	s.oneWriter("client", w.Stop())
	if witness != nil {
		s.oneWriter("witness", witness.Stop())
		ledgers = append(ledgers, witness.Ledger)
	}
	for _, l := range ledgers {
		lost, err := s.Verify(s.ctx, primary, l)
		s.ok(err)
		if p == tailLost {
			lost = beforeTail(l.Acks(), lost, fault)
		}
		if len(lost) > 0 {
			s.T.Errorf("%d acknowledged rows are missing on %s: %v …\n%s", len(lost), primary.Name, lost[:min(len(lost), 10)], s.Dump(s.ctx))
		}
	}
}

func (s *story) oneWriter(who string, r cluster.Report) {
	s.T.Helper()
	s.T.Logf("%s: %s", who, r)
	if len(r.Certain()) > 0 || len(r.Forks) > 0 {
		s.T.Errorf("%s: two servers took writes: %v, timelines %v\n%s", who, r.Certain(), r.Forks, s.Dump(s.ctx))
	}
}

// beforeTail drops from lost what was acknowledged within a second before the fault, or later by
// the server that the fault hit: the bound that an asynchronous cluster gives is in bytes, and at
// a hundred small rows a second a second is far below it.
func beforeTail(acks []cluster.Ack, lost []int64, fault time.Duration) []int64 {
	missing := map[int64]bool{}
	for _, id := range lost {
		missing[id] = true
	}
	var out []int64
	for _, a := range acks {
		if missing[a.ID] && a.Received < fault-time.Second {
			out = append(out, a.ID)
		}
	}
	return out
}
