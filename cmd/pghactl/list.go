package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type listOptions struct {
	extended  bool
	timestamp bool
	tree      bool
	format    string // of -f
	watch     watchOptions
}

func newListCmd(a *app) *cobra.Command {
	var opt listOptions
	cmd := &cobra.Command{
		Use:     "list [CLUSTER…]",
		Aliases: []string{"ls"},
		Short:   "Show the members of a cluster and what is wrong",
		Long: `Show the members of one or more clusters: role, state, timeline and how far each standby is behind.

What is wrong is said below the table, with what the member itself says about it and what to do.
Lag counts bytes against the leader's last published position.`,
		Example: `  pghactl list
  pghactl list demo -o json
  pghactl list demo --watch 1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runList(cmd.Context(), args, opt)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&opt.extended, "extended", "e", false, "show versions, tags and scheduled restarts too")
	cmd.Flags().BoolVarP(&opt.timestamp, "timestamp", "t", false, "print the time first")
	addFormatFlag(cmd, &opt.format)
	opt.watch.add(cmd)
	return cmd
}

func newTopologyCmd(a *app) *cobra.Command {
	opt := listOptions{tree: true}
	cmd := &cobra.Command{
		Use:   "topology [CLUSTER…]",
		Short: "Show the members as a tree: who replicates from whom",
		Long: `Show the members of a cluster as a tree. The leader stands at the top; a member with the tag
replicatefrom stands below the member it names, every other one below the leader.`,
		Example: `  pghactl topology demo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runList(cmd.Context(), args, opt)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&opt.extended, "extended", "e", false, "show versions, tags and scheduled restarts too")
	addFormatFlag(cmd, &opt.format)
	opt.watch.add(cmd)
	return cmd
}

func addFormatFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVarP(into, "format", "f", "", "patronictl's formats: pretty, tsv, json or yaml (rows keyed by column title)")
	completeWith(cmd, "format", formatPretty, formatTSV, formatJSON, formatYAML)
}

func (a *app) runList(ctx context.Context, clusters []string, opt listOptions) error {
	format, err := checkFormat(opt.format)
	if err != nil {
		return err
	}
	opt.format = format
	if len(clusters) == 0 {
		clusters = []string{""}
	}
	return a.repeat(ctx, opt.watch, func(ctx context.Context, w io.Writer) error {
		views, err := a.loadViews(ctx, clusters, opt.format == "")
		if err != nil {
			return err
		}
		if opt.timestamp {
			fmt.Fprintln(w, a.env.now().UTC().Format("2006-01-02 15:04:05"))
		}
		return a.printViews(w, views, opt)
	})
}

// loadViews reads clusters for showing. With explain, members with a problem are asked why.
func (a *app) loadViews(ctx context.Context, clusters []string, explain bool) ([]*clusterView, error) {
	var views []*clusterView
	for _, name := range clusters {
		v, err := a.loadView(ctx, name, explain)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

func (a *app) loadView(ctx context.Context, name string, explain bool) (*clusterView, error) {
	s, err := a.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	v := viewOf(c, s.settings)
	v.Problems = append(v.Problems, findProblems(c)...)
	if explain {
		s.explain(ctx, v)
	}
	return v, nil
}

func (a *app) printViews(w io.Writer, views []*clusterView, opt listOptions) error {
	switch {
	case opt.format != "":
		return printCompat(w, views, opt)
	case a.out.structured():
		return encode(w, a.out.format, struct {
			Clusters []*clusterView `json:"clusters"`
		}{views})
	}
	for i, v := range views {
		if i > 0 {
			fmt.Fprintln(w)
		}
		printCluster(w, v, opt)
	}
	return nil
}

// printCluster writes one cluster as a table with its problems below.
func printCluster(w io.Writer, v *clusterView, opt listOptions) {
	paragraph(w, "Cluster: ", fmt.Sprintf("%s (%s)", v.Cluster, v.identity()))
	t := table{cols: []column{
		{title: "Member", wrap: true},
		{title: "Host", wrap: true},
		{title: "Role", wrap: true},
		{title: "State", wrap: true},
		{title: "TL", right: true},
		{title: "Receive lag", right: true},
		{title: "Replay lag", right: true},
	}}
	for _, row := range orderMembers(v, opt.tree) {
		m := row.memberView
		t.rows = append(t.rows, []string{
			row.indent + m.Name, hostCell(v, m), titleRole(m.Role), m.State,
			numberCell(uint64(m.Timeline)), lagCell(v, m, m.ReceiveLag), lagCell(v, m, m.ReplayLag),
		})
	}
	t.render(w)
	if opt.extended {
		printDetails(w, v)
	}
	if v.Electorate != nil {
		paragraph(w, "Synchronous: ", v.Electorate.sentence())
	}
	if v.Switchover != nil {
		paragraph(w, "", "Switchover scheduled at "+v.Switchover.At.Format(time.RFC3339)+
			prefixed(" from ", v.Switchover.From)+prefixed(" to ", v.Switchover.To))
	}
	printProblems(w, v.Problems)
}

func printProblems(w io.Writer, problems []problem) {
	for _, p := range problems {
		mark := map[string]string{severityError: "! ", severityWarning: "* ", severityNotice: "- "}[p.Severity]
		paragraph(w, mark, prefixedBy(p.Member, ": ")+p.What)
		if p.Decision != nil {
			paragraph(w, "    why: ", fmt.Sprintf("%s (%s)", p.Decision.Reason, p.Decision.Rule))
			if p.Decision.Change != "" {
				paragraph(w, "    would change: ", p.Decision.Change)
			}
		}
		if p.Remedy != "" {
			paragraph(w, "    do: ", p.Remedy)
		}
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func prefixedBy(text, suffix string) string {
	if text == "" {
		return ""
	}
	return text + suffix
}

func numberCell(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func lagCell(v *clusterView, m memberView, lag *uint64) string {
	switch {
	case m.Name == v.Leader:
		return ""
	case lag == nil:
		return "unknown"
	default:
		return humanize.IBytes(*lag)
	}
}

// printDetails writes what has no column: who runs a member, its tags and what is scheduled.
func printDetails(w io.Writer, v *clusterView) {
	for _, m := range v.Members {
		agent := "Patroni " + m.Version
		if m.PghaVersion != "" {
			agent = "pgha " + m.PghaVersion
		}
		parts := []string{agent}
		if len(m.Tags) > 0 {
			parts = append(parts, "tags "+tagsFlow(m.Tags))
		}
		if m.ScheduledRestart != nil {
			parts = append(parts, "restart scheduled at "+scheduledCell(m))
		}
		paragraph(w, "  "+m.Name+": ", strings.Join(parts, "; "))
	}
}

func scheduledCell(m memberView) string {
	if m.ScheduledRestart == nil {
		return ""
	}
	text := m.ScheduledRestart.Schedule
	if m.ScheduledRestart.PostgresVersion != "" {
		text += " if version < " + m.ScheduledRestart.PostgresVersion
	}
	return text
}
