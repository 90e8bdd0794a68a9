package restapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// settings is what requests read of the options: one immutable value behind an atomic pointer, so
// that a reload never makes a request wait.
type settings struct {
	auth           bool
	credentials    [sha256.Size]byte
	verify         VerifyClient
	tls            *tlsSource // nil: plain HTTP
	allow          []netip.Prefix
	allowMembers   bool
	restrict       bool // an allowlist was given, even if no name in it could be resolved
	headers        http.Header
	serverHeader   string // with "%" where the version goes
	operationLimit time.Duration
	maxBody        int64
}

// newSettings resolves names and loads certificates. The list of names that could not be resolved
// is returned beside the settings: they are a warning, not an error, since a name server that is
// down must not keep an agent from starting.
func newSettings(ctx context.Context, o Options, notify func(error)) (*settings, []string, error) {
	s := &settings{
		auth:           o.Username != "",
		credentials:    digest(o.Username, o.Password),
		verify:         o.VerifyClient,
		allowMembers:   o.AllowlistIncludeMembers,
		restrict:       len(o.Allowlist) > 0,
		headers:        http.Header{},
		operationLimit: o.OperationTimeout,
		maxBody:        o.MaxBody,
	}
	for k, v := range o.ExtraHeaders {
		s.headers.Set(k, v)
	}
	if o.tls() {
		for k, v := range o.ExtraTLSHeaders {
			s.headers.Set(k, v)
		}
		src, err := newTLSSource(o, notify)
		if err != nil {
			return nil, nil, err
		}
		s.tls = src
	}
	switch o.ServerTokens {
	case "productonly":
		s.serverHeader = "Patroni"
	case "minimal":
		s.serverHeader = "Patroni/%"
	}
	var unresolved []string
	for _, entry := range o.Allowlist {
		prefixes, err := resolve(ctx, entry)
		if err != nil {
			unresolved = append(unresolved, entry)
		}
		s.allow = append(s.allow, prefixes...)
	}
	return s, unresolved, nil
}

// digest is compared instead of the credentials themselves, so that neither their content nor
// their length shows in the time that a comparison takes.
func digest(username, password string) [sha256.Size]byte {
	return sha256.Sum256([]byte(username + ":" + password))
}

// resolve turns an address, a network or a host name into networks.
func resolve(ctx context.Context, entry string) ([]netip.Prefix, error) {
	entry = strings.Trim(strings.TrimSpace(entry), "[]")
	if p, err := netip.ParsePrefix(entry); err == nil {
		return []netip.Prefix{p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(entry); err == nil {
		return []netip.Prefix{single(a)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", entry)
	if err != nil {
		return nil, err
	}
	prefixes := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		prefixes = append(prefixes, single(a))
	}
	return prefixes, nil
}

func single(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// Reasons for refusing a change, with the texts of row R-006.
var (
	errDenied       = errors.New("Access is denied") //nolint:staticcheck // a contract text
	errCrossSite    = errors.New("a web page of another site may not make this request")
	errNoCert       = errors.New("client certificate required")
	errNoAuth       = errors.New("no auth header received")
	errUnauthorized = errors.New("not authenticated")
)

// admit decides whether a request may change something: address, then certificate, then
// credentials (row R-006). Nothing here is asked of a request that only reads.
func (s *settings) admit(r *http.Request, st *State, membersCount bool) error {
	if !s.addressAllowed(r, st, membersCount) {
		return errDenied
	}
	// A browser that holds the credentials must not be used by a foreign page; programs do not
	// send the headers that this looks at.
	if http.NewCrossOriginProtection().Check(r) != nil {
		return errCrossSite
	}
	if s.tls != nil && s.verify != VerifyNone && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		return errNoCert
	}
	if !s.auth {
		return nil
	}
	if r.Header.Get("Authorization") == "" {
		return errNoAuth
	}
	username, password, ok := r.BasicAuth()
	got := digest(username, password)
	if !ok || subtle.ConstantTimeCompare(got[:], s.credentials[:]) != 1 {
		return errUnauthorized
	}
	return nil
}

// addressAllowed checks the peer's address. For POST /failsafe membersCount is false: a primary
// that asks must be let in by the list alone, or by there being none (row R-007).
func (s *settings) addressAllowed(r *http.Request, st *State, membersCount bool) bool {
	members := s.allowMembers && membersCount
	if !s.restrict && !members {
		return true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	peer = peer.Unmap().WithZone("")
	if contains(s.allow, peer) {
		return true
	}
	return members && memberAddress(r.Context(), st.View.MemberAPIURLs, peer)
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// memberAddress resolves the members' API hosts at the time of the request (row C-113), because
// members come and go and change their addresses.
func memberAddress(ctx context.Context, urls []string, peer netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Hostname() == "" {
			continue
		}
		prefixes, err := resolve(ctx, u.Hostname())
		if err == nil && contains(prefixes, peer) {
			return true
		}
	}
	return false
}
