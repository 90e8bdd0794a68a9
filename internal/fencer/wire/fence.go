package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed says that the fence has closed since the last renewal, or somebody took it away.
var ErrClosed = errors.New("the wire is closed")

// Secret lets a fencer that may not change rules take the fence away; see Knock.
type Secret [16]byte

// Guard puts the fence up, or replaces it in one step: the port is open for left.
func (c *Conn) Guard(e Endpoint, secret Secret, left time.Duration) error {
	err := c.commit(func(t *batch) {
		r := rules{batch: t, e: e, table: e.Table()}
		r.remove()
		r.create(secret)
		if ms := milliseconds(left); ms > 0 {
			r.alive(unix.NFT_MSG_NEWSETELEM, ms)
		}
	})
	if err != nil {
		return fmt.Errorf("wire fence: put up table %s: %w", e.Table(), err)
	}
	return nil
}

// Renew lets the port be open for left from now on. A port that is closed stays closed, and the
// answer is ErrClosed: a process that stood still with this call under way opens nothing.
func (c *Conn) Renew(e Endpoint, left time.Duration) error {
	err := c.commit(func(t *batch) {
		r := rules{batch: t, e: e, table: e.Table()}
		// The kernel does not find an element that has expired, and refuses all of it then.
		r.alive(unix.NFT_MSG_DELSETELEM, 0)
		if ms := milliseconds(left); ms > 0 {
			r.alive(unix.NFT_MSG_NEWSETELEM, ms)
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return ErrClosed
	}
	if err != nil {
		return fmt.Errorf("wire fence: renew in table %s: %w", e.Table(), err)
	}
	return nil
}

// Shut closes the port now.
func (c *Conn) Shut(e Endpoint) error {
	if err := c.Renew(e, 0); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

// Lift takes the fence away. That there is none is no error.
func (c *Conn) Lift(e Endpoint) error {
	err := c.commit(func(t *batch) { (&rules{batch: t, e: e, table: e.Table()}).remove() })
	if err != nil {
		return fmt.Errorf("wire fence: remove table %s: %w", e.Table(), err)
	}
	return nil
}

// Probe says whether this process may put up a fence and this kernel has what it takes: it puts one
// up and takes it away in one step, so that no packet meets it.
func (c *Conn) Probe(e Endpoint) error {
	err := c.commit(func(t *batch) {
		r := rules{batch: t, e: e, table: "pgha_probe_" + strconv.Itoa(int(e.Port))}
		r.create(Secret{})
		r.drop()
	})
	if err != nil {
		return fmt.Errorf("wire fence: nftables: %w", err)
	}
	return nil
}

// Up says whether there is a fence.
func (c *Conn) Up(e Endpoint) (bool, error) {
	err := c.commit(func(t *batch) {
		// A table that is there already is refused; one that is not is gone again at once.
		r := rules{batch: t, e: e, table: e.Table()}
		t.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
		t.text(unix.NFTA_TABLE_NAME, r.table)
		r.drop()
	})
	if errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("wire fence: look for table %s: %w", e.Table(), err)
	}
	return false, nil
}

// Knock asks the fence to let everything pass again. It is for a fencer that took over from one with
// more rights and can neither renew what that one put up nor remove it: a datagram to the machine
// itself that bears what only the two know. The fence takes it out of the way, which the sender is
// told; a datagram that was sent was not heard, as there is no fence of that secret.
func Knock(e Endpoint, secret Secret) error {
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), e.Port)
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return fmt.Errorf("wire fence: knock at port %d: %w", e.Port, err)
	}
	defer func() { _ = conn.Close() }()
	if _, err = conn.Write(secret[:]); errors.Is(err, unix.EPERM) {
		return nil
	}
	return fmt.Errorf("wire fence: knock at port %d: %w", e.Port, errors.Join(ErrNoFence, err))
}

// ErrNoFence says that a knock found nothing that it opens.
var ErrNoFence = errors.New("no fence of ours")

// milliseconds rounds down: the kernel's unit.
func milliseconds(d time.Duration) uint64 { return uint64(max(d.Milliseconds(), 0)) }
