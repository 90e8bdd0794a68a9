package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newPauseCmd(a *app) *cobra.Command {
	var wait waitOptions
	cmd := &cobra.Command{
		Use:   "pause [CLUSTER]",
		Short: "Switch automatic failover off (maintenance mode)",
		Long: `Switch maintenance mode on: no automatic failover, start, stop or restart until pghactl resume. The servers
go on as they are, and agents may be stopped without stopping PostgreSQL.`,
		Example: `  pghactl pause demo --wait`,
		Args:    optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPause(cmd.Context(), firstArg(args), true, wait)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	wait.add(cmd, "all members have seen it", 0)
	return cmd
}

func newResumeCmd(a *app) *cobra.Command {
	var wait waitOptions
	cmd := &cobra.Command{
		Use:     "resume [CLUSTER]",
		Short:   "Switch automatic failover on again",
		Long:    `End maintenance mode: the agents take charge again.`,
		Example: `  pghactl resume demo --wait`,
		Args:    optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPause(cmd.Context(), firstArg(args), false, wait)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	wait.add(cmd, "all members have seen it", 0)
	return cmd
}

// pauseView is the result of pause and resume (documented output).
type pauseView struct {
	Cluster string   `json:"cluster"`
	Pause   bool     `json:"pause"`
	Seen    []string `json:"seen_by,omitempty"` // with --wait
}

func (a *app) runPause(ctx context.Context, name string, pause bool, wait waitOptions) error {
	s, err := a.connect(ctx, name)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := s.load(ctx)
	if err != nil {
		return err
	}
	word := "resumed"
	if pause {
		word = "paused"
	}
	if c.config.pause == pause {
		if pause {
			return withHint(fmt.Errorf("cluster %s is already paused", c.scope), "end it with: pghactl resume %s", c.scope)
		}
		return fmt.Errorf("cluster %s is not paused", c.scope)
	}
	var value any
	if pause {
		value = true
	}
	if err := s.patchConfig(ctx, c, map[string]any{"pause": value}); err != nil {
		return err
	}
	view := pauseView{Cluster: c.scope, Pause: pause}
	if wait.wait {
		if view.Seen, err = s.waitPause(ctx, c, pause, wait.timeout); err != nil {
			return err
		}
	}
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, view)
	}
	fmt.Fprintf(a.env.stdout, "Success: cluster management is %s\n", word)
	return nil
}

// patchConfig sends a change of the dynamic configuration to the first member that takes it, the
// leader first.
func (s *session) patchConfig(ctx context.Context, c *cluster, patch map[string]any) error {
	var last error
	for _, m := range leaderFirst(c) {
		rep, err := s.ask(ctx, m, http.MethodPatch, "/config", patch)
		switch {
		case err != nil:
			last = fmt.Errorf("member %s: %w", m.Name, err)
		case rep.Code == http.StatusOK:
			return nil
		default:
			last = fmt.Errorf("member %s: status %d: %s%s", m.Name, rep.Code, rep.Text, authHint(rep.Code))
		}
		s.env.say("%s", last)
	}
	if last == nil {
		return fmt.Errorf("cluster %s has no member that could be asked", c.scope)
	}
	return withHint(fmt.Errorf("no member of cluster %s took the change: %w", c.scope, last),
		"if only the REST API is out of reach, write it to the store instead: pghactl edit-config %s -s %s", c.scope, patchHint(patch))
}

func patchHint(patch map[string]any) string {
	var parts []string
	for _, k := range sortedKeys(patch) {
		v := patch[k]
		if v == nil {
			v = "null"
		}
		parts = append(parts, fmt.Sprintf("%s=%v", k, v))
	}
	return strings.Join(parts, " -s ")
}

// waitPause waits until every member key says that its agent has seen the change. Without a limit
// it gives the slowest loop one turn and a second (row L-29).
func (s *session) waitPause(ctx context.Context, c *cluster, pause bool, limit time.Duration) ([]string, error) {
	if limit == 0 {
		limit = c.config.loopWait + time.Second
	}
	var seen []string
	err := s.waitFor(ctx, limit, func(ctx context.Context) (string, bool, error) {
		now, err := s.load(ctx)
		if err != nil {
			return "", false, err
		}
		seen = nil
		var missing []string
		for _, m := range now.members {
			if m.Pause == pause {
				seen = append(seen, m.Name)
			} else {
				missing = append(missing, m.Name)
			}
		}
		return "not yet seen by " + strings.Join(missing, ", "), len(missing) == 0, nil
	})
	if err != nil {
		return seen, withHint(fmt.Errorf("the change is written, but waiting for the members: %w", err), "see whether their agents run: pghactl why %s", c.scope)
	}
	return seen, nil
}
