package sim

import (
	"slices"
	"strings"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// known is what a value reads as, when whoever wrote it knows that already. Members and leaders
// publish their positions every few seconds, and text for those would be most of the work of a run.
// One value in some goes through the codec all the same, and then both readings must agree.
type known struct {
	member *election.Member
	status *election.Status
	// calm: nothing but positions differs from the value before.
	calm bool
}

// codecEvery is how many known values pass for one that goes through the codec.
const codecEvery = 64

// decoded is the present content as the codec reads it. Snapshots share what did not change.
func (s *store) decoded() *election.Cluster {
	if s.cluster != nil && s.clusterR == s.rev {
		return s.cluster
	}
	c := new(election.Cluster)
	if s.cluster == nil || slices.ContainsFunc(s.dirty, wholeOnly) {
		*c = dcs.Decode(*s.snapshot())
		for _, k := range s.keys {
			s.overlay(c, k)
		}
	} else {
		*c = *s.cluster
		c.Revision, c.ClusterID = s.rev, s.id
		for _, key := range s.dirty {
			s.refresh(c, key)
		}
	}
	s.cluster, s.clusterR, s.dirty = c, s.rev, s.dirty[:0]
	return c
}

// wholeOnly says that a change of the key may change the reading of others.
func wholeOnly(key string) bool {
	return key != dcs.KeyLeader && key != dcs.KeyStatus && !strings.HasPrefix(key, dcs.PrefixMembers)
}

// refresh reads one key anew.
func (s *store) refresh(c *election.Cluster, key string) {
	k, there := s.get(key)
	switch {
	case key == dcs.KeyLeader && !there:
		c.Leader = election.Leader{}
	case key == dcs.KeyLeader:
		c.Leader = dcs.DecodeLeader(k.out())
	case key == dcs.KeyStatus && there && k.known.status == nil:
		c.Status = dcs.DecodeStatus(k.out())
	case key == dcs.KeyStatus && !there:
		c.Status = election.Status{}
	case there && k.known.member == nil && key != dcs.KeyStatus:
		c.Members = withMember(c.Members, dcs.DecodeMember(k.out()))
	case there:
		s.overlay(c, k)
	default:
		name := strings.TrimPrefix(key, dcs.PrefixMembers)
		c.Members = slices.DeleteFunc(slices.Clone(c.Members), func(m election.Member) bool { return m.Name == name })
	}
}

// overlay puts in what is known of a key without its text.
func (s *store) overlay(c *election.Cluster, k kv) {
	if m := k.known.member; m != nil {
		next := *m
		next.ModRevision, next.Lease = k.mod, k.lease
		c.Members = withMember(c.Members, next)
	}
	if st := k.known.status; st != nil {
		c.Status = *st
		c.Status.ModRevision = k.mod
	}
}

// withMember gives the list with one member in its place. The list itself stays as it is.
func withMember(list []election.Member, m election.Member) []election.Member {
	i, there := slices.BinarySearchFunc(list, m.Name, func(x election.Member, name string) int { return strings.Compare(x.Name, name) })
	if there {
		list = slices.Clone(list)
		list[i] = m
		return list
	}
	return slices.Insert(slices.Clip(list), i, m)
}
