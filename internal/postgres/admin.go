package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/election"
)

// adminConnect opens a local connection for statements of our own that may take long, and must
// never wait for a synchronous standby.
func (s *Server) adminConnect(ctx context.Context, database string) (*pgx.Conn, error) {
	conn, _, err := s.connectLocal(ctx, database, map[string]string{
		"synchronous_commit": "local",
		"statement_timeout":  "0",
		"search_path":        "pg_catalog",
	}, nil)
	return conn, err
}

// Checkpoint runs CHECKPOINT on the local server; on a standby it is a restartpoint. Under load
// it may take minutes: ctx bounds it.
func (s *Server) Checkpoint(ctx context.Context) error {
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// PromoteCheckpoint runs a CHECKPOINT after a promotion, unless pg_control has the timeline
// already (row H-084): until then pg_rewind from this server would be misled.
func (s *Server) PromoteCheckpoint(ctx context.Context, tl election.Timeline) error {
	c, err := s.Control()
	if err != nil {
		return fmt.Errorf("checkpoint after promotion: %w", err)
	}
	if c.Timeline >= tl {
		return nil
	}
	return s.Checkpoint(ctx)
}

// SwitchWAL ends the current segment and returns the end of WAL before the switch.
func (s *Server) SwitchWAL(ctx context.Context) (election.LSN, error) {
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return 0, fmt.Errorf("switch wal: %w", err)
	}
	defer closeConn(conn)
	var at string
	if err := conn.QueryRow(ctx, "SELECT pg_switch_wal()::text").Scan(&at); err != nil {
		return 0, fmt.Errorf("switch wal: %w", err)
	}
	return election.ParseLSN(at)
}

// ResumeReplay lets a paused standby go on (row H-095).
func (s *Server) ResumeReplay(ctx context.Context) error {
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return fmt.Errorf("resume replay: %w", err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused()"); err != nil {
		return fmt.Errorf("resume replay: %w", err)
	}
	return nil
}

// SourceCheckpoint runs CHECKPOINT on the source as the rewind user, who must be allowed to.
func (s *Server) SourceCheckpoint(ctx context.Context, src Source) error {
	conn, err := s.connectSource(ctx, src)
	if err != nil {
		return fmt.Errorf("checkpoint on the source: %w", err)
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint on the source: %w", err)
	}
	return nil
}

// SourceCheckpointTimeline is the timeline of the source's last checkpoint (row H-083).
func (s *Server) SourceCheckpointTimeline(ctx context.Context, src Source) (election.Timeline, error) {
	conn, err := s.connectSource(ctx, src)
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	var tl int64
	if err := conn.QueryRow(ctx, "SELECT timeline_id::bigint FROM pg_catalog.pg_control_checkpoint()").Scan(&tl); err != nil {
		return 0, fmt.Errorf("source %s: timeline of the last checkpoint: %w", src, err)
	}
	return election.Timeline(tl), nil
}

// helperPassFile writes a password file for one helper program, and gives its environment and
// what removes the file again.
func (s *Server) helperPassFile(src Source, cred Credentials) (env []string, cleanup func(), err error) {
	if cred.Password == "" {
		return nil, func() {}, nil
	}
	text, err := passText(src, cred)
	if err != nil {
		return nil, nil, err
	}
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return nil, nil, err
	}
	path := filepath.Join(s.opt.StateDir, "pgpass.helper")
	if err := s.writeDurably(path, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	return []string{"PGPASSFILE=" + path}, func() { _ = os.Remove(path) }, nil
}

// helperDSN is the connection string for pg_basebackup and pg_rewind.
func (s *Server) helperConnInfo(src Source, cred Credentials, database string, major int) map[string]string {
	kv := connKeywords(cred, major)
	kv["host"], kv["port"], kv["user"], kv["dbname"] = src.Host, src.Port, cred.Username, database
	kv["connect_timeout"] = "10"
	// A source that vanished without a word must not hold a copy up for hours.
	kv["keepalives_idle"], kv["keepalives_interval"], kv["keepalives_count"] = "10", "5", "3"
	kv["krbsrvname"] = s.opt.KrbSrvName
	return kv
}
