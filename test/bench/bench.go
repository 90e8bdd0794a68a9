package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// series are the outages of one fault as one kind of client saw them.
type series struct {
	Mode    cluster.Mode    `json:"mode"`
	TTL     time.Duration   `json:"ttl_ns"`
	Fault   string          `json:"fault"`
	Client  string          `json:"client"`
	Outages []time.Duration `json:"outages_ns"`
	// Lost rows over all runs, of Acked.
	Lost  int `json:"lost"`
	Acked int `json:"acked"`
	// Overlaps are breaches of "one writer" over all runs.
	Overlaps int `json:"overlaps"`
}

// bench is one cluster under measurement.
type bench struct {
	c    *cluster.Cluster
	o    options
	mode cluster.Mode
	ttl  time.Duration
}

func (b *bench) standbys() int { return len(b.c.Members) - 1 }

func (b *bench) all(ctx context.Context, r *result) error {
	if _, err := b.c.WaitHealthy(ctx, b.standbys(), 2*time.Minute); err != nil {
		return err
	}
	if b.o.idle > 0 {
		for _, measure := range []func(context.Context) (idle, error){b.unasked, b.asked} {
			rest, err := measure(ctx)
			if err != nil {
				return err
			}
			r.Idle = append(r.Idle, rest)
		}
	}
	for _, f := range faultTable() {
		if !slices.Contains(b.o.faults, f.name) {
			continue
		}
		proxy := series{Mode: b.mode, TTL: b.ttl, Fault: f.name, Client: "haproxy"}
		direct := series{Mode: b.mode, TTL: b.ttl, Fault: f.name, Client: "direct"}
		for i := range b.o.runs {
			if err := b.once(ctx, f, &proxy, &direct); err != nil {
				return fmt.Errorf("%s, run %d: %w", f.name, i+1, err)
			}
			fmt.Fprintf(os.Stderr, "%s ttl %s %s %d/%d: haproxy %d ms, direct %d ms\n", b.mode, b.ttl, f.name, i+1, b.o.runs,
				proxy.Outages[i].Milliseconds(), direct.Outages[i].Milliseconds())
		}
		r.Outages = append(r.Outages, proxy, direct)
	}
	return nil
}

// once makes a fault while both clients write, and adds what each saw.
func (b *bench) once(ctx context.Context, f fault, proxy, direct *series) error {
	old, err := b.c.WaitHealthy(ctx, b.standbys(), time.Minute)
	if err != nil {
		return err
	}
	if err := b.c.WaitSynchronous(ctx, old, time.Minute); err != nil {
		return err
	}
	if _, err := old.SQL(ctx, "DROP TABLE IF EXISTS ledger"); err != nil {
		return err
	}
	var writers []*cluster.Writer
	for _, dsn := range []string{b.c.ProxyDSN(), b.c.DirectDSN()} {
		w, err := b.c.StartWriter(ctx, cluster.WriterOptions{DSN: dsn, Hz: b.o.hz})
		if err != nil {
			return err
		}
		defer w.Stop()
		writers = append(writers, w)
	}
	for _, w := range writers {
		if err := w.WaitAcks(ctx, b.o.hz, 20*time.Second); err != nil {
			return err
		}
	}
	at := cluster.Mono()
	if err := f.inject(ctx, b.c, old); err != nil {
		return err
	}
	if err := b.waitResumed(ctx, f, old, writers, at); err != nil {
		return err
	}
	until := cluster.Mono()
	if err := f.heal(ctx, b.c, old); err != nil {
		return err
	}
	primary, err := b.c.WaitHealthy(ctx, b.standbys(), 2*time.Minute)
	if err != nil {
		return err
	}
	for i, s := range []*series{proxy, direct} {
		report := writers[i].Stop()
		acks := writers[i].Ledger.Acks()
		s.Outages = append(s.Outages, cluster.Outage(acks, at, until).Length())
		lost, err := b.c.Verify(ctx, primary, writers[i].Ledger)
		if err != nil {
			return err
		}
		s.Lost, s.Acked, s.Overlaps = s.Lost+len(lost), s.Acked+len(acks), s.Overlaps+len(report.Certain())+len(report.Forks)
	}
	return nil
}

// waitResumed waits until every client has written for a second after the fault, on another
// server if the fault moves the primary.
func (b *bench) waitResumed(ctx context.Context, f fault, old *cluster.Member, writers []*cluster.Writer, at time.Duration) error {
	return b.c.WaitFor(ctx, 2*time.Minute, "writes to resume", func(context.Context) (bool, string) {
		for _, w := range writers {
			after := 0
			for _, a := range w.Ledger.Acks() {
				if a.Sent > at && (!f.moves || a.Server != old.PG()) {
					after++
				}
			}
			if after < b.o.hz {
				return false, fmt.Sprintf("%d writes acknowledged after the fault", after)
			}
		}
		return true, ""
	})
}
