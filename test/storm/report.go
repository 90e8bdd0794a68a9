package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// report is what a storm found.
type report struct {
	Mode   cluster.Mode  `json:"mode"`
	Seed   uint64        `json:"seed"`
	TTL    time.Duration `json:"ttl_ns"`
	Length time.Duration `json:"length_ns"`
	// Began is the zero of the story's times; all times here are the machine's monotonic clock.
	Began   time.Duration `json:"began_ns"`
	Records []record      `json:"faults"`
	// Faults that were made, void ones not counted.
	Faults int `json:"faults_made"`
	Voids  int `json:"faults_void"`

	Acknowledged int `json:"acknowledged"`
	Unknown      int `json:"unknown"`
	// Local were acknowledged with the server's warning that nobody else may have them.
	Local int `json:"acknowledged_locally"`
	// Lost rows were acknowledged and are not on the last primary; LostBeyond of them were written
	// before the bound that asynchronous replication gives.
	Lost       int `json:"lost"`
	LostBeyond int `json:"lost_beyond_bound"`
	// Overlap is the time in which two servers acknowledged for certain; Possible may only be late
	// answers.
	Overlap  time.Duration     `json:"overlap_ns"`
	Possible time.Duration     `json:"overlap_possible_ns"`
	Certain  []cluster.Overlap `json:"overlaps"`
	Forks    []int             `json:"timelines_with_two_writers"`

	Changes        int           `json:"primary_changes"`
	FalseFailovers []change      `json:"false_failovers"`
	TwoPrimaries   int           `json:"two_primaries"`
	TwoFor         time.Duration `json:"two_primaries_ns"`

	Lists    listVerdict `json:"lists"`
	Diverged []string    `json:"diverged"`
	Humans   int         `json:"humans"`
	Crashes  int         `json:"crashes"`
	// Stall is how long the machine kept the storm's own program waiting at worst.
	Stall   time.Duration `json:"stall_ns"`
	Aborted string        `json:"aborted,omitempty"`
	Red     []string      `json:"red"`
}

// judge ends the clients, waits for rest, and judges everything.
func (s *storm) judge(ctx context.Context, aborted error) *report {
	r := &report{Mode: s.o.mode, Seed: s.o.seed, TTL: s.o.ttl, Began: s.began, Records: s.records}
	s.commands.Wait()
	if aborted != nil {
		r.Aborted = firstLine(aborted.Error())
	}
	s.clients.stop()
	r.Length = cluster.Mono() - s.began
	acks := byArrival(s.clients.ledgers()...)
	if s.o.clocks != nil {
		acks = s.o.clocks.correct(acks)
	}
	r.fromClients(s.clients, acks)
	r.fromWatch(spans(s.clients.samples))
	r.fromRecords(s.clients)
	if err := r.fromServers(ctx, s, acks); err != nil && r.Aborted == "" {
		r.Aborted = firstLine(err.Error())
	}
	r.Red = r.verdict()
	return r
}

func (r *report) fromClients(k *clients, acks []cluster.Ack) {
	r.Acknowledged = len(acks)
	for _, l := range k.ledgers() {
		one := l.Report()
		r.Unknown += one.Unknown
		r.Local += one.Local
	}
	var overlaps []cluster.Overlap
	overlaps, r.Forks = cluster.Overlaps(acks)
	r.Overlap, r.Possible = overlapOf(overlaps)
	r.Certain = slices.DeleteFunc(overlaps, func(o cluster.Overlap) bool { return !o.Certain })
}

func (r *report) fromWatch(all []span) {
	r.TwoPrimaries, r.TwoFor = twoPrimaries(all)
	moved := changes(all)
	r.Changes = len(moved)
	r.FalseFailovers = falseFailovers(moved, r.Records)
	for i := range r.Records {
		one := &r.Records[i]
		for _, c := range moved {
			if one.Begin <= c.At && c.At <= one.Settled {
				one.Moved++
			}
		}
	}
}

func (r *report) fromRecords(k *clients) {
	proxy, direct := k.proxy.Ledger.Acks(), k.direct.Ledger.Acks()
	for i := range r.Records {
		one := &r.Records[i]
		one.Outage = cluster.Outage(proxy, one.Begin, one.Settled).Length()
		one.Direct = cluster.Outage(direct, one.Begin, one.Settled).Length()
		r.Stall = max(r.Stall, one.Stall)
		r.Faults += len(one.Kinds)
		r.Voids += len(one.Void)
		r.Humans += len(one.Humans)
		r.Crashes += len(one.Crashed)
	}
}

// fromServers compares what was promised with what is there in the end.
func (r *report) fromServers(ctx context.Context, s *storm, acks []cluster.Ack) error {
	if err := s.until(ctx, s.o.heal, s.well); err != nil {
		r.Humans++
		s.finding(ctx, "the cluster does not come to rest: "+err.Error())
		return err
	}
	primary := s.c.Primary(ctx)
	if primary == nil {
		return fmt.Errorf("the primary is gone although nothing disturbs it")
	}
	lost, err := s.c.Verify(ctx, primary, s.clients.ledgers()...)
	if err != nil {
		return err
	}
	r.Lost = len(lost)
	stale := s.o.ttl + 2*s.c.Options.LoopWait
	r.LostBeyond = len(bound{MaximumLag: maximumLag, Stale: stale}.beyond(acks, lost))
	final, err := readLists(ctx, s.c, primary)
	if err != nil {
		return err
	}
	r.Lists = checkLists(s.clients.history, final)
	s.lostRows(acks, lost)
	return r.compare(ctx, s, primary)
}

// lostRows tells when and where the lost rows were acknowledged.
func (s *storm) lostRows(acks []cluster.Ack, lost []int64) {
	missing := map[int64]bool{}
	for _, id := range lost {
		missing[id] = true
	}
	type place struct {
		server   string
		timeline int
	}
	first, last, count := map[place]time.Duration{}, map[place]time.Duration{}, map[place]int{}
	var order []place
	for _, a := range acks {
		if !missing[a.ID] {
			continue
		}
		p := place{a.Server, a.Timeline}
		if count[p] == 0 {
			first[p] = a.Received
			order = append(order, p)
		}
		last[p] = a.Received
		count[p]++
	}
	for _, p := range order {
		s.say("lost: %d rows of %s on timeline %d, acknowledged from %.2fs to %.2fs", count[p], p.server, p.timeline,
			(first[p] - s.began).Seconds(), (last[p] - s.began).Seconds())
	}
}

// sum is the content of both tables in one line.
const sum = `SELECT (SELECT count(*) || '/' || coalesce(sum(id), 0) FROM ledger) || ' ' ||
	(SELECT count(*) || '/' || coalesce(sum(hashtext(k || v::text)::bigint), 0) FROM lists)`

// compare finds the standbys that have other rows than the primary when all have replayed its WAL.
func (r *report) compare(ctx context.Context, s *storm, primary *cluster.Member) error {
	end, err := primary.SQL(ctx, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return err
	}
	want, err := primary.SQL(ctx, sum)
	if err != nil {
		return err
	}
	for _, m := range s.c.Others(primary) {
		err := s.until(ctx, s.o.heal, func(ctx context.Context) (bool, string) {
			done, err := m.SQL(ctx, "SELECT pg_last_wal_replay_lsn() >= '"+end+"'")
			return done == "t", fmt.Sprintf("%s has replayed to %s: %q (error: %v)", m.Name, end, done, err)
		})
		if err != nil {
			return err
		}
		got, err := m.SQL(ctx, sum)
		if err != nil {
			return err
		}
		if got != want {
			r.Diverged = append(r.Diverged, m.Name)
			s.finding(ctx, fmt.Sprintf("%s has other rows than %s: %s, want %s", m.Name, primary.Name, got, want))
		}
	}
	return nil
}

// print writes the report for people, within 100 columns.
func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "fault\tmade\tmoved\toutage ms\tworst\tdirect\theal s\tworst\thuman\n")
	groups := map[string][]record{}
	for _, one := range r.Records {
		name := "two at once"
		if len(one.Kinds) == 1 {
			name = one.Kinds[0]
		}
		if len(one.Kinds) > 0 {
			groups[name] = append(groups[name], one)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		var outage, direct, heal []time.Duration
		moved, humans := 0, 0
		for _, one := range groups[name] {
			outage, direct = append(outage, one.Outage), append(direct, one.Direct)
			heal = append(heal, one.Settled-one.Ended)
			moved, humans = moved+one.Moved, humans+len(one.Humans)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%d\n", name, len(outage), moved, cluster.Median(outage).Milliseconds(),
			slices.Max(outage).Milliseconds(), slices.Max(direct).Milliseconds(), cluster.Median(heal).Seconds(), slices.Max(heal).Seconds(), humans)
	}
	_ = t.Flush() // standard output that is gone has no reader to disappoint
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-34s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w)
	line("mode, ttl, seed, length", "%s, %s, %d, %s", r.Mode, r.TTL, r.Seed, r.Length.Round(time.Second))
	line("faults survived", "%d in %d steps (void: %d)", r.Faults, len(r.Records), r.Voids)
	line("rows acknowledged / unknown", "%d / %d (with a warning: %d)", r.Acknowledged, r.Unknown, r.Local)
	line("rows lost", "%d (beyond the bound: %d)", r.Lost, r.LostBeyond)
	line("two servers acknowledged at once", "%d ms certain, %d ms possible", r.Overlap.Milliseconds(), r.Possible.Milliseconds())
	line("two members answered as primary", "%d times, %d ms", r.TwoPrimaries, r.TwoFor.Milliseconds())
	line("changes of primary, false ones", "%d, %d", r.Changes, len(r.FalseFailovers))
	l := r.Lists
	line("list transactions", "%d acknowledged, %d unknown, %d failed", l.Acknowledged, l.Unknown, l.Failed)
	line("appends acknowledged, lost", "%d, %d (unknown and there: %d)", l.Appends, len(l.Lost), l.UnknownThere)
	line("reads of appends that are gone", "%d by writers, %d by readers", l.Ghosts, l.GhostReads)
	line("inconsistencies of the lists", "%d", len(l.Violations))
	line("members that needed a human", "%d (crashed agents: %d)", r.Humans, r.Crashes)
	line("longest stall of the storm itself", "%d ms", r.Stall.Milliseconds())
	for _, o := range r.Certain {
		at := func(a cluster.Ack) string {
			return fmt.Sprintf("row %d sent %.3fs, executed %s, received %.3fs", a.ID, (a.Sent - r.Began).Seconds(),
				a.Executed.UTC().Format("15:04:05.000"), (a.Received - r.Began).Seconds())
		}
		line("  overlap", "%s", o)
		line("    the newer's first", "%s", at(o.New.First))
		line("    the older's proof", "%s", at(o.Proof))
	}
	for _, c := range r.FalseFailovers {
		line("  false failover", "%s to %s at %.2fs, %s", c.From, c.To, (c.At - r.Began).Seconds(), r.during(c.At))
	}
	if len(r.Red) == 0 {
		line("verdict", "green")
		return
	}
	line("verdict", "RED")
	for _, why := range r.Red {
		fmt.Fprintln(w, "  "+cutAt(why, 96))
	}
}

// during names what was going on at a moment.
func (r *report) during(at time.Duration) string {
	for _, one := range r.Records {
		if one.Begin <= at && at <= one.Settled {
			return cutAt("during "+one.What, 60)
		}
	}
	return "between faults"
}

func cutAt(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// table is print into a string.
func (r *report) table() string {
	var b strings.Builder
	r.print(&b)
	return b.String()
}
