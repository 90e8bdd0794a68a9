package restapi

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tlsSource hands out the TLS configuration of each new connection and reads the certificate
// files again when they changed on disk, so that rotation needs neither a signal nor a restart.
type tlsSource struct {
	opts   Options
	config atomic.Pointer[tls.Config]
	// notify is told of every attempt to read changed files.
	notify func(error)

	mu      sync.Mutex // held by the one handshake that looks at the files
	seen    fileMarks
	checked time.Time
}

// fileMarks tells changed files from unchanged ones without reading them.
type fileMarks [3]struct {
	modified time.Time
	size     int64
}

// tlsCheckInterval is how often the certificate files are looked at, at most.
const tlsCheckInterval = time.Second

func newTLSSource(o Options, notify func(error)) (*tlsSource, error) {
	s := &tlsSource{opts: o, notify: notify}
	s.seen = s.marks()
	c, err := loadTLS(o)
	if err != nil {
		return nil, err
	}
	s.config.Store(c)
	s.checked = time.Now()
	return s, nil
}

// current is the configuration for a new connection. If the changed files make no sense (half
// written, key and certificate of different pairs), the old certificate goes on being used until
// the files change once more.
func (s *tlsSource) current() *tls.Config {
	// A handshake that finds another one looking does not wait for it.
	if s.mu.TryLock() {
		defer s.mu.Unlock()
		if time.Since(s.checked) >= tlsCheckInterval {
			s.checked = time.Now()
			s.refresh()
		}
	}
	return s.config.Load()
}

func (s *tlsSource) refresh() {
	marks := s.marks()
	if marks == s.seen {
		return
	}
	s.seen = marks
	c, err := loadTLS(s.opts)
	if err == nil {
		s.config.Store(c)
	}
	s.notify(err)
}

func (s *tlsSource) marks() fileMarks {
	var m fileMarks
	for i, name := range []string{s.opts.CertFile, s.opts.KeyFile, s.opts.CAFile} {
		if name == "" {
			continue
		}
		if fi, err := os.Stat(name); err == nil {
			m[i].modified, m[i].size = fi.ModTime(), fi.Size()
		}
	}
	return m
}

func loadTLS(o Options) (*tls.Config, error) {
	cert, err := LoadKeyPair(o.CertFile, o.KeyFile, o.KeyFilePassword)
	if err != nil {
		return nil, fmt.Errorf("restapi certificate: %w", err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}
	if o.Ciphers != "" {
		c.CipherSuites = cipherSuites(o.Ciphers)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("restapi certificate authority: %w", err)
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("restapi certificate authority: %s holds no certificate", o.CAFile)
		}
	}
	switch o.VerifyClient {
	case VerifyRequired:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case VerifyOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case VerifyNone:
	}
	return c, nil
}

// LoadKeyPair reads a certificate and its key. An empty keyFile means that the key stands in
// certFile as well. A password is needed only for an encrypted key.
func LoadKeyPair(certFile, keyFile, password string) (tls.Certificate, error) {
	if keyFile == "" {
		keyFile = certFile
	}
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err = decryptKey(keyPEM, password)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", keyFile, err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", certFile, err)
	}
	return cert, nil
}

// cipherSuites picks the TLS 1.2 suites named in an OpenSSL list. Words such as HIGH or !aNULL
// have no counterpart here; a list of nothing but such words leaves the choice to Go, which never
// offers what those words are used to exclude. TLS 1.3 suites are not configurable.
func cipherSuites(list string) []uint16 {
	var ids []uint16
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ':' || r == ',' || r == ' ' }) {
		for _, suite := range tls.CipherSuites() {
			if suite.Name == name || openSSLName(suite.Name) == name {
				ids = append(ids, suite.ID)
			}
		}
	}
	return ids
}

// openSSLName turns TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 into ECDHE-RSA-AES128-GCM-SHA256.
func openSSLName(name string) string {
	name = strings.TrimPrefix(name, "TLS_")
	name = strings.NewReplacer("_WITH_", "-", "AES_128", "AES128", "AES_256", "AES256",
		"CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305").Replace(name)
	return strings.ReplaceAll(name, "_", "-")
}

var errKeyEncrypted = errors.New("the private key is encrypted and no password is given")
