package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// Kind is the closed set of ways in which a request fails.
type Kind uint8

// Kinds. Only the first five mean that no answer came.
const (
	KindUnreachable  Kind = iota // any other network failure
	KindRefused                  // nothing listens there
	KindTimeout                  // no answer in time
	KindName                     // the host name is unknown
	KindTLS                      // no secure connection could be made
	KindUnauthorized             // 401
	KindForbidden                // 403
	KindStatus                   // any other code that is no success
	KindBadAnswer                // a success whose body makes no sense
)

// Error says what went wrong with a request and what to do about it. Its text has no hint.
type Error struct {
	URL  string
	Kind Kind
	Code int    // status code, zero if no answer came
	Text string // what the agent said
	Hint string // what to do, may be empty
	Err  error  // the cause, may be nil
}

func (e *Error) Error() string {
	switch {
	case e.Code != 0:
		return fmt.Sprintf("%s: status code %d: %s", e.URL, e.Code, e.Text)
	case e.Text != "":
		return e.URL + ": " + e.Text
	default:
		return fmt.Sprintf("%s: %v", e.URL, e.Err)
	}
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Unanswered says that no HTTP answer came.
func (e *Error) Unanswered() bool { return e.Code == 0 && e.Kind <= KindTLS }

// explain translates what net/http returns.
func explain(address string, err error) error {
	e := &Error{URL: address, Err: err}
	// The wrapper would print method and address once more.
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		e.Err = wrapped.Err
	}
	var (
		dns       *net.DNSError
		record    tls.RecordHeaderError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		alert     tls.AlertError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Kind, e.Text = KindTimeout, "no answer in time"
		e.Hint = "the host is down, cut off or overloaded, or a firewall drops the packets"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Kind, e.Text = KindRefused, "connection refused"
		e.Hint = "the host is up but no agent listens there: is pgha-agent running, and is restapi.connect_address right?"
	case errors.As(err, &dns):
		e.Kind, e.Text = KindName, "unknown host "+dns.Name
		e.Hint = "the name in restapi.connect_address does not resolve here"
	case errors.As(err, &verify), errors.As(err, &authority):
		e.Kind = KindTLS
		e.Hint = "set ctl.cacert to the authority that signed the agent's certificate, or use --insecure"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		e.Kind, e.Text = KindTLS, "the agent does not speak TLS there"
		e.Hint = "its api_url says https, but restapi.certfile is not set on it"
	case errors.As(err, &alert):
		e.Kind = KindTLS
		e.Hint = "the agent may ask for a client certificate: set ctl.certfile and ctl.keyfile"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		e.Text = "the connection was closed without an answer"
		e.Hint = "the agent is stopping, or its api_url says http while it speaks TLS"
	}
	return e
}

func unescape(s string) string { return html.UnescapeString(s) }
