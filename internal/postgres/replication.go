package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/election"
)

// SourceInfo is what a source says about itself over a replication connection.
type SourceInfo struct {
	SystemID uint64
	Timeline election.Timeline
	// LSN is the end of flushed WAL on a primary, of what it replayed or received on a standby.
	LSN        election.LSN
	History    election.History
	InRecovery election.Tristate
	Version    string
}

// IdentifySource asks a source for its system identifier, timeline, position and history, with
// the replication role. It needs no SQL rights there.
func (s *Server) IdentifySource(ctx context.Context, src Source) (SourceInfo, error) {
	conn, err := s.connectReplication(ctx, src)
	if err != nil {
		return SourceInfo{}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	info, err := identify(ctx, conn)
	if err != nil {
		return SourceInfo{}, fmt.Errorf("source %s: %w", src, err)
	}
	return info, nil
}

func identify(ctx context.Context, conn *pgconn.PgConn) (SourceInfo, error) {
	row, err := replicationRow(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return SourceInfo{}, err
	}
	info := SourceInfo{Version: conn.ParameterStatus("server_version")}
	if info.SystemID, err = strconv.ParseUint(row[0], 10, 64); err != nil {
		return info, fmt.Errorf("IDENTIFY_SYSTEM: system identifier: %w", err)
	}
	tl, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return info, fmt.Errorf("IDENTIFY_SYSTEM: timeline: %w", err)
	}
	info.Timeline = election.Timeline(tl)
	if info.LSN, err = election.ParseLSN(row[2]); err != nil {
		return info, fmt.Errorf("IDENTIFY_SYSTEM: position: %w", err)
	}
	if info.Timeline > 1 {
		text, err := timelineHistory(ctx, conn, info.Timeline)
		if err != nil {
			return info, err
		}
		if info.History, err = ParseHistory(info.Timeline, text); err != nil {
			return info, err
		}
	}
	// PostgreSQL 14 reports the role unasked; before, a read-only transaction is the best sign.
	switch conn.ParameterStatus("in_hot_standby") {
	case "on":
		info.InRecovery = election.Yes
	case "off":
		info.InRecovery = election.No
	default:
		row, err := replicationRow(ctx, conn, "SHOW transaction_read_only", 1)
		if err != nil {
			return info, err
		}
		info.InRecovery = election.KnownBool(row[0] == "on")
	}
	return info, nil
}

// timelineHistory fetches the text of a history file.
func timelineHistory(ctx context.Context, conn *pgconn.PgConn, tl election.Timeline) (string, error) {
	row, err := replicationRow(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", uint32(tl)), 2)
	if err != nil {
		return "", err
	}
	// The column is declared as text or bytea by version, but always sent raw, save that a
	// client may see bytea's hexadecimal form.
	if hexed, ok := strings.CutPrefix(row[1], `\x`); ok {
		if b, err := hex.DecodeString(hexed); err == nil {
			return string(b), nil
		}
	}
	return row[1], nil
}

// replicationRow runs a replication command and gives the one row of its answer.
func replicationRow(ctx context.Context, conn *pgconn.PgConn, command string, columns int) ([]string, error) {
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s: want one row of %d columns", command, columns)
	}
	out := make([]string, len(results[0].Rows[0]))
	for i, v := range results[0].Rows[0] {
		out[i] = string(v)
	}
	return out, nil
}
