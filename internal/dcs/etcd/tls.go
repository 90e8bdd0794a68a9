package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// clientTLS makes a configuration from files as they are now.
func (t TLS) clientTLS() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // only where the operator says so
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authority: %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		key := t.KeyFile
		if key == "" {
			key = t.CertFile
		}
		cert, err := tls.LoadX509KeyPair(t.CertFile, key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// freshTLS reads the files at each handshake, so that a renewed certificate is used by the next
// connection.
type freshTLS struct {
	files TLS
	base  credentials.TransportCredentials
}

func newFreshTLS(files TLS) credentials.TransportCredentials {
	return &freshTLS{files: files, base: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.ServerName})}
}

func (f *freshTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := f.files.clientTLS()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, raw)
}

func (f *freshTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, fmt.Errorf("tls: these credentials are a client's")
}

func (f *freshTLS) Info() credentials.ProtocolInfo { return f.base.Info() }

func (f *freshTLS) Clone() credentials.TransportCredentials {
	return &freshTLS{files: f.files, base: f.base.Clone()}
}

func (f *freshTLS) OverrideServerName(string) error { return nil }

// dialTCP opens a connection that the kernel gives up when its peer's host is silent: keep-alives
// for an idle one, a bound on unacknowledged data for a busy one.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: 2 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 10 * time.Second, Interval: 2 * time.Second, Count: 3,
		},
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		setUserTimeout(tcp, 5*time.Second)
	}
	return conn, nil
}

// setUserTimeout is an improvement where the kernel offers it; without it the connection works too.
func setUserTimeout(conn *net.TCPConn, d time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
