package conf

import (
	"fmt"
	"strings"
)

// PassEntry is one line of a libpq password file. "*" matches anything in the first four fields.
type PassEntry struct {
	Host, Port, Database, User, Password string
}

// RenderPassFile renders a password file (row H-227). A line break or a zero byte cannot be
// written in this format and is an error.
func RenderPassFile(entries []PassEntry) (string, error) {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	var b strings.Builder
	for _, e := range entries {
		fields := []string{e.Host, e.Port, e.Database, e.User, e.Password}
		for i, f := range fields {
			if strings.ContainsAny(f, "\x00\r\n") {
				return "", fmt.Errorf("password file: field %d of user %q holds a line break or a zero byte", i+1, e.User)
			}
			fields[i] = escape.Replace(f)
		}
		if strings.HasPrefix(fields[0], "#") {
			return "", fmt.Errorf("password file: host %q would read as a comment", e.Host)
		}
		b.WriteString(strings.Join(fields, ":") + "\n")
	}
	return b.String(), nil
}

// ParsePassFile reads a password file. Lines of another shape are skipped, as libpq does.
func ParsePassFile(text string) []PassEntry {
	var out []PassEntry
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if f := splitPassLine(strings.TrimSuffix(line, "\r")); len(f) == 5 {
			out = append(out, PassEntry{Host: f[0], Port: f[1], Database: f[2], User: f[3], Password: f[4]})
		}
	}
	return out
}

func splitPassLine(line string) []string {
	var fields []string
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		case c == ':':
			fields = append(fields, b.String())
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return append(fields, b.String())
}
