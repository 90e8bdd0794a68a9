package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
)

// A voter freezes: it stops the walreceiver for good, so that it acknowledges nothing more to the
// leader it votes against, and then says where its log ends. The setting alone stops nothing: the
// startup process reads it when it comes to it, and until then it may even start a walreceiver with
// the old one. So the proof is where the startup process stands.
//
// A new session is forked from the postmaster. If it shows the empty setting, the postmaster loaded
// it and went on to signal the startup process before that session began. If that session then sees the
// startup process asleep between two tries to get more log (freezeWait), two things hold: on its way
// there it stopped the walreceiver and read all the local log, and the first thing that it does
// when it wakes is to read the new settings.

const (
	freezeWait = "RecoveryRetrieveRetryInterval"
	// freezeProofTime bounds one call; the record stays, and the next call goes on.
	freezeProofTime = 2 * time.Second
	// conflictPause is how often blockers of the replay are cancelled.
	conflictPause = 20 * time.Millisecond
)

// Errors of Freeze.
var (
	// ErrNotProven: the member is not yet seen to have frozen. The record stands; try again.
	ErrNotProven = errors.New("not proven to be frozen")
	// ErrCannotFreeze: this server cannot freeze as it is, such as a primary.
	ErrCannotFreeze = errors.New("cannot freeze")
)

// Frozen is where the log of a frozen member ends: everything that it ever acknowledged lies before,
// and no more will come.
type Frozen struct {
	Timeline election.Timeline
	LSN      election.LSN
	// StartTime of the server that this was proven for.
	StartTime time.Time
	Took      time.Duration
}

// Freeze stops this running standby from following anybody: it writes the record durably, then the
// files, has the server reload, and proves that no walreceiver runs and none will start. Queries
// that hold up the replay are cancelled, and a paused replay goes on. It may be repeated, also with
// the same record. Any error says that nothing is proven, and so that no vote may be cast.
func (s *Server) Freeze(ctx context.Context, rec FreezeRecord, reload Reload) (Frozen, error) {
	begun := time.Now()
	if err := s.freezable(ctx, rec); err != nil {
		return Frozen{}, fmt.Errorf("freeze: %w", err)
	}
	if err := s.writeFreezeRecord(rec); err != nil {
		return Frozen{}, fmt.Errorf("freeze: %w", err)
	}
	if err := s.freezeFiles(); err != nil {
		return Frozen{}, fmt.Errorf("freeze: %w", err)
	}
	if err := reload(ctx); err != nil {
		return Frozen{}, fmt.Errorf("freeze: %w: reload: %w", ErrNotProven, err)
	}
	out, err := s.proveFrozen(ctx)
	if err != nil {
		return Frozen{}, fmt.Errorf("freeze: %w", err)
	}
	out.Took = time.Since(begun)
	s.log.Info("frozen", zap.String("leader", rec.Leader), zap.Int64("leader_revision", rec.LeaderRevision),
		zap.Stringer("lsn", out.LSN), zap.Uint32("timeline", uint32(out.Timeline)), zap.Duration("took", out.Took))
	return out, nil
}

// freezable refuses before anything is written, unless a record stands already.
func (s *Server) freezable(ctx context.Context, rec FreezeRecord) error {
	if rec.LeaderRevision == 0 {
		return fmt.Errorf("%w: the leader revision is not known", ErrCannotFreeze)
	}
	old, err := s.FreezeRecord()
	if err != nil || old != nil {
		return nil //nolint:nilerr // an unreadable record is replaced by this one
	}
	o, err := s.Observe(ctx)
	if err != nil {
		return fmt.Errorf("%w: only a running server votes: %w", ErrNotProven, err)
	}
	if o.Role != election.RoleStandby {
		return fmt.Errorf("%w: the server is a %s", ErrCannotFreeze, o.Role)
	}
	if o.Version < 130000 || o.Version < 140000 && o.RestoreCommand != "" {
		return fmt.Errorf("%w: PostgreSQL %d would have to restart for it", ErrCannotFreeze, o.Version/10000)
	}
	return nil
}

// freezeFiles empties the settings that bring log in, in every file that could hold them.
func (s *Server) freezeFiles() error {
	s.files.Lock()
	defer s.files.Unlock()
	w := configWriter{s: s}
	if err := w.cleanAutoConf(); err != nil {
		return err
	}
	_, err := s.patchConfig(map[string]string{"primary_conninfo": "", "primary_slot_name": "", "restore_command": ""})
	return err
}

// frozenRow is one look at the server.
type frozenRow struct {
	Recovery          bool
	Conninfo, Restore string
	StartupPID        int
	WaitType, Wait    string
	Receivers         int
	Receive, Replay   string
	Paused            bool
	Start             time.Time
}

const frozenQuery = `
SELECT pg_is_in_recovery(), current_setting('primary_conninfo'), current_setting('restore_command'),
 COALESCE(s.pid, 0), COALESCE(s.wait_event_type, ''), COALESCE(s.wait_event, ''),
 (SELECT count(*) FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'walreceiver')::int
 + (SELECT count(*) FROM pg_stat_get_wal_receiver() w WHERE w.pid IS NOT NULL)::int,
 COALESCE(pg_last_wal_receive_lsn()::text, '0/0'), COALESCE(pg_last_wal_replay_lsn()::text, '0/0'),
 pg_is_in_recovery() AND pg_is_wal_replay_paused(), pg_postmaster_start_time()
FROM (SELECT 1) one LEFT JOIN pg_stat_activity s ON s.backend_type = 'startup'`

func readFrozenRow(ctx context.Context, conn *pgx.Conn) (frozenRow, error) {
	var r frozenRow
	err := conn.QueryRow(ctx, frozenQuery).Scan(&r.Recovery, &r.Conninfo, &r.Restore, &r.StartupPID, &r.WaitType, &r.Wait,
		&r.Receivers, &r.Receive, &r.Replay, &r.Paused, &r.Start)
	return r, err
}

// still says why the row does not show a frozen server; empty if it does.
func (r frozenRow) still() string {
	switch {
	case r.Receivers > 0:
		return "a walreceiver runs"
	case r.StartupPID == 0:
		return "no startup process is seen"
	case r.Wait != freezeWait:
		return fmt.Sprintf("the startup process is at %q, not waiting for more log", strings.TrimSpace(r.WaitType+" "+r.Wait))
	}
	return ""
}

// blocked says that the replay waits for somebody's query or transaction.
func (r frozenRow) blocked() bool {
	return r.WaitType == "Lock" || r.WaitType == "BufferPin" || strings.HasPrefix(r.Wait, "RecoveryConflict")
}

// proveFrozen looks until two looks in a row show the same frozen server.
func (s *Server) proveFrozen(ctx context.Context) (Frozen, error) {
	ctx, cancel := context.WithTimeout(ctx, freezeProofTime)
	defer cancel()
	conn, err := s.sessionAfterReload(ctx, "primary_conninfo = '' and restore_command = ''",
		"SELECT current_setting('primary_conninfo') = '' AND current_setting('restore_command') = ''")
	if err != nil {
		return Frozen{}, fmt.Errorf("%w: %w", ErrNotProven, err)
	}
	defer closeConn(conn)
	var before *frozenRow
	var freed time.Time
	for why := "nothing was seen"; ; {
		row, err := readFrozenRow(ctx, conn)
		if err != nil {
			return Frozen{}, fmt.Errorf("%w: %s: %w", ErrNotProven, why, err)
		}
		if !row.Recovery {
			return Frozen{}, fmt.Errorf("%w: the server is no standby any more", ErrCannotFreeze)
		}
		if row.Conninfo != "" || row.Restore != "" {
			return Frozen{}, fmt.Errorf("%w: somebody changed the settings back", ErrNotProven)
		}
		if why = row.still(); why == "" && before != nil && *before == row {
			return s.frozenAt(row)
		}
		before = nil
		if why == "" {
			before = &row
		}
		if time.Since(freed) > conflictPause {
			freed = time.Now()
			s.freeReplay(ctx, conn, row)
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return Frozen{}, fmt.Errorf("%w: %s: %w", ErrNotProven, why, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frozenAt makes the result. What a walreceiver of this postmaster made durable counts as well as
// what was replayed; without one, all that there is was replayed, or the startup process would not
// ask for more.
func (s *Server) frozenAt(row frozenRow) (Frozen, error) {
	receive, err1 := election.ParseLSN(row.Receive)
	replay, err2 := election.ParseLSN(row.Replay)
	if err := errors.Join(err1, err2); err != nil {
		return Frozen{}, fmt.Errorf("%w: %w", ErrNotProven, err)
	}
	out := Frozen{LSN: max(receive, replay), StartTime: row.Start}
	if out.LSN == 0 {
		return out, fmt.Errorf("%w: the server does not know its position", ErrNotProven)
	}
	tl, err := s.WALTimeline(out.LSN)
	if err != nil || tl == 0 {
		return out, errors.Join(fmt.Errorf("%w: the timeline is not known", ErrNotProven), err)
	}
	out.Timeline = tl
	return out, nil
}

// freeReplay lets a replay go on that waits for a session or for an operator: the startup process
// reads no settings meanwhile, and a voter must be able to lead. Errors show as no progress.
func (s *Server) freeReplay(ctx context.Context, conn *pgx.Conn, row frozenRow) {
	if row.Paused {
		_, err := conn.Exec(ctx, "SELECT pg_wal_replay_resume()")
		s.log.Warn("replay was paused, it goes on for the freeze", zap.Error(err))
	}
	if !row.blocked() {
		return
	}
	var n int
	err := conn.QueryRow(ctx, cancelBlockers, row.StartupPID, row.WaitType == "Lock").Scan(&n)
	s.log.Warn("sessions that held up the replay were cancelled for the freeze", zap.Int("sessions", n), zap.Error(err))
}

// cancelBlockers cancels what may hold up the replay: holders of the lock it waits for, or else
// every transaction. A session between two statements of a transaction has nothing to cancel.
const cancelBlockers = `
SELECT count(CASE WHEN a.state = 'active' THEN pg_cancel_backend(a.pid) ELSE pg_terminate_backend(a.pid) END)::int
FROM pg_stat_activity a
WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
 AND (NOT $2::boolean OR a.pid IN (
  SELECT h.pid FROM pg_locks h JOIN pg_locks w ON h.locktype = w.locktype AND h.database IS NOT DISTINCT FROM w.database
   AND h.relation IS NOT DISTINCT FROM w.relation WHERE h.granted AND NOT w.granted AND w.pid = $1))`

// sessionAfterReload opens sessions until one satisfies the query, which shows that the postmaster
// has loaded the new settings and signalled all its processes before that session began.
func (s *Server) sessionAfterReload(ctx context.Context, what, query string) (*pgx.Conn, error) {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		conn, _, err := s.connectLocal(ctx, s.opt.Database, map[string]string{
			"synchronous_commit": "local", "statement_timeout": "2000", "lock_timeout": "1000",
			"jit": "off", "search_path": "pg_catalog", "DateStyle": "ISO", "default_transaction_read_only": "off",
		}, nil)
		if err != nil {
			return nil, err
		}
		var ok bool
		if err = conn.QueryRow(ctx, query, pgx.QueryExecModeSimpleProtocol).Scan(&ok); err == nil && ok {
			return conn, nil
		}
		closeConn(conn)
		if err == nil {
			err = pause(ctx, wait)
		}
		if err != nil {
			return nil, fmt.Errorf("a new session does not show %s: %w", what, err)
		}
	}
}
