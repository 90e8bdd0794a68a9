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

// wholeOnly says that a change of the key may change the reading of others, or that it changes too seldom
// to be worth a reading of its own.
func wholeOnly(key string) bool {
	switch key {
	case dcs.KeyLeader, dcs.KeyConfig, dcs.KeyStatus, dcs.KeySync, dcs.KeyFailsafe, dcs.KeyEpoch, dcs.KeyRelease, dcs.KeyFailover, dcs.KeyHistory:
		return false
	}
	return !strings.HasPrefix(key, dcs.PrefixMembers) && !strings.HasPrefix(key, dcs.PrefixVote) && !strings.HasPrefix(key, dcs.PrefixOffer)
}

// refresh reads one key anew. A key that is gone reads as one that never was.
func (s *store) refresh(c *election.Cluster, key string) {
	k, there := s.get(key)
	kv := k.out()
	switch key {
	case dcs.KeyLeader:
		c.Leader = onlyIf(there, dcs.DecodeLeader, kv)
	case dcs.KeyConfig:
		c.ConfigRev = 0
		if _, ok := s.w.config.read(k.value); ok {
			c.ConfigRev = k.mod
		}
	case dcs.KeyStatus:
		if c.Status = (election.Status{}); there && k.known.status == nil {
			c.Status = dcs.DecodeStatus(kv)
		} else if there {
			s.overlay(c, k)
		}
	case dcs.KeySync:
		// The names in it are spelled as the members spell theirs, which is all the same here.
		c.Sync = onlyIf(there, dcs.DecodeSync, kv)
	case dcs.KeyFailsafe:
		c.Failsafe, c.FailsafeRev = nil, k.mod
		if there {
			c.Failsafe = dcs.DecodeFailsafe(k.value)
		}
	case dcs.KeyEpoch:
		c.Reign = onlyIf(there, dcs.DecodeReign, kv)
	case dcs.KeyRelease:
		c.Release = onlyIf(there, dcs.DecodeRelease, kv)
	case dcs.KeyFailover:
		c.Failover = onlyIf(there, dcs.DecodeFailover, kv)
	case dcs.KeyHistory:
		c.History, c.HistorySeen, c.HistoryRev = nil, false, k.mod
		if there {
			c.History, c.HistorySeen = dcs.DecodeHistory(k.value)
		}
	default:
		s.refreshNamed(c, key, k, there)
	}
}

// onlyIf reads a key that is there.
func onlyIf[T any](there bool, read func(dcs.KV) T, kv dcs.KV) (out T) {
	if there {
		out = read(kv)
	}
	return out
}

// refreshNamed reads a key that one member has of its own.
func (s *store) refreshNamed(c *election.Cluster, key string, k kv, there bool) {
	if name, ok := strings.CutPrefix(key, dcs.PrefixVote); ok {
		c.Votes = replaced(c.Votes, name, there, func(v election.Vote) string { return v.Name }, dcs.DecodeVote, k)
		return
	}
	if name, ok := strings.CutPrefix(key, dcs.PrefixOffer); ok {
		c.Offers = replaced(c.Offers, name, there, func(o election.Offer) string { return o.Name }, dcs.DecodeOffer, k)
		return
	}
	if there && k.known.member != nil {
		s.overlay(c, k)
		return
	}
	c.Members = replaced(c.Members, strings.TrimPrefix(key, dcs.PrefixMembers), there, func(m election.Member) string { return m.Name }, dcs.DecodeMember, k)
}

// replaced gives a sorted list with one element read anew, or without it. The list itself stays as it is.
func replaced[T any](list []T, name string, there bool, nameOf func(T) string, read func(dcs.KV) T, k kv) []T {
	i, had := slices.BinarySearchFunc(list, name, func(x T, name string) int { return strings.Compare(nameOf(x), name) })
	switch {
	case had && there:
		list = slices.Clone(list)
		list[i] = read(k.out())
	case had:
		list = slices.Delete(slices.Clone(list), i, i+1)
	case there:
		list = slices.Insert(slices.Clip(list), i, read(k.out()))
	}
	return list
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
