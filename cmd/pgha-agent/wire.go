package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/agent"
	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs/etcd"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/restapi"
	"github.com/pgha/pgha/internal/restapi/client"
)

// parts are what an agent process is made of.
type parts struct {
	store *etcd.Store
	pg    *postgres.Server
	peers *client.Client
	agent *agent.Agent
	rest  *restapi.Server
}

func (p *parts) close() {
	if p.pg != nil {
		p.pg.Close()
	}
	if p.peers != nil {
		p.peers.Close()
	}
	if p.store != nil {
		_ = p.store.Close()
	}
}

// wire builds all parts. Nothing runs yet; on an error what was built is closed again.
func wire(c *config.Config, who owner, path string, log *zap.Logger) (_ *parts, err error) {
	p := &parts{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.store, err = etcd.New(storeOptions(c, log)); err != nil {
		return nil, fmt.Errorf("etcd3: %w", err)
	}
	if p.pg, err = postgres.New(postgresOptions(c, who), log.Named("postgres")); err != nil {
		return nil, err
	}
	if p.peers, err = client.New(peerOptions(c)); err != nil {
		return nil, fmt.Errorf("ctl: %w", err)
	}
	reg := prometheus.NewRegistry()
	p.agent, err = agent.New(agent.Options{
		Config: c, Store: p.store, Postgres: p.pg, Fencer: fencerOptions(c, who), Peers: p.peers,
		Registry: reg, Log: log, Version: version(), Incarnation: incarnation(),
		Reload:   func() (*config.Config, error) { return config.Load(path, os.Environ()) },
		MoveEtcd: etcdMover(c, p.store, log),
	})
	if err != nil {
		return nil, err
	}
	if p.rest, err = restapi.New(restOptions(c), p.agent, reg, log.Named("restapi")); err != nil {
		return nil, fmt.Errorf("restapi: %w", err)
	}
	return p, nil
}

// incarnation names this life of the agent.
func incarnation() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails on Linux
	return hex.EncodeToString(b[:])
}

func storeOptions(c *config.Config, log *zap.Logger) etcd.Options {
	e := c.Etcd3
	return etcd.Options{
		Endpoints: e.Endpoints(), Protocol: e.Protocol, DefaultPort: e.Port, SRV: e.SRV, SRVSuffix: e.SRVSuffix,
		Discover: !e.UseProxies && e.Proxy == "", Username: e.Username, Password: e.Password.Reveal(),
		TLS:      etcd.TLS{CAFile: e.CACert, CertFile: e.Cert, KeyFile: e.Key},
		BasePath: c.Namespace + "/" + c.Scope, Logger: log.Named("etcd"),
	}
}

func postgresOptions(c *config.Config, who owner) postgres.Options {
	p := c.PostgreSQL
	addrs, port := p.ListenAddresses()
	return postgres.Options{
		Name: c.Name, Scope: c.Scope, DataDir: p.DataDir, ConfigDir: p.ConfigDir, StateDir: c.Pgha.StateDir,
		BinDir: p.BinDir, BinNames: binNames(p.BinName), ConfigBaseName: p.ConfigBaseName,
		ListenAddresses: strings.Join(addrs, ","), Port: port, Database: p.Database,
		Superuser: credentials(p.Authentication.Superuser), Replication: credentials(p.Authentication.Replication),
		Rewind: credentials(p.Authentication.Rewind), PassFile: p.Pgpass, KrbSrvName: p.KrbSrvName,
		UID: who.uid, GID: who.gid,
	}
}

func binNames(b config.BinName) map[string]string {
	return map[string]string{
		"pg_ctl": b.PgCtl, "initdb": b.InitDB, "pg_controldata": b.PgControldata, "pg_basebackup": b.PgBasebackup,
		"postgres": b.Postgres, "pg_isready": b.PgIsReady, "pg_rewind": b.PgRewind,
	}
}

func credentials(u config.User) postgres.Credentials {
	extra := map[string]string{}
	for k, v := range map[string]string{
		"sslmode": u.SSLMode, "sslcert": u.SSLCert, "sslkey": u.SSLKey, "sslpassword": u.SSLPassword.Reveal(),
		"sslrootcert": u.SSLRootCert, "sslcrl": u.SSLCRL, "sslcrldir": u.SSLCRLDir, "gssencmode": u.GSSEncMode,
		"channel_binding": u.ChannelBinding, "sslnegotiation": u.SSLNegotiation,
	} {
		if v != "" {
			extra[k] = v
		}
	}
	return postgres.Credentials{Username: u.Username, Password: u.Password.Reveal(), Extra: extra}
}

// peerOptions: agents do not verify one another's server certificates (row C-120).
func peerOptions(c *config.Config) client.Options {
	auth := c.Ctl.Authentication
	if !auth.IsSet() {
		auth = c.RestAPI.Authentication
	}
	return client.Options{
		Username: auth.Username, Password: auth.Password.Reveal(), CertFile: c.Ctl.CertFile, KeyFile: c.Ctl.KeyFile,
		KeyFilePassword: c.Ctl.KeyFilePassword.Reveal(), Insecure: true, UserAgent: "pgha-agent",
	}
}

func restOptions(c *config.Config) restapi.Options {
	r := c.RestAPI
	return restapi.Options{
		Listen: []string{r.Listen}, Username: r.Authentication.Username, Password: r.Authentication.Password.Reveal(),
		CertFile: r.CertFile, KeyFile: r.KeyFile, KeyFilePassword: r.KeyFilePassword.Reveal(), CAFile: r.CAFile,
		VerifyClient: restapi.VerifyClient(r.VerifyClient), Allowlist: r.Allowlist,
		AllowlistIncludeMembers: r.AllowlistIncludeMembers, ExtraHeaders: r.HTTPExtraHeaders,
		ExtraTLSHeaders: r.HTTPSExtraHeaders, ServerTokens: r.ServerTokens,
	}
}

// reload applies what can change without a restart; the agent keeps the old configuration if the
// new one is bad.
func (p *parts) reload(old *config.Config, path string, log *zap.Logger) {
	if err := p.agent.ReloadNow(); err != nil {
		log.Error("reload", zap.Error(err))
		return
	}
	c, err := config.Load(path, os.Environ())
	if err != nil {
		log.Error("reload", zap.Error(err))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), restStop)
	defer cancel()
	if err := p.rest.Reload(ctx, restOptions(c)); err != nil {
		log.Error("reload of the REST API", zap.Error(err))
	}
	if c.Name != old.Name || c.Scope != old.Scope || c.PostgreSQL.DataDir != old.PostgreSQL.DataDir {
		log.Warn("name, scope and data_dir take effect after a restart of the agent only")
	}
}

// warnEtcd says once which servers of etcd have a fault that touches leases.
func (p *parts) warnEtcd(ctx context.Context, log *zap.Logger) {
	vctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, v := range p.store.Version(vctx) {
		if bad, why := etcd.KnownStaleLessor(v.Version); v.Err == nil && bad {
			log.Warn("etcd version", zap.String("endpoint", v.Endpoint), zap.String("fault", why))
		}
	}
}
