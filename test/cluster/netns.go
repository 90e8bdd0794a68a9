package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace without a name: it lives as long as this process holds it open
// or a process runs in it, so a test that dies leaves none behind.
type namespace struct {
	file *os.File
}

// newNamespace makes an empty namespace with its loopback interface up.
func newNamespace() (*namespace, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread is never unlocked: it changed its namespace, so Go must throw it away.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("new network namespace: %w", err)}
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		done <- result{file, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	ns := &namespace{file: r.file}
	return ns, ns.run("ip", "link", "set", "lo", "up")
}

func (n *namespace) close() {
	if n != nil {
		_ = n.file.Close() // read-only handle: nothing can be lost
	}
}

// path names the namespace for `ip link set … netns`.
func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// do calls f on a thread inside the namespace. What f starts or opens directly, in its own
// goroutine, belongs to the namespace. A nil namespace is the machine's own.
func (n *namespace) do(f func() error) error {
	if n == nil {
		return f()
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// Leave the thread locked: it dies with its goroutine instead of serving others.
		return errors.Join(err, fmt.Errorf("leave network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// run runs a program in the namespace to its end.
func (n *namespace) run(name string, args ...string) error {
	_, err := n.output(name, args...)
	return err
}

func (n *namespace) output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.do(cmd.Start); err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// dial connects from inside the namespace. The address must be literal: a name would be looked
// up on another thread, outside.
func (n *namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// fabric is the switch: one bridge in a namespace of its own, one port per attached namespace.
type fabric struct {
	bridge *namespace
	mu     sync.Mutex
	hosts  map[string]*host
}

// host is one namespace on the fabric.
type host struct {
	name, address, port string
	ns                  *namespace
}

func newFabric() (*fabric, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	f := &fabric{bridge: ns, hosts: map[string]*host{}}
	err = errors.Join(
		ns.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0", "stp_state", "0"),
		ns.run("ip", "link", "set", "br0", "up"))
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *fabric) close() {
	if f == nil {
		return
	}
	for _, h := range f.hosts {
		h.ns.close()
	}
	f.bridge.close()
}

// attach makes a namespace with one interface eth0 at 10.77.0.octet/24.
func (f *fabric) attach(name string, octet int) (*host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &host{name: name, address: fmt.Sprintf("10.77.0.%d", octet), port: fmt.Sprintf("p%d", octet), ns: ns}
	f.hosts[name] = h
	steps := []struct {
		ns   *namespace
		args []string
	}{
		// The pair is made inside the bridge's namespace, so no name ever shows up on the machine.
		{f.bridge, []string{"link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", ns.path()}},
		{f.bridge, []string{"link", "set", h.port, "master", "br0"}},
		{f.bridge, []string{"link", "set", h.port, "up"}},
		{ns, []string{"address", "add", h.address + "/24", "dev", "eth0"}},
		{ns, []string{"link", "set", "eth0", "up"}},
	}
	for _, step := range steps {
		if err := step.ns.run("ip", step.args...); err != nil {
			return nil, fmt.Errorf("attach %s: %w", name, err)
		}
	}
	return h, nil
}

// Bridge port states as the kernel numbers them.
const (
	portDisabled   = "0"
	portForwarding = "3"
)

// setPort makes the switch drop (or carry again) every packet of a host. The host's own link
// stays up, as with a dead switch in between: no error tells its programs.
func (f *fabric) setPort(h *host, state string) error {
	return f.bridge.run("bridge", "link", "set", "dev", h.port, "state", state)
}

// drop makes a host's kernel throw away packets from and to an address.
func (h *host) drop(address string) error {
	return errors.Join(
		h.ns.run("iptables", "-w", "-A", "INPUT", "-s", address, "-j", "DROP"),
		h.ns.run("iptables", "-w", "-A", "OUTPUT", "-d", address, "-j", "DROP"))
}

func (h *host) undropAll() error { return h.ns.run("iptables", "-w", "-F") }
