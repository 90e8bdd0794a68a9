package restapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Server answers HTTP for one agent.
type Server struct {
	node     Node
	pulses   PulseObserver // node, if it is one; else nil
	log      *zap.Logger
	metrics  http.Handler
	http     *http.Server
	settings atomic.Pointer[settings]
	// lastBody is the last encoded health body; see healthBody.
	lastBody atomic.Pointer[encodedBody]
	buffers  sync.Pool // of *[]byte, for the answers to pulses
	jsonType []string  // the value of a header, shared by the answers to pulses

	// base ends when the server stops, and with it everything that a request waits for.
	base context.Context //nolint:containedctx // the server's own life, which requests end with
	end  context.CancelFunc

	operations chan struct{} // one place per change under way
	polls      chan struct{} // one place per long poll
	conns      atomic.Int64
	maxConns   atomic.Int64

	mu        sync.Mutex // guards the fields below; no request ever takes it
	opts      Options
	listeners map[string]net.Listener // by address as configured
	started   bool
	stopped   bool
	serving   sync.WaitGroup
}

// New checks the options, loads certificates and binds all addresses, so that a caller may give up
// root afterwards. Nothing is answered before Start. The metrics of extra are served beside the
// server's own; it may be nil. Stop must be called even without Start.
func New(o Options, node Node, extra prometheus.Gatherer, log *zap.Logger) (*Server, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		node:       node,
		log:        log,
		operations: make(chan struct{}, maxOperations),
		polls:      make(chan struct{}, maxPolls),
		jsonType:   []string{typeJSON},
		listeners:  map[string]net.Listener{},
	}
	s.pulses, _ = node.(PulseObserver)
	s.base, s.end = context.WithCancel(context.Background())
	if err := s.apply(s.base, o); err != nil {
		s.end()
		return nil, err
	}
	s.metrics = metricsHandler(node, extra)
	s.http = &http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		DisableGeneralOptionsHandler: true, // OPTIONS is a health check here
		ReadHeaderTimeout:            readHeaderTimeout,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		// Failed handshakes and the like are the clients' affair and would fill the log.
		ErrorLog:    zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
		BaseContext: func(net.Listener) context.Context { return s.base },
	}
	return s, nil
}

// apply takes over options: first everything that can fail, then the switch.
func (s *Server) apply(ctx context.Context, o Options) error {
	set, unresolved, err := newSettings(ctx, o, s.certificateRead)
	if err != nil {
		return err
	}
	keep := s.listeners
	if len(o.Listeners) > 0 || !slices.Equal(o.Listen, s.opts.Listen) || len(keep) == 0 {
		if keep, err = s.bind(ctx, o); err != nil {
			return err
		}
	}
	for _, name := range unresolved {
		s.log.Warn("allowlist entry not resolved", zap.String("entry", name))
	}
	s.settings.Store(set)
	s.maxConns.Store(int64(o.MaxConnections))
	o.Listeners = nil // they are ours now
	s.opts = o
	s.replaceListeners(keep)
	return nil
}

// bind opens the listeners of o, reusing those that are open already.
func (s *Server) bind(ctx context.Context, o Options) (map[string]net.Listener, error) {
	next := map[string]net.Listener{}
	if len(o.Listeners) > 0 {
		for _, l := range o.Listeners {
			next[l.Addr().String()] = &countingListener{Listener: l, server: s}
		}
		return next, nil
	}
	for _, addr := range o.Listen {
		if l, ok := s.listeners[addr]; ok {
			next[addr] = l
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", listenAddress(addr))
		if err != nil {
			for name, opened := range next {
				if s.listeners[name] == nil {
					_ = opened.Close() // was opened a moment ago, for nothing
				}
			}
			return nil, fmt.Errorf("restapi listen: %w", err)
		}
		next[addr] = &countingListener{Listener: l, server: s}
	}
	return next, nil
}

// replaceListeners serves the new listeners and closes those that are gone. Connections that are
// open stay open.
func (s *Server) replaceListeners(next map[string]net.Listener) {
	old := s.listeners
	s.listeners = next
	if s.started {
		for name, l := range next {
			if old[name] != l {
				s.serveOn(l)
			}
		}
	}
	for name, l := range old {
		if next[name] != l {
			_ = l.Close() // nobody is to come through it any more
		}
	}
}

func (s *Server) serveOn(l net.Listener) {
	s.serving.Go(func() {
		err := s.http.Serve(l)
		if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("api listener ended", zap.Stringer("address", l.Addr()), zap.Error(err))
		}
	})
}

// Start begins to answer. A second call does nothing.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restapi start: the server was stopped")
	}
	if s.started {
		return nil
	}
	s.started = true
	for _, l := range s.listeners {
		s.serveOn(l)
		s.log.Info("api listening", zap.Stringer("address", l.Addr()), zap.Bool("tls", s.opts.tls()))
	}
	return nil
}

// Reload takes over new options while requests go on. On an error the old ones stay in force.
func (s *Server) Reload(ctx context.Context, o Options) error {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restapi reload: the server was stopped")
	}
	return s.apply(ctx, o)
}

// stopGrace bounds Stop when its context does not.
const stopGrace = 5 * time.Second

// Stop ends long polls and changes that are waited for, lets other answers finish until ctx ends
// (at most 5 s), and closes everything. A second call returns at once.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.end()
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("restapi stop: %w", err), s.http.Close())
	}
	for _, l := range s.listeners {
		_ = l.Close() // closed already if it was served
	}
	s.serving.Wait()
	return err
}

// Addrs lists the bound addresses, sorted.
func (s *Server) Addrs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []string
	for _, l := range s.listeners {
		addrs = append(addrs, l.Addr().String())
	}
	slices.Sort(addrs)
	return addrs
}

func (s *Server) certificateRead(err error) {
	if err != nil {
		s.log.Warn("changed certificate not usable, keeping the old one", zap.Error(err))
		return
	}
	s.log.Info("certificate reloaded")
}
