package etcd_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/dcstest"
	"github.com/pgha/pgha/internal/dcs/etcd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness runs the suite through one proxy for each handle, so that each can be disturbed alone.
type harness struct {
	server  string
	base    string
	mu      sync.Mutex
	proxies map[dcs.Store]*proxy
}

func (h *harness) open(t *testing.T) dcs.Store {
	t.Helper()
	p := newProxy(t, h.server)
	s, err := etcd.New(etcd.Options{
		Endpoints: []string{p.addr()}, BasePath: h.base, RequestTimeout: 3 * time.Second, Logger: zaptest.NewLogger(t),
		WatchProbe: 300 * time.Millisecond, WatchSilence: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proxies[s] = p
	return s
}

func (h *harness) disturb(s dcs.Store, m mode) func() {
	h.mu.Lock()
	p := h.proxies[s]
	h.mu.Unlock()
	p.set(m)
	return func() { p.set(passing) }
}

func conformance(server string, count *atomic.Int32, compact, restart func(*testing.T)) func(*testing.T) dcstest.Harness {
	return func(t *testing.T) dcstest.Harness {
		h := &harness{server: server, base: fmt.Sprintf("/service/t%d", count.Add(1)), proxies: map[dcs.Store]*proxy{}}
		return dcstest.Harness{
			TTL: 2 * time.Second, Open: h.open, Pass: pass, Compact: compact, Restart: restart,
			Interrupt: func(_ *testing.T, s dcs.Store) func() { return h.disturb(s, refusing) },
			LoseAnswer: func(_ *testing.T, s dcs.Store, done bool) func() {
				if done {
					return h.disturb(s, deaf)
				}
				return h.disturb(s, swallowing)
			},
		}
	}
}

func TestConformanceOnEtcd34(t *testing.T) {
	nd := startCluster(t, 1)[0]
	var count atomic.Int32
	dcstest.Run(t, conformance(nd.client, &count, nd.compact, func(t *testing.T) {
		nd.stop(t)
		nd.start(t)
		nd.ready(t)
	}))
}
