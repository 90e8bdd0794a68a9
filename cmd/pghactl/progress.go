package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// progressLine shows how far one long piece of work is: as one line that is redrawn on a terminal,
// as plain lines now and then elsewhere.
type progressLine struct {
	w   io.Writer
	tty bool
	now func() time.Time

	start, lastPrint time.Time
	firstDone        int64
	lastDone         int64
	drawn            bool
}

// plainEvery is how often a line is printed where lines cannot be redrawn.
const plainEvery = 10 * time.Second

func newProgressLine(e *env) *progressLine {
	return &progressLine{w: e.stderr, tty: e.stderrTTY, now: e.now}
}

// update shows a new state. total zero means that the end is not known; rate zero lets the line
// count it from the bytes it has seen.
func (p *progressLine) update(label string, done, total int64, rate float64) {
	now := p.now()
	if p.start.IsZero() || done < p.lastDone { // begun, or begun anew
		p.start, p.firstDone = now, done
	}
	p.lastDone = done
	if elapsed := now.Sub(p.start).Seconds(); rate <= 0 && elapsed > 0 {
		rate = float64(done-p.firstDone) / elapsed
	}
	text := progressText(label, done, total, rate)
	if p.tty {
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		p.drawn = true
		return
	}
	if p.lastPrint.IsZero() || now.Sub(p.lastPrint) >= plainEvery {
		fmt.Fprintln(p.w, text)
		p.lastPrint = now
	}
}

// end leaves the line, so that what follows starts at the left margin.
func (p *progressLine) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

const barWidth = 20

// progressText is one line: bar, share, bytes, rate, and the time that is left at this rate.
func progressText(label string, done, total int64, rate float64) string {
	var b strings.Builder
	b.WriteString(label)
	done = max(done, 0)
	if total > 0 {
		share := min(1, float64(done)/float64(total))
		filled := int(share * barWidth)
		fmt.Fprintf(&b, " [%s%s] %3.0f%%  %s of %s", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled),
			share*100, humanize.IBytes(uint64(done)), humanize.IBytes(uint64(total)))
	} else if done > 0 {
		fmt.Fprintf(&b, "  %s", humanize.IBytes(uint64(done)))
	}
	if rate >= 1 {
		fmt.Fprintf(&b, "  %s/s", humanize.IBytes(uint64(rate)))
		if left := float64(total - done); total > 0 && left > 0 {
			fmt.Fprintf(&b, "  ETA %s", roundDuration(time.Duration(left/rate*float64(time.Second))))
		}
	}
	return b.String()
}

// roundDuration drops what nobody reads.
func roundDuration(d time.Duration) time.Duration {
	switch {
	case d >= time.Hour:
		return d.Round(time.Minute)
	case d >= time.Second:
		return d.Round(time.Second)
	default:
		return d.Round(time.Millisecond)
	}
}
