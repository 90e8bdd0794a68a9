package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// Several times a second for ever, a question must be cheap: an HTTP transport hands each one through
// three goroutines, and waking them is most of what it costs. Here the one who asks writes and reads
// the connection itself.

// maxPulseReply bounds all that is read for one question.
const maxPulseReply = 16 << 10

// pulseTarget is an agent, taken apart once.
type pulseTarget struct {
	apiURL string
	base   string // scheme and host
	host   string // as the request names it
	addr   string // to dial
	name   string // in its certificate
	secure bool
}

func newPulseTarget(apiURL string) (pulseTarget, error) {
	base, err := Base(apiURL)
	if err != nil {
		return pulseTarget{}, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return pulseTarget{}, err
	}
	t := pulseTarget{apiURL: apiURL, base: base, host: u.Host, name: u.Hostname(), secure: u.Scheme == "https"}
	port := u.Port()
	switch {
	case port != "":
	case t.secure:
		port = "443"
	default:
		port = "80"
	}
	t.addr = net.JoinHostPort(t.name, port)
	return t, nil
}

// pulseConn is a connection on which one question at a time is asked.
type pulseConn struct {
	conn  net.Conn
	limit io.LimitedReader
	r     *bufio.Reader
	out   []byte
	since election.Instant // when the last answer had come
}

func newPulseConn(conn net.Conn) *pulseConn {
	c := &pulseConn{conn: conn}
	c.limit.R = conn
	c.r = bufio.NewReaderSize(&c.limit, 1<<10)
	return c
}

func (l *lastPulse) dropIdle() {
	if l.idle != nil {
		_ = l.idle.conn.Close()
		l.idle = nil
	}
}

// get asks over the connection that waits, or over a new one. A connection that waited may have been
// closed by the other side at any time, which says nothing about the agent.
func (p *Pulser) get(ctx context.Context, to pulseTarget, query string) ([]byte, error) {
	if c := p.takeIdle(to); c != nil {
		body, err := p.over(ctx, c, to, query)
		var answered *Error
		if err == nil || ctx.Err() != nil || errors.As(err, &answered) || isTimeout(err) {
			return body, explained(to, ctx, err)
		}
	}
	c, err := p.dial(ctx, to)
	if err != nil {
		return nil, explained(to, ctx, err)
	}
	body, err := p.over(ctx, c, to, query)
	return body, explained(to, ctx, err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// explained puts the end of the time allowed before what it led to.
func explained(to pulseTarget, ctx context.Context, err error) error { //nolint:revive // the context only tells why
	var answered *Error
	switch {
	case err == nil, errors.As(err, &answered):
		return err
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return explain(to.base+restapi.PulsePath, err)
}

// over asks over c, and keeps it for the next question or closes it.
func (p *Pulser) over(ctx context.Context, c *pulseConn, to pulseTarget, query string) ([]byte, error) {
	body, again, err := c.ask(ctx, to, query)
	if again && err == nil {
		p.keep(to, c)
	} else {
		_ = c.conn.Close() // a late answer would pass for that to a later question
	}
	return body, err
}

// ask puts one question. again says that the connection can take another.
func (c *pulseConn) ask(ctx context.Context, to pulseTarget, query string) (body []byte, again bool, err error) {
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() { again = stop() && again }()
	c.out = append(c.out[:0], "GET "+restapi.PulsePath+"?"...)
	c.out = append(append(c.out, query...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, to.host...), "\r\nUser-Agent: pgha\r\n\r\n"...)
	c.limit.N = maxPulseReply
	if _, err := c.conn.Write(c.out); err != nil {
		return nil, false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxPulseAnswer+1))
	switch {
	case err != nil:
		return nil, false, err
	case resp.StatusCode != http.StatusOK:
		return nil, false, &Error{URL: to.base + restapi.PulsePath, Kind: KindStatus, Code: resp.StatusCode, Text: resp.Status}
	}
	return body, !resp.Close && len(body) <= maxPulseAnswer && c.r.Buffered() == 0, nil
}

// dial connects. An attempt may outlive the question it was begun for, and then serves the next one; its
// own limit keeps those to a host that swallows packets from piling up.
func (p *Pulser) dial(ctx context.Context, to pulseTarget) (*pulseConn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		conn, err := p.connect(context.WithoutCancel(ctx), to)
		select {
		case done <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				p.keep(to, newPulseConn(conn))
			}
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, r.err
		}
		return newPulseConn(r.conn), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *Pulser) connect(ctx context.Context, to pulseTarget) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: p.o.Timeout, KeepAlive: -1}).DialContext(ctx, "tcp", to.addr)
	if err != nil || !to.secure {
		return conn, err
	}
	cfg := p.tls.Clone()
	cfg.ServerName = to.name
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secured, nil
}

// takeIdle gives the connection that waits, if the other side can be expected to have kept it.
func (p *Pulser) takeIdle(to pulseTarget) *pulseConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[to.apiURL]
	if last == nil || last.idle == nil {
		return nil
	}
	if p.o.Now()-last.idle.since > pulseIdle {
		last.dropIdle()
		return nil
	}
	c := last.idle
	last.idle = nil
	return c
}

// keep lets a connection wait for the next question. One is enough.
func (p *Pulser) keep(to pulseTarget, c *pulseConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[to.apiURL]
	if last == nil {
		_ = c.conn.Close() // forgotten meanwhile
		return
	}
	last.dropIdle()
	c.since = p.o.Now()
	last.idle = c
}
