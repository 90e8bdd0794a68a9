package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// freezeFile is the record of a freeze, in the state directory. Whoever reads it after any crash
// knows that this member may have voted, and against whom (safety review, hole 2).
const freezeFile = "freeze.json"

// FreezeRecord says that this member stopped following the holder of a leader key, to vote.
type FreezeRecord struct {
	Epoch          uint64
	LeaderRevision int64
	Leader         string
	// Since is when the freeze was begun; zero if that was before the machine last started, whose
	// clock began anew then.
	Since     election.Instant
	Fruitless int // freezes in a row before this one that came to nothing
}

// ErrFrozen says that a freeze record forbids to follow this upstream.
var ErrFrozen = errors.New("frozen by a vote")

type storedFreeze struct {
	Epoch          uint64           `json:"epoch"`
	LeaderRevision int64            `json:"leader_revision"`
	Leader         string           `json:"leader"`
	Since          election.Instant `json:"since"`
	Boot           string           `json:"boot"`
	Fruitless      int              `json:"fruitless"`
}

// FreezeRecord returns the record of a freeze that was not ended; nil if there is none. A record
// that cannot be read is an error, and the member stays frozen against everybody.
func (s *Server) FreezeRecord() (*FreezeRecord, error) {
	b, err := os.ReadFile(filepath.Join(s.opt.StateDir, freezeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no record is the normal case
	}
	var st storedFreeze
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err == nil && st.LeaderRevision == 0 {
		err = errors.New("it names no leader revision")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: freeze record: %w", ErrFrozen, err)
	}
	rec := &FreezeRecord{Epoch: st.Epoch, LeaderRevision: st.LeaderRevision, Leader: st.Leader, Since: st.Since, Fruitless: st.Fruitless}
	if st.Boot != bootID() {
		rec.Since = 0
	}
	return rec, nil
}

// writeFreezeRecord puts the record down, durably.
func (s *Server) writeFreezeRecord(rec FreezeRecord) error {
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return fmt.Errorf("freeze record: %w", err)
	}
	b, err := json.Marshal(storedFreeze{
		Epoch: rec.Epoch, LeaderRevision: rec.LeaderRevision, Leader: rec.Leader,
		Since: rec.Since, Boot: bootID(), Fruitless: rec.Fruitless,
	})
	if err != nil {
		return err
	}
	if _, err := s.writeIfDifferent(filepath.Join(s.opt.StateDir, freezeFile), b, 0o600); err != nil {
		return fmt.Errorf("freeze record: %w", err)
	}
	return nil
}

// RemoveFreezeRecord ends a freeze, durably: the vote is known to be withdrawn, or this member
// follows, or is, the leader that came after. The files stay frozen until the next WriteConfig.
func (s *Server) RemoveFreezeRecord() error {
	if err := removeDurably(filepath.Join(s.opt.StateDir, freezeFile)); err != nil {
		return fmt.Errorf("freeze record: %w", err)
	}
	return nil
}

// bootID tells one run of the machine from the next.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// checkFreeze is the one gate to primary_conninfo: while a freeze record stands, a member follows
// nobody but for a leader that came after the one it voted against, and restores nothing.
func (w *configWriter) checkFreeze() error {
	rec, err := w.s.FreezeRecord()
	if err == nil && rec == nil {
		return nil
	}
	w.restoreOff = true
	if !w.spec.Standby || w.spec.Frozen || w.spec.Upstream == nil {
		return nil // nobody is followed, whatever the record says
	}
	if err != nil {
		return err
	}
	if w.spec.LeaderRevision == 0 || w.spec.LeaderRevision == rec.LeaderRevision {
		return fmt.Errorf("%w: revision %d of the leader key, held by %s: not to be followed, also by way of %s", ErrFrozen, rec.LeaderRevision, rec.Leader, w.spec.Upstream)
	}
	return nil
}
