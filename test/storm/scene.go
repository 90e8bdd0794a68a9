package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// kind is a way to break the cluster.
type kind struct {
	name   string
	weight int
	// alone: no second fault and no command at the same time.
	alone bool
	// begin makes the fault and proves it; what undoes it is left with the scene. errVoid says that
	// there was nothing to break.
	begin func(ctx context.Context, sc *scene) error
}

// errVoid is the error of a second fault that found its victim gone already.
var errVoid = errors.New("nothing left to break")

// scene is one fault on its way.
type scene struct {
	s   *storm
	rng *rand.Rand
	// primary when the step began; it may be none any more by the time of a second fault.
	primary *cluster.Member
	hold    time.Duration
	// second: another fault is already there.
	second bool
	// moves: the fault gives a reason for another primary. what says what was done to whom.
	moves bool
	what  string
	undo  []func(ctx context.Context) error
}

func (sc *scene) undoLater(f func(ctx context.Context) error) { sc.undo = append(sc.undo, f) }

// end undoes the fault, last thing first.
func (sc *scene) end(ctx context.Context) error {
	var errs []error
	for _, f := range slices.Backward(sc.undo) {
		errs = append(errs, f(ctx))
	}
	return errors.Join(errs...)
}

// victim draws a member, the primary three times in five, and notes who it is.
func (sc *scene) victim() *cluster.Member {
	m := sc.primary
	if sc.rng.Float64() >= 0.6 {
		others := sc.s.c.Others(sc.primary)
		m = others[sc.rng.IntN(len(others))]
	}
	sc.what = sc.role(m)
	return m
}

func (sc *scene) role(m *cluster.Member) string {
	if m == sc.primary {
		return "primary " + m.Name
	}
	return "standby " + m.Name
}

// outlasts: the fault lasts longer than what the cluster sits out without moving the primary.
func (sc *scene) outlasts() bool { return sc.hold > sc.s.o.ttl/4 }

// synchronous: the members watch each other, and act without waiting for the lease.
func (sc *scene) synchronous() bool { return sc.s.o.mode != cluster.Asynchronous }

// lives fails with errVoid if a second fault's victim is gone already.
func (sc *scene) lives(m *cluster.Member, kinds cluster.Kind) error {
	found, err := m.Processes(kinds)
	if err != nil {
		return err
	}
	if len(found) == 0 && sc.second {
		return fmt.Errorf("%w: %s of %s", errVoid, kinds, m.Name)
	}
	if len(found) == 0 {
		return fmt.Errorf("%s of %s: no such process in a healthy cluster", kinds, m.Name)
	}
	return nil
}

// down kills processes and, if the agent was among them, starts it again when the fault ends: the
// supervisor that every installation has.
func (sc *scene) down(ctx context.Context, m *cluster.Member, kinds cluster.Kind) error {
	if err := sc.lives(m, kinds); err != nil {
		return err
	}
	if m.Frozen() {
		return fmt.Errorf("%w: %s is frozen", errVoid, m.Name)
	}
	if kinds&cluster.Agent != 0 {
		sc.s.expect(m)
		sc.undoLater(func(context.Context) error {
			sc.s.unexpect(m)
			return m.Start()
		})
	}
	return m.Kill9(ctx, kinds)
}
