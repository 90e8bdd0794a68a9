package etcd

import (
	"context"
	"fmt"
	"sync"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ServerVersion is the version of one endpoint's server, or why it is not known.
type ServerVersion struct {
	Endpoint string
	Version  string
	Err      error
}

// Version asks every endpoint for its version, in parallel.
func (s *Store) Version(ctx context.Context) []ServerVersion {
	statuses := s.Admin().Status(ctx)
	out := make([]ServerVersion, len(statuses))
	for i, st := range statuses {
		out[i] = ServerVersion{Endpoint: st.Endpoint, Version: st.Version, Err: st.Err}
	}
	return out
}

// KnownStaleLessor says whether a version of etcd has one of the known faults by which a server that
// lost its leadership goes on answering for leases, or ends live ones (etcd issue 15247), and says
// which and what helps. An unknown version is not accused.
//
// By etcd's change logs: wrongly revoked leases are fixed in 3.4.31, 3.5.13 and 3.6.0, success for
// the renewal of a lease that is gone already in 3.4.38, 3.5.23 and 3.6.5.
func KnownStaleLessor(version string) (bool, string) {
	v, err := semver.NewVersion(version)
	if err != nil {
		return false, ""
	}
	older := func(minor, patch int64) bool {
		return v.Major == 3 && v.Minor == minor && v.LessThan(semver.Version{Major: 3, Minor: minor, Patch: patch})
	}
	switch {
	case v.Major < 3 || (v.Major == 3 && v.Minor < 4):
		return true, fmt.Sprintf("etcd %s: a deposed leader may answer keep-alives and revoke live leases (etcd issue 15247), "+
			"and there is no fix for this series; use 3.5.23, 3.6.5 or later", version)
	case older(4, 31), older(5, 13):
		return true, fmt.Sprintf("etcd %s: a deposed leader may answer keep-alives and revoke live leases (etcd issue 15247); "+
			"fixed in 3.4.31 and 3.5.13, use 3.5.23, 3.6.5 or later", version)
	case older(4, 38), older(5, 23), older(6, 5):
		return true, fmt.Sprintf("etcd %s: the renewal of a lease that is just being revoked may be answered with success (etcd issue 20547); "+
			"fixed in 3.4.38, 3.5.23 and 3.6.5", version)
	default:
		return false, ""
	}
}

// Status asks every endpoint for its state, in parallel. The order is that of preference.
func (a *Admin) Status(ctx context.Context) []EndpointStatus {
	ctx, cancel := a.s.bound(ctx)
	defer cancel()
	order, err := a.s.endpoints(ctx)
	if err != nil {
		return []EndpointStatus{{Err: err}}
	}
	out := make([]EndpointStatus, len(order))
	var wg sync.WaitGroup
	for i, e := range order {
		wg.Go(func() {
			out[i] = EndpointStatus{Endpoint: e.target.address}
			resp, err := do(ctx, e, func(ctx context.Context, e *endpoint) (*pb.StatusResponse, error) {
				return e.maint.Status(ctx, &pb.StatusRequest{})
			})
			if err != nil {
				_, out[i].Err = judge(err)
				return
			}
			out[i].Version, out[i].Leader, out[i].Learner = resp.Version, resp.Leader, resp.IsLearner
			out[i].Member, out[i].RaftTerm = resp.Header.GetMemberId(), resp.RaftTerm
			out[i].RaftIndex, out[i].Applied = resp.RaftIndex, resp.RaftAppliedIndex
			out[i].DBSize, out[i].Problems = resp.DbSize, resp.Errors
		})
	}
	wg.Wait()
	return out
}
