package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"
)

// Errors that callers branch on.
var (
	// ErrNotRunning says that no server answers at the local address; it may be down or starting.
	ErrNotRunning = errors.New("postgresql does not answer")
	// ErrOtherServer says that the server at the local address serves another data directory:
	// nothing it says may be believed, and nothing may be done to it.
	ErrOtherServer = errors.New("another server answers at the local address")
	// ErrDataDir says that the data directory is not in the state the operation needs.
	ErrDataDir = errors.New("the data directory is not in the state that this needs")
)

// Credentials are those of one of the three roles (rows C-075 to C-078).
type Credentials struct {
	Username string
	Password string
	// Extra holds libpq keywords beside these two: sslmode, sslcert, sslkey, sslpassword,
	// sslrootcert, sslcrl, sslcrldir, gssencmode, channel_binding, sslnegotiation. Those that
	// the server's version does not know are left out.
	Extra map[string]string
}

// Options describe the local server. Paths should be absolute.
type Options struct {
	Name      string // member name; application_name of the walreceiver
	Scope     string // cluster_name
	DataDir   string
	ConfigDir string // default DataDir
	StateDir  string // default DataDir + ".pgha"; marks, moved-aside directories, the password file
	BinDir    string // default: search PATH
	// BinNames renames programs (row C-071), by their usual name.
	BinNames map[string]string
	// ConfigBaseName is "postgresql" by default: <base>.conf and <base>.base.conf.
	ConfigBaseName string
	// ListenAddresses and Port come from postgresql.listen (row C-065). Port 0 means 5432.
	ListenAddresses string
	Port            int
	Database        string // maintenance database, default "postgres"
	Superuser       Credentials
	Replication     Credentials
	// Rewind is the superuser when its Username is empty.
	Rewind Credentials
	// PassFile is where libpq passwords for the walreceiver and helper programs are written.
	// Default StateDir/pgpass.
	PassFile   string
	KrbSrvName string
	// UID and GID own the files and run the helper programs. They matter only when the agent is
	// root; zero then means the owner of the data directory, or else the user "postgres".
	UID, GID int
}

// Progress is told how far a long operation is, in bytes. total is 0 while it is not known.
// It is called from one goroutine at a time and must not block.
type Progress func(done, total int64)

// Server is one local PostgreSQL server. Its methods may be called from several goroutines;
// the long ones (InitDB, BaseBackup, Rewind, MoveAside) exclude one another through the caller.
type Server struct {
	opt   Options
	log   *zap.Logger
	asKid *syscall.Credential // nil when the agent is not root

	obs observer

	// files is held by whoever changes the configuration files, from reading them to the last write.
	files sync.Mutex
	idMu  sync.Mutex // for the data identity
	// idDisk is what is known of the disk for as long as the postmaster lives that it was asked under.
	idDisk knownDisk
	sync   syncKnown
	parsed parsedFile

	mu      sync.Mutex
	cmdline map[string]string // command line settings of the last WriteConfig (row C-190)
	// needRestart are the settings that a reload does not take over; nil until asked.
	needRestart map[string]bool
	refused     map[string]refusal // settings that the server would not start with
}

// New checks the options and fills in defaults. It touches nothing on disk.
func New(opt Options, log *zap.Logger) (*Server, error) {
	if opt.DataDir == "" || !filepath.IsAbs(opt.DataDir) {
		return nil, fmt.Errorf("postgres: data directory %q: want an absolute path", opt.DataDir)
	}
	if log == nil {
		return nil, errors.New("postgres: want a logger")
	}
	opt.DataDir = filepath.Clean(opt.DataDir)
	setDefault(&opt.ConfigDir, opt.DataDir)
	setDefault(&opt.StateDir, opt.DataDir+".pgha")
	setDefault(&opt.ConfigBaseName, "postgresql")
	setDefault(&opt.Database, "postgres")
	setDefault(&opt.PassFile, filepath.Join(opt.StateDir, "pgpass"))
	setDefault(&opt.Superuser.Username, "postgres")
	if opt.Port == 0 {
		opt.Port = 5432
	}
	if opt.Rewind.Username == "" {
		opt.Rewind = opt.Superuser
	}
	if inside(opt.StateDir, opt.DataDir) {
		return nil, fmt.Errorf("postgres: state directory %s: must lie outside the data directory, which is copied and replaced", opt.StateDir)
	}
	s := &Server{opt: opt, log: log}
	cred, err := helperCredential(opt)
	if err != nil {
		return nil, err
	}
	s.asKid = cred
	s.obs.init()
	return s, nil
}

// Close ends the kept connection. The server goes on.
func (s *Server) Close() { s.obs.close() }

// Options returns the options with defaults filled in.
func (s *Server) Options() Options { return s.opt }

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// inside says whether path is dir or lies below it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// helperCredential finds the user that owns the data, for an agent that is root.
func helperCredential(opt Options) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no change of user is the normal case
	}
	uid, gid := opt.UID, opt.GID
	if uid == 0 {
		var err error
		if uid, gid, err = ownerOf(opt.DataDir); err != nil {
			return nil, err
		}
	}
	if uid == 0 {
		return nil, errors.New("postgres: the agent is root and PostgreSQL refuses root: give the user that shall own the data directory")
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func ownerOf(dataDir string) (uid, gid int, err error) {
	if st, err := os.Stat(dataDir); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			return int(sys.Uid), int(sys.Gid), nil
		}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, fmt.Errorf("postgres: the agent is root: user to run PostgreSQL as: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}

// bin finds a program of PostgreSQL by its usual name.
func (s *Server) bin(name string) string {
	if n := s.opt.BinNames[name]; n != "" {
		name = n
	}
	if s.opt.BinDir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.opt.BinDir, name)
}

// inData joins path elements below the data directory.
func (s *Server) inData(elem ...string) string {
	return filepath.Join(append([]string{s.opt.DataDir}, elem...)...)
}
