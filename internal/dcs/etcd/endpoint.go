package etcd

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/pgha/pgha/internal/dcs"
)

// endpoint is one server with its one connection, which exists only while it is used.
type endpoint struct {
	target     target
	discovered bool // by asking the store, not by configuration
	client     *clientv3.Client
	kv         pb.KVClient
	lease      pb.LeaseClient
	watch      pb.WatchClient
	cluster    pb.ClusterClient
	maint      pb.MaintenanceClient

	user, password string
	auth           pb.AuthClient
	login          chan struct{} // holds one value while nobody reads or changes the token
	token          string
	authOff        bool
}

// Buffers and windows are small: an agent's values are a few hundred bytes, and it must idle in a
// few megabytes.
const (
	bufferSize   = 4 << 10
	windowSize   = 64 << 10
	maxAnswer    = 32 << 20
	connIdle     = 2 * time.Minute
	redialAtMost = time.Second
)

func newEndpoint(t target, o *Options) (*endpoint, error) {
	creds := insecure.NewCredentials()
	if t.secure {
		creds = newFreshTLS(o.TLS)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{t.address}, DialOptions: dialOptions(o, creds), Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", t.address, err)
	}
	conn := client.ActiveConnection()
	login := make(chan struct{}, 1)
	login <- struct{}{}
	return &endpoint{
		login: login, target: t, client: client, user: o.Username, password: o.Password,
		kv: pb.NewKVClient(conn), lease: pb.NewLeaseClient(conn), watch: pb.NewWatchClient(conn),
		cluster: pb.NewClusterClient(conn), maint: pb.NewMaintenanceClient(conn), auth: pb.NewAuthClient(conn),
	}, nil
}

func dialOptions(o *Options, creds credentials.TransportCredentials) []grpc.DialOption {
	dial := o.Dial
	return []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial(ctx, address) }),
		grpc.WithNoProxy(),
		grpc.WithReadBufferSize(bufferSize), grpc.WithWriteBufferSize(bufferSize),
		grpc.WithStaticStreamWindowSize(windowSize), grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(),
		grpc.WithIdleTimeout(connIdle),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialAtMost},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithStatsHandler(sentHandler{}),
	}
}

// sentKey finds the flag that tells whether a request was put on the wire.
type sentKey struct{}

// withSent gives a context whose request sets the flag once its header goes to the transport.
// Before that the server cannot know of it.
func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return context.WithValue(ctx, sentKey{}, sent), sent
}

// sentHandler sets the flag of withSent.
type sentHandler struct{}

func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentHandler) HandleConn(context.Context, stats.ConnStats)                       {}
func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); !ok {
		return
	}
	markSent(ctx)
}

func markSent(ctx context.Context) {
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

// do sends one request, with a token where users are configured, and once more with a fresh token
// if the first was refused. A request that was refused for its token was not carried out.
func do[T any](ctx context.Context, e *endpoint, call func(context.Context, *endpoint) (T, error)) (T, error) {
	// Without this a server that lost its leader would sit on the request instead of saying so.
	ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	if e.user == "" {
		return call(ctx, e)
	}
	var zero T
	for attempt := 0; ; attempt++ {
		token, err := e.currentToken(ctx)
		if err != nil {
			return zero, err
		}
		callCtx := ctx
		if token != "" {
			callCtx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		}
		v, err := call(callCtx, e)
		if err == nil || attempt > 0 || !tokenRejected(err) {
			return v, err
		}
		e.dropToken(ctx, token)
	}
}

// currentToken logs in if there is no token yet.
func (e *endpoint) currentToken(ctx context.Context) (string, error) {
	select {
	case <-e.login:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { e.login <- struct{}{} }()
	if e.token != "" || e.authOff {
		return e.token, nil
	}
	// The flag of a write is not for the log-in.
	resp, err := e.auth.Authenticate(context.WithValue(ctx, sentKey{}, nil), &pb.AuthenticateRequest{Name: e.user, Password: e.password})
	if authOff(err) {
		e.authOff = true
		return "", nil
	}
	if err != nil {
		v, translated := judge(err)
		if v == verdictFinal {
			return "", fmt.Errorf("log in as %q: %w", e.user, asAuth(translated))
		}
		return "", fmt.Errorf("log in as %q: %w", e.user, translated)
	}
	e.token = resp.Token
	return e.token, nil
}

// asAuth makes a definite refusal of the log-in an ErrAuth, whatever its text.
func asAuth(err error) error {
	return fmt.Errorf("%w: %w", dcs.ErrAuth, err)
}

// dropToken forgets a token that was refused, unless another call has replaced it meanwhile.
func (e *endpoint) dropToken(ctx context.Context, token string) {
	select {
	case <-e.login:
	case <-ctx.Done():
		return
	}
	defer func() { e.login <- struct{}{} }()
	if e.token == token {
		e.token, e.authOff = "", false
	}
}
