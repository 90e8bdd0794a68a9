package restapi

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// VerifyClient says what is asked of a client's certificate (row R-008).
type VerifyClient string

// The three settings. The empty value is VerifyNone.
const (
	VerifyNone     VerifyClient = "none"
	VerifyOptional VerifyClient = "optional" // demanded for changes only
	VerifyRequired VerifyClient = "required" // demanded in the handshake, for reading too
)

// Options are the settings of section restapi (rows C-103 to C-118).
type Options struct {
	// Listen holds addresses "host:port"; an empty host or * is every address.
	Listen []string
	// Listeners are already bound and are used instead of Listen, for ports that only root may
	// bind. The server closes them when it stops. A Reload with the same Listen keeps them.
	Listeners []net.Listener

	// Username and Password guard every change; both empty means that they are not asked for.
	Username, Password string

	// CertFile and KeyFile turn TLS on. The files are read again when they change.
	CertFile, KeyFile string
	KeyFilePassword   string
	CAFile            string // verifies client certificates
	VerifyClient      VerifyClient
	Ciphers           string // OpenSSL names of TLS 1.2 suites; empty: Go's choice

	// Allowlist holds hosts, addresses or networks that may make changes; empty: everybody.
	// Names are resolved by New and Reload.
	Allowlist               []string
	AllowlistIncludeMembers bool // members' API hosts as well

	ExtraHeaders    map[string]string // on every answer with a body
	ExtraTLSHeaders map[string]string // added when TLS is on
	ServerTokens    string            // original, productonly, minimal

	// OperationTimeout bounds one change, such as a switchover that is waited for.
	// Zero: 30 minutes, since a restart may wait for a long crash recovery.
	OperationTimeout time.Duration
	// MaxBody bounds a request body in bytes. Zero: 1 MiB, which is less than etcd takes.
	MaxBody int64
	// MaxConnections bounds the open connections; more are closed at once. Zero: 1000.
	MaxConnections int
}

// Bounds of one request. A health check needs none of this long.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 15 * time.Second
	writeTimeout      = 15 * time.Second
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 16 << 10
	// maxOperations bounds the changes that are carried out at one time; they wait for the
	// agent, and a script gone wild must not pile them up.
	maxOperations = 16
	// maxPolls bounds the long polls of caught-up.
	maxPolls = 64
	// queryTimeout bounds the reads that ask the agent to look something up.
	queryTimeout = 10 * time.Second
	// freshTimeout bounds the look at the local server behind GET /patroni. Patroni members
	// give a peer two seconds.
	freshTimeout = time.Second
)

func (o Options) withDefaults() Options {
	if o.OperationTimeout <= 0 {
		o.OperationTimeout = 30 * time.Minute
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 1 << 20
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 1000
	}
	if o.VerifyClient == "" {
		o.VerifyClient = VerifyNone
	}
	o.ServerTokens = strings.ToLower(o.ServerTokens)
	return o
}

func (o Options) tls() bool { return o.CertFile != "" }

func (o Options) validate() error {
	var errs []error
	if len(o.Listen) == 0 && len(o.Listeners) == 0 {
		errs = append(errs, errors.New("restapi.listen: no address given"))
	}
	if (o.Username == "") != (o.Password == "") {
		// Half a credential would look like protection and be none.
		errs = append(errs, errors.New("restapi.authentication: both username and password are needed"))
	}
	switch o.VerifyClient {
	case VerifyNone:
	case VerifyOptional, VerifyRequired:
		if o.CAFile == "" {
			errs = append(errs, fmt.Errorf("restapi.verify_client: %s needs restapi.cafile", o.VerifyClient))
		}
		if !o.tls() {
			errs = append(errs, fmt.Errorf("restapi.verify_client: %s needs restapi.certfile", o.VerifyClient))
		}
	default:
		errs = append(errs, fmt.Errorf("restapi.verify_client: %q is none of none, optional, required", o.VerifyClient))
	}
	switch o.ServerTokens {
	case "", "original", "productonly", "minimal":
	default:
		errs = append(errs, fmt.Errorf("restapi.server_tokens: %q is none of original, productonly, minimal", o.ServerTokens))
	}
	return errors.Join(errs...)
}

// listenAddress turns the forms of row C-103 into what net.Listen takes.
func listenAddress(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host != "*" {
		return s
	}
	return net.JoinHostPort("", port)
}
