package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"github.com/pgha/pgha/internal/election"
)

// check is one line of the pre-flight: good to go, worth knowing, or a reason not to begin at all.
type check struct {
	level string // "ok", "warn" or "stop"
	text  string
	hint  string // for stop
}

func okCheck(format string, args ...any) check { return check{"ok", fmt.Sprintf(format, args...), ""} }

func warnCheck(format string, args ...any) check {
	return check{"warn", fmt.Sprintf(format, args...), ""}
}

func stopCheck(hint, format string, args ...any) check {
	return check{"stop", fmt.Sprintf(format, args...), hint}
}

// printChecks shows the pre-flight and returns an error if something stops the move. It is decided
// here, before anything is touched; the agent checks again.
func printChecks(e *env, checks []check) error {
	var stop *check
	for _, c := range checks {
		paragraph(e.stderr, fmt.Sprintf("  %-4s  ", c.level), c.text)
		if c.level == "stop" && stop == nil {
			stop = &c
		}
	}
	if stop == nil {
		return nil
	}
	err := fmt.Errorf("%s; nothing was changed", stop.text)
	if stop.hint == "" {
		return err
	}
	return withHint(err, "%s", stop.hint)
}

// preflight looks for what would make the move slow, lossy or impossible.
func (s *session) preflight(ctx context.Context, c *cluster, opt moveOptions, at time.Time) []check {
	checks := moveChecks(c, opt, at)
	for _, ch := range checks {
		if ch.level == "stop" {
			return checks
		}
	}
	return append(checks, s.agentChecks(ctx, c, opt)...)
}

// moveChecks are the checks on the stored state.
func moveChecks(c *cluster, opt moveOptions, at time.Time) []check {
	checks := pauseChecks(c, opt, at)
	if !c.Failover.IsZero() && !c.Failover.ScheduledAt.IsZero() {
		checks = append(checks, warnCheck("a switchover is scheduled for %s already; this request takes its place",
			c.Failover.ScheduledAt.UTC().Format(time.RFC3339)))
	}
	if opt.failover {
		if lead, ok := c.leader(); ok && lead.State == election.StateRunning {
			checks = append(checks, warnCheck("the leader %s runs: switchover would lose nothing, failover may", lead.Name))
		}
	} else if lead, ok := c.leader(); !ok {
		checks = append(checks, stopCheck("its agent is probably dead; the key expires by itself, then a standby takes over",
			"the leader %s publishes nothing about itself", c.Leader.Name))
	} else if lead.State != election.StateRunning {
		checks = append(checks, warnCheck("the leader's server does not run normally: %s", lead.State))
	}
	if opt.candidate == "" {
		return append(checks, syncCandidates(c)...)
	}
	return append(checks, candidateChecks(c, opt)...)
}

func pauseChecks(c *cluster, opt moveOptions, at time.Time) []check {
	switch {
	case !c.config.pause:
		return nil
	case !at.IsZero():
		return []check{stopCheck("do it now, or end maintenance mode first: pghactl resume "+c.scope, "nothing can be scheduled in maintenance mode")}
	case opt.candidate == "":
		return []check{stopCheck("name it with --candidate", "in maintenance mode a switchover needs a candidate")}
	default:
		return []check{warnCheck("maintenance mode is on")}
	}
}

// syncCandidates says who can be chosen when nobody is named: in synchronous mode only a member that
// has every commit (row H-193).
func syncCandidates(c *cluster) []check {
	if c.config.syncMode == "" {
		return asyncCandidates(c)
	}
	if len(c.Sync.Standbys) == 0 {
		return []check{stopCheck("bring a standby to streaming, or choose what may be lost: pghactl failover", "there is no synchronous standby to switch over to")}
	}
	return []check{okCheck("one of the synchronous standbys takes over: %s", strings.Join(c.Sync.Standbys, ", "))}
}

// asyncCandidates shows how far each one is behind; the agents choose.
func asyncCandidates(c *cluster) []check {
	var parts []string
	for _, m := range candidatesOf(c) {
		behind := "position unknown"
		if lag, known := c.lag(m.received()); known {
			behind = humanize.IBytes(lag) + " behind"
		}
		if m.State != election.StateRunning {
			behind = string(m.State)
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", m.Name, behind))
	}
	return []check{okCheck("the agents choose the best of: %s", strings.Join(parts, ", "))}
}

func candidateChecks(c *cluster, opt moveOptions) []check {
	m, ok := c.find(opt.candidate)
	switch {
	case !ok:
		return []check{stopCheck("its members are: "+strings.Join(c.names(), ", "), "cluster %s has no member %q", c.scope, opt.candidate)}
	case c.isLeader(m):
		return []check{stopCheck("choose another candidate: "+joinMembers(candidatesOf(c)), "member %s is already the leader of cluster %s", m.Name, c.scope)}
	case m.Member.Tags.NoFailover:
		return []check{stopCheck("choose another candidate, or take the tag off and reload its agent", "member %s is tagged nofailover", m.Name)}
	}
	var checks []check
	if c.config.syncMode != "" && c.Sync.Leader != "" && !c.inSync(m.Name) {
		if !opt.failover {
			return append(checks, stopCheck("choose one of: "+orNone(c.Sync.Standbys)+"; only pghactl failover may lose commits",
				"member %s is not a synchronous standby", m.Name))
		}
		checks = append(checks, warnCheck("member %s is not a synchronous standby: ACKNOWLEDGED COMMITS MAY BE LOST", m.Name))
	}
	if m.State != election.StateRunning {
		checks = append(checks, warnCheck("the candidate's server does not run normally: %s", m.State))
	}
	if lead, ok := c.leader(); ok && m.Timeline != 0 && lead.Timeline != 0 && m.Timeline != lead.Timeline {
		checks = append(checks, warnCheck("the candidate is on timeline %d, the leader on %d", m.Timeline, lead.Timeline))
	}
	return append(checks, lagCheck(c, m, opt))
}

func lagCheck(c *cluster, m member, opt moveOptions) check {
	lag, known := c.lag(m.received())
	switch {
	case !known:
		return warnCheck("how far %s is behind is not known", m.Name)
	case opt.failover && lag > 0:
		return warnCheck("%s is %s (%d bytes) behind the last published position: so much may be lost", m.Name, humanize.IBytes(lag), lag)
	case lag > c.config.maximumLag:
		return warnCheck("%s is %s behind: the switchover takes as long as it needs to catch up", m.Name, humanize.IBytes(lag))
	default:
		return okCheck("%s is %s behind", m.Name, humanize.IBytes(lag))
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "(there is none)"
	}
	return strings.Join(names, ", ")
}

// preflightTimeout bounds the questions to the agents before a move.
const preflightTimeout = 2 * time.Second

// agentChecks asks the leader and the candidate themselves, at the same time.
func (s *session) agentChecks(ctx context.Context, c *cluster, opt moveOptions) []check {
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	var asked []member
	if lead, ok := c.leader(); ok {
		asked = append(asked, lead)
	}
	if m, ok := c.find(opt.candidate); ok {
		asked = append(asked, m)
	}
	answers := make([]check, len(asked))
	var group errgroup.Group
	for i, m := range asked {
		group.Go(func() error {
			answers[i] = s.agentCheck(ctx, c, m)
			return nil
		})
	}
	_ = group.Wait() // the answers carry what went wrong
	return answers
}

func (s *session) agentCheck(ctx context.Context, c *cluster, m member) check {
	st, err := s.statusOf(ctx, m)
	switch {
	case err != nil:
		return warnCheck("the agent of %s does not answer: %s", m.Name, err)
	case st.WatchdogFailed && !c.isLeader(m):
		return stopCheck("repair its watchdog device, or set watchdog.mode to automatic", "member %s cannot lead: its watchdog does not work", m.Name)
	case st.job() != nil:
		return warnCheck("member %s is busy: %s", m.Name, jobLabel(m, st.job()))
	default:
		return okCheck("the agent of %s answers: %s, %s", m.Name, st.Role, st.State)
	}
}
