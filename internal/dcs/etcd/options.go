package etcd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Options say where the store is and how to reach it. The zero value of every duration means its
// default.
type Options struct {
	// Endpoints are "host", "host:port", "[v6]:port", or URLs with http or https. The first ones
	// are preferred.
	Endpoints []string
	// Protocol is http or https, for endpoints without a scheme. Default http.
	Protocol string
	// DefaultPort is for endpoints without one. Default 2379.
	DefaultPort int
	// SRV is a domain whose service records name the endpoints, SRVSuffix an addition to the
	// service's name (rows C-054 and C-055).
	SRV, SRVSuffix string
	// LookupSRV finds service records. Default: the system's resolver.
	LookupSRV func(ctx context.Context, service, proto, name string) ([]*net.SRV, error)
	// Discover adds the client URLs of the store's own members to the endpoints, looked up now and
	// then (row D-15).
	Discover bool

	Username, Password string
	TLS                TLS

	// BasePath is "/" + namespace + "/" + scope (row D-01).
	BasePath string
	// RequestTimeout bounds every call, whatever its context says. Default 3 s.
	RequestTimeout time.Duration
	// HedgeDelay is how long an endpoint may take before another one is asked too. Default 100 ms.
	HedgeDelay time.Duration
	// WatchProbe is how long a watch may be silent before its endpoint is asked whether it still
	// lives, WatchSilence how long that answer may take. Defaults 10 s and 1 s. It is asked at once
	// when another request to that endpoint is slow, and an agent's lease makes requests all the time.
	WatchProbe, WatchSilence time.Duration
	// Dial opens connections. Default: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger may be nil.
	Logger *zap.Logger
}

// TLS says how connections are secured. The files are read anew at each handshake, so renewed
// certificates need no restart.
type TLS struct {
	// CAFile verifies the servers. Empty: the system's authorities.
	CAFile string
	// CertFile and KeyFile identify this client.
	CertFile, KeyFile string
	// ServerName is expected in the servers' certificates. Empty: the host that is dialled.
	ServerName string
	// InsecureSkipVerify accepts any server.
	InsecureSkipVerify bool
}

// How often the list of endpoints is looked up again.
const discoverEvery = 10 * time.Minute

func (o *Options) setDefaults() {
	if o.Protocol == "" {
		o.Protocol = "http"
	}
	if o.DefaultPort == 0 {
		o.DefaultPort = 2379
	}
	if o.LookupSRV == nil {
		o.LookupSRV = func(ctx context.Context, service, proto, name string) ([]*net.SRV, error) {
			_, records, err := net.DefaultResolver.LookupSRV(ctx, service, proto, name)
			return records, err
		}
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.RequestTimeout, 3 * time.Second},
		{&o.HedgeDelay, 100 * time.Millisecond},
		{&o.WatchProbe, 10 * time.Second},
		{&o.WatchSilence, time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
}

// target is one endpoint's address.
type target struct {
	address string // host:port
	secure  bool
}

func (t target) String() string {
	if t.secure {
		return "https://" + t.address
	}
	return "http://" + t.address
}

// parseEndpoint reads one endpoint in any of the accepted spellings.
func parseEndpoint(s, protocol string, port int) (target, error) {
	s = strings.TrimSpace(s)
	secure := protocol == "https"
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return target{}, fmt.Errorf("endpoint: %w", err)
		}
		switch u.Scheme {
		case "http":
			secure = false
		case "https":
			secure = true
		default:
			return target{}, fmt.Errorf("endpoint %q: scheme must be http or https", s)
		}
		s = u.Host
	}
	host, p := s, fmt.Sprint(port)
	if h, explicit, err := net.SplitHostPort(s); err == nil {
		host, p = h, explicit
	}
	host = strings.Trim(host, "[]")
	if host == "" || strings.ContainsAny(host, "/ ") {
		return target{}, fmt.Errorf("endpoint %q: want host:port", s)
	}
	return target{address: net.JoinHostPort(host, p), secure: secure}, nil
}
