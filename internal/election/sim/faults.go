package sim

import (
	"fmt"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// weighted is a kind of fault and how often it is drawn.
type weighted struct {
	kind   string
	weight int
}

// faultKinds are the kinds of faults, in a fixed order.
func faultKinds() []string {
	return []string{
		"kill agent", "kill fencer", "kill postmaster", "kill agent and fencer", "kill agent and postmaster", "kill everything",
		"kill postmaster, freeze fencer", "power off", "freeze agent", "hang loop", "freeze fencer", "freeze server", "freeze node",
		"cut from store", "cut from store one way", "cut pair", "cut pair one way", "isolate", "isolate from members",
		"store down", "store leader", "delete leader", "switchover", "failover", "restart", "reinit", "stop agent",
		"slow disk", "disk full", "mute replication", "slow network", "change ttl", "change mode", "change failsafe",
	}
}

// faultStep causes one fault and schedules the next.
func (w *World) faultStep() {
	if w.healed {
		return
	}
	w.after(w.tail(w.cfg.FaultEvery/10, 4*w.cfg.FaultEvery), w.faultStep)
	total := 0
	for _, k := range w.cfg.Kinds {
		total += k.weight
	}
	if total == 0 {
		return
	}
	draw := w.rng.IntN(total)
	for _, k := range w.cfg.Kinds {
		if draw -= k.weight; draw < 0 {
			w.cause(k.kind, w.victim())
			return
		}
	}
}

// victim draws a node, the holder of the leader key more often than others.
func (w *World) victim() *node {
	if n := w.node(w.checks.holder); n != nil && w.chance(0.4) {
		return n
	}
	return w.nodes[w.rng.IntN(len(w.nodes))]
}

// spell is how long a fault lasts: often near the times that matter, ttl and its parts.
func (w *World) spell() time.Duration {
	ttl, margin := w.cfg.TTL, election.MarginFloor(w.cfg.TTL)
	switch w.rng.IntN(4) {
	case 0:
		return w.between(10*time.Millisecond, time.Second)
	case 1:
		return w.between(ttl/3, ttl)
	case 2:
		return w.between(ttl-margin, ttl+2*margin)
	default:
		return w.tail(ttl, 5*ttl)
	}
}

// cause makes one fault happen.
func (w *World) cause(kind string, n *node) {
	w.faults[kind]++
	other := w.nodes[w.rng.IntN(len(w.nodes))]
	again := w.tail(100*time.Millisecond, 3*w.cfg.TTL)
	store := w.store.index()
	switch kind {
	case "kill agent":
		n.killAgent(again)
	case "kill fencer":
		n.killFencer()
	case "kill postmaster":
		n.pg.killPostmaster()
	case "kill agent and fencer":
		n.killAgent(again)
		n.killFencer()
	case "kill agent and postmaster":
		n.killAgent(again)
		n.pg.killPostmaster()
	case "kill everything":
		n.killAgent(again)
		n.killFencer()
		n.pg.killPostmaster()
	case "kill postmaster, freeze fencer":
		n.pg.killPostmaster()
		w.after(w.between(0, 150*time.Millisecond), func() {
			if n.fencer.p.alive && !w.healed {
				w.mending(w.spell(), n.freezeFencer())
			}
		})
	case "power off":
		n.powerOff()
		w.mending(w.spell(), n.powerOn)
	case "hang loop":
		if a := n.agent; a != nil {
			w.note(n.index, "agent's loop hangs")
			a.hungUntil = a.now() + w.spell()
		}
	case "freeze agent":
		w.mending(w.spell(), n.freezeAgent())
	case "freeze fencer":
		w.mending(w.spell(), n.freezeFencer())
	case "freeze server":
		w.mending(w.spell(), n.freezeServer())
	case "freeze node":
		w.mending(w.spell(), n.freeze())
	case "cut from store":
		w.cut(kind, n.index, store, true)
	case "cut from store one way":
		if w.chance(0.5) {
			w.cut(kind, n.index, store, false)
		} else {
			w.cut(kind, store, n.index, false)
		}
	case "cut pair":
		w.cut(kind, n.index, other.index, true)
	case "cut pair one way":
		w.cut(kind, n.index, other.index, false)
	case "isolate", "isolate from members":
		w.isolate(kind, n, kind == "isolate")
	default:
		w.causeMore(kind, n, other)
	}
}

func (w *World) causeMore(kind string, n, other *node) {
	switch kind {
	case "store down":
		if w.store.up {
			w.note(-1, "store loses its majority")
			w.store.lose()
			w.mending(w.spell(), func() {
				w.note(-1, "store is back")
				w.store.recover()
			})
		}
	case "store leader":
		w.newStoreLeader()
	case "delete leader":
		w.note(-1, "an operator deletes the leader key")
		w.store.write([]dcs.Op{{Key: dcs.KeyLeader, Delete: true}})
	case "switchover":
		w.request(election.FailoverRequest{Leader: w.checks.holder, Candidate: pick(w.engine, "", n.name, other.name)})
	case "failover":
		w.request(election.FailoverRequest{Candidate: n.name})
	case "restart":
		n.command(election.CommandRestart)
	case "reinit":
		n.command(election.CommandReinit)
	case "stop agent":
		if n.agent != nil {
			n.agent.p.run(func() {
				w.note(n.index, "agent is told to stop")
				n.agent.stopping = true
				n.agent.news.raise()
			})
		}
	case "slow disk":
		n.slowUntil = w.now + w.spell()
	case "disk full":
		n.fullUntil = w.now + w.spell()
	case "mute replication":
		w.note(n.index, "no replication")
		n.mutedUntil = w.now + w.spell()
		n.pg.hangUp()
	case "slow network":
		d := w.tail(10*time.Millisecond, 2*time.Second)
		w.net.slow[n.index] += d
		w.note(n.index, "network slow by %s", d)
		w.mending(w.spell(), func() { w.net.slow[n.index] -= d })
	default:
		w.causeRare(kind, n, other)
	}
}

// causeRare are the changes of the configuration, and faults that are made for one deliberate bug.
func (w *World) causeRare(kind string, n, other *node) {
	switch kind {
	case "change ttl":
		ttl := pick[time.Duration](w.engine, 3, 5, 10, 20) * time.Second
		w.change("ttl "+ttl.String(), func(s *settings) { s.TTL = ttl })
	case "kill voter":
		for _, o := range w.nodes {
			if vote, ok := w.store.decoded().Vote(o.name); ok && vote.Standing() {
				o.killAgent(50 * time.Millisecond)
			}
		}
	case "switchover, kill agent":
		w.request(election.FailoverRequest{Leader: w.checks.holder, Candidate: other.name})
		if o := w.node(w.checks.holder); o != nil {
			w.killGiver(o, w.now+8*time.Second)
		}
	case "restore backup":
		if n.name != w.checks.holder {
			n.restoreBackup()
		}
	case "change mode":
		mode, strict, nodes := pick(w.engine, election.SyncOff, election.SyncOn, election.SyncQuorum), w.chance(0.4), 1+w.rng.IntN(2)
		w.change(fmt.Sprintf("synchronous mode %d, strict %t, %d nodes", mode, strict, nodes), func(s *settings) {
			s.Mode, s.Strict, s.Nodes = mode, strict, nodes
		})
	case "change failsafe":
		on := w.chance(0.6)
		w.change(fmt.Sprintf("failsafe mode %t", on), func(s *settings) { s.Failsafe = on })
	default:
		w.fail("sim", n, "no such fault: "+kind)
	}
}

// killGiver kills an agent while it gives its leader key away.
func (w *World) killGiver(n *node, until time.Duration) {
	switch {
	case w.now > until || n.agent == nil:
	case n.agent.giving != 0:
		n.killAgent(50 * time.Millisecond)
	default:
		w.after(time.Millisecond, func() { w.killGiver(n, until) })
	}
}

// request is an operator's switchover or failover.
func (w *World) request(r election.FailoverRequest) {
	w.note(-1, "an operator asks: leader %q, candidate %q", r.Leader, r.Candidate)
	t := dcs.WriteFailover(r)
	w.store.write(t.Then)
}

func (n *node) command(kind election.CommandKind) {
	a := n.agent
	if a == nil {
		return
	}
	a.p.run(func() {
		if kind == election.CommandReinit && (a.own.Held() || !a.cluster.Leader.Present || a.cluster.Leader.Name == n.name) {
			return
		}
		n.w.note(n.index, "an operator asks for %s", kind)
		a.command++
		a.commands = append(a.commands, election.Command{Kind: kind, ID: a.command, Asked: a.now()})
		a.news.raise()
	})
}

func (w *World) cut(kind string, from, to int, both bool) {
	if from == to {
		return
	}
	w.note(-1, "%s: %s to %s", kind, w.place(from), w.place(to))
	cut := w.net.sever
	if both {
		cut = w.net.severBoth
	}
	mend := cut(from, to)
	w.mending(w.spell(), func() {
		w.note(-1, "mended: %s to %s", w.place(from), w.place(to))
		mend()
	})
}

func (w *World) isolate(kind string, n *node, fromStore bool) {
	w.note(n.index, "%s", kind)
	var mends []func()
	for i := range len(w.nodes) + 1 {
		if i == n.index || i == w.store.index() && !fromStore {
			continue
		}
		mends = append(mends, w.net.severBoth(n.index, i))
	}
	w.mending(w.spell(), func() {
		w.note(n.index, "is connected again")
		for _, m := range mends {
			m()
		}
	})
}

func (w *World) place(i int) string {
	if i == w.store.index() {
		return "the store"
	}
	return w.nodes[i].name
}

// newStoreLeader moves the store's leadership: a short silence, and perhaps a former leader that
// goes on answering the keep-alives of some nodes.
func (w *World) newStoreLeader() {
	if !w.store.up {
		return
	}
	w.note(-1, "store elects a new leader")
	w.store.lose()
	w.mending(w.between(100*time.Millisecond, 1500*time.Millisecond), func() {
		w.store.recover()
		for i := range w.nodes {
			if w.chance(0.3) && !w.healed {
				w.store.staleUntil[i] = w.now + w.spell()
			}
		}
	})
}
