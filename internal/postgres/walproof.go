package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgha/pgha/internal/election"
)

// Equal histories are no proof of equal data: two standbys that had the same WAL and were both
// promoted left their timeline at the same byte, with the same next number. Then only the WAL
// itself tells them apart, so a little of it is compared before a verdict says "streamable":
// the beginning of the last common timeline, where such a pair must part, and the end of ours.

const (
	proofWindow  = 64 << 10
	proofTimeout = 3 * time.Second
)

// walWindow is a piece of WAL to compare.
type walWindow struct {
	Timeline   election.Timeline
	Start, End election.LSN
}

// proofWindows picks what to compare, for own timelines (oldest first) of which the first
// common+1 are the source's too. Everything lies before the local end.
func proofWindows(own []walSpan, common int, end election.LSN, segSize uint64) []walWindow {
	// At the very start of a timeline all that is there came from the one before.
	for common > 0 && own[common].Begin >= end {
		common--
	}
	tl := own[common]
	var out []walWindow
	if tl.Begin > 0 {
		out = append(out, walWindow{tl.Timeline, tl.Begin, min(end, tl.Begin+proofWindow)})
	}
	// The source must have the segment of our end anyway, if we are to stream from it.
	segStart := election.LSN((uint64(end) - 1) / segSize * segSize)
	tail := walWindow{tl.Timeline, max(segStart, end-min(end, proofWindow)), end}
	if len(out) == 0 || tail.Start > out[0].Start {
		out = append(out, tail)
	}
	return out
}

// prove compares own WAL with the source's and corrects the verdict.
func (s *Server) prove(ctx context.Context, src Source, local localPosition, d *Divergence) {
	c, err := s.Control()
	if err != nil || local.LSN == 0 || d.SourceLSN == 0 {
		return
	}
	own, its := spans(local.Timeline, local.History), spans(d.SourceTimeline, d.SourceHistory)
	common := commonSpans(own, its)
	r, err := newWALReader(s.inData("pg_wal"), c, local.Timeline, local.History)
	if err != nil || common < 0 {
		return
	}
	for _, w := range proofWindows(own, common, min(local.LSN, d.SourceLSN), uint64(c.WALSegmentSize)) {
		mine, err := r.bytes(w.Start, w.End)
		if err != nil {
			continue
		}
		theirs, err := s.fetchWAL(ctx, src, w)
		if err != nil {
			continue // most often removed there already; the other window may still do
		}
		if !bytes.Equal(mine, theirs) {
			d.Proven = election.No
			d.Verdict, d.ForkTimeline, d.ForkLSN = VerdictNeedsClone, w.Timeline, own[slices.IndexFunc(own, func(sp walSpan) bool { return sp.Timeline == w.Timeline })].Begin
			d.LostBytes = int64(local.LSN - d.ForkLSN)
			d.Why = fmt.Sprintf("the WAL of timeline %d differs between %s and %s, though the histories look equal", w.Timeline, w.Start, w.End)
			return
		}
		if w.End == local.LSN {
			d.Proven = election.Yes
		}
	}
	if d.Proven == election.Yes && d.Verdict == VerdictNeedsClone {
		d.Verdict, d.LostBytes = VerdictStreamable, 0
		d.Why = "own WAL ends with the same bytes as the source's"
	}
}

// commonSpans is the index of the last timeline that two servers share; -1 if none.
func commonSpans(own, its []walSpan) int {
	common := -1
	for common+1 < min(len(own), len(its)) && own[common+1] == its[common+1] {
		common++
	}
	return common
}

// bytes reads raw WAL from pg_wal.
func (r *walReader) bytes(from, to election.LSN) ([]byte, error) {
	out := make([]byte, 0, to-from)
	for at := uint64(from); at < uint64(to); {
		if err := r.load(at); err != nil {
			return nil, err
		}
		part := r.chunk[at-r.chunkAt:]
		part = part[:min(uint64(len(part)), uint64(to)-at)]
		out = append(out, part...)
		at += uint64(len(part))
	}
	return out, nil
}

// fetchWAL reads raw WAL from a source over a replication connection of its own.
func (s *Server) fetchWAL(ctx context.Context, src Source, w walWindow) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	conn, err := s.connectReplication(ctx, src)
	if err != nil {
		return nil, err
	}
	// The stream never ends by itself; leaving is all that there is to say.
	defer func() { _ = conn.Close(ctx) }()
	command := fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %d", w.Start, uint32(w.Timeline))
	conn.Frontend().SendQuery(&pgproto3.Query{String: command})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, err
	}
	out := make([]byte, 0, w.End-w.Start)
	for uint64(len(out)) < uint64(w.End-w.Start) {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if out, err = appendWAL(out, m.Data, w); err != nil {
				return nil, err
			}
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("%s: %w", command, pgconn.ErrorResponseToPgError(m))
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return nil, fmt.Errorf("%s: the stream ended early", command)
		}
	}
	return out, nil
}

// appendWAL takes one message of the stream: 'w', where it starts, two more numbers, the bytes.
func appendWAL(out, msg []byte, w walWindow) ([]byte, error) {
	const header = 1 + 3*8
	if len(msg) == 0 || msg[0] != 'w' {
		return out, nil // a keepalive
	}
	if len(msg) < header || binary.BigEndian.Uint64(msg[1:]) != uint64(w.Start)+uint64(len(out)) {
		return nil, errors.New("wal stream: not what was asked for")
	}
	data := msg[header:]
	return append(out, data[:min(len(data), int(w.End-w.Start)-len(out))]...), nil
}
