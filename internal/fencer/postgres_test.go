package fencer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const pgBin = "/usr/lib/postgresql/15/bin"

// pgBench is a bench with a real cluster that belongs to the user postgres.
type pgBench struct {
	*bench
	cred *syscall.Credential
}

func newPGBench(t *testing.T, conf string, extra ...string) *pgBench {
	t.Helper()
	u, err := user.Lookup("postgres")
	must(t, err)
	uid, err := strconv.Atoi(u.Uid)
	must(t, err)
	gid, err := strconv.Atoi(u.Gid)
	must(t, err)
	b := &pgBench{bench: newBench(t, extra...), cred: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	b.opts.UID, b.opts.GID = uid, gid
	must(t, os.Chmod(filepath.Dir(b.root), 0o755))
	must(t, os.RemoveAll(b.data))
	must(t, os.Chown(b.root, uid, gid))
	b.asPostgres("initdb", "-D", b.data, "-A", "trust", "-N", "--wal-segsize=1")
	settings := fmt.Sprintf("listen_addresses=''\nunix_socket_directories='%s'\nshared_buffers=16MB\n%s\n", b.root, conf)
	f, err := os.OpenFile(filepath.Join(b.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(settings)
	must(t, errors.Join(err, f.Close()))
	return b
}

// asPostgres runs one of PostgreSQL's programs and returns its output.
func (b *pgBench) asPostgres(program string, args ...string) string {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), filepath.Join(pgBin, program), args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

func (b *pgBench) start(c *Client, primary bool, epoch uint64) int {
	b.t.Helper()
	pid, err := c.Start(b.ctx(), StartSpec{
		Bin: filepath.Join(pgBin, "postgres"), Args: []string{filepath.Join(pgBin, "postgres"), "-D", b.data},
		Env:     []string{"LC_ALL=C", "PGHA_TEST_ROOT=" + b.root},
		LogFile: filepath.Join(b.run, "server.log"), Primary: primary, Epoch: epoch,
	})
	must(b.t, err)
	b.wait("PostgreSQL answers", func() (bool, string) {
		conn, err := b.dial()
		if err != nil {
			return false, err.Error()
		}
		defer conn.close()
		row, err := conn.query("select pg_is_in_recovery()")
		return err == nil && row == strconv.FormatBool(!primary)[:1], fmt.Sprintf("recovery %q, %v", row, err)
	})
	return pid
}

// pgConn speaks just enough of the protocol to know at what instant an answer arrived.
type pgConn struct{ net.Conn }

func (b *pgBench) dial() (pgConn, error) {
	conn, err := net.Dial("unix", filepath.Join(b.root, ".s.PGSQL.5432"))
	if err != nil {
		return pgConn{}, err
	}
	c := pgConn{conn}
	params := "user\x00postgres\x00database\x00postgres\x00\x00"
	head := binary.BigEndian.AppendUint32(nil, uint32(8+len(params)))
	head = binary.BigEndian.AppendUint32(head, 3<<16)
	if _, err = c.Write(append(head, params...)); err == nil {
		_, err = c.untilReady()
	}
	if err != nil {
		c.close()
		return pgConn{}, err
	}
	return c, nil
}

func (c pgConn) close() { _ = c.Conn.Close() }

// query runs one statement and returns the first column of its last row.
func (c pgConn) query(sql string) (string, error) {
	msg := binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(sql)+1))
	if _, err := c.Write(append(append(msg, sql...), 0)); err != nil {
		return "", err
	}
	return c.untilReady()
}

func (c pgConn) untilReady() (value string, err error) {
	for {
		head := make([]byte, 5)
		if _, e := io.ReadFull(c, head); e != nil {
			return "", e
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, e := io.ReadFull(c, body); e != nil {
			return "", e
		}
		switch head[0] {
		case 'E':
			err = fmt.Errorf("server: %q", body)
		case 'D':
			if n := binary.BigEndian.Uint32(body[2:]); n != 1<<32-1 {
				value = string(body[6 : 6+n])
			}
		case 'Z':
			return value, err
		}
		if head[0] == 'E' && strings.Contains(string(body), "FATAL") {
			return "", err
		}
	}
}

func (b *pgBench) exec(sql string) string {
	b.t.Helper()
	conn, err := b.dial()
	must(b.t, err)
	defer conn.close()
	v, err := conn.query(sql)
	must(b.t, err)
	return v
}

// writers commit as fast as they can until their connection breaks; each returns the instant of its
// last acknowledgement.
func (b *pgBench) writers(n int) <-chan time.Duration {
	b.t.Helper()
	last := make(chan time.Duration, n)
	for range n {
		conn, err := b.dial()
		must(b.t, err)
		go func() {
			defer conn.close()
			at := time.Duration(0)
			for {
				if _, err := conn.query("insert into t values (1)"); err != nil {
					last <- at
					return
				}
				at = Now()
			}
		}()
	}
	return last
}

func TestPostgresAcknowledgesNothingOnceItIsDown(t *testing.T) {
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		t.Run("extra "+joinStrings(mode), func(t *testing.T) {
			b := newPGBench(t, "", mode...)
			c, _ := b.connect()
			b.arm(c, 1, time.Minute)
			b.start(c, true, 1)
			b.exec("create table t (a int)")
			last := b.writers(8)
			until := b.arm(c, 2, time.Second)
			fenced := b.expect(c, EventFenced)
			exited := b.expect(c, EventExited)
			down := b.expect(c, EventDown)
			if left := b.serverProcesses(); len(left) > 0 {
				t.Errorf("alive after Down: %v", left)
			}
			newest := time.Duration(0)
			for range 8 {
				newest = max(newest, <-last)
			}
			t.Logf("%s: struck %s, postmaster gone %s, down %s, last acknowledgement read %s after the deadline",
				b.state(c).KillMethod, fenced.At-until, exited.At-until, down.At-until, newest-until)
			if newest < until-500*time.Millisecond {
				t.Error("the writers were not writing: the test means nothing")
			}
			// The reader's own delay is in this figure.
			if newest > down.At+200*time.Millisecond {
				t.Errorf("acknowledged %s after Down", newest-down.At)
			}
		})
	}
}

func TestPostgresOrphanBackendIsGoneWhenDownIsReported(t *testing.T) {
	for _, mode := range [][]string{nil, {"--scan-only"}} {
		t.Run("extra "+joinStrings(mode), func(t *testing.T) {
			b := newPGBench(t, "", mode...)
			c, _ := b.connect()
			b.arm(c, 1, time.Minute)
			pid := b.start(c, true, 1)
			conn, err := b.dial()
			must(t, err)
			defer conn.close()
			_, err = conn.query("create table t (a int)")
			must(t, err)
			backend, err := conn.query("select pg_backend_pid()")
			must(t, err)
			busy := make(chan error, 1)
			go func() {
				_, err := conn.query("do $$ begin loop insert into t values (1); commit; end loop; end $$")
				busy <- err
			}()
			b.wait("backend is busy", func() (bool, string) {
				n := b.exec("select count(*) from t")
				return len(n) > 1, n
			})
			signalPid(t, pid, syscall.SIGKILL)
			b.expect(c, EventExited)
			_, err = c.Start(b.ctx(), StartSpec{Bin: "/bin/true", Args: []string{"true"}, Primary: true, Epoch: 1})
			if !errors.Is(err, ErrBusy) && !errors.Is(err, ErrRunning) && err != nil {
				t.Errorf("start right after the exit: %v", err)
			}
			b.expect(c, EventDown)
			n, err := strconv.Atoi(backend)
			must(t, err)
			if alive(n) {
				t.Error("the busy backend lives after Down")
			}
			t.Log("the busy backend ended with:", <-busy)
		})
	}
}

func TestPostgresPromotedByTheFencer(t *testing.T) {
	b := newPGBench(t, "")
	c, _ := b.connect()
	pid := b.start(c, false, 0)
	wantErr(t, c.Promote(b.ctx(), 1), ErrEpoch)
	b.arm(c, 1, time.Minute)
	must(t, c.Promote(b.ctx(), 1))
	b.wait("promotion", func() (bool, string) {
		v := b.exec("select pg_is_in_recovery()")
		return v == "f", v
	})
	wantErr(t, c.Disarm(b.ctx(), 1), ErrWritable)
	must(t, c.Signal(b.ctx(), syscall.SIGHUP))
	if err := c.Signal(b.ctx(), syscall.SIGUSR1); err == nil {
		t.Error("the agent may send SIGUSR1")
	}
	must(t, c.Stop(b.ctx(), Fast))
	e := b.expect(c, EventExited)
	if e.Pid != pid || !e.Status.Known || e.Status.Code != 0 || e.Status.Signal != 0 {
		t.Errorf("unexpected event %+v", e)
	}
	b.expect(c, EventDown)
	must(t, c.Disarm(b.ctx(), 1))
	if out := b.asPostgres("pg_controldata", b.data); !strings.Contains(out, "shut down\n") {
		t.Errorf("not a clean shutdown: %s", out)
	}
}

func TestPostgresPromotedByHandIsKilled(t *testing.T) {
	b := newPGBench(t, "")
	c, _ := b.connect()
	b.start(c, false, 0)
	must(t, os.WriteFile(filepath.Join(b.root, "unused"), nil, 0o600))
	b.asPostgres("pg_ctl", "promote", "-D", b.data, "--no-wait")
	seen := b.expect(c, EventObserved)
	killed := b.expect(c, EventKilled)
	b.expect(c, EventDown)
	if grace := killed.At - seen.At; grace < 900*time.Millisecond || grace > 5*time.Second {
		t.Errorf("killed %s after it was seen, want about 1 s", grace)
	}
	if left := b.serverProcesses(); len(left) > 0 {
		t.Errorf("alive after Down: %v", left)
	}
}

func TestPostgresStandbyOnACrashedPrimarysDirectoryIsSpared(t *testing.T) {
	b := newPGBench(t, "", "--unarmed-grace", "50ms")
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	b.start(c, true, 1)
	b.exec("create table t (a int)")
	must(t, c.Kill(b.ctx()))
	must(t, c.Disarm(b.ctx(), 1))
	ctl, err := readControl(b.data)
	must(t, err)
	if !ctl.production {
		t.Fatal("the crash left another state than in production: the test means nothing")
	}
	must(t, os.WriteFile(filepath.Join(b.data, promoteFile), nil, 0o600))
	must(t, os.Chown(filepath.Join(b.data, promoteFile), b.opts.UID, b.opts.GID))
	pid := b.start(c, false, 0)
	nap(time.Second)
	if !alive(pid) || b.exec("select pg_is_in_recovery()") != "t" {
		t.Fatal("the standby was killed, or promoted by an old request")
	}
}

func TestPostgresControlStatesAreThoseOfPgControldata(t *testing.T) {
	b := newPGBench(t, "")
	c, _ := b.connect()
	check := func(want string, production bool) {
		t.Helper()
		out := b.asPostgres("pg_controldata", b.data)
		ctl, err := readControl(b.data)
		must(t, err)
		if !strings.Contains(out, want+"\n") || ctl.production != production {
			t.Errorf("production %v, want %v and %q in:\n%s", ctl.production, production, want, out)
		}
	}
	check("shut down", false)
	b.arm(c, 1, time.Minute)
	b.start(c, true, 1)
	check("in production", true)
	must(t, c.Stop(b.ctx(), Fast))
	b.expect(c, EventDown)
	b.start(c, false, 0)
	check("in archive recovery", false)
	must(t, c.Stop(b.ctx(), Immediate))
	b.expect(c, EventDown)
}

func TestPostgresStartsOverAPidFileOfAnotherProcess(t *testing.T) {
	b := newPGBench(t, "")
	other := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	other.Dir = "/"
	other.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	must(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	path := filepath.Join(b.data, "postmaster.pid")
	must(t, os.WriteFile(path, fmt.Appendf(nil, "%d\n%s\n%d\n5432\n", other.Process.Pid, b.data, time.Now().Unix()), 0o600))
	must(t, os.Chown(path, b.opts.UID, b.opts.GID))
	c, st := b.connect()
	if st.Postmaster != 0 {
		t.Fatalf("a foreign process was adopted: %+v", st)
	}
	b.start(c, false, 0)
	must(t, c.Kill(b.ctx()))
	if !alive(other.Process.Pid) {
		t.Error("a foreign process was killed")
	}
}

func TestPostgresArchiveCommandIsKilledToo(t *testing.T) {
	b := newPGBench(t, "archive_mode=on\narchive_command='cd / && exec sleep 1000'", "--scan-only")
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	b.start(c, true, 1)
	b.exec("create table t (a int)")
	b.exec("select pg_switch_wal()")
	command := 0
	b.wait("archive_command runs", func() (bool, string) {
		for _, pid := range b.serverProcesses() {
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.HasPrefix(string(cmd), "sleep") {
				command = pid
			}
		}
		return command != 0, join(b.serverProcesses())
	})
	must(t, c.Kill(b.ctx()))
	if alive(command) {
		t.Error("archive_command lives after Kill")
	}
}

func TestPostgresAdoptedFromAnotherManager(t *testing.T) {
	b := newPGBench(t, "")
	must(t, os.WriteFile(filepath.Join(b.data, standbySignal), nil, 0o600))
	must(t, os.Chown(filepath.Join(b.data, standbySignal), b.opts.UID, b.opts.GID))
	b.asPostgres("pg_ctl", "start", "-D", b.data, "-w", "-l", filepath.Join(b.root, "by-hand.log"))
	c, st := b.connect()
	if st.Postmaster == 0 || !st.Adopted || st.KillMethod != "scan" {
		t.Fatalf("unexpected state %+v", st)
	}
	b.arm(c, 1, time.Minute)
	must(t, c.Disarm(b.ctx(), 1)) // in recovery, and standby.signal is there
	until := b.arm(c, 2, 500*time.Millisecond)
	b.expect(c, EventFenced)
	down := b.expect(c, EventDown)
	t.Logf("down %s after the deadline", down.At-until)
	if left := cwdProcesses(b.data); len(left) > 0 {
		t.Errorf("alive after Down: %v", left)
	}
}

func TestPostgresFencerWithoutRoot(t *testing.T) {
	b := newPGBench(t, "")
	must(t, os.Chmod(b.root, 0o755))
	must(t, os.Mkdir(b.run, 0o700))
	must(t, os.Chown(b.run, b.opts.UID, b.opts.GID))
	copied := filepath.Join(b.root, "pgha-agent")
	self, err := os.Executable()
	must(t, err)
	content, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(copied, content, 0o755))
	cmd := exec.CommandContext(t.Context(), copied, commandLine(b.opts)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.cred}
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b.wait("fencer listens", func() (bool, string) {
		_, err := os.Stat(filepath.Join(b.run, socketName))
		return err == nil, fmt.Sprint(err)
	})
	c, st := b.connect()
	if st.PID != cmd.Process.Pid {
		t.Fatalf("another fencer: %+v", st)
	}
	t.Logf("priority %s, kill method %s, problems %q", st.Priority, st.KillMethod, st.Problems)
	b.arm(c, 1, time.Minute)
	b.start(c, true, 1)
	until := b.arm(c, 2, 500*time.Millisecond)
	fenced := b.expect(c, EventFenced)
	down := b.expect(c, EventDown)
	t.Logf("struck %s, down %s after the deadline", fenced.At-until, down.At-until)
	if left := b.serverProcesses(); len(left) > 0 {
		t.Errorf("alive after Down: %v", left)
	}
}
