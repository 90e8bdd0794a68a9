package fencer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// killAndReturn kills a fencer, with or without its second, and connects to the next one.
func (b *bench) killAndReturn(c *Client, st State, second bool) (*Client, State) {
	b.t.Helper()
	if second && st.SecondPID != 0 {
		signalPid(b.t, st.SecondPID, syscall.SIGKILL)
	}
	signalPid(b.t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	next, fresh := b.connect()
	if fresh.PID == st.PID {
		b.t.Fatal("the killed fencer answers")
	}
	return next, fresh
}

func TestPromiseOutlivesFencerAndNeverShrinks(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	until := Now() + time.Minute
	must(t, c.Promise(b.ctx(), until))
	must(t, c.Promise(b.ctx(), until-time.Second))
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	wantErr(t, c.Promise(b.ctx(), until), ErrClosed)
	_, st = b.connect()
	if st.PromiseUntil != until || st.StateLost {
		t.Fatalf("promise forgotten: %+v", st)
	}
}

// The fencer, and its second with it, die at the very moment at which the promise was acknowledged.
// Each time the next fencer must know of it, and a shorter promise must not replace it.
func TestPromiseIsWrittenBeforeItIsAcknowledged(t *testing.T) {
	b := newBench(t)
	c, st := b.connect()
	for i := range 6 {
		until := Now() + time.Minute + time.Duration(i)*time.Second
		must(t, c.Promise(b.ctx(), until))
		c, st = b.killAndReturn(c, st, i%2 == 1)
		if st.PromiseUntil != until {
			t.Fatalf("kill %d: promised until %s, the next fencer knows of %s", i, until, st.PromiseUntil)
		}
		must(t, c.Promise(b.ctx(), Now()))
		if st := b.state(c); st.PromiseUntil != until {
			t.Fatalf("kill %d: a shorter promise replaced %s by %s", i, until, st.PromiseUntil)
		}
	}
}

// Promises and renewals come at the same time, and the fencer dies among them: whatever was
// acknowledged last must be known, whichever of the two wrote the file last.
func TestPromiseSurvivesRenewalsAndADeathInTheMidstOfThem(t *testing.T) {
	b := newBench(t, "--no-second")
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	for round := range 3 {
		old, base := c, Now()+time.Minute
		var last atomic.Int64 // the greatest that was acknowledged, beyond base
		var ended sync.WaitGroup
		ended.Go(func() {
			for i := time.Duration(1); old.Promise(b.ctx(), base+i) == nil; i++ {
				last.Store(int64(i))
			}
		})
		var renewed atomic.Int64
		ended.Go(func() {
			for old.Renew(b.ctx(), 1, 1, Now()+time.Minute) == nil {
				renewed.Add(1)
			}
		})
		b.wait("promises and renewals come in", func() (bool, string) {
			seen := min(last.Load(), renewed.Load())
			return seen > 20, fmt.Sprint(seen)
		})
		c, st = b.killAndReturn(c, st, false)
		must(t, old.Close())
		ended.Wait()
		if given := base + time.Duration(last.Load()); st.PromiseUntil < given {
			t.Fatalf("round %d: %s was acknowledged, the next fencer knows of %s", round, given, st.PromiseUntil)
		}
		t.Logf("round %d: killed after %d promises", round, last.Load())
	}
}

func TestPromiseThatCannotBeWrittenIsNotGiven(t *testing.T) {
	b := newBench(t, "--no-second")
	c, _ := b.connect()
	// A directory in the place of the file: it cannot be replaced, not even by root.
	must(t, os.RemoveAll(filepath.Join(b.run, stateName)))
	must(t, os.MkdirAll(filepath.Join(b.run, stateName, "x"), 0o700))
	until := Now() + time.Minute
	if err := c.Promise(b.ctx(), until); err == nil || !strings.Contains(err.Error(), "write fencer state") {
		t.Fatalf("got %v, want the failed write", err)
	}
	st := b.state(c)
	if st.PromiseUntil != until || !strings.Contains(strings.Join(st.Problems, " "), "write fencer state") {
		t.Errorf("want the promise kept anyway and a problem: %+v", st)
	}
	must(t, os.RemoveAll(filepath.Join(b.run, stateName)))
	must(t, c.Promise(b.ctx(), until))
	if st := b.state(c); len(st.Problems) > 0 && strings.Contains(strings.Join(st.Problems, " "), "write fencer state") {
		t.Errorf("the problem stays: %v", st.Problems)
	}
	if err := c.Promise(b.ctx(), Now()+farthest+time.Minute); err == nil {
		t.Error("a promise beyond the bound was given")
	}
}

// A fencer that finds no state cannot know what was promised. That must not be forgotten when it
// is killed in turn, and a promise of its own does not hide it.
func TestLostStateIsRememberedOverRestarts(t *testing.T) {
	b := newBench(t, "--no-second")
	began := Now()
	c, st := b.connect()
	lost := st.LostAt
	if !st.StateLost || lost < began || lost > Now() {
		t.Fatalf("a fencer without a state file says %+v", st)
	}
	must(t, c.Promise(b.ctx(), lost+time.Second))
	for range 2 {
		c, st = b.killAndReturn(c, st, false)
		if st.StateLost || st.LostAt != lost {
			t.Fatalf("lost at %s, the next fencer says %+v", lost, st)
		}
		if got := st.PromisedUntil(20 * time.Second); got != lost+20*time.Second {
			t.Errorf("waits until %s, want %s", got, lost+20*time.Second)
		}
	}
	// The state of another boot counts as lost, too.
	boot, err := bootID()
	must(t, err)
	d, found, err := loadDurable(b.run, boot)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	must(t, c.Shutdown(b.ctx()))
	b.expect(c, EventClosed)
	b.wait("the fencer is gone", func() (bool, string) { return !alive(st.PID), "alive" })
	d.BootID, d.PromiseUntil = "another", Now()+time.Hour
	must(t, saveDurable(owner{}, b.run, d))
	_, st = b.connect()
	if !st.StateLost || st.LostAt <= lost || st.PromiseUntil != 0 {
		t.Errorf("with a file of another boot: %+v", st)
	}
}

func TestPromisedUntil(t *testing.T) {
	for _, tt := range []struct {
		name string
		st   State
		want time.Duration
	}{
		{"nothing", State{}, 0},
		{"a promise", State{PromiseUntil: 50}, 50},
		{"lost", State{LostAt: 100}, 120},
		{"lost, and promised since", State{LostAt: 100, PromiseUntil: 110}, 120},
		{"lost, and promised for longer since", State{LostAt: 100, PromiseUntil: 150}, 150},
	} {
		if got := tt.st.PromisedUntil(20); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
