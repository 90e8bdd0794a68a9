package wire

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNamespace runs the test in a network namespace of its own. It needs root, as the fence does: a
// test that cannot run says so and fails.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("the tests of the wire fence need root and nftables: new network namespace: %v", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	ok(t, err)
	defer func() { _ = unix.Close(s) }()
	ifr, err := unix.NewIfreq("lo")
	ok(t, err)
	ifr.SetUint16(unix.IFF_UP)
	ok(t, unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr))
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo is a server that answers every line, and says what became of its answers.
type echo struct {
	l      *net.TCPListener
	e      Endpoint
	served chan *net.TCPConn
}

func newEcho(t *testing.T, host string) *echo {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	ok(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s := &echo{l: l.(*net.TCPListener), served: make(chan *net.TCPConn, 16)}
	s.e = Endpoint{Port: uint16(l.Addr().(*net.TCPAddr).Port)}
	go func() {
		for {
			c, err := s.l.AcceptTCP()
			if err != nil {
				return
			}
			s.served <- c
		}
	}()
	return s
}

// pair is one connection, both ends.
func (s *echo) pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	c, err := net.Dial("tcp", s.l.Addr().String())
	ok(t, err)
	server = <-s.served
	t.Cleanup(func() { _ = c.Close(); _ = server.Close() })
	return c.(*net.TCPConn), server
}

// talks sends a line from the server to the client and says whether it came.
func talks(t *testing.T, client, server *net.TCPConn, line string) bool {
	t.Helper()
	if _, err := server.Write([]byte(line)); err != nil {
		return false
	}
	ok(t, client.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	got := make([]byte, len(line))
	_, err := io.ReadFull(client, got)
	return err == nil && string(got) == line
}

// closes waits until the server can be heard no more, on a new connection each time.
func (s *echo) closes(t *testing.T) {
	t.Helper()
	until := time.Now().Add(20 * time.Second)
	for time.Now().Before(until) {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := d.Dial("tcp", s.l.Addr().String())
		if err != nil {
			return
		}
		_ = c.Close()
		_ = (<-s.served).Close()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the port stays open")
}

func dial(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial()
	ok(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const long = time.Hour

func TestFenceOpensClosesAndGoes(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			inNamespace(t)
			s, c := newEcho(t, host), dial(t)
			client, server := s.pair(t)
			other, otherServer := newEcho(t, host).pair(t)
			if !talks(t, client, server, "before") {
				t.Fatal("no traffic without a fence")
			}
			ok(t, c.Guard(s.e, Secret{1}, long))
			if !talks(t, client, server, "open") {
				t.Fatal("no traffic while the fence is open")
			}
			ok(t, c.Shut(s.e))
			if talks(t, client, server, "closed") {
				t.Fatal("an answer came through a closed fence")
			}
			if !talks(t, other, otherServer, "other port") {
				t.Fatal("the fence closed another port")
			}
			ok(t, c.Lift(s.e))
			if up, err := c.Up(s.e); up || err != nil {
				t.Fatalf("after it was lifted: up %v, %v", up, err)
			}
			// The socket was reset: what it tried to send is not sent again.
			if talks(t, client, server, "after") {
				t.Fatal("the connection lived on")
			}
			ok(t, client.SetReadDeadline(time.Now().Add(time.Second)))
			if got, _ := io.ReadAll(client); len(got) > 0 {
				t.Fatalf("%q arrived after the fence was lifted", got)
			}
			client, server = s.pair(t)
			if !talks(t, client, server, "again") {
				t.Fatal("no traffic after the fence was lifted")
			}
		})
	}
}

// TestTheKernelClosesAlone: the process that put the fence up is gone when it closes.
func TestTheKernelClosesAlone(t *testing.T) {
	inNamespace(t)
	s := newEcho(t, "127.0.0.1")
	client, server := s.pair(t)
	// A machine that stands still between the two lines gets another try, with more time.
	for left := time.Second; ; left *= 2 {
		helper := exec.CommandContext(t.Context(), "/proc/self/exe", "guard", strconv.Itoa(int(s.e.Port)), left.String())
		if out, err := helper.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if talks(t, client, server, "open") {
			break
		}
		if left > 10*time.Second {
			t.Fatal("the fence never opens")
		}
		ok(t, dial(t).Lift(s.e))
		client, server = s.pair(t)
	}
	s.closes(t)
	if talks(t, client, server, "late") {
		t.Fatal("an answer came after the time had passed")
	}
}

func TestRenewalExtends(t *testing.T) {
	inNamespace(t)
	s, c := newEcho(t, "127.0.0.1"), dial(t)
	client, server := s.pair(t)
	ok(t, c.Guard(s.e, Secret{}, 2*time.Second))
	first := time.Now()
	ok(t, c.Renew(s.e, long))
	for time.Since(first) < 3*time.Second {
		if !talks(t, client, server, "x") {
			t.Fatal("the fence closed although it was renewed")
		}
		time.Sleep(50 * time.Millisecond)
	}
	ok(t, c.Renew(s.e, time.Millisecond)) // brought forward
	s.closes(t)
}

// TestALateRenewalOpensNothing: a process that stood still between deciding and sending must not
// open the port again.
func TestALateRenewalOpensNothing(t *testing.T) {
	inNamespace(t)
	s, c := newEcho(t, "127.0.0.1"), dial(t)
	ok(t, c.Guard(s.e, Secret{}, time.Millisecond))
	s.closes(t)
	if err := c.Renew(s.e, long); !errors.Is(err, ErrClosed) {
		t.Fatalf("renewal of a closed port: %v", err)
	}
	s.closes(t)
	if err := c.Renew(Endpoint{Port: 1}, long); !errors.Is(err, ErrClosed) {
		t.Fatalf("renewal without a fence: %v", err)
	}
	ok(t, c.Guard(s.e, Secret{}, long))
	client, server := s.pair(t)
	if !talks(t, client, server, "new reign") {
		t.Fatal("a new fence does not open")
	}
}

func TestAddressesNarrowTheFence(t *testing.T) {
	inNamespace(t)
	s, c := newEcho(t, "127.0.0.1"), dial(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", s.e.Port))
	ok(t, err)
	defer func() { _ = l.Close() }()
	neighbour := &echo{l: l.(*net.TCPListener), e: s.e, served: make(chan *net.TCPConn, 1)}
	go func() {
		if conn, err := neighbour.l.AcceptTCP(); err == nil {
			neighbour.served <- conn
		}
	}()
	narrow := NewEndpoint([]string{"127.0.0.1"}, int(s.e.Port))
	nc, ns := neighbour.pair(t)
	ok(t, c.Guard(narrow, Secret{}, 0))
	s.closes(t)
	if !talks(t, nc, ns, "neighbour") {
		t.Fatal("the same port of another address was closed")
	}
}

// TestKnockLiftsForAProcessWithoutRights: only who knows the secret is heard.
func TestKnockLiftsForAProcessWithoutRights(t *testing.T) {
	inNamespace(t)
	s, c := newEcho(t, "127.0.0.1"), dial(t)
	secret := Secret{7, 8, 9}
	ok(t, c.Guard(s.e, secret, 0))
	s.closes(t)
	if err := Knock(s.e, Secret{7, 8}); !errors.Is(err, ErrNoFence) {
		t.Fatalf("knock with a wrong secret: %v", err)
	}
	s.closes(t)
	if out, err := asNobody(t, "probe", s.e, secret); err == nil {
		t.Fatalf("a process without rights may put up a fence: %s", out)
	}
	if out, err := asNobody(t, "knock", s.e, secret); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	client, server := s.pair(t)
	if !talks(t, client, server, "lifted") {
		t.Fatal("the knock was not heard")
	}
	ok(t, c.Guard(s.e, secret, 0)) // and it does not outlive a new fence
	s.closes(t)
}

func asNobody(t *testing.T, what string, e Endpoint, secret Secret) (string, error) {
	t.Helper()
	exe, err := os.Open("/proc/self/exe")
	ok(t, err)
	defer func() { _ = exe.Close() }()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3", what, strconv.Itoa(int(e.Port)), hex.EncodeToString(secret[:]))
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestProbeLeavesNothing(t *testing.T) {
	inNamespace(t)
	c := dial(t)
	e := Endpoint{Port: 5432, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	ok(t, c.Probe(e))
	if up, err := c.Up(e); up || err != nil {
		t.Fatalf("up %v, %v", up, err)
	}
	ok(t, c.Lift(e)) // of nothing
}

func TestEndpoints(t *testing.T) {
	for _, row := range []struct {
		addresses []string
		want      string
	}{
		{nil, "pgha_5432"},
		{[]string{"*"}, "pgha_5432"},
		{[]string{"10.0.0.1", "0.0.0.0"}, "pgha_5432"},
		{[]string{"10.0.0.1", "localhost"}, "pgha_5432_10.0.0.1_127.0.0.1_--1"},
		{[]string{"10.0.0.1", "db.example"}, "pgha_5432"},
		{[]string{"10.0.0.2", "10.0.0.1"}, "pgha_5432_10.0.0.1_10.0.0.2"},
		{[]string{"fd00::1", "::ffff:10.0.0.1"}, "pgha_5432_10.0.0.1_fd00--1"},
	} {
		if e := NewEndpoint(row.addresses, 5432); e.Table() != row.want {
			t.Errorf("%v: %s; want %s", row.addresses, e.Table(), row.want)
		}
	}
	if e := NewEndpoint(nil, 0); !e.IsZero() {
		t.Errorf("port 0 made %+v", e)
	}
}

func BenchmarkRenew(b *testing.B) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	c, err := Dial()
	if err != nil {
		b.Fatal(err)
	}
	e := Endpoint{Port: 5432}
	if err := c.Guard(e, Secret{}, long); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Renew(e, long); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMain lets the test binary be the processes without rights, and those that end.
func TestMain(m *testing.M) {
	if len(os.Args) != 4 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	if err := play(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		w := bufio.NewWriter(os.Stderr)
		fmt.Fprintln(w, err)
		_ = w.Flush()
		os.Exit(1)
	}
}

func play(what, port, arg string) error {
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	e := Endpoint{Port: uint16(n)}
	if what == "knock" {
		var s Secret
		if _, err := hex.Decode(s[:], []byte(arg)); err != nil {
			return err
		}
		return Knock(e, s)
	}
	c, err := Dial()
	if err != nil {
		return err
	}
	if what == "probe" {
		return c.Probe(e)
	}
	left, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	return c.Guard(e, Secret{}, left)
}
