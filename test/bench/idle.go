package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// idle is what a cluster costs while nobody uses it.
type idle struct {
	Mode cluster.Mode  `json:"mode"`
	TTL  time.Duration `json:"ttl_ns"`
	Span time.Duration `json:"span_ns"`
	// Checked: HAProxy asked every member for its health meanwhile, eleven times a second.
	Checked bool `json:"checked"`
	// Per member: the agent's and the fencer's processor time in the span and memory at its end.
	Members []idleMember `json:"members"`
	// EtcdWrites in the span. Keep-alives of leases are no writes.
	EtcdWrites int64 `json:"etcd_writes"`
}

type idleMember struct {
	Name      string        `json:"name"`
	Role      string        `json:"role"`
	AgentCPU  time.Duration `json:"agent_cpu_ns"`
	FencerCPU time.Duration `json:"fencer_cpu_ns"`
	AgentRSS  int64         `json:"agent_rss_bytes"`
	FencerRSS int64         `json:"fencer_rss_bytes"`
}

// usage is the processor time and memory of one kind of process of a member.
func usage(m *cluster.Member, kind cluster.Kind) (cpu time.Duration, rss int64, err error) {
	found, err := m.Processes(kind)
	if err != nil {
		return 0, 0, err
	}
	if len(found) == 0 {
		return 0, 0, fmt.Errorf("idle cost of %s: no %s", m.Name, kind)
	}
	for _, p := range found {
		c, err := p.CPU()
		if err != nil {
			return 0, 0, err
		}
		r, err := p.RSS()
		if err != nil {
			return 0, 0, err
		}
		cpu, rss = cpu+c, rss+r
	}
	return cpu, rss, nil
}

// unasked is rest while nobody asks the members for their health.
func (b *bench) unasked(ctx context.Context) (idle, error) {
	primary, err := b.c.WaitHealthy(ctx, b.standbys(), time.Minute)
	if err != nil {
		return idle{}, err
	}
	goOn, err := b.c.Proxy.Stand()
	if err != nil {
		return idle{}, err
	}
	out, err := b.rest(ctx, primary)
	return out, errors.Join(err, goOn())
}

// asked is rest while HAProxy checks the members.
func (b *bench) asked(ctx context.Context) (idle, error) {
	primary, err := b.c.WaitHealthy(ctx, b.standbys(), time.Minute)
	if err != nil {
		return idle{}, err
	}
	out, err := b.rest(ctx, primary)
	out.Checked = true
	return out, err
}

// calm waits until nothing has been written to etcd for a while: a server that was just started moves its
// log for a minute by itself, and every position is published.
func (b *bench) calm(ctx context.Context) error {
	const quiet = 20 * time.Second
	last, since := int64(0), cluster.Mono()
	return b.c.WaitFor(ctx, 3*time.Minute, "etcd to be left alone", func(ctx context.Context) (bool, string) {
		revision, err := b.c.Etcd.Revision(ctx)
		if err != nil || revision != last {
			last, since = revision, cluster.Mono()
		}
		return cluster.Mono()-since >= quiet, fmt.Sprint("revision ", revision, " ", err)
	})
}

// rest measures a span in which the cluster must stay as it is.
func (b *bench) rest(ctx context.Context, primary *cluster.Member) (idle, error) {
	out := idle{Mode: b.mode, TTL: b.ttl}
	if err := b.calm(ctx); err != nil {
		return out, err
	}
	start := make(map[string][2]time.Duration)
	for _, m := range b.c.Members {
		agent, _, err1 := usage(m, cluster.Agent)
		fencer, _, err2 := usage(m, cluster.Fencers)
		if err1 != nil || err2 != nil {
			return out, fmt.Errorf("%w %w", err1, err2)
		}
		start[m.Name] = [2]time.Duration{agent, fencer}
	}
	revision, err := b.c.Etcd.Revision(ctx)
	if err != nil {
		return out, err
	}
	// Nothing is asked of the members by this program meanwhile.
	begin := cluster.Mono()
	if err := b.c.Holds(ctx, b.o.idle, "agents run", func(context.Context) (bool, string) {
		return primary.Running(), "the primary's agent ended"
	}); err != nil {
		return out, err
	}
	out.Span = cluster.Mono() - begin
	after, err := b.c.Etcd.Revision(ctx)
	if err != nil {
		return out, err
	}
	out.EtcdWrites = after - revision
	for _, m := range b.c.Members {
		row := idleMember{Name: m.Name, Role: "replica"}
		if m == primary {
			row.Role = "primary"
		}
		var err1, err2 error
		row.AgentCPU, row.AgentRSS, err1 = usage(m, cluster.Agent)
		row.FencerCPU, row.FencerRSS, err2 = usage(m, cluster.Fencers)
		if err1 != nil || err2 != nil {
			return out, fmt.Errorf("%w %w", err1, err2)
		}
		row.AgentCPU -= start[m.Name][0]
		row.FencerCPU -= start[m.Name][1]
		out.Members = append(out.Members, row)
	}
	return out, nil
}
