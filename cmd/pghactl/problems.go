package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/pgha/pgha/internal/election"
)

// Severities of a problem.
const (
	severityError   = "error"   // writes are refused, or data is at risk
	severityWarning = "warning" // works, but without its reserve
	severityNotice  = "notice"  // somebody should know
)

// problem is one thing that is not as it should be, and what to do about it.
type problem struct {
	Severity string    `json:"severity"`
	Member   string    `json:"member,omitempty"`
	What     string    `json:"what"`
	Remedy   string    `json:"remedy,omitempty"`
	Decision *decision `json:"decision,omitempty"`
}

// findProblems looks at the stored state alone. What each member itself says about it (its last
// decision) is added by whoever can ask it.
func findProblems(c *cluster) []problem {
	problems := clusterProblems(c)
	problems = append(problems, syncProblems(c)...)
	problems = append(problems, voteProblems(c)...)
	problems = append(problems, absentProblems(c)...)
	for _, m := range c.members {
		problems = append(problems, memberProblems(c, m)...)
	}
	return problems
}

func clusterProblems(c *cluster) []problem {
	var out []problem
	switch c.Initialize.State {
	case election.BootstrapNever:
		out = append(out, problem{
			Severity: severityError, What: "the cluster was never bootstrapped",
			Remedy: "start an agent whose configuration has a bootstrap section",
		})
	case election.BootstrapRunning:
		out = append(out, bootstrapProblem(c))
	case election.BootstrapUnknown, election.BootstrapDone:
	}
	if c.Initialize.State == election.BootstrapDone && !c.Leader.Present {
		out = append(out, problem{
			Severity: severityError, What: "there is no leader: nobody accepts writes",
			Remedy: fmt.Sprintf("see what each member waits for with: pghactl why %s", c.scope),
		})
	}
	if c.Leader.Present {
		if _, ok := c.leader(); !ok {
			out = append(out, problem{
				Severity: severityError, Member: c.Leader.Name,
				What:   "holds the leader key but publishes nothing about itself",
				Remedy: "look at the agent's log on that machine; the key expires by itself if the agent is dead",
			})
		}
	}
	if c.config.refused != nil {
		out = append(out, problem{
			Severity: severityWarning, What: "the agents refuse the stored dynamic configuration and keep what they had: " + c.config.refused.Error(),
			Remedy: fmt.Sprintf("correct it with: pghactl edit-config %s", c.scope),
		})
	}
	if c.config.pause {
		out = append(out, problem{
			Severity: severityNotice, What: "maintenance mode is on: no automatic failover",
			Remedy: fmt.Sprintf("end it with: pghactl resume %s", c.scope),
		})
	}
	return out
}

func bootstrapProblem(c *cluster) problem {
	p := problem{
		Severity: severityWarning, What: "the first member is being bootstrapped",
		Remedy: "wait for it, or look at the agents' logs",
	}
	if c.Initialize.RunnerEver && c.Initialize.Runner == "" {
		p.Severity = severityError
		p.What = "the bootstrap was begun but the member that did it is gone"
		p.Remedy = "another member with a bootstrap section takes over by itself; otherwise start that member again"
	}
	return p
}

func syncProblems(c *cluster) []problem {
	if c.config.syncMode == "" || !c.Leader.Present {
		return nil
	}
	if c.hasVoters() {
		return nil
	}
	p := problem{
		Severity: severityWarning, What: "synchronous mode is on but there is no synchronous standby: a failover may lose commits",
		Remedy: "bring a standby without the nosync tag to streaming",
	}
	if c.config.syncStrict {
		p.Severity = severityError
		p.What = "strict synchronous mode is on and there is no synchronous standby: commits wait"
	}
	return []problem{p}
}

func memberProblems(c *cluster, m member) []problem {
	var out []problem
	add := func(severity, what, remedy string) {
		out = append(out, problem{Severity: severity, Member: m.Name, What: what, Remedy: remedy})
	}
	if !c.isLeader(m) && isPrimaryRole(m.Role) && m.State == election.StateRunning {
		add(severityError, "says that it is a primary, without holding the leader key",
			"look at its agent at once; it should have been stopped")
	}
	if what, remedy := stateProblem(c, m); what != "" {
		severity := severityWarning
		if c.isLeader(m) {
			severity = severityError
		}
		add(severity, what, remedy)
	} else if !c.isLeader(m) {
		if what, remedy := replicationProblem(c, m); what != "" {
			add(severityWarning, what, remedy)
		}
	}
	if m.PendingRestart {
		what := "needs a restart for changed settings"
		if len(m.PendingReason) > 0 {
			what += ": " + pendingReasons(m.PendingReason, 0, ", ")
		}
		add(severityNotice, what, fmt.Sprintf("pghactl restart %s %s --pending", c.scope, m.Name))
	}
	return out
}

// absentProblems finds members that the cluster counts on but that publish nothing (any more).
func absentProblems(c *cluster) []problem {
	expected := map[string]string{}
	for _, f := range c.Failsafe {
		expected[f.Name] = "is known to the cluster"
	}
	if c.config.syncMode != "" {
		for _, name := range c.Sync.Standbys {
			expected[name] = "is a synchronous standby"
		}
	}
	var out []problem
	for _, name := range sortedKeys(expected) {
		if _, ok := c.find(name); ok || name == c.Leader.Name {
			continue
		}
		out = append(out, problem{
			Severity: severityWarning, Member: name, What: expected[name] + " but publishes nothing",
			Remedy: "its agent is stopped or cut off from the consensus store: look at that machine",
		})
	}
	return out
}

func isPrimaryRole(role string) bool { return role == "primary" || role == "master" }

// stateProblem explains a server that does not run.
func stateProblem(c *cluster, m member) (what, remedy string) {
	switch m.State {
	case election.StateRunning:
		return "", ""
	case election.StateCreating:
		return "is being copied from another member", fmt.Sprintf("watch it with: pghactl reinit %s %s --wait-only", c.scope, m.Name)
	case election.StateStarting, election.StateRestarting:
		return fmt.Sprintf("PostgreSQL is %s", m.State), "wait; crash recovery may take minutes"
	case election.StateStopping, election.StateStopped:
		return fmt.Sprintf("PostgreSQL is %s", m.State), "the agent starts it unless it was stopped on purpose"
	case election.StateStartFailed, election.StateCrashed, election.StateInitFailed:
		return fmt.Sprintf("PostgreSQL does not run (%s)", m.State),
			fmt.Sprintf("look at its log; if the data is beyond repair: pghactl reinit %s %s", c.scope, m.Name)
	case "", election.StateUnknown:
		return "its state is not known", "look at the agent's log"
	default:
		return fmt.Sprintf("PostgreSQL is in the state %q", m.State), "look at the agent's log"
	}
}

// replicationProblem explains a standby that runs but could not take over.
func replicationProblem(c *cluster, m member) (what, remedy string) {
	lead, haveLeader := c.leader()
	switch {
	case !haveLeader || isPrimaryRole(m.Role):
		return "", ""
	case m.Timeline != 0 && lead.Timeline != 0 && m.Timeline < lead.Timeline && m.ReplicationState != "streaming":
		return fmt.Sprintf("is on timeline %d while the leader is on %d, and does not stream", m.Timeline, lead.Timeline),
			fmt.Sprintf("if it does not come back by itself: pghactl reinit %s %s", c.scope, m.Name)
	case m.ReplicationState == "" && m.IsPgha():
		return "does not receive from the leader", "see its last decisions, and its log"
	}
	if lag, ok := c.lag(m.received()); ok && lag > c.config.maximumLag && c.config.syncMode == "" {
		return fmt.Sprintf("is %s behind, more than maximum_lag_on_failover (%s): it cannot take over",
			humanize.IBytes(lag), humanize.IBytes(c.config.maximumLag)), "check its network and disk"
	}
	return "", ""
}

// pendingReasons writes the reasons of a pending restart as "name: old->new" (row L-14). Text
// longer than limit is hidden; zero is no limit.
func pendingReasons(reasons map[string]changedValue, limit int, sep string) string {
	var parts []string
	for _, name := range sortedKeys(reasons) {
		r := reasons[name]
		text := fmt.Sprintf("%s: %s->%s", name, r.Old, r.New)
		if limit > 0 && len(r.Old)+len(r.New)+2 > limit {
			text = fmt.Sprintf("%s: [hidden - too long]", name)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, sep)
}
