package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

type options struct {
	runs   int
	ttls   []time.Duration
	modes  []string
	faults []string
	idle   time.Duration
	json   string
	etcd   int
	hz     int
}

// result is everything that one call of the program found.
type result struct {
	Started time.Time `json:"started"`
	Outages []series  `json:"outages"`
	Idle    []idle    `json:"idle"`
}

func main() {
	o, err := parse()
	if err == nil {
		ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, o)
		cancel()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	ttls := flag.String("ttl", "10s,5s", "lease lifetimes to try")
	modes := flag.String("modes", "async,any", "replication modes to try: async, any (one standby), sync, quorum")
	faults := flag.String("faults", "none,switchover,postmaster,node,partition", "faults to make")
	flag.IntVar(&o.runs, "n", 5, "runs of each fault")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long to measure a cluster at rest; 0 leaves it out")
	flag.StringVar(&o.json, "json", "", "also write the figures as JSON to this `file`, - for standard output")
	flag.IntVar(&o.etcd, "etcd", 1, "number of etcd members, on nodes of their own")
	flag.IntVar(&o.hz, "hz", 100, "writes per second of each client")
	flag.Parse()
	o.modes, o.faults = strings.Split(*modes, ","), strings.Split(*faults, ",")
	for text := range strings.SplitSeq(*ttls, ",") {
		ttl, err := time.ParseDuration(text)
		if err != nil {
			return o, fmt.Errorf("flag -ttl: %w", err)
		}
		o.ttls = append(o.ttls, ttl)
	}
	for _, name := range o.faults {
		if !slices.ContainsFunc(faultTable(), func(f fault) bool { return f.name == name }) {
			return o, fmt.Errorf("flag -faults: unknown fault %q", name)
		}
	}
	if o.runs < 1 {
		return o, fmt.Errorf("flag -n: want at least 1")
	}
	return o, nil
}

func run(ctx context.Context, o options) error {
	r := result{Started: time.Now().UTC()}
	for _, mode := range o.modes {
		for _, ttl := range o.ttls {
			if err := r.measure(ctx, o, cluster.Mode(mode), ttl); err != nil {
				return fmt.Errorf("mode %s, ttl %s: %w", mode, ttl, err)
			}
		}
	}
	r.print(os.Stdout)
	return cluster.WriteJSON(o.json, r)
}

// measure starts a cluster of its own for one mode and ttl and makes every fault in it.
func (r *result) measure(ctx context.Context, o options, mode cluster.Mode, ttl time.Duration) error {
	options := cluster.Options{
		Scope: "bench", Network: cluster.Namespaces, HAProxy: true, EtcdMembers: o.etcd,
		TTL: ttl, LoopWait: 3 * time.Second, RetryTimeout: 3 * time.Second,
	}
	if err := options.SetMode(mode); err != nil {
		return err
	}
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return err
	}
	b := &bench{c: c, o: o, mode: mode, ttl: ttl}
	err = b.all(ctx, r)
	if err != nil {
		c.Options.KeepDir = true
		fmt.Fprintln(os.Stderr, "bench: logs are kept in", c.Dir)
	}
	if closed := c.Close(); err == nil {
		err = closed
	}
	return err
}
