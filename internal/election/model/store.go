package model

import (
	"fmt"
	"strings"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// content is everything in the store, decoded to bytes and comparable, so that equal contents are one.
type content struct {
	major    uint8 // counts writes of the keys whose order matters
	leader   leaderKey
	gone     leaderKey // the last leader key that was deleted
	reign    reignKey
	release  releaseKey
	failover failoverKey
	status   statusKey
	sync     syncKey
	failsafe failsafeKey
	offers   [maxMembers]offerKey
	votes    [maxMembers]voteKey
}

type leaderKey struct {
	name  uint8 // plus one; zero: absent
	rev   revision
	lease leaseID
}

type reignKey struct {
	epoch, holder, parent, next, pos uint8
	lease                            leaseID
	rev                              revision
}

type releaseKey struct {
	of             revision
	name, pos, tli uint8
	rev            revision
}

type failoverKey struct {
	leader, candidate uint8 // plus one
	rev               revision
}

type statusKey struct {
	pos uint8
	rev revision
}

type voterSet struct {
	mask, wait, quorum uint8
	data               [maxMembers]uint8
}

type syncKey struct {
	leader, quorum, standbys uint8
	has, epoch, data, sets   uint8
	set                      [maxSets]voterSet
	rev                      revision
	present                  uint8
}

type failsafeKey struct {
	mask uint8
	rev  revision
}

type offerKey struct {
	present uint8
	lease   leaseID
	of      revision
	rev     revision
}

type voteKey struct {
	present, data, epoch, tli, pos uint8
	of                             revision
	rev                            revision
}

// txnKind says what an agent does with the answer.
type txnKind uint8

const (
	txnPlain txnKind = iota
	txnAcquire
	txnTakeOver
	txnRelease
	txnHandOver
	txnVote
	txnWithdraw
	txnSync
)

// takes says that a request takes the key for its sender.
func (k txnKind) takes() bool { return k == txnAcquire || k == txnTakeOver }

// transaction is an interned dcs.Txn with what belongs to it.
type transaction struct {
	kind  txnKind
	owner int
	name  string
	txn   dcs.Txn
	next  uint8 // reserved timeline of an acquisition
	epoch uint8
}

// names of the members, and what they are called in addresses.
func nameOf(i int) string { return string(rune('a' + i)) }

func indexOf(name string) int {
	if len(name) != 1 || name[0] < 'a' || name[0] >= 'a'+maxMembers {
		return -1
	}
	return int(name[0] - 'a')
}

// plusOne is indexOf with zero for nobody.
func plusOne(name string) uint8 { return uint8(indexOf(name) + 1) }

// Positions and copies of the data in the terms of the core. The unit of a position is arbitrary.
const (
	lsnBase = 0x1000
	lsnUnit = 0x10
)

func lsnOf(pos uint8) election.LSN {
	if pos == 0 {
		return 0
	}
	return lsnBase + lsnUnit*election.LSN(pos)
}

func posOf(l election.LSN) uint8 {
	if l < lsnBase {
		return 0
	}
	return uint8((l - lsnBase) / lsnUnit)
}

func dataID(member int, n uint8) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s%d", nameOf(member), n)
}

func dataOf(id string) uint8 {
	if len(id) != 2 {
		return 0
	}
	return id[1] - '0'
}

// compare says whether a condition holds.
func (c *content) compare(cmp dcs.Cmp) bool {
	rev, lease := c.revisionOf(cmp.Key)
	switch cmp.Kind {
	case dcs.CmpModRevision:
		return int64(rev) == cmp.Revision
	case dcs.CmpLease:
		return rev != 0 && election.LeaseID(lease) == cmp.Lease
	default:
		panic("model: comparison of a value")
	}
}

// revisionOf is the mod revision of a key that exists, and the lease that it hangs on.
func (c *content) revisionOf(key string) (revision, leaseID) {
	switch key {
	case dcs.KeyLeader:
		return c.leader.rev, c.leader.lease
	case dcs.KeyEpoch:
		return c.reign.rev, 0
	case dcs.KeyRelease:
		return c.release.rev, 0
	case dcs.KeyFailover:
		return c.failover.rev, 0
	case dcs.KeyStatus:
		return c.status.rev, 0
	case dcs.KeySync:
		if c.sync.present == 0 {
			return 0, 0
		}
		return c.sync.rev, 0
	case dcs.KeyFailsafe:
		return c.failsafe.rev, 0
	}
	if name, ok := strings.CutPrefix(key, dcs.PrefixOffer); ok {
		if o := c.offers[indexOf(name)]; o.present != 0 {
			return o.rev, o.lease
		}
		return 0, 0
	}
	if name, ok := strings.CutPrefix(key, dcs.PrefixVote); ok {
		if v := c.votes[indexOf(name)]; v.present != 0 {
			return v.rev, 0
		}
		return 0, 0
	}
	panic("model: comparison of " + key)
}

// minor says that the order of a key's writes against other keys' is never looked at.
func minor(key string) bool {
	return key == dcs.KeySync || key == dcs.KeyFailsafe || strings.HasPrefix(key, dcs.PrefixOffer) ||
		strings.HasPrefix(key, dcs.PrefixVote)
}

// last is the revision of the last write or deletion of a minor key.
func (c *content) last(key string) *revision {
	switch key {
	case dcs.KeySync:
		return &c.sync.rev
	case dcs.KeyFailsafe:
		return &c.failsafe.rev
	}
	if name, ok := strings.CutPrefix(key, dcs.PrefixOffer); ok {
		return &c.offers[indexOf(name)].rev
	}
	name, _ := strings.CutPrefix(key, dcs.PrefixVote)
	return &c.votes[indexOf(name)].rev
}

// apply carries a transaction out, whole or not at all. The third result is false when the world's
// bound on revisions is reached.
func (c content) apply(t dcs.Txn) (after content, done, fits bool) {
	for _, cmp := range t.If {
		if !c.compare(cmp) {
			return c, false, true
		}
	}
	rev, ok := c.nextRevision(t.Then)
	if !ok {
		return c, false, false
	}
	for _, op := range t.Then {
		if op.Delete {
			c.remove(op.Key, rev)
		} else {
			c.put(op, rev)
		}
	}
	return c, true, c.sync.sets <= maxSets
}

func (c *content) nextRevision(ops []dcs.Op) (revision, bool) {
	order := false
	high := revision(c.major << 4)
	for _, op := range ops {
		if !minor(op.Key) {
			order = true
		} else if last := *c.last(op.Key); last > high {
			high = last
		}
	}
	if order {
		if c.major >= 15 {
			return 0, false
		}
		c.major++
		return revision(c.major << 4), true
	}
	if high&15 >= 14 {
		return 0, false
	}
	return high + 1, true
}

func (c *content) remove(key string, rev revision) {
	switch key {
	case dcs.KeyLeader:
		if c.leader.rev != 0 {
			c.gone = c.leader
		}
		c.leader = leaderKey{}
	case dcs.KeySync:
		c.sync = syncKey{rev: rev}
	default:
		if name, ok := strings.CutPrefix(key, dcs.PrefixOffer); ok {
			c.offers[indexOf(name)] = offerKey{rev: rev}
			return
		}
		if name, ok := strings.CutPrefix(key, dcs.PrefixVote); ok {
			c.votes[indexOf(name)] = voteKey{rev: rev}
			return
		}
		panic("model: deletion of " + key)
	}
}

// put reads a value by the real decoder.
func (c *content) put(op dcs.Op, rev revision) {
	kv := dcs.KV{Key: op.Key, Value: op.Value, ModRevision: int64(rev), Lease: op.Lease}
	switch op.Key {
	case dcs.KeyLeader:
		c.leader = leaderKey{name: plusOne(string(op.Value)), rev: rev, lease: leaseID(op.Lease)}
	case dcs.KeyEpoch:
		r := dcs.DecodeReign(kv)
		c.reign = reignKey{
			epoch: uint8(r.Epoch), holder: plusOne(r.Holder), parent: uint8(r.ParentTimeline), next: uint8(r.NextTimeline),
			pos: posOf(r.LSN), lease: leaseID(r.Lease), rev: rev,
		}
	case dcs.KeyRelease:
		r := dcs.DecodeRelease(kv)
		c.release = releaseKey{of: revision(r.LeaderRevision), name: plusOne(r.Name), pos: posOf(r.Checkpoint), tli: uint8(r.Timeline), rev: rev}
	case dcs.KeyFailover:
		f := dcs.DecodeFailover(kv)
		c.failover = failoverKey{leader: plusOne(f.Leader), candidate: plusOne(f.Candidate), rev: rev}
	case dcs.KeyStatus:
		c.status = statusKey{pos: posOf(dcs.DecodeStatus(kv).Optime), rev: rev}
	case dcs.KeySync:
		c.sync = packSync(dcs.DecodeSync(kv), rev)
	case dcs.KeyFailsafe:
		c.failsafe = failsafeKey{rev: rev}
		for _, m := range dcs.DecodeFailsafe(op.Value) {
			c.failsafe.mask |= 1 << indexOf(m.Name)
		}
	default:
		c.putNamed(kv, rev)
	}
}

func (c *content) putNamed(kv dcs.KV, rev revision) {
	switch {
	case strings.HasPrefix(kv.Key, dcs.PrefixOffer):
		o := dcs.DecodeOffer(kv)
		c.offers[indexOf(o.Name)] = offerKey{present: 1, lease: leaseID(kv.Lease), of: revision(o.For), rev: rev}
	case strings.HasPrefix(kv.Key, dcs.PrefixVote):
		v := dcs.DecodeVote(kv)
		c.votes[indexOf(v.Name)] = voteKey{
			present: 1, data: dataOf(v.Data), epoch: uint8(v.Epoch), tli: uint8(v.Timeline), pos: posOf(v.LSN),
			of: revision(v.LeaderRevision), rev: rev,
		}
	default:
		panic("model: write of " + kv.Key)
	}
}

// nobody is the bit of the name that strict mode waits for when there is no standby.
const nobody = 1 << 7

func maskOf(names []string) uint8 {
	mask := uint8(0)
	for _, n := range names {
		if n == election.StrictPlaceholder {
			mask |= nobody
			continue
		}
		mask |= 1 << indexOf(n)
	}
	return mask
}

func namesOf(mask uint8) []string {
	var out []string
	for i := range maxMembers {
		if mask&(1<<i) != 0 {
			out = append(out, nameOf(i))
		}
	}
	if mask&nobody != 0 {
		out = append([]string{election.StrictPlaceholder}, out...)
	}
	return out
}

func packSync(s election.SyncState, rev revision) syncKey {
	k := syncKey{
		leader: plusOne(s.Leader), quorum: uint8(s.Quorum), standbys: maskOf(s.Standbys), rev: rev, present: 1,
	}
	e := s.Electorate
	if e == nil {
		return k
	}
	k.has, k.epoch, k.data, k.sets = 1, uint8(e.Epoch), dataOf(e.LeaderData), uint8(len(e.Sets))
	for i, set := range e.Sets {
		if i >= maxSets {
			break // the caller sees by the number that it does not fit
		}
		k.set[i].wait, k.set[i].quorum = uint8(set.Wait), uint8(set.Quorum)
		for _, v := range set.Voters {
			k.set[i].mask |= 1 << indexOf(v.Name)
			k.set[i].data[indexOf(v.Name)] = dataOf(v.Data)
		}
	}
	return k
}

// cluster is the content as the core sees it.
func (c *content) cluster() election.Cluster {
	out := election.Cluster{
		Revision: int64(c.major)<<4 | 15, ClusterID: 1, ConfigRev: 1,
		Initialize: election.Initialize{State: election.BootstrapDone, SystemID: systemID, ModRevision: 1},
	}
	if c.leader.rev != 0 {
		out.Leader = election.Leader{
			Present: true, Name: nameOf(int(c.leader.name) - 1), ModRevision: int64(c.leader.rev),
			Lease: election.LeaseID(c.leader.lease),
		}
	}
	r := c.reign
	out.Reign = election.Reign{
		Epoch: uint64(r.epoch), Holder: nameOrNone(r.holder), ParentTimeline: election.Timeline(r.parent),
		NextTimeline: election.Timeline(r.next), LSN: lsnOf(r.pos), Lease: election.LeaseID(r.lease), TTL: worldTTL,
		ModRevision: int64(r.rev),
	}
	out.Release = election.Release{
		LeaderRevision: int64(c.release.of), Name: nameOrNone(c.release.name), Checkpoint: lsnOf(c.release.pos),
		Timeline: election.Timeline(c.release.tli), ModRevision: int64(c.release.rev),
	}
	out.Failover = election.FailoverRequest{
		Leader: nameOrNone(c.failover.leader), Candidate: nameOrNone(c.failover.candidate), ModRevision: int64(c.failover.rev),
	}
	out.Status = election.Status{Optime: lsnOf(c.status.pos), ModRevision: int64(c.status.rev)}
	if c.sync.present != 0 {
		out.Sync = c.sync.unpack()
	}
	for _, n := range namesOf(c.failsafe.mask) {
		out.Failsafe = append(out.Failsafe, election.FailsafeMember{Name: n, APIURL: apiURL(n)})
	}
	out.FailsafeRev = int64(c.failsafe.rev)
	for i, o := range c.offers {
		if o.present != 0 {
			out.Offers = append(out.Offers, election.Offer{
				Name: nameOf(i), Lease: election.LeaseID(o.lease), For: int64(o.of), ModRevision: int64(o.rev),
			})
		}
	}
	for i, v := range c.votes {
		if v.present != 0 {
			out.Votes = append(out.Votes, election.Vote{
				Name: nameOf(i), Data: dataID(i, v.data), Epoch: uint64(v.epoch), LeaderRevision: int64(v.of),
				Timeline: election.Timeline(v.tli), LSN: lsnOf(v.pos), ModRevision: int64(v.rev),
			})
		}
	}
	return out
}

// seen is the revision of the key; zero: it is absent.
func (k *syncKey) seen() revision {
	if k.present == 0 {
		return 0
	}
	return k.rev
}

func (k *syncKey) unpack() election.SyncState {
	s := election.SyncState{
		Leader: nameOrNone(k.leader), Quorum: int(k.quorum), Standbys: namesOf(k.standbys), ModRevision: int64(k.rev),
	}
	if k.has == 0 {
		return s
	}
	e := &election.Electorate{Epoch: uint64(k.epoch)}
	if k.leader != 0 {
		e.LeaderData = dataID(int(k.leader)-1, k.data)
	}
	for i := range k.sets {
		set := election.VoterSet{Wait: int(k.set[i].wait), Quorum: int(k.set[i].quorum)}
		for j := range maxMembers {
			if k.set[i].mask&(1<<j) != 0 {
				set.Voters = append(set.Voters, election.Voter{Name: nameOf(j), Data: dataID(j, k.set[i].data[j])})
			}
		}
		e.Sets = append(e.Sets, set)
	}
	s.Electorate = e
	return s
}

func nameOrNone(plus uint8) string {
	if plus == 0 {
		return ""
	}
	return nameOf(int(plus) - 1)
}

func apiURL(name string) string { return "http://" + name + ":8008/patroni" }
func connURL(name string) string {
	if name == "" {
		return ""
	}
	return "postgres://" + name + ":5432/postgres"
}
