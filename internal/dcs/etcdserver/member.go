package etcdserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ErrMajority says: without this member the others could not go on.
var ErrMajority = errors.New("the remaining members would lose the majority")

// Member is a running member.
type Member struct {
	cfg  *Config
	etcd *embed.Etcd
	log  *zap.Logger
	// endStreams ends all open watches and keep-alives.
	endStreams context.CancelFunc
}

// Run runs a member until ctx ends, and then stops it in good order: leadership goes to another
// member first. It gives an error if the member cannot start or ends by itself.
func Run(ctx context.Context, cfg Config, log *zap.Logger) error {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("embedded etcd: configuration: %w", err)
	}
	existing, err := cfg.hasData()
	if err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	if !existing {
		if err := cfg.mayStartEmpty(ctx); err != nil {
			return fmt.Errorf("embedded etcd: %w", err)
		}
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("embedded etcd: data directory: %w", err)
	}
	streams, endStreams := context.WithCancel(context.Background())
	defer endStreams()
	settings := cfg.embedded(existing, quiet(streams, log, cfg.LogInfo))
	settings.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endingWith(streams))}
	e, err := embed.StartEtcd(settings)
	if err != nil {
		return fmt.Errorf("embedded etcd: start: %w", err)
	}
	m := &Member{cfg: &cfg, etcd: e, log: log.Named("etcd"), endStreams: endStreams}
	defer m.close()
	return m.serve(ctx)
}

// close ends the member. Open watches are ended first: a graceful stop would wait seconds for them.
// A server that never became ready must be ended before its listeners, which otherwise wait for it
// without end.
func (m *Member) close() {
	m.endStreams()
	select {
	case <-m.etcd.Server.ReadyNotify():
	default:
		m.etcd.Server.HardStop()
	}
	m.etcd.Close()
}

// endingWith makes every stream end with a context.
func endingWith(end context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(end, cancel)()
		return handler(srv, &endingStream{ServerStream: stream, ctx: ctx})
	}
}

// endingStream is a stream with a context of its own.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // that is how gRPC hands a stream's context to its handler
}

func (s *endingStream) Context() context.Context { return s.ctx }

func (m *Member) serve(ctx context.Context) error {
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return nil
	case err := <-m.etcd.Err():
		return fmt.Errorf("embedded etcd: %w", err)
	case <-m.etcd.Server.StopNotify():
		return errors.New("embedded etcd: the server stopped before it was ready")
	}
	s := m.etcd.Server
	if err := m.cfg.writeNote(s.Cluster().ID().String(), s.MemberID().String()); err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	m.log.Info("etcd member is ready", zap.String("member_id", s.MemberID().String()), zap.Bool("learner", s.IsLearner()))
	if m.cfg.Ready != nil {
		m.cfg.Ready(m)
	}
	promoted := make(chan struct{})
	promoteCtx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(promoted)
		m.becomeVoter(promoteCtx)
	}()
	defer func() { cancel(); <-promoted }()
	select {
	case <-ctx.Done():
		m.moveLeadership()
		return nil
	case err := <-m.etcd.Err():
		return fmt.Errorf("embedded etcd: %w", err)
	case <-s.StopNotify():
		return errors.New("embedded etcd: the server stopped by itself; it may have been removed from the cluster")
	}
}

// moveLeadership gives leadership away while clients are still served, so that they see no gap.
func (m *Member) moveLeadership() {
	if err := m.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
		m.log.Warn("leadership was not moved before stopping", zap.Error(err))
	}
}

// becomeVoter promotes a learner once it has caught up. The cluster itself says when that is.
func (m *Member) becomeVoter(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for m.etcd.Server.IsLearner() {
		if _, err := m.etcd.Server.PromoteMember(ctx, uint64(m.etcd.Server.MemberID())); err == nil {
			m.log.Info("this learner became a voter")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ID is the member's id in its cluster.
func (m *Member) ID() uint64 { return uint64(m.etcd.Server.MemberID()) }

// IsLeader says whether this member leads its cluster, as far as it knows.
func (m *Member) IsLeader() bool { return m.etcd.Server.Leader() == m.etcd.Server.MemberID() }

// ClientURL is where this member serves clients.
func (m *Member) ClientURL() string {
	u := url.URL{Scheme: m.cfg.ClientTLS.scheme(), Host: m.cfg.AdvertiseClient}
	return u.String()
}

// CanStop says, as an error with the reason, why stopping this member now would take the majority
// from the others: it asks each other voter whether it runs and has a leader.
func (m *Member) CanStop(ctx context.Context) error {
	voters := slices.DeleteFunc(m.etcd.Server.Cluster().Members(), func(v *membership.Member) bool { return v.IsLearner })
	own := m.etcd.Server.MemberID()
	var up, down []string
	votes := false
	others := make([]*membership.Member, 0, len(voters))
	for _, v := range voters {
		if v.ID == own {
			votes = true
			continue
		}
		others = append(others, v)
	}
	if !votes {
		return nil // a learner counts for nothing
	}
	results := make([]chan bool, len(others))
	for i, v := range others {
		results[i] = make(chan bool, 1)
		go func() { results[i] <- m.alive(ctx, v.ClientURLs) }()
	}
	for i, v := range others {
		if <-results[i] {
			up = append(up, v.Name)
		} else {
			down = append(down, v.Name)
		}
	}
	if len(others) == 0 {
		return nil // a cluster of one is stopped by stopping it
	}
	need := len(voters)/2 + 1
	if len(up) >= need {
		return nil
	}
	return fmt.Errorf("%w: %d of %d are needed; without this member there would be: %s; not answering: %s",
		ErrMajority, need, len(voters), hostsOf(up), hostsOf(down))
}

// alive asks one member whether it runs and knows a leader.
func (m *Member) alive(ctx context.Context, urls []string) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		creds := insecure.NewCredentials()
		if u.Scheme == "https" {
			cfg, err := m.clientTLS()
			if err != nil {
				continue
			}
			creds = credentials.NewTLS(cfg)
		}
		conn, err := grpc.NewClient("passthrough:///"+u.Host, grpc.WithTransportCredentials(creds), grpc.WithNoProxy())
		if err != nil {
			continue
		}
		st, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		_ = conn.Close() // a connection for one question
		if err == nil && st.Leader != 0 && len(st.Errors) == 0 {
			return true
		}
	}
	return false
}

// clientTLS uses the member's own certificate towards the others' client ports.
func (m *Member) clientTLS() (*tls.Config, error) {
	return m.cfg.ClientTLS.info().ClientConfig()
}
