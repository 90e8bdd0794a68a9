package restapi

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// PulseHeader, sent with a pulse, says that nothing but pulses will be asked for on this connection. A
// server that does not know it answers all the same.
const PulseHeader = "Pgha-Pulse"

// maxPulseLines bounds the header of a pulse.
const maxPulseLines = 32

var (
	pulseBegin = []byte("GET " + PulsePath + "?")
	pulseEnd   = []byte(" HTTP/1.1\r\n")
)

// pulseLine is a connection on which only pulses are asked for, several times a second for ever. It is
// taken from the HTTP server, whose care for each request (a goroutine that watches for the end of the
// connection, headers as a map) would be most of what an idle leader does.
type pulseLine struct {
	s    *Server
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

// takeLine serves such a connection to its end, if it can be taken over; the request at hand first.
func (s *Server) takeLine(w http.ResponseWriter, r *http.Request) bool {
	hijacker, ok := w.(http.Hijacker)
	if !ok || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Close || r.ContentLength != 0 {
		return false
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	// What is being answered when the server stops is answered, and nothing after that.
	stop := context.AfterFunc(s.base, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	l := &pulseLine{s: s, conn: conn, r: buffered.Reader}
	for query := r.URL.RawQuery; s.base.Err() == nil; {
		if !l.answer(query) {
			break
		}
		if query, ok = l.next(); !ok {
			break
		}
	}
	return true
}

func (l *pulseLine) answer(query string) bool {
	s := l.s
	body := s.pulse(query)
	l.out = append(l.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: "+typeJSON+"\r\nContent-Length: "...)
	l.out = append(strconv.AppendInt(l.out, int64(len(*body)), 10), "\r\n"...)
	set := s.settings.Load()
	if set.serverHeader != "" {
		l.out = append(append(l.out, "Server: "+strings.ReplaceAll(set.serverHeader, "%", s.node.State().Version)...), "\r\n"...)
	}
	for name, values := range set.headers {
		for _, v := range values {
			l.out = append(append(append(append(l.out, name...), ": "...), v...), "\r\n"...)
		}
	}
	l.out = append(append(l.out, "\r\n"...), *body...)
	s.buffers.Put(body)
	if l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
		return false
	}
	_, err := l.conn.Write(l.out)
	return err == nil
}

// next reads the next question. Whatever is not a pulse ends the connection, unanswered.
func (l *pulseLine) next() (query string, ok bool) {
	if l.s.base.Err() != nil || l.conn.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
		return "", false
	}
	if l.s.base.Err() != nil {
		return "", false // the stop's own deadline may have been set before
	}
	line, err := l.r.ReadSlice('\n')
	if err != nil {
		return "", false
	}
	line, ok = bytes.CutPrefix(line, pulseBegin)
	if !ok {
		return "", false
	}
	line, ok = bytes.CutSuffix(line, pulseEnd)
	if !ok {
		return "", false
	}
	query = string(line)
	for range maxPulseLines {
		if line, err = l.r.ReadSlice('\n'); err != nil {
			return "", false
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return query, true
		}
	}
	return "", false
}
