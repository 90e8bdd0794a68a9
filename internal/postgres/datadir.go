package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// DataDirState says what the data directory is, from its files alone.
type DataDirState uint8

// The states of a data directory. Only a missing or an empty one may be filled.
const (
	DataUnknown    DataDirState = iota
	DataMissing                 // does not exist
	DataEmpty                   // holds nothing but dot files and lost+found
	DataCluster                 // a complete cluster
	DataPartial                 // an initdb, clone or rewind began here and did not finish
	DataForeign                 // files that are no cluster
	DataUnreadable              // exists, but cannot be read
)

func (d DataDirState) String() string {
	names := []string{"unknown", "missing", "empty", "cluster", "partial", "foreign", "unreadable"}
	if int(d) < len(names) {
		return names[d]
	}
	return "unknown"
}

// markFile is where an unfinished operation leaves its mark: in the state directory, because
// whatever lies in the data directory is copied, replaced or moved.
const markFile = "unfinished.json"

// Mark describes an operation that changes the data directory and has not finished.
type Mark struct {
	Operation string    `json:"operation"` // initdb, clone or rewind
	Source    string    `json:"source,omitempty"`
	Started   time.Time `json:"started"`
	DataDir   string    `json:"data_dir"`
}

// Unfinished returns the mark of an operation that began and did not finish; nil if there is none.
func (s *Server) Unfinished() (*Mark, error) {
	b, err := readSmall(filepath.Join(s.opt.StateDir, markFile), smallFileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no mark is the normal case
	}
	if err != nil {
		return nil, fmt.Errorf("mark of an unfinished operation: %w", err)
	}
	m := &Mark{}
	if err := json.Unmarshal(b, m); err != nil || m.Operation == "" {
		// The mark is written whole or not at all. Whatever this is, it says that something began.
		m.Operation = "unknown"
	}
	return m, nil
}

// begin puts the mark down, durably, before the first byte of the data directory changes. Whatever
// comes out of it is another copy of the data, so the identity goes first.
func (s *Server) begin(operation, source string) error {
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	b, err := json.Marshal(Mark{Operation: operation, Source: source, Started: time.Now().UTC(), DataDir: s.opt.DataDir})
	if err != nil {
		return err
	}
	s.idMu.Lock()
	defer s.idMu.Unlock()
	if err := s.dropDataID(); err != nil {
		return fmt.Errorf("data identity: %w", err)
	}
	return s.writeDurably(filepath.Join(s.opt.StateDir, markFile), b, 0o600)
}

// finish takes the mark away. What the operation made must be durable before.
func (s *Server) finish() error {
	if err := removeDurably(filepath.Join(s.opt.StateDir, markFile)); err != nil {
		return fmt.Errorf("mark of an unfinished operation: %w", err)
	}
	return nil
}

// DataDir looks at the data directory and at the marks of unfinished operations. With
// DataUnreadable, and only then, it also returns an error, which says why.
func (s *Server) DataDir() (DataDirState, error) {
	mark, err := s.Unfinished()
	if err != nil {
		return DataUnreadable, err
	}
	if err := s.missingFile(); err != nil {
		return s.incomplete(mark, err)
	}
	if mark != nil {
		return DataPartial, nil
	}
	return DataCluster, nil
}

// missingFile looks for what every cluster has.
func (s *Server) missingFile() error {
	for _, needed := range []string{"PG_VERSION", "global/pg_control", "base", "pg_wal"} {
		if _, err := os.Stat(s.inData(needed)); err != nil {
			return err
		}
	}
	return nil
}

// incomplete says what a directory is in which something is missing, or could not be looked at.
func (s *Server) incomplete(mark *Mark, missing error) (DataDirState, error) {
	entries, err := os.ReadDir(s.opt.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return DataMissing, nil
	case err != nil:
		return DataUnreadable, fmt.Errorf("data directory: %w", err)
	case !holdsAnything(entries):
		return DataEmpty, nil
	case mark != nil:
		return DataPartial, nil
	case errors.Is(missing, fs.ErrNotExist):
		return DataForeign, nil
	}
	return DataUnreadable, fmt.Errorf("data directory: %w", missing)
}

// holdsAnything says whether there is more than what an empty file system comes with.
func holdsAnything(entries []os.DirEntry) bool {
	for _, e := range entries {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".") {
			return true
		}
	}
	return false
}

// MajorVersion reads PG_VERSION, as 15.
func (s *Server) MajorVersion() (int, error) {
	b, err := os.ReadFile(s.inData("PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("PG_VERSION: %w", err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || v < 10 {
		return 0, fmt.Errorf("PG_VERSION: %q: want a major version from 10 on", b)
	}
	return v, nil
}

// requireFillable refuses unless the data directory may be filled by initdb or a clone, and
// makes it if it is missing.
func (s *Server) requireFillable() error {
	st, err := s.DataDir()
	if err != nil {
		return err
	}
	if st != DataMissing && st != DataEmpty {
		return fmt.Errorf("%w: %s is %s: move it aside first", ErrDataDir, s.opt.DataDir, st)
	}
	if err := s.ensureDir(s.opt.DataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	// pg_basebackup and initdb count dot files as content.
	entries, err := os.ReadDir(s.opt.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if len(entries) != 0 {
		return fmt.Errorf("%w: %s holds %q, which pg_basebackup and initdb refuse: use a directory below it", ErrDataDir, s.opt.DataDir, entries[0].Name())
	}
	if s.asKid != nil {
		return os.Chown(s.opt.DataDir, int(s.asKid.Uid), int(s.asKid.Gid))
	}
	return nil
}

// requireStopped refuses while postmaster.pid names a living process. The caller stops the
// server; this is the second look.
func (s *Server) requireStopped() error {
	pm, err := s.readPostmasterFile()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.holdsDataDir(pm.PID) {
		return fmt.Errorf("%w: process %d in postmaster.pid is alive", ErrDataDir, pm.PID)
	}
	return nil
}
