package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// TestStories runs the scripts of testdata: one cluster each, in a calm world where only that
// happens which the script says. Every command fails the test if an invariant breaks.
//
//	new [empty] members=3 ttl=10   a cluster that has been made and is whole, or is yet to be made
//	kill p agent|fencer|postmaster|everything [for=1s]
//	power p off|on
//	freeze p agent|fencer|server|node for=12s
//	partition p | q,r,store        nothing passes between the two sides
//	heal                           ends all partitions
//	store down for=5s, store leader, store delete-leader
//	switchover p q, failover q, reinit q, stop p
//	fail rewind|clone q            (clone: the disk is full for 10 s)
//	run 60s                        tells who is writable afterwards, and how long nobody was
//	settle 120s                    waits until the cluster is whole
//	status
//
// Nodes are p (who led when the cluster was made), q, r and so on.
//
// A script is a row of blocks: comments, a command, a line of four dashes, and what came of it. With
// PGHA_SIM_REWRITE set the outcomes are written anew.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			tellStory(t, path)
		})
	}
}

const dashes = "----"

func tellStory(t *testing.T, path string) {
	t.Helper()
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t}
	defer s.close()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(string(script)), "\n\n") {
		head, want, found := strings.Cut(strings.TrimSpace(block)+"\n", "\n"+dashes+"\n")
		if !found {
			t.Fatalf("%s: no %s in\n%s", path, dashes, block)
		}
		lines := strings.Split(head, "\n")
		command := lines[len(lines)-1]
		got := s.command(command)
		if got != strings.TrimSpace(want) && os.Getenv("PGHA_SIM_REWRITE") == "" {
			t.Errorf("%s: %s\ngot:\n%s\nwant:\n%s\n%s", path, command, got, want, lastLines(s.w.story, 60))
			return
		}
		out = append(out, head+"\n"+dashes+"\n"+got+"\n")
	}
	if os.Getenv("PGHA_SIM_REWRITE") != "" {
		if err := os.WriteFile(path, []byte(strings.Join(out, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func lastLines(story []string, n int) string {
	return strings.Join(story[max(0, len(story)-n):], "\n")
}

type stage struct {
	t *testing.T
	// cast are the nodes in the order of their names in the script: p is who led when the cluster
	// was made, then q, r and so on.
	cast  []*node
	w     *World
	mends []func()
	lost  int
}

func (s *stage) close() {
	if s.w != nil {
		s.w.Close()
	}
}

func (s *stage) command(line string) string {
	var words []string
	options := map[string]string{}
	for f := range strings.FieldsSeq(line) {
		if key, value, ok := strings.Cut(f, "="); ok {
			options[key] = value
		} else {
			words = append(words, f)
		}
	}
	if words[0] == "new" {
		return s.begin(words, options)
	}
	d, err := time.ParseDuration(options["for"])
	if err != nil {
		d = time.Second
	}
	out := s.do(words[0], words[1:], d)
	if s.w.violation != nil {
		s.t.Errorf("%s: %s\n%s", line, s.w.violation, strings.Join(s.w.story, "\n"))
		return "VIOLATION: " + s.w.violation.String()
	}
	if out == "" {
		return "ok"
	}
	return out
}

func (s *stage) number(options map[string]string, key string, usual int) int {
	if options[key] == "" {
		return usual
	}
	n, err := strconv.Atoi(options[key])
	if err != nil {
		s.t.Fatalf("%s: %s", key, err)
	}
	return n
}

func (s *stage) begin(words []string, options map[string]string) string {
	s.close()
	cfg := Calm(s.number(options, "members", 3))
	cfg.TTL = time.Duration(s.number(options, "ttl", 10)) * time.Second
	cfg.ReplicationLag = time.Duration(s.number(options, "lag", 5)) * time.Millisecond
	*s = stage{t: s.t, w: NewWorld(7, cfg, true)}
	s.cast = s.w.nodes
	if len(words) > 1 && words[1] == "empty" {
		return "ok"
	}
	if !s.w.runUntil(bootPatience, func() bool { return s.w.checks.lively() == "" }) {
		return "not whole: " + s.w.checks.lively()
	}
	leader := s.node(string(rune('p' + s.w.node(s.w.checks.holder).index)))
	s.cast = []*node{leader}
	for _, n := range s.w.nodes {
		if n != leader {
			s.cast = append(s.cast, n)
		}
	}
	return s.status()
}

func (s *stage) node(name string) *node {
	if len(name) == 1 {
		if i := int(name[0]) - 'p'; i >= 0 && i < len(s.cast) {
			return s.cast[i]
		}
	}
	s.t.Fatalf("no node %q", name)
	return nil
}

// alias is the name of a node in the script.
func (s *stage) alias(n *node) string {
	for i, c := range s.cast {
		if c == n {
			return string(rune('p' + i))
		}
	}
	return "nobody"
}

func (s *stage) do(cmd string, words []string, lasts time.Duration) string {
	w := s.w
	switch cmd {
	case "run":
		return s.run(s.duration(words[0]))
	case "settle":
		return s.settle(s.duration(words[0]))
	case "status":
		return s.status()
	case "kill":
		s.kill(s.node(words[0]), words[1], lasts)
	case "power":
		if words[1] == "off" {
			s.node(words[0]).powerOff()
		} else {
			s.node(words[0]).powerOn()
		}
	case "freeze":
		n := s.node(words[0])
		thaw := map[string]func() func(){
			"agent": n.freezeAgent, "fencer": n.freezeFencer, "server": n.freezeServer, "node": n.freeze,
		}[words[1]]()
		w.after(lasts, thaw)
	case "partition":
		s.partition(strings.Split(strings.Join(words, ""), "|"))
	case "heal":
		for _, m := range s.mends {
			m()
		}
		s.mends = nil
	case "store":
		return s.store(words[0], lasts)
	default:
		return s.ask(cmd, words)
	}
	return ""
}

func (s *stage) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// kill ends a process. An agent is started again by its supervisor.
func (s *stage) kill(n *node, what string, again time.Duration) {
	if what == "agent" || what == "everything" {
		n.killAgent(again)
	}
	if what == "fencer" || what == "everything" {
		n.killFencer()
	}
	if what == "postmaster" || what == "everything" {
		n.pg.killPostmaster()
	}
}

func (s *stage) ask(cmd string, words []string) string {
	switch cmd {
	case "switchover":
		s.w.request(election.FailoverRequest{Leader: s.node(words[0]).name, Candidate: s.node(words[1]).name})
	case "failover":
		s.w.request(election.FailoverRequest{Candidate: s.node(words[0]).name})
	case "reinit":
		s.node(words[0]).command(election.CommandReinit)
	case "stop":
		s.w.cause("stop agent", s.node(words[0]))
	case "fail":
		if words[0] == "rewind" {
			s.w.cfg.RewindFails = 1
		} else {
			s.node(words[1]).fullUntil = s.w.now + 10*time.Second
		}
	default:
		s.t.Fatalf("unknown command %q", cmd)
	}
	return ""
}

func (s *stage) store(what string, d time.Duration) string {
	switch what {
	case "down":
		s.w.store.lose()
		s.w.after(d, s.w.store.recover)
	case "leader":
		s.w.store.newLeader()
	case "delete-leader":
		s.w.store.write([]dcs.Op{{Key: dcs.KeyLeader, Delete: true}})
	default:
		s.t.Fatalf("store cannot %q", what)
	}
	return ""
}

func (s *stage) partition(sides []string) {
	index := func(name string) int {
		if name == "store" {
			return s.w.store.index()
		}
		return s.node(name).index
	}
	for x := range strings.SplitSeq(sides[0], ",") {
		for y := range strings.SplitSeq(sides[1], ",") {
			s.mends = append(s.mends, s.w.net.severBoth(index(x), index(y)))
		}
	}
}

// run moves on, and tells in round numbers how long no commit was acknowledged.
func (s *stage) run(d time.Duration) string {
	w := s.w
	begin, n := w.now, w.checks.ackedCount
	gap, last := time.Duration(0), w.now
	for end := w.now + d; w.now < end && w.violation == nil; {
		w.run(min(50*time.Millisecond, end-w.now))
		if w.checks.ackedCount > n {
			gap = max(gap, w.now-last-w.cfg.CommitEvery*3/2)
			last, n = w.now, w.checks.ackedCount
		}
	}
	gap = max(gap, w.now-last-w.cfg.CommitEvery*3/2)
	return fmt.Sprintf("%s\nlost: %s", s.writable(gap, w.now-begin), s.losses())
}

func (s *stage) writable(gap, whole time.Duration) string {
	who := "nobody is writable"
	for _, n := range s.w.nodes {
		if n.pg.canAck() {
			who = fmt.Sprintf("%s is writable on timeline %d", s.alias(n), n.disk.tl)
		}
	}
	switch {
	case gap >= whole-time.Second:
		return who + "; no commit all the time"
	case gap <= 100*time.Millisecond:
		return who + "; no outage"
	}
	for _, step := range []time.Duration{time.Second, 3 * time.Second, 12 * time.Second, 30 * time.Second} {
		if gap <= step {
			return fmt.Sprintf("%s; outage below %s", who, step)
		}
	}
	return who + "; outage above 30s"
}

func (s *stage) losses() string {
	lost := s.w.checks.lost - s.lost
	s.lost = s.w.checks.lost
	if lost == 0 {
		return "nothing"
	}
	return "some, within the bound"
}

func (s *stage) settle(d time.Duration) string {
	if !s.w.runUntil(d, func() bool { return s.w.checks.lively() == "" }) {
		return "not whole: " + s.w.checks.lively()
	}
	return s.status()
}

func (s *stage) status() string {
	var b strings.Builder
	k, _ := s.w.store.get(dcs.KeyLeader)
	fmt.Fprintf(&b, "leader key: %s\n", s.alias(s.w.node(string(k.value))))
	for _, n := range s.cast {
		fmt.Fprintf(&b, "%s: %s\n", s.alias(n), s.describe(n))
	}
	return strings.TrimSpace(b.String())
}

func (s *stage) describe(n *node) string {
	switch {
	case !n.power:
		return "without power"
	case n.pg.canAck():
		return fmt.Sprintf("primary, timeline %d", n.disk.tl)
	case n.pg.state == srvStandby && n.pg.stream != nil:
		return fmt.Sprintf("standby, timeline %d, streams from %s", n.disk.tl, s.alias(n.pg.stream.from.n))
	case n.pg.state == srvStandby:
		return fmt.Sprintf("standby, timeline %d", n.disk.tl)
	case n.pg.state == srvDown && n.disk.kind == election.DataCluster:
		return "down"
	case n.disk.kind != election.DataCluster:
		return "without data"
	}
	return "on its way"
}
