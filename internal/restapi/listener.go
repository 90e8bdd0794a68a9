package restapi

import (
	"crypto/tls"
	"net"
	"sync"
)

// countingListener bounds the number of open connections and starts TLS where it is on. TLS is
// looked up per connection, so a reload may turn it on or off on an open port.
type countingListener struct {
	net.Listener
	server *Server

	closing sync.Once
}

// Close may be called more than once: a reload closes a listener that the HTTP server, when it
// stops, closes as well.
func (l *countingListener) Close() error {
	var err error
	l.closing.Do(func() { err = l.Listener.Close() })
	return err
}

// Accept closes connections beyond the bound at once instead of leaving them to wait: a load
// balancer that gets no answer learns nothing, one that is refused does.
func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s := l.server
		if s.conns.Add(1) > s.maxConns.Load() {
			s.conns.Add(-1)
			_ = c.Close() // the peer learns it by the reset
			continue
		}
		conn := &countedConn{Conn: c, release: sync.OnceFunc(func() { s.conns.Add(-1) })}
		if src := s.settings.Load().tls; src != nil {
			return tls.Server(conn, &tls.Config{
				MinVersion: tls.VersionTLS12,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
					return src.current(), nil
				},
			}), nil
		}
		return conn, nil
	}
}

type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
