package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Moving aside renames, it never copies: it takes no space and no time, and undoes itself when
// one of its renames fails. What it cannot rename it refuses with the reason.

const asideStamp = "20060102T150405.000Z"

// Aside is a data directory that was moved away.
type Aside struct {
	Path   string
	Moved  time.Time
	Reason string
}

// move is one rename; links are re-pointed after it.
type move struct{ from, to string }

// CanMoveAside says why MoveAside would refuse; nil if it should work. It changes nothing but
// for making the aside directory.
func (s *Server) CanMoveAside() error {
	if err := s.requireStopped(); err != nil {
		return err
	}
	if _, err := s.linkedMoves("probe"); err != nil {
		return err
	}
	dir, err := s.asideDir()
	if err != nil {
		return err
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(s.opt.DataDir, &a), unix.Stat(dir, &b)); err != nil {
		return fmt.Errorf("move aside: %w", err)
	}
	if a.Dev != b.Dev {
		return fmt.Errorf("move aside: %s and %s are on different file systems: set state_dir beside the data, or data_dir below its mount point", s.opt.DataDir, dir)
	}
	return nil
}

func (s *Server) asideDir() (string, error) {
	dir := filepath.Join(s.opt.StateDir, "aside")
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	if err := s.ensureDir(dir); err != nil {
		return "", fmt.Errorf("aside directory: %w", err)
	}
	return dir, nil
}

// MoveAside renames the data directory to <state_dir>/aside/<time>-<reason>, with the
// directories that pg_wal and tablespaces link to, and returns the new path. The server must be
// down. Where the directory itself cannot be renamed, its contents are. A missing or empty data
// directory gives an empty path and no error.
func (s *Server) MoveAside(reason string) (path string, err error) {
	if err := s.requireStopped(); err != nil {
		return "", err
	}
	st, err := s.DataDir()
	if err != nil {
		return "", err
	}
	if st == DataMissing || st == DataEmpty {
		return "", s.finish()
	}
	dir, err := s.asideDir()
	if err != nil {
		return "", err
	}
	stamp := time.Now().UTC().Format(asideStamp)
	path = filepath.Join(dir, stamp+"-"+cleanReason(reason))
	moves, err := s.linkedMoves(stamp)
	if err != nil {
		return "", err
	}
	// A crash between the renames leaves neither place complete: the mark says so.
	if err := s.begin("move aside", ""); err != nil {
		return "", err
	}
	if err := s.moveAll(moves, path); err != nil {
		return "", fmt.Errorf("move aside: %w", err)
	}
	if err := errors.Join(fsyncDir(dir), fsyncDir(filepath.Dir(s.opt.DataDir)), s.finish()); err != nil {
		return path, fmt.Errorf("move aside: %w", err)
	}
	s.log.Info("data directory moved aside", zap.String("path", path), zap.String("reason", reason))
	return path, nil
}

func cleanReason(reason string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, reason)
	return clean[:min(len(clean), 60)]
}

// moveAll carries out the renames; if one fails, those before it are undone and the mark with them.
func (s *Server) moveAll(linked []move, path string) error {
	var done []move
	undo := func(cause error) error {
		errs := []error{cause}
		for _, m := range slices.Backward(done) {
			if m.from != s.opt.DataDir {
				_ = os.Remove(m.from) // the empty directory put in its place
			}
			errs = append(errs, os.Rename(m.to, m.from))
		}
		if len(errs) == 1 || errors.Join(errs[1:]...) == nil {
			errs = append(errs, s.finish())
		}
		return errors.Join(errs...)
	}
	for _, m := range linked {
		st, err := os.Stat(m.from)
		if err != nil {
			return undo(err)
		}
		if err := os.Rename(m.from, m.to); err != nil {
			return undo(err)
		}
		done = append(done, m)
		if err := remakeDir(m.from, st); err != nil {
			return undo(err)
		}
	}
	if err := s.moveData(path); err != nil {
		return undo(err)
	}
	done = append(done, move{s.opt.DataDir, path})
	return repoint(path, linked)
}

// remakeDir puts an empty directory of the same owner and mode in the place of a moved one.
func remakeDir(dir string, like fs.FileInfo) error {
	if err := os.Mkdir(dir, like.Mode().Perm()); err != nil {
		return err
	}
	if sys, ok := like.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Chown(dir, int(sys.Uid), int(sys.Gid))
	}
	return nil
}

// moveData renames the data directory, or its entries where the directory itself cannot go (its
// parent belongs to somebody else, or it is a mount point).
func (s *Server) moveData(path string) error {
	err := os.Rename(s.opt.DataDir, path)
	if err == nil {
		return nil
	}
	entries, err2 := os.ReadDir(s.opt.DataDir)
	if err2 != nil {
		return errors.Join(err, err2)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	for i, e := range entries {
		err := os.Rename(s.inData(e.Name()), filepath.Join(path, e.Name()))
		if err == nil || e.Name() == "lost+found" {
			continue
		}
		errs := []error{err}
		for _, back := range entries[:i] {
			if back.Name() != "lost+found" {
				errs = append(errs, os.Rename(filepath.Join(path, back.Name()), s.inData(back.Name())))
			}
		}
		return errors.Join(append(errs, os.Remove(path))...)
	}
	return fsyncDir(s.opt.DataDir)
}

// linkedMoves plans the renames of what pg_wal and the tablespaces link to. It refuses a link
// that it does not understand, because half a cluster moved is worse than none.
func (s *Server) linkedMoves(stamp string) ([]move, error) {
	links := []string{s.inData("pg_wal")}
	spaces, err := os.ReadDir(s.inData("pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("move aside: %w", err)
	}
	for _, e := range spaces {
		links = append(links, s.inData("pg_tblspc", e.Name()))
	}
	var moves []move
	for _, link := range links {
		st, err := os.Lstat(link)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.IsDir() {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("move aside: %w", err)
		}
		target, err := filepath.EvalSymlinks(link)
		if err != nil {
			return nil, fmt.Errorf("move aside: link %s: %w", link, err)
		}
		if err := s.checkLinked(link, target); err != nil {
			return nil, fmt.Errorf("move aside: link %s to %s: %w", link, target, err)
		}
		moves = append(moves, move{target, target + ".aside-" + stamp})
	}
	return moves, nil
}

// checkLinked refuses a linked directory that is not this server's alone or cannot be renamed.
func (s *Server) checkLinked(link, target string) error {
	if inside(target, s.opt.DataDir) {
		return errors.New("leads back into the data directory")
	}
	if err := unix.Access(filepath.Dir(target), unix.W_OK); err != nil {
		return fmt.Errorf("cannot be renamed in its parent: %w", err)
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(target, &a), unix.Stat(filepath.Dir(target), &b)); err != nil {
		return err
	}
	if a.Dev != b.Dev {
		return errors.New("is a mount point, which cannot be renamed")
	}
	if filepath.Base(link) == "pg_wal" {
		return nil
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	major, err := s.MajorVersion()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fmt.Sprintf("PG_%d_", major)) {
			return fmt.Errorf("holds %q beside the tablespace", e.Name())
		}
	}
	return nil
}

// repoint makes the links inside a moved directory lead to where their targets went.
func repoint(path string, linked []move) error {
	if len(linked) == 0 {
		return nil
	}
	links, err := filepath.Glob(filepath.Join(path, "pg_tblspc", "*"))
	if err != nil {
		return err
	}
	for _, link := range append(links, filepath.Join(path, "pg_wal")) {
		target, err := filepath.EvalSymlinks(link)
		if err != nil {
			return err
		}
		for _, m := range linked {
			if target != m.from {
				continue
			}
			tmp := link + ".new"
			if err := errors.Join(os.Symlink(m.to, tmp), os.Rename(tmp, link)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Asides lists what was moved aside, newest first.
func (s *Server) Asides() ([]Aside, error) {
	dir := filepath.Join(s.opt.StateDir, "aside")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("aside: %w", err)
	}
	var out []Aside
	for _, e := range entries {
		stamp, reason, ok := strings.Cut(e.Name(), "Z-")
		t, err := time.Parse(asideStamp, stamp+"Z")
		if !ok || err != nil || !e.IsDir() {
			continue // not ours to list, and so not ours to remove
		}
		out = append(out, Aside{Path: filepath.Join(dir, e.Name()), Moved: t, Reason: reason})
	}
	slices.SortFunc(out, func(a, b Aside) int { return b.Moved.Compare(a.Moved) })
	return out, nil
}

// SpaceIsTight says that the volume of what was moved aside has less than a quarter of its room left.
func (s *Server) SpaceIsTight() (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.opt.StateDir, &fs); err != nil {
		return false, fmt.Errorf("free space of %s: %w", s.opt.StateDir, err)
	}
	return fs.Bavail < fs.Blocks/4, nil
}

// RemoveAsides deletes all but the newest keep of what was moved aside, and returns what went.
func (s *Server) RemoveAsides(keep int) (removed []string, err error) {
	all, err := s.Asides()
	if err != nil || keep < 0 || len(all) <= keep {
		return nil, err
	}
	for _, a := range all[keep:] {
		links, err := filepath.Glob(filepath.Join(a.Path, "pg_tblspc", "*"))
		if err != nil {
			return removed, err
		}
		for _, link := range append(links, filepath.Join(a.Path, "pg_wal")) {
			target, err := os.Readlink(link)
			// Only what was renamed together with this directory, which its name says.
			if err != nil || !strings.Contains(filepath.Base(target), ".aside-") {
				continue
			}
			if err := os.RemoveAll(target); err != nil {
				return removed, fmt.Errorf("remove aside: %w", err)
			}
		}
		if err := os.RemoveAll(a.Path); err != nil {
			return removed, fmt.Errorf("remove aside: %w", err)
		}
		removed = append(removed, a.Path)
		s.log.Info("moved-aside data directory removed", zap.String("path", a.Path))
	}
	return removed, nil
}

// RemoveData deletes the contents of the data directory, and of what pg_wal and tablespaces link
// to (row H-229). It is for callers that were told so by somebody: prefer MoveAside. The server must be down.
func (s *Server) RemoveData() error {
	if err := s.requireStopped(); err != nil {
		return err
	}
	moves, err := s.linkedMoves("gone")
	if err != nil {
		return fmt.Errorf("remove data: %w", err)
	}
	if err := s.begin("remove", ""); err != nil {
		return err
	}
	for _, m := range moves {
		if err := emptyDir(m.from); err != nil {
			return fmt.Errorf("remove data: %w", err)
		}
	}
	if err := emptyDir(s.opt.DataDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove data: %w", err)
	}
	s.log.Warn("data directory emptied", zap.String("path", s.opt.DataDir))
	return s.finish()
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return fsyncDir(dir)
}
