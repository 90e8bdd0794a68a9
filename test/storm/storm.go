package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// Figures of every storm. They are bounds for a busy machine of two cores.
const (
	commandTimeout = 20 * time.Second
	bootTime       = 2 * time.Minute
	lookEvery      = 100 * time.Millisecond
	restartDelay   = time.Second // of the supervisor, after an agent has ended by itself
	volumeSize     = 1 << 30     // for the data, and for what is moved aside
	maximumLag     = 256 << 10   // bytes; small, so that a failover to a standby far behind shows
)

// storm is one run.
type storm struct {
	c       *cluster.Cluster
	o       options
	out     io.Writer
	outMu   sync.Mutex
	began   time.Duration
	clients *clients
	relays  map[*cluster.Member][]*relay

	// What is broken now, so that two faults do not get into each other's way.
	cut, narrow map[*cluster.Member]bool
	etcdBroken  bool

	// The supervisor: agents that are down on purpose, and when one ended by itself.
	expected map[*cluster.Member]int
	ended    map[*cluster.Member]time.Duration
	crashed  []string // since the step began
	commands sync.WaitGroup
	asked    bool // an operator's command was sent in this step
	findings int
	// stall is how long this program itself had to wait for the processor at worst, in this step: an
	// outage of that length says nothing about the cluster.
	stall   time.Duration
	records []record
}

// say writes a line of the storm's story.
func (s *storm) say(format string, args ...any) {
	at := (cluster.Mono() - s.began).Seconds()
	s.outMu.Lock()
	defer s.outMu.Unlock()
	fmt.Fprintf(s.out, "%8.2fs %s\n", at, fmt.Sprintf(format, args...))
}

// clusterOptions of a storm.
func clusterOptions(o options) (cluster.Options, error) {
	names := []string{"a", "b", "c"}
	co := cluster.Options{
		Scope: "storm", Names: names, Network: cluster.Namespaces, HAProxy: true, Etcd: o.etcdKind, EtcdMembers: o.etcd,
		TTL: o.ttl, LoopWait: time.Second, RetryTimeout: time.Second, Dir: o.dir, KeepDir: o.keep, Idle: true,
		Volumes:    map[string]int64{},
		DCS:        map[string]any{"maximum_lag_on_failover": maximumLag},
		Parameters: map[string]any{"max_wal_size": "64MB", "wal_keep_size": "16MB", "max_slot_wal_keep_size": "64MB"},
		Config: func(_ string, config map[string]any) {
			config["etcd3"] = map[string]any{"hosts": relayAddresses(o.etcd)}
			if o.sabotage == noFencer { // the kernel's fence would keep what the fencer does not
				config["pgha"] = map[string]any{"wire_fence": "off"}
			}
		},
	}
	for _, name := range names {
		co.Volumes[name] = volumeSize
	}
	if o.clocks != nil {
		co.Env = o.clocks.env
	}
	return co, co.SetMode(o.mode)
}

// newStorm starts a cluster and its clients and waits until everything is well.
func newStorm(ctx context.Context, o options, out io.Writer) (*storm, error) {
	co, err := clusterOptions(o)
	if err != nil {
		return nil, err
	}
	s := &storm{
		o: o, out: out, began: cluster.Mono(), relays: map[*cluster.Member][]*relay{},
		cut: map[*cluster.Member]bool{}, narrow: map[*cluster.Member]bool{},
		expected: map[*cluster.Member]int{}, ended: map[*cluster.Member]time.Duration{},
	}
	if s.c, err = cluster.Start(ctx, co); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.c.Options.KeepDir = true
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *storm) prepare(ctx context.Context) error {
	for _, m := range s.c.Members {
		relays, err := startRelays(ctx, s.c, m)
		s.relays[m] = relays
		if err != nil {
			return err
		}
	}
	if err := s.c.StartAll(); err != nil {
		return err
	}
	primary, err := s.c.WaitHealthy(ctx, len(s.c.Members)-1, bootTime)
	if err != nil {
		return err
	}
	if err := s.c.WaitSynchronous(ctx, primary, bootTime); err != nil {
		return err
	}
	s.clients, err = startClients(ctx, s.c, primary, s.o.seed)
	return err
}

func (s *storm) close() error {
	if s.clients != nil {
		s.clients.stop()
	}
	err := s.c.Close()
	for _, relays := range s.relays {
		for _, r := range relays {
			r.close()
		}
	}
	return err
}

// rage makes faults until the time is over, or one cannot be made or undone.
func (s *storm) rage(ctx context.Context) error {
	p := plan{seed: s.o.seed, ttl: s.o.ttl, kinds: s.o.kinds}
	end := cluster.Mono() + s.o.length
	for number := 1; cluster.Mono() < end; number++ {
		if err := s.step(ctx, p.step(number)); err != nil {
			return err
		}
	}
	return nil
}

// step makes the faults of one entry of the plan, undoes them, and waits until all is well.
func (s *storm) step(ctx context.Context, st step) error {
	if err := s.pass(ctx, st.gap); err != nil {
		return err
	}
	primary := s.c.Primary(ctx)
	if primary == nil {
		return errors.New("a healthy cluster has lost its primary without a fault")
	}
	s.crashed, s.asked, s.stall = nil, false, 0
	r := record{Number: st.number, Begin: cluster.Mono(), What: st.name()}
	scenes, err := s.begin(ctx, st, primary, &r)
	if err == nil {
		err = s.hold(ctx, st, scenes)
	}
	for _, sc := range slices.Backward(scenes) {
		err = errors.Join(err, sc.end(ctx))
	}
	r.Ended = cluster.Mono()
	r.Hold, r.Moves = r.Ended-r.Begin, r.Moves || s.asked
	if err == nil {
		err = s.settle(ctx, &r)
	}
	r.Settled, r.Crashed, r.Stall = cluster.Mono(), s.crashed, s.stall
	s.records = append(s.records, r)
	if err != nil {
		s.finding(ctx, fmt.Sprintf("step %d, %s: %v", r.Number, r.What, firstLine(err.Error())))
		return fmt.Errorf("step %d, %s: %w", r.Number, r.What, err)
	}
	s.say("  well again after %s", round(r.Settled-r.Ended))
	return nil
}

// begin makes the faults of a step, one after the other.
func (s *storm) begin(ctx context.Context, st step, primary *cluster.Member, r *record) ([]*scene, error) {
	var scenes []*scene
	for i, k := range st.kinds {
		if i > 0 {
			if err := s.pass(ctx, st.apart); err != nil {
				return scenes, err
			}
		}
		sc := &scene{s: s, rng: st.rng, primary: primary, hold: st.hold, second: i > 0}
		scenes = append(scenes, sc)
		// Before the fault: what it moves may have moved before it is proven.
		err := k.begin(ctx, sc)
		r.Moves = r.Moves || sc.moves
		if i > 0 && isVoid(err) {
			s.say("  void: %s: %v", k.name, err)
			r.Void = append(r.Void, k.name)
			continue
		}
		s.say("%d %s: %s, for %s", st.number, k.name, sc.what, round(sc.hold))
		if err != nil {
			return scenes, fmt.Errorf("%s: %w", k.name, err)
		}
		r.Kinds = append(r.Kinds, k.name)
		r.What = strings.TrimSpace(strings.Join(r.Kinds, " + ") + ": " + sc.what)
	}
	return scenes, nil
}

// isVoid: a second fault found that the first had left it nothing.
func isVoid(err error) bool {
	return errors.Is(err, errVoid) || err != nil && (strings.Contains(err.Error(), "no such process") ||
		strings.Contains(err.Error(), "nothing of it was running"))
}

// hold lets the faults last, with an operator's command in the middle if the plan has one.
func (s *storm) hold(ctx context.Context, st step, scenes []*scene) error {
	var length time.Duration
	for _, sc := range scenes {
		length = max(length, sc.hold)
	}
	if st.command < 0 {
		return s.pass(ctx, length)
	}
	before := time.Duration(st.command * float64(length))
	if err := s.pass(ctx, before); err != nil {
		return err
	}
	s.badMoment(ctx, st, scenes[0].primary)
	return s.pass(ctx, length-before)
}

// badMoment sends what an operator might who sees trouble.
func (s *storm) badMoment(ctx context.Context, st step, primary *cluster.Member) {
	to := s.c.Members[st.rng.IntN(len(s.c.Members))]
	asked := s.c.Members[st.rng.IntN(len(s.c.Members))]
	switch st.rng.IntN(3) {
	case 0:
		s.command(ctx, asked, "/switchover", map[string]any{"leader": primary.Name, "candidate": to.Name})
	case 1:
		s.command(ctx, to, "/restart", map[string]any{})
	case 2:
		if s.o.mode != cluster.Asynchronous {
			// By hand to a member that is not synchronous: the operator may lose data that way.
			s.command(ctx, asked, "/switchover", map[string]any{"leader": primary.Name})
			return
		}
		s.command(ctx, asked, "/failover", map[string]any{"candidate": to.Name})
	}
}

// command sends a request and does not wait for the answer.
func (s *storm) command(ctx context.Context, m *cluster.Member, path string, body map[string]any) {
	s.asked = true
	s.commands.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		answer, err := m.HTTP(ctx, http.MethodPost, path, body)
		text := fmt.Sprintf("%d %.80s", answer.Code, strings.TrimSpace(answer.Body))
		if err != nil {
			text = firstLine(err.Error())
		}
		s.say("  command to %s: %s %v: %s", m.Name, path, body, text)
	})
}

// settle waits until the cluster is whole and its clients write. Members that do not get well in
// time need a human, and get one.
func (s *storm) settle(ctx context.Context, r *record) error {
	s.commands.Wait()
	err := s.until(ctx, s.o.heal, s.well)
	for attempt := 0; err != nil; attempt++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sick := s.sick(ctx)
		for _, m := range sick {
			if !slices.Contains(r.Humans, m.Name) {
				r.Humans = append(r.Humans, m.Name)
			}
		}
		s.finding(ctx, fmt.Sprintf("a human is needed after %s: %v", r.What, err))
		if attempt == len(remedies()) {
			return fmt.Errorf("no human can help: %w", err)
		}
		if err := remedies()[attempt](ctx, s, sick); err != nil {
			return err
		}
		err = s.until(ctx, s.o.heal, s.well)
	}
	return s.clients.proxy.WaitAcks(ctx, 10, s.o.heal)
}

// remedies are what the human does, one after the other.
func remedies() []func(ctx context.Context, s *storm, sick []*cluster.Member) error {
	return []func(ctx context.Context, s *storm, sick []*cluster.Member) error{
		func(ctx context.Context, s *storm, _ []*cluster.Member) error { return s.c.Repair(ctx) },
		func(ctx context.Context, _ *storm, sick []*cluster.Member) error { return restart(ctx, sick, false) },
		func(ctx context.Context, _ *storm, sick []*cluster.Member) error { return restart(ctx, sick, true) },
	}
}

// restart power-cycles members, with or without their data. A cluster without any primary keeps
// its data.
func restart(ctx context.Context, sick []*cluster.Member, wipe bool) error {
	for _, m := range sick {
		if m.Running() {
			if err := m.PowerOff(ctx); err != nil {
				return err
			}
		}
		if wipe && len(sick) == 1 {
			if err := errors.Join(os.RemoveAll(m.DataDir()), os.RemoveAll(m.StateDir())); err != nil {
				return err
			}
		}
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// well: a primary that takes writes, and all others stream from it and say so.
func (s *storm) well(ctx context.Context) (bool, string) {
	primary, streaming, err := s.view(ctx)
	if err != nil {
		return false, err.Error()
	}
	for _, m := range s.c.Others(primary) {
		if !slices.Contains(streaming, m.Name) {
			return false, fmt.Sprintf("%s does not stream from %s", m.Name, primary.Name)
		}
		if code := m.Code(ctx, "/replica"); code != http.StatusOK {
			return false, fmt.Sprintf("/replica of %s answers %d", m.Name, code)
		}
	}
	return true, ""
}

// view is the primary and who streams from it.
func (s *storm) view(ctx context.Context) (*cluster.Member, []string, error) {
	primary := s.c.Primary(ctx)
	if primary == nil {
		return nil, nil, errors.New("no primary")
	}
	found, err := primary.SQL(ctx, `SELECT coalesce(string_agg(application_name, ' '), '') || ' ' ||
		CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END ||
		CASE WHEN bool_or(sync_state IN ('sync', 'quorum')) THEN ' synchronous' ELSE '' END
		FROM pg_stat_replication WHERE state = 'streaming'`)
	if err != nil {
		return primary, nil, err
	}
	streaming := strings.Fields(found)
	if slices.Contains(streaming, "standby") {
		return primary, nil, fmt.Errorf("%s answers 200 to /primary, and its server is a standby", primary.Name)
	}
	if s.o.mode != cluster.Asynchronous && !slices.Contains(streaming, "synchronous") {
		return primary, streaming, fmt.Errorf("no standby of %s is synchronous", primary.Name)
	}
	return primary, streaming, nil
}

// sick are the members that keep the cluster from being well: all of them without a primary.
func (s *storm) sick(ctx context.Context) []*cluster.Member {
	primary, streaming, err := s.view(ctx)
	if primary == nil {
		return s.c.Members
	}
	if err != nil && streaming == nil {
		return []*cluster.Member{primary}
	}
	return slices.DeleteFunc(s.c.Others(primary), func(m *cluster.Member) bool {
		return slices.Contains(streaming, m.Name) && m.Code(ctx, "/replica") == http.StatusOK
	})
}

// finding writes down what is known at a moment that somebody will want to look into.
func (s *storm) finding(ctx context.Context, what string) {
	s.findings++
	s.c.Options.KeepDir = true
	path := filepath.Join(s.c.Dir, fmt.Sprintf("finding-%02d.txt", s.findings))
	text := what + "\n" + s.c.Dump(context.WithoutCancel(ctx))
	s.say("FINDING %s (see %s)", firstLine(what), path)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.say("  not written: %v", err)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
