package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/pgha/pgha/internal/election"
)

// ControlState is the state in pg_control.
type ControlState uint32

// The states of pg_control, as PostgreSQL numbers them.
const (
	ControlStartup            ControlState = iota
	ControlShutDown                        // clean shutdown of a primary
	ControlShutDownInRecovery              // clean shutdown of a standby
	ControlShuttingDown                    // shutdown checkpoint under way, or died in it
	ControlInCrashRecovery
	ControlInArchiveRecovery // a standby that runs, or died
	ControlInProduction      // a primary that runs, or died
)

// String is the word that pg_controldata prints.
func (c ControlState) String() string {
	names := []string{
		"starting up", "shut down", "shut down in recovery", "shutting down",
		"in crash recovery", "in archive recovery", "in production",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return "unrecognized status code"
}

// ControlData is what global/pg_control holds.
type ControlData struct {
	SystemID       uint64
	ControlVersion uint32
	CatalogVersion uint32
	State          ControlState
	// Checkpoint is where the last checkpoint record starts; see ShutdownCheckpointEnd.
	Checkpoint election.LSN
	Redo       election.LSN
	// Timeline is that of the last checkpoint: right after a promotion still the old one.
	Timeline     election.Timeline
	PrevTimeline election.Timeline
	// MinRecoveryEnd is how far a standby must replay to be consistent again; zero on a server
	// that was last a primary.
	MinRecoveryEnd         election.LSN
	MinRecoveryEndTimeline election.Timeline
	BackupStart            election.LSN
	BackupEnd              election.LSN
	BackupEndRequired      bool

	WALLevel             int // 0 minimal, 1 replica, 2 logical
	WALLogHints          bool
	MaxConnections       int
	MaxWorkerProcesses   int
	MaxWALSenders        int
	MaxPreparedXacts     int
	MaxLocksPerXact      int
	TrackCommitTimestamp bool
	WALBlockSize         uint32
	WALSegmentSize       uint32
	DataChecksums        bool
}

// ErrControl says that pg_control could not be read, or not be believed.
var ErrControl = errors.New("pg_control")

// Layout of ControlFileData on 64-bit little-endian machines. Everything up to the block sizes
// has kept its place from PostgreSQL 12 to 18; only the tail moved.
const (
	ctlSystemID      = 0
	ctlVersion       = 8
	ctlCatalog       = 12
	ctlState         = 16
	ctlCheckpoint    = 32
	ctlRedo          = 40
	ctlTimeline      = 48
	ctlPrevTimeline  = 52
	ctlMinRecovery   = 136
	ctlMinRecoveryTL = 144
	ctlBackupStart   = 152
	ctlBackupEnd     = 160
	ctlBackupEndReq  = 168
	ctlWALLevel      = 172
	ctlWALLogHints   = 176
	ctlMaxConn       = 180
	ctlMaxWorkers    = 184
	ctlMaxSenders    = 188
	ctlMaxPrepared   = 192
	ctlMaxLocks      = 196
	ctlTrackCommitTS = 200
	ctlFloatFormat   = 208
	ctlWALBlockSize  = 224
	ctlWALSegSize    = 228
	ctlChecksums     = 252
	ctlMaxSize       = 512
)

// controlCRCOffset gives the place of the checksum by pg_control_version.
func controlCRCOffset(version uint32) (int, bool) {
	switch version {
	case 1201, 1300, 1700: // PostgreSQL 12; 13 to 16; 17
		return 288, true
	case 1800: // PostgreSQL 18: default_char_signedness came in
		return 292, true
	}
	return 0, false
}

// Control reads global/pg_control directly, without a child process. The server rewrites the
// file in place, so a reading can be torn: the checksum tells, and it is read again.
func (s *Server) Control() (ControlData, error) {
	path := s.inData("global", "pg_control")
	var err error
	for range 5 {
		var raw []byte
		if raw, err = readSmall(path, ctlMaxSize); err != nil {
			return ControlData{}, fmt.Errorf("%w: %w", ErrControl, err)
		}
		var c ControlData
		if c, err = parseControl(raw); err == nil {
			return c, nil
		}
		if !errors.Is(err, errTorn) {
			break
		}
	}
	return ControlData{}, err
}

var errTorn = errors.New("the checksum does not match")

// parseControl reads the bytes of pg_control and believes them only if the checksum and the
// floating point probe agree.
func parseControl(b []byte) (ControlData, error) {
	le := binary.LittleEndian
	if len(b) < 16 {
		return ControlData{}, fmt.Errorf("%w: %d bytes are too few", ErrControl, len(b))
	}
	version := le.Uint32(b[ctlVersion:])
	at, known := controlCRCOffset(version)
	if !known {
		return ControlData{}, fmt.Errorf("%w: version %d is not one of PostgreSQL 12 to 18 on this kind of machine", ErrControl, version)
	}
	if len(b) < at+4 {
		return ControlData{}, fmt.Errorf("%w: %d bytes are too few", ErrControl, len(b))
	}
	if crc32.Checksum(b[:at], crc32.MakeTable(crc32.Castagnoli)) != le.Uint32(b[at:]) {
		return ControlData{}, fmt.Errorf("%w: %w", ErrControl, errTorn)
	}
	if f := math.Float64frombits(le.Uint64(b[ctlFloatFormat:])); f != 1234567.0 {
		return ControlData{}, fmt.Errorf("%w: layout: the floating point probe reads %v", ErrControl, f)
	}
	lsn := func(off int) election.LSN { return election.LSN(le.Uint64(b[off:])) }
	num := func(off int) int { return int(int32(le.Uint32(b[off:]))) }
	return ControlData{
		SystemID:               le.Uint64(b[ctlSystemID:]),
		ControlVersion:         version,
		CatalogVersion:         le.Uint32(b[ctlCatalog:]),
		State:                  ControlState(le.Uint32(b[ctlState:])),
		Checkpoint:             lsn(ctlCheckpoint),
		Redo:                   lsn(ctlRedo),
		Timeline:               election.Timeline(le.Uint32(b[ctlTimeline:])),
		PrevTimeline:           election.Timeline(le.Uint32(b[ctlPrevTimeline:])),
		MinRecoveryEnd:         lsn(ctlMinRecovery),
		MinRecoveryEndTimeline: election.Timeline(le.Uint32(b[ctlMinRecoveryTL:])),
		BackupStart:            lsn(ctlBackupStart),
		BackupEnd:              lsn(ctlBackupEnd),
		BackupEndRequired:      b[ctlBackupEndReq] != 0,
		WALLevel:               num(ctlWALLevel),
		WALLogHints:            b[ctlWALLogHints] != 0,
		MaxConnections:         num(ctlMaxConn),
		MaxWorkerProcesses:     num(ctlMaxWorkers),
		MaxWALSenders:          num(ctlMaxSenders),
		MaxPreparedXacts:       num(ctlMaxPrepared),
		MaxLocksPerXact:        num(ctlMaxLocks),
		TrackCommitTimestamp:   b[ctlTrackCommitTS] != 0,
		WALBlockSize:           le.Uint32(b[ctlWALBlockSize:]),
		WALSegmentSize:         le.Uint32(b[ctlWALSegSize:]),
		DataChecksums:          le.Uint32(b[ctlChecksums:]) != 0,
	}, nil
}
