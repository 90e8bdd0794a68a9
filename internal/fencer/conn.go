package fencer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	helloPatience = 10 * time.Second
	writePatience = 5 * time.Second
	outQueue      = 256
	maxParallel   = 64
)

// agentConn is one connection. A slow or frozen reader never holds the fencer up: lines wait in a
// queue, and a queue that is full ends the connection.
type agentConn struct {
	conn    *net.UnixConn
	pid     int
	started int64
	name    string
	out     chan []byte
	once    sync.Once
	gone    chan struct{} // closed when no more requests are taken
	done    chan struct{} // closed when all is sent
}

func (s *server) accept(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("accept failed", slog.String("error", err.Error()))
			select { // out of descriptors, for example
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			if err := s.converse(conn); err != nil {
				s.log.Info("agent connection ended", slog.String("cause", err.Error()))
			}
		})
	}
}

// converse handles one connection to its end.
func (s *server) converse(conn *net.UnixConn) error {
	defer func() { _ = conn.Close() }()
	pid, err := s.checkPeer(conn)
	if err != nil {
		return err
	}
	a := &agentConn{conn: conn, pid: pid, out: make(chan []byte, outQueue), gone: make(chan struct{}), done: make(chan struct{})}
	defer close(a.done)
	var wg sync.WaitGroup
	wg.Go(a.write)
	defer wg.Wait()
	defer a.close()
	reader := bufio.NewReader(conn)
	if err := s.welcome(a, reader); err != nil {
		return err
	}
	defer s.leave(a)
	slots := make(chan struct{}, maxParallel)
	for {
		line, err := readLine(reader)
		if err != nil {
			return fmt.Errorf("agent %q: %w", a.name, err)
		}
		req, err := decodeRequest(line)
		if err != nil {
			return fmt.Errorf("agent %q: %w", a.name, err)
		}
		// Each request has its own goroutine: a renewal must not wait until a start has synced
		// its files. Who needs an order waits for the answer, as Client does.
		slots <- struct{}{}
		s.expect(req, 1)
		wg.Go(func() {
			defer func() { <-slots }()
			s.answer(a, req)
		})
	}
}

// expect counts the starts that were read and are not done. It does so in the order of the lines: an
// agent that gave up waiting for a start and asks for the State next must not hear "down" from a
// handler that overtook the start.
func (s *server) expect(req request, by int) {
	if req.Op != opStart {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting += by
}

// checkPeer lets in root, the user of this process and the PostgreSQL user.
func (s *server) checkPeer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	if !slices.Contains([]int{0, os.Geteuid(), s.serverUID()}, int(cred.Uid)) {
		return 0, fmt.Errorf("peer credentials: uid %d may not speak to this fencer", cred.Uid)
	}
	return int(cred.Pid), nil
}

// welcome waits for the hello and makes this connection the agent's. The newest agent wins: the
// connection before it is told and closed. An agent process that is older than the connected one
// (it was frozen, and is back) is turned away.
func (s *server) welcome(a *agentConn, reader *bufio.Reader) error {
	_ = a.conn.SetReadDeadline(time.Now().Add(helloPatience))
	line, err := readLine(reader)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	req, err := decodeRequest(line)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if req.Op != opHello {
		return fmt.Errorf("hello: the first request is %q", req.Op)
	}
	_ = a.conn.SetReadDeadline(time.Time{})
	if req.Hello.DataDir != s.opts.DataDir {
		err := fmt.Errorf("this fencer serves the data directory %s, not %s", s.opts.DataDir, req.Hello.DataDir)
		a.reply(failure(req.ID, err))
		return err
	}
	a.started, a.name = req.Hello.Started, req.Hello.Name
	s.mu.Lock()
	old := s.agent
	if old != nil && a.started < old.started {
		s.mu.Unlock()
		a.reply(failure(req.ID, fmt.Errorf("%w: process %d", ErrSuperseded, old.pid)))
		return ErrSuperseded
	}
	s.agent = a
	s.sh.spare[spareAgent].Store(int64(a.pid))
	if s.srv != nil {
		s.srv.observed = false // so that this agent is told as well
	}
	s.mu.Unlock()
	defer s.wakeGuard()
	if old != nil {
		old.bye(ErrSuperseded.Error())
	}
	s.setEndpoint(req.Hello.Wire, false)
	s.log.Info("agent connected", slog.String("name", a.name), slog.Int("pid", a.pid),
		slog.String("incarnation", req.Hello.Incarnation))
	state := s.state()
	a.reply(response{ID: req.ID, State: &state})
	return nil
}

func (s *server) leave(a *agentConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agent == a {
		s.agent = nil
		s.sh.spare[spareAgent].Store(0)
		s.idleSince = Now()
	}
}

func (s *server) current(a *agentConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent == a
}

func (s *server) closeAgent(reason string) {
	s.mu.Lock()
	a := s.agent
	s.mu.Unlock()
	if a == nil {
		return
	}
	a.bye(reason)
	select {
	case <-a.done:
	case <-time.After(writePatience):
	}
}

// emit sends an event to the agent, if there is one. Who connects later reads State.
func (s *server) emit(e Event) {
	s.mu.Lock()
	a := s.agent
	s.mu.Unlock()
	if a != nil {
		a.reply(response{Event: &e})
	}
}

func failure(id uint64, err error) response {
	return response{ID: id, Code: codeOf(err), Error: err.Error()}
}

func (a *agentConn) reply(r response) {
	line, err := encodeLine(r)
	if err != nil {
		a.close()
		return
	}
	select {
	case <-a.gone:
	case a.out <- line:
	default:
		a.close()
	}
}

// bye is the last line of a connection.
func (a *agentConn) bye(reason string) {
	a.reply(response{Event: &Event{Kind: EventClosed, At: Now(), Reason: reason}})
	a.reply(response{}) // marks the end, see write
}

// write sends the queue. An empty response closes the connection after what was queued before it.
func (a *agentConn) write() {
	end, _ := encodeLine(response{})
	for {
		select {
		case line := <-a.out:
			if string(line) == string(end) {
				a.close()
				return
			}
			_ = a.conn.SetWriteDeadline(time.Now().Add(writePatience))
			if _, err := a.conn.Write(line); err != nil {
				a.close()
				return
			}
		case <-a.gone:
			a.flush()
			return
		}
	}
}

// flush sends what was queued when the connection ended on the reading side: the refusal of a
// hello, for instance.
func (a *agentConn) flush() {
	for {
		select {
		case line := <-a.out:
			_ = a.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := a.conn.Write(line); err != nil {
				return
			}
		default:
			_ = a.conn.Close()
			return
		}
	}
}

// close ends reading and lets the writer finish.
func (a *agentConn) close() {
	a.once.Do(func() {
		close(a.gone)
		_ = a.conn.CloseRead()
	})
}
