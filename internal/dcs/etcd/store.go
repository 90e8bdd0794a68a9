package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/dcs"
)

// Store is a consensus store on etcd, seen from one cluster's base path.
type Store struct {
	opts   Options
	prefix string
	log    *zap.Logger

	closed chan struct{}
	once   sync.Once
	wg     sync.WaitGroup // watches and look-ups

	mu         sync.Mutex
	order      []*endpoint // the one to ask first is first
	retired    []*endpoint // no longer listed; closed with the store
	clusterID  uint64
	term       uint64
	discovered time.Time // when endpoints were last looked up
	looking    bool
	following  map[*watcher]*endpoint // where each watch has its stream
}

var _ dcs.Store = (*Store)(nil)

// New makes a store. It does not wait for any connection: an agent must start, and say what is
// wrong, while the store is away.
func New(o Options) (*Store, error) {
	o.setDefaults()
	if o.BasePath == "" {
		return nil, errors.New("etcd: the base path is empty")
	}
	if len(o.Endpoints) == 0 && o.SRV == "" {
		return nil, errors.New("etcd: no endpoint and no service record is configured")
	}
	if _, err := o.TLS.clientTLS(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	s := &Store{opts: o, prefix: strings.TrimRight(o.BasePath, "/") + "/", log: o.Logger.Named("etcd"), closed: make(chan struct{})}
	for _, text := range o.Endpoints {
		t, err := parseEndpoint(text, o.Protocol, o.DefaultPort)
		if err == nil {
			err = s.addEndpoint(t, false)
		}
		if err != nil {
			_ = s.Close() // nothing is open yet that could fail to close
			return nil, fmt.Errorf("etcd: %w", err)
		}
	}
	return s, nil
}

// addEndpoint appends an endpoint unless it is known.
func (s *Store) addEndpoint(t target, discovered bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		if e.target == t {
			return nil
		}
	}
	e, err := newEndpoint(t, &s.opts)
	if err != nil {
		return err
	}
	e.discovered = discovered
	s.order = append(s.order, e)
	return nil
}

// Close implements dcs.Store. It waits until every watch has ended.
func (s *Store) Close() error {
	// Under the lock, so that nothing is added to the group once it is waited for.
	s.mu.Lock()
	s.once.Do(func() { close(s.closed) })
	s.mu.Unlock()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, e := range append(s.order, s.retired...) {
		errs = append(errs, e.client.Close())
	}
	s.order, s.retired = nil, nil
	return errors.Join(errs...)
}

// endpoints gives the present order, looking it up first where it comes from service records.
func (s *Store) endpoints(ctx context.Context) ([]*endpoint, error) {
	s.mu.Lock()
	order := slices.Clone(s.order)
	s.mu.Unlock()
	if len(order) > 0 {
		s.discoverSoon()
		return order, nil
	}
	if s.isClosed() {
		return nil, fmt.Errorf("%w: the store is closed", dcs.ErrUnavailable)
	}
	if err := s.discover(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		return nil, fmt.Errorf("%w: no endpoint is known", dcs.ErrUnavailable)
	}
	return slices.Clone(s.order), nil
}

// prefer moves the endpoint that answered in front of those that were asked before it.
func (s *Store) prefer(winner *endpoint, slower []*endpoint) {
	if len(slower) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range slower {
		s.toEndLocked(e)
	}
	s.log.Debug("endpoint preferred", zap.String("endpoint", winner.target.address))
}

// demote moves an endpoint to the end of the order.
func (s *Store) demote(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toEndLocked(e)
}

// doubt has the watches on an endpoint probe it now: it is slow to answer something else.
func (s *Store) doubt(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubtLocked(e)
}

func (s *Store) doubtLocked(e *endpoint) {
	for w, on := range s.following {
		if on != e {
			continue
		}
		select {
		case w.doubts <- struct{}{}:
		default: // it is about to
		}
	}
}

// probeAfter is how long a watch on an endpoint may be silent. Where requests go elsewhere, none of them
// would be slow if it died.
func (s *Store) probeAfter(e *endpoint) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) > 0 && s.order[0] == e {
		return s.opts.WatchProbe
	}
	return min(s.opts.WatchProbe, probeUnasked)
}

// follows notes where a watch has its stream; nil: nowhere.
func (s *Store) follows(w *watcher, e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e == nil {
		delete(s.following, w)
		return
	}
	if s.following == nil {
		s.following = make(map[*watcher]*endpoint)
	}
	s.following[w] = e
}

func (s *Store) toEndLocked(e *endpoint) {
	s.doubtLocked(e)
	if i := slices.Index(s.order, e); i >= 0 {
		s.order = append(slices.Delete(s.order, i, i+1), e)
	}
}

// checkTerm refuses an answer from a server that was left behind (row D-11). A change of cluster id
// starts afresh; deciding about that is the agent's affair, which gets the id with every snapshot.
func (s *Store) checkTerm(h *pb.ResponseHeader) error {
	if h == nil {
		return fmt.Errorf("%w: an answer without a header", dcs.ErrUnavailable)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.ClusterId != s.clusterID {
		s.clusterID, s.term = h.ClusterId, h.RaftTerm
		return nil
	}
	if h.RaftTerm < s.term {
		return errStale
	}
	s.term = h.RaftTerm
	return nil
}

// bound gives the context of one operation.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opts.RequestTimeout)
}

func (s *Store) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// spawn runs something that Close stops and waits for. False: the store is closed already.
func (s *Store) spawn(ctx context.Context, run func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	s.wg.Go(func() {
		defer cancel()
		run(ctx)
	})
	s.wg.Go(func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	return true
}
