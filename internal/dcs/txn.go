package dcs

import "github.com/pgha/pgha/internal/election"

// The builders in this file and in txn_bootstrap.go are pure: they say which conditions guard which
// writes, and nothing else. Every write of a leader compares the mod revision of the leader key,
// the only thing that proves that the key is still the one this agent wrote (safety review, holes 4
// and 8). Revisions never repeat within a store, so a transaction that compares a revision and
// writes that same key can never be carried out twice.

func absent(key string) Cmp { return Cmp{Key: key, Kind: CmpModRevision} }

func at(key string, revision int64) Cmp {
	return Cmp{Key: key, Kind: CmpModRevision, Revision: revision}
}
func put(key string, value []byte) Op { return Op{Key: key, Value: value} }
func del(key string) Op               { return Op{Key: key, Delete: true} }

func putUnder(key string, value []byte, lease election.LeaseID) Op {
	return Op{Key: key, Value: value, Lease: lease}
}

// AcquireLeader takes the absent leader key under a lease and opens a reign (row D-18). It compares
// the reign, the sync key and the failsafe set that the decision was made from: a candidate that is
// not in a set it has not seen must not win (safety review, holes 3 and 15). The sync key stays as
// it is.
func AcquireLeader(self string, lease election.LeaseID, seen election.Cluster, reign election.Reign) Txn {
	return AcquireLeaderWithSync(self, lease, seen, reign, nil)
}

// AcquireLeaderWithSync is AcquireLeader that also publishes whose votes the next takeover needs. Nil
// leaves the sync key as it is.
func AcquireLeaderWithSync(
	self string, lease election.LeaseID, seen election.Cluster, reign election.Reign, sync *election.SyncState,
) Txn {
	t := Txn{
		If: []Cmp{
			absent(KeyLeader),
			at(KeyEpoch, seen.Reign.ModRevision),
			at(KeySync, seen.Sync.ModRevision),
			at(KeyFailsafe, seen.FailsafeRev),
		},
		Then: []Op{
			putUnder(KeyLeader, []byte(self), lease),
			put(KeyEpoch, EncodeReign(reign)),
		},
	}
	if sync != nil {
		t.Then = append(t.Then, put(KeySync, EncodeSync(*sync)))
	}
	if f := seen.Failover; f.Candidate == self {
		// By an operator's word, which may have been taken back or given to another meanwhile: whom
		// it names may lack commits, so nobody else's will do.
		t.If = append(t.If, at(KeyFailover, f.ModRevision))
	}
	return t
}

// RehangLeader moves the holder's own leader key to another of its leases, for instance after a
// change of ttl. The old lease must be kept alive until the answer is known. The reign names the new
// lease from then on: who looks only after the key is gone asks about that one.
func RehangLeader(self string, lease election.LeaseID, leaderRevision int64, reign election.Reign) Txn {
	reign.Lease = lease
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision), at(KeyEpoch, reign.ModRevision)},
		Then: []Op{putUnder(KeyLeader, []byte(self), lease), put(KeyEpoch, EncodeReign(reign))},
	}
}

// ReleaseLeader gives up the leader key after the server is proven down, with the record that lets
// a successor take over without waiting (safety review, hole 5), and with the final position for
// Patroni members (row D-67). The status may be nil. This is also the release towards a Patroni
// candidate: it sees what D-21 and D-67 say.
func ReleaseLeader(leaderRevision int64, release election.Release, status *election.Status) Txn {
	release.LeaderRevision = leaderRevision
	t := Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision)},
		Then: []Op{del(KeyLeader), put(KeyRelease, EncodeRelease(release))},
	}
	if status != nil {
		t.Then = append(t.Then, put(KeyStatus, EncodeStatus(*status)))
	}
	return t
}

// RewriteLeader writes the own leader key anew under the same lease, so that it has another revision: a
// request that compares the old one can never be carried out after that. Where the reign bears the same
// revision it is written too, because votes are cast against the one revision that both bear.
func RewriteLeader(c election.Cluster, own election.Own, name string) Txn {
	t := Txn{
		If:   []Cmp{at(KeyLeader, own.Revision), at(KeyEpoch, c.Reign.ModRevision)},
		Then: []Op{{Key: KeyLeader, Value: []byte(name), Lease: own.Lease}},
	}
	if c.Reign.ModRevision == own.Revision {
		t.Then = append(t.Then, put(KeyEpoch, EncodeReign(c.Reign)))
	}
	return t
}

// PutOffer publishes "hand the leader key to this lease", under that very lease and bound to the
// leader revision it is meant for. Only Name, Lease, Incarnation and For of the offer are used.
func PutOffer(offer election.Offer) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, offer.For)},
		Then: []Op{putUnder(OfferKey(offer.Name), EncodeOffer(offer), offer.Lease)},
	}
}

// WithdrawOffer deletes an offer that is still the one this agent made. Only when this is known to
// be done can the lease be given up: until then a hand-over to it may be on its way.
func WithdrawOffer(name string, offerRevision int64) Txn {
	return Txn{If: []Cmp{at(OfferKey(name), offerRevision)}, Then: []Op{del(OfferKey(name))}}
}

// HandOverSpec is everything that a hand-over compares and writes.
type HandOverSpec struct {
	// LeaderRevision is the revision of the holder's own leader key.
	LeaderRevision int64
	// Offer as seen: the key is handed to its lease.
	Offer election.Offer
	// Seen gives the revisions of the reign, the failover request and the sync key.
	Seen    election.Cluster
	Reign   election.Reign
	Release election.Release
	// Status carries the final position. Nil leaves the key as it is.
	Status *election.Status
	// Sync is the new sync key (safety review, hole 16: the old holder stays listed, it has every
	// acknowledgement). Nil leaves the key as it is. Its revision is compared in either case.
	Sync *election.SyncState
	// ClearFailover empties the failover request that led here.
	ClearFailover bool
}

// HandOver gives the leader key to the candidate's lease in one step, so that there is no race and
// no wait (safety review, hole 16). It compares the own leader key, the offer with the lease it
// hangs on, the reign, the sync key and the failover request, which a second operator may have
// changed.
func HandOver(h HandOverSpec) Txn {
	offer := OfferKey(h.Offer.Name)
	h.Release.LeaderRevision = h.LeaderRevision
	t := Txn{
		If: []Cmp{
			at(KeyLeader, h.LeaderRevision),
			at(offer, h.Offer.ModRevision),
			{Key: offer, Kind: CmpLease, Lease: h.Offer.Lease},
			at(KeyEpoch, h.Seen.Reign.ModRevision),
			at(KeySync, h.Seen.Sync.ModRevision),
			at(KeyFailover, h.Seen.Failover.ModRevision),
		},
		Then: []Op{
			putUnder(KeyLeader, []byte(h.Offer.Name), h.Offer.Lease),
			put(KeyEpoch, EncodeReign(h.Reign)),
			put(KeyRelease, EncodeRelease(h.Release)),
			del(offer),
		},
	}
	if h.Status != nil {
		t.Then = append(t.Then, put(KeyStatus, EncodeStatus(*h.Status)))
	}
	if h.Sync != nil {
		t.Then = append(t.Then, put(KeySync, EncodeSync(*h.Sync)))
	}
	if h.ClearFailover {
		t.Then = append(t.Then, put(KeyFailover, EncodeFailover(election.FailoverRequest{})))
	}
	return t
}

// PutMember publishes a member's own data under its lease (row D-25).
func PutMember(name string, lease election.LeaseID, value []byte) Txn {
	return Txn{Then: []Op{putUnder(MemberKey(name), value, lease)}}
}

// WriteStatus publishes the leader's position. With legacy it writes optime/leader as well, for
// members older than 2.1.0 (row D-69).
func WriteStatus(leaderRevision int64, status election.Status, legacy bool) Txn {
	t := Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision)},
		Then: []Op{put(KeyStatus, EncodeStatus(status))},
	}
	if legacy {
		t.Then = append(t.Then, put(KeyOptime, EncodeOptime(status.Optime)))
	}
	return t
}

// WithOptime gives the status with another position; the slots are carried over (row D-66).
func WithOptime(previous election.Status, optime election.LSN) election.Status {
	previous.Optime = optime
	return previous
}

// WriteHistory publishes the timeline history (row D-71).
func WriteHistory(leaderRevision int64, rows []election.TimelineRecord) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision)},
		Then: []Op{put(KeyHistory, EncodeHistory(rows))},
	}
}

// WriteFailsafe publishes the members that a failsafe round must ask (row D-72). It compares the
// set as last seen, so that two generations of an agent do not overwrite one another.
func WriteFailsafe(leaderRevision, failsafeRevision int64, members []election.FailsafeMember) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision), at(KeyFailsafe, failsafeRevision)},
		Then: []Op{put(KeyFailsafe, EncodeFailsafe(members))},
	}
}

// WriteSync changes the synchronous electorate: only the holder may, and only the version it saw
// (rows D-60 and D-61).
func WriteSync(leaderRevision, syncRevision int64, state election.SyncState) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision), at(KeySync, syncRevision)},
		Then: []Op{put(KeySync, EncodeSync(state))},
	}
}

// DeleteSync removes the sync key when synchronous mode is switched off (row D-59).
func DeleteSync(leaderRevision, syncRevision int64) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision), at(KeySync, syncRevision)},
		Then: []Op{del(KeySync)},
	}
}

// WriteFailover records an operator's request, whatever stood there before (row D-54).
func WriteFailover(request election.FailoverRequest) Txn {
	return Txn{Then: []Op{put(KeyFailover, EncodeFailover(request))}}
}

// ReplaceFailover writes a request over the one that was seen: to name a candidate, or to turn a
// switchover into a failover while paused (row D-54). Zero means that none was seen.
func ReplaceFailover(seenRevision int64, request election.FailoverRequest) Txn {
	return Txn{
		If:   []Cmp{at(KeyFailover, seenRevision)},
		Then: []Op{put(KeyFailover, EncodeFailover(request))},
	}
}

// ClearFailover empties the request that was seen, and no later one (row D-54).
func ClearFailover(seenRevision int64) Txn {
	return ReplaceFailover(seenRevision, election.FailoverRequest{})
}

// ClearFailoverAsLeader is ClearFailover by the holder of the leader key.
func ClearFailoverAsLeader(leaderRevision, seenRevision int64) Txn {
	t := ClearFailover(seenRevision)
	t.If = append(t.If, at(KeyLeader, leaderRevision))
	return t
}

// ReplaceConfig writes the dynamic configuration over the version that was read (row D-51). Zero
// means that there was none.
func ReplaceConfig(seenRevision int64, value []byte) Txn {
	return Txn{If: []Cmp{at(KeyConfig, seenRevision)}, Then: []Op{put(KeyConfig, value)}}
}

// PutConfig writes the dynamic configuration whatever stood there before (row D-51).
func PutConfig(value []byte) Txn {
	return Txn{Then: []Op{put(KeyConfig, value)}}
}

// RestoreConfig writes the remembered configuration back to a store that lost it (row D-51).
func RestoreConfig(leaderRevision int64, value []byte) Txn {
	return Txn{If: []Cmp{at(KeyLeader, leaderRevision)}, Then: []Op{put(KeyConfig, value)}}
}

// Once says that a transaction can be carried out at most once however often it is sent, because it
// writes a key whose present revision it demands. A transaction that demands only absence can come
// true again after a later deletion, and one that writes unguarded keys repeats.
func Once(t Txn) bool {
	for _, c := range t.If {
		if c.Kind != CmpModRevision || c.Revision == 0 {
			continue
		}
		for _, op := range t.Then {
			if op.Key == c.Key {
				return true
			}
		}
	}
	return false
}
