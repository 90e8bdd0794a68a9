package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// race keeps promises and races apart (safety review, hole 15). It is locked while a promise is made
// durable, and never across a request to the store: what is then on its way is remembered instead.
type race struct {
	locked, running, unknown bool
	// over is the revision of the reign that the race of unknown outcome compared.
	over int64
}

func (r *race) open() bool { return r.running || r.unknown }

func (r *race) begin(t *task, a *agent, over int64, votes bool) (why string) {
	for r.locked {
		t.sleep(2 * time.Millisecond)
	}
	switch {
	case !votes && a.promisedUntil() > a.now():
		return "this member promised the primary not to race"
	case r.running:
		return "another race is under way"
	}
	r.running = true
	if r.over != over {
		r.unknown = false // what compared an older reign can never come true
	}
	r.over = over
	return ""
}

func (r *race) end(open bool) { r.running, r.unknown = false, r.unknown || open }

func (r *race) moved(reign int64) {
	if r.unknown && reign != r.over {
		r.unknown = false
	}
}

// stillOpen says that a transaction may have been carried out, or may still be.
func stillOpen(res dcs.TxnResult, err error) bool {
	if err != nil {
		return !errors.Is(err, dcs.ErrUnavailable)
	}
	return res.Done
}

// failsafeFacts is what a leader knows of its rounds of promises.
type failsafeFacts struct {
	asking    bool
	doneAt    election.Instant
	refused   string
	pending   bool
	over, own int64
	unsettled []election.FailsafeMember
	opening   bool
}

func (a *agent) failsafeRound(own election.Own) election.FailsafeRound {
	s := &a.failsafe
	r := election.FailsafeRound{Asking: s.asking, DoneAt: s.doneAt, Refused: s.refused}
	if !own.Held() || a.cluster.Revision < own.Revision {
		return r
	}
	if s.pending && s.own == own.Revision && s.over == a.cluster.FailsafeRev {
		r.Unsettled, r.Opening = slices.Clone(s.unsettled), s.opening
	}
	r.Members, r.FailsafeRev = a.cluster.Failsafe, a.cluster.FailsafeRev
	return r
}

// writeFailsafe publishes the members that a round must ask. Until the snapshot shows another set, those
// of both are asked.
func (a *agent) writeFailsafe(t *task, v *election.View, members []election.FailsafeMember) error {
	s, over := &a.failsafe, v.Store.Cluster.FailsafeRev
	if (s.asking || s.doneAt != v.Failsafe.DoneAt) && !a.w.bug(BugSetUnderWay) && !a.w.bug(BugSetGivenUp) {
		return errNot("promises were asked for since that was decided")
	}
	fresh := !s.pending || s.own != v.Own.Revision || s.over != over
	if fresh {
		s.unsettled, s.opening = nil, false
	}
	s.opening = s.opening || len(members) == 0
	s.pending, s.own, s.over = true, v.Own.Revision, over
	s.unsettled = append(s.unsettled, members...)
	res, err := a.store.apply(t, storeCall, dcs.WriteFailsafe(v.Own.Revision, over, members))
	if errors.Is(err, dcs.ErrUnavailable) && fresh {
		s.pending = false
	}
	if err == nil && !res.Done {
		err = errNot("the failsafe set changed meanwhile")
	}
	if err == nil {
		a.echo = append(a.echo, echoed{failsafeKey, res.Revision, a.now()})
	}
	return err
}

// askPromises puts one round to the members of the failsafe set. Only if all of them promise does the
// title count from the moment before the first question.
func (a *agent) askPromises(t *task, v *election.View, members []election.FailsafeMember) error {
	s := &a.failsafe
	s.asking = true
	sent, ttl := a.now(), max(v.Own.TTL, v.Policy.TTL)
	patience := max(min(v.Own.TTL/6, 2*time.Second), 300*time.Millisecond)
	said := map[string]string{}
	for _, m := range members {
		if n := a.w.node(m.Name); n != nil && n != a.n {
			a.askOne(n, ttl, patience, func(why string) { said[m.Name] = why })
		}
	}
	for limit := a.now() + patience; len(said) < len(members) && a.now() < limit; {
		t.sleep(20 * time.Millisecond)
	}
	refused := ""
	for _, m := range members {
		if why, ok := said[m.Name]; m.Name != a.n.name && (!ok || why != "") && refused == "" {
			refused = m.Name + ": " + why
		}
	}
	if refused == "" {
		refused = a.promised(t, v.Own.Revision, sent, members)
	}
	s.asking, s.doneAt, s.refused = false, a.now(), refused
	if refused == "" {
		a.note("failsafe: all %d members promised", len(members))
	}
	a.refreshUntil()
	return nil
}

// askOne asks one member beside the round.
func (a *agent) askOne(n *node, ttl, patience time.Duration, tell func(why string)) {
	a.p.spawn(func(t *task) {
		why := "no answer"
		if o := a.w.net.rpc(t, n.index, patience, func(c *call) {
			b := n.agent
			if b == nil || !b.p.alive {
				c.refuse()
				return
			}
			received := b.now()
			b.p.run(func() {
				b.p.spawn(func(t *task) {
					why = b.promise(t, a.n.name, received, ttl)
					c.reply()
				})
			})
		}); o != answered {
			why = "no answer"
		}
		tell(why)
	})
}

// promise answers a primary that cannot reach the store; empty: this member has promised, durably, not to
// race for as long as that primary relies on it.
func (a *agent) promise(t *task, asker string, received election.Instant, ttl time.Duration) (why string) {
	for a.race.locked {
		t.sleep(2 * time.Millisecond)
	}
	a.race.locked = true
	defer func() { a.race.locked = false }()
	v := a.view()
	a.spare = nil
	why = election.MayPromise(*v, asker)
	switch {
	case v.Own.Held() && v.Local.Role == election.RolePrimary:
		return "I am the leader"
	case !v.Policy.FailsafeMode && len(v.Store.Cluster.Failsafe) == 0:
		return "failsafe mode is off"
	case why != "":
		return why
	}
	until := received + election.PromiseLength(*v, ttl)
	if err := a.fence(t, func(f *fencer) error {
		f.mem.promise = max(f.mem.promise, until)
		f.save(true)
		return nil
	}); err != nil {
		return "the promise could not be recorded"
	}
	a.guard.promise = max(a.guard.promise, until)
	a.note("promises %s not to race for %s", asker, until-a.now())
	a.news.raise()
	return ""
}

// promisedUntil is until when this member must not race by time. What was promised before the fencer's
// record was lost is waited out.
func (a *agent) promisedUntil() election.Instant {
	until := a.guard.promise
	if lost := a.guard.lostAt; lost > 0 && a.cluster.FailsafeRev != 0 && !a.w.bug(BugForgetPromise) {
		until = max(until, lost+max(a.ttl, a.cluster.Reign.TTL))
	}
	return until
}

// promised lets the title count from a round in which everybody promised, after the fencer has taken the
// new deadline over. It never brings back a title that has run into its margin.
func (a *agent) promised(t *task, revision int64, sent election.Instant, asked []election.FailsafeMember) (why string) {
	why = election.RoundMisses(*a.view(), asked)
	a.spare = nil
	if why != "" && !a.w.bug(BugSetGivenUp) {
		return why
	}
	own := a.own
	switch {
	case !own.Held() || a.claim || own.Revision != revision:
		return "the title changed meanwhile"
	case a.now() >= own.DemoteAt(a.margin()):
		return "the title has run into its margin"
	}
	own.Promised = max(own.Promised, sent)
	if !a.extendFence(t, own) {
		return "the fencer did not take the new deadline"
	}
	if a.own.Revision == revision {
		a.own.Promised = max(a.own.Promised, sent)
	}
	a.refreshUntil()
	return ""
}
