package sim

import (
	"slices"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// hearing is what a leader knows of its voters: when each of them last heard it.
type hearing struct {
	revision int64
	at       map[string]election.Instant
}

// keepContact asks the leader's agent, and failing that its server, whether it is there, four times in
// the silence after which it would count as lost. It runs on the members whose word a takeover by votes
// rests on.
func (a *agent) keepContact() {
	a.w.cue(a.askEvery(), a, 0)
}

func (a *agent) askEvery() time.Duration {
	return a.n.trueTime(max(a.set.Silence, 100*time.Millisecond) / 4)
}

// lookWhomToAsk lets the questions go on, at their pace, if there is somebody to ask again.
func (a *agent) lookWhomToAsk() {
	if a.askedLast == 0 {
		return
	}
	if _, revision := a.whomToAsk(); revision == 0 {
		return
	}
	every := a.askEvery()
	next := a.askedLast + (a.w.now-a.askedLast+every)/every*every
	a.askedLast = 0
	a.w.cue(next-a.w.now, a, 0)
}

// act is one question.
func (a *agent) act(uint64) {
	if !a.p.alive {
		return
	}
	if a.p.halted() {
		a.keepContact()
		return
	}
	name, revision := a.whomToAsk()
	if revision == 0 {
		a.askedLast = a.w.now // nobody to ask, until the store shows another state
	} else {
		a.keepContact()
	}
	if a.contact.Revision != revision {
		a.contact = election.Contact{}
		if revision != 0 {
			a.contact = election.Contact{Revision: revision, HeardAt: a.now()}
		}
	}
	a.target = name
	n := a.w.node(name)
	if revision == 0 || n == nil {
		return
	}
	was := a.outOfSight()
	if a.w.answersPulse(a.n, n, a.set.Silence/4) {
		a.contact.HeardAt, a.contact.Silent = max(a.contact.HeardAt, a.now()), 0
		bound := a.freeze.Recorded || a.freeze.VoteSent // what a frozen voter hears is no proof that it will not be counted
		if b := n.agent; b != nil && !b.p.halted() && b.p.alive && (!bound || a.w.bug(BugLateRed)) {
			b.pulse(a.n.name, revision, a.now())
		}
	} else {
		a.contact.Silent++
	}
	if is := a.outOfSight(); is != was {
		a.tell("leader %s out of sight: %t", name, is)
		a.news.raise()
	}
}

func (a *agent) outOfSight() bool {
	c := a.contact
	return c.Lost(a.now(), a.set.Silence)
}

// whomToAsk is the leader, or for as long as there is none the last one, whose key vanished.
func (a *agent) whomToAsk() (string, int64) {
	c, p := &a.cluster, a.set
	e := c.Sync.Electorate
	if !a.seen || !c.Sync.Active() || p.TimeOnly || e == nil {
		return "", 0
	}
	wanted := slices.ContainsFunc(e.Sets, func(s election.VoterSet) bool {
		_, in := s.Voter(a.n.name)
		return in || s.Quorum == 1
	})
	switch {
	case !wanted || c.Leader.Name == a.n.name:
		return "", 0
	case c.Leader.Present:
		return c.Leader.Name, c.Leader.ModRevision
	case a.contact.Revision != 0 && (a.contact.Revision == a.vacancy.Revision || a.contact.Revision == c.Reign.ModRevision):
		return a.target, a.contact.Revision
	}
	return "", 0
}

// answersPulse says whether a question gets an answer in time: from the agent, or from the server.
func (w *World) answersPulse(from, to *node, bound time.Duration) bool {
	if !to.power || to.frozen > 0 || !w.net.both(from.index, to.index) {
		return false
	}
	if w.cfg.Loss > 0 && w.chance(2*w.cfg.Loss) || w.net.delay(from.index, to.index)+w.net.delay(to.index, from.index) > bound {
		return false
	}
	agent := to.agent != nil && to.agent.p.alive && !to.agent.p.halted()
	server := to.pg.running() && !to.pg.halted()
	return agent || server
}

// pulse notes that a voter heard this leader.
func (a *agent) pulse(from string, revision int64, heardThere election.Instant) {
	_ = heardThere // another clock; the answer was given now
	if a.claim || !a.own.Held() || a.own.Revision != revision {
		return
	}
	sets, n := a.takeoverSets()
	if !slices.ContainsFunc(sets[:n], func(s *election.VoterSet) bool { _, in := s.Voter(from); return in }) {
		return
	}
	h := &a.hearing
	if h.revision != revision || h.at == nil {
		h.revision, h.at = revision, map[string]election.Instant{}
	}
	h.at[from] = a.now()
	a.refreshUntil()
}

// setsMost is how many sets of voters there may be at a time that could replace a leader.
const setsMost = 2

// takeoverSets are the sets of voters that may take over from this leader without waiting for its lease:
// the one published, and one that was sent and may be published already.
func (a *agent) takeoverSets() (sets [setsMost]*election.VoterSet, n int) {
	if a.set.TimeOnly {
		return sets, 0
	}
	if e := a.cluster.Sync.Electorate; e != nil && len(e.Sets) > 0 {
		sets[n] = &e.Sets[len(e.Sets)-1]
		n++
	}
	if w := a.syncWrite; w.Sent && w.Over == a.cluster.Sync.ModRevision && a.sentSync != nil {
		sets[n] = &a.sentSync.Sets[len(a.sentSync.Sets)-1]
		n++
	}
	return sets, n
}

// heardAt is the last moment at which enough voters of each such set heard this leader; ok is false where
// there is none.
func (a *agent) heardAt(own election.Own) (at election.Instant, ok bool) {
	sets, n := a.takeoverSets()
	for i, set := range sets[:n] {
		if r := a.hearing.reached(set, own.Revision); i == 0 || r < at {
			at = r
		}
		ok = true
	}
	return at, ok
}

// reached is the last moment at which so many voters of the set heard this leader that the others are too
// few to take over; zero: never.
func (h *hearing) reached(set *election.VoterSet, revision int64) election.Instant {
	if h.revision != revision {
		return 0
	}
	return set.Reached(h.at)
}
