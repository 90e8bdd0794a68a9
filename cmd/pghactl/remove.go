package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/dcs"
)

const removePhrase = "Yes I am aware"

func newRemoveCmd(a *app) *cobra.Command {
	var force bool
	var leader string
	cmd := &cobra.Command{
		Use:   "remove CLUSTER",
		Short: "Delete a cluster's keys from the consensus store",
		Long: `Delete everything the consensus store holds about a cluster. No data of PostgreSQL is touched, but agents that
still run see an empty store: stop them first, or they write their keys again.

It asks three times. In a script, --force takes the place of the questions; if there is a leader it must
be named with --leader.`,
		Example: `  pghactl remove demo
  pghactl remove demo --force`,
		Args: argsBetween(1, 1, "exactly one cluster name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runRemove(cmd.Context(), args[0], force, leader)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addForce(cmd, &force)
	cmd.Flags().StringVar(&leader, "leader", "", "with --force: the leader, if there is one")
	return cmd
}

func (a *app) runRemove(ctx context.Context, name string, force bool, leader string) error {
	s, err := a.connect(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	printCluster(a.env.stderr, viewOf(c, s.settings), listOptions{})
	a.env.say("\nAll keys under %s will be deleted. PostgreSQL's data stays.", s.settings.basePath())
	if err := a.confirmRemove(c, force, leader); err != nil {
		return err
	}
	n, err := s.deleteAll(ctx, c)
	if err != nil {
		return err
	}
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, struct {
			Cluster string `json:"cluster"`
			Keys    int    `json:"keys_deleted"`
		}{c.scope, n})
	}
	fmt.Fprintf(a.env.stdout, "Success: %d keys of cluster %s deleted\n", n, c.scope)
	return nil
}

func (a *app) confirmRemove(c *cluster, force bool, leader string) error {
	if force {
		if c.Leader.Present && leader != c.Leader.Name {
			return withHint(fmt.Errorf("cluster %s has a leader, %s", c.scope, c.Leader.Name),
				"stop its agents first, or name the leader too: --leader %s", c.Leader.Name)
		}
		return nil
	}
	if !a.env.stdinTTY {
		return withHint(fmt.Errorf("standard input is not a terminal, so nobody can confirm"), "in a script add --force, and --leader if there is a leader")
	}
	ask := newAsker(a.env, false)
	expect := []struct{ question, answer string }{
		{"Please confirm the cluster name to remove", c.scope},
		{fmt.Sprintf("You are about to remove all information about %s; type %q", c.scope, removePhrase), removePhrase},
	}
	if c.Leader.Present {
		expect = append(expect, struct{ question, answer string }{"This cluster has a leader. Please give its name", c.Leader.Name})
	}
	for _, e := range expect {
		got, err := ask.line(e.question, "")
		if err != nil {
			return err
		}
		if got != e.answer {
			return fmt.Errorf("the answer %q is not %q: %w", got, e.answer, errAborted)
		}
	}
	return nil
}

// deleteBatch keeps a transaction below the store's limit of operations.
const deleteBatch = 100

// deleteAll deletes the keys that were shown. The first transaction compares the leader key, so that
// a cluster that changed hands meanwhile is left alone.
func (s *session) deleteAll(ctx context.Context, c *cluster) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 6*loadTimeout)
	defer cancel()
	kvs := c.snapshot.KVs
	guard := []dcs.Cmp{{Key: dcs.KeyLeader, Kind: dcs.CmpModRevision, Revision: c.Leader.ModRevision}}
	for start := 0; start < len(kvs); start += deleteBatch {
		txn := dcs.Txn{If: guard}
		for _, kv := range kvs[start:min(start+deleteBatch, len(kvs))] {
			txn.Then = append(txn.Then, dcs.Op{Key: kv.Key, Delete: true})
		}
		res, err := s.store.Apply(ctx, txn)
		if err != nil {
			return start, fmt.Errorf("delete the keys of %s: %w", c.scope, err)
		}
		if !res.Done {
			return start, withHint(fmt.Errorf("the leader of cluster %s changed meanwhile; nothing was deleted", c.scope), "look again: pghactl list %s", c.scope)
		}
		guard = nil
	}
	return len(kvs), nil
}
