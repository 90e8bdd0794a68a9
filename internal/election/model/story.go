package model

import (
	"fmt"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// Story tells the trace of a violation in plain words.
func (r Result) Story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Violation)
	w := newWorld(r.Config)
	s := w.first()
	n := 0
	for _, t := range r.Trace {
		next, ok := w.follow1(&s, t)
		if !ok {
			fmt.Fprintf(&b, "the trace breaks off at %v\n", t)
			break
		}
		n++
		fmt.Fprintf(&b, "%3d. %s%s\n", n, w.tell(&s, &next, t), acked(&s, &next))
		s = next
	}
	return b.String()
}

// acked says which commits a step let be acknowledged.
func acked(s, next *State) string {
	var out strings.Builder
	for c := range s.commits {
		if s.commits[c].state != commitAcked && next.commits[c].state == commitAcked {
			fmt.Fprintf(&out, "; %s tells the client that commit %d is safe", nameOf(int(next.commits[c].origin)), c+1)
		}
	}
	return out.String()
}

// follow1 repeats one step.
func (w *world) follow1(s *State, t step) (next State, found bool) {
	w.successors(s, func(u step, n *State) {
		if u == t && !found {
			next, found = *n, true
		}
	})
	return next, found
}

func (w *world) tell(s, next *State, t step) string {
	i := int(t.who & 15)
	who := nameOf(i)
	m, n := &s.m[i], &next.m[i]
	then := *s
	switch t.kind {
	case stDecide:
		return fmt.Sprintf("%s %sdecides: %s%s", who, sight(t.arg), w.decision(&then, i, sight(t.arg)), w.serverChange(m, n))
	case stRefresh:
		w.refresh(&then, i)
		return fmt.Sprintf("%s sees %s; it %sdecides: %s%s", who, w.describe(next.store), sight(t.arg),
			w.decision(&then, i, sight(t.arg)), w.serverChange(m, n))
	case stSee:
		return fmt.Sprintf("%s sees %s", who, w.describe(next.store))
	case stJob:
		return fmt.Sprintf("%s's job %s goes on%s", who, jobName(m.job.kind), w.serverChange(m, n))
	case stCarryOut:
		return fmt.Sprintf("the store carries out %q of %s%s and answers", w.txn(m.req[t.arg].txn).name, who, w.outcome(s, next))
	case stProcess:
		return fmt.Sprintf("the store carries out %q of %s%s; the answer is on its way", w.txn(m.req[t.arg].txn).name, who, w.outcome(s, next))
	case stAnswer:
		return fmt.Sprintf("%s gets the answer to %q", who, w.txn(m.req[t.arg].txn).name)
	case stLostDone:
		return fmt.Sprintf("the store carries out %q of %s%s, but the answer is lost", w.txn(m.req[t.arg].txn).name, who, w.outcome(s, next))
	case stLostLate:
		return fmt.Sprintf("%q of %s hangs on its way; %s gives up waiting and does not know the outcome", w.txn(m.req[t.arg].txn).name, who, who)
	case stLate:
		tx := w.txn(s.late[t.arg])
		return fmt.Sprintf("the late %q of %s arrives%s", tx.name, nameOf(tx.owner), w.outcome(s, next))
	case stAnswers:
		what := sight(t.who >> 4)
		w.answers(&then, i, int(t.arg&15), int(t.arg>>4))
		return fmt.Sprintf("%s asks the others; %s answered%s, and it %sdecides: %s%s", who, list(namesOf(t.arg&15)), alsoLost(t.arg>>4), what,
			w.decision(&then, i, what), w.serverChange(m, n))
	case stWrite:
		return fmt.Sprintf("a client writes commit %d on %s", t.arg+1, who)
	case stPromise:
		return fmt.Sprintf("%s promises %s not to race", who, nameOf(int(t.arg)))
	case stReplicate:
		return fmt.Sprintf("%s gets a record from %s and has %s now", who, nameOrNone(m.recv), n.wal.String())
	default:
	}
	if text := tellFault(t, who); text != "" {
		return text + w.serverChange(m, n)
	}
	return fmt.Sprintf("%s%s", fmt.Sprintf(stepText(t.kind), who), w.serverChange(m, n))
}

func (x sight) String() string {
	switch {
	case x&sightLong != 0:
		return "has been frozen for a while, hears nothing from the leader and "
	case x&sightLost != 0:
		return "hears nothing from the leader and "
	}
	return ""
}

func alsoLost(mask uint8) string {
	if mask == 0 {
		return ""
	}
	return " (" + list(namesOf(mask)) + " lost the leader, too)"
}

// decision is the plan that a member makes.
func (w *world) decision(s *State, i int, what sight) election.Plan {
	w.seeing(s, i, what)
	return w.plan(w.key(s, i)).plan
}

func tellFault(t step, who string) string {
	switch t.kind {
	case stSwitchover:
		return fmt.Sprintf("an operator asks for a switchover to %s", who)
	case stFailover:
		return fmt.Sprintf("an operator asks for a failover to %s", who)
	case stReclone:
		if t.arg != 0 {
			return fmt.Sprintf("%s's disk is replaced by an old copy", who)
		}
	case stCalm:
		return fmt.Sprintf("from now on nothing goes wrong any more, and %s hear each other", list(namesOf(t.arg)))
	case stDelete:
		return "an operator deletes the leader key"
	default:
	}
	return ""
}

// stepText is what the simple steps are called.
func stepText(k stepKind) string {
	text := map[stepKind]string{
		stBurn:     "%s writes its key anew, so that the request of unknown outcome can never be carried out",
		stPromoted: "%s's server ends its recovery", stStopped: "%s's server has shut down", stCleared: "what was left of %s's server is gone",
		stReplayed: "%s's server has replayed all it has", stProveFrozen: "%s's server is proven frozen",
		stSetSync: "%s's server is told its new setting", stUnproven: "%s's setting is not proven in time", stProveSync: "%s's setting is proven to be in force", stTick: "time passes for %s",
		stRenew: "%s proves its title or lease anew", stRenewSent: "the store answers %s's proof; the answer is on its way",
		stRenewed: "%s gets the answer to its proof", stExpire: "a lease of %s is over", stWaited: "%s has waited out the vanished key",
		stLeaseLost: "%s learns that its lease is gone", stGrant: "%s gets a new lease", stKillAgent: "%s's agent is killed",
		stStartAgent: "%s's agent starts", stCrash: "%s's postmaster is killed", stFreezeNode: "%s's node stands still",
		stThawNode: "%s's node goes on", stCut: "replication to %s is cut", stHeal: "replication to %s is possible again",
		stGhost:   "%s's node is cut off for good, and another of the same name starts",
		stReclone: "%s's disk is replaced by an empty one", stNoSync: "%s's nosync tag is turned over", stAbsent: "%s has not streamed for a while", stPublish: "%s publishes the name of its new data", stRoundDone: "%s's round of promises ends", stPromiseOver: "%s's promise is over", stRestore: "%s takes a record from the archive",
		stApart: "nothing gets through any more between %s and the others", stStuck: "%s's watch is stuck",
	}
	if s, ok := text[k]; ok {
		return s
	}
	return "%s: something"
}

func jobName(k jobKind) string {
	return [...]string{"nothing", "start as standby", "start as primary", "promote", "demote", "stop", "hand over", "compare", "rewind", "clone"}[k]
}

func (w *world) serverChange(m, n *member) string {
	var out string
	if m.server != n.server {
		out += fmt.Sprintf("; its server is %s now", serverName(n.server))
	}
	if m.tok.armed != n.tok.armed {
		out += "; its fencer is " + map[bool]string{true: "armed", false: "disarmed"}[n.tok.armed != 0]
	}
	if m.own.rev != n.own.rev {
		if n.own.rev == 0 {
			out += "; it forgets its title"
		} else {
			out += fmt.Sprintf("; it holds the title of revision %d", n.own.rev)
		}
	}
	return out
}

func serverName(k serverState) string {
	return [...]string{"down", "a standby", "being promoted", "a primary", "shutting down", "dead but for some processes"}[k]
}

// outcome says what a transaction changed.
func (w *world) outcome(s, next *State) string {
	if s.store == next.store {
		return ", whose conditions do not hold,"
	}
	return " (now " + w.describe(next.store) + ")"
}

func (w *world) describe(r ref) string {
	c := w.content(r)
	var parts []string
	if c.leader.name != 0 {
		parts = append(parts, fmt.Sprintf("leader %s at revision %d, epoch %d", nameOrNone(c.leader.name), c.leader.rev, c.reign.epoch))
	} else {
		parts = append(parts, "no leader")
	}
	if c.sync.present != 0 {
		parts = append(parts, "electorate "+c.sync.String())
	}
	for i, v := range c.votes {
		if v.of != 0 {
			parts = append(parts, fmt.Sprintf("vote of %s against %d at %d", nameOf(i), v.of, v.pos))
		}
	}
	if f := c.failover; f.candidate != 0 || f.leader != 0 {
		parts = append(parts, "failover to "+orAnybody(nameOrNone(f.candidate)))
	}
	if c.release.of != 0 {
		parts = append(parts, fmt.Sprintf("release of %d", c.release.of))
	}
	return strings.Join(parts, "; ")
}

func orAnybody(s string) string {
	if s == "" {
		return "anybody"
	}
	return s
}

func (k *syncKey) String() string {
	out := fmt.Sprintf("of %s", orAnybody(nameOrNone(k.leader)))
	if k.has == 0 {
		return out + " without votes"
	}
	for i := range k.sets {
		out += fmt.Sprintf(" {%s wait %d quorum %d}", strings.Join(namesOf(k.set[i].mask), ","), k.set[i].wait, k.set[i].quorum)
	}
	if k.sets == 0 {
		out += " nobody else"
	}
	return out
}

// String lists a log's records.
func (l *log) String() string {
	var b strings.Builder
	for i := range l.n {
		r := l.e[i]
		if i > 0 {
			b.WriteByte(' ')
		}
		switch what := r.what(); {
		case what < maxCommits:
			fmt.Fprintf(&b, "%d:x%d", r.timeline(), what+1)
		case what == recFirst:
			fmt.Fprintf(&b, "%d:first", r.timeline())
		case what >= recShutdown:
			fmt.Fprintf(&b, "%d:shutdown(%s)", r.timeline(), nameOf(int(what-recShutdown)))
		default:
			fmt.Fprintf(&b, "%d:new(%s)", r.timeline(), nameOf(int(what-recPromoted)))
		}
	}
	return b.String()
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, " and ")
}
