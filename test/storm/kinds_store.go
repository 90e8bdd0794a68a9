package main

import (
	"context"
	"fmt"

	"github.com/pgha/pgha/test/cluster"
)

func storeKinds() []kind {
	return []kind{
		{name: "kill one etcd", weight: 3, begin: oneEtcd(false, false)},
		{name: "kill etcd's leader", weight: 4, begin: oneEtcd(true, false)},
		{name: "freeze etcd's leader", weight: 3, begin: oneEtcd(true, true)},
		{name: "kill etcd's majority", weight: 3, begin: mostEtcd(false)},
		{name: "freeze etcd's majority", weight: 3, begin: mostEtcd(true)},
	}
}

// store notes a fault of etcd, of which there is one at a time: Restore undoes them all.
func (sc *scene) store() error {
	if sc.s.etcdBroken {
		return fmt.Errorf("%w: etcd is broken already", errVoid)
	}
	sc.s.etcdBroken = true
	sc.undoLater(func(ctx context.Context) error {
		sc.s.etcdBroken = false
		return sc.s.c.Etcd.Restore(ctx)
	})
	return nil
}

// oneEtcd takes one member of etcd away: a majority is left.
func oneEtcd(leads, frozen bool) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		if err := sc.store(); err != nil {
			return err
		}
		leader, err := sc.s.c.Etcd.Leader(ctx)
		if err != nil {
			return err
		}
		victim := leader
		for !leads && victim == leader {
			victim = sc.s.c.Etcd.Members[sc.rng.IntN(len(sc.s.c.Etcd.Members))]
		}
		sc.what = victim.Name
		if frozen {
			return victim.Freeze(ctx)
		}
		return victim.Kill(ctx)
	}
}

// mostEtcd takes so many members of etcd away that the rest cannot decide.
func mostEtcd(frozen bool) func(context.Context, *scene) error {
	return func(ctx context.Context, sc *scene) error {
		if err := sc.store(); err != nil {
			return err
		}
		sc.moves = sc.outlasts()
		var err error
		var victims []*cluster.EtcdMember
		if frozen {
			victims, err = sc.s.c.Etcd.FreezeMajority(ctx)
		} else {
			victims, err = sc.s.c.Etcd.KillMajority(ctx)
		}
		for _, v := range victims {
			sc.what += v.Name + " "
		}
		return err
	}
}
