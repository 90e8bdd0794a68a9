package fencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// farthest bounds T: a time farther away than this is a mistake of the caller, and one that would
// disable the fence.
const farthest = time.Hour

// answer carries out one request. Whatever is refused has changed nothing.
func (s *server) answer(a *agentConn, req request) {
	s.tidy()
	resp := response{ID: req.ID}
	var err error
	if !s.current(a) {
		err = ErrSuperseded
	} else {
		switch req.Op {
		case opState, opHello:
		case opArm:
			err = s.arm(*req.Token)
		case opRenew:
			err = s.renew(req.Epoch, req.LeaderRevision, req.Until)
		case opDisarm:
			err = s.disarm(req.Epoch)
		case opStart:
			resp.Pid, err = s.start(*req.Start)
		case opPromote:
			err = s.promote(req.Epoch)
		case opStop:
			err = s.stop(req.Mode)
		case opSignal:
			err = s.signal(syscall.Signal(req.Signal))
		case opKill:
			err = s.kill(a.gone)
		case opPromise:
			err = s.promise(req.Until)
		case opPolicy:
			err = s.setPolicy(a, req.ID, req.Policy, req.Until)
		case opShutdown:
			err = s.shutdown()
		}
	}
	s.expect(req, -1)
	if err != nil {
		a.reply(failure(req.ID, err))
		return
	}
	if req.Op == opState || req.Op == opHello {
		state := s.state()
		resp.State = &state
	}
	a.reply(resp)
	if req.Op == opShutdown {
		close(s.quit)
	}
}

func (s *server) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{
		Armed: s.d.Armed, Token: s.d.Token, LastEpoch: s.d.LastEpoch,
		Busy: s.watch.busy() || s.starting > 0, Starting: s.starting > 0, Lingering: s.lingering(),
		Priority: s.watch.priority, KillMethod: "scan",
		FencedAt: s.d.FencedAt, PromiseUntil: s.d.PromiseUntil, StateLost: s.stateLost, LostAt: s.d.LostAt,
		Policy: s.d.Policy, PolicyUntil: s.d.PolicyUntil, PID: os.Getpid(),
		Wire: s.wire.state(), SecondPID: int(s.sh.spare[spareSecond].Load()), LastExitPid: s.lastExitPid, LastExit: s.lastExit,
		Problems: slices.Clone(s.problems),
	}
	if st.Policy == "" {
		st.Policy = PolicyKill
	}
	if s.groups.usable() {
		st.KillMethod = "cgroup"
	}
	for _, p := range []string{s.saveProblem, s.wire.trouble()} {
		if p != "" {
			st.Problems = append(st.Problems, p)
		}
	}
	if s.srv != nil {
		st.Postmaster, st.Adopted = s.srv.pid, s.srv.adopted
		st.Primary, st.Promoted = s.srv.primary, s.srv.promoted
		if s.srv.cgroup == nil {
			st.KillMethod = "scan"
		}
	}
	return st
}

// checkUntil refuses deadlines that have passed or are absurdly far.
func checkUntil(until time.Duration) error {
	now := Now()
	if until <= now {
		return fmt.Errorf("%w: by %s", ErrPast, now-until)
	}
	if until > now+farthest {
		return fmt.Errorf("deadline is %s away, more than %s", until-now, farthest)
	}
	return nil
}

func (s *server) arm(t Token) error {
	if err := s.setToken(t); err != nil {
		return err
	}
	s.watch.kick()
	s.kickSecond()
	s.wakeGuard()
	s.log.Info("armed", slog.Uint64("epoch", t.Epoch), slog.Int64("lease", t.Lease),
		slog.Int64("leader_revision", t.LeaderRevision), slog.Duration("until", t.Until))
	// The token counts from here on in any case. A file that cannot be written is no reason to
	// refuse: the next fencer would find a writable server without a token, and kill it.
	_ = s.save() // a failure shows in State.Problems
	return nil
}

// setToken makes the token count, first on the wire, so that the wire never closes before T.
func (s *server) setToken(t Token) error {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.mu.Lock()
	err := s.mayArm(t)
	renewal := s.d.Armed && t.Epoch == s.d.Token.Epoch
	later := t.Until > s.d.Token.Until
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if (!renewal || later) && !s.sh.letsBe() {
		if err := s.wire.until(t.Until, renewal); err != nil {
			return err
		}
	}
	defer s.liftUnarmed() // if the token does not come to count after all
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mayArm(t); err != nil {
		return err
	}
	if renewal {
		if err := s.extend(t.Until); err != nil {
			return err
		}
		s.d.Token.Lease, s.d.Token.LeaderRevision = t.Lease, t.LeaderRevision
		return nil
	}
	raw := rawDeadline(t.Until)
	s.sh.arm(t.Until, raw)
	s.d.Armed, s.d.Token, s.d.UntilRaw = true, t, raw
	s.d.LastEpoch = max(s.d.LastEpoch, t.Epoch)
	return nil
}

// mayArm says whether a token can count. Callers hold mu.
func (s *server) mayArm(t Token) error {
	if err := checkUntil(t.Until); err != nil {
		return err
	}
	if s.sh.state() == stateStruck {
		return fmt.Errorf("%w: deadline of epoch %d passed", ErrBusy, s.d.Token.Epoch)
	}
	if s.d.Armed && t.Epoch == s.d.Token.Epoch {
		return s.mayExtend()
	}
	if t.Epoch == 0 || t.Epoch <= s.d.EndedEpoch || s.d.Armed && t.Epoch < s.d.Token.Epoch {
		return fmt.Errorf("%w: %d; armed is %d, ended %d", ErrEpoch, t.Epoch, s.d.Token.Epoch, s.d.EndedEpoch)
	}
	if s.srv != nil && s.srv.condemned {
		return fmt.Errorf("%w: %s", ErrBusy, reasonUnarmed)
	}
	return nil
}

// mayExtend says that the armed T has not passed. Callers hold mu.
func (s *server) mayExtend() error {
	if s.sh.state() != stateArmed || s.sh.remaining() <= 0 {
		return fmt.Errorf("%w: that of epoch %d", ErrPast, s.d.Token.Epoch)
	}
	return nil
}

// extend moves the armed T forward. Callers hold mu.
func (s *server) extend(until time.Duration) error {
	if err := s.mayExtend(); err != nil {
		return err
	}
	if until <= s.d.Token.Until {
		return nil
	}
	raw := rawDeadline(until)
	if !s.sh.renew(until, raw) {
		return fmt.Errorf("%w: that of epoch %d", ErrPast, s.d.Token.Epoch)
	}
	s.d.Token.Until, s.d.UntilRaw = until, raw
	return nil
}

// checkEpoch is the test that every message of a reign passes. Callers hold mu.
func (s *server) checkEpoch(epoch uint64) error {
	if s.d.Armed && s.d.Token.Epoch == epoch {
		return nil
	}
	if epoch != 0 && epoch == s.d.EndedEpoch {
		return fmt.Errorf("%w: that of epoch %d", ErrPast, epoch)
	}
	if !s.d.Armed {
		return fmt.Errorf("%w: %d; nothing is armed", ErrEpoch, epoch)
	}
	return fmt.Errorf("%w: %d; armed is %d", ErrEpoch, epoch, s.d.Token.Epoch)
}

// checkToken says that the server may be made writable at this very moment.
func (s *server) checkToken(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkEpoch(epoch); err != nil {
		return err
	}
	if s.sh.state() != stateArmed || s.sh.remaining() <= 0 {
		return fmt.Errorf("%w: that of epoch %d", ErrPast, epoch)
	}
	return nil
}

func (s *server) renew(epoch uint64, revision int64, until time.Duration) error {
	s.wire.mu.Lock() // no other token meanwhile
	defer s.wire.mu.Unlock()
	s.mu.Lock()
	err := errors.Join(s.checkEpoch(epoch), checkUntil(until))
	if err == nil {
		err = s.mayExtend()
	}
	later := until > s.d.Token.Until
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if later && !s.sh.letsBe() {
		if err := s.wire.until(until, true); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.extend(until); err != nil {
		s.wire.shut() // T passed while the kernel was asked
		return err
	}
	s.d.Token.LeaderRevision = revision
	s.saveSoon()
	return nil
}

func (s *server) disarm(epoch uint64) error {
	s.opMu.Lock() // no start or promotion meanwhile
	defer s.opMu.Unlock()
	s.mu.Lock()
	armed, last := s.d.Armed, s.d.LastEpoch
	err := s.checkEpoch(epoch)
	s.mu.Unlock()
	if !armed && epoch == last {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	paused := s.d.Policy == PolicyObserve
	s.mu.Unlock()
	// A paused cluster is the operator's: the writable server may be left to itself.
	if err := s.notWritable(); err != nil && !paused {
		return err
	}
	if err := s.dropToken(); err != nil {
		return err
	}
	s.watch.kick()
	s.wakeGuard()
	_ = s.save() // a failure shows in State.Problems
	s.log.Info("disarmed", slog.Uint64("epoch", epoch))
	return nil
}

// dropToken makes no token count, and opens the wire.
func (s *server) dropToken() error {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.mu.Lock()
	if s.sh.state() != stateArmed {
		s.mu.Unlock()
		return fmt.Errorf("%w: the deadline passed", ErrBusy)
	}
	s.sh.disarm()
	s.d.Armed = false
	s.mu.Unlock()
	s.liftUnarmed()
	return nil
}

func (s *server) promise(until time.Duration) error {
	s.mu.Lock()
	if until > Now()+farthest {
		s.mu.Unlock()
		return fmt.Errorf("promise is more than %s long", farthest)
	}
	s.d.PromiseUntil = max(s.d.PromiseUntil, until)
	s.mu.Unlock()
	// A promise that could be forgotten must not be given (safety review, hole 15).
	return s.save()
}

// setPolicy takes over a policy. One that was asked for before the newest by the same agent, and comes to its
// turn only now, is not: the agent has given it up.
func (s *server) setPolicy(a *agentConn, id uint64, p Policy, until time.Duration) error {
	if p != PolicyKill && p != PolicyObserve {
		return fmt.Errorf("policy %q is unknown", p)
	}
	if !s.obey(a, id, p, until) {
		return ErrSuperseded
	}
	s.wakeGuard()
	return s.save() // without wire.mu: no renewal waits for the disk
}

func (s *server) obey(a *agentConn, id uint64, p Policy, until time.Duration) bool {
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.mu.Lock()
	if s.policyBy == a && id < s.policyID {
		s.mu.Unlock()
		return false
	}
	s.policyBy, s.policyID = a, id
	if s.srv != nil && s.d.Policy == PolicyObserve && p == PolicyKill {
		s.srv.writableSince = 0 // the grace begins now
	}
	s.d.Policy, s.d.PolicyUntil = p, until
	s.sh.obey(p, until)
	armed, deadline := s.d.Armed, s.d.Token.Until
	s.mu.Unlock()
	switch {
	case s.sh.state() == stateStruck: // until the server is proven down
	case s.sh.letsBe():
		s.wire.lift() // the kernel would not know of the policy if every process died
	case armed:
		// A deadline that has passed is the watcher's, and what fails shows in State.
		_ = s.wire.until(deadline, false)
	}
	return true
}

func (s *server) shutdown() error {
	if s.inits {
		return errors.New("this fencer is the init process: it ends when the agent exits")
	}
	s.opMu.Lock()
	defer s.opMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return fmt.Errorf("%w: postmaster %d", ErrRunning, s.srv.pid)
	}
	if s.watch.busy() {
		return ErrBusy
	}
	if s.quitting {
		return ErrBusy
	}
	s.quitting = true
	return nil
}

func (s *server) signal(sig syscall.Signal) error {
	switch sig {
	case syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
	default:
		return fmt.Errorf("signal %s is not for the agent to send", sig)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return ErrNotRunning
	}
	if err := unix.PidfdSendSignal(s.srv.pidfd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal %s: %w", sig, err)
	}
	return nil
}

func (s *server) stop(mode StopMode) error {
	switch mode {
	case Smart:
		return s.signal(syscall.SIGTERM)
	case Fast:
		return s.signal(syscall.SIGINT)
	case Immediate:
		return s.signal(syscall.SIGQUIT)
	}
	return fmt.Errorf("stop mode %q is unknown", mode)
}

// saver writes the state file behind renewals, the newest only.
func (s *server) saver(ctx context.Context) {
	for {
		select {
		case <-s.dirty:
			_ = s.save() // a failure shows in State.Problems
		case <-ctx.Done():
			_ = s.save()
			return
		}
	}
}

func (s *server) saveSoon() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// save writes the state file. A failure is kept as a problem until a save succeeds.
func (s *server) save() error {
	s.saveMu.Lock()
	defer s.saveMu.Unlock()
	s.mu.Lock()
	d := s.d
	if d.Server != nil {
		c := *d.Server
		d.Server = &c
	}
	s.mu.Unlock()
	d.Version, d.BootID = durableVersion, s.boot
	err := saveDurable(s.own, s.opts.Dir, d)
	s.mu.Lock()
	s.saveProblem = ""
	if err != nil {
		s.saveProblem = err.Error()
	}
	s.mu.Unlock()
	return err
}

func collectGarbage() { runtime.GC() }
