package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fsyncDir makes the entries of a directory durable.
func fsyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

// writeDurably replaces a file so that after a crash it has either the old or the new content:
// a temporary file beside it, fsync, rename, fsync of the directory. The owner is set when the
// agent is root, so that PostgreSQL can read it.
func (s *Server) writeDurably(path string, content []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	tmp := f.Name()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode))
	if s.asKid != nil {
		err = errors.Join(err, f.Chown(int(s.asKid.Uid), int(s.asKid.Gid)))
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(tmp)))
	}
	if err := fsyncDir(dir); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeIfDifferent is writeDurably, but leaves a file alone that already has this content and
// mode: its time stamp is what others look at.
func (s *Server) writeIfDifferent(path string, content []byte, mode fs.FileMode) (written bool, err error) {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		st, err := os.Stat(path)
		if err == nil && st.Mode().Perm() == mode {
			return false, nil
		}
	}
	return true, s.writeDurably(path, content, mode)
}

// removeDurably deletes one file; a missing one is no error.
func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fsyncDir(filepath.Dir(path))
}

// ensureDir makes a directory of the server's user, with the parents that are missing.
func (s *Server) ensureDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.asKid != nil {
		if err := os.Chown(dir, int(s.asKid.Uid), int(s.asKid.Gid)); err != nil {
			return err
		}
	}
	return fsyncDir(parent)
}

// fileMode is the mode of files made for the server: like the data directory's, readable for
// the group where that is (row H-228).
func (s *Server) fileMode() fs.FileMode {
	if st, err := os.Stat(s.opt.DataDir); err == nil && st.Mode().Perm()&0o050 == 0o050 {
		return 0o640
	}
	return 0o600
}

// syncTree makes everything below the data directory durable, also what hangs on symbolic links
// (pg_wal, tablespaces): one call per file system rather than one per file. It reports write
// errors that happened since the file system was mounted or last asked (Linux 5.8).
func (s *Server) syncTree() error {
	dirs := []string{s.opt.DataDir, s.inData("pg_wal")}
	spaces, err := os.ReadDir(s.inData("pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync: %w", err)
	}
	for _, e := range spaces {
		dirs = append(dirs, s.inData("pg_tblspc", e.Name()))
	}
	done := map[uint64]bool{}
	for _, d := range dirs {
		f, err := os.Open(d)
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		if err == nil && !done[st.Dev] {
			done[st.Dev] = true
			err = unix.Syncfs(int(f.Fd()))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", d, err)
		}
	}
	return fsyncDir(filepath.Dir(s.opt.DataDir))
}
