package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// relay passes TCP connections on to a far address and can delay what goes through, each way. The
// kernels here cannot delay packets.
type relay struct {
	listener net.Listener
	dial     func(ctx context.Context) (net.Conn, error)
	delay    atomic.Int64 // time.Duration
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func newRelay(ctx context.Context, l net.Listener, dial func(ctx context.Context) (net.Conn, error)) *relay {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &relay{listener: l, dial: dial, cancel: cancel}
	r.wg.Go(func() { r.accept(ctx) })
	return r
}

func (r *relay) setDelay(d time.Duration) { r.delay.Store(int64(d)) }

// close ends every connection and waits until nothing of the relay runs.
func (r *relay) close() {
	r.cancel()
	_ = r.listener.Close() // nothing is buffered in a listener
	r.wg.Wait()
}

func (r *relay) accept(ctx context.Context) {
	for {
		near, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(ctx, near) })
	}
}

func (r *relay) serve(ctx context.Context, near net.Conn) {
	defer func() { _ = near.Close() }() // what was read has been passed on, or its reader is gone
	dctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	far, err := r.dial(dctx)
	cancel()
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer unhook()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			defer cancel()
			r.pass(ctx, way[0], way[1])
		})
	}
	both.Wait()
}

// late is what was read, and when it may be passed on.
type late struct {
	data []byte
	due  time.Time
}

// pass copies one direction until either side ends.
func (r *relay) pass(ctx context.Context, from io.Reader, to io.Writer) {
	queue := make(chan late, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		for l := range queue {
			timer := time.NewTimer(time.Until(l.due))
			select {
			case <-ctx.Done():
				timer.Stop()
			case <-timer.C:
			}
			if _, err := to.Write(l.data); err != nil {
				break
			}
		}
		for range queue { // the rest has nowhere to go
		}
	})
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			queue <- late{buffer[:n], time.Now().Add(time.Duration(r.delay.Load()))}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	writer.Wait()
}

// relayBase is the first port of the relays on each member's own loopback interface.
const relayBase = 23790

// relayAddresses is the list of etcd addresses for the members' configuration: their relays.
func relayAddresses(etcd int) []string {
	var out []string
	for i := range etcd {
		out = append(out, fmt.Sprintf("127.0.0.1:%d", relayBase+i))
	}
	return out
}

// startRelays puts a relay before every member of etcd, on the machine of m.
func startRelays(ctx context.Context, c *cluster.Cluster, m *cluster.Member) ([]*relay, error) {
	var out []*relay
	near := relayAddresses(len(c.Etcd.Members))
	for i, far := range c.Etcd.Endpoints() {
		l, err := m.Listen(near[i])
		if err != nil {
			return out, err
		}
		out = append(out, newRelay(ctx, l, func(ctx context.Context) (net.Conn, error) {
			return m.Dial(ctx, "tcp", far)
		}))
	}
	return out, nil
}

// proveDelay measures an answer of etcd through a relay.
func proveDelay(ctx context.Context, m *cluster.Member, r *relay, delay time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*delay+5*time.Second)
	defer cancel()
	conn, err := m.Dial(ctx, "tcp", r.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	defer func() { _ = conn.Close() }() // a probe
	begin := time.Now()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	if _, err := io.WriteString(conn, "GET /health HTTP/1.0\r\n\r\n"); err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("delay: no answer through the relay: %w", err)
	}
	if took := time.Since(begin); took < 2*delay {
		return fmt.Errorf("delay of %s each way is not in effect: an answer took %s", delay, took)
	}
	return nil
}
