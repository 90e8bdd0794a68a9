package conf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Setting is one line of a configuration file. The directives include, include_if_exists and
// include_dir appear as settings of these names.
type Setting struct {
	Name  string
	Value string
}

// ValidName says whether name can stand as a setting's name: letters, digits, underscores and
// dollar signs, perhaps with one dot for an extension's setting.
func ValidName(name string) bool {
	first, rest, dotted := strings.Cut(name, ".")
	if !validIdentifier(first) {
		return false
	}
	return !dotted || validIdentifier(rest)
}

func validIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '$' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// Quote renders a value for a configuration file, always in single quotes. A line break becomes
// an escape, because a raw one would end the line. PostgreSQL cannot hold a zero byte.
func Quote(value string) (string, error) {
	if strings.IndexByte(value, 0) >= 0 {
		return "", errors.New("a setting cannot hold a zero byte")
	}
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(value) {
		switch c := value[i]; c {
		case '\'':
			b.WriteString("''")
		case '\\':
			b.WriteString(`\\`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String(), nil
}

// RenderFile renders a configuration file: a header of comment lines, then the settings in the
// given order. It refuses names and values that a line cannot hold.
func RenderFile(header []string, settings []Setting) (string, error) {
	var b strings.Builder
	for _, h := range header {
		if strings.ContainsAny(h, "\r\n") {
			return "", fmt.Errorf("header %q: holds a line break", h)
		}
		b.WriteString("# " + h + "\n")
	}
	for _, s := range settings {
		if !ValidName(s.Name) {
			return "", fmt.Errorf("setting %q: not a valid name", s.Name)
		}
		q, err := Quote(s.Value)
		if err != nil {
			return "", fmt.Errorf("setting %s: %w", s.Name, err)
		}
		switch s.Name {
		case "include", "include_if_exists", "include_dir":
			b.WriteString(s.Name + " " + q + "\n")
		default:
			b.WriteString(s.Name + " = " + q + "\n")
		}
	}
	return b.String(), nil
}

// Sorted turns a map into settings sorted by name, so that equal maps render to equal files.
func Sorted(m map[string]string) []Setting {
	out := make([]Setting, 0, len(m))
	for k, v := range m {
		out = append(out, Setting{Name: k, Value: v})
	}
	slices.SortFunc(out, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// ParseFile reads a configuration file the way PostgreSQL does: "name = value" or "name value",
// comments from "#", values bare or in single quotes. It does not follow includes.
func ParseFile(text string) ([]Setting, error) {
	var out []Setting
	for n, line := range strings.Split(text, "\n") {
		s, ok, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if ok {
			out = append(out, s)
		}
	}
	return out, nil
}

// SettingsMap gives the settings by lower-case name; where one is named twice, the last counts.
// Include directives are left out.
func SettingsMap(settings []Setting) map[string]string {
	m := make(map[string]string, len(settings))
	for _, s := range settings {
		switch name := strings.ToLower(s.Name); name {
		case "include", "include_if_exists", "include_dir":
		default:
			m[name] = s.Value
		}
	}
	return m
}

func parseLine(line string) (s Setting, ok bool, err error) {
	rest := skipBlank(line)
	if rest == "" || rest[0] == '#' {
		return Setting{}, false, nil
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return isBlank(r) || r == '=' || r == '#' || r == '\'' })
	if end < 0 {
		end = len(rest)
	}
	s.Name = rest[:end]
	if !ValidName(s.Name) {
		return Setting{}, false, fmt.Errorf("%q is not a setting's name", s.Name)
	}
	rest = skipBlank(rest[end:])
	if strings.HasPrefix(rest, "=") {
		rest = skipBlank(rest[1:])
	}
	switch {
	case rest == "" || rest[0] == '#':
		return Setting{}, false, fmt.Errorf("%s has no value", s.Name)
	case rest[0] == '\'':
		s.Value, rest, err = unquote(rest)
	default:
		s.Value, rest, err = bareValue(rest)
	}
	if err != nil {
		return Setting{}, false, fmt.Errorf("%s: %w", s.Name, err)
	}
	rest = skipBlank(rest)
	if rest != "" && rest[0] != '#' {
		return Setting{}, false, fmt.Errorf("%s: something follows the value", s.Name)
	}
	return s, true, nil
}

func isBlank(r rune) bool { return r == ' ' || r == '\t' || r == '\r' }

func skipBlank(s string) string { return strings.TrimLeft(s, " \t\r") }

func bareValue(s string) (value, rest string, err error) {
	end := strings.IndexFunc(s, func(r rune) bool {
		switch {
		case r >= utf8.RuneSelf, r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return false
		}
		return !strings.ContainsRune("_-._:/+$", r)
	})
	if end == 0 {
		return "", "", fmt.Errorf("a value cannot begin with %q outside quotes", s[0])
	}
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:], nil
}

// unquote reads a quoted value at the start of s, with PostgreSQL's escapes.
func unquote(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			b.WriteByte('\'')
			i++
		case c == '\'':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s):
			n := unescape(&b, s[i+1:])
			i += n
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("the quote is not closed")
}

// unescape writes what the escape sequence after a backslash means, and returns its length.
func unescape(b *strings.Builder, s string) int {
	const escapes = "b\bf\fn\nr\rt\t"
	c := s[0]
	if i := strings.IndexByte("bfnrt", c); i >= 0 {
		b.WriteByte(escapes[2*i+1])
		return 1
	}
	if c < '0' || c > '7' {
		b.WriteByte(c)
		return 1
	}
	v, n := 0, 0
	for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
		v = v<<3 + int(s[n]-'0')
		n++
	}
	b.WriteByte(byte(v))
	return n
}
