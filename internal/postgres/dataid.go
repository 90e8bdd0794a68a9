package postgres

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/election"
)

// A data identity names this very copy of the data. A vote or an acknowledgement counts only for the
// copy that it was given with: a directory that was cloned, rewound, restored or made anew may hold
// less than the one before it under the same member name (safety review, hole 9).
//
// The identity stands in the state directory, which no copy of the data carries along. What it is
// bound to tells whether the data below it is still the same: a marker file inside the data
// directory with the same identity, as the very file that was written then (a copy of it is another
// file), on the same disk, and a last checkpoint that never goes back (a directory that was put
// back to an earlier snapshot).

const (
	dataIDFile   = "data_id.json"   // in the state directory
	dataIDMarker = "pgha.data_id"   // in the data directory
	sysBlock     = "/sys/dev/block" // where Linux names disks
)

// dataIdentity is the content of dataIDFile.
type dataIdentity struct {
	ID     string    `json:"id"`
	Marker fileBirth `json:"marker"`
	Disk   string    `json:"disk,omitempty"`
	// Checkpoint is the newest last checkpoint that pg_control was seen with.
	Checkpoint election.LSN `json:"checkpoint"`
}

// fileBirth tells a file from its copies. Device numbers are no part of it: they change when a
// machine restarts.
type fileBirth struct {
	Inode uint64 `json:"inode"`
	Birth int64  `json:"birth"` // nanoseconds since 1970, 0 where the file system keeps none
}

// DataID is the identity of this copy of the data: random, kept through restarts of agent, server
// and machine, and another one after a clone, a rewind, a move, or when somebody else put other
// data in the place. It is created if there is none. ErrDataDir unless the directory is a complete cluster.
func (s *Server) DataID() (string, error) { return s.DataIDUnder(0) }

// DataIDUnder is DataID while a postmaster runs on the directory: its process id, or zero for none. What
// cannot change while that very process runs is not looked at again, so that an idle agent stays cheap:
// a server that runs has a complete directory, and since it works in it, the file system cannot be
// exchanged for one on another disk.
func (s *Server) DataIDUnder(postmaster int) (string, error) {
	s.idMu.Lock()
	defer s.idMu.Unlock()
	if postmaster == 0 || postmaster != s.idDisk.postmaster {
		s.idDisk = knownDisk{}
	}
	if err := s.requireCluster(postmaster); err != nil {
		return "", fmt.Errorf("data identity: %w", err)
	}
	c, err := s.Control()
	if err != nil {
		return "", fmt.Errorf("data identity: %w", err)
	}
	known, why := s.knownIdentity(c)
	s.idDisk.postmaster = postmaster
	if why != "" {
		return s.newIdentity(c, why)
	}
	if c.Checkpoint == known.Checkpoint {
		return known.ID, nil
	}
	known.Checkpoint = c.Checkpoint
	if err := s.writeIdentity(known); err != nil {
		return "", fmt.Errorf("data identity: %w", err)
	}
	return known.ID, nil
}

// requireCluster refuses unless the directory is a complete cluster with no operation under way.
func (s *Server) requireCluster(postmaster int) error {
	if postmaster != 0 && s.idDisk.postmaster == postmaster {
		mark, err := s.Unfinished()
		if err == nil && mark != nil {
			err = fmt.Errorf("%w: it is %s", ErrDataDir, DataPartial)
		}
		return err
	}
	st, err := s.DataDir()
	if err == nil && st != DataCluster {
		err = fmt.Errorf("%w: it is %s", ErrDataDir, st)
	}
	return err
}

// knownDisk is the name of a file system's disk, while the process lives that keeps it mounted.
type knownDisk struct {
	postmaster   int
	major, minor uint32
	name         string
	known        bool
}

func (k *knownDisk) of(major, minor uint32) string {
	if !k.known || k.major != major || k.minor != minor {
		k.major, k.minor, k.name, k.known = major, minor, diskName(sysBlock, major, minor), true
	}
	return k.name
}

// knownIdentity reads the identity, or says why there is none for what lies in the data directory.
// What cannot be read binds nothing, so it counts as another copy.
func (s *Server) knownIdentity(c ControlData) (id dataIdentity, why string) {
	b, err := readSmall(filepath.Join(s.opt.StateDir, dataIDFile), smallFileMax)
	if errors.Is(err, fs.ErrNotExist) {
		return id, "there was none"
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil || id.ID == "" {
		return id, "the old one cannot be read"
	}
	text, err := readSmall(s.inData(dataIDMarker), smallFileMax)
	if err != nil {
		return id, "the data directory has no marker"
	}
	if strings.TrimSpace(string(text)) != id.ID {
		return id, "the data directory has the marker of another copy"
	}
	birth, disk, err := s.markerBirth()
	switch {
	case err != nil:
		return id, "the marker cannot be looked at"
	case birth != id.Marker:
		return id, "the marker in the data directory is a copy"
	case disk != id.Disk:
		return id, "the data directory is on another disk"
	case c.Checkpoint < id.Checkpoint:
		return id, fmt.Sprintf("the last checkpoint went back from %s to %s", id.Checkpoint, c.Checkpoint)
	}
	return id, ""
}

// newIdentity makes a new identity. A crash in between leaves one that does not match its marker,
// and so another new one.
func (s *Server) newIdentity(c ControlData, why string) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("data identity: %w", err) }
	if err := s.ensureDir(s.opt.StateDir); err != nil {
		return fail(err)
	}
	if err := s.dropDataID(); err != nil {
		return fail(err)
	}
	id := dataIdentity{ID: rand.Text(), Checkpoint: c.Checkpoint}
	marker := s.inData(dataIDMarker)
	if err := s.writeDurably(marker, []byte(id.ID+"\n"), s.fileMode()); err != nil {
		return fail(err)
	}
	var err error
	if id.Marker, id.Disk, err = s.markerBirth(); err != nil {
		return fail(err)
	}
	if err := s.writeIdentity(id); err != nil {
		return fail(err)
	}
	s.log.Info("new identity of the data", zap.String("data_id", id.ID), zap.String("reason", why))
	return id.ID, nil
}

func (s *Server) writeIdentity(id dataIdentity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return s.writeDurably(filepath.Join(s.opt.StateDir, dataIDFile), b, 0o600)
}

// dropDataID forgets the identity, durably. Whatever changes the data calls it before its first write.
func (s *Server) dropDataID() error {
	return removeDurably(filepath.Join(s.opt.StateDir, dataIDFile))
}

// markerBirth looks at the marker file and at the disk below it.
func (s *Server) markerBirth() (fileBirth, string, error) {
	path := s.inData(dataIDMarker)
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return fileBirth{}, "", fmt.Errorf("%s: %w", path, err)
	}
	out := fileBirth{Inode: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		out.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return out, s.idDisk.of(st.Dev_major, st.Dev_minor), nil
}

// diskName is what the kernel knows a disk by beyond a restart: a volume that was restored from a
// snapshot is another disk. Empty where there is no such name, as for a file system in memory.
func diskName(root string, major, minor uint32) string {
	dev, err := filepath.EvalSymlinks(filepath.Join(root, fmt.Sprintf("%d:%d", major, minor)))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dev, "partition")); err == nil {
		dev = filepath.Dir(dev)
	}
	for _, name := range []string{"dm/uuid", "wwid", "device/wwid", "serial", "device/serial"} {
		b, err := os.ReadFile(filepath.Join(dev, name))
		if text := strings.TrimSpace(string(b)); err == nil && text != "" {
			return name + " " + text
		}
	}
	return ""
}
