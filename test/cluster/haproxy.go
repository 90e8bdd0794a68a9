package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

// Proxy is HAProxy in front of the run.
type Proxy struct {
	Address                  string
	PrimaryPort, ReplicaPort int
	proc                     *child
	config, log              string
}

// proxyConfig has the timings of deploy/haproxy/haproxy.cfg, so that what is measured is what
// users get.
const proxyConfig = `global
    maxconn 2000
    spread-checks 5
    stats socket {{.Dir}}/haproxy.sock mode 600 level admin

defaults
    mode tcp
    retries 1
    option redispatch
    timeout connect 1s
    timeout client 24h
    timeout server 24h
    timeout check 300ms

listen primary
    bind {{.Proxy.PrimaryAddress}}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fastinter 50ms downinter 100ms rise 1 fall 2 on-marked-down shutdown-sessions
{{- range .Members}}
    server {{.Name}} {{.PG}} check port {{.RESTPort}}
{{- end}}

listen replicas
    bind {{.Proxy.ReplicaAddress}}
    balance leastconn
    option httpchk OPTIONS /replica
    http-check expect status 200
    default-server inter 500ms fastinter 100ms downinter 500ms rise 1 fall 2 on-marked-down shutdown-sessions
{{- range .Members}}
    server {{.Name}} {{.PG}} check port {{.RESTPort}}
{{- end}}
`

func (c *Cluster) startProxy(ctx context.Context) error {
	p := &Proxy{Address: "127.0.0.1", config: filepath.Join(c.Dir, "haproxy.cfg"), log: filepath.Join(c.Dir, "haproxy.log")}
	setString(&c.Options.ProxyAddress, p.Address)
	p.Address = c.Options.ProxyAddress
	if c.client != nil {
		p.Address, p.PrimaryPort, p.ReplicaPort = c.client.address, 5000, 5001
	} else {
		var err error
		if p.PrimaryPort, err = c.ports.pick(p.Address, c.Options.ProxyPrimaryPort); err != nil {
			return err
		}
		if p.ReplicaPort, err = c.ports.pick(p.Address, c.Options.ProxyReplicaPort); err != nil {
			return err
		}
	}
	c.Proxy = p
	var text strings.Builder
	err := template.Must(template.New("haproxy").Parse(proxyConfig)).Execute(&text, map[string]any{
		"Dir": c.Dir, "Proxy": p, "Members": c.Members,
	})
	if err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	if err := os.WriteFile(p.config, []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("proxy configuration: %w", err)
	}
	s := spec{name: "haproxy", path: c.Options.Proxy, args: []string{"-db", "-f", p.config}, dir: c.Dir, log: p.log}
	if c.client != nil {
		s.ns = c.client.ns
	}
	if p.proc, err = start(s); err != nil {
		return err
	}
	return p.waitReady(ctx, c)
}

func (p *Proxy) waitReady(ctx context.Context, c *Cluster) error {
	state, ok := poll(ctx, 10*time.Second, func(ctx context.Context) (bool, string) {
		conn, err := c.Dial(ctx, "tcp", p.PrimaryAddress())
		if err != nil {
			return false, err.Error()
		}
		return true, "listening" + closeNote(conn.Close())
	})
	if !ok {
		return fmt.Errorf("proxy is not ready: %s\n%s", state, tail(p.log, 15))
	}
	return nil
}

// PrimaryAddress is where clients write.
func (p *Proxy) PrimaryAddress() string { return fmt.Sprintf("%s:%d", p.Address, p.PrimaryPort) }

// ReplicaAddress is where clients read.
func (p *Proxy) ReplicaAddress() string { return fmt.Sprintf("%s:%d", p.Address, p.ReplicaPort) }

// Stand makes the proxy stand still until the function it returns is called: nobody asks the agents
// for their health meanwhile.
func (p *Proxy) Stand() (goOn func() error, err error) {
	if err := p.proc.proc.Signal(unix.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stop the proxy: %w", err)
	}
	return func() error { return p.proc.proc.Signal(unix.SIGCONT) }, nil
}
