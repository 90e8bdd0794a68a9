package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// PulserOptions say who asks.
type PulserOptions struct {
	// Name of the member that asks; the leader counts it as one that hears it.
	Name string
	// Now is the local CLOCK_BOOTTIME: a round trip during which this machine stood still was long.
	Now func() election.Instant
	// Timeout bounds one question, and each attempt to connect for one. Zero: 300 ms.
	Timeout time.Duration
}

// Pulser asks leaders for their pulse over connections that stay open. It is safe for concurrent use.
type Pulser struct {
	o    PulserOptions
	http *http.Client

	mu   sync.Mutex
	last map[string]*lastPulse // by api_url
}

// lastPulse is what is sent along with the next question to the same agent.
type lastPulse struct {
	base  string
	sent  election.Instant // when the question was asked whose answer the query tells of
	query restapi.PulseQuery
}

// Pulse is an agent's answer.
type Pulse struct {
	// Sent and Received are when the question was asked and its answer had come, on the asker's clock.
	Sent, Received election.Instant
	// Revision of the leader key that the agent has a title to; zero: none.
	Revision int64
	Epoch    uint64
	Role     string // of its server
	// Leader: the agent would answer /leader with 200.
	Leader bool
	// Lost is the revision of the leader key whose holder the agent has lost sight of itself.
	Lost int64
}

const (
	// maxPulseTargets bounds what is kept about agents; members that come and go must not pile up.
	maxPulseTargets = 64
	maxPulseAnswer  = 4 << 10
	pulseIdle       = 30 * time.Second // less than agents keep a connection without requests
	pulseTimeout    = 300 * time.Millisecond
)

// Pulser makes one that reaches agents as c does, but without credentials: a pulse needs none, and is
// sent too often to carry them.
func (c *Client) Pulser(o PulserOptions) *Pulser {
	if o.Timeout <= 0 {
		o.Timeout = pulseTimeout
	}
	return &Pulser{o: o, last: map[string]*lastPulse{}, http: &http.Client{
		Transport: &http.Transport{
			Proxy: nil,
			// A connection attempt may outlive the question it was begun for. The dialer's own limit
			// keeps those to a host that swallows packets from piling up.
			DialContext:         (&net.Dialer{Timeout: o.Timeout, KeepAlive: -1}).DialContext,
			TLSHandshakeTimeout: o.Timeout,
			TLSClientConfig:     c.tls.Clone(),
			DisableCompression:  true,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     pulseIdle,
			WriteBufferSize:     1 << 10,
			ReadBufferSize:      1 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connections that wait for the next question.
func (p *Pulser) Close() { p.http.CloseIdleConnections() }

// Ask asks the agent at apiURL, which the asker takes to be the holder of the leader key of revision.
// The next question to it tells the agent that this one was heard, if it was answered by the holder of
// that very key. An *Error of KindStatus or KindBadAnswer means that something answered, but no pgha.
func (p *Pulser) Ask(ctx context.Context, apiURL string, revision int64) (Pulse, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	base, query, err := p.question(apiURL, revision)
	if err != nil {
		return Pulse{}, err
	}
	sent := p.o.Now()
	body, err := p.get(ctx, base+restapi.PulsePath+"?"+query.Encode())
	if err != nil {
		return Pulse{}, err
	}
	received := p.o.Now()
	var answer struct {
		At       election.Instant `json:"at"`
		Revision int64            `json:"revision"`
		Epoch    uint64           `json:"epoch"`
		Role     string           `json:"role"`
		Leader   bool             `json:"leader"`
		Lost     int64            `json:"lost"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.At <= 0 {
		return Pulse{}, &Error{URL: base + restapi.PulsePath, Kind: KindBadAnswer, Text: "the answer is no pulse"}
	}
	if answer.Revision == revision {
		p.remember(apiURL, sent, restapi.PulseQuery{From: p.o.Name, Revision: revision, Echo: answer.At, Trip: received - sent})
	}
	return Pulse{
		Sent: sent, Received: received, Revision: answer.Revision, Epoch: answer.Epoch,
		Role: answer.Role, Leader: answer.Leader, Lost: answer.Lost,
	}, nil
}

// question finds what to ask with: what was heard last counts only for the same key.
func (p *Pulser) question(apiURL string, revision int64) (base string, q restapi.PulseQuery, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[apiURL]
	if last == nil {
		base, err := Base(apiURL)
		if err != nil {
			return "", q, err
		}
		if len(p.last) >= maxPulseTargets {
			clear(p.last)
		}
		last = &lastPulse{base: base}
		p.last[apiURL] = last
	}
	if last.query.Revision != revision {
		last.sent, last.query = 0, restapi.PulseQuery{From: p.o.Name, Revision: revision}
	}
	return last.base, last.query, nil
}

// remember keeps the question that was asked last of all those that were answered.
func (p *Pulser) remember(apiURL string, sent election.Instant, q restapi.PulseQuery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last[apiURL]
	if last != nil && last.query.Revision == q.Revision && sent > last.sent {
		last.sent, last.query = sent, q
	}
}

func (p *Pulser) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("pulse: %w", err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, explain(address, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPulseAnswer))
	if err != nil {
		return nil, explain(address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{URL: address, Kind: KindStatus, Code: resp.StatusCode, Text: resp.Status}
	}
	return body, nil
}

// AskPostgres asks the server at addr (host:port) whether it would encrypt, to which a server that
// lives answers with one byte before anything else, whatever its pg_hba.conf says and even when it has
// no connection left to give. A kernel alone, under a server that stands still, does not answer. It
// returns nil for an answer, and otherwise what is wrong, when ctx ends at the latest.
func AskPostgres(ctx context.Context, addr string) error {
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("ask server: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing is owed to the other side
	// The end of ctx, by time or by hand, ends the wait.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return fmt.Errorf("ask server: %w", errors.Join(err, ctx.Err()))
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("ask server: %w", errors.Join(err, ctx.Err()))
	}
	switch answer[0] {
	case 'S', 'N', 'E': // it would encrypt, would not, or has an error to report
		return nil
	}
	return fmt.Errorf("ask server: %s answers with byte %#x, which is no PostgreSQL server", addr, answer[0])
}
