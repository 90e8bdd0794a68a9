package postgres

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// BackupOptions of BaseBackup.
type BackupOptions struct {
	// Options are the operator's (row C-088), without leading dashes.
	Options []Option
	// Major is the version of the source, as 15; 0: ask pg_basebackup, which is of the same.
	Major int
}

// BaseBackup clones the source into the missing or empty data directory, with the WAL streamed
// beside it. Until the copy is complete and durable the directory reads as DataPartial. Source's
// slot, where given, must exist there; without one pg_basebackup uses a temporary slot.
//
// It makes one attempt and leaves what it made behind when it fails: the caller decides whether
// to move that aside and try again. A failure of the program is a *HelperError.
func (s *Server) BaseBackup(ctx context.Context, src Source, o BackupOptions, progress Progress) error {
	if err := s.requireStopped(); err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	args, err := s.backupArgs(ctx, src, o)
	if err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	env, cleanup, err := s.helperPassFile(src, s.opt.Replication)
	if err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	defer cleanup()
	if err := s.requireFillable(); err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	if err := s.begin("clone", src.String()); err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	s.log.Info("clone started", zap.String("source", src.String()))
	_, err = s.run(ctx, helper{
		Name: "pg_basebackup", Path: s.bin("pg_basebackup"), Args: args, Env: env,
		OnLine: func(line string) { reportProgress(line, progress) },
	})
	if err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	if err := s.finishClone(); err != nil {
		return fmt.Errorf("clone from %s: %w", src, err)
	}
	return nil
}

// finishClone removes what the source's own role left in the copy, makes it durable and takes
// the mark away. A copy is never a running server, nor one that recovers by itself.
func (s *Server) finishClone() error {
	for _, name := range []string{"recovery.signal", "standby.signal", "postmaster.pid", "promote"} {
		if err := os.RemoveAll(s.inData(name)); err != nil {
			return err
		}
	}
	// Started as it is, the copy would become a primary of its own.
	if err := s.WriteStandbySignal(); err != nil {
		return err
	}
	if err := s.syncTree(); err != nil {
		return err
	}
	return s.finish()
}

func (s *Server) backupArgs(ctx context.Context, src Source, o BackupOptions) ([]string, error) {
	major := o.Major
	if major == 0 {
		var err error
		if major, err = s.programMajor(ctx, "pg_basebackup"); err != nil {
			return nil, err
		}
	}
	// The database name matters to nobody, but row H-103 and password files expect one.
	dsn, err := conf.RenderConnInfo(s.helperConnInfo(src, s.opt.Replication, "replication", major))
	if err != nil {
		return nil, err
	}
	args := []string{
		"--pgdata=" + s.opt.DataDir, "--dbname=" + dsn, "--wal-method=stream", "--no-password",
		"--progress", "--no-sync", // one sync of the file systems follows
	}
	checkpoint := "fast"
	for _, op := range o.Options {
		name := strings.TrimLeft(op.Name, "-")
		if err := allowedBackupOption(name, op.Value, major); err != nil {
			return nil, err
		}
		if name == "checkpoint" {
			checkpoint = op.Value
			continue
		}
		arg := "--" + name
		if op.Value != "" {
			arg += "=" + op.Value
		}
		args = append(args, arg)
	}
	args = append(args, "--checkpoint="+checkpoint)
	if src.Slot != "" {
		args = append(args, "--slot="+src.Slot)
	}
	return args, nil
}

// allowedBackupOption refuses what would break the clone (row C-088).
func allowedBackupOption(name, value string, major int) error {
	switch name {
	case "pgdata", "format", "wal-method", "xlog-method", "gzip", "version", "dbname", "host", "port",
		"username", "password", "no-password", "slot", "create-slot", "write-recovery-conf", "target", "help", "verbose", "progress":
		return fmt.Errorf("pg_basebackup: option %q is not allowed: pgha sets it", name)
	case "compress":
		if major < 15 || !strings.HasPrefix(value, "server") {
			return fmt.Errorf("pg_basebackup: option %q: only compression by the server, from PostgreSQL 15 on", name)
		}
	}
	if len(name) < 2 {
		return fmt.Errorf("pg_basebackup: option %q: use its long name", name)
	}
	return nil
}

// programMajor asks a program for its version.
func (s *Server) programMajor(ctx context.Context, name string) (int, error) {
	out, err := s.run(ctx, helper{Name: name, Path: s.bin(name), Args: []string{"--version"}})
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`\(PostgreSQL\) (\d+)`).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s: version %q", name, strings.TrimSpace(out))
	}
	return strconv.Atoi(m[1])
}

// reportProgress reads a progress line such as "1234/5678 kB (21%), 0/1 tablespace".
func reportProgress(line string, progress Progress) {
	if progress == nil {
		return
	}
	numbers, _, ok := strings.Cut(line, " kB")
	if !ok {
		return
	}
	done, total, ok := strings.Cut(strings.TrimSpace(numbers), "/")
	d, err := strconv.ParseInt(done, 10, 64)
	t, err2 := strconv.ParseInt(total, 10, 64)
	if ok && err == nil && err2 == nil {
		progress(d<<10, t<<10)
	}
}

// CloneTimeline tells what timeline a finished clone is on, for messages.
func (s *Server) CloneTimeline() (election.Timeline, error) {
	c, err := s.Control()
	return max(c.Timeline, c.MinRecoveryEndTimeline), err
}
