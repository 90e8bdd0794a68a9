package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// observedWait is a session whose commit waits for its standbys.
type observedWait struct {
	PID     int       `json:"pid"`
	Backend time.Time `json:"backend"` // its start: a process id comes again
	Query   time.Time `json:"query"`   // start of the statement that waits
}

// waitWatch finds commits whose wait was cancelled: PostgreSQL then acknowledges them, with a
// warning that few clients read, although no standby has them.
//
// It sees sessions, not positions, so it counts only what cannot be anything else: a wait that was
// there in two looks and is over in the next, while the set had confirmed nothing in all three. What
// happens between two looks is not seen; the count is a lower bound.
type waitWatch struct {
	life      serverLife
	setting   string
	confirmed election.LSN
	looks     map[observedWait]int
}

// look takes the waits of one observation and returns those that ended without a confirmation.
func (w *waitWatch) look(o Observation, waits []observedWait) (ended []observedWait) {
	confirmed, ok := confirmedBySet(o)
	if !ok {
		*w = waitWatch{}
		return nil
	}
	same := w.looks != nil && w.life == o.life() && w.setting == o.SyncNames && w.confirmed == confirmed
	looks := make(map[observedWait]int, len(waits))
	for _, x := range waits {
		looks[x] = 1
		if same {
			looks[x] += w.looks[x]
		}
	}
	if same {
		for x, n := range w.looks {
			if n > 1 && looks[x] == 0 {
				ended = append(ended, x)
			}
		}
	}
	*w = waitWatch{life: o.life(), setting: o.SyncNames, confirmed: confirmed, looks: looks}
	return ended
}

// confirmedBySet is the position up to which the set has acknowledged; false where nothing waits, and
// where it cannot be told from the senders alone (the first of several by priority).
func confirmedBySet(o Observation) (election.LSN, bool) {
	set, err := ParseSyncText(o.SyncNames)
	if err != nil || set.Wait == 0 || o.Role != election.RolePrimary || !set.Any && set.Wait < len(set.Names) {
		return 0, false
	}
	flushed := make([]election.LSN, len(set.Names))
	for i, name := range set.Names {
		for _, s := range o.Replication {
			if strings.EqualFold(s.ApplicationName, name) {
				flushed[i] = max(flushed[i], s.FlushLSN)
			}
		}
	}
	slices.Sort(flushed)
	return flushed[len(flushed)-set.Wait], true
}

// cancelledWaits counts the commits that were acknowledged without their standbys since the last
// call. A session that is gone was terminated, which acknowledges nothing.
func (s *Server) cancelledWaits(ctx context.Context, o Observation, waits []observedWait) (int, error) {
	ended := s.obs.waits.look(o, waits)
	if len(ended) == 0 {
		return 0, nil
	}
	pids := make([]int32, len(ended))
	starts := make([]time.Time, len(ended))
	for i, x := range ended {
		pids[i], starts[i] = int32(x.PID), x.Backend
	}
	var n int
	err := s.obs.conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity a
		JOIN unnest($1::int4[], $2::timestamptz[]) AS w(pid, begun) ON a.pid = w.pid AND a.backend_start = w.begun`,
		pids, starts).Scan(&n)
	return n, err
}
