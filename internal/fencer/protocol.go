package fencer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The protocol: one JSON object per line, each way, on a unix stream socket. The agent's first
// line is a hello. The fencer answers every request with the request's id and sends events
// (without id) between the answers. Unknown fields are ignored, so that an agent that has been
// upgraded can talk to the fencer that it found running.
const (
	protocolVersion = 1
	maxLine         = 1 << 20
)

// Operations. Those with an epoch are refused if it is not the armed one.
const (
	opHello    = "hello"
	opState    = "state"
	opArm      = "arm"
	opRenew    = "renew"
	opDisarm   = "disarm"
	opStart    = "start"
	opPromote  = "promote"
	opStop     = "stop"
	opSignal   = "signal"
	opKill     = "kill"
	opPromise  = "promise"
	opPolicy   = "policy"
	opShutdown = "shutdown"
)

type request struct {
	ID      uint64 `json:"id"`
	Op      string `json:"op"`
	Version int    `json:"version,omitempty"`

	Hello          *Hello        `json:"hello,omitempty"`
	Token          *Token        `json:"token,omitempty"`
	Epoch          uint64        `json:"epoch,omitempty"`
	LeaderRevision int64         `json:"leader_revision,omitempty"`
	Until          time.Duration `json:"until,omitempty"`
	Start          *StartSpec    `json:"start,omitempty"`
	Mode           StopMode      `json:"mode,omitempty"`
	Signal         int           `json:"signal,omitempty"`
	Policy         Policy        `json:"policy,omitempty"`
}

// response answers a request (ID > 0) or carries an event (ID 0).
type response struct {
	ID    uint64 `json:"id,omitempty"`
	Code  string `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
	State *State `json:"state,omitempty"`
	Pid   int    `json:"pid,omitempty"`
	Event *Event `json:"event,omitempty"`
}

// readLine returns the next line without its end. A line longer than maxLine is an error, after
// which the connection is of no use.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, fmt.Errorf("read line: longer than %d bytes", maxLine)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte{'\n'}), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// decodeRequest parses and checks one request line: what an operation needs is there.
func decodeRequest(line []byte) (request, error) {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return request{}, fmt.Errorf("decode request: %w", err)
	}
	if req.ID == 0 {
		return request{}, errors.New("decode request: no id")
	}
	missing := false
	switch req.Op {
	case opState, opStop, opSignal, opKill, opPromise, opPolicy, opShutdown, opRenew, opDisarm, opPromote:
	case opHello:
		missing = req.Hello == nil
	case opArm:
		missing = req.Token == nil
	case opStart:
		missing = req.Start == nil || req.Start.Bin == "" || len(req.Start.Args) == 0
	default:
		return request{}, fmt.Errorf("decode request: unknown operation %q", req.Op)
	}
	if missing {
		return request{}, fmt.Errorf("decode request: %s without its argument", req.Op)
	}
	return req, nil
}

func encodeLine(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode line: %w", err)
	}
	return append(b, '\n'), nil
}

// errorCodes is the table of the errors that cross the socket as themselves.
func errorCodes() []struct {
	code string
	err  error
} {
	return []struct {
		code string
		err  error
	}{
		{"epoch", ErrEpoch},
		{"past", ErrPast},
		{"running", ErrRunning},
		{"not_running", ErrNotRunning},
		{"orphans", ErrOrphans},
		{"writable", ErrWritable},
		{"busy", ErrBusy},
		{"superseded", ErrSuperseded},
	}
}

func codeOf(err error) string {
	for _, c := range errorCodes() {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "other"
}

// remoteError is an error that came over the socket. It keeps the fencer's words and unwraps to
// the sentinel.
type remoteError struct {
	text     string
	sentinel error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

func errorFrom(r response) error {
	if r.Code == "" {
		return nil
	}
	e := &remoteError{text: r.Error}
	for _, c := range errorCodes() {
		if c.code == r.Code {
			e.sentinel = c.err
		}
	}
	return e
}
