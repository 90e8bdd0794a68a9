package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// options of a storm.
type options struct {
	length time.Duration
	mode   cluster.Mode
	seed   uint64
	ttl    time.Duration
	heal   time.Duration
	etcd   int
	// etcdKind says which program etcd is; see cluster.EtcdKind.
	etcdKind cluster.EtcdKind
	dir      string
	keep     bool
	json     string
	kinds    []kind
	// clocks are the servers' clocks; nil where they cannot be stepped.
	clocks *clocks
	// sabotage makes the storm do once what the checkers must find.
	sabotage string
}

// Exit codes.
const (
	green  = 0
	red    = 1
	broken = 2
)

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(broken)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	r, err := run(ctx, o, os.Stderr)
	cancel()
	if r != nil {
		r.print(os.Stdout)
		err = errors.Join(err, cluster.WriteJSON(o.json, r))
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "storm:", err)
		os.Exit(broken)
	case len(r.Red) > 0:
		os.Exit(red)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("storm", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 30, "how long to make faults")
	mode := flags.String("mode", string(cluster.Asynchronous), "replication: async, sync or quorum")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the plan of faults; 0: a random one")
	flags.DurationVar(&o.ttl, "ttl", 5*time.Second, "lifetime of the leader's lease")
	flags.DurationVar(&o.heal, "heal", 60*time.Second, "after a fault, members that are not well for so long need a human")
	flags.IntVar(&o.etcd, "etcd", 3, "number of etcd members")
	program := flags.String("etcd-program", "pgha", "etcd is the one that comes with the agent (pgha), or the machine's own (system)")
	flags.StringVar(&o.dir, "dir", "", "parent `directory` of the run's own; default the temporary directory")
	flags.BoolVar(&o.keep, "keep", false, "keep logs also when all went well")
	flags.StringVar(&o.json, "json", "", "also write the figures as JSON to this `file`, - for standard output")
	only := flags.String("faults", "", "make only the faults whose names contain one of these words, separated by commas")
	without := flags.String("without", "", "do not make the faults whose names contain one of these words")
	flags.StringVar(&o.sabotage, "sabotage", "", "do what the checkers must find: "+strings.Join(sabotages(), ", "))
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.length, o.mode = time.Duration(*minutes*float64(time.Minute)), cluster.Mode(*mode)
	if !slices.Contains([]cluster.Mode{cluster.Asynchronous, cluster.Synchronous, cluster.Quorum}, o.mode) {
		return o, fmt.Errorf("flag -mode: %q: want async, sync or quorum", o.mode)
	}
	if o.sabotage != "" && !slices.Contains(sabotages(), o.sabotage) {
		return o, fmt.Errorf("flag -sabotage: %q: want one of %v", o.sabotage, sabotages())
	}
	switch *program {
	case "pgha":
		o.etcdKind = cluster.EtcdSeparate
	case "system":
		o.etcdKind = cluster.EtcdExternal
	default:
		return o, fmt.Errorf("flag -etcd-program: %q: want pgha or system", *program)
	}
	if o.etcd < 3 {
		return o, errors.New("flag -etcd: faults of etcd need at least 3 members")
	}
	for o.seed == 0 {
		o.seed = rand.Uint64() >> 32
	}
	for _, k := range allKinds() {
		if named(k.name, *only) && (*without == "" || !named(k.name, *without)) {
			o.kinds = append(o.kinds, k)
		}
	}
	if len(o.kinds) == 0 {
		return o, fmt.Errorf("flag -faults: no fault is named like %q", *only)
	}
	return o, nil
}

// named: the name contains one of the words, which commas separate.
func named(name, words string) bool {
	return slices.ContainsFunc(strings.Split(words, ","), func(word string) bool { return strings.Contains(name, word) })
}

// run makes a storm and judges it. The report is nil if the storm could not begin.
func run(ctx context.Context, o options, out io.Writer) (*report, error) {
	fmt.Fprintf(out, "storm: mode %s, ttl %s, seed %d, %s\n", o.mode, o.ttl, o.seed, o.length)
	if o.clocks = findClocks(); o.clocks == nil {
		fmt.Fprintln(out, "storm: no clock steps, because libfaketime is not installed")
		o.kinds = slices.DeleteFunc(o.kinds, func(k kind) bool { return k.name == clockStep })
	} else {
		defer o.clocks.close()
	}
	s, err := newStorm(ctx, o, out)
	if err != nil {
		return nil, err
	}
	s.say("all is well; logs are in %s", s.c.Dir)
	if o.sabotage != "" {
		err = s.sabotage(ctx)
	} else {
		err = s.rage(ctx)
	}
	r := s.judge(context.WithoutCancel(ctx), err)
	err = nil
	if len(r.Red) > 0 || s.findings > 0 {
		// Of a sabotage red is what was asked for.
		s.c.Options.KeepDir = o.keep || o.sabotage == ""
	}
	if s.c.Options.KeepDir {
		err = s.evidence()
		fmt.Fprintln(out, "storm: logs are kept in", s.c.Dir)
	}
	return r, errors.Join(err, s.close())
}
