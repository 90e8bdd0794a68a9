package fencer

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgha/pgha/internal/fencer/wire"
)

// wired is a bench in a network namespace of its own, with a port that stands for the server's: who
// listens there does not matter to the kernel.
type wired struct {
	*bench
	conn *wire.Conn
	l    net.Listener
	e    wire.Endpoint
}

func newWired(t *testing.T, extra ...string) *wired {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("the tests of the wire fence need root and nftables: new network namespace: %v", err)
	}
	raiseLoopback(t)
	b := &wired{bench: newBench(t, extra...)}
	var err error
	b.l, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = b.l.Close() })
	b.e = ListensAt([]string{"127.0.0.1"}, b.l.Addr().(*net.TCPAddr).Port)
	b.opts.Wire = b.e
	b.conn, err = wire.Dial()
	must(t, err)
	t.Cleanup(func() { _ = b.conn.Close() })
	return b
}

func raiseLoopback(t *testing.T) {
	t.Helper()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq("lo")
	must(t, err)
	ifr.SetUint16(unix.IFF_UP)
	must(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr))
}

// open says whether the port answers a new client.
func (b *wired) open() bool {
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	c, err := d.Dial("tcp", b.l.Addr().String())
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (b *wired) up() bool {
	b.t.Helper()
	up, err := b.conn.Up(b.e)
	must(b.t, err)
	return up
}

// starts starts the stand-in as that server.
func (b *wired) starts(c *Client, primary bool, epoch uint64) int {
	b.t.Helper()
	_ = os.Remove(filepath.Join(b.data, "ready"))
	pid, err := c.Start(b.ctx(), StartSpec{
		Bin: b.standin(), Args: []string{"postgres", "standin", b.data, "1"},
		Env:     append(os.Environ(), "PGHA_TEST_ROOT="+b.root),
		LogFile: filepath.Join(b.run, "server.log"), Primary: primary, Epoch: epoch, Wire: b.e,
	})
	must(b.t, err)
	b.wait("stand-in is ready", func() (bool, string) {
		_, err := os.Stat(filepath.Join(b.data, "ready"))
		return err == nil, fmt.Sprint(err)
	})
	return pid
}

func (b *wired) want(c *Client, want WireState) {
	b.t.Helper()
	if st := b.state(c); st.Wire != want {
		b.t.Fatalf("the wire is %q, want %q; problems %q", st.Wire, want, st.Problems)
	}
}

func TestWireFenceFollowsTheToken(t *testing.T) {
	b := newWired(t)
	c, st := b.connect()
	if st.Wire != WireReady || b.up() {
		t.Fatalf("before a token: %q, up %v, problems %q", st.Wire, b.up(), st.Problems)
	}
	b.starts(c, false, 0)
	if b.up() || !b.open() {
		t.Fatal("a standby is fenced")
	}
	b.arm(c, 1, time.Minute)
	b.want(c, WireUp)
	if !b.up() || !b.open() {
		t.Fatalf("armed: up %v, open %v", b.up(), b.open())
	}
	must(t, c.Disarm(b.ctx(), 1))
	b.want(c, WireReady)
	if b.up() || !b.open() {
		t.Fatalf("disarmed: up %v, open %v", b.up(), b.open())
	}
	b.arm(c, 2, time.Minute)
	b.arm(c, 3, 300*time.Millisecond) // brought forward
	b.expect(c, EventDown)
	b.want(c, WireReady)
	if b.up() || !b.open() {
		t.Fatalf("proven down: up %v, open %v", b.up(), b.open())
	}
	must(t, c.Shutdown(b.ctx()))
}

// TestWireNeverClosesBeforeTheDeadline renews a short deadline many times: the port must answer at
// every moment.
func TestWireNeverClosesBeforeTheDeadline(t *testing.T) {
	b := newWired(t)
	c, _ := b.connect()
	const lease = 3 * time.Second
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	until := b.arm(c, 2, lease)
	for end := Now() + 3*lease; Now() < end; nap(20 * time.Millisecond) {
		if open := b.open(); !open && Now() < until {
			t.Fatalf("closed %s before the deadline", until-Now())
		}
		until = Now() + lease
		must(t, c.Renew(b.ctx(), 2, 12, until))
	}
}

// TestTheWireClosesWhenEveryProcessOfTheFencerIsKilled is the hole that no process can close: agent,
// fencer and second are killed together, and the server lives on.
func TestTheWireClosesWhenEveryProcessOfTheFencerIsKilled(t *testing.T) {
	for _, fenced := range []bool{true, false} {
		t.Run(fmt.Sprintf("fenced %v", fenced), func(t *testing.T) {
			b := newWired(t)
			if !fenced {
				b.opts.Wire, b.e = wire.Endpoint{}, wire.Endpoint{}
			}
			c, _ := b.connect()
			b.wait("second", func() (bool, string) { st := b.state(c); return st.SecondPID != 0, "none" })
			b.arm(c, 1, time.Minute)
			pid := b.starts(c, true, 1)
			until := b.arm(c, 2, 2*time.Second)
			st := b.state(c)
			for _, p := range []int{st.PID, st.SecondPID} {
				signalPid(t, p, syscall.SIGSTOP)
			}
			for _, p := range []int{st.SecondPID, st.PID} {
				signalPid(t, p, syscall.SIGKILL)
			}
			closed := func() (bool, string) {
				if !alive(pid) {
					t.Fatal("the server is dead: nothing is shown")
				}
				if Now() < until && !b.open() && Now() < until {
					t.Fatal("closed before the deadline")
				}
				return !b.open(), "open"
			}
			if !fenced {
				for Now() < until+time.Second {
					if shut, _ := closed(); shut {
						t.Fatal("closed without a fence")
					}
					nap(20 * time.Millisecond)
				}
				return
			}
			b.wait("the port to be closed", closed)
			if late := Now() - until; late > 20*time.Second {
				t.Errorf("closed %s after the deadline", late)
			}
			// The next fencer first silences the server, and only then opens the port again.
			c, _ = b.connect()
			b.wait("the server to be down", func() (bool, string) {
				st := b.state(c)
				return st.Postmaster == 0 && !st.Busy && !st.Armed, fmt.Sprintf("%+v", st)
			})
			if alive(pid) || b.up() || !b.open() {
				t.Fatalf("server alive %v, fence up %v, port open %v", alive(pid), b.up(), b.open())
			}
			b.want(c, WireReady)
		})
	}
}

// TestTheKernelHasNoHandInAPause: the server of a paused cluster is let be, also when nobody is left who
// could tell the kernel; after the pause the token that still counts has its fence again.
func TestTheKernelHasNoHandInAPause(t *testing.T) {
	b := newWired(t)
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	b.want(c, WireUp)
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, 0))
	if b.up() {
		t.Fatal("fenced during a pause")
	}
	must(t, c.Renew(b.ctx(), 1, 12, Now()+2*time.Minute))
	if b.up() {
		t.Fatal("fenced by a renewal during a pause")
	}
	c, _ = b.connect() // an agent that was started again
	if b.up() {
		t.Fatal("fenced by a hello during a pause")
	}
	must(t, c.SetPolicy(b.ctx(), PolicyKill, 0))
	if !b.up() || !b.open() {
		t.Fatalf("after the pause: up %v, open %v", b.up(), b.open())
	}
	must(t, c.SetPolicy(b.ctx(), PolicyObserve, 0))
	b.arm(c, 2, 300*time.Millisecond)
	b.expect(c, EventLapsed)
	if b.up() || !b.open() {
		t.Fatalf("lapsed: up %v, open %v", b.up(), b.open())
	}
}

// TestALaterFencerRenewsTheFence: the token lives on, and so does the fence.
func TestALaterFencerRenewsTheFence(t *testing.T) {
	b := newWired(t)
	c, st := b.connect()
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	c, _ = b.connect()
	b.want(c, WireUp)
	must(t, c.Renew(b.ctx(), 1, 12, Now()+2*time.Minute))
	if !b.up() || !b.open() {
		t.Fatalf("up %v, open %v", b.up(), b.open())
	}
	// All rules of the machine are loaded anew.
	must(t, b.conn.Lift(b.e))
	must(t, c.Renew(b.ctx(), 1, 12, Now()+3*time.Minute))
	if !b.up() || !b.open() {
		t.Fatalf("after somebody removed it: up %v, open %v", b.up(), b.open())
	}
}

// TestWireWithoutStateStaysUntilTheServerIsKnown: the files of the fencer are lost, a fence is there.
func TestWireWithoutStateStaysUntilTheServerIsKnown(t *testing.T) {
	for _, writable := range []bool{true, false} {
		t.Run(fmt.Sprintf("writable %v", writable), func(t *testing.T) {
			b := newWired(t, "--no-second", "--adopt-grace", "1s")
			c, st := b.connect()
			if writable {
				b.arm(c, 1, time.Minute)
			}
			pid := b.starts(c, writable, 1)
			signalPid(t, st.PID, syscall.SIGKILL)
			b.expect(c, EventClosed)
			must(t, os.Remove(filepath.Join(b.run, stateName)))
			must(t, b.conn.Guard(b.e, wire.Secret{}, 0))
			c, st = b.connect()
			if st.Postmaster != pid || !st.StateLost {
				t.Fatalf("unexpected state %+v", st)
			}
			for b.up() {
				nap(5 * time.Millisecond)
			}
			if alive(pid) == writable {
				t.Fatalf("the port was opened with the server alive %v", alive(pid))
			}
			b.wait("the fencer to know", func() (bool, string) { st := b.state(c); return st.Wire == WireReady, string(st.Wire) })
		})
	}
}

// TestAFencerWithoutRightsTakesOver: its agent has given up the rights of root. It cannot renew the
// fence of the fencer before, so it takes it out of the way and says so.
func TestAFencerWithoutRightsTakesOver(t *testing.T) {
	b := newWired(t)
	for dir := b.root; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	must(t, os.Mkdir(b.run, 0o700))
	const nobody = 65534
	must(t, filepath.Walk(b.root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}))
	b.opts.UID, b.opts.GID = nobody, nobody
	c, st := b.connect()
	if st.Wire != WireReady {
		t.Fatalf("the wire is %q: %q", st.Wire, st.Problems)
	}
	b.wait("second", func() (bool, string) { st = b.state(c); return st.SecondPID != 0, "none" })
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	for _, p := range []int{st.SecondPID, st.PID} {
		signalPid(t, p, syscall.SIGKILL)
	}
	b.expect(c, EventClosed)
	b.startAs(nobody)
	c, st = b.connect()
	if st.Wire != WireFailed || !strings.Contains(strings.Join(st.Problems, "\n"), "CAP_NET_ADMIN") {
		t.Fatalf("the wire is %q: %q", st.Wire, st.Problems)
	}
	must(t, c.Renew(b.ctx(), 1, 12, Now()+2*time.Minute))
	// What the fencer before put up would close now.
	if err := b.conn.Renew(b.e, 0); err != nil {
		t.Fatal(err)
	}
	if !b.open() {
		t.Fatal("the port is closed although the token counts")
	}
	// An agent that is started as root again replaces that fencer: the fence, long opened by word, is made anew.
	b.wait("second", func() (bool, string) { st = b.state(c); return st.SecondPID != 0, "none" })
	for _, p := range []int{st.SecondPID, st.PID} {
		signalPid(t, p, syscall.SIGKILL)
	}
	b.expect(c, EventClosed)
	c, _ = b.connect()
	b.want(c, WireUp)
	must(t, c.Renew(b.ctx(), 1, 12, Now()+3*time.Minute))
	if !b.up() || !b.open() {
		t.Fatalf("root again: up %v, open %v", b.up(), b.open())
	}
	must(t, c.Kill(b.ctx()))
}

// TestAFenceThatSomebodyEmptiedIsMadeAnew: a closed fence with the deadline ahead is not the fencer's doing.
func TestAFenceThatSomebodyEmptiedIsMadeAnew(t *testing.T) {
	b := newWired(t)
	c, _ := b.connect()
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	must(t, b.conn.Renew(b.e, 0))
	if b.open() {
		t.Fatal("an emptied fence is open")
	}
	must(t, c.Renew(b.ctx(), 1, 12, Now()+2*time.Minute))
	if !b.up() || !b.open() {
		t.Fatalf("renewed: up %v, open %v", b.up(), b.open())
	}
}

// startAs starts a fencer as another user, and waits until it listens.
func (b *wired) startAs(uid int) {
	b.t.Helper()
	program := filepath.Join(b.root, "fencer.test")
	content, err := os.ReadFile("/proc/self/exe")
	must(b.t, err)
	must(b.t, os.WriteFile(program, content, 0o755))
	log, err := os.OpenFile(filepath.Join(b.run, logName), os.O_APPEND|os.O_WRONLY, 0)
	must(b.t, err)
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(b.t.Context(), program, commandLine(b.opts)...)
	cmd.Stderr, cmd.Dir = log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	must(b.t, cmd.Start())
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b.wait("fencer of uid "+strconv.Itoa(uid)+" listens", func() (bool, string) {
		conn, err := dial(b.ctx(), b.run)
		if err == nil {
			_ = conn.Close()
		}
		content, _ := os.ReadFile(filepath.Join(b.run, logName))
		lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
		return err == nil, string(lines[len(lines)-1])
	})
}

// TestTheNextFencerIsRootToo: the agent has given up being root, but the second has not.
func TestTheNextFencerIsRootToo(t *testing.T) {
	b := newWired(t)
	c, st := b.connect()
	b.wait("second", func() (bool, string) { st = b.state(c); return st.SecondPID != 0, "none" })
	b.arm(c, 1, time.Minute)
	b.starts(c, true, 1)
	signalPid(t, st.PID, syscall.SIGKILL)
	b.expect(c, EventClosed)
	b.wait("a fencer that nobody but the second can have started", func() (bool, string) {
		conn, err := dial(b.ctx(), b.run)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil, fmt.Sprint(err)
	})
	c, again := b.connect()
	if again.PID == st.PID || !again.Armed || again.Wire != WireUp {
		t.Fatalf("unexpected state %+v", again)
	}
	if st, ok := statOf(again.PID); !ok || st.ppid == os.Getpid() {
		t.Fatalf("the fencer is a child of the test: %+v", st)
	}
	must(t, c.Renew(b.ctx(), 1, 12, Now()+2*time.Minute))
}
