package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Direction of packets as the member sees them.
type Direction string

// Directions, named as the kernel's packet filter names them.
const (
	Incoming Direction = "INPUT"
	Outgoing Direction = "OUTPUT"
)

// device is the loopback-free side of a rule: what a member says to itself is never disturbed.
func (d Direction) device() string {
	if d == Incoming {
		return "-i"
	}
	return "-o"
}

// CutOneWay throws away every packet of one direction: a member that hears nobody (Incoming), or
// that nobody hears (Outgoing). It returns when the kernel has counted a packet thrown away and no
// connection gets through. Heal undoes it.
func (m *Member) CutOneWay(ctx context.Context, d Direction) error {
	if err := m.filter(d); err != nil {
		return fmt.Errorf("cut %s one way: %w", m.Name, err)
	}
	if err := m.proveCut(ctx, FromEveryone); err != nil {
		return err
	}
	return m.proveDropped(d)
}

// CutFrom throws away every packet from and to the given addresses (host:port; the port is only
// used to prove the cut). Heal undoes it.
func (m *Member) CutFrom(ctx context.Context, addresses ...string) error {
	if m.host == nil {
		return fmt.Errorf("cut %s off: the cluster is not in network namespaces", m.Name)
	}
	for _, address := range addresses {
		ip, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("cut %s off: %w", m.Name, err)
		}
		if err := m.host.drop(ip); err != nil {
			return fmt.Errorf("cut %s off from %s: %w", m.Name, ip, err)
		}
		if err := m.silent(ctx, address); err != nil {
			return fmt.Errorf("cut %s off from %s is not in effect: %w", m.Name, ip, err)
		}
	}
	return nil
}

// Lose throws away each packet, in both directions, with a probability between 0 and 1. It returns
// when the kernel has counted packets thrown away. Heal undoes it.
func (m *Member) Lose(ctx context.Context, probability float64) error {
	p := strconv.FormatFloat(probability, 'f', 3, 64)
	for _, d := range []Direction{Incoming, Outgoing} {
		if err := m.filter(d, "-m", "statistic", "--mode", "random", "--probability", p); err != nil {
			return fmt.Errorf("lose packets of %s: %w", m.Name, err)
		}
	}
	state, ok := poll(ctx, proofTimeout, func(ctx context.Context) (bool, string) {
		for _, address := range m.peers(FromEveryone) {
			_ = m.silent(ctx, address) // any attempt will do: packets are what is needed
		}
		in, out := m.proveDropped(Incoming), m.proveDropped(Outgoing)
		err := errors.Join(in, out)
		return err == nil, fmt.Sprint(err)
	})
	if !ok {
		return fmt.Errorf("lose packets of %s: %s", m.Name, state)
	}
	return nil
}

func (m *Member) filter(d Direction, match ...string) error {
	if m.host == nil {
		return fmt.Errorf("the cluster is not in network namespaces")
	}
	args := append([]string{"-w", "-A", string(d), "!", d.device(), "lo"}, match...)
	return m.host.ns.run("iptables", append(args, "-j", "DROP")...)
}

// proveDropped reads the kernel's counters: at least one packet of the direction was thrown away.
func (m *Member) proveDropped(d Direction) error {
	out, err := m.host.ns.output("iptables", "-w", "-L", string(d), "-v", "-x", "-n")
	if err != nil {
		return fmt.Errorf("packet counters of %s: %w", m.Name, err)
	}
	for line := range strings.SplitSeq(out, "\n") {
		fields := strings.Fields(line)
		if len(fields) > 3 && fields[2] == "DROP" && fields[0] != "0" {
			return nil
		}
	}
	return fmt.Errorf("%s of %s: no packet has been thrown away", d, m.Name)
}

// Narrow limits what the member can send to so many bits a second, with a queue of half a second:
// answers and WAL become slow without being lost. Widen undoes it, Heal does not.
func (m *Member) Narrow(bitsPerSecond int) error {
	if m.host == nil {
		return fmt.Errorf("narrow the link of %s: the cluster is not in network namespaces", m.Name)
	}
	err := m.host.ns.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf",
		"rate", strconv.Itoa(bitsPerSecond)+"bit", "burst", "4kb", "latency", "500ms")
	if err != nil {
		return fmt.Errorf("narrow the link of %s: %w", m.Name, err)
	}
	out, err := m.host.ns.output("tc", "qdisc", "show", "dev", "eth0")
	if err != nil || !strings.Contains(out, "tbf") {
		return fmt.Errorf("narrow the link of %s is not in effect: %q (error: %w)", m.Name, out, err)
	}
	return nil
}

// Widen undoes Narrow.
func (m *Member) Widen() error {
	if err := m.host.ns.run("tc", "qdisc", "del", "dev", "eth0", "root"); err != nil {
		return fmt.Errorf("widen the link of %s: %w", m.Name, err)
	}
	return nil
}

// Listen listens on the member's own machine, for a proxy that a test puts between the member and
// others.
func (m *Member) Listen(address string) (net.Listener, error) {
	var l net.Listener
	err := m.namespace().do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen at %s on %s: %w", address, m.Name, err)
	}
	return l, nil
}

// Dial connects from the member's own machine.
func (m *Member) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return m.localDial(ctx, network, address)
}

// Client is host:port of the machine of clients and proxy: a port that nobody listens on, which
// answers all the same (refused) while packets get there.
func (c *Cluster) Client() string {
	if c.client == nil {
		return ""
	}
	return c.client.address + ":1"
}

// Connect opens a session as a client of the cluster would; the DSN may name several hosts.
func (c *Cluster) Connect(ctx context.Context, dsn string, tune func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c.connect(ctx, dsn, config.ConnectTimeout, tune)
}
