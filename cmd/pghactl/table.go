package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// tableWidth is the widest a table may be: it fits a terminal beside another and a mail.
const tableWidth = 100

// minFlexible is the narrowest a column that may wrap is made.
const minFlexible = 8

const columnGap = "  "

type column struct {
	title string
	right bool // numbers
	wrap  bool // may be folded over several lines if the table is too wide
}

// table is rows of text under titles. Long cells are folded, never cut: a name that cannot be
// copied is no name.
type table struct {
	cols []column
	rows [][]string
}

func (t table) render(w io.Writer) {
	widths := t.widths()
	header := make([]string, len(t.cols))
	for i, c := range t.cols {
		header[i] = c.title
	}
	t.renderRow(w, widths, header)
	for _, row := range t.rows {
		t.renderRow(w, widths, row)
	}
}

// widths gives each column its natural width and then narrows the widest foldable one until the
// whole fits.
func (t table) widths() []int {
	widths := make([]int, len(t.cols))
	total := len(columnGap) * (len(t.cols) - 1)
	for i, c := range t.cols {
		widths[i] = textWidth(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], textWidth(row[i]))
		}
		total += widths[i]
	}
	for total > tableWidth {
		widest := -1
		for i, c := range t.cols {
			if c.wrap && widths[i] > minFlexible && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

func (t table) renderRow(w io.Writer, widths []int, cells []string) {
	folded := make([][]string, len(cells))
	height := 1
	for i, cell := range cells {
		folded[i] = fold(cell, widths[i])
		height = max(height, len(folded[i]))
	}
	for line := range height {
		var b strings.Builder
		for i := range cells {
			text := ""
			if line < len(folded[i]) {
				text = folded[i][line]
			}
			if i > 0 {
				b.WriteString(columnGap)
			}
			padding := strings.Repeat(" ", max(0, widths[i]-textWidth(text)))
			if t.cols[i].right {
				b.WriteString(padding + text)
			} else {
				b.WriteString(text + padding)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

func textWidth(s string) int {
	width := 0
	for line := range strings.SplitSeq(s, "\n") {
		width = max(width, utf8.RuneCountInString(line))
	}
	return width
}

// fold breaks text into lines of at most width runes, at a blank or after punctuation where there
// is one in the latter two thirds of the line.
func fold(s string, width int) []string {
	var lines []string
	for part := range strings.SplitSeq(s, "\n") {
		runes := []rune(part)
		for len(runes) > width && width > 0 {
			at := breakPoint(runes, width)
			lines = append(lines, strings.TrimRight(string(runes[:at]), " "))
			runes = []rune(strings.TrimLeft(string(runes[at:]), " "))
		}
		lines = append(lines, string(runes))
	}
	return lines
}

func breakPoint(runes []rune, width int) int {
	if runes[width] == ' ' {
		return width
	}
	for at := width; at > width/3; at-- {
		if strings.ContainsRune(" -._,:/@", runes[at-1]) {
			return at
		}
	}
	return width
}

// paragraph folds a sentence to the table's width, with a prefix on the first line and blanks of
// the same width on the others.
func paragraph(w io.Writer, prefix, text string) {
	for i, line := range fold(text, tableWidth-textWidth(prefix)) {
		if i == 1 {
			prefix = strings.Repeat(" ", textWidth(prefix))
		}
		fmt.Fprintln(w, strings.TrimRight(prefix+line, " "))
	}
}
