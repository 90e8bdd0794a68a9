package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
)

// A standby that follows a new primary receives the segment in which it stands once more, from its
// beginning, into a file of the new timeline. If that primary dies before the standby has got as far
// as it was, the new file holds less than the old one. The server reads the file of the newest
// timeline and no other: it finds the end of the log too early, or cannot go back to the old file for
// the rest. It then does not start, fails at its promotion, or, worst of all, says less than it has
// acknowledged (safety review, hole 9).
//
// What such a file holds the older one holds, too: both are the same up to where the timelines part.

// MendWAL moves the segments of a timeline aside that end before those of its ancestor, in which all
// they hold is found, and the timeline's history with them if the log here does not reach to where it
// begins: the server must not set out for it. Who has the timeline sends both again. It comes before a
// start as a standby, when no server runs: one that runs has them open and its goal in mind. Nothing is
// deleted, the files go to torn_wal in the state directory.
func (s *Server) MendWAL() error {
	c, err := s.Control()
	if err != nil {
		return fmt.Errorf("mend wal: %w", err)
	}
	m := walMender{dir: s.inData("pg_wal"), control: c, files: map[election.Timeline][]uint64{}}
	if err := m.list(); err != nil {
		return fmt.Errorf("mend wal: %w", err)
	}
	for _, tl := range m.timelines() {
		history, err := s.TimelineHistory(tl)
		if err != nil {
			continue // without its ancestors nothing can be said of it
		}
		by, reached, err := m.torn(tl, history)
		if err != nil {
			return fmt.Errorf("mend wal: timeline %d: %w", tl, err)
		}
		if by == 0 {
			continue
		}
		names := m.names(tl)
		if !reached {
			names = append([]string{filepath.Base(s.historyPath(tl))}, names...)
		}
		if err := s.setTornAside(names); err != nil {
			return fmt.Errorf("mend wal: timeline %d: %w", tl, err)
		}
		s.log.Warn("segments that end before those of an older timeline were moved aside",
			zap.Uint32("timeline", uint32(tl)), zap.Uint32("ancestor", uint32(by)), zap.Strings("files", names))
	}
	return nil
}

func (s *Server) setTornAside(names []string) error {
	dir := filepath.Join(s.opt.StateDir, "torn_wal")
	if err := errors.Join(s.ensureDir(s.opt.StateDir), s.ensureDir(dir)); err != nil {
		return err
	}
	// The newest segment first and the history last: whenever this ends, what is left is of one piece.
	for _, name := range slices.Backward(names) {
		from := s.inData("pg_wal", name)
		err := os.Rename(from, filepath.Join(dir, name))
		if errors.Is(err, syscall.EXDEV) { // pg_wal is a link to another volume
			err = os.Rename(from, from+".torn")
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(fsyncDir(dir), fsyncDir(s.inData("pg_wal")))
}

// walMender looks at the segments that several timelines have.
type walMender struct {
	dir     string
	control ControlData
	files   map[election.Timeline][]uint64 // segment numbers, sorted
}

func (m *walMender) list() error {
	if m.control.WALSegmentSize == 0 {
		return errors.New("pg_control names no segment size")
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, e := range entries { // sorted by name
		if tl, n, ok := parseSegmentName(e.Name(), election.LSN(m.control.WALSegmentSize)); ok {
			m.files[tl] = append(m.files[tl], uint64(n))
		}
	}
	return nil
}

func (m *walMender) timelines() []election.Timeline {
	var out []election.Timeline
	for tl := range m.files {
		out = append(out, tl)
	}
	slices.Sort(out)
	return out
}

func (m *walMender) names(tl election.Timeline) []string {
	size := uint64(m.control.WALSegmentSize)
	var out []string
	for _, n := range m.files[tl] {
		out = append(out, walFileName(tl, n*size, size))
	}
	return out
}

// torn finds the ancestor that has all segments of the timeline, and more of the log; zero: none. It says
// too whether the ancestor's log reaches to where the timelines part.
func (m *walMender) torn(tl election.Timeline, h election.History) (by election.Timeline, reached bool, err error) {
	first := m.files[tl][0]
	for _, e := range slices.Backward(h) {
		covered := !slices.ContainsFunc(m.files[tl], func(n uint64) bool { return !slices.Contains(m.files[e.Timeline], n) })
		if !covered {
			continue
		}
		its, err := m.end(e.Timeline, first, e.Switch)
		if err != nil {
			return 0, false, err
		}
		own, err := m.end(tl, first, min(its, e.Switch))
		if err != nil {
			return 0, false, err
		}
		if own < min(its, e.Switch) {
			return e.Timeline, its >= e.Switch, nil
		}
	}
	return 0, false, nil
}

// end is where the log in the files of one timeline ends, from a segment on; it looks no further than
// to enough.
func (m *walMender) end(tl election.Timeline, segment uint64, enough election.LSN) (election.LSN, error) {
	r, err := newWALReader(m.dir, m.control, tl, nil) // these files and no others
	if err != nil {
		return 0, err
	}
	end := election.LSN(segment * r.segSize)
	for at := uint64(end); slices.Contains(m.files[tl], at/r.segSize) && election.LSN(at) < enough; at += r.block {
		p, header, err := r.page(at)
		if errors.Is(err, errNoRecord) {
			break
		}
		if err != nil {
			return 0, err
		}
		end = max(end, r.lastIn(at, p, header))
	}
	return end, nil
}

// lastIn is the end of the last whole record that begins in a page; its beginning if none does.
func (r *walReader) lastIn(at uint64, page []byte, header uint64) election.LSN {
	next := header
	if binary.LittleEndian.Uint16(page[2:])&walFirstIsContinued != 0 {
		next += (uint64(binary.LittleEndian.Uint32(page[16:])) + 7) &^ 7
	}
	end := election.LSN(at)
	for pos := at + next; pos < at+r.block; {
		rec, err := r.record(election.LSN(pos))
		if err != nil {
			break
		}
		end, pos = rec.End, uint64(rec.End)
	}
	return end
}
