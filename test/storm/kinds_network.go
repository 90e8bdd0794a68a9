package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func networkKinds() []kind {
	return []kind{
		{name: "cut off", weight: 6, begin: partition(cluster.FromEveryone)},
		{name: "cut off from etcd", weight: 4, begin: partition(cluster.FromEtcd)},
		{name: "cut off from members", weight: 4, begin: partition(cluster.FromMembers)},
		{name: "hears nobody", weight: 3, begin: oneWay(cluster.Incoming)},
		{name: "heard by nobody", weight: 3, begin: oneWay(cluster.Outgoing)},
		{name: "cut off from one", weight: 3, begin: cutFromOne},
		{name: "cut off from clients", weight: 2, begin: cutFromClients},
		{name: "packet loss", weight: 4, begin: loss},
		{name: "slow link", weight: 3, begin: narrow},
		{name: "slow etcd", weight: 3, begin: slowEtcd},
	}
}

// linked notes a fault of a member's links, which Heal undoes. Two at once on one member would be
// healed together, so the second is void.
func (sc *scene) linked(m *cluster.Member) error {
	if sc.s.cut[m] {
		return fmt.Errorf("%w: the links of %s are broken already", errVoid, m.Name)
	}
	sc.s.cut[m] = true
	sc.undoLater(func(ctx context.Context) error {
		delete(sc.s.cut, m)
		return m.Heal(ctx)
	})
	return nil
}

func partition(from cluster.From) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		m := sc.victim()
		if err := sc.linked(m); err != nil {
			return err
		}
		switch from {
		case cluster.FromEveryone:
			sc.moves = m == sc.primary && (sc.outlasts() || sc.synchronous())
		case cluster.FromEtcd:
			sc.moves = m == sc.primary && sc.outlasts()
		case cluster.FromMembers:
			sc.moves = m == sc.primary && sc.synchronous()
		}
		return m.Partition(ctx, from)
	}
}

func oneWay(d cluster.Direction) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		m := sc.victim()
		if err := sc.linked(m); err != nil {
			return err
		}
		sc.moves = m == sc.primary && (sc.outlasts() || sc.synchronous())
		return m.CutOneWay(ctx, d)
	}
}

// cutFromOne cuts the link between two members, or of a member to one member of etcd.
func cutFromOne(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if err := sc.linked(m); err != nil {
		return err
	}
	others := sc.s.c.Others(m)
	far, name := others[sc.rng.IntN(len(others))].PG(), ""
	if n := sc.rng.IntN(2 + len(sc.s.c.Etcd.Members)); n >= 2 {
		far, name = sc.s.c.Etcd.Endpoints()[n-2], "etcd "
	}
	sc.what += " from " + name + far
	return m.CutFrom(ctx, far)
}

// cutFromClients: the cluster is whole, and the proxy and the clients do not reach a member.
func cutFromClients(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if err := sc.linked(m); err != nil {
		return err
	}
	return m.CutFrom(ctx, sc.s.c.Client())
}

func loss(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if err := sc.linked(m); err != nil {
		return err
	}
	part := 0.1 + 0.6*sc.rng.Float64()
	sc.moves = m == sc.primary
	sc.what += fmt.Sprintf(", %.0f %%", 100*part)
	return m.Lose(ctx, part)
}

// narrow makes a member's answers slow: 64 to 256 kbit a second is less than the WAL of the storm's
// clients.
func narrow(_ context.Context, sc *scene) error {
	m := sc.victim()
	if sc.s.narrow[m] {
		return fmt.Errorf("%w: the link of %s is narrow already", errVoid, m.Name)
	}
	rate := 64_000 + sc.rng.IntN(192_000)
	sc.moves = m == sc.primary
	sc.what += fmt.Sprintf(", %d kbit/s", rate/1000)
	if err := m.Narrow(rate); err != nil {
		return err
	}
	sc.s.narrow[m] = true
	sc.undoLater(func(context.Context) error {
		delete(sc.s.narrow, m)
		return m.Widen()
	})
	return nil
}

// slowEtcd delays what a member says to etcd and hears from it, through proxies on its own machine.
func slowEtcd(ctx context.Context, sc *scene) error {
	m := sc.victim()
	if sc.s.etcdBroken || sc.s.cut[m] {
		return fmt.Errorf("%w: etcd is out of reach of %s already", errVoid, m.Name)
	}
	relays := sc.s.relays[m]
	delay := between(sc.rng, 20*time.Millisecond, sc.s.o.ttl/4)
	sc.moves = m == sc.primary && delay > sc.s.o.ttl/25
	sc.what += fmt.Sprintf(", %s each way", round(delay))
	for _, r := range relays {
		r.setDelay(delay)
	}
	sc.undoLater(func(context.Context) error {
		for _, r := range relays {
			r.setDelay(0)
		}
		return nil
	})
	return proveDelay(ctx, m, relays[0], delay)
}
