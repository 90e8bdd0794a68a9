package fencer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What the fencer needs to know of global/pg_control: the state, an enum at byte 16 in the machine's
// byte order, after system identifier (8), control version (4) and catalog version (4). The place
// and the numbers have been the same since PostgreSQL 9.3.
const (
	controlStateOffset  = 16
	controlInProduction = 6
	controlHead         = 512 // the struct is smaller than one disk sector
)

// control is one reading of the file.
type control struct {
	production bool
	digest     string
	modified   time.Time
}

func readControl(dataDir string) (control, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, "global", "pg_control"), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return control{}, fmt.Errorf("read pg_control: %w", err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, controlHead)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return control{}, fmt.Errorf("read pg_control: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return control{}, fmt.Errorf("read pg_control: %w", err)
	}
	c, err := parseControl(head[:n])
	c.modified = info.ModTime()
	return c, err
}

func parseControl(head []byte) (control, error) {
	if len(head) < controlStateOffset+4 {
		return control{}, fmt.Errorf("read pg_control: only %d bytes", len(head))
	}
	sum := sha256.Sum256(head)
	return control{
		production: binary.NativeEndian.Uint32(head[controlStateOffset:]) == controlInProduction,
		digest:     hex.EncodeToString(sum[:]),
	}, nil
}

// writableSince says whether this reading shows that the running server is in production. After a
// crash the file says "in production" until recovery has begun, and before that PostgreSQL syncs
// the whole data directory, which can take minutes. So a reading that is still what it was when the
// server started is the previous server's.
func (c control) writableSince(baseline string, started time.Time) bool {
	if !c.production {
		return false
	}
	if baseline != "" {
		return c.digest != baseline
	}
	// A server that no fencer started: compare with the start of the process instead. Its start
	// is known to a clock tick.
	return c.modified.After(started.Add(-20 * time.Millisecond))
}

// controlEvents reports changes in the directory of pg_control by inotify, so that a promotion by
// hand is seen at once and not at the next second.
type controlEvents struct {
	file    *os.File
	changed chan struct{}
	done    chan struct{}
}

func watchControl(dataDir string) (*controlEvents, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch pg_control: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, filepath.Join(dataDir, "global"), unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("watch pg_control: %w", err)
	}
	e := &controlEvents{file: file, changed: make(chan struct{}, 1), done: make(chan struct{})}
	go e.run()
	return e, nil
}

func (e *controlEvents) run() {
	defer close(e.done)
	buf := make([]byte, 16<<10)
	for {
		if _, err := e.file.Read(buf); err != nil {
			return
		}
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
}

func (e *controlEvents) close() {
	_ = e.file.Close()
	<-e.done
}
