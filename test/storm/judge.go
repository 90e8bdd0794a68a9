package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// record is what became of one step of the plan.
type record struct {
	Number int           `json:"number"`
	Kinds  []string      `json:"kinds"`
	Void   []string      `json:"void,omitempty"` // second faults that found nothing to break
	What   string        `json:"what"`
	Hold   time.Duration `json:"hold_ns"`
	// Begin is before the fault, Ended when it was undone, Settled when the cluster was whole again
	// and clients wrote; all by the machine's monotonic clock.
	Begin   time.Duration `json:"begin_ns"`
	Ended   time.Duration `json:"ended_ns"`
	Settled time.Duration `json:"settled_ns"`
	// Moves: the fault, or a command, gave a reason for another primary.
	Moves bool `json:"moves"`
	// Moved counts the changes of the primary in the step.
	Moved int `json:"moved"`
	// Outage is the longest time without an acknowledgement of the clients behind the proxy, and
	// Direct that of those who choose a server themselves.
	Outage time.Duration `json:"outage_ns"`
	Direct time.Duration `json:"outage_direct_ns"`
	// Stall is how long the storm's own program was kept waiting by the machine.
	Stall time.Duration `json:"stall_ns"`
	// Humans are members that were not well again in time by themselves.
	Humans []string `json:"humans,omitempty"`
	// Crashed are agents that ended without being killed or asked.
	Crashed []string `json:"crashed,omitempty"`
}

// falseFailovers are changes of the primary in no step that gave a reason for one.
func falseFailovers(all []change, records []record) []change {
	return slices.DeleteFunc(slices.Clone(all), func(c change) bool {
		return slices.ContainsFunc(records, func(r record) bool {
			return r.Moves && r.Begin <= c.At && (c.At <= r.Settled || r.Settled == 0)
		})
	})
}

// bound is what an asynchronous cluster may lose: what the new primary had not received, which is
// never more than MaximumLag bytes behind the position that the old one published, and what the
// old one wrote since it published that, which is at most Stale before its last acknowledgement.
type bound struct {
	MaximumLag int64
	Stale      time.Duration
}

// beyond are the lost rows that were written before the bound of their reign.
func (b bound) beyond(acks []cluster.Ack, lost []int64) []int64 {
	missing := make(map[int64]bool, len(lost))
	for _, id := range lost {
		missing[id] = true
	}
	type reign struct {
		server   string
		timeline int
	}
	end, floor := map[reign]time.Duration{}, map[reign]int64{}
	for _, a := range acks {
		k := reign{a.Server, a.Timeline}
		end[k] = max(end[k], a.Received)
	}
	// The floor is the last position that was surely published when the reign ended, less the lag.
	for _, a := range acks {
		k := reign{a.Server, a.Timeline}
		if a.Received <= end[k]-b.Stale {
			floor[k] = max(floor[k], a.LSN-b.MaximumLag)
		}
	}
	var out []int64
	for _, a := range acks {
		if missing[a.ID] && a.LSN < floor[reign{a.Server, a.Timeline}] {
			out = append(out, a.ID)
		}
	}
	return out
}

// byArrival merges the acknowledgements of several ledgers.
func byArrival(ledgers ...*cluster.Ledger) []cluster.Ack {
	var all []cluster.Ack
	for _, l := range ledgers {
		all = append(all, l.Acks()...)
	}
	slices.SortStableFunc(all, func(a, b cluster.Ack) int { return cmp.Compare(a.Received, b.Received) })
	return all
}

// overlapOf adds up the overlaps, certain and possible ones apart.
func overlapOf(overlaps []cluster.Overlap) (certain, possible time.Duration) {
	for _, o := range overlaps {
		if o.Certain {
			certain += o.By
		} else {
			possible += o.By
		}
	}
	return certain, possible
}

// verdict is empty if the storm is green, else the reasons why it is red.
func (r *report) verdict() []string {
	var red []string
	bad := func(n int, format string, args ...any) {
		if n > 0 {
			red = append(red, fmt.Sprintf(format, args...))
		}
	}
	bad(len(r.Certain), "two servers acknowledged at once %d times, for %s in all", len(r.Certain), round(r.Overlap))
	bad(len(r.Forks), "two servers acknowledged on the timelines %v", r.Forks)
	if r.Mode == cluster.Asynchronous {
		bad(r.LostBeyond, "%d acknowledged rows are lost beyond the bound of asynchronous replication", r.LostBeyond)
	} else {
		bad(r.Lost, "%d acknowledged rows are lost", r.Lost)
		bad(len(r.Lists.Lost), "%d acknowledged appends are lost", len(r.Lists.Lost))
		bad(r.Lists.Ghosts, "%d transactions built on appends that are gone", r.Lists.Ghosts)
	}
	for _, v := range r.Lists.Violations[:min(len(r.Lists.Violations), 10)] {
		bad(1, "lists: %s", v)
	}
	bad(len(r.Lists.Violations)-10, "lists: and %d violations more", len(r.Lists.Violations)-10)
	bad(len(r.Diverged), "in the end other rows than the primary's on %v", r.Diverged)
	bad(r.Humans, "%d times a member needed a human", r.Humans)
	bad(r.Crashes, "%d agents crashed", r.Crashes)
	if r.Faults == 0 || r.Acknowledged == 0 {
		red = append(red, fmt.Sprintf("%d faults and %d acknowledgements prove nothing", r.Faults, r.Acknowledged))
	}
	if r.Aborted != "" {
		red = append(red, "the storm ended early: "+r.Aborted)
	}
	return red
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
