package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// story is the demonstration, chapter by chapter. A chapter returns an error when a promise is
// broken.
type story struct {
	*screen
	c      *cluster.Cluster
	o      options
	begin  time.Time
	writer *cluster.Writer
}

func (s *story) tell(ctx context.Context) error {
	primary, err := s.start(ctx)
	if err != nil {
		return err
	}
	if s.writer, err = s.c.StartWriter(ctx, cluster.WriterOptions{Hz: s.o.rate}); err != nil {
		return err
	}
	defer s.writer.Stop()
	successor, err := s.loseNode(ctx, primary)
	if err != nil {
		return err
	}
	if err := s.heal(ctx, primary, successor); err != nil {
		return err
	}
	if err := s.switchover(ctx, successor, primary); err != nil {
		return err
	}
	return s.account(ctx)
}

func (s *story) start(ctx context.Context) (*cluster.Member, error) {
	s.chapter(1, "Three empty nodes become a cluster")
	primary, err := s.c.WaitHealthy(ctx, len(s.c.Members)-1, 90*time.Second)
	if err != nil {
		return nil, err
	}
	if err := s.c.WaitSynchronous(ctx, primary, 30*time.Second); err != nil {
		return nil, err
	}
	s.good("%s initialised the database, the others cloned it: ready in %s", primary.Name, seconds(time.Since(s.begin)))
	s.table()
	return primary, nil
}

func (s *story) loseNode(ctx context.Context, primary *cluster.Member) (*cluster.Member, error) {
	s.chapter(2, "The primary's node dies")
	if err := s.writer.WaitAcks(ctx, 2*s.o.rate, 30*time.Second); err != nil {
		return nil, err
	}
	s.good("%d rows acknowledged so far, all by %s", s.writer.Ledger.Count(), primary.Name)
	victims, err := primary.Processes(cluster.Node)
	if err != nil {
		return nil, err
	}
	seen := watch(ctx, s.c)
	fault := cluster.Mono()
	if err := primary.PowerOff(ctx); err != nil {
		return nil, err
	}
	dead := cluster.Mono()
	s.strike("kill -9 of all %d processes of node %s at once: %s", len(victims), primary.Name, census(victims))
	successor, err := s.c.WaitPrimary(ctx, 60*time.Second, primary)
	if err != nil {
		return nil, err
	}
	if err := s.resumed(ctx, successor); err != nil {
		return nil, err
	}
	events := seen.stop(fault)
	switch cluster.Mode(s.o.mode) {
	case cluster.Quorum, cluster.Synchronous:
		s.say("Its lease would last for up to %s. But what commits wait for can be taken from it: the standbys freeze, vote, and replace it.", s.o.ttl)
	default:
		s.say("Nobody can tell a dead node from one that is only cut off: its successor waits until its lease (%s) has run out.", s.o.ttl)
	}
	s.outage(fault, append([]event{{dead, "nothing of node " + primary.Name + " is left"}}, events...), "Writes stood still for")
	return successor, nil
}

// resumed waits until the client's writes are acknowledged by the new primary.
func (s *story) resumed(ctx context.Context, m *cluster.Member) error {
	err := s.c.WaitFor(ctx, 60*time.Second, "writes on "+m.Name, func(context.Context) (bool, string) {
		acks := s.writer.Ledger.Acks()
		last := acks[len(acks)-1].Server
		return last == m.PG(), "last acknowledged by " + last
	})
	if err != nil {
		return err
	}
	return s.writer.WaitAcks(ctx, s.o.rate, 30*time.Second)
}

// outage prints what happened when, and how long the client could not write.
func (s *story) outage(fault time.Duration, events []event, words string) {
	gap := s.writer.Ledger.Outage(fault)
	all := append([]event{
		{gap.Before.Received, "client: last row acknowledged by " + s.nameOf(gap.Before.Server)},
		{gap.After.Received, "client: first row acknowledged by " + s.nameOf(gap.After.Server)},
	}, events...)
	sortEvents(all)
	for _, e := range all {
		s.print("   %s  %s\n", s.paint(dim, fmt.Sprintf("%+7d ms", (e.at-fault).Milliseconds())), e.text)
	}
	s.good("%s %s", words, s.paint(bold, fmt.Sprintf("%d ms", gap.Length().Milliseconds())))
}

func (s *story) heal(ctx context.Context, dead, primary *cluster.Member) error {
	s.chapter(3, "The node comes back")
	begin := time.Now()
	if err := dead.PowerOn(ctx); err != nil {
		return err
	}
	if _, err := s.c.WaitHealthy(ctx, len(s.c.Members)-1, 90*time.Second); err != nil {
		return err
	}
	s.good("node %s was started again: it found its successor and follows it, %s after its start", dead.Name, seconds(time.Since(begin)))
	if err := s.c.WaitRole(ctx, primary, "primary", 10*time.Second); err != nil {
		return err
	}
	s.table()
	return nil
}

func (s *story) switchover(ctx context.Context, from, to *cluster.Member) error {
	s.chapter(4, "A planned switchover, under load")
	if err := s.c.WaitSynchronous(ctx, from, 30*time.Second); err != nil {
		return err
	}
	seen := watch(ctx, s.c)
	fault := cluster.Mono()
	s.strike("pghactl switchover --leader %s --candidate %s --force", from.Name, to.Name)
	out, err := s.c.Pghactl("switchover", s.c.Options.Scope, "--leader", from.Name, "--candidate", to.Name, "--force")
	if err != nil {
		return fmt.Errorf("switchover: %w: %s", err, out)
	}
	if err := s.c.WaitRole(ctx, to, "primary", 30*time.Second); err != nil {
		return err
	}
	if err := s.resumed(ctx, to); err != nil {
		return err
	}
	s.outage(fault, seen.stop(fault), "Writes stood still for")
	_, err = s.c.WaitHealthy(ctx, len(s.c.Members)-1, 60*time.Second)
	return err
}

// account checks every promise on what the client wrote down.
func (s *story) account(ctx context.Context) error {
	s.chapter(5, "The account")
	report := s.writer.Stop()
	primary, err := s.c.WaitHealthy(ctx, len(s.c.Members)-1, 60*time.Second)
	if err != nil {
		return err
	}
	lost, err := s.c.Verify(ctx, primary, s.writer.Ledger)
	if err != nil {
		return err
	}
	var broken []string
	if len(lost) > 0 {
		broken = append(broken, fmt.Sprintf("%d of %d acknowledged rows are missing on %s, the first is %d", len(lost), report.Acks, primary.Name, lost[0]))
	} else {
		s.good("%d rows were acknowledged, and every one of them is on %s", report.Acks, primary.Name)
	}
	if len(report.Certain()) > 0 || len(report.Forks) > 0 {
		broken = append(broken, fmt.Sprintf("two servers took writes: %v, timelines %v", report.Certain(), report.Forks))
	} else {
		s.good("never did two servers acknowledge writes at the same time")
	}
	for _, r := range report.Reigns {
		s.say("%s (timeline %d): %d rows", s.nameOf(r.Server), r.Timeline, r.Acks)
	}
	s.table()
	if len(broken) > 0 {
		return fmt.Errorf("broken promise: %s", strings.Join(broken, "; "))
	}
	return nil
}

// table shows the cluster as the operator's tool does.
func (s *story) table() {
	out, err := s.c.Pghactl("list")
	if err != nil {
		out = "pghactl list: " + err.Error()
	}
	s.block(out)
}

func (s *story) instructions() {
	ctl, dir := s.c.Options.Ctl+" -c "+s.c.CtlConfig(), s.c.Dir
	s.title("The cluster is yours")
	s.command(ctl+" list", "who is primary, who follows, how far behind")
	s.command(ctl+" why", "what each agent decides and for what reason")
	s.command(ctl+" switchover", "move the primary")
	s.command("psql '"+s.c.ProxyDSN()+"'", "write, through HAProxy, to whoever is primary")
	s.command("psql 'postgres://postgres:super-secret@"+s.c.Proxy.ReplicaAddress()+"/postgres'", "read from a replica")
	s.command("tail -f "+dir+"/*/agent.log", "the agents' logs")
	s.command("make demo DEMO_ARGS='--down "+dir+"'", "take it down and remove it")
}

func (s *story) nameOf(server string) string {
	for _, m := range s.c.Members {
		if m.PG() == server {
			return m.Name
		}
	}
	return server
}
