package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// answerPatience bounds the wait for an answer that the kernel gives before sendmsg returns.
const answerPatience = time.Second

// Conn speaks to the packet filter of the network namespace that it was made in.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
	in  [16 << 10]byte
}

// Dial opens the socket. Whether this process may do anything by it shows at the first use.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	limit := unix.NsecToTimeval(int64(answerPatience))
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Conn{fd: fd}, nil
}

// Close closes the socket. The rules stay.
func (c *Conn) Close() error { return os.NewSyscallError("close", unix.Close(c.fd)) }

// batch is one transaction being written: all of it comes true, or nothing.
type batch struct {
	b   []byte
	seq uint32
	// last is where the latest message begins.
	last int
}

func (t *batch) message(kind, flags uint16, family byte, resource uint16) {
	t.end()
	t.last = len(t.b)
	t.seq++
	t.b = binary.NativeEndian.AppendUint32(t.b, 0) // length, see end
	t.b = binary.NativeEndian.AppendUint16(t.b, kind)
	t.b = binary.NativeEndian.AppendUint16(t.b, flags|unix.NLM_F_REQUEST)
	t.b = binary.NativeEndian.AppendUint32(t.b, t.seq)
	t.b = binary.NativeEndian.AppendUint32(t.b, 0)
	t.b = append(t.b, family, unix.NFNETLINK_V0)
	t.b = binary.BigEndian.AppendUint16(t.b, resource)
}

// end completes the latest message.
func (t *batch) end() {
	if len(t.b) > t.last {
		binary.NativeEndian.PutUint32(t.b[t.last:], uint32(len(t.b)-t.last))
	}
}

// table begins a message about our kind of table.
func (t *batch) table(kind, flags uint16) {
	t.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, unix.NFPROTO_INET, 0)
}

func (t *batch) bytes(kind uint16, value []byte) {
	t.b = binary.NativeEndian.AppendUint16(t.b, uint16(unix.NLA_HDRLEN+len(value)))
	t.b = binary.NativeEndian.AppendUint16(t.b, kind)
	t.b = append(t.b, value...)
	for len(t.b)%unix.NLA_ALIGNTO != 0 {
		t.b = append(t.b, 0)
	}
}

func (t *batch) text(kind uint16, value string) { t.bytes(kind, append([]byte(value), 0)) }

func (t *batch) u32(kind uint16, value uint32) {
	t.bytes(kind, binary.BigEndian.AppendUint32(nil, value))
}

func (t *batch) u64(kind uint16, value uint64) {
	t.bytes(kind, binary.BigEndian.AppendUint64(nil, value))
}

// nest writes attributes within an attribute.
func (t *batch) nest(kind uint16, inner func()) {
	at := len(t.b)
	t.bytes(kind|unix.NLA_F_NESTED, nil)
	inner()
	binary.NativeEndian.PutUint16(t.b[at:], uint16(len(t.b)-at))
}

// commit sends what fill writes as one transaction, and returns when the kernel has carried it out
// or refused it. It locks the thread: the right to do this belongs to threads.
func (c *Conn) commit(fill func(*batch)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &batch{b: c.buf[:0], seq: c.seq}
	t.message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	fill(t)
	t.end()
	flags := t.b[t.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	first, acked := c.seq+1, t.seq
	t.message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	t.end()
	c.buf, c.seq = t.b, t.seq
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.exchange(first, acked)
	if errors.Is(err, unix.EPERM) && raise() {
		err = c.exchange(first, acked)
	}
	return err
}

// exchange sends the buffer and reads the answers to it: one for each message that failed, or one
// for the message that asked for an acknowledgement.
func (c *Conn) exchange(first, acked uint32) error {
	if err := unix.Sendto(c.fd, c.buf, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	for flags := 0; ; flags = unix.MSG_DONTWAIT {
		n, _, err := unix.Recvfrom(c.fd, c.in[:], flags)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		if seq, errno, ok := answer(c.in[:n]); ok && seq >= first && seq <= acked {
			if errno != 0 {
				c.drain()
				return errno
			}
			if seq == acked {
				return nil
			}
		}
	}
}

// drain throws away what a failed transaction has left to read.
func (c *Conn) drain() {
	for {
		if _, _, err := unix.Recvfrom(c.fd, c.in[:], unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// answer reads a message of type NLMSG_ERROR, which is the acknowledgement too.
func answer(b []byte) (seq uint32, errno unix.Errno, ok bool) {
	if len(b) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return 0, 0, false
	}
	code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))
	return binary.NativeEndian.Uint32(b[8:]), unix.Errno(-code), true
}

// raise takes up a right that the program file gave to this process and that is not in effect yet.
// A container's image can give it that way to a process that is not root.
func raise() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const bit = uint32(1) << unix.CAP_NET_ADMIN
	if data[0].Permitted&bit == 0 || data[0].Effective&bit != 0 {
		return false
	}
	data[0].Effective |= bit
	return unix.Capset(&header, &data[0]) == nil
}
