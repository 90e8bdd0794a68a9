package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// ErrNoHistory says that the history file of a timeline is not here. That is not an empty history.
var ErrNoHistory = errors.New("the timeline's history file is missing")

// TimelineHistory reads the ancestors of a timeline from its history file in pg_wal. Timeline 1
// has none and needs no file.
func (s *Server) TimelineHistory(tl election.Timeline) (election.History, error) {
	if tl == 0 {
		return nil, errors.New("timeline history: the timeline is not known")
	}
	if tl == 1 {
		return nil, nil
	}
	b, err := os.ReadFile(s.inData("pg_wal", fmt.Sprintf("%08X.history", uint32(tl))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("timeline %d: %w", tl, ErrNoHistory)
	}
	if err != nil {
		return nil, fmt.Errorf("timeline %d: history: %w", tl, err)
	}
	return ParseHistory(tl, string(b))
}

// ParseHistory reads the text of a history file: a line "parent<TAB>switch point<TAB>reason" for
// each ancestor. Timelines and switch points must rise, and stay below the timeline itself.
func ParseHistory(tl election.Timeline, text string) (election.History, error) {
	var h election.History
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			return nil, fmt.Errorf("history of timeline %d: line %d: want a timeline and a position", tl, n+1)
		}
		parent, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("history of timeline %d: line %d: %w", tl, n+1, err)
		}
		at, err := election.ParseLSN(f[1])
		if err != nil {
			return nil, fmt.Errorf("history of timeline %d: line %d: %w", tl, n+1, err)
		}
		e := election.HistoryEntry{Timeline: election.Timeline(parent), Switch: at}
		if e.Timeline == 0 || e.Timeline >= tl {
			return nil, fmt.Errorf("history of timeline %d: line %d: timeline %d cannot be an ancestor", tl, n+1, parent)
		}
		if len(h) > 0 && (e.Timeline <= h[len(h)-1].Timeline || e.Switch < h[len(h)-1].Switch) {
			return nil, fmt.Errorf("history of timeline %d: line %d: out of order", tl, n+1)
		}
		h = append(h, e)
	}
	return h, nil
}
