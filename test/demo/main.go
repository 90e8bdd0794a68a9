package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/test/cluster"
)

type options struct {
	keep, stop bool
	down, mode string
	ttl        time.Duration
	rate       int
}

func main() {
	var o options
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster running at the end")
	flag.BoolVar(&o.stop, "stop", false, "take the cluster down at the end without asking")
	flag.StringVar(&o.down, "down", "", "take down the cluster that was left in this `directory`, and do nothing else")
	flag.StringVar(&o.mode, "mode", string(cluster.Quorum), "replication: quorum, sync, async, or any (commits wait for one standby that pgha does not choose)")
	flag.DurationVar(&o.ttl, "ttl", 10*time.Second, "lifetime of the leader's lease")
	flag.IntVar(&o.rate, "rate", 100, "writes per second")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.down != "" {
		return cluster.Down(ctx, o.down)
	}
	if o.keep && o.stop {
		return errors.New("--keep and --stop exclude each other")
	}
	options := cluster.Options{
		Scope: "demo", Etcd: cluster.EtcdEmbedded, HAProxy: true, Block: "127.0.10",
		ProxyPrimaryPort: 5000, ProxyReplicaPort: 5001, TTL: o.ttl, LoopWait: 3 * time.Second, RetryTimeout: 3 * time.Second,
	}
	if err := options.SetMode(cluster.Mode(o.mode)); err != nil {
		return err
	}
	s := newScreen(os.Stdout)
	s.title("pgha: a PostgreSQL cluster that survives its nodes")
	s.say("Three nodes on loopback. On each of them: PostgreSQL, its agent, the agent's fencer, and a member of etcd.")
	s.say("HAProxy in front; a client writes %d rows a second through it. %s", o.rate, modeText(options.Mode))
	begin := time.Now()
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return err
	}
	story := &story{screen: s, c: c, o: o, begin: begin}
	if err := story.tell(ctx); err != nil {
		c.Options.KeepDir = true
		s.bad("%s", firstLine(err.Error()))
		s.say("Logs and data are kept in %s", c.Dir)
		return errors.Join(err, c.Close())
	}
	if !leaveRunning(s, o) {
		if err := c.Close(); err != nil {
			return err
		}
		s.say("The cluster is down again; nothing of it is left on this machine.")
		return nil
	}
	story.instructions()
	return c.Release()
}

// modeText says what an acknowledgement is worth.
func modeText(mode cluster.Mode) string {
	if mode == cluster.Asynchronous {
		return "Commits wait for the primary's disk alone: the last rows before a crash may be lost."
	}
	return "Commits wait for one of the standbys."
}

// leaveRunning asks, if there is somebody to ask. Without a terminal nobody would ever take the
// cluster down, so it goes.
func leaveRunning(s *screen, o options) bool {
	if o.keep || o.stop {
		return o.keep
	}
	if !isTerminal(os.Stdin) || !isTerminal(os.Stdout) {
		return false
	}
	s.ask("Leave the cluster running to play with? [y/N] ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return false
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
