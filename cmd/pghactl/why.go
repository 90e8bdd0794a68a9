package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// decision is one entry of a member's history of decisions: which rule, why, and what would have
// to be different for another one.
type decision struct {
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Reason  string    `json:"reason"`
	Change  string    `json:"change,omitempty"`
	Actions []string  `json:"actions,omitempty"`
	Result  string    `json:"result,omitempty"`
}

// memberWhy is what one member answered, or why it did not.
type memberWhy struct {
	Member    string   `json:"member"`
	Role      string   `json:"role"`
	State     string   `json:"state"`
	Reachable bool     `json:"reachable"`
	Now       *ruleNow `json:"now,omitempty"` // the plan in force
	Error     string   `json:"error,omitempty"`
	bonds
	Decisions []decision `json:"decisions"` // newest first
}

// ruleNow is the plan in force and how old it is.
type ruleNow struct {
	Rule     string   `json:"rule"`
	Reason   string   `json:"reason"`
	AgeMS    int64    `json:"age_ms"`
	Problems []string `json:"problems,omitempty"`
}

// errNoWhy says that the member is run by a Patroni, which does not tell.
var errNoWhy = errors.New("this member is not run by pgha and keeps no decisions")

func newWhyCmd(a *app) *cobra.Command {
	var last int
	var addresses []string
	cmd := &cobra.Command{
		Use:   "why [CLUSTER] [MEMBER…]",
		Short: "Say what each member decided last, and why",
		Long: `Ask each member for its last decisions: the rule, the reason in words, and what would change it.

All members are asked at the same time. One that does not answer is shown as such: that is an answer too.
If the consensus store is out of reach, an agent's own configuration file (-c) or --agent says whom to ask.
The rules are explained in docs/rules.md.`,
		Example: `  pghactl why
  pghactl why demo b --last 10
  pghactl why demo -o json
  pghactl why --agent 10.0.0.1:8008`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 1 {
				return usagef("--last needs a positive number")
			}
			return a.runWhy(cmd.Context(), args, last, addresses)
		},
		ValidArgsFunction: a.memberArgs,
	}
	cmd.Flags().IntVarP(&last, "last", "n", 3, "how many decisions of each member")
	cmd.Flags().StringSliceVar(&addresses, "agent", nil, "ask the agents at these addresses, HOST:PORT, and not the store")
	return cmd
}

func (a *app) runWhy(ctx context.Context, args []string, last int, addresses []string) error {
	s, c, members, err := a.whyMembers(ctx, args, addresses)
	if err != nil {
		return err
	}
	defer s.close()
	answers := s.askWhy(ctx, c, members, last)
	if a.out.structured() {
		err := encode(a.env.stdout, a.out.format, struct {
			Cluster string      `json:"cluster"`
			Members []memberWhy `json:"members"`
		}{c.scope, answers})
		if err != nil {
			return err
		}
	} else {
		for i, answer := range answers {
			if i > 0 {
				fmt.Fprintln(a.env.stdout)
			}
			printWhy(a.env.stdout, answer)
		}
	}
	for _, answer := range answers {
		if answer.Reachable {
			return nil
		}
	}
	return withHint(errors.New("no member answered"),
		"run it on a machine that reaches the members' REST API, or read the agents' logs: they have the same lines")
}

// whyMembers finds whom to ask. Without the consensus store, which is when one most wants to know,
// the agent whose configuration file this is knows its peers.
func (a *app) whyMembers(ctx context.Context, args, addresses []string) (*session, *cluster, []member, error) {
	if len(addresses) > 0 {
		if len(args) > 0 {
			return nil, nil, nil, usagef("--agent says whom to ask; name no cluster or member besides")
		}
		return a.agentsAt(ctx, addresses)
	}
	s, c, names, err := a.connectMembers(ctx, args)
	if err == nil {
		members, err := pickMembers(c, names)
		if err != nil {
			s.close()
			return nil, nil, nil, err
		}
		return s, c, members, nil
	}
	if base, failed := a.global.resolve(a.env, ""); failed == nil && base.ownAPI != "" && errors.Is(err, dcs.ErrUnavailable) {
		a.env.say("%s", err)
		a.env.say("asking the agent at %s and the peers it knows of instead", base.ownAPI)
		return a.agentsAt(ctx, []string{base.ownAPI})
	}
	return nil, nil, nil, err
}

// agentsAt makes members of addresses, and of the peers in the failsafe list of the first one that
// has one (row D-72).
func (a *app) agentsAt(ctx context.Context, addresses []string) (*session, *cluster, []member, error) {
	st, err := a.global.resolve(a.env, "")
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := a.open(ctx, st)
	if err != nil {
		return nil, nil, nil, err
	}
	c := &cluster{scope: st.scope}
	byURL := map[string]member{}
	for _, address := range addresses {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		m := member{Member: election.Member{Name: address, APIURL: address, PghaVersion: "unknown", State: election.StateUnknown}}
		byURL[strings.TrimSuffix(address, "/patroni")] = m
		var peers map[string]string
		if s.askJSON(ctx, m, "/failsafe", &peers) != nil {
			continue // it has no list, or does not answer at all, which is seen below
		}
		for name, peer := range peers {
			byURL[strings.TrimSuffix(peer, "/patroni")] = member{Member: election.Member{Name: name, APIURL: peer, PghaVersion: "unknown", State: election.StateUnknown}}
		}
	}
	for _, key := range sortedKeys(byURL) {
		c.members = append(c.members, byURL[key])
	}
	return s, c, c.members, nil
}

// askWhy asks members in parallel; the answers keep the order of the members.
func (s *session) askWhy(ctx context.Context, c *cluster, members []member, last int) []memberWhy {
	answers := make([]memberWhy, len(members))
	var group errgroup.Group
	for i, m := range members {
		group.Go(func() error {
			answer := memberWhy{Member: m.Name, Role: c.displayRole(m), State: c.displayState(m), Decisions: []decision{}}
			if c.withoutStore() {
				s.askRole(ctx, m, &answer)
			}
			doc, err := s.whyOf(ctx, m)
			if doc.Name != "" {
				answer.Member = doc.Name
			}
			answer.Reachable = err == nil || errors.Is(err, errNoWhy)
			if err != nil {
				answer.Error = err.Error()
			}
			if doc.Now.Rule != "" {
				answer.Now = &doc.Now
			}
			answer.bonds = doc.bonds
			answer.Decisions = append(answer.Decisions, doc.Decisions[:min(last, len(doc.Decisions))]...)
			answers[i] = answer
			return nil
		})
	}
	// The functions above keep their errors in the answers.
	_ = group.Wait()
	if c.withoutStore() { // the names are known only now
		slices.SortFunc(answers, func(a, b memberWhy) int { return strings.Compare(a.Member, b.Member) })
	}
	return answers
}

// askRole fills in what the store would have told.
func (s *session) askRole(ctx context.Context, m member, answer *memberWhy) {
	answer.Role = "unknown"
	if st, err := s.statusOf(ctx, m); err == nil {
		answer.Role, answer.State = st.Role, st.State
	}
}

// whyDocument is the body of GET /pgha/why.
type whyDocument struct {
	Name string  `json:"name"`
	Now  ruleNow `json:"now"`
	bonds
	Decisions []decision `json:"decisions"`
}

// whyOf asks one member for its plan and its decisions, and puts the newest first.
func (s *session) whyOf(ctx context.Context, m member) (whyDocument, error) {
	var doc whyDocument
	err := s.askJSON(ctx, m, "/pgha/why", &doc)
	var status *statusError
	if errors.As(err, &status) && !m.IsPgha() {
		return whyDocument{}, errNoWhy
	}
	if err != nil {
		return whyDocument{}, err
	}
	slices.Reverse(doc.Decisions)
	for i := range doc.Decisions {
		doc.Decisions[i].At = doc.Decisions[i].At.UTC()
	}
	return doc, nil
}

func printWhy(w io.Writer, answer memberWhy) {
	fmt.Fprintf(w, "%s (%s, %s)\n", answer.Member, titleRole(answer.Role), answer.State)
	if answer.Error != "" {
		paragraph(w, "  no answer: ", answer.Error)
		return
	}
	if now := answer.Now; now != nil {
		paragraph(w, "  now  ", fmt.Sprintf("%s (for %s)", now.Rule, roundDuration(time.Duration(now.AgeMS)*time.Millisecond)))
		paragraph(w, "    ", now.Reason)
		for _, p := range now.Problems {
			paragraph(w, "    problem: ", p)
		}
	}
	answer.print(w)
	if len(answer.Decisions) == 0 {
		fmt.Fprintln(w, "  no decision yet")
	}
	for _, d := range answer.Decisions {
		paragraph(w, "  "+d.At.Format("2006-01-02 15:04:05.000")+"  ", d.Rule)
		paragraph(w, "    ", d.Reason)
		for _, action := range d.Actions {
			paragraph(w, "    did: ", action)
		}
		if d.Result != "" {
			paragraph(w, "    result: ", d.Result)
		}
		if d.Change != "" {
			paragraph(w, "    would change: ", d.Change)
		}
	}
}

// explainTimeout bounds what "list" waits for the members' own words: the table is worth more.
const explainTimeout = 1500 * time.Millisecond

// explain adds to each problem the last decision of the member it is about. A problem of the whole
// cluster (there is no leader) is everybody's.
func (s *session) explain(ctx context.Context, v *clusterView) {
	asked := map[string]bool{}
	for _, p := range v.Problems {
		if p.Severity == severityNotice {
			continue
		}
		if p.Member != "" {
			asked[p.Member] = true
		} else if v.Leader == "" {
			for _, m := range v.source.members {
				asked[m.Name] = true
			}
		}
	}
	var members []member
	for _, m := range v.source.members {
		if asked[m.Name] && m.IsPgha() {
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	v.addDecisions(s.askWhy(ctx, v.source, members, 1))
}

func (v *clusterView) addDecisions(answers []memberWhy) {
	byMember := map[string]memberWhy{}
	for _, answer := range answers {
		byMember[answer.Member] = answer
	}
	told := map[string]bool{}
	for i, p := range v.Problems {
		answer, ok := byMember[p.Member]
		if !ok || p.Severity == severityNotice || told[p.Member] {
			continue
		}
		told[p.Member] = true
		v.Problems[i] = withDecision(p, answer)
	}
	if v.Leader != "" {
		return
	}
	for _, answer := range answers {
		if !told[answer.Member] && (len(answer.Decisions) > 0 || answer.Error != "") {
			p := problem{Severity: severityWarning, Member: answer.Member, What: "does not take over"}
			v.Problems = append(v.Problems, withDecision(p, answer))
		}
	}
}

func withDecision(p problem, answer memberWhy) problem {
	switch {
	case answer.Error != "":
		p.What += "; its agent does not answer"
	case len(answer.Decisions) > 0:
		p.Decision = &answer.Decisions[0]
	}
	return p
}

// agentStatus is the part of GET /patroni that this tool reads.
type agentStatus struct {
	State          string `json:"state"`
	Role           string `json:"role"`
	ServerVersion  int    `json:"server_version"`
	Timeline       uint32 `json:"timeline"`
	WatchdogFailed bool   `json:"watchdog_failed"`
	Replication    string `json:"replication_state"`
	Patroni        struct {
		Version string `json:"version"`
	} `json:"patroni"`
	Pgha *struct {
		Version string   `json:"version"`
		Job     *jobView `json:"job"`
	} `json:"pgha"`
	Xlog json.RawMessage `json:"xlog"`
}

// jobView is the long-running work of a member, such as a clone.
type jobView struct {
	Kind   string  `json:"kind"`
	Detail string  `json:"detail"`
	Done   int64   `json:"done_bytes"`
	Total  int64   `json:"total_bytes"`
	Rate   float64 `json:"bytes_per_second"`
}

// statusOf asks one member how it is.
func (s *session) statusOf(ctx context.Context, m member) (agentStatus, error) {
	var st agentStatus
	r, err := s.ask(ctx, m, http.MethodGet, "/patroni", nil)
	if err != nil {
		return st, err
	}
	// /patroni answers with the body whatever the state is (row R-034).
	if err := json.Unmarshal(r.Body, &st); err != nil {
		return st, fmt.Errorf("answer of member %s to /patroni: %w", m.Name, err)
	}
	return st, nil
}
