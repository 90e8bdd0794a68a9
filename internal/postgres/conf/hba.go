package conf

import (
	"errors"
	"fmt"
	"strings"
)

// RenderLines renders pg_hba.conf or pg_ident.conf from whole lines: a header of comments, then
// the lines as they are. An item that would be more than one line, or that a final backslash
// would join to the next, is refused.
func RenderLines(header, lines []string) (string, error) {
	var b strings.Builder
	for _, h := range header {
		if strings.ContainsAny(h, "\r\n") {
			return "", fmt.Errorf("header %q: holds a line break", h)
		}
		b.WriteString("# " + h + "\n")
	}
	for i, l := range lines {
		l = strings.TrimRight(l, " \t\r\n")
		if strings.ContainsAny(l, "\x00\r\n") {
			return "", fmt.Errorf("line %d: holds a line break or a zero byte: give each line as an item of its own", i+1)
		}
		if strings.HasSuffix(l, `\`) {
			return "", fmt.Errorf("line %d: ends in a backslash, which would swallow the next line", i+1)
		}
		b.WriteString(l + "\n")
	}
	return b.String(), nil
}

// HBARule is one line of pg_hba.conf.
type HBARule struct {
	Type      string // local, host, hostssl, hostnossl, hostgssenc, hostnogssenc
	Databases []string
	Users     []string
	Address   string // empty for local; "all", a name, or an address with its prefix length
	Method    string
	Options   []string // name=value
}

// Render writes the rule as one line. Names are quoted where they need it; the keywords all,
// sameuser, samerole, replication and names that begin with + or / mean what pg_hba says, so
// a database of such a name must be written by hand.
func (r HBARule) Render() (string, error) {
	fields := []string{r.Type, strings.Join(quoteAll(r.Databases), ","), strings.Join(quoteAll(r.Users), ",")}
	if r.Type != "local" {
		fields = append(fields, quoteHBA(r.Address))
	}
	fields = append(fields, quoteHBA(r.Method))
	fields = append(fields, quoteAll(r.Options)...)
	for _, f := range fields {
		if f == "" || strings.ContainsAny(f, "\x00\r\n") {
			return "", errors.New("pg_hba rule: a field is empty or holds a line break")
		}
	}
	// A quote inside a quoted token cannot be written before PostgreSQL 17.
	for _, list := range [][]string{r.Databases, r.Users, {r.Method}, r.Options} {
		for _, f := range list {
			if f == "" || strings.ContainsAny(f, `"\`) {
				return "", fmt.Errorf("pg_hba rule: %q is empty or holds a quote or a backslash", f)
			}
		}
	}
	if strings.ContainsAny(r.Address, `"\`) {
		return "", fmt.Errorf("pg_hba rule: address %q", r.Address)
	}
	if !validIdentifier(r.Type) {
		return "", fmt.Errorf("pg_hba rule: type %q", r.Type)
	}
	return strings.Join(fields, " "), nil
}

func quoteAll(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = quoteHBA(s)
	}
	return out
}

func quoteHBA(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return isSpace(r) || r == ',' || r == '#' || r == '"' }) && s[0] != '@' {
		return s
	}
	if s == "" {
		return ""
	}
	return `"` + s + `"`
}

// ParseHBA reads one line of pg_hba.conf; ok is false for a blank or comment line. A separate
// netmask column is joined to the address with a slash.
func ParseHBA(line string) (r HBARule, ok bool, err error) {
	fields, err := hbaFields(line)
	if err != nil || len(fields) == 0 {
		return HBARule{}, false, err
	}
	want := 5
	if fields[0][0] == "local" {
		want = 4
	}
	if len(fields) < want {
		return HBARule{}, false, fmt.Errorf("pg_hba line: %d fields, want at least %d", len(fields), want)
	}
	r = HBARule{Type: fields[0][0], Databases: fields[1], Users: fields[2]}
	rest := fields[3:]
	if want == 5 {
		r.Address, rest = rest[0][0], rest[1:]
		if len(rest) > 1 && strings.Trim(rest[0][0], "0123456789.:abcdefABCDEF") == "" && strings.ContainsAny(rest[0][0], ".:") {
			r.Address, rest = r.Address+"/"+rest[0][0], rest[1:]
		}
	}
	r.Method = rest[0][0]
	for _, o := range rest[1:] {
		r.Options = append(r.Options, strings.Join(o, ","))
	}
	return r, true, nil
}

// hbaFields splits a line into blank-separated fields, each a list of comma-separated tokens.
func hbaFields(line string) ([][]string, error) {
	var fields [][]string
	joined := false // the next token belongs to the last field
	for s := skipSpace(line); s != "" && s[0] != '#'; s = skipSpace(s) {
		if s[0] == ',' {
			joined, s = true, s[1:]
			continue
		}
		tok, rest, err := hbaToken(s)
		if err != nil {
			return nil, err
		}
		if joined && len(fields) > 0 {
			last := len(fields) - 1
			fields[last] = append(fields[last], tok)
		} else {
			fields = append(fields, []string{tok})
		}
		joined, s = false, rest
	}
	return fields, nil
}

func hbaToken(s string) (tok, rest string, err error) {
	var b strings.Builder
	quoted := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && (isSpace(rune(c)) || c == ',' || c == '#'):
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("pg_hba line: the quote is not closed")
	}
	return b.String(), "", nil
}
