package postgres

import (
	"fmt"
	"os"
	"strconv"

	"github.com/pgha/pgha/internal/election"
)

// WALTimeline is the highest timeline of which this server holds the log at a position: the one a
// standby has received up to there, also when pg_control does not say so yet.
func (s *Server) WALTimeline(lsn election.LSN) (election.Timeline, error) {
	c, err := s.Control()
	if err != nil {
		return 0, err
	}
	if c.WALSegmentSize == 0 {
		return 0, fmt.Errorf("wal timeline: pg_control names no segment size")
	}
	size := election.LSN(c.WALSegmentSize)
	segment := lsn / size
	entries, err := os.ReadDir(s.inData("pg_wal"))
	if err != nil {
		return 0, fmt.Errorf("wal timeline: %w", err)
	}
	tl := max(c.Timeline, c.MinRecoveryEndTimeline)
	for _, e := range entries {
		own, number, ok := parseSegmentName(e.Name(), size)
		// At a segment's very beginning the position is the end of the one before.
		if ok && (number == segment || lsn%size == 0 && number+1 == segment) {
			tl = max(tl, own)
		}
	}
	return tl, nil
}

// parseSegmentName reads the name of a WAL file: timeline, and segment counted from the log's begin.
func parseSegmentName(name string, size election.LSN) (election.Timeline, election.LSN, bool) {
	if len(name) != 24 {
		return 0, 0, false
	}
	tl, err1 := strconv.ParseUint(name[:8], 16, 32)
	high, err2 := strconv.ParseUint(name[8:16], 16, 32)
	low, err3 := strconv.ParseUint(name[16:], 16, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return 0, 0, false
	}
	return election.Timeline(tl), election.LSN(high)*(1<<32/size) + election.LSN(low), true
}
