package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// fault is a way to disturb a cluster and to repair it.
type fault struct {
	name   string
	inject func(ctx context.Context, c *cluster.Cluster, primary *cluster.Member) error
	heal   func(ctx context.Context, c *cluster.Cluster, old *cluster.Member) error
	// moves: another member must be primary afterwards.
	moves bool
}

func nothing(context.Context, *cluster.Cluster, *cluster.Member) error { return nil }

func faultTable() []fault {
	return []fault{
		{name: "none", inject: nothing, heal: nothing},
		{name: "switchover", inject: switchover, heal: nothing, moves: true},
		{
			name: "postmaster",
			inject: func(ctx context.Context, _ *cluster.Cluster, m *cluster.Member) error {
				return m.Kill9(ctx, cluster.Postmaster)
			},
			heal: nothing,
		},
		{
			name: "node",
			inject: func(ctx context.Context, _ *cluster.Cluster, m *cluster.Member) error {
				return m.PowerOff(ctx)
			},
			heal: func(ctx context.Context, _ *cluster.Cluster, m *cluster.Member) error {
				return m.PowerOn(ctx)
			},
			moves: true,
		},
		{
			name: "partition",
			inject: func(ctx context.Context, _ *cluster.Cluster, m *cluster.Member) error {
				return m.Partition(ctx, cluster.FromEveryone)
			},
			heal: func(ctx context.Context, _ *cluster.Cluster, m *cluster.Member) error {
				return m.Heal(ctx)
			},
			moves: true,
		},
	}
}

func switchover(ctx context.Context, c *cluster.Cluster, old *cluster.Member) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	candidate := c.Others(old)[0]
	answer, err := old.HTTP(ctx, http.MethodPost, "/switchover", map[string]any{"leader": old.Name, "candidate": candidate.Name})
	if err != nil {
		return fmt.Errorf("switchover: %w", err)
	}
	if answer.Code != http.StatusOK {
		return fmt.Errorf("switchover: %d %s", answer.Code, answer.Body)
	}
	return nil
}
