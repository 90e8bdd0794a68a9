package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs/etcd"
	"github.com/pgha/pgha/internal/restapi/client"
)

// loadSettings reads a configuration file and the agents' environment variables. With neither there
// are only defaults.
func loadSettings(e *env, path string) (settings, error) {
	s := settings{file: path, namespace: "/service"}
	if path == "" && !hasAgentVariables(e.environ) {
		return s, nil
	}
	cfg, err := config.LoadClient(path, e.environ)
	if err != nil {
		return s, fmt.Errorf("configuration: %w", err)
	}
	s.scope, s.namespace = cfg.Scope, cfg.Namespace
	s.etcd = etcdSettings{
		endpoints: cfg.Etcd3.Endpoints(),
		srv:       cfg.Etcd3.SRV,
		srvSuffix: cfg.Etcd3.SRVSuffix,
		username:  cfg.Etcd3.Username,
		password:  cfg.Etcd3.Password.Reveal(),
		caFile:    cfg.Etcd3.CACert,
		certFile:  cfg.Etcd3.Cert,
		keyFile:   cfg.Etcd3.Key,
	}
	if address := cfg.RestAPI.ConnectAddress; address != "" {
		scheme := "http://"
		if cfg.RestAPI.TLS() {
			scheme = "https://"
		}
		s.ownAPI = scheme + address + "/patroni"
	}
	s.rest = restSettings{
		username:    cfg.Ctl.Authentication.Username,
		password:    cfg.Ctl.Authentication.Password.Reveal(),
		caFile:      cfg.Ctl.CACert,
		certFile:    cfg.Ctl.CertFile,
		keyFile:     cfg.Ctl.KeyFile,
		keyPassword: cfg.Ctl.KeyFilePassword.Reveal(),
		insecure:    cfg.Ctl.Insecure,
	}
	return s, nil
}

func hasAgentVariables(environ []string) bool {
	for _, entry := range environ {
		if strings.HasPrefix(entry, "PGHA_") || strings.HasPrefix(entry, "PATRONI_") {
			return true
		}
	}
	return false
}

// restAgents is the real client of the members' REST API.
type restAgents struct{ client *client.Client }

func openAgents(s settings) (agents, error) {
	c, err := client.New(client.Options{
		Username: s.rest.username, Password: s.rest.password,
		CertFile: s.rest.certFile, KeyFile: s.rest.keyFile, KeyFilePassword: s.rest.keyPassword,
		CAFile: s.rest.caFile, Insecure: s.rest.insecure,
		UserAgent: "pghactl/" + buildVersion(),
	})
	if err != nil {
		return nil, err
	}
	return restAgents{c}, nil
}

// Do implements agents.
func (r restAgents) Do(ctx context.Context, apiURL, method, path string, body any) (reply, error) {
	a, err := r.client.Do(ctx, method, apiURL, path, body)
	if err != nil {
		return reply{}, agentError(err)
	}
	return reply{Code: a.Code, Body: a.Body, Text: a.Text}, nil
}

// noContactError is errNoContact in the client's words.
type noContactError struct{ error }

func (e noContactError) Unwrap() error      { return e.error }
func (noContactError) Is(target error) bool { return target == errNoContact }

// agentError keeps the client's advice, and marks the failures after which the agent certainly knows
// nothing of the request: no connection was made.
func agentError(err error) error {
	var failed *client.Error
	if !errors.As(err, &failed) {
		return err
	}
	out := err
	var dial *net.OpError
	if failed.Kind == client.KindRefused || failed.Kind == client.KindName || errors.As(failed.Err, &dial) && dial.Op == "dial" {
		out = noContactError{err}
	}
	if failed.Hint == "" {
		return out
	}
	return withHint(out, "%s", failed.Hint)
}

// openEtcd is the real store. Connections are made when they are needed, so an error here is one of
// the settings.
func openEtcd(_ context.Context, s settings) (store, error) {
	return etcd.New(etcd.Options{
		Endpoints: s.etcd.endpoints,
		SRV:       s.etcd.srv,
		SRVSuffix: s.etcd.srvSuffix,
		Username:  s.etcd.username,
		Password:  s.etcd.password,
		TLS:       etcd.TLS{CAFile: s.etcd.caFile, CertFile: s.etcd.certFile, KeyFile: s.etcd.keyFile},
		BasePath:  strings.TrimSuffix(s.basePath(), "/"),
	})
}
