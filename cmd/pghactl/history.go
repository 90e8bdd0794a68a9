package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// historyView is one row of "history" (documented output).
type historyView struct {
	Timeline  uint32 `json:"timeline"`
	LSN       string `json:"lsn"`
	LSNBytes  uint64 `json:"lsn_bytes"`
	Reason    string `json:"reason"`
	Timestamp string `json:"timestamp,omitempty"` // UTC where it could be read
	NewLeader string `json:"new_leader,omitempty"`
}

func newHistoryCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "history [CLUSTER]",
		Short: "Show when the leader changed",
		Long: `Show the timelines of a cluster, oldest first: where each one ended, why, when, and who led next.

What led to a change is told by the members: see pghactl why.`,
		Example: `  pghactl history demo
  pghactl history demo -o json`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runHistory(cmd.Context(), firstArg(args), format)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addFormatFlag(cmd, &format)
	return cmd
}

func (a *app) runHistory(ctx context.Context, name, format string) error {
	format, err := checkFormat(format)
	if err != nil {
		return err
	}
	c, err := a.load(ctx, name)
	if err != nil {
		return err
	}
	if format != "" {
		return a.historyCompat(c, format)
	}
	rows := []historyView{}
	for _, h := range c.History {
		rows = append(rows, historyView{
			Timeline: uint32(h.Timeline), LSN: h.Switch.String(), LSNBytes: uint64(h.Switch),
			Reason: h.Reason, Timestamp: utcText(h.Timestamp), NewLeader: h.NewLeader,
		})
	}
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, struct {
			Cluster string        `json:"cluster"`
			History []historyView `json:"history"`
		}{c.scope, rows})
	}
	t := table{cols: []column{
		{title: "TL", right: true},
		{title: "LSN", right: true},
		{title: "When (UTC)", wrap: true},
		{title: "New leader", wrap: true},
		{title: "Reason", wrap: true},
	}}
	for _, r := range rows {
		t.rows = append(t.rows, []string{numberCell(uint64(r.Timeline)), r.LSN, strings.TrimSuffix(strings.Replace(r.Timestamp, "T", " ", 1), "Z"), r.NewLeader, r.Reason})
	}
	t.render(a.env.stdout)
	return nil
}

// historyCompat writes row L-34, with the position as a decimal number.
func (a *app) historyCompat(c *cluster, format string) error {
	cols := []compatColumn{{"TL", true}, {"LSN", true}, {title: "Reason"}, {title: "Timestamp"}, {title: "New Leader"}}
	var rows [][]compatCell
	for _, h := range c.History {
		rows = append(rows, []compatCell{uint64(h.Timeline), uint64(h.Switch), h.Reason, h.Timestamp, h.NewLeader})
	}
	switch format {
	case formatPretty:
		drawBox(a.env.stdout, "", cols, rows)
	case formatTSV:
		printTSV(a.env.stdout, cols, rows, true)
	default:
		return encodeKeyed(a.env.stdout, format, keyedRows(cols, rows))
	}
	return nil
}

// utcText turns a stored timestamp into UTC; one that cannot be read is shown as it is.
func utcText(text string) string {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999-0700", "2006-01-02 15:04:05.999999-07:00", "2006-01-02 15:04:05.999999-07"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Format("2006-01-02T15:04:05Z")
		}
	}
	return text
}

func newDSNCmd(a *app) *cobra.Command {
	var role, name string
	cmd := &cobra.Command{
		Use:   "dsn [CLUSTER]",
		Short: "Print how to connect to a member",
		Long:  `Print "host=… port=…" of the first member that fits, by default the leader.`,
		Example: `  psql "$(pghactl dsn demo) dbname=postgres"
  pghactl dsn demo --role replica`,
		Args: optionalCluster(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runDSN(cmd.Context(), firstArg(args), role, name)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVarP(&role, "role", "r", "", "role: "+strings.Join(memberRoles(), ", ")+" (default leader)")
	cmd.Flags().StringVarP(&name, "member", "m", "", "this member")
	completeWith(cmd, "role", memberRoles()...)
	a.completeMembers(cmd, "member")
	return cmd
}

func (a *app) runDSN(ctx context.Context, clusterName, role, name string) error {
	if role != "" && name != "" {
		return withHint(usagef("--role and --member exclude each other"), "name the member or its role, not both")
	}
	c, err := a.load(ctx, clusterName)
	if err != nil {
		return err
	}
	if role == "" && name == "" {
		role = "leader"
	}
	var names []string
	if name != "" {
		names = []string{name}
	}
	members, err := pickMembers(c, names)
	if err != nil {
		return err
	}
	if members, err = ofRole(c, members, role); err != nil {
		return err
	}
	for _, m := range members {
		host, port := m.hostPort()
		if host == "" {
			continue
		}
		if port == "" {
			port = "5432"
		}
		if a.out.structured() {
			return encode(a.env.stdout, a.out.format, struct {
				Member string `json:"member"`
				Host   string `json:"host"`
				Port   string `json:"port"`
			}{m.Name, host, port})
		}
		fmt.Fprintf(a.env.stdout, "host=%s port=%s\n", host, port)
		return nil
	}
	return withHint(fmt.Errorf("no member that fits publishes an address"), "see: pghactl list %s", c.scope)
}
