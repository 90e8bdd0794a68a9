package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// moveOptions are the flags of switchover and failover.
type moveOptions struct {
	failover  bool
	leader    string
	candidate string
	scheduled string
	force     bool
}

// moveLimit bounds the wait for an answer. The agent itself gives up after 2·max(10 s, loop_wait)
// (row R-108); this is only for one that hangs.
const moveLimit = 5 * time.Minute

func newSwitchoverCmd(a *app) *cobra.Command {
	var opt moveOptions
	cmd := &cobra.Command{
		Use:   "switchover [CLUSTER]",
		Short: "Move the leader to another member in good order",
		Long: `Move the leader to another member: the old leader is shut down cleanly, the candidate receives everything,
then it takes over. Nothing that was committed is lost.

What speaks against it is shown first; what makes it impossible stops it before anything is touched.
Without --candidate the agents choose the best standby.`,
		Example: `  pghactl switchover demo
  pghactl switchover demo --leader a --candidate b --force
  pghactl switchover demo --candidate b --scheduled 2031-05-04T03:00Z`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runMove(cmd.Context(), firstArg(args), opt)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := cmd.Flags()
	f.StringVar(&opt.leader, "leader", "", "the present leader; it is an error if another one leads")
	f.StringVar(&opt.leader, "primary", "", "the same as --leader")
	f.StringVar(&opt.candidate, "candidate", "", "the member to lead next")
	f.StringVar(&opt.scheduled, "scheduled", "", "when, such as 2031-05-04T03:00Z, +30m or now")
	addForce(cmd, &opt.force)
	a.completeMembers(cmd, "leader")
	a.completeMembers(cmd, "candidate")
	return cmd
}

func newFailoverCmd(a *app) *cobra.Command {
	opt := moveOptions{failover: true}
	cmd := &cobra.Command{
		Use:   "failover [CLUSTER]",
		Short: "Make a member the leader, though the cluster would not",
		Long: `Make the named member the leader when there is none, or when the present one must go. Unlike switchover it may
choose a member that lacks commits: how many bytes it is behind is shown before.

Use switchover while the leader is healthy.`,
		Example: `  pghactl failover demo --candidate b
  pghactl failover demo --candidate b --force`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runMove(cmd.Context(), firstArg(args), opt)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&opt.candidate, "candidate", "", "the member to lead next")
	addForce(cmd, &opt.force)
	a.completeMembers(cmd, "candidate")
	return cmd
}

func (o moveOptions) word() string {
	if o.failover {
		return "failover"
	}
	return "switchover"
}

func (a *app) runMove(ctx context.Context, name string, opt moveOptions) error {
	at, err := parseWhen(opt.scheduled, a.env.now())
	if err != nil {
		return err
	}
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
	ask := newAsker(a.env, opt.force)
	if at, err = a.completeMove(c, &opt, at, ask); err != nil {
		return err
	}
	checks := s.preflight(ctx, c, opt, at)
	a.env.say("")
	blocked := printChecks(a.env, checks)
	if blocked != nil {
		return blocked
	}
	if err := ask.confirm(moveQuestion(c, opt, at)); err != nil {
		return err
	}
	return a.move(ctx, s, c, opt, at)
}

// completeMove fills in what was not given on the command line, by asking where somebody is there.
func (a *app) completeMove(c *cluster, opt *moveOptions, at time.Time, ask *asker) (time.Time, error) {
	if !opt.failover {
		if !c.Leader.Present {
			return at, withHint(fmt.Errorf("cluster %s has no leader to switch over from", c.scope),
				"see what the members wait for: pghactl why %s; or name one: pghactl failover %s --candidate MEMBER", c.scope, c.scope)
		}
		if opt.leader != "" && opt.leader != c.Leader.Name {
			return at, withHint(fmt.Errorf("member %s is not the leader of cluster %s", opt.leader, c.scope), "the leader is %s", c.Leader.Name)
		}
		opt.leader = c.Leader.Name
	}
	candidates := candidatesOf(c)
	if len(candidates) == 0 {
		return at, withHint(fmt.Errorf("cluster %s has no member that could lead instead", c.scope), "see: pghactl list %s -e", c.scope)
	}
	if opt.candidate == "" && ask.canAsk() {
		question := "Candidate (" + joinMembers(candidates) + ")"
		if !opt.failover {
			question += ", empty for the best one"
		}
		answer, err := ask.line(question, "")
		if err != nil {
			return at, err
		}
		opt.candidate = answer
	}
	if opt.failover && opt.candidate == "" {
		return at, withHint(usagef("a failover needs a candidate"), "name it: --candidate %s", candidates[0].Name)
	}
	if !opt.failover && opt.scheduled == "" && ask.canAsk() {
		answer, err := ask.line("When (such as 2031-05-04T03:00Z or +30m)", "now")
		if err != nil {
			return at, err
		}
		return parseWhen(answer, a.env.now())
	}
	return at, nil
}

// candidatesOf are the members that may lead next.
func candidatesOf(c *cluster) []member {
	var out []member
	for _, m := range c.members {
		if !c.isLeader(m) && !m.Member.Tags.NoFailover {
			out = append(out, m)
		}
	}
	return out
}

func moveQuestion(c *cluster, opt moveOptions, at time.Time) string {
	to := opt.candidate
	if to == "" {
		to = "the best standby"
	}
	switch {
	case opt.failover && c.Leader.Present:
		return fmt.Sprintf("Fail over cluster %s to %s, demoting the leader %s?", c.scope, to, c.Leader.Name)
	case opt.failover:
		return fmt.Sprintf("Fail over cluster %s to %s?", c.scope, to)
	case at.IsZero():
		return fmt.Sprintf("Switch cluster %s over from %s to %s now?", c.scope, opt.leader, to)
	default:
		return fmt.Sprintf("Schedule a switchover of cluster %s from %s to %s at %s?", c.scope, opt.leader, to, at.Format(time.RFC3339))
	}
}

// moveView is the result of a switchover or failover (documented output).
type moveView struct {
	Cluster   string        `json:"cluster"`
	Action    string        `json:"action"`
	From      string        `json:"from,omitempty"`
	Requested string        `json:"requested_candidate,omitempty"`
	Leader    string        `json:"leader,omitempty"`
	Scheduled *time.Time    `json:"scheduled_at,omitempty"`
	Message   string        `json:"message"`
	Seconds   float64       `json:"seconds"`
	LagBefore *uint64       `json:"candidate_lag_bytes_before,omitempty"`
	After     *clusterView  `json:"after,omitempty"`
	elapsed   time.Duration // not part of the output
}

func (a *app) move(ctx context.Context, s *session, c *cluster, opt moveOptions, at time.Time) error {
	view := moveView{Cluster: c.scope, Action: opt.word(), From: c.Leader.Name, Requested: opt.candidate}
	if m, ok := c.find(opt.candidate); ok {
		if lag, known := c.lag(m.received()); known {
			view.LagBefore = &lag
		}
	}
	if !at.IsZero() {
		view.Scheduled = &at
	}
	start := a.env.now()
	rep, err := s.sendMove(ctx, c, opt, at)
	view.elapsed = a.env.now().Sub(start)
	view.Seconds = view.elapsed.Seconds()
	if errors.Is(err, errNoContact) {
		a.env.say("the agent cannot be asked (%s)", err)
		a.env.say("writing the request to the consensus store instead")
		return a.moveByStore(ctx, s, opt, at)
	}
	if err != nil {
		return withHint(fmt.Errorf("%s: the outcome is not known: %w", opt.word(), err), "it may still be in progress: pghactl list %s", c.scope)
	}
	if rep.Code != http.StatusOK && rep.Code != http.StatusAccepted {
		if strings.Contains(rep.Text, "status unknown") {
			return withHint(fmt.Errorf("%s: %s", opt.word(), rep.Text), "it may still be in progress: pghactl list %s", c.scope)
		}
		return withHint(fmt.Errorf("%s refused: status %d: %s%s", opt.word(), rep.Code, rep.Text, authHint(rep.Code)), "see: pghactl why %s", c.scope)
	}
	view.Message = rep.Text
	after, err := s.load(ctx)
	if err != nil {
		return fmt.Errorf("%s; but then: %w", view.Message, err)
	}
	view.After = viewOf(after, s.settings)
	view.After.Problems = append(view.After.Problems, findProblems(after)...)
	view.Leader = view.After.Leader
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, view)
	}
	a.env.say("%s", a.moveSummary(view))
	printCluster(a.env.stdout, view.After, listOptions{})
	return nil
}

func (a *app) moveSummary(v moveView) string {
	text := fmt.Sprintf("%s  %s", a.env.now().UTC().Format("2006-01-02 15:04:05.00000"), v.Message)
	if v.Scheduled == nil {
		text += fmt.Sprintf(" (in %s)", roundDuration(v.elapsed))
		if v.Action == "failover" && v.LagBefore != nil {
			text += fmt.Sprintf("; at most %s (%d bytes) of the old leader's log, as last published, was not there", humanize.IBytes(*v.LagBefore), *v.LagBefore)
		}
	}
	return text
}

// sendMove asks the leader, or the candidate where there is no leader. It shows that time passes,
// because a clean shutdown of a busy server takes a while.
func (s *session) sendMove(ctx context.Context, c *cluster, opt moveOptions, at time.Time) (reply, error) {
	target, ok := c.leader()
	if !ok {
		target, _ = c.find(opt.candidate)
	}
	body := map[string]any{}
	if !opt.failover {
		body["leader"] = opt.leader
	}
	if opt.candidate != "" {
		body["candidate"] = opt.candidate
	}
	if !at.IsZero() {
		body["scheduled_at"] = at.Format(time.RFC3339)
	}
	path := "/" + opt.word()
	stop := s.showElapsed(ctx, opt.word())
	defer stop()
	rep, err := s.askFor(ctx, target, http.MethodPost, path, body, moveLimit)
	if err == nil && rep.Code == http.StatusNotImplemented && !opt.failover {
		return s.askFor(ctx, target, http.MethodPost, "/failover", body, moveLimit)
	}
	return rep, err
}

// showElapsed draws a line with the seconds gone, on a terminal only, until the function that it
// returns is called.
func (s *session) showElapsed(ctx context.Context, what string) func() {
	if !s.env.stderrTTY {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	start := s.env.now()
	line := newProgressLine(s.env)
	go func() {
		defer close(done)
		for {
			line.update(fmt.Sprintf("%s: %s", what, roundDuration(s.env.now().Sub(start))), 0, 0, 0)
			if s.env.pause(ctx, 200*time.Millisecond) != nil {
				line.end()
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// moveByStore leaves the request where the agents find it (row L-27). It does not wait: whoever
// cannot be asked cannot be watched either.
func (a *app) moveByStore(ctx context.Context, s *session, opt moveOptions, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	snap, err := s.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("read the present request: %w", err)
	}
	now := decodeCluster(snap, s.settings.scope)
	if !opt.failover && (!now.Leader.Present || now.Leader.Name != opt.leader) {
		return withHint(fmt.Errorf("the leader changed meanwhile"), "look again: pghactl list %s", s.settings.scope)
	}
	kv, _ := snap.Get(dcs.KeyFailover)
	request := election.FailoverRequest{Leader: opt.leader, Candidate: opt.candidate, ScheduledAt: at}
	if opt.failover {
		request.Leader = ""
	}
	res, err := s.store.Apply(ctx, dcs.ReplaceFailover(kv.ModRevision, request))
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if !res.Done {
		return withHint(fmt.Errorf("somebody else made a request at the same time"), "look again: pghactl list %s", s.settings.scope)
	}
	message := fmt.Sprintf("the request for a %s is written; the agents carry it out when they see it", opt.word())
	if a.out.structured() {
		view := moveView{Cluster: s.settings.scope, Action: opt.word(), From: opt.leader, Requested: opt.candidate, Message: message}
		return encode(a.env.stdout, a.out.format, view)
	}
	fmt.Fprintln(a.env.stdout, message)
	return nil
}
