package main

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgha/pgha/internal/election"
)

// This file writes what patronictl's -f writes (rows L-09, L-13 to L-15), for scripts that read it.

// compatColumn is one column; its title is also the key in the JSON and YAML forms.
type compatColumn struct {
	title string
	right bool
}

// compatCell is empty, a text or a number; empty ones are left out of JSON and YAML.
type compatCell any

func printCompat(w io.Writer, views []*clusterView, opt listOptions) error {
	if opt.format == formatPretty {
		for _, v := range views {
			cols, rows := compatRows(v, opt, true)
			drawBox(w, boxTitle(v), cols, rows)
			compatFooter(w, v)
		}
		return nil
	}
	all := []map[string]any{}
	for i, v := range views {
		cols, rows := compatRows(v, opt, false)
		if opt.format == formatTSV {
			printTSV(w, cols, rows, i == 0)
			continue
		}
		all = append(all, keyedRows(cols, rows)...)
	}
	if opt.format == formatTSV {
		return nil
	}
	return encodeKeyed(w, opt.format, all)
}

func boxTitle(v *clusterView) string {
	return fmt.Sprintf(" Cluster: %s (%s) ", v.Cluster, v.identity())
}

// compatRows are the columns of row L-13. The pretty form has the cluster in its title and two
// columns called Lag; the others carry the cluster in each row and tell the two apart.
func compatRows(v *clusterView, opt listOptions, pretty bool) ([]compatColumn, [][]compatCell) {
	receiveLag, replayLag := "Receive Lag", "Replay Lag"
	var cols []compatColumn
	if pretty {
		receiveLag, replayLag = "Lag", "Lag"
	} else {
		cols = append(cols, compatColumn{title: "Cluster"})
	}
	cols = append(cols, compatColumn{title: "Member"}, compatColumn{title: "Host"}, compatColumn{title: "Role"},
		compatColumn{title: "State"}, compatColumn{"TL", true}, compatColumn{"Receive LSN", true}, compatColumn{receiveLag, true},
		compatColumn{"Replay LSN", true}, compatColumn{replayLag, true})
	extra := compatExtras(v, opt.extended)
	cols = append(cols, extra...)
	var rows [][]compatCell
	for _, row := range orderMembers(v, opt.tree) {
		m := row.memberView
		var cells []compatCell
		if !pretty {
			cells = append(cells, v.Cluster)
		}
		var timeline compatCell
		if m.Timeline != 0 {
			timeline = uint64(m.Timeline)
		}
		cells = append(cells, row.indent+m.Name, hostCell(v, m), titleRole(m.Role), m.State, timeline,
			lsnCell(v, m, m.ReceiveLSN), mebibytes(m.ReceiveLag), lsnCell(v, m, m.ReplayLSN), mebibytes(m.ReplayLag))
		for _, c := range extra {
			cells = append(cells, compatExtra(c.title, m, pretty))
		}
		rows = append(rows, cells)
	}
	return cols, rows
}

// compatExtras are the columns that appear only if a member has something in them, or with -e.
func compatExtras(v *clusterView, extended bool) []compatColumn {
	var cols []compatColumn
	add := func(title string, has func(memberView) bool) {
		needed := extended
		for _, m := range v.Members {
			needed = needed || has(m)
		}
		if needed {
			cols = append(cols, compatColumn{title: title})
		}
	}
	add("Pending restart", func(m memberView) bool { return m.PendingRestart })
	add("Pending restart reason", func(m memberView) bool { return len(m.PendingReason) > 0 })
	add("Scheduled restart", func(m memberView) bool { return m.ScheduledRestart != nil })
	add("Tags", func(m memberView) bool { return len(m.Tags) > 0 })
	return cols
}

func compatExtra(title string, m memberView, pretty bool) compatCell {
	switch title {
	case "Pending restart":
		if m.PendingRestart {
			return "*"
		}
	case "Pending restart reason":
		if pretty {
			return pendingReasons(m.PendingReason, 50, "\n")
		}
		return pendingReasons(m.PendingReason, 0, "\n")
	case "Scheduled restart":
		return scheduledCell(m)
	case "Tags":
		return compatTags(m.Tags, pretty)
	}
	return nil
}

func compatTags(tags map[string]any, pretty bool) compatCell {
	if len(tags) == 0 {
		return nil
	}
	if !pretty {
		return tags
	}
	text, err := yaml.Marshal(tags)
	if err != nil {
		return fmt.Sprint(tags)
	}
	return strings.TrimSpace(string(text))
}

func lsnCell(v *clusterView, m memberView, lsn string) compatCell {
	switch {
	case m.Name == v.Leader:
		return nil
	case lsn == "" || lsn == election.LSN(0).String():
		return "unknown"
	default:
		return lsn
	}
}

func mebibytes(lag *uint64) compatCell {
	if lag == nil {
		return nil
	}
	return (*lag + 1<<19) >> 20
}

func cellText(cell compatCell) string {
	switch c := cell.(type) {
	case nil:
		return ""
	case map[string]any:
		return strings.ReplaceAll(tagsFlow(c), "\n", " ")
	default:
		return fmt.Sprint(c)
	}
}

func tagsFlow(tags map[string]any) string {
	var parts []string
	for _, name := range sortedKeys(tags) {
		parts = append(parts, fmt.Sprintf("%s: %v", name, tags[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// drawBox draws a table with lines round its cells and the title in the upper one.
func drawBox(w io.Writer, title string, cols []compatColumn, rows [][]compatCell) {
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = textWidth(c.title)
		for _, row := range rows {
			widths[i] = max(widths[i], textWidth(cellText(row[i])))
		}
	}
	var rule strings.Builder
	for _, width := range widths {
		rule.WriteString("+" + strings.Repeat("-", width+2))
	}
	rule.WriteString("+")
	fmt.Fprintln(w, titledRule(rule.String(), title))
	header := make([]compatCell, len(cols))
	for i, c := range cols {
		header[i] = c.title
	}
	boxRow(w, cols, widths, header)
	fmt.Fprintln(w, rule.String())
	for _, row := range rows {
		boxRow(w, cols, widths, row)
	}
	fmt.Fprintln(w, rule.String())
}

// titledRule writes the title into the upper line, which grows if the title is longer.
func titledRule(rule, title string) string {
	runes, text := []rune(rule), []rune("+"+title)
	if len(text) >= len(runes) {
		return string(text) + "+"
	}
	return string(text) + string(runes[len(text):])
}

func boxRow(w io.Writer, cols []compatColumn, widths []int, cells []compatCell) {
	lines := make([][]string, len(cells))
	height := 1
	for i, cell := range cells {
		lines[i] = strings.Split(cellText(cell), "\n")
		height = max(height, len(lines[i]))
	}
	for n := range height {
		for i := range cells {
			text := ""
			if n < len(lines[i]) {
				text = lines[i][n]
			}
			pad := strings.Repeat(" ", widths[i]-textWidth(text))
			if cols[i].right {
				fmt.Fprintf(w, "| %s%s ", pad, text)
			} else {
				fmt.Fprintf(w, "| %s%s ", text, pad)
			}
		}
		fmt.Fprintln(w, "|")
	}
}

func compatFooter(w io.Writer, v *clusterView) {
	if v.Pause {
		fmt.Fprintln(w, " Maintenance mode: on")
	}
	if s := v.Switchover; s != nil {
		fmt.Fprintf(w, " Switchover scheduled at: %s\n", s.At.Format("2006-01-02T15:04:05-07:00"))
		if s.From != "" {
			fmt.Fprintf(w, "                    from: %s\n", s.From)
		}
		if s.To != "" {
			fmt.Fprintf(w, "                      to: %s\n", s.To)
		}
	}
}

func printTSV(w io.Writer, cols []compatColumn, rows [][]compatCell, header bool) {
	if header {
		var titles []string
		for _, c := range cols {
			titles = append(titles, c.title)
		}
		fmt.Fprintln(w, strings.Join(titles, "\t"))
	}
	for _, row := range rows {
		var cells []string
		for _, cell := range row {
			cells = append(cells, strings.NewReplacer("\t", " ", "\n", " ").Replace(cellText(cell)))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
}

// keyedRows turns rows into objects keyed by column title, without empty cells.
func keyedRows(cols []compatColumn, rows [][]compatCell) []map[string]any {
	var out []map[string]any
	for _, row := range rows {
		object := map[string]any{}
		for i, cell := range row {
			if cell != nil && cell != "" {
				object[cols[i].title] = cell
			}
		}
		out = append(out, object)
	}
	return out
}

func encodeKeyed(w io.Writer, format string, rows []map[string]any) error {
	return encode(w, format, rows)
}
