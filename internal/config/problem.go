package config

import (
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a setting.
type Problem struct {
	// Path names the setting: postgresql.listen.
	Path string
	// Value is what was given, already quoted or shortened; empty if nothing was, or if it is
	// a secret.
	Value string
	// Want says what to write in its place.
	Want string
	// Origin is where the setting was found (file:line, or the name of a variable), if known.
	Origin string
}

// Error puts the problem on one line: path, value, remedy, place.
func (p Problem) Error() string {
	var b strings.Builder
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	if p.Value != "" {
		b.WriteString(p.Value + ": ")
	}
	b.WriteString(p.Want)
	if p.Origin != "" {
		b.WriteString(" (" + p.Origin + ")")
	}
	return b.String()
}

// Problems is everything that is wrong, one line each.
type Problems []Problem

// Error joins the problems with line breaks.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// err gives nil for no problems, so that a nil slice is not taken for an error.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Warning is something to tell the operator that does not stop anything.
type Warning struct {
	Path    string
	Message string
}

func (w Warning) String() string {
	if w.Path == "" {
		return w.Message
	}
	return w.Path + ": " + w.Message
}

// quoteValue shows a value in a message. Long ones are cut: a whole file that landed in one
// setting must not fill the screen.
func quoteValue(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strconv.Quote(s)
}

// join puts a key behind a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
