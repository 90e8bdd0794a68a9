package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/restapi"
)

// Options say how to reach agents (rows C-119 to C-124).
type Options struct {
	Username, Password string // sent with every request when Username is set
	CertFile, KeyFile  string // client certificate
	KeyFilePassword    string
	CAFile             string // empty: the system's authorities
	// Insecure accepts any server certificate. Agents use it among themselves (row C-120).
	Insecure bool
	// Timeout bounds a request whose context has no deadline. Zero: 10 s.
	Timeout time.Duration
	// UserAgent is sent along; empty: "pgha".
	UserAgent string
}

// Client is safe for concurrent use.
type Client struct {
	opts Options
	tls  *tls.Config
	http *http.Client
}

// maxAnswer bounds what is read of one answer.
const maxAnswer = 4 << 20

// New loads the certificates that the options name. The client certificate is read again when its
// file changes; the authorities are not.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.UserAgent == "" {
		o.UserAgent = "pgha"
	}
	t := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: o.Insecure, //nolint:gosec // the operator's choice, or peers by row C-120
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("api client: certificate authority: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("api client: certificate authority: %s holds no certificate", o.CAFile)
		}
	}
	if o.CertFile != "" {
		keys := &keyPair{opts: o}
		if _, err := keys.get(nil); err != nil {
			return nil, fmt.Errorf("api client: certificate: %w", err)
		}
		t.GetClientCertificate = keys.get
	}
	return &Client{opts: o, tls: t, http: &http.Client{
		Transport: &http.Transport{
			// No proxy: peers are named by address, and a proxy would answer for a dead one.
			Proxy:                 nil,
			DialContext:           (&net.Dialer{KeepAlive: -1}).DialContext,
			TLSClientConfig:       t,
			DisableKeepAlives:     true,
			DisableCompression:    true,
			ResponseHeaderTimeout: 0, // contexts bound every request
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close drops what the client holds open.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// keyPair is a client certificate that follows its file.
type keyPair struct {
	opts Options

	mu    sync.Mutex
	stamp time.Time
	cert  *tls.Certificate
}

func (k *keyPair) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fi, err := os.Stat(k.opts.CertFile)
	if err == nil && k.cert != nil && fi.ModTime().Equal(k.stamp) {
		return k.cert, nil
	}
	var cert tls.Certificate
	if err == nil {
		cert, err = restapi.LoadKeyPair(k.opts.CertFile, k.opts.KeyFile, k.opts.KeyFilePassword)
	}
	if err != nil {
		if k.cert != nil {
			return k.cert, nil // half-written files: the old pair is better than none
		}
		return nil, err
	}
	k.cert, k.stamp = &cert, fi.ModTime()
	return k.cert, nil
}

// Answer is what an agent said, whatever the status code.
type Answer struct {
	Code   int
	Text   string // the body, without the tags of an error page
	Body   []byte
	Header http.Header
	URL    string
}

// OK says whether the code is one of success.
func (a Answer) OK() bool { return a.Code >= 200 && a.Code < 300 }

// Err is nil for a success, and otherwise an *Error that says what to do.
func (a Answer) Err() error {
	if a.OK() {
		return nil
	}
	e := &Error{URL: a.URL, Kind: KindStatus, Code: a.Code, Text: a.Text}
	switch a.Code {
	case http.StatusUnauthorized:
		e.Kind = KindUnauthorized
		e.Hint = "set ctl.authentication (or restapi.authentication) to the agent's username and password"
	case http.StatusForbidden:
		e.Kind = KindForbidden
		e.Hint = "the agent allows changes only from restapi.allowlist; run this on a member, or add this host"
		if strings.Contains(a.Text, "certificate") {
			e.Hint = "the agent asks for a client certificate: set ctl.certfile and ctl.keyfile"
		}
	}
	return e
}

// Base turns an api_url such as http://host:8008/patroni into http://host:8008.
func Base(apiURL string) (string, error) {
	u, err := url.Parse(apiURL)
	if err != nil {
		return "", fmt.Errorf("api url: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("api url %q: want http://host:port or https://host:port", apiURL)
	}
	return u.Scheme + "://" + u.Host, nil
}

// Do makes one request to an agent. path begins with a slash; body nil sends none. The error is an
// *Error when no answer came; an answer of any code is no error here.
func (c *Client) Do(ctx context.Context, method, apiURL, path string, body any) (Answer, error) {
	base, err := Base(apiURL)
	if err != nil {
		return Answer{}, err
	}
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return Answer{}, fmt.Errorf("api request: encode: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	return c.send(ctx, method, base+path, reader)
}

func (c *Client) send(ctx context.Context, method, address string, body io.Reader) (Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return Answer{}, fmt.Errorf("api request: %w", err)
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Username != "" {
		req.SetBasicAuth(c.opts.Username, c.opts.Password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, explain(address, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, explain(address, err)
	}
	if len(data) > maxAnswer {
		return Answer{}, &Error{URL: address, Kind: KindBadAnswer, Text: "the answer is too long"}
	}
	return Answer{
		Code: resp.StatusCode, Text: plainText(data), Body: data, Header: resp.Header, URL: address,
	}, nil
}

// plainText takes the message out of an error page; other bodies stay as they are.
func plainText(body []byte) string {
	s := strings.TrimSpace(string(body))
	if !strings.HasPrefix(strings.ToLower(s), "<!doctype") && !strings.HasPrefix(strings.ToLower(s), "<html") {
		return s
	}
	// pgha's pages have one <p> with the message, others (Patroni's) "Message: …" in one of them.
	var best string
	for _, part := range strings.Split(s, "<p>")[1:] {
		text, _, _ := strings.Cut(part, "</p>")
		text = strings.TrimSpace(unescape(text))
		if best == "" || strings.HasPrefix(text, "Message:") {
			best = strings.TrimSpace(strings.TrimPrefix(text, "Message:"))
		}
	}
	if best == "" {
		return s
	}
	return best
}
