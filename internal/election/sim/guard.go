package sim

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// runFencer owns the connection to the fencer: it starts one if none lives, and connects again when
// the connection breaks.
func (a *agent) runFencer(t *task) {
	for {
		f := &a.n.fencer
		if !f.p.alive {
			t.sleep(a.w.between(30*time.Millisecond, 300*time.Millisecond))
			if !f.p.alive {
				f.begin()
			}
		}
		a.fencerGone.raised = false
		st := guard{}
		connected := a.ask(t, 5*time.Second, func(f *fencer) error {
			if f.agent != nil && f.agent != a && f.agent.p.alive {
				return errNot("superseded")
			}
			f.agent = a
			st = guard{
				connected: true, armed: f.mem.armed, tok: f.mem.tok, last: f.mem.last, pid: f.pid, dying: f.goes(),
				promise: f.mem.promise, lostAt: f.mem.lostAt,
				unanswered: f.comes(),
			}
			return nil
		})
		if connected != nil || !f.p.alive {
			t.sleep(fencerRetry)
			continue
		}
		st.ackAt = a.now()
		a.guard = st
		if st.unanswered {
			a.unsure()
		}
		a.firstFencer.raise()
		if a.isSettled && a.own.Held() {
			if _, err := a.ensureArmed(t); err == nil {
				a.kick.raise()
			}
		}
		a.look.raise()
		a.news.raise()
		for a.guard.connected {
			t.on(&a.fencerGone, 0)
		}
		a.news.raise()
		t.sleep(fencerRetry)
	}
}

// ask sends the fencer one request and waits for its answer. A frozen fencer takes it up when it
// thaws, whether anybody waits or not.
func (a *agent) ask(t *task, bound time.Duration, do func(*fencer) error) error {
	f := &a.n.fencer
	if !f.p.alive {
		return errNoFencer
	}
	type answer struct {
		err  error
		done bool
	}
	ans := &answer{}
	gen := t.gen
	shield := t.shielded
	t.shielded = true
	a.w.after(a.w.between(50*time.Microsecond, time.Millisecond), func() {
		f.p.run(func() {
			ans.err, ans.done = do(f), true
			a.w.wake(f.says(100*time.Microsecond), t, gen, false)
		})
	})
	limit := a.w.wake(a.n.trueTime(bound), t, gen, true)
	t.wait()
	a.w.callOff(limit)
	t.shielded = shield
	if !ans.done {
		return errNoAnswer
	}
	return ans.err
}

// fence is ask on the connection that stands.
func (a *agent) fence(t *task, do func(*fencer) error) error {
	return a.fenceWithin(t, fencerCall, do)
}

func (a *agent) fenceWithin(t *task, bound time.Duration, do func(*fencer) error) error {
	if !a.guard.connected {
		return errNoFencer
	}
	return a.ask(t, bound, func(f *fencer) error {
		if f.agent != a {
			return errNot("superseded")
		}
		return do(f)
	})
}

// arm gives the fencer a token with a fresh epoch and returns that epoch.
func (a *agent) arm(t *task, tok token) (uint64, error) {
	tok.epoch = a.guard.last + 1
	if err := a.fence(t, func(f *fencer) error { return f.arm(tok) }); err != nil {
		if !a.w.bug(BugStaleEpoch) {
			// It may have been armed, and struck since: the next epoch must be a later one.
			_ = a.refresh(t)
		}
		return 0, err
	}
	a.guard.armed, a.guard.tok = true, tok
	a.guard.last = max(a.guard.last, tok.epoch)
	a.guard.ackAt = a.now()
	return tok.epoch, nil
}

func (a *agent) startServer(t *task, spec startSpec) error {
	if !a.guard.connected || !a.n.fencer.p.alive {
		a.unsure()
		return errNoFencer
	}
	pid := 0
	// It counts as asked for from now on: requests arrive in order, though they are carried out in any.
	starting := a.n.fencer.starting
	*starting++
	a.guard.asking = true
	err := a.ask(t, fencerCall, func(f *fencer) error {
		*starting--
		if f.agent != a {
			return errNot("superseded")
		}
		if err := f.start(spec); err != nil {
			return err
		}
		pid = f.pid
		return nil
	})
	a.guard.asking = false
	if err != nil {
		if !a.w.bug(BugStaleServer) {
			a.unsure()
		}
		return err
	}
	a.guard.pid, a.guard.dying, a.guard.unanswered = pid, false, false
	a.look.raise()
	return nil
}

// unsure: a start was asked for and not answered, or refused because something runs. Until the
// fencer has said how things stand, the server does not count as down.
func (a *agent) unsure() {
	a.guard.dying, a.guard.unanswered = true, !a.w.bug(BugOvertakenStart)
	a.once("ask the fencer", func(t *task) error {
		for a.guard.connected && a.guard.dying && a.guard.pid == 0 {
			if a.refresh(t) == nil {
				a.look.raise()
			}
			t.sleep(fencerRetry)
		}
		return nil
	})
}

// refresh takes over what the fencer says of itself now, unless an event overtook the answer.
func (a *agent) refresh(t *task) error {
	st, told := guard{}, a.guard.told
	err := a.fence(t, func(f *fencer) error {
		st = guard{
			armed: f.mem.armed, tok: f.mem.tok, last: f.mem.last, pid: f.pid, dying: f.goes(),
			promise: f.mem.promise, lostAt: f.mem.lostAt,
			unanswered: f.comes(),
		}
		return nil
	})
	if err != nil || a.guard.told != told {
		return err
	}
	g := &a.guard
	g.armed, g.tok, g.last, g.pid, g.dying = st.armed, st.tok, st.last, st.pid, st.dying
	g.promise, g.lostAt = max(g.promise, st.promise), st.lostAt
	g.unanswered = st.unanswered
	return nil
}

// What the fencer reports by itself.

func (a *agent) serverExited(pid int) {
	a.guard.told++
	if a.guard.pid == pid || a.guard.pid == 0 {
		a.guard.pid, a.guard.dying = 0, true
	}
	a.look.raise()
	a.news.raise()
}

// serverDown: of an earlier server than the one that runs, perhaps, or than the one that an unanswered
// start may still bring up.
func (a *agent) serverDown(pid int) {
	a.guard.told++
	if a.guard.pid == pid || a.guard.pid == 0 {
		a.guard.pid, a.guard.dying = 0, a.guard.unanswered
	}
	a.down.raise()
	a.look.raise()
	a.news.raise()
}

func (a *agent) fenced() {
	a.guard.told++
	a.guard.dying, a.guard.armed = true, false
	a.look.raise()
	a.news.raise()
}

func (a *agent) fencerLost() {
	a.guard.connected = false
	a.fencerGone.raise()
	a.news.raise()
}

// isDown says that no process of the server is left, by the fencer's word.
func (a *agent) isDown() bool { return a.guard.connected && a.guard.pid == 0 && !a.guard.dying }

// waitDown waits until the server is proven down.
func (a *agent) waitDown(t *task, bound time.Duration) bool {
	limit := a.now() + bound
	asked := a.now()
	for !a.isDown() {
		if a.now() >= limit || !t.sleep(pollEvery) {
			return a.isDown()
		}
		if a.now()-asked > time.Second {
			// The event may have gone to a connection that broke: ask.
			asked = a.now()
			_ = a.refresh(t)
		}
	}
	return true
}

// killServer runs the down procedure and waits for its end.
func (a *agent) killServer(t *task, bound time.Duration) error {
	limit := a.now() + bound
	if err := a.fence(t, func(f *fencer) error { f.down(); return nil }); err != nil {
		return err
	}
	for a.n.fencer.p.alive && a.n.fencer.busy {
		if a.now() >= limit || !t.sleep(pollEvery) {
			return errNot("kill: not done in time")
		}
	}
	if a.n.fencer.agent != a {
		return errNoFencer
	}
	return nil
}

// setUntil says how long /primary may answer 200.
func (a *agent) setUntil(u election.Instant) {
	if a.until != u {
		a.until = u
		a.w.checks.health(a.n)
	}
}

// refreshUntil computes that line from title, fencer and server.
func (a *agent) refreshUntil() {
	own := a.own
	if a.claim {
		own = election.Own{}
	}
	ok := a.answering && a.local.Role == election.RolePrimary && a.local.Server == election.ServerRunning && a.state == "" && a.seen
	if !ok || !a.guard.connected || !own.Held() || !a.guard.armed {
		a.setUntil(0)
		return
	}
	if a.w.bug(BugEarlyHealth) {
		a.setUntil(own.ExpiresAt())
		return
	}
	if c := &a.cluster; (c.Revision > own.Revision && c.Leader.ModRevision != own.Revision || own.Revision == a.refuted) && !a.w.bug(BugLateRed) {
		a.setUntil(0) // the store has shown another leader
		return
	}
	m := a.margin()
	until := min(own.DemoteAt(m), a.guard.tok.until-m)
	if heard, ok := a.heardAt(own); ok && !a.w.bug(BugLateRed) {
		// Voters freeze no sooner than the silence after they last heard this leader.
		until = min(until, election.ShownUntil(own, heard, a.set.Silence))
	}
	if left := a.notBefore - a.now(); left > 0 {
		until = 0
		a.w.after(a.n.trueTime(left), func() { a.p.run(a.refreshUntil) })
	}
	a.setUntil(until)
}
