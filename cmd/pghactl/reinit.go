package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/election"
)

type reinitOptions struct {
	force      bool
	cancel     bool
	fromLeader bool
	waitOnly   bool
	wait       waitOptions
}

func newReinitCmd(a *app) *cobra.Command {
	var opt reinitOptions
	cmd := &cobra.Command{
		Use:   "reinit [CLUSTER] MEMBER…",
		Short: "Rebuild standbys from another member's data",
		Long: `Throw a standby's data away and copy it anew from another member. The leader is never rebuilt.

The agent moves the old data aside first where space allows, and refuses while there is no leader to copy
from. With --wait the progress is shown until the member runs again; --wait-only just shows it.`,
		Example: `  pghactl reinit demo c --wait
  pghactl reinit demo c --force --from-leader
  pghactl reinit demo c --wait-only`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runReinit(cmd.Context(), args, opt)
		},
		ValidArgsFunction: a.memberArgs,
	}
	addForce(cmd, &opt.force)
	cmd.Flags().BoolVar(&opt.cancel, "cancel-running", false, "if other work runs on the member, cancel it")
	cmd.Flags().BoolVar(&opt.fromLeader, "from-leader", false, "copy from the leader, not from another standby")
	cmd.Flags().BoolVar(&opt.waitOnly, "wait-only", false, "start nothing, show the progress of what runs")
	opt.wait.add(cmd, "the members are rebuilt and run", 24*time.Hour)
	return cmd
}

func (a *app) runReinit(ctx context.Context, args []string, opt reinitOptions) error {
	s, c, names, err := a.connectMembers(ctx, args)
	if err != nil {
		return err
	}
	defer s.close()
	ask := newAsker(a.env, opt.force)
	members, err := a.reinitMembers(c, names, ask)
	if err != nil {
		return err
	}
	if opt.waitOnly {
		res := &results{app: a}
		for _, m := range members {
			res.add(a.waitReinit(ctx, s, m, opt.wait.timeout))
		}
		return res.finish("reinitialize")
	}
	if !c.Leader.Present {
		return withHint(fmt.Errorf("cluster %s has no leader to copy from", c.scope), "see what the members wait for: pghactl why %s", c.scope)
	}
	for _, m := range members {
		a.env.say("cluster %s: member %s (%s, %s): its data is replaced by a copy%s", c.scope, m.Name, titleRole(c.displayRole(m)), c.displayState(m), reinitWarning(c, m))
	}
	if err := ask.confirm("Go ahead?"); err != nil {
		return err
	}
	res := &results{app: a}
	var started []member
	for _, m := range members {
		row := a.startReinit(ctx, s, m, ask, opt)
		res.add(row)
		if row.OK {
			started = append(started, m)
		}
	}
	if opt.wait.wait {
		for _, m := range started {
			res.add(a.waitReinit(ctx, s, m, opt.wait.timeout))
		}
	}
	return res.finish("reinitialize")
}

// reinitWarning says what is lost besides time.
func reinitWarning(c *cluster, m member) string {
	if c.config.syncMode != "" && c.inSync(m.Name) {
		return "; it is a synchronous standby, so commits wait until another one takes its place"
	}
	return ""
}

func (a *app) reinitMembers(c *cluster, names []string, ask *asker) ([]member, error) {
	if len(names) == 0 {
		if !ask.canAsk() {
			return nil, withHint(usagef("which member?"), "name the members to rebuild: pghactl reinit %s MEMBER…", c.scope)
		}
		answer, err := ask.line("Which member do you want to rebuild ("+strings.Join(c.names(), ", ")+")", "")
		if err != nil {
			return nil, err
		}
		names = strings.Fields(answer)
		if len(names) == 0 {
			return nil, errAborted
		}
	}
	members, err := pickMembers(c, names)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if c.isLeader(m) {
			return nil, withHint(fmt.Errorf("member %s is the leader: its data is the one that counts", m.Name),
				"move the leader first: pghactl switchover %s --leader %s", c.scope, m.Name)
		}
	}
	return members, nil
}

func (a *app) startReinit(ctx context.Context, s *session, m member, ask *asker, opt reinitOptions) actionResult {
	body := map[string]any{}
	if opt.fromLeader {
		body["from_leader"] = true
	}
	if opt.cancel {
		body["force"] = true
	}
	success := "reinitialize for member " + m.Name
	rep, err := s.ask(ctx, m, http.MethodPost, "/reinitialize", body)
	busy := rep.Code == http.StatusServiceUnavailable && strings.HasSuffix(rep.Text, " already in progress")
	if busy && ask.canAsk() && !opt.cancel {
		a.env.say("member %s: %s", m.Name, rep.Text)
		if ask.confirm("Cancel it and rebuild the member anyway?") == nil {
			body["force"] = true
			rep, err = s.ask(ctx, m, http.MethodPost, "/reinitialize", body)
		}
	}
	row := resultOf(m, "reinitialize", rep, err, success, http.StatusOK)
	if busy && !row.OK {
		row.Message += " (add --cancel-running to stop that)"
	}
	return row
}

// waitReinit shows how far a rebuild is and ends when the member runs again. A state that has not
// yet changed to "creating replica" does not count as finished: the member must have been seen at
// work, or stay as it is for a while.
func (a *app) waitReinit(ctx context.Context, s *session, m member, limit time.Duration) actionResult {
	row := actionResult{Member: m.Name, Action: "wait"}
	line := newProgressLine(a.env)
	defer line.end()
	began := a.env.now()
	seenWorking := false
	err := s.waitFor(ctx, limit, func(ctx context.Context) (string, bool, error) {
		st, err := s.statusOf(ctx, m)
		if err != nil {
			line.update("member "+m.Name+": its agent does not answer", 0, 0, 0)
			return "", false, err
		}
		working := st.State == string(election.StateCreating) || st.job() != nil
		seenWorking = seenWorking || working
		switch {
		case working:
			j := st.job()
			if j == nil {
				j = &jobView{Kind: st.State}
			}
			line.update(jobLabel(m, j), j.Done, j.Total, j.Rate)
			return st.State, false, nil
		case st.State == string(election.StateRunning):
			return st.State, seenWorking || a.env.now().Sub(began) > reinitGrace, nil
		case seenWorking && (st.State == string(election.StateStartFailed) || st.State == string(election.StateCrashed)):
			return st.State, true, withHint(fmt.Errorf("the rebuild ended but PostgreSQL does not run: %s", st.State), "see: pghactl why %s", m.Name)
		default:
			line.update(fmt.Sprintf("member %s: %s", m.Name, st.State), 0, 0, 0)
			return st.State, false, nil
		}
	})
	line.end()
	switch {
	case err == nil:
		row.OK, row.Message = true, fmt.Sprintf("reinitialize is completed on: %s", m.Name)
	case errors.Is(err, context.Canceled):
		row.Message = fmt.Sprintf("stopped waiting for member %s; the rebuild goes on", m.Name)
	default:
		row.Message = fmt.Sprintf("member %s: %s", m.Name, err)
	}
	return row
}

// reinitGrace is how long a member may take to show that it has begun.
const reinitGrace = 5 * time.Second

func (st agentStatus) job() *jobView {
	if st.Pgha == nil || st.Pgha.Job == nil || st.Pgha.Job.Kind == "" {
		return nil
	}
	return st.Pgha.Job
}

func jobLabel(m member, j *jobView) string {
	label := fmt.Sprintf("member %s: %s", m.Name, j.Kind)
	if j.Detail != "" {
		label += " " + j.Detail
	}
	return label
}
