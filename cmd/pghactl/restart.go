package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/election"
)

type restartOptions struct {
	role      string
	anyOne    bool
	scheduled string
	version   string
	pending   bool
	timeout   string
	force     bool
	keepGoing bool
	wait      waitOptions
}

// restartLimit bounds the wait for one restart when the operator gave no --timeout: the shutdown
// checkpoint of a big server takes minutes.
const restartLimit = time.Hour

func newRestartCmd(a *app) *cobra.Command {
	var opt restartOptions
	cmd := &cobra.Command{
		Use:   "restart [CLUSTER] [MEMBER…]",
		Short: "Restart PostgreSQL on members, one after the other",
		Long: `Restart PostgreSQL on members, one after the other: those that are named in the order given, otherwise
all of them, standbys first and the leader last. It stops at the first failure unless --keep-going is given.

A restart of the leader interrupts writes; it is no failover unless the server does not come back.
Settings that must not be lower on a standby than on the primary (max_connections and others) want
the standbys first when they grow and the leader first when they shrink: name the members in that order.`,
		Example: `  pghactl restart demo --pending
  pghactl restart demo b c --force --wait
  pghactl restart demo b --scheduled 2031-05-04T03:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runRestart(cmd.Context(), args, opt)
		},
		ValidArgsFunction: a.memberArgs,
	}
	f := cmd.Flags()
	f.StringVarP(&opt.role, "role", "r", "any", "only members of this role")
	f.BoolVar(&opt.anyOne, "any", false, "just one of the members that fit")
	f.StringVar(&opt.scheduled, "scheduled", "", "when, such as 2031-05-04T03:00Z or now")
	f.StringVar(&opt.version, "pg-version", "", "only if the server is older than this, such as 15.4")
	f.BoolVar(&opt.pending, "pending", false, "only members that need a restart")
	f.StringVar(&opt.timeout, "timeout", "", "seconds PostgreSQL may take to start before the agent gives up")
	f.BoolVar(&opt.keepGoing, "keep-going", false, "go on with the other members after a failure")
	addForce(cmd, &opt.force)
	opt.wait.add(cmd, "each member runs, and streams if it is a standby", 5*time.Minute)
	completeWith(cmd, "role", memberRoles()...)
	return cmd
}

// addForce adds --force and its other name.
func addForce(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "force", false, "do not ask")
	cmd.Flags().BoolVarP(into, "yes", "y", false, "the same as --force")
}

func (a *app) runRestart(ctx context.Context, args []string, opt restartOptions) error {
	at, err := parseWhen(opt.scheduled, a.env.now())
	if err != nil {
		return err
	}
	s, c, names, err := a.connectMembers(ctx, args)
	if err != nil {
		return err
	}
	defer s.close()
	if !at.IsZero() && c.config.pause {
		return withHint(fmt.Errorf("a restart cannot be scheduled in maintenance mode"), "restart now, or end it first: pghactl resume %s", c.scope)
	}
	members, err := restartMembers(c, names, opt, at)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		a.env.say("no member needs a restart")
		return (&results{app: a}).finish("restart")
	}
	what := fmt.Sprintf("restart PostgreSQL on %s, one after the other", joinMembers(members))
	if !at.IsZero() {
		what = fmt.Sprintf("schedule a restart of %s for %s", joinMembers(members), at.Format(time.RFC3339))
	}
	for _, m := range members {
		if c.isLeader(m) {
			what += fmt.Sprintf(" (%s is the leader: writes stop meanwhile)", m.Name)
		}
	}
	if err := a.confirmOn(c, opt.force, what); err != nil {
		return err
	}
	return a.restartAll(ctx, s, members, opt, at)
}

// confirmOn says what will happen to a cluster and asks.
func (a *app) confirmOn(c *cluster, force bool, what string) error {
	a.env.say("cluster %s: %s", c.scope, what)
	return newAsker(a.env, force).confirm("Go ahead?")
}

// restartMembers chooses and orders the members.
func restartMembers(c *cluster, names []string, opt restartOptions, at time.Time) ([]member, error) {
	picked, err := pickMembers(c, names)
	if err != nil {
		return nil, err
	}
	if picked, err = ofRole(c, picked, opt.role); err != nil {
		return nil, err
	}
	var members, last []member
	for _, m := range picked {
		switch {
		case opt.pending && at.IsZero() && !m.PendingRestart:
		case len(names) == 0 && c.isLeader(m):
			last = append(last, m)
		default:
			members = append(members, m)
		}
	}
	members = append(members, last...)
	if opt.anyOne && len(members) > 1 {
		members = members[:1]
	}
	return members, nil
}

func (a *app) restartAll(ctx context.Context, s *session, members []member, opt restartOptions, at time.Time) error {
	body := map[string]any{}
	if opt.version != "" {
		body["postgres_version"] = opt.version
	}
	if opt.timeout != "" {
		body["timeout"] = opt.timeout
	}
	if opt.pending {
		body["restart_pending"] = true
	}
	if !at.IsZero() {
		body["schedule"] = at.Format(time.RFC3339)
	}
	res := &results{app: a}
	for i, m := range members {
		row := a.restartOne(ctx, s, m, body, opt.force)
		if row.OK && opt.wait.wait && at.IsZero() {
			if err := s.waitRunning(ctx, m, opt.wait.timeout); err != nil {
				row.OK, row.Message = false, fmt.Sprintf("member %s was restarted: %s", m.Name, err)
			}
		}
		res.add(row)
		if rest := members[i+1:]; !row.OK && !opt.keepGoing && len(rest) > 0 {
			a.env.say("not tried after this failure: %s", joinMembers(rest))
			break
		}
	}
	return res.finish("restart")
}

func (a *app) restartOne(ctx context.Context, s *session, m member, body map[string]any, force bool) actionResult {
	if _, scheduled := body["schedule"]; scheduled && force && m.ScheduledRestart != nil {
		if rep, err := s.ask(ctx, m, http.MethodDelete, "/restart", nil); err != nil || rep.Code >= 300 && rep.Code != http.StatusNotFound {
			return resultOf(m, "restart", rep, err, "")
		}
	}
	stop := s.showElapsed(ctx, "restart of "+m.Name)
	rep, err := s.askFor(ctx, m, http.MethodPost, "/restart", body, restartLimit)
	stop()
	switch rep.Code {
	case http.StatusAccepted:
		return resultOf(m, "restart", rep, err, "restart scheduled on member "+m.Name, http.StatusAccepted)
	case http.StatusConflict:
		row := resultOf(m, "restart", rep, err, "")
		row.Message = fmt.Sprintf("another restart is already scheduled on member %s (drop it with: pghactl flush %s %s restart)",
			m.Name, s.settings.scope, m.Name)
		return row
	default:
		return resultOf(m, "restart", rep, err, "restart on member "+m.Name, http.StatusOK)
	}
}

// waitRunning waits until a member runs again, and as a standby streams.
func (s *session) waitRunning(ctx context.Context, m member, limit time.Duration) error {
	return s.waitFor(ctx, limit, func(ctx context.Context) (string, bool, error) {
		c, err := s.load(ctx)
		if err != nil {
			return "", false, err
		}
		now, ok := c.find(m.Name)
		if !ok {
			return "its member key is gone", false, nil
		}
		done := now.State == election.StateRunning && (c.isLeader(now) || now.ReplicationState == "streaming" || !now.IsPgha())
		return strings.TrimSpace(string(now.State) + " " + now.ReplicationState), done, nil
	})
}

func newReloadCmd(a *app) *cobra.Command {
	var role string
	var force bool
	cmd := &cobra.Command{
		Use:   "reload [CLUSTER] [MEMBER…]",
		Short: "Make agents read their configuration file again",
		Long: `Make agents read their configuration file again and reload PostgreSQL. Changes of the dynamic
configuration (pghactl edit-config) need no reload: agents see them by themselves.`,
		Example: `  pghactl reload demo --force
  pghactl reload demo b`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runReload(cmd.Context(), args, role, force)
		},
		ValidArgsFunction: a.memberArgs,
	}
	cmd.Flags().StringVarP(&role, "role", "r", "any", "only members of this role")
	completeWith(cmd, "role", memberRoles()...)
	addForce(cmd, &force)
	return cmd
}

func (a *app) runReload(ctx context.Context, args []string, role string, force bool) error {
	s, c, names, err := a.connectMembers(ctx, args)
	if err != nil {
		return err
	}
	defer s.close()
	members, err := pickMembers(c, names)
	if err != nil {
		return err
	}
	if members, err = ofRole(c, members, role); err != nil {
		return err
	}
	if err := a.confirmOn(c, force, "reload the configuration of "+joinMembers(members)); err != nil {
		return err
	}
	res := &results{app: a}
	for _, m := range members {
		rep, err := s.ask(ctx, m, http.MethodPost, "/reload", nil)
		message := fmt.Sprintf("reload request received for member %s and will be processed within %d seconds", m.Name, int(c.config.loopWait.Seconds()))
		if rep.Code == http.StatusOK {
			message = "no changes to apply on member " + m.Name
		}
		res.add(resultOf(m, "reload", rep, err, message, http.StatusOK, http.StatusAccepted))
	}
	return res.finish("reload")
}
