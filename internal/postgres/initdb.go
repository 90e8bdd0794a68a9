package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// InitOptions say how initdb makes the cluster.
type InitOptions struct {
	// Options are those of row C-042, in order, without leading dashes.
	Options []Option
	// KeepMark leaves the directory declared unfinished: what follows (roles, publication) belongs
	// to its making, and FinishInit ends it.
	KeepMark bool
}

// InitDB makes a new cluster in the missing or empty data directory, with data checksums unless
// the options speak of them, and the superuser of Options with its password. Until it is
// finished the directory reads as DataPartial. progress is told the bytes made so far.
func (s *Server) InitDB(ctx context.Context, o InitOptions, progress Progress) error {
	args, err := initArgs(o, s.opt)
	if err != nil {
		return err
	}
	if err := s.requireFillable(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := s.begin("initdb", ""); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if pw := s.opt.Superuser.Password; pw != "" {
		path := filepath.Join(s.opt.StateDir, "initdb.pw")
		if err := s.writeDurably(path, []byte(pw+"\n"), 0o600); err != nil {
			return fmt.Errorf("initdb: %w", err)
		}
		defer func() { _ = os.Remove(path) }()
		args = append(args, "--pwfile="+path)
	}
	stop := watchSize(s.opt.DataDir, progress)
	_, err = s.run(ctx, helper{Name: "initdb", Path: s.bin("initdb"), Args: args})
	stop()
	if err != nil {
		return err
	}
	if err := s.syncTree(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if o.KeepMark {
		return nil
	}
	return s.finish()
}

// initArgs checks the options and adds ours (row C-042).
func initArgs(o InitOptions, opt Options) ([]string, error) {
	args := []string{"--pgdata=" + opt.DataDir, "--username=" + opt.Superuser.Username, "--no-sync"}
	checksums := true
	for _, op := range o.Options {
		name := strings.ToLower(strings.TrimLeft(op.Name, "-"))
		switch name {
		case "pgdata", "nosync", "no-sync", "pwfile", "sync-only", "version", "username", "pwprompt", "d", "u", "n", "w", "s", "v":
			return nil, fmt.Errorf("initdb: option %q is not allowed: pgha sets it", op.Name)
		case "data-checksums", "k", "no-data-checksums":
			checksums = false
		}
		arg := "--" + name
		if len(name) == 1 {
			arg = "-" + strings.TrimLeft(op.Name, "-")
		}
		if op.Value != "" {
			arg += "=" + op.Value
		}
		args = append(args, arg)
	}
	if checksums {
		args = append(args, "--data-checksums")
	}
	auth := slices.ContainsFunc(o.Options, func(op Option) bool { return strings.HasPrefix(strings.TrimLeft(op.Name, "-"), "auth") })
	if !auth && opt.Superuser.Password != "" {
		// initdb itself would trust everybody on this machine, and only warns of it.
		args = append(args, "--auth=scram-sha-256")
	}
	if strings.ContainsAny(opt.Superuser.Password, "\r\n\x00") {
		return nil, errors.New("initdb: the superuser's password holds a line break or a zero byte")
	}
	return args, nil
}

// watchSize reports now and then how large a directory is, until stop is called.
func watchSize(dir string, progress Progress) (stop func()) {
	if progress == nil {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			progress(dirSize(dir), 0)
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func dirSize(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // files come and go while initdb runs: a guess is enough
		}
		if st, err := d.Info(); err == nil {
			sum += st.Size()
		}
		return nil
	})
	return sum
}
