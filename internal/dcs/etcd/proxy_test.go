package etcd_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// mode is what a proxy does with bytes.
type mode uint8

const (
	passing    mode = iota
	refusing        // connections are closed, new ones too
	hanging         // connections are accepted, nothing is passed on: half open
	deaf            // requests get through, answers do not
	swallowing      // requests do not get through
)

// proxy stands between a client and a server.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	mode    mode
	changed chan struct{}
	conns   map[net.Conn]struct{}
	seen    int // connections that were accepted
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{listener: listen(t), target: target, changed: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.set(refusing)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes the mode. Bytes that were held back are lost with their connections when it ends.
func (p *proxy) set(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m == refusing || m == passing {
		for c := range p.conns {
			_ = c.Close()
		}
	}
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxy) now() mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.seen++
		refused := p.mode == refusing
		if refused {
			_ = client.Close()
		} else {
			p.conns[client] = struct{}{}
		}
		p.mu.Unlock()
		if !refused {
			p.wg.Go(func() { p.serve(client) })
		}
	}
}

func (p *proxy) serve(client net.Conn) {
	defer p.forget(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[server] = struct{}{}
	p.mu.Unlock()
	defer p.forget(server)
	p.wg.Go(func() {
		p.pump(server, client, hanging, swallowing)
		_ = server.Close()
	})
	p.pump(client, server, hanging, deaf)
}

// pump copies until either side is closed. In the given modes it reads on and passes nothing.
func (p *proxy) pump(to io.Writer, from io.Reader, held ...mode) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		m := p.now()
		if m == held[0] || m == held[1] {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) forget(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// listen opens a loopback port below the ephemeral range.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return l
}
