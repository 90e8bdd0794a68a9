package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pgha/pgha/internal/config"
)

// owner is the user that PostgreSQL, the agent and the state directory belong to.
type owner struct{ uid, gid int }

// findOwner is the owner of the data directory, if that is not root, else the user postgres.
// PostgreSQL refuses to run as root, and the agent needs nothing that root has.
func findOwner(c *config.Config) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{os.Geteuid(), os.Getegid()}, nil
	}
	if st, err := os.Stat(c.PostgreSQL.DataDir); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			return owner{int(sys.Uid), int(sys.Gid)}, nil
		}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return owner{}, fmt.Errorf("started as root, which PostgreSQL refuses; the data directory %s belongs to nobody else, and there is no user postgres to change to: %w",
			c.PostgreSQL.DataDir, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return owner{uid, gid}, errors.Join(err1, err2)
}

// prepareDirs makes the directories that the owner could not make by itself below a parent of
// root's: the state directory, and an empty data directory.
func prepareDirs(c *config.Config, o owner) error {
	dirs := []string{c.Pgha.StateDir, c.PostgreSQL.DataDir}
	if c.Pgha.Etcd.Enabled {
		dirs = append(dirs, c.Pgha.Etcd.DataDir)
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		_, err := os.Stat(dir)
		if err == nil && dir == c.PostgreSQL.DataDir {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return fmt.Errorf("directory %s: %w", dir, err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("directory %s: %w (make it by hand, for the user of PostgreSQL)", dir, err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(dir, o.uid, o.gid); err != nil {
				return fmt.Errorf("directory %s: %w", dir, err)
			}
		}
	}
	return nil
}

// become changes all threads to the owner, for good.
func (o owner) become() error {
	if os.Geteuid() != 0 || o.uid == 0 {
		return nil
	}
	groups := []int{o.gid}
	if u, err := user.LookupId(strconv.Itoa(o.uid)); err == nil {
		if ids, err := u.GroupIds(); err == nil {
			for _, id := range ids {
				if n, err := strconv.Atoi(id); err == nil && n != o.gid {
					groups = append(groups, n)
				}
			}
		}
		if err := os.Setenv("HOME", u.HomeDir); err != nil {
			return err
		}
		if err := os.Setenv("USER", u.Username); err != nil {
			return err
		}
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("change to user %d: %w", o.uid, err)
	}
	if err := syscall.Setgid(o.gid); err != nil {
		return fmt.Errorf("change to group %d: %w", o.gid, err)
	}
	if err := syscall.Setuid(o.uid); err != nil {
		return fmt.Errorf("change to user %d: %w", o.uid, err)
	}
	return nil
}
