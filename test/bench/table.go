package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pgha/pgha/test/cluster"
)

// print writes the figures for people.
func (r *result) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) {
		_, _ = fmt.Fprintf(t, format, args...) // into memory until Flush
	}
	line("mode\tttl\tfault\tclient\truns\tmedian ms\tworst ms\tlost\tacknowledged\toverlaps\t\n")
	for _, s := range r.Outages {
		line("%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", s.Mode, s.TTL, s.Fault, s.Client, len(s.Outages),
			cluster.Median(s.Outages).Milliseconds(), slices.Max(s.Outages).Milliseconds(), s.Lost, s.Acked, s.Overlaps)
	}
	if len(r.Idle) > 0 {
		line("\nmode\tttl\tchecks\tmember\trole\tagent CPU s/min\tagent memory\tfencer CPU s/min\tfencer memory\tetcd writes/min\t\n")
	}
	for _, i := range r.Idle {
		perMinute := float64(time.Minute) / float64(i.Span)
		for n, m := range i.Members {
			writes := ""
			if n == 0 {
				writes = fmt.Sprintf("%.1f", float64(i.EtcdWrites)*perMinute)
			}
			checks := "no"
			if i.Checked {
				checks = "yes"
			}
			line("%s\t%s\t%s\t%s\t%s\t%.3f\t%s\t%.2f\t%s\t%s\t\n", i.Mode, i.TTL, checks, m.Name, m.Role,
				m.AgentCPU.Seconds()*perMinute, humanize.IBytes(uint64(m.AgentRSS)),
				m.FencerCPU.Seconds()*perMinute, humanize.IBytes(uint64(m.FencerRSS)), writes)
		}
	}
	_ = t.Flush() // standard output that is gone has no reader to disappoint
}
