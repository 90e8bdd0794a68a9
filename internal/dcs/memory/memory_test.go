package memory_test

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/dcstest"
	"github.com/pgha/pgha/internal/dcs/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *clock) read() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

func TestConformance(t *testing.T) {
	dcstest.Run(t, func(t *testing.T) dcstest.Harness {
		c := &clock{}
		server := memory.NewServer(c.read)
		return dcstest.Harness{
			TTL:  3 * time.Second,
			Open: func(*testing.T) dcs.Store { return server.Store("/service/demo") },
			Pass: func(_ *testing.T, d time.Duration) { c.pass(d); server.Expire() },
			Compact: func(*testing.T) {
				server.Compact()
			},
			Interrupt: func(_ *testing.T, s dcs.Store) func() {
				h := s.(*memory.Store)
				h.SetFaults(memory.Faults{Partition: true})
				return func() { h.SetFaults(memory.Faults{}) }
			},
			LoseAnswer: func(_ *testing.T, s dcs.Store, done bool) func() {
				h := s.(*memory.Store)
				fate := memory.UnknownNotDone
				if done {
					fate = memory.UnknownDone
				}
				h.SetFaults(memory.Faults{Writes: fate})
				return func() { h.SetFaults(memory.Faults{}) }
			},
			Restart: func(*testing.T) { server.SetDown(true); server.SetDown(false) },
		}
	})
}
