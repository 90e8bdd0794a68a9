package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pgha/pgha/internal/election"
)

// A reader of the write-ahead log on disk, for the three questions that decide about a rewind:
// where a record ends, where the valid log ends, and how many commits lie beyond a point. It
// believes a record only if its checksum, its back link and its pages agree.

var (
	// errNoRecord says that no valid record begins at a position: the log ends there.
	errNoRecord = errors.New("no valid record")
	// errNoSegment says that the file that would hold a position is not here.
	errNoSegment = errors.New("the segment is not in pg_wal")
)

const (
	walShortHeader  = 24
	walLongHeader   = 40
	walRecordHeader = 24
	walChunk        = 1 << 18
	walRecordMax    = 1 << 30

	walFirstIsContinued   = 0x0001
	walLongHeaderFlag     = 0x0002
	walOverwritesContinue = 0x0008

	rmgrXLOG = 0
	rmgrXact = 1

	xlogCheckpointShutdown = 0x00
	xlogSwitch             = 0x40
	xactOpMask             = 0x70
	xactCommit             = 0x00
	xactCommitPrepared     = 0x30
)

// walRecord is the header of one record and where it lies.
type walRecord struct {
	Start, End, Prev election.LSN
	Rmgr, Info       uint8
	XID              uint32
}

// isCommit says whether the record commits a transaction.
func (r walRecord) isCommit() bool {
	op := r.Info & xactOpMask
	return r.Rmgr == rmgrXact && (op == xactCommit || op == xactCommitPrepared)
}

// walSpan is a timeline and where it begins.
type walSpan struct {
	Timeline election.Timeline
	Begin    election.LSN
}

type walReader struct {
	dir     string
	segSize uint64
	block   uint64
	sysID   uint64
	spans   []walSpan // newest first

	chunk   []byte
	chunkAt uint64
}

// newWALReader reads the log of a timeline with the given ancestors.
func newWALReader(dir string, c ControlData, tl election.Timeline, h election.History) (*walReader, error) {
	size, block := uint64(c.WALSegmentSize), uint64(c.WALBlockSize)
	if block < 512 || size < block || size%block != 0 || size&(size-1) != 0 || block&(block-1) != 0 {
		return nil, fmt.Errorf("wal: segment size %d, block size %d: not plausible", size, block)
	}
	r := &walReader{dir: dir, segSize: size, block: block, sysID: c.SystemID}
	begin := election.LSN(0)
	for _, e := range h {
		r.spans = append([]walSpan{{e.Timeline, begin}}, r.spans...)
		begin = e.Switch
	}
	r.spans = append([]walSpan{{tl, begin}}, r.spans...)
	return r, nil
}

// walFileName is the name of the segment file that holds a position.
func walFileName(tl election.Timeline, at, segSize uint64) string {
	seg, perID := at/segSize, (uint64(1)<<32)/segSize
	return fmt.Sprintf("%08X%08X%08X", uint32(tl), seg/perID, seg%perID)
}

// load reads the chunk of a segment file that holds the position. Like the server it takes the
// file of the newest timeline that reaches back to this segment: the segment in which a timeline
// began holds a copy of what its parent wrote there.
func (r *walReader) load(at uint64) error {
	size := min(uint64(walChunk), r.segSize)
	start := at / size * size
	if r.chunk != nil && r.chunkAt == start {
		return nil
	}
	for _, span := range r.spans {
		if uint64(span.Begin)/r.segSize > at/r.segSize {
			continue
		}
		f, err := os.Open(filepath.Join(r.dir, walFileName(span.Timeline, at, r.segSize)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if r.chunk == nil {
			r.chunk = make([]byte, size)
		}
		r.chunkAt = start
		n, err := f.ReadAt(r.chunk, int64(start%r.segSize))
		err2 := f.Close()
		if uint64(n) != size {
			r.chunk = nil
			return fmt.Errorf("%w: %s is short", errNoRecord, filepath.Base(f.Name()))
		}
		return errors.Join(ignoreEOF(err, uint64(n) == size), err2)
	}
	return fmt.Errorf("%w: %s", errNoSegment, election.LSN(at))
}

func ignoreEOF(err error, full bool) error {
	if full {
		return nil
	}
	return err
}

// page gives the page that begins at the position, after checking its header, and the header's size.
func (r *walReader) page(at uint64) (page []byte, header uint64, err error) {
	if err := r.load(at); err != nil {
		return nil, 0, err
	}
	off := at - r.chunkAt
	p := r.chunk[off : off+r.block]
	le := binary.LittleEndian
	info := le.Uint16(p[2:])
	if le.Uint16(p) == 0 || le.Uint64(p[8:]) != at {
		return nil, 0, fmt.Errorf("%w: page %s was not written", errNoRecord, election.LSN(at))
	}
	header = walShortHeader
	if at%r.segSize == 0 {
		header = walLongHeader
		if le.Uint64(p[24:]) != r.sysID || uint64(le.Uint32(p[32:])) != r.segSize {
			return nil, 0, fmt.Errorf("%w: page %s is of another system", errNoRecord, election.LSN(at))
		}
	}
	if (info&walLongHeaderFlag != 0) != (header == walLongHeader) {
		return nil, 0, fmt.Errorf("%w: page %s has the wrong header", errNoRecord, election.LSN(at))
	}
	return p, header, nil
}

// overwrittenError says that a record was given up half-written; the log goes on at Next.
type overwrittenError struct{ Next election.LSN }

func (e *overwrittenError) Error() string { return "the record was overwritten" }

// record reads the record that begins at the position, which may also be the start of a page.
func (r *walReader) record(at election.LSN) (walRecord, error) {
	pos := uint64(at)
	pageAt := pos / r.block * r.block
	p, header, err := r.page(pageAt)
	if err != nil {
		return walRecord{}, err
	}
	if pos == pageAt {
		if binary.LittleEndian.Uint16(p[2:])&walFirstIsContinued != 0 {
			return walRecord{}, fmt.Errorf("%w: %s continues another record", errNoRecord, at)
		}
		pos += header
	}
	if pos < pageAt+header || pos%8 != 0 {
		return walRecord{}, fmt.Errorf("%w: %s cannot be the start of one", errNoRecord, at)
	}
	start := pos
	length := uint64(binary.LittleEndian.Uint32(p[pos-pageAt:]))
	if length < walRecordHeader || length > walRecordMax {
		return walRecord{}, fmt.Errorf("%w: at %s a length of %d", errNoRecord, at, length)
	}
	head := make([]byte, 0, walRecordHeader)
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := uint32(0)
	for left := length; ; {
		part := p[pos-pageAt:]
		part = part[:min(left, uint64(len(part)))]
		left -= uint64(len(part))
		pos += uint64(len(part))
		n := min(len(part), walRecordHeader-len(head))
		head = append(head, part[:n]...)
		crc = crc32.Update(crc, table, part[n:])
		if left == 0 {
			break
		}
		if pageAt, pos, p, err = r.continued(pos, left); err != nil {
			return walRecord{}, err
		}
	}
	crc = crc32.Update(crc, table, head[:20])
	if crc != binary.LittleEndian.Uint32(head[20:]) {
		return walRecord{}, fmt.Errorf("%w: at %s: the checksum does not match", errNoRecord, at)
	}
	return r.finishRecord(head, start, pos), nil
}

// continued steps over the header of the next page of a record of which left bytes are missing.
func (r *walReader) continued(at, left uint64) (pageAt, pos uint64, page []byte, err error) {
	p, header, err := r.page(at)
	if err != nil {
		return 0, 0, nil, err
	}
	le := binary.LittleEndian
	info := le.Uint16(p[2:])
	if info&walOverwritesContinue != 0 {
		return 0, 0, nil, &overwrittenError{Next: election.LSN(at)}
	}
	if info&walFirstIsContinued == 0 || uint64(le.Uint32(p[16:])) != left {
		return 0, 0, nil, fmt.Errorf("%w: page %s does not continue it", errNoRecord, election.LSN(at))
	}
	return at, at + header, p, nil
}

func (r *walReader) finishRecord(head []byte, start, end uint64) walRecord {
	le := binary.LittleEndian
	rec := walRecord{
		Start: election.LSN(start),
		Prev:  election.LSN(le.Uint64(head[8:])),
		XID:   le.Uint32(head[4:]),
		Info:  head[16],
		Rmgr:  head[17],
	}
	end = (end + 7) &^ 7
	if rec.Rmgr == rmgrXLOG && rec.Info&0xF0 == xlogSwitch {
		// The rest of the segment is left empty after a switch.
		end = (end + r.segSize - 1) / r.segSize * r.segSize
	}
	rec.End = election.LSN(end)
	return rec
}

// walScan is what scanning the log found.
type walScan struct {
	End     election.LSN // end of the last valid record
	Records int
	Commits int  // of records that start at or after the given point
	Stopped bool // by the limit, not by the end of the log
}

// scan reads on from a record's start until the log ends, or limit bytes are read. Commits are
// counted from countFrom on. It fails if there is no valid record at the start.
func (r *walReader) scan(from, countFrom election.LSN, limit uint64) (walScan, error) {
	out := walScan{End: from}
	prev := election.LSN(0)
	for at := from; ; {
		rec, err := r.record(at)
		if over, ok := errors.AsType[*overwrittenError](err); ok {
			at, prev = over.Next, 0
			continue
		}
		if err == nil && prev != 0 && rec.Prev != prev {
			err = fmt.Errorf("%w: at %s: the back link does not match", errNoRecord, at)
		}
		if errors.Is(err, errNoRecord) || errors.Is(err, errNoSegment) {
			if out.Records == 0 {
				return out, err
			}
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out.Records++
		out.End = rec.End
		if rec.Start >= countFrom && rec.isCommit() {
			out.Commits++
		}
		if uint64(rec.End-from) > limit {
			out.Stopped = true
			return out, nil
		}
		at, prev = rec.End, rec.Start
	}
}

// ShutdownCheckpointEnd returns the end of the shutdown checkpoint record that pg_control points
// to: where the log of a cleanly stopped primary ends, and what its successor must have received
// (row H-082). It is an error if the last checkpoint is not a shutdown checkpoint.
func (s *Server) ShutdownCheckpointEnd(c ControlData) (election.LSN, error) {
	// An older timeline's history is not needed to read one record of the current one.
	r, err := newWALReader(s.inData("pg_wal"), c, c.Timeline, nil)
	if err != nil {
		return 0, err
	}
	rec, err := r.record(c.Checkpoint)
	if err != nil {
		return 0, fmt.Errorf("shutdown checkpoint at %s: %w", c.Checkpoint, err)
	}
	if rec.Rmgr != rmgrXLOG || rec.Info&0xF0 != xlogCheckpointShutdown {
		return 0, fmt.Errorf("checkpoint at %s: is not a shutdown checkpoint", c.Checkpoint)
	}
	return rec.End, nil
}
