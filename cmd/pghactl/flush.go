package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/dcs"
)

func newFlushCmd(a *app) *cobra.Command {
	var role string
	var force bool
	cmd := &cobra.Command{
		Use:   "flush [CLUSTER] [MEMBER…] {restart|switchover}",
		Short: "Drop what was scheduled",
		Long:  `Drop a scheduled switchover, or the scheduled restarts of members.`,
		Example: `  pghactl flush demo switchover
  pghactl flush demo b restart --force`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[len(args)-1] == "restart" || args[len(args)-1] == "switchover") {
				return nil
			}
			return withHint(usagef("flush what?"), "end the command with restart or switchover")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what, rest := args[len(args)-1], args[:len(args)-1]
			s, c, names, err := a.connectMembers(cmd.Context(), rest)
			if err != nil {
				return err
			}
			defer s.close()
			if what == "switchover" {
				return a.flushSwitchover(cmd.Context(), s, c, force)
			}
			return a.flushRestarts(cmd.Context(), s, c, names, role, force)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			words := append([]string{"restart", "switchover"}, a.memberCompletions(cmd.Context(), firstArg(args))...)
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().StringVarP(&role, "role", "r", "any", "only members of this role")
	completeWith(cmd, "role", memberRoles()...)
	addForce(cmd, &force)
	return cmd
}

func (a *app) flushRestarts(ctx context.Context, s *session, c *cluster, names []string, role string, force bool) error {
	members, err := pickMembers(c, names)
	if err != nil {
		return err
	}
	if members, err = ofRole(c, members, role); err != nil {
		return err
	}
	if err := a.confirmOn(c, force, "drop the scheduled restarts of "+joinMembers(members)); err != nil {
		return err
	}
	res := &results{app: a}
	for _, m := range members {
		if m.ScheduledRestart == nil {
			res.add(actionResult{Member: m.Name, Action: "flush restart", OK: true, Message: "no scheduled restart for member " + m.Name})
			continue
		}
		rep, err := s.ask(ctx, m, http.MethodDelete, "/restart", nil)
		res.add(resultOf(m, "flush restart", rep, err, "scheduled restart of member "+m.Name+" dropped", http.StatusOK, http.StatusNotFound))
	}
	return res.finish("flush")
}

// flushSwitchover asks the members, the leader first; if none of them can be asked it clears the
// request in the store itself, but only the one that was seen.
func (a *app) flushSwitchover(ctx context.Context, s *session, c *cluster, force bool) error {
	res := &results{app: a}
	if c.Failover.IsZero() || c.Failover.ScheduledAt.IsZero() {
		res.add(actionResult{Action: "flush switchover", OK: true, Message: "no pending scheduled switchover"})
		return res.finish("flush")
	}
	if err := a.confirmOn(c, force, "drop the switchover scheduled for "+c.Failover.ScheduledAt.UTC().Format("2006-01-02T15:04:05Z")); err != nil {
		return err
	}
	for _, m := range leaderFirst(c) {
		rep, err := s.ask(ctx, m, http.MethodDelete, "/switchover", nil)
		if err == nil && (rep.Code == http.StatusOK || rep.Code == http.StatusNotFound) {
			res.add(actionResult{Member: m.Name, Action: "flush switchover", OK: true, Status: rep.Code, Message: rep.Text})
			return res.finish("flush")
		}
		a.env.say("%s", resultOf(m, "flush switchover", rep, err, "").Message)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	done, err := s.store.Apply(ctx, dcs.ClearFailover(c.Failover.ModRevision))
	if err != nil {
		return fmt.Errorf("clear the request in the store: %w", err)
	}
	if !done.Done {
		return withHint(fmt.Errorf("the request was changed by somebody else meanwhile"), "look again: pghactl list %s", c.scope)
	}
	res.add(actionResult{Action: "flush switchover", OK: true, Message: "scheduled switchover dropped in the store"})
	return res.finish("flush")
}
