package election

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the write-ahead log, in bytes since the log began.
// Positions compare only within one timeline history.
type LSN uint64

// String writes the position the way PostgreSQL does: two hexadecimal halves.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// ParseLSN reads the "X/X" form that PostgreSQL prints.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("lsn %q: want two hexadecimal numbers with a slash between them", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("lsn %q: %w", s, err)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("lsn %q: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

// Timeline numbers one branch of the write-ahead log. Zero means unknown.
type Timeline uint32

// HistoryEntry is one ancestor of a timeline: it was left at Switch.
type HistoryEntry struct {
	Timeline Timeline
	Switch   LSN
}

// History lists the ancestors of a timeline, oldest first, without the timeline itself.
// Two servers are on the same history only if the whole list is equal: two nodes that were
// promoted apart can both have made "timeline 2" (safety review, hole 10).
type History []HistoryEntry

// SameBranch says whether two histories agree entry by entry.
func (h History) SameBranch(other History) bool {
	if len(h) != len(other) {
		return false
	}
	for i := range h {
		if h[i] != other[i] {
			return false
		}
	}
	return true
}
