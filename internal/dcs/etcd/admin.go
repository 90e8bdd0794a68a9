package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/pgha/pgha/internal/dcs"
)

// EndpointStatus is what one endpoint says about itself.
type EndpointStatus struct {
	Endpoint string
	Version  string
	Member   uint64 // the id of the server
	Leader   uint64 // the id of the leader it knows, zero for none
	Learner  bool
	RaftTerm uint64
	// RaftIndex and Applied are positions in the server's log.
	RaftIndex, Applied uint64
	DBSize             int64
	Problems           []string
	Err                error
}

// Member is one member of the store itself.
type Member struct {
	ID         uint64
	Name       string // empty: added, and never started
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
}

// Admin looks after the store's own members. No decision about PostgreSQL needs it.
type Admin struct{ s *Store }

// Admin gives the operations on the store's own members.
func (s *Store) Admin() *Admin { return &Admin{s} }

// MemberList gives the store's members.
func (a *Admin) MemberList(ctx context.Context) ([]Member, error) {
	resp, err := hedge(ctx, a.s, func(ctx context.Context, e *endpoint) (*pb.MemberListResponse, error) {
		return e.cluster.MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return members(resp.Members), nil
}

func members(in []*pb.Member) []Member {
	out := make([]Member, len(in))
	for i, m := range in {
		out[i] = Member{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner}
	}
	return out
}

// MoveLeader makes another member the store's leader. It asks the present leader, the only one that
// can do it, and is done at once if the target leads already.
func (a *Admin) MoveLeader(ctx context.Context, target uint64) error {
	ctx, cancel := a.s.bound(ctx)
	defer cancel()
	for _, st := range a.Status(ctx) {
		switch {
		case st.Err != nil || st.Leader == 0 || st.Leader != st.Member:
			continue
		case st.Leader == target:
			return nil
		}
		return a.moveFrom(ctx, st.Endpoint, target)
	}
	return fmt.Errorf("move leadership: %w: no endpoint is the store's leader", dcs.ErrUnavailable)
}

func (a *Admin) moveFrom(ctx context.Context, address string, target uint64) error {
	order, err := a.s.endpoints(ctx)
	if err != nil {
		return fmt.Errorf("move leadership: %w", err)
	}
	for _, e := range order {
		if e.target.address != address {
			continue
		}
		_, err := do(ctx, e, func(ctx context.Context, e *endpoint) (*pb.MoveLeaderResponse, error) {
			return e.maint.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: target})
		})
		if err != nil {
			_, err = judge(err)
			return fmt.Errorf("move leadership: %w", err)
		}
		return nil
	}
	return fmt.Errorf("move leadership: %w: endpoint %s is gone", dcs.ErrUnavailable, address)
}

// AddLearner adds a member that does not vote yet. An embedded member becomes a voter by itself when
// it has caught up.
func (a *Admin) AddLearner(ctx context.Context, peerURLs ...string) (Member, error) {
	resp, err := write(ctx, a.s, false, func(ctx context.Context, e *endpoint) (*pb.MemberAddResponse, error) {
		return e.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: peerURLs, IsLearner: true})
	}, func(r *pb.MemberAddResponse) bool { return r != nil })
	if err != nil {
		return Member{}, fmt.Errorf("add member: %w", err)
	}
	return members([]*pb.Member{resp.Member})[0], nil
}

// Remove takes a member out of the store.
func (a *Admin) Remove(ctx context.Context, member uint64) error {
	_, err := write(ctx, a.s, false, func(ctx context.Context, e *endpoint) (*pb.MemberRemoveResponse, error) {
		return e.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: member})
	}, func(r *pb.MemberRemoveResponse) bool { return r != nil })
	if err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	return nil
}

// ErrMajority says: without the member in question the others could not go on.
var ErrMajority = errors.New("the remaining members would lose the majority")

// CanStop says, as an error with the reason, why stopping one of the store's members now would take
// the majority from the others. It asks each other voter whether it runs and knows a leader.
func (a *Admin) CanStop(ctx context.Context, member uint64) error {
	ctx, cancel := a.s.bound(ctx)
	defer cancel()
	all, err := a.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("can stop: %w", err)
	}
	voters := slices.DeleteFunc(all, func(m Member) bool { return m.Learner })
	if !slices.ContainsFunc(voters, func(m Member) bool { return m.ID == member }) {
		return nil
	}
	alive := make([]bool, len(voters))
	var wg sync.WaitGroup
	for i, m := range voters {
		wg.Go(func() { alive[i] = m.ID != member && a.alive(ctx, m) })
	}
	wg.Wait()
	up, need := 0, len(voters)/2+1
	var down []string
	for i, m := range voters {
		switch {
		case alive[i]:
			up++
		case m.ID != member:
			down = append(down, m.Name)
		}
	}
	if up >= need {
		return nil
	}
	return fmt.Errorf("%w: %d of %d are needed and %d would be left; not answering: %s", ErrMajority, need, len(voters), up, strings.Join(down, ", "))
}

// alive asks a member over a connection of its own: it need not be among the endpoints.
func (a *Admin) alive(ctx context.Context, m Member) bool {
	for _, u := range m.ClientURLs {
		t, err := parseEndpoint(u, a.s.opts.Protocol, a.s.opts.DefaultPort)
		if err != nil {
			continue
		}
		e, err := newEndpoint(t, &a.s.opts)
		if err != nil {
			continue
		}
		st, err := do(ctx, e, func(ctx context.Context, e *endpoint) (*pb.StatusResponse, error) {
			return e.maint.Status(ctx, &pb.StatusRequest{})
		})
		_ = e.client.Close() // a connection for one question
		if err == nil && st.Leader != 0 && len(st.Errors) == 0 {
			return true
		}
	}
	return false
}

// Healthy says whether the store answers a linearizable read, and if not, why.
func (a *Admin) Healthy(ctx context.Context) error {
	_, err := a.s.Prove(ctx)
	if errors.Is(err, dcs.ErrAuth) {
		return nil // it answers, only not to us
	}
	return err
}
