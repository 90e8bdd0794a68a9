package etcd_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/dcs/dcstest"
	"github.com/pgha/pgha/internal/dcs/etcdserver"
)

func TestConformanceOnTheEmbeddedServer(t *testing.T) {
	nd := &node{name: "e", client: freeAddress(t), peer: freeAddress(t), dir: filepath.Join(t.TempDir(), "e")}
	stop := startEmbedded(t, nd)
	t.Cleanup(func() { stop() })
	var count atomic.Int32
	restart := func(*testing.T) { // it outlives the subtest, so it belongs to the whole test
		stop()
		stop = startEmbedded(t, nd)
	}
	dcstest.Run(t, conformance(nd.client, &count, nd.compact, restart))
}

// startEmbedded gives the function that stops it, which may be called twice.
func startEmbedded(t *testing.T, nd *node) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	log := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	go func() {
		done <- etcdserver.Run(ctx, etcdserver.Config{
			Name: nd.name, DataDir: nd.dir, ListenClient: nd.client, ListenPeer: nd.peer,
			HeartbeatInterval: 30 * time.Millisecond, ElectionTimeout: 300 * time.Millisecond,
			Ready: func(*etcdserver.Member) { close(ready) },
		}, log)
		close(done)
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("embedded etcd: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("embedded etcd is not ready")
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("embedded etcd: %v", err)
		}
	}
}
