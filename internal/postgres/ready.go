package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// readyTimeout bounds one try. A local server answers within a millisecond or is in trouble.
const readyTimeout = 500 * time.Millisecond

// Ready connects to the local server and reads its first answer, and goes away again: no
// authentication, no SQL, so it tells what the server does even where SQL would fail. It may be
// called every few milliseconds. The error says why when the answer is not Accepting.
func (s *Server) Ready(ctx context.Context) (Readiness, error) {
	addrs, err := s.localAddresses()
	if errors.Is(err, ErrNotRunning) {
		return NoAnswer, err
	}
	if err != nil {
		return ReadyUnknown, err
	}
	network, addr := addrs[0].network()
	return readStartupAnswer(ctx, network, addr, s.opt.Superuser.Username, s.opt.Database)
}

// SourceReady is Ready for another server.
func (s *Server) SourceReady(ctx context.Context, src Source) (Readiness, error) {
	addrs, err := sourceAddresses(src)
	if err != nil {
		return ReadyUnknown, err
	}
	best, why := NoAnswer, error(nil)
	for _, a := range addrs {
		network, addr := a.network()
		r, err := readStartupAnswer(ctx, network, addr, s.opt.Superuser.Username, s.opt.Database)
		if r == Accepting {
			return r, nil
		}
		if r >= best {
			best, why = r, err
		}
	}
	return best, why
}

func readStartupAnswer(ctx context.Context, network, addr, user, database string) (Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return NoAnswer, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return ReadyUnknown, err
		}
	}
	if _, err := conn.Write(startupMessage(user, database)); err != nil {
		return NoAnswer, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return NoAnswer, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	switch head[0] {
	case 'R', 'v':
		return Accepting, nil
	case 'E':
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > 1<<16 {
			return ReadyUnknown, fmt.Errorf("startup answer: an error of %d bytes", size)
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			return ReadyUnknown, fmt.Errorf("startup answer: %w", err)
		}
		return readinessOf(errorFields(body))
	default:
		return ReadyUnknown, fmt.Errorf("startup answer: message %q: is this PostgreSQL?", head[0])
	}
}

// startupMessage is the first message of protocol 3.0.
func startupMessage(user, database string) []byte {
	msg := binary.BigEndian.AppendUint32(make([]byte, 4), 3<<16)
	for _, s := range []string{"user", user, "database", database, "application_name", applicationName} {
		msg = append(append(msg, s...), 0)
	}
	msg = append(msg, 0)
	binary.BigEndian.PutUint32(msg, uint32(len(msg)))
	return msg
}

// errorFields reads the fields of an error message by their letter.
func errorFields(body []byte) map[byte]string {
	out := map[byte]string{}
	for f := range strings.SplitSeq(string(body), "\x00") {
		if f != "" {
			out[f[0]] = f[1:]
		}
	}
	return out
}

// readinessOf reads a refusal. The messages are translated by lc_messages, so the state code
// decides where it can; only what 57P03 has in common is told apart by words, and an unknown
// wording counts as starting.
func readinessOf(f map[byte]string) (Readiness, error) {
	err := fmt.Errorf("the server answers: %s (%s)", f['M'], f['C'])
	switch f['C'] {
	case codeCannotConnectNow:
	case codeAdminShutdown:
		return ShuttingDown, err
	default:
		// Any other refusal comes from a server that is up: too many connections, pg_hba, no such role.
		return Accepting, nil
	}
	words := f['M'] + " " + f['D']
	switch {
	case strings.Contains(words, "shutting down"):
		return ShuttingDown, err
	case strings.Contains(words, "not yet accepting connections"), strings.Contains(words, "onsistent recovery state"):
		return NotConsistent, err
	default:
		return Starting, err
	}
}
