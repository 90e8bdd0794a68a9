package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgha/pgha/internal/dcs"
)

// verdict is what an error says about the request.
type verdict uint8

const (
	// verdictFailed: no useful answer. Another endpoint may do better. For a write that was put on
	// the wire the outcome is unknown.
	verdictFailed verdict = iota
	// verdictRefused: certainly not carried out, and another endpoint may do better.
	verdictRefused
	// verdictFinal: certainly not carried out, and every endpoint would say the same.
	verdictFinal
)

// errStale marks an answer from a server that was left behind (row D-11).
var errStale = errors.New("the answer bears an older raft term than one already seen")

// judge translates an error at the border. The second result is what callers see.
func judge(err error) (verdict, error) {
	if err == nil {
		return verdictFinal, nil
	}
	if errors.Is(err, dcs.ErrLeaseNotFound) || errors.Is(err, dcs.ErrAuth) {
		return verdictFinal, err
	}
	st, ok := status.FromError(err)
	if !ok {
		return verdictFailed, fmt.Errorf("%w: %w", dcs.ErrUnavailable, err)
	}
	unavailable := fmt.Errorf("%w: %s", dcs.ErrUnavailable, st.Message())
	switch {
	case is(st, rpctypes.ErrGRPCLeaseNotFound):
		return verdictFinal, dcs.ErrLeaseNotFound
	case is(st, rpctypes.ErrGRPCAuthFailed), is(st, rpctypes.ErrGRPCPermissionDenied), is(st, rpctypes.ErrGRPCUserEmpty),
		is(st, rpctypes.ErrGRPCInvalidAuthToken), is(st, rpctypes.ErrGRPCAuthOldRevision), st.Code() == codes.Unauthenticated:
		return verdictFinal, fmt.Errorf("%w: %s", dcs.ErrAuth, st.Message())
	case is(st, rpctypes.ErrGRPCNoLeader), is(st, rpctypes.ErrGRPCRequestTooManyRequests), is(st, rpctypes.ErrGRPCNoSpace),
		is(st, rpctypes.ErrGRPCNotSupportedForLearner), is(st, rpctypes.ErrGRPCNotCapable), st.Code() == codes.Unimplemented:
		// These are said before the request is proposed, or (no space) instead of applying it.
		return verdictRefused, unavailable
	case st.Code() == codes.InvalidArgument:
		return verdictFinal, fmt.Errorf("the store refuses the request: %s", st.Message())
	default:
		return verdictFailed, unavailable
	}
}

// is compares by text, because versions of etcd differ in the codes they give.
func is(st *status.Status, want error) bool {
	return st.Message() == rpctypes.ErrorDesc(want)
}

// tokenRejected says that a fresh token may help (row D-16).
func tokenRejected(err error) bool {
	st, ok := status.FromError(err)
	if !ok {
		return false
	}
	return st.Code() == codes.Unauthenticated || is(st, rpctypes.ErrGRPCInvalidAuthToken) || is(st, rpctypes.ErrGRPCAuthOldRevision) ||
		is(st, rpctypes.ErrGRPCUserEmpty) || is(st, rpctypes.ErrGRPCPermissionDenied)
}

// authOff says that the store has no users, so no token is needed.
func authOff(err error) bool {
	st, ok := status.FromError(err)
	return ok && (is(st, rpctypes.ErrGRPCAuthNotEnabled) || strings.Contains(st.Message(), "authentication is not enabled"))
}

// unavailable is the error of a request that nobody answered in time.
func unavailable(ctx context.Context, last error) error {
	if last != nil {
		return last
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w: %w", dcs.ErrUnavailable, cause)
	}
	return dcs.ErrUnavailable
}
