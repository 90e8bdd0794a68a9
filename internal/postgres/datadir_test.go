package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/postgres/pgtest"
)

// makeFiles makes empty files, with their directories; a name with a final slash is a directory.
func makeFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		path := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(n, "/") {
			err = os.MkdirAll(path, 0o755)
		} else {
			err = os.WriteFile(path, []byte("15\n"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

var clusterFiles = []string{"PG_VERSION", "global/pg_control", "base/", "pg_wal/x", "pg_tblspc/"}

func TestDataDirIsToldByItsFiles(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setup func(t *testing.T, s *Server)
		want  DataDirState
	}{
		{"not there", func(*testing.T, *Server) {}, DataMissing},
		{"nothing in it", func(t *testing.T, s *Server) { makeFiles(t, s.opt.DataDir, "./") }, DataEmpty},
		{"a fresh file system", func(t *testing.T, s *Server) { makeFiles(t, s.opt.DataDir, "lost+found/", ".snapshot") }, DataEmpty},
		{"a cluster", func(t *testing.T, s *Server) { makeFiles(t, s.opt.DataDir, clusterFiles...) }, DataCluster},
		{"half a cluster without a mark", func(t *testing.T, s *Server) { makeFiles(t, s.opt.DataDir, "PG_VERSION", "base/") }, DataForeign},
		{"somebody's files", func(t *testing.T, s *Server) { makeFiles(t, s.opt.DataDir, "holiday.jpg") }, DataForeign},
		{"a cluster with the mark of a clone", func(t *testing.T, s *Server) {
			makeFiles(t, s.opt.DataDir, clusterFiles...)
			if err := s.begin("clone", "b"); err != nil {
				t.Fatal(err)
			}
		}, DataPartial},
		{"a cluster with a mark that cannot be understood", func(t *testing.T, s *Server) {
			makeFiles(t, s.opt.DataDir, clusterFiles...)
			makeFiles(t, s.opt.StateDir, markFile)
		}, DataPartial},
		{"empty with the mark of a clone", func(t *testing.T, s *Server) {
			makeFiles(t, s.opt.DataDir, "./")
			if err := s.begin("clone", "b"); err != nil {
				t.Fatal(err)
			}
		}, DataEmpty},
		{"a file in place of the directory", func(t *testing.T, s *Server) { makeFiles(t, filepath.Dir(s.opt.DataDir), "data") }, DataUnreadable},
		{"a mark that cannot be read", func(t *testing.T, s *Server) {
			makeFiles(t, s.opt.DataDir, clusterFiles...)
			makeFiles(t, s.opt.StateDir, markFile+"/")
		}, DataUnreadable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newNode(t, "n").Server
			tc.setup(t, s)
			got, err := s.DataDir()
			if got != tc.want || (err != nil) != (tc.want == DataUnreadable) {
				t.Errorf("%s, %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestStateDirInsideTheDataDirIsRefused(t *testing.T) {
	for dir, ok := range map[string]bool{"/d/data/x": false, "/d/data": false, "/d/data.pgha": true, "/d/..data": true} {
		if got := !inside(dir, "/d/data"); got != ok {
			t.Errorf("%s: %v", dir, got)
		}
	}
}

func TestMoveAsideKeepsTablespacesAndWALTogether(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	space := filepath.Join(filepath.Dir(pg.DataDir), "space")
	wal := filepath.Join(filepath.Dir(pg.DataDir), "wal")
	pgtest.Run(t, "mkdir", space)
	pg.SQL(t, "CREATE TABLESPACE s LOCATION '"+space+"'")
	pg.SQL(t, "CREATE TABLE t TABLESPACE s AS SELECT 42 AS answer")
	pg.Stop()
	pgtest.Run(t, "mv", filepath.Join(pg.DataDir, "pg_wal"), wal)
	pgtest.Run(t, "ln", "-s", wal, filepath.Join(pg.DataDir, "pg_wal"))
	pg.Restart(t)

	s := filesOf(t, pg.DataDir)
	if _, err := s.MoveAside("while it runs"); !errors.Is(err, ErrDataDir) {
		t.Fatalf("a running server was moved: %v", err)
	}
	pg.Stop()
	if err := s.CanMoveAside(); err != nil {
		t.Fatal(err)
	}
	path, err := s.MoveAside("needs clone!")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{space, wal} {
		if e, err := os.ReadDir(dir); err != nil || len(e) != 0 {
			t.Errorf("%s was not left empty: %v, %v", dir, e, err)
		}
	}
	if m, err := s.Unfinished(); m != nil || err != nil {
		t.Errorf("mark %+v, %v", m, err)
	}
	// What was moved is still a whole cluster.
	pgtest.Run(t, "sed", "-i", "1d", filepath.Join(path, "postgresql.auto.conf"))
	p := pgtest.Launch(t, filepath.Join(pgtest.BinDir(t), "postgres"), []string{
		"-D", path, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "port=" + pg.DSN()[len("host=127.0.0.1 port="):strings.Index(pg.DSN(), " user")],
	}, os.Environ())
	pg.WaitReady(t)
	if got := pg.SQL(t, "SELECT answer FROM t"); got != "42" {
		t.Errorf("got %q", got)
	}
	p.Stop()
	asides, err := s.Asides()
	if err != nil || len(asides) != 1 || asides[0].Path != path || asides[0].Reason != "needs-clone-" || asides[0].Moved.IsZero() {
		t.Fatalf("%+v, %v", asides, err)
	}
	if gone, err := s.RemoveAsides(1); err != nil || len(gone) != 0 {
		t.Fatalf("%v, %v", gone, err)
	}
	if gone, err := s.RemoveAsides(0); err != nil || len(gone) != 1 {
		t.Fatalf("%v, %v", gone, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(pg.DataDir), "*.aside-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMoveAsideRefusesWhatItCannotRename(t *testing.T) {
	t.Run("a shared tablespace directory", func(t *testing.T) {
		s := newNode(t, "n").Server
		makeFiles(t, s.opt.DataDir, clusterFiles...)
		space := filepath.Join(filepath.Dir(s.opt.DataDir), "space")
		makeFiles(t, space, "PG_15_1/x", "PG_14_1/x")
		if err := os.Symlink(space, s.inData("pg_tblspc", "1")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.MoveAside("x"); err == nil || !strings.Contains(err.Error(), "PG_14_1") {
			t.Errorf("%v", err)
		}
		if st, err := s.DataDir(); st != DataCluster || err != nil {
			t.Errorf("%s, %v", st, err)
		}
	})
	t.Run("a mount point", func(t *testing.T) {
		s := newNode(t, "n").Server
		mountTmpfs(t, s.opt.DataDir, "4m")
		makeFiles(t, s.opt.DataDir, clusterFiles...)
		if err := s.CanMoveAside(); err == nil || !strings.Contains(err.Error(), "different file systems") {
			t.Errorf("%v", err)
		}
		if path, err := s.MoveAside("x"); err == nil {
			t.Errorf("moved to %s", path)
		}
		if st, err := s.DataDir(); st != DataCluster || err != nil {
			t.Errorf("not undone: %s, %v", st, err)
		}
	})
	t.Run("a mount point with the state directory below the same mount", func(t *testing.T) {
		top := pgtest.Dir(t)
		mountTmpfs(t, filepath.Join(top, "m"), "4m")
		s := newNode(t, "n", func(o *Options) { o.DataDir = filepath.Join(top, "m", "data") }).Server
		makeFiles(t, s.opt.DataDir, clusterFiles...)
		if path, err := s.MoveAside("x"); err != nil || !strings.HasPrefix(path, filepath.Join(top, "m")) {
			t.Errorf("%s, %v", path, err)
		}
	})
}

func TestRemoveDataEmptiesAMountPoint(t *testing.T) {
	s := newNode(t, "n").Server
	mountTmpfs(t, s.opt.DataDir, "4m")
	makeFiles(t, s.opt.DataDir, clusterFiles...)
	if err := s.RemoveData(); err != nil {
		t.Fatal(err)
	}
	if st, err := s.DataDir(); st != DataEmpty || err != nil {
		t.Errorf("%s, %v", st, err)
	}
}

// mountTmpfs mounts a small file system for the test, which needs root.
func mountTmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Fatalf("mount a small file system (root is needed): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	pgtest.Own(t, dir)
}

func TestCloneOntoAFullDiskSaysSo(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	b := newNode(t, "b")
	mountTmpfs(t, b.opt.DataDir, "12m")
	err := b.BaseBackup(t.Context(), a.source(), BackupOptions{}, nil)
	var h *HelperError
	if !errors.As(err, &h) || h.Kind != FailureDiskFull {
		t.Fatalf("%v", err)
	}
	if st, err := b.DataDir(); st != DataPartial && st != DataEmpty || err != nil {
		t.Errorf("%s, %v", st, err)
	}
}

func TestInitDBOntoAFullDiskLeavesNoCluster(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n")
	mountTmpfs(t, n.opt.DataDir, "6m")
	err := n.InitDB(t.Context(), InitOptions{}, nil)
	var h *HelperError
	if !errors.As(err, &h) || h.Kind != FailureDiskFull {
		t.Fatalf("%v", err)
	}
	if st, err := n.DataDir(); st == DataCluster || err != nil {
		t.Errorf("%s, %v", st, err)
	}
}
