package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Load implements dcs.Store.
func (s *Store) Load(ctx context.Context) (dcs.Snapshot, error) {
	snap, err := hedge(ctx, s, s.load)
	if err != nil {
		return dcs.Snapshot{}, fmt.Errorf("load: %w", err)
	}
	return snap, nil
}

func (s *Store) load(ctx context.Context, e *endpoint) (dcs.Snapshot, error) {
	resp, err := e.kv.Range(ctx, &pb.RangeRequest{Key: []byte(s.prefix), RangeEnd: prefixEnd(s.prefix)})
	if err != nil {
		return dcs.Snapshot{}, err
	}
	if err := s.checkTerm(resp.Header); err != nil {
		return dcs.Snapshot{}, err
	}
	snap := dcs.Snapshot{Revision: resp.Header.Revision, ClusterID: resp.Header.ClusterId, RaftTerm: resp.Header.RaftTerm}
	for _, kv := range resp.Kvs {
		snap.KVs = append(snap.KVs, s.keyValue(kv))
	}
	return snap, nil
}

// keyValue makes a stored pair relative to the base path.
func (s *Store) keyValue(kv *mvccpb.KeyValue) dcs.KV {
	return dcs.KV{
		Key:            strings.TrimPrefix(string(kv.Key), s.prefix),
		Value:          kv.Value,
		CreateRevision: kv.CreateRevision,
		ModRevision:    kv.ModRevision,
		Lease:          election.LeaseID(kv.Lease),
	}
}

// prefixEnd is the first key after all those with a prefix.
func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// Prove implements dcs.Store.
func (s *Store) Prove(ctx context.Context) (dcs.Proof, error) {
	proof, err := hedge(ctx, s, func(ctx context.Context, e *endpoint) (dcs.Proof, error) {
		resp, err := e.kv.Range(ctx, &pb.RangeRequest{Key: []byte(s.prefix + dcs.KeyLeader)})
		if err != nil {
			return dcs.Proof{}, err
		}
		if err := s.checkTerm(resp.Header); err != nil {
			return dcs.Proof{}, err
		}
		p := dcs.Proof{RaftTerm: resp.Header.RaftTerm, Revision: resp.Header.Revision}
		if len(resp.Kvs) > 0 {
			p.Leader, p.Present = s.keyValue(resp.Kvs[0]), true
		}
		return p, nil
	})
	if err != nil {
		return dcs.Proof{}, fmt.Errorf("prove ownership: %w", err)
	}
	return proof, nil
}

// Grant implements dcs.Store. A grant whose answer was lost leaves a lease that nobody keeps alive.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (dcs.Grant, error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	g, err := hedge(ctx, s, func(ctx context.Context, e *endpoint) (dcs.Grant, error) {
		resp, err := e.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: max(seconds, 1)})
		if err != nil {
			return dcs.Grant{}, err
		}
		if resp.Error != "" {
			return dcs.Grant{}, fmt.Errorf("etcd: %s", resp.Error)
		}
		return dcs.Grant{ID: election.LeaseID(resp.ID), TTL: time.Duration(resp.TTL) * time.Second}, nil
	})
	if err != nil {
		return dcs.Grant{}, fmt.Errorf("grant lease: %w", err)
	}
	return g, nil
}

// KeepAlive implements dcs.Store.
func (s *Store) KeepAlive(ctx context.Context, id election.LeaseID) (dcs.KeepAlive, error) {
	k, err := hedge(ctx, s, func(ctx context.Context, e *endpoint) (dcs.KeepAlive, error) {
		return s.keepAliveOnce(ctx, e, id)
	})
	if err != nil {
		return dcs.KeepAlive{}, fmt.Errorf("keep lease alive: %w", err)
	}
	return k, nil
}

// keepAliveOnce opens a stream for one question and one answer. A stream that stays open has no
// request ids, so a late answer would pass for that of a later question (safety review, hole 6).
func (s *Store) keepAliveOnce(ctx context.Context, e *endpoint, id election.LeaseID) (dcs.KeepAlive, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := e.lease.LeaseKeepAlive(ctx)
	if err != nil {
		return dcs.KeepAlive{}, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil && !errors.Is(err, io.EOF) {
		return dcs.KeepAlive{}, err
	}
	resp, err := stream.Recv()
	if err != nil {
		return dcs.KeepAlive{}, err
	}
	if err := s.checkTerm(resp.Header); err != nil {
		return dcs.KeepAlive{}, err
	}
	if resp.ID != int64(id) {
		return dcs.KeepAlive{}, fmt.Errorf("%w: answer for lease %x", dcs.ErrUnavailable, resp.ID)
	}
	if resp.TTL <= 0 {
		return dcs.KeepAlive{}, dcs.ErrLeaseNotFound
	}
	return dcs.KeepAlive{TTL: time.Duration(resp.TTL) * time.Second, RaftTerm: resp.Header.RaftTerm}, nil
}

// LeaseGone implements dcs.Store.
func (s *Store) LeaseGone(ctx context.Context, id election.LeaseID) (bool, error) {
	gone, err := hedge(ctx, s, func(ctx context.Context, e *endpoint) (bool, error) {
		return s.leaseGone(ctx, e, id)
	})
	if err != nil {
		return false, fmt.Errorf("look for lease: %w", err)
	}
	return gone, nil
}

// leaseGone first makes sure that the endpoint has applied everything that was committed when the
// question was asked, and then looks into that same endpoint's own list.
func (s *Store) leaseGone(ctx context.Context, e *endpoint, id election.LeaseID) (bool, error) {
	read, err := e.kv.Range(ctx, &pb.RangeRequest{Key: []byte(s.prefix + dcs.KeyLeader), KeysOnly: true})
	if err != nil {
		return false, err
	}
	if err := s.checkTerm(read.Header); err != nil {
		return false, err
	}
	resp, err := e.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unimplemented {
		return s.leaseGoneOnLeader(ctx, e, id, read.Header.MemberId)
	}
	if err != nil {
		return false, err
	}
	if resp.Header.GetMemberId() != read.Header.MemberId || resp.Header.GetClusterId() != read.Header.ClusterId {
		return false, fmt.Errorf("%w: two servers answer at one endpoint", dcs.ErrUnavailable)
	}
	return !slices.ContainsFunc(resp.Leases, func(l *pb.LeaseStatus) bool { return l.ID == int64(id) }), nil
}

// leaseGoneOnLeader is for users who may not list leases, because others' keys hang on some. Time to
// live needs no such right, but only the leader answers it from what it has itself applied.
func (s *Store) leaseGoneOnLeader(ctx context.Context, e *endpoint, id election.LeaseID, member uint64) (bool, error) {
	st, err := e.maint.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return false, err
	}
	if st.Leader != member || st.Header.GetMemberId() != member {
		return false, fmt.Errorf("%w: only the store's leader can tell, and this endpoint is not it", dcs.ErrUnavailable)
	}
	ttl, err := e.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: int64(id)})
	if err != nil {
		return false, err
	}
	if ttl.Header.GetMemberId() != member {
		return false, fmt.Errorf("%w: two servers answer at one endpoint", dcs.ErrUnavailable)
	}
	return ttl.TTL < 0, nil
}

// Revoke implements dcs.Store.
func (s *Store) Revoke(ctx context.Context, id election.LeaseID) error {
	// A lease that is gone cannot be revoked again, and ids are never given twice: repeating is
	// harmless, but "not found" may then be the work of an earlier copy.
	_, err := write(ctx, s, true, func(ctx context.Context, e *endpoint) (bool, error) {
		_, err := e.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: int64(id)})
		return err == nil, err
	}, func(done bool) bool { return done })
	if err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}
