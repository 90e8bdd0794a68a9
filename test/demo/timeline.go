package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pgha/pgha/test/cluster"
)

// event is something that an onlooker saw from outside.
type event struct {
	at   time.Duration
	text string
}

// timeline watches the cluster from outside while a fault happens: the leader key in etcd and the
// health checks that HAProxy goes by. What the client saw is added from its ledger.
type timeline struct {
	mu     sync.Mutex
	events []event
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func watch(ctx context.Context, c *cluster.Cluster) *timeline {
	t := &timeline{}
	ctx, t.cancel = context.WithCancel(ctx)
	t.wg.Add(1 + len(c.Members))
	go t.watchLeader(ctx, c)
	for _, m := range c.Members {
		go t.watchHealth(ctx, m)
	}
	return t
}

func (t *timeline) add(at time.Duration, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, event{at, fmt.Sprintf(format, args...)})
}

// watchLeader follows the leader key. A watch ends when its etcd member dies with the node: it is
// begun again at the next revision, so nothing is missed.
func (t *timeline) watchLeader(ctx context.Context, c *cluster.Cluster) {
	defer t.wg.Done()
	holder, next := "", int64(0)
	for ctx.Err() == nil {
		for answer := range c.Etcd.Client().Watch(ctx, c.Key("leader"), clientv3.WithRev(next)) {
			for _, e := range answer.Events {
				next = e.Kv.ModRevision + 1
				switch now := string(e.Kv.Value); {
				case e.Type == clientv3.EventTypeDelete:
					t.add(cluster.Mono(), "the leader key is gone from etcd")
					holder = ""
				case now != holder:
					t.add(cluster.Mono(), "etcd: %s holds the leader key", now)
					holder = now
				}
			}
		}
	}
}

func (t *timeline) watchHealth(ctx context.Context, m *cluster.Member) {
	defer t.wg.Done()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	was := m.Code(ctx, "/primary") == 200
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		is := m.Code(ctx, "/primary") == 200
		if is != was && ctx.Err() == nil {
			if is {
				t.add(cluster.Mono(), "health check: %s says it is primary", m.Name)
			} else {
				t.add(cluster.Mono(), "health check: %s is primary no more", m.Name)
			}
		}
		was = is
	}
}

// stop ends the watching and returns what was seen from a moment on, in order.
func (t *timeline) stop(from time.Duration) []event {
	t.cancel()
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	events := slices.DeleteFunc(slices.Clone(t.events), func(e event) bool { return e.at < from })
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return events
}
