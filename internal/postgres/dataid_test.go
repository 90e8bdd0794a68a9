package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func (n *node) dataID() string {
	n.t.Helper()
	id, err := n.DataID()
	if err != nil || id == "" {
		n.t.Fatalf("data identity %q, %v", id, err)
	}
	return id
}

// identities remembers every identity, because none may come back.
type identities map[string]string

func (seen identities) wantNew(t *testing.T, id, after string) {
	t.Helper()
	if was := seen[id]; was != "" {
		t.Fatalf("%s: the identity is that of before, %s", after, was)
	}
	seen[id] = after
}

// One pair of servers goes through everything that may happen to a copy of the data.
func TestDataIDNamesThisVeryCopyOfTheData(t *testing.T) {
	t.Parallel()
	seen := identities{}
	a := newPrimary(t, "a")
	id := a.dataID()
	seen.wantNew(t, id, "first")
	same := func(after string) {
		t.Helper()
		if got := a.dataID(); got != id {
			t.Fatalf("%s: identity %s, was %s", after, got, id)
		}
	}
	same("asked again")
	if err := a.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	same("a checkpoint")
	a.pm.Crash()
	same("a crash")
	a.launch()
	same("a restart of the server")
	again, err := New(a.opt, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.DataID(); got != id || err != nil {
		t.Fatalf("a restart of the agent: identity %s, %v; was %s", got, err, id)
	}

	b := newNode(t, "b")
	if err := b.BaseBackup(t.Context(), a.source(), BackupOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(b.inData(dataIDMarker)); err != nil || string(text) != id+"\n" {
		t.Fatalf("the clone does not hold the source's marker, so this test shows nothing: %q, %v", text, err)
	}
	seen.wantNew(t, b.dataID(), "clone")
	same("being cloned")

	a.pm.Stop()
	same("a stop")
	a.tamper(seen)
}

// tamper does to a stopped directory what pgha does not see being done.
func (n *node) tamper(seen identities) {
	t := n.t
	t.Helper()
	n.dataID() // notes the shutdown checkpoint
	control, err := os.ReadFile(n.inData("global", "pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	n.launch()
	if err := n.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.dataID()
	n.pm.Stop()
	if err := os.WriteFile(n.inData("global", "pg_control"), control, 0o600); err != nil {
		t.Fatal(err)
	}
	seen.wantNew(t, n.dataID(), "put back to an earlier state, file by file in place")

	old := n.opt.DataDir + ".old"
	pgtest.Run(t, "mv", n.opt.DataDir, old)
	pgtest.Run(t, "cp", "-a", old, n.opt.DataDir)
	seen.wantNew(t, n.dataID(), "copied by hand")

	if err := os.WriteFile(n.inData(dataIDMarker), []byte("SOMEBODYELSES\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen.wantNew(t, n.dataID(), "rewound by hand, which brings the source's marker")
	if err := os.Remove(n.inData(dataIDMarker)); err != nil {
		t.Fatal(err)
	}
	seen.wantNew(t, n.dataID(), "restored by hand from a backup without a marker")

	path, err := n.MoveAside("test")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := n.DataID(); !errors.Is(err, ErrDataDir) {
		t.Fatalf("nothing is there: %q, %v", id, err)
	}
	pgtest.Run(t, "mv", path, n.opt.DataDir)
	seen.wantNew(t, n.dataID(), "moved aside and back")
	if err := n.RemoveData(); err != nil {
		t.Fatal(err)
	}
	if err := n.InitDB(t.Context(), InitOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	seen.wantNew(t, n.dataID(), "made anew")
}

// The mark of the operation cannot be written here, as after a crash between the two writes: the
// identity is gone by then.
func TestDataIDIsForgottenBeforeAnythingElseIsWritten(t *testing.T) {
	t.Parallel()
	s := newNode(t, "n").Server
	makeFiles(t, s.opt.StateDir, dataIDFile, markFile+"/")
	if err := s.begin("rewind", "b"); err == nil {
		t.Fatal("the mark was written over a directory")
	}
	if _, err := os.Stat(filepath.Join(s.opt.StateDir, dataIDFile)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the identity is still there: %v", err)
	}
}

// While one server runs its disk is not asked for again, and an operation that began still counts.
func TestWhatARunningServerHoldsIsNotLookedAtAgain(t *testing.T) {
	t.Parallel()
	n := newPrimary(t, "n")
	id := n.dataID()
	under := func(postmaster int) {
		t.Helper()
		if got, err := n.DataIDUnder(postmaster); got != id || err != nil {
			t.Fatalf("under %d: %q, %v; want %q", postmaster, got, err, id)
		}
	}
	under(42)
	if !n.idDisk.known || n.idDisk.postmaster != 42 {
		t.Fatalf("under a server that runs: %+v", n.idDisk)
	}
	n.idDisk.name = "another" // a disk that was exchanged, as it was known under the server before
	under(43)
	under(0)
	if n.idDisk.postmaster != 0 {
		t.Fatalf("without a server: %+v", n.idDisk)
	}
	under(43)
	if err := n.begin("rewind", "b"); err != nil {
		t.Fatal(err)
	}
	if got, err := n.DataIDUnder(43); !errors.Is(err, ErrDataDir) {
		t.Fatalf("while an operation is under way: %q, %v", got, err)
	}
}

func TestADiskIsKnownByTheNameThatItKeeps(t *testing.T) {
	root := t.TempDir()
	makeFiles(t, root, "devices/vda/wwid", "devices/vda/vda1/partition", "devices/dm-0/dm/uuid", "devices/ram/x")
	for name, to := range map[string]string{"254:1": "devices/vda/vda1", "253:0": "devices/dm-0", "1:0": "devices/ram"} {
		if err := os.Symlink(filepath.Join(root, to), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		major, minor uint32
		want         string
	}{{254, 1, "wwid 15"}, {253, 0, "dm/uuid 15"}, {1, 0, ""}, {9, 9, ""}} {
		if got := diskName(root, tc.major, tc.minor); got != tc.want {
			t.Errorf("%d:%d: %q, want %q", tc.major, tc.minor, got, tc.want)
		}
	}
}
