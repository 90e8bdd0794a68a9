package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/postgres/conf"
)

// RewindOptions of Rewind.
type RewindOptions struct {
	// Options are the operator's (row C-093), without leading dashes.
	Options []Option
	// RestoreWAL fetches missing WAL by the configured restore_command (PostgreSQL 13).
	RestoreWAL bool
}

// RewindResult says what Rewind did.
type RewindResult struct {
	// Done is false if pg_rewind found nothing to do.
	Done bool
	// Copied is how many bytes came from the source, as far as pg_rewind said.
	Copied int64
	Output string
}

// ErrCannotRewind says that this data directory cannot be rewound, now or ever; the error that
// wraps it says why.
var ErrCannotRewind = errors.New("cannot rewind")

// Rewind makes the stopped data directory follow the source's history, with pg_rewind as the
// rewind role. The source should be a primary that has a checkpoint on its timeline
// (SourceCheckpointTimeline). From before the first write until the result is durable the
// directory reads as DataPartial, and stays so when it fails half-way: then only a clone helps,
// or another Rewind.
//
// Own configuration files come through unchanged; postgresql.conf is for WriteConfig to render
// afterwards. The result starts as a standby.
func (s *Server) Rewind(ctx context.Context, src Source, o RewindOptions, progress Progress) (RewindResult, error) {
	c, err := s.rewindPreconditions(ctx, src)
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	major, err := s.MajorVersion()
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	args, err := s.rewindArgs(src, o, major)
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	env, cleanup, err := s.helperPassFile(src, s.opt.Rewind)
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	defer cleanup()
	kept, err := s.readOwnFiles()
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	if err := s.begin("rewind", src.String()); err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	restore, err := s.prepareRecovery(ctx, c, major)
	if err != nil {
		return RewindResult{}, fmt.Errorf("rewind from %s: crash recovery: %w", src, err)
	}
	s.log.Info("rewind started", zap.String("source", src.String()))
	// A statement_timeout of the role or database would abort the copy in the middle.
	env = append(env, "PGOPTIONS=-c statement_timeout=0 -c idle_in_transaction_session_timeout=0")
	var writing atomic.Bool
	out, err := s.run(ctx, helper{
		Name: "pg_rewind", Path: s.bin("pg_rewind"), Args: args, Env: env,
		OnLine: func(line string) {
			// pg_rewind says this once it has read both sides, before its first write.
			if strings.Contains(line, "need to copy") {
				writing.Store(true)
			}
			reportProgress(line, progress)
		},
	})
	if err != nil {
		if !writing.Load() {
			err = errors.Join(err, restore(), s.finish())
		}
		return RewindResult{Output: out}, fmt.Errorf("rewind from %s: %w", src, err)
	}
	res := RewindResult{Done: !strings.Contains(out, "no rewind required"), Output: out, Copied: copiedBytes(out)}
	if err := s.finishRewind(kept); err != nil {
		return res, fmt.Errorf("rewind from %s: %w", src, err)
	}
	return res, nil
}

// rewindPreconditions refuses what would fail or harm.
func (s *Server) rewindPreconditions(ctx context.Context, src Source) (ControlData, error) {
	if err := s.requireStopped(); err != nil {
		return ControlData{}, err
	}
	st, err := s.DataDir()
	if err != nil {
		return ControlData{}, err
	}
	if st != DataCluster {
		mark, err := s.Unfinished()
		if err != nil || st != DataPartial || mark == nil || mark.Operation != "rewind" {
			return ControlData{}, errors.Join(fmt.Errorf("%w: %w: it is %s", ErrCannotRewind, ErrDataDir, st), err)
		}
	}
	c, err := s.Control()
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrCannotRewind, err)
	}
	if !c.CanRewind() {
		return c, fmt.Errorf("%w: neither data checksums nor wal_log_hints are on", ErrCannotRewind)
	}
	info, err := s.IdentifySource(ctx, src)
	if err != nil {
		return c, err
	}
	if info.SystemID != c.SystemID {
		return c, fmt.Errorf("%w: the system identifiers differ: here %d, there %d", ErrCannotRewind, c.SystemID, info.SystemID)
	}
	return c, nil
}

// CanRewind says whether the data directory meets pg_rewind's condition (row H-080).
func (c ControlData) CanRewind() bool { return c.DataChecksums || c.WALLogHints }

func (s *Server) rewindArgs(src Source, o RewindOptions, major int) ([]string, error) {
	database := src.Database
	setDefault(&database, s.opt.Database)
	dsn, err := conf.RenderConnInfo(s.helperConnInfo(src, s.opt.Rewind, database, major))
	if err != nil {
		return nil, err
	}
	args := []string{"--target-pgdata=" + s.opt.DataDir, "--source-server=" + dsn, "--progress", "--no-sync"}
	if o.RestoreWAL && (major >= 15 || major >= 13 && s.opt.ConfigDir == s.opt.DataDir) {
		args = append(args, "--restore-target-wal")
	}
	if main := filepath.Join(s.opt.ConfigDir, s.opt.ConfigBaseName+".conf"); major >= 15 && main != s.inData("postgresql.conf") {
		args = append(args, "--config-file="+main)
	}
	for _, op := range o.Options {
		name := strings.TrimLeft(op.Name, "-")
		switch name {
		case "target-pgdata", "source-pgdata", "source-server", "write-recovery-conf", "dry-run", "restore-target-wal",
			"config-file", "no-ensure-shutdown", "version", "help", "progress", "no-sync":
			return nil, fmt.Errorf("pg_rewind: option %q is not allowed: pgha sets it", op.Name)
		}
		arg := "--" + name
		if op.Value != "" {
			arg += "=" + op.Value
		}
		args = append(args, arg)
	}
	return args, nil
}

// ownFiles are files in the data directory that belong to this member and not to its history.
func ownFiles(base string) []string {
	return []string{base + ".base.conf", base + ".conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"}
}

// readOwnFiles keeps the member's own files, which pg_rewind overwrites with the source's. They
// are also put down in the state directory, for a rewind that is interrupted.
func (s *Server) readOwnFiles() (map[string][]byte, error) {
	save := filepath.Join(s.opt.StateDir, "kept")
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return nil, err
	}
	if err := s.ensureDir(save); err != nil {
		return nil, err
	}
	mark, err := s.Unfinished()
	if err != nil {
		return nil, err
	}
	dir := s.opt.DataDir
	if mark != nil {
		dir = save // what lies in the data directory now may be the source's
	}
	kept := map[string][]byte{}
	for _, name := range ownFiles(s.opt.ConfigBaseName) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kept[name] = b
		if _, err := s.writeIfDifferent(filepath.Join(save, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// finishRewind puts the member's own files back, removes what marks the source's role, makes
// everything durable and takes the mark away.
func (s *Server) finishRewind(kept map[string][]byte) error {
	for name, b := range kept {
		if _, err := s.writeIfDifferent(s.inData(name), b, s.fileMode()); err != nil {
			return err
		}
	}
	for _, name := range []string{"recovery.signal", "promote", "postmaster.pid"} {
		if err := os.RemoveAll(s.inData(name)); err != nil {
			return err
		}
	}
	// Started as it is, the directory would recover and then write on a timeline of its own.
	if err := s.WriteStandbySignal(); err != nil {
		return err
	}
	if err := s.syncTree(); err != nil {
		return err
	}
	return s.finish()
}

// prepareRecovery makes way for the crash recovery of a directory that was not shut down cleanly, which
// pg_rewind does itself from PostgreSQL 13 on, in single-user mode: that refuses to run with a signal
// file, and takes the postmaster.pid of a lost power supply for a running server once its number is
// another process's. restore puts back what a start as a standby needs.
func (s *Server) prepareRecovery(ctx context.Context, c ControlData, major int) (restore func() error, err error) {
	if c.State == ControlShutDown || c.State == ControlShutDownInRecovery {
		return func() error { return nil }, nil
	}
	for _, name := range []string{"standby.signal", "recovery.signal", "postmaster.pid"} {
		if err := removeDurably(s.inData(name)); err != nil {
			return nil, err
		}
	}
	if major < 13 {
		return s.WriteStandbySignal, s.singleUserRecovery(ctx)
	}
	return s.WriteStandbySignal, nil
}

// singleUserRecovery replays the WAL after a crash, so that the directory is cleanly shut down.
// From PostgreSQL 13 on pg_rewind does this itself.
func (s *Server) singleUserRecovery(ctx context.Context) error {
	_, err := s.run(ctx, helper{
		Name: "postgres --single", Path: s.bin("postgres"), Stdin: "\n",
		Args: []string{
			"--single", "-D", s.opt.DataDir, "-c", "config_file=" + filepath.Join(s.opt.ConfigDir, s.opt.ConfigBaseName+".conf"),
			"-c", "archive_mode=on", "-c", "archive_command=false", "template1",
		},
	})
	return err
}

// copiedBytes reads what pg_rewind said it copied: the last progress line.
func copiedBytes(out string) (n int64) {
	for line := range strings.SplitSeq(out, "\n") {
		reportProgress(line, func(done, _ int64) { n = max(n, done) })
	}
	return n
}
