package fencer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Client is an agent's connection to its fencer. All methods may be called concurrently; a renewal
// never waits behind a start.
type Client struct {
	conn *net.UnixConn

	writeMu sync.Mutex

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan response
	closed  bool
	reason  string

	queue  *eventQueue
	events chan Event
	gone   chan struct{} // closed when the reader has ended
	quit   chan struct{} // closed by Close
	once   sync.Once
	wg     sync.WaitGroup
}

// Connect finds the fencer of the run directory, or starts it, and becomes its one agent. It
// returns ErrSuperseded if a newer agent is connected. The context bounds the whole of it.
func Connect(ctx context.Context, opts Options, hello Hello) (*Client, State, error) {
	if hello.Started == 0 {
		ticks, err := processStart(os.Getpid())
		if err != nil {
			return nil, State{}, fmt.Errorf("connect to fencer: own start time: %w", err)
		}
		hello.Started = ticks
	}
	hello.DataDir, hello.Wire = absolute(opts.DataDir), opts.Wire
	for began := Now(); ; {
		c, st, err := connectOnce(ctx, opts, hello)
		// A fencer that is just being killed still takes connections, and resets them.
		if err == nil || !errors.Is(err, ErrClosed) || Now()-began > resetPatience {
			return c, st, err
		}
		select {
		case <-time.After(resetRetry):
		case <-ctx.Done():
			return nil, State{}, err
		}
	}
}

const (
	resetPatience = 2 * time.Second
	resetRetry    = 10 * time.Millisecond
)

func connectOnce(ctx context.Context, opts Options, hello Hello) (*Client, State, error) {
	conn, err := dialOrLaunch(ctx, opts)
	if err != nil {
		return nil, State{}, fmt.Errorf("connect to fencer: %w", err)
	}
	c := &Client{
		conn:    conn,
		waiting: make(map[uint64]chan response),
		queue:   newEventQueue(),
		events:  make(chan Event),
		gone:    make(chan struct{}),
		quit:    make(chan struct{}),
	}
	c.wg.Add(2)
	go c.read()
	go c.deliver()
	resp, err := c.call(ctx, request{Op: opHello, Version: protocolVersion, Hello: &hello})
	if err == nil && resp.State == nil {
		err = errors.New("answer without state")
	}
	if err != nil {
		_ = c.Close()
		return nil, State{}, fmt.Errorf("connect to fencer: hello: %w", err)
	}
	return c, *resp.State, nil
}

// State asks the fencer what it knows.
func (c *Client) State(ctx context.Context) (State, error) {
	resp, err := c.call(ctx, request{Op: opState})
	if err != nil {
		return State{}, fmt.Errorf("fencer state: %w", err)
	}
	if resp.State == nil {
		return State{}, errors.New("fencer state: answer without state")
	}
	return *resp.State, nil
}

// Arm gives the fencer the token, before anything is made writable. It is refused with ErrPast if
// Until has passed, and with ErrEpoch if a newer epoch is armed or this one was ended by a strike.
// Arm of the armed epoch acts as a renewal.
func (c *Client) Arm(ctx context.Context, t Token) error {
	return c.do(ctx, request{Op: opArm, Token: &t})
}

// Renew moves T to until (absolute CLOCK_BOOTTIME), never backwards. Its return without error means
// that the fencer has taken the new T over; only then does the renewal count. ErrEpoch: another
// epoch is armed or none. ErrPast: the old T has passed, and nothing can bring it back.
func (c *Client) Renew(ctx context.Context, epoch uint64, leaderRevision int64, until time.Duration) error {
	return c.do(ctx, request{Op: opRenew, Epoch: epoch, LeaderRevision: leaderRevision, Until: until})
}

// Disarm gives the token back: only when no server runs, or the running one is a standby that was
// not told to promote. Otherwise ErrWritable. Disarming the last epoch again is no error.
func (c *Client) Disarm(ctx context.Context, epoch uint64) error {
	return c.do(ctx, request{Op: opDisarm, Epoch: epoch})
}

// Start starts a postmaster and returns its process id as soon as the program runs. See StartSpec
// for what Primary means. ErrOrphans, ErrRunning, ErrBusy, ErrEpoch, ErrPast.
func (c *Client) Start(ctx context.Context, spec StartSpec) (int, error) {
	resp, err := c.call(ctx, request{Op: opStart, Start: &spec})
	if err != nil {
		return 0, fmt.Errorf("fencer start: %w", err)
	}
	return resp.Pid, nil
}

// Promote tells the running standby to promote. Epoch and deadline are checked last.
func (c *Client) Promote(ctx context.Context, epoch uint64) error {
	return c.do(ctx, request{Op: opPromote, Epoch: epoch})
}

// Stop signals the postmaster to shut down and returns. EventExited and EventDown follow.
func (c *Client) Stop(ctx context.Context, mode StopMode) error {
	return c.do(ctx, request{Op: opStop, Mode: mode})
}

// Signal sends a signal to the postmaster: SIGHUP to reload, or one of the signals of Stop.
// Others are refused, since SIGUSR1 can promote.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error {
	return c.do(ctx, request{Op: opSignal, Signal: int(sig)})
}

// Kill runs the down procedure and returns when no process of this server is left. The token
// stays as it is.
func (c *Client) Kill(ctx context.Context) error {
	return c.do(ctx, request{Op: opKill})
}

// Promise records durably (over the death of fencer and agent, not over a reboot) that this member
// does not race for the leader key until the given CLOCK_BOOTTIME, at most an hour ahead. It never
// becomes shorter. Only its return without error means that the record is written: a promise must not
// be given on any other outcome, though the fencer may hold to it.
func (c *Client) Promise(ctx context.Context, until time.Duration) error {
	return c.do(ctx, request{Op: opPromise, Until: until})
}

// SetPolicy says what becomes of a writable server without a token, and of one whose deadline passes:
// it is killed, or let be. PolicyObserve lasts until the given CLOCK_BOOTTIME, or for good if that is 0
// (pause mode). A deadline that passes meanwhile ends the token (EventLapsed), and nothing else. The
// policy outlives agent and fencer, not a reboot.
func (c *Client) SetPolicy(ctx context.Context, p Policy, until time.Duration) error {
	return c.do(ctx, request{Op: opPolicy, Policy: p, Until: until})
}

// Shutdown asks the fencer to exit; refused with ErrRunning while a server runs.
func (c *Client) Shutdown(ctx context.Context) error {
	return c.do(ctx, request{Op: opShutdown})
}

// Events carries what happens, in order. The last one is EventClosed, then the channel is closed.
// A reader that lags delays only itself.
func (c *Client) Events() <-chan Event { return c.events }

// Close ends the connection. Fencer and PostgreSQL go on running. The events channel is closed
// without further events.
func (c *Client) Close() error {
	c.once.Do(func() { close(c.quit) })
	err := c.conn.Close()
	c.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close fencer connection: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, req request) error {
	if _, err := c.call(ctx, req); err != nil {
		return fmt.Errorf("fencer %s: %w", req.Op, err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, req request) (response, error) {
	answer := make(chan response, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return response{}, c.closedError()
	}
	c.nextID++
	req.ID = c.nextID
	c.waiting[req.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, req.ID)
		c.mu.Unlock()
	}()
	if err := c.write(ctx, req); err != nil {
		return response{}, err
	}
	select {
	case resp := <-answer:
		return resp, errorFrom(resp)
	case <-c.gone:
		// The answer may have been the last thing that was read.
		select {
		case resp := <-answer:
			return resp, errorFrom(resp)
		default:
			return response{}, c.closedError()
		}
	case <-ctx.Done():
		return response{}, ctx.Err()
	}
}

func (c *Client) closedError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == ErrSuperseded.Error() {
		return ErrSuperseded
	}
	return fmt.Errorf("%w: %s", ErrClosed, c.reason)
}

func (c *Client) write(ctx context.Context, req request) error {
	line, err := encodeLine(req)
	if err != nil {
		return err
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	// A frozen fencer stops reading; the write must end with the caller's patience. A line that
	// was cut short makes the connection useless, so it is closed.
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if _, err := c.conn.Write(line); err != nil {
		_ = c.conn.Close()
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

func (c *Client) read() {
	defer c.wg.Done()
	reader := bufio.NewReader(c.conn)
	reason := ""
	for {
		line, err := readLine(reader)
		if err != nil {
			if reason == "" {
				reason = err.Error()
			}
			break
		}
		var resp response
		if err := json.Unmarshal(line, &resp); err != nil {
			reason = fmt.Sprintf("decode answer: %v", err)
			_ = c.conn.Close()
			break
		}
		switch {
		case resp.ID != 0:
			c.answer(resp)
		case resp.Event != nil && resp.Event.Kind == EventClosed:
			reason = resp.Event.Reason
		case resp.Event != nil:
			c.queue.push(*resp.Event)
		}
	}
	c.mu.Lock()
	c.closed = true
	c.reason = reason
	c.mu.Unlock()
	close(c.gone)
	c.queue.push(Event{Kind: EventClosed, At: Now(), Reason: reason})
	c.queue.close()
}

func (c *Client) answer(resp response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch, ok := c.waiting[resp.ID]; ok {
		ch <- resp
		delete(c.waiting, resp.ID)
	}
}

// deliver hands queued events to the agent, so that an agent that does not read its events still
// gets its answers.
func (c *Client) deliver() {
	defer c.wg.Done()
	defer close(c.events)
	for {
		ev, ok := c.queue.pop(c.quit)
		if !ok {
			return
		}
		select {
		case c.events <- ev:
		case <-c.quit:
			return
		}
	}
}

// eventQueue is an unbounded queue: events are few, and none may be lost or block the reader.
type eventQueue struct {
	mu     sync.Mutex
	items  []Event
	closed bool
	wake   chan struct{}
}

func newEventQueue() *eventQueue { return &eventQueue{wake: make(chan struct{}, 1)} }

func (q *eventQueue) push(e Event) {
	q.mu.Lock()
	q.items = append(q.items, e)
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *eventQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop waits for the next event. It returns false at the end of the queue or when quit is closed.
func (q *eventQueue) pop(quit <-chan struct{}) (Event, bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			e := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return e, true
		}
		done := q.closed
		q.mu.Unlock()
		if done {
			return Event{}, false
		}
		select {
		case <-q.wake:
		case <-quit:
			return Event{}, false
		}
	}
}
