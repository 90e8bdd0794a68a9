package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// clients are all who write to the cluster or watch it.
type clients struct {
	// proxy writes through the proxy, direct to the server that it finds by itself.
	proxy, direct *cluster.Writer
	// held are the writers with a session to each server that they never give up.
	held    []*cluster.Writer
	holders *cluster.Ledger
	lists   *lister
	watch   *watcher

	history []listTxn
	samples []sample
	stopped bool
}

const (
	proxyHz  = 50
	directHz = 20
	heldHz   = 20
	listHz   = 10
)

func startClients(ctx context.Context, c *cluster.Cluster, primary *cluster.Member, seed uint64) (*clients, error) {
	k := &clients{holders: cluster.NewLedger(), watch: startWatcher(ctx, c)}
	fail := func(err error) (*clients, error) {
		k.stop()
		return nil, fmt.Errorf("start clients: %w", err)
	}
	var err error
	if k.proxy, err = c.StartWriter(ctx, cluster.WriterOptions{DSN: c.ProxyDSN(), Hz: proxyHz}); err != nil {
		return fail(err)
	}
	if k.direct, err = c.StartWriter(ctx, cluster.WriterOptions{DSN: c.DirectDSN(), Hz: directHz}); err != nil {
		return fail(err)
	}
	for _, m := range c.Members {
		w, err := c.StartWriter(ctx, cluster.WriterOptions{
			DSN: m.DSN(), Hz: heldHz, Sessions: 1, Unreachable: true, Ledger: k.holders,
			// Longer than any fault: what was sent before a freeze must be heard after the thaw.
			StatementTimeout: 10 * time.Minute, Retry: 50 * time.Millisecond,
		})
		if err != nil {
			return fail(err)
		}
		k.held = append(k.held, w)
	}
	if k.lists, err = startLister(ctx, c, primary, seed, listHz, c.ProxyDSN(), c.ProxyDSN(), c.DirectDSN()); err != nil {
		return fail(err)
	}
	return k, nil
}

// stop ends all clients. It may be called twice.
func (k *clients) stop() {
	if k.stopped {
		return
	}
	k.stopped = true
	for _, w := range append([]*cluster.Writer{k.proxy, k.direct}, k.held...) {
		if w != nil {
			w.Stop()
		}
	}
	if k.lists != nil {
		k.history = k.lists.stop()
	}
	k.samples = k.watch.stop()
}

// ledgers of all who insert rows.
func (k *clients) ledgers() []*cluster.Ledger {
	return []*cluster.Ledger{k.proxy.Ledger, k.direct.Ledger, k.holders}
}
