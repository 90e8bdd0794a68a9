package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

const (
	pollPeriod  = 50 * time.Millisecond
	pollTimeout = 300 * time.Millisecond
)

// sample is one answer to GET /primary.
type sample struct {
	Sent, Received time.Duration
	Member         string
	Primary        bool // 200; everything else, silence too, is no
}

// watcher asks every member 20 times a second whether it is the primary.
type watcher struct {
	mu      sync.Mutex
	samples []sample
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

func startWatcher(ctx context.Context, c *cluster.Cluster) *watcher {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{cancel: cancel}
	for _, m := range c.Members {
		w.wg.Go(func() { w.watch(run, c, m) })
	}
	return w
}

func (w *watcher) watch(ctx context.Context, c *cluster.Cluster, m *cluster.Member) {
	client := &http.Client{Transport: &http.Transport{DialContext: c.Dial}, Timeout: pollTimeout}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := sample{Sent: cluster.Mono(), Member: m.Name, Primary: isPrimary(ctx, client, m)}
		s.Received = cluster.Mono()
		w.mu.Lock()
		w.samples = append(w.samples, s)
		w.mu.Unlock()
	}
}

func isPrimary(ctx context.Context, client *http.Client, m *cluster.Member) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://"+m.API()+"/primary", nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close() // it has none
	return answer.StatusCode == http.StatusOK
}

// stop ends the questions and returns the answers.
func (w *watcher) stop() []sample {
	w.cancel()
	w.wg.Wait()
	return w.samples
}

// span is a time in which one member answered 200 without a break. It surely was primary from the
// first answer's arrival to the last question's sending.
type span struct {
	Member   string
	From, To time.Duration
}

// spans finds them, in the order of their beginnings. A question without an answer ends a span,
// and so does a gap in the asking, as long as a few questions would have taken.
func spans(samples []sample) []span {
	open := map[string]*span{}
	var out []*span
	for _, s := range samples { // by arrival for each member
		now := open[s.Member]
		switch {
		case !s.Primary, now != nil && s.Sent-now.To > 5*pollPeriod:
			delete(open, s.Member)
			now = nil
		}
		if !s.Primary {
			continue
		}
		if now == nil {
			now = &span{Member: s.Member, From: s.Received, To: s.Received}
			open[s.Member] = now
			out = append(out, now)
		}
		now.To = max(s.Sent, now.From)
	}
	slices.SortStableFunc(out, func(a, b *span) int { return int(a.From - b.From) })
	result := make([]span, 0, len(out))
	for _, s := range out {
		result = append(result, *s)
	}
	return result
}

// twoPrimaries adds up how long more than one member answered 200 at the same time for certain,
// and counts how often that was.
func twoPrimaries(all []span) (times int, total time.Duration) {
	for i, a := range all {
		for _, b := range all[i+1:] {
			if both := min(a.To, b.To) - max(a.From, b.From); a.Member != b.Member && both > 0 {
				times++
				total += both
			}
		}
	}
	return times, total
}

// change is a primary's appearance after another member was the last one seen.
type change struct {
	At       time.Duration
	From, To string
}

// changes of the primary, in order. The first primary is none.
func changes(all []span) []change {
	var out []change
	for i := 1; i < len(all); i++ {
		if all[i].Member != all[i-1].Member {
			out = append(out, change{At: all[i].From, From: all[i-1].Member, To: all[i].Member})
		}
	}
	return out
}
