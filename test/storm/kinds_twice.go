package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func twiceKinds() []kind {
	return []kind{
		{name: "primary lost twice", weight: 6, alone: true, begin: lostTwice},
		{name: "all nodes lost", weight: 2, alone: true, begin: allLost},
	}
}

// loss of a whole node in one of three ways.
func (sc *scene) loseNode(ctx context.Context, m *cluster.Member) (string, error) {
	switch sc.rng.IntN(3) {
	case 0:
		return "kill", sc.down(ctx, m, cluster.Node)
	case 1:
		if err := sc.linked(m); err != nil {
			return "cut off", err
		}
		return "cut off", m.Partition(ctx, cluster.FromEveryone)
	}
	if err := m.Freeze(ctx, cluster.Node); err != nil {
		return "freeze", err
	}
	sc.undoLater(m.Thaw)
	return "freeze", nil
}

// lostTwice takes the primary's node away, and its successor's as soon as there is one: before it
// has told anybody who its standbys are, or a little later.
func lostTwice(ctx context.Context, sc *scene) error {
	sc.moves = true
	first := sc.primary
	how, err := sc.loseNode(ctx, first)
	if err != nil {
		return err
	}
	var second *cluster.Member
	err = sc.s.until(ctx, sc.s.o.heal, func(ctx context.Context) (bool, string) {
		for _, m := range sc.s.c.Others(first) {
			if m.Code(ctx, "/primary") == 200 {
				second = m
			}
		}
		return second != nil, "nobody has taken over from " + first.Name
	})
	if err != nil {
		return err
	}
	delay := between(sc.rng, 0, 1500*time.Millisecond)
	if err := sc.s.pass(ctx, delay); err != nil {
		return err
	}
	then, err := sc.loseNode(ctx, second)
	sc.what = fmt.Sprintf("%s %s, %s successor %s after %s", how, first.Name, then, second.Name, round(delay))
	return err
}

// allLost takes the power of every node, one shortly after the other, as a data centre loses it.
func allLost(ctx context.Context, sc *scene) error {
	sc.moves, sc.what = true, "in the order"
	order := sc.rng.Perm(len(sc.s.c.Members))
	for i, n := range order {
		m := sc.s.c.Members[n]
		if i > 0 {
			if err := sc.s.pass(ctx, between(sc.rng, 0, 500*time.Millisecond)); err != nil {
				return err
			}
		}
		if err := sc.down(ctx, m, cluster.Node); err != nil {
			return err
		}
		sc.what += " " + m.Name
	}
	return nil
}
