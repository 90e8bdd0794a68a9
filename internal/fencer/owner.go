package fencer

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is the PostgreSQL user. A fencer that runs as root does every file operation in directories
// of that user with that user's rights: the names in them are not root's to trust.
type owner struct{ uid, gid int }

// foreign says that the process is root and acts for somebody else.
func (o owner) foreign() bool { return os.Geteuid() == 0 && o.uid > 0 }

// do calls fn with the file system identity of the owner.
func (o owner) do(fn func() error) error {
	if !o.foreign() {
		return fn()
	}
	runtime.LockOSThread()
	if err := errors.Join(unix.Setfsgid(o.gid), unix.Setfsuid(o.uid)); err != nil {
		// The thread's identity is in doubt: it stays locked and ends with its goroutine.
		return fmt.Errorf("act as uid %d: %w", o.uid, err)
	}
	defer func() {
		if errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

// credential for child processes; nil if the process is that user already.
func (o owner) credential() *syscall.Credential {
	if !o.foreign() {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid), Groups: o.groups()}
}

// groups are the supplementary ones (the one that may read the TLS key, for instance). A user
// without an entry has none.
func (o owner) groups() []uint32 {
	u, err := user.LookupId(strconv.Itoa(o.uid))
	if err != nil {
		return nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil
	}
	var groups []uint32
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			groups = append(groups, uint32(n))
		}
	}
	return groups
}

func (o owner) openLog(path string) (*os.File, error) {
	var f *os.File
	err := o.do(func() error {
		var err error
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// createDurably makes an empty file and returns when file and directory are on disk. A file that
// is there already is made durable as well: who wrote it may not have.
func (o owner) createDurably(path string) error {
	return o.do(func() error {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
		return syncDir(filepath.Dir(path))
	})
}

// removeDurably removes a file and syncs its directory if there was one.
func (o owner) removeDurably(path string) error {
	return o.do(func() error {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return syncDir(filepath.Dir(path))
	})
}

// replace writes a file whole or not at all, as seen by other processes. It does not sync: the
// content has to outlive a process, not the machine.
func (o owner) replace(path string, content []byte) error {
	return o.do(func() error {
		tmp := path + ".tmp"
		f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		return os.Rename(tmp, path)
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
