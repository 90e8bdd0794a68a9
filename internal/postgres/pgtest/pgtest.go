// Package pgtest starts real PostgreSQL servers for tests: as the user postgres when the test
// runs as root, on free loopback ports below the ephemeral range, with their sockets, logs and
// data below the test's own directory. Everything it starts is gone when the test ends. A
// missing PostgreSQL fails the test.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// BinDir is where the PostgreSQL programs are: $PGHA_TEST_PG_BIN, or else Debian's newest.
func BinDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("PGHA_TEST_PG_BIN"); dir != "" {
		return dir
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no PostgreSQL found below /usr/lib/postgresql: install it, or set PGHA_TEST_PG_BIN")
	}
	slices.Sort(dirs)
	return filepath.Dir(dirs[len(dirs)-1])
}

// Credential is the user to run PostgreSQL as; nil when the test does not run as root.
func Credential(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Dir makes a directory for the test that PostgreSQL's user owns and can reach. It lies in
// memory where there is room, because a sync of the test machine's disk also waits for what
// every other test wrote there; $PGHA_TEST_DIR puts it elsewhere.
func Dir(t testing.TB) string {
	t.Helper()
	root := os.Getenv("PGHA_TEST_DIR")
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); root == "" && err == nil && fs.Bavail*uint64(fs.Bsize) > 2<<30 {
		root = "/dev/shm"
	}
	dir, err := os.MkdirTemp(root, "pgha-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	Own(t, dir)
	return dir
}

// Own gives a path to PostgreSQL's user.
func Own(t testing.TB, path string) {
	t.Helper()
	if cred := Credential(t); cred != nil {
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// FreePort finds a loopback port below the ephemeral range that nobody uses.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port found")
	return 0
}

// Run runs a program as PostgreSQL's user and returns its output; a failure fails the test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Credential(t)}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Postmaster is a running server process.
type Postmaster struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// Launch starts a postmaster with the given command line; its output goes to a log file that a
// failing test prints. It does not wait for readiness.
func Launch(t testing.TB, bin string, args, env []string) *Postmaster {
	t.Helper()
	logFile, err := os.CreateTemp(Dir(t), "postgres-*.log")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir, cmd.Env = "/", env
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT, Credential: Credential(t)}
	p := &Postmaster{t: t, cmd: cmd, done: make(chan struct{}), log: logFile.Name()}
	started := make(chan error, 1)
	go func() {
		// The server gets its death signal when the thread that forked it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.done)
	}()
	if err := errors.Join(<-started, logFile.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop(syscall.SIGQUIT)
		if t.Failed() {
			t.Logf("log of %s:\n%s", strings.Join(args, " "), p.Log())
		}
	})
	return p
}

// Pid is the postmaster's process id.
func (p *Postmaster) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the postmaster has gone.
func (p *Postmaster) Done() <-chan struct{} { return p.done }

// Log is what the server wrote so far, at most its last 8 kB.
func (p *Postmaster) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-8192):])
}

// Stop shuts down fast and waits.
func (p *Postmaster) Stop() { p.stop(syscall.SIGINT) }

// Crash stops the server at once, without a checkpoint, as a crash would leave it.
func (p *Postmaster) Crash() { p.stop(syscall.SIGQUIT) }

// Reload has the server read its configuration again.
func (p *Postmaster) Reload() { _ = p.cmd.Process.Signal(syscall.SIGHUP) }

func (p *Postmaster) stop(sig syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("the postmaster had to be killed\n%s", p.Log())
	}
}

// Server is a complete server with trust authentication on loopback.
type Server struct {
	*Postmaster
	DataDir   string
	SocketDir string
	Port      int
	bin       string
	args      []string
}

// Start makes a new cluster with the given settings ("name=value") and starts it; it is ready
// when Start returns. The superuser is postgres, without a password.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, bin := Dir(t), BinDir(t)
	s := &Server{DataDir: filepath.Join(dir, "data"), SocketDir: dir, Port: FreePort(t), bin: filepath.Join(bin, "postgres")}
	Run(t, filepath.Join(bin, "initdb"), "-D", s.DataDir, "-U", "postgres", "--auth=trust", "--no-sync", "-k")
	s.args = []string{
		"-D", s.DataDir, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + strconv.Itoa(s.Port),
		"-c", "unix_socket_directories=" + s.SocketDir, "-c", "wal_log_hints=on", "-c", "fsync=off",
		"-c", "wal_retrieve_retry_interval=100ms",
	}
	for _, set := range settings {
		s.args = append(s.args, "-c", set)
	}
	s.Restart(t)
	return s
}

// Restart starts the server again after a Stop or Crash.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Postmaster = Launch(t, s.bin, s.args, os.Environ())
	s.WaitReady(t)
}

// DSN is a connection string for the superuser.
func (s *Server) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", s.Port)
}

// WaitReady waits until the server takes connections.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	Wait(t, "the server takes connections", func() (bool, string) {
		_, err := Query(t.Context(), s.DSN(), "SELECT 1")
		return err == nil, fmt.Sprint(err)
	})
}

// SQL runs one statement and returns the first column of the first row as text.
func (s *Server) SQL(t testing.TB, sql string) string {
	t.Helper()
	out, err := Query(t.Context(), s.DSN(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// Query runs a statement over a connection of its own and returns the first column of the first
// row as text; empty if there is none.
func Query(ctx context.Context, dsn, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	for _, r := range results {
		if len(r.Rows) > 0 && len(r.Rows[0]) > 0 {
			return string(r.Rows[0][0]), nil
		}
	}
	return "", nil
}

// Wait waits up to 20 s for a condition and fails with its last state.
func Wait(t testing.TB, what string, cond func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := cond()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited 20 s until %s; last: %s", what, state)
		}
	}
}
