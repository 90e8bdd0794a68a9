package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen prints the story, in colour where a person looks at it.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File) *screen {
	return &screen{w: f, colour: isTerminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s *screen) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *screen) print(format string, args ...any) {
	// A terminal that went away is no reason to stop half-way: the cluster must still come down.
	_, _ = fmt.Fprintf(s.w, format, args...)
}

func (s *screen) title(text string) {
	s.print("\n%s\n%s\n", s.paint(bold+";"+cyan, text), s.paint(cyan, strings.Repeat("─", len([]rune(text)))))
}

func (s *screen) chapter(number int, text string) {
	s.print("\n%s %s\n", s.paint(bold+";"+cyan, fmt.Sprintf("%d.", number)), s.paint(bold, text))
}

func (s *screen) say(format string, args ...any) { s.print("   %s\n", fmt.Sprintf(format, args...)) }

func (s *screen) good(format string, args ...any) {
	s.print(" %s %s\n", s.paint(green, "✓"), fmt.Sprintf(format, args...))
}

func (s *screen) bad(format string, args ...any) {
	s.print(" %s %s\n", s.paint(red, "✗"), s.paint(red, fmt.Sprintf(format, args...)))
}

func (s *screen) strike(format string, args ...any) {
	s.print(" %s %s\n", s.paint(yellow, "⚡"), s.paint(yellow, fmt.Sprintf(format, args...)))
}

func (s *screen) ask(text string) { s.print("\n%s", s.paint(bold, text)) }

// block prints many lines indented.
func (s *screen) block(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		s.print("   %s\n", line)
	}
}

// command prints something to type.
func (s *screen) command(text, meaning string) {
	s.print("   %s\n      %s\n", s.paint(green, text), s.paint(dim, meaning))
}
