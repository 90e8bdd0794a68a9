package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
)

// service is one kind of service record.
type service struct {
	name   string
	secure bool
	peers  bool // names the servers' peer ports, which know the client URLs
}

// services are tried in this order, and the first that exists is used (row C-054).
func services() []service {
	return []service{
		{"etcd-client-ssl", true, false},
		{"etcd-client", false, false},
		{"etcd-ssl", true, false},
		{"etcd", false, false},
		{"etcd-server-ssl", true, true},
		{"etcd-server", false, true},
	}
}

// discoverSoon looks endpoints up again in the background when that was long ago. It needs no timer:
// calls come every few seconds.
func (s *Store) discoverSoon() {
	if !s.opts.Discover && s.opts.SRV == "" {
		return
	}
	s.mu.Lock()
	due := !s.looking && time.Since(s.discovered) > discoverEvery
	if due {
		s.looking, s.discovered = true, time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	s.spawn(context.Background(), func(ctx context.Context) {
		ctx, cancel := s.bound(ctx)
		defer cancel()
		err := s.discover(ctx)
		if err == nil && s.opts.Discover {
			err = s.discoverMembers(ctx)
		}
		s.mu.Lock()
		s.looking = false
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Info("endpoints were not looked up", zap.Error(err))
		}
	})
}

// discover adds the endpoints that service records name.
func (s *Store) discover(ctx context.Context) error {
	if s.opts.SRV == "" {
		return nil
	}
	var errs []error
	for _, svc := range services() {
		name := svc.name
		if s.opts.SRVSuffix != "" {
			name += "-" + s.opts.SRVSuffix
		}
		records, err := s.opts.LookupSRV(ctx, name, "tcp", s.opts.SRV)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		added := 0
		for _, r := range records {
			t := target{net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))), svc.secure}
			targets := []target{t}
			if svc.peers {
				if targets, err = s.askPeer(ctx, t); err != nil {
					errs = append(errs, err)
					continue
				}
			}
			for _, t := range targets {
				if err := s.addEndpoint(t, true); err != nil {
					return err
				}
				added++
			}
		}
		if added > 0 {
			return nil
		}
	}
	return fmt.Errorf("service records of %q: %w", s.opts.SRV, errors.Join(errs...))
}

// askPeer asks a server's peer port for the client URLs of all members.
func (s *Store) askPeer(ctx context.Context, peer target) ([]target, error) {
	cfg, err := s.opts.TLS.clientTLS()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: cfg, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return s.opts.Dial(ctx, address)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peer.String()+"/members", nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	var members []struct {
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("members of %s: %w", peer.address, err)
	}
	var out []target
	for _, m := range members {
		for _, u := range m.ClientURLs {
			if t, err := parseEndpoint(u, s.opts.Protocol, s.opts.DefaultPort); err == nil {
				out = append(out, t)
			}
		}
	}
	return out, nil
}

// discoverMembers adds the client URLs of the store's members, and drops those found earlier that
// are no longer named. Configured endpoints always stay.
func (s *Store) discoverMembers(ctx context.Context) error {
	resp, err := hedge(ctx, s, func(ctx context.Context, e *endpoint) (*pb.MemberListResponse, error) {
		return e.cluster.MemberList(ctx, &pb.MemberListRequest{})
	})
	if err != nil {
		return fmt.Errorf("members of the store: %w", err)
	}
	var named []target
	for _, m := range resp.Members {
		if m.IsLearner {
			continue
		}
		for _, u := range m.ClientURLs {
			t, err := parseEndpoint(u, s.opts.Protocol, s.opts.DefaultPort)
			// A server that advertises its loopback address can be reached only from beside it.
			if err == nil && (!loopback(t.address) || s.anyLoopback()) {
				named = append(named, t)
			}
		}
	}
	if len(named) == 0 {
		return nil
	}
	for _, t := range named {
		if err := s.addEndpoint(t, true); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = slices.DeleteFunc(s.order, func(e *endpoint) bool {
		drop := e.discovered && !slices.Contains(named, e.target)
		if drop {
			s.retired = append(s.retired, e)
		}
		return drop
	})
	return nil
}

// anyLoopback says whether the store is reached over the loopback address at all.
func (s *Store) anyLoopback() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.order, func(e *endpoint) bool { return !e.discovered && loopback(e.target.address) })
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}
