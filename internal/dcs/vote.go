package dcs

import (
	"slices"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// maxSets and maxVoters bound an electorate that is read: more than that nobody wrote on purpose.
const (
	maxSets   = 64
	maxVoters = 128
)

// decodeElectorate reads pgha's part of the sync key. Anything in it that cannot be understood makes
// the whole part unreadable, which is the safe side: without it no takeover rests on votes.
func decodeElectorate(v any) *election.Electorate {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	epoch, ok := asUint(m["epoch"])
	sets, isList := m["sets"].([]any)
	if !ok || epoch == 0 || !isList || len(sets) > maxSets {
		return nil
	}
	e := election.Electorate{Epoch: epoch, LeaderData: asString(m["leader_data"])}
	for _, raw := range sets {
		set, ok := decodeVoterSet(raw)
		if !ok {
			return nil
		}
		e.Sets = append(e.Sets, set)
	}
	return &e
}

// decodeVoterSet reads one set. A quorum of nobody, or of more than there are, is none.
func decodeVoterSet(v any) (election.VoterSet, bool) {
	m, _ := v.(map[string]any)
	voters, _ := m["voters"].([]any)
	wait, okWait := asUint(m["wait"])
	quorum, okQuorum := asUint(m["quorum"])
	n := uint64(len(voters))
	if !okWait || !okQuorum || n == 0 || n > maxVoters || quorum == 0 || quorum > n || wait > n {
		return election.VoterSet{}, false
	}
	set := election.VoterSet{Wait: int(wait), Quorum: int(quorum)}
	for _, raw := range voters {
		voter, _ := raw.(map[string]any)
		name, data := asString(voter["name"]), asString(voter["data"])
		if name == "" || data == "" {
			return election.VoterSet{}, false
		}
		set.Voters = append(set.Voters, election.Voter{Name: name, Data: data})
	}
	slices.SortFunc(set.Voters, func(a, b election.Voter) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(set.Voters); i++ {
		if set.Voters[i].Name == set.Voters[i-1].Name {
			return election.VoterSet{}, false // one member, counted twice
		}
	}
	return set, true
}

func encodeElectorate(e election.Electorate) []byte {
	sets := make([]rawJSON, 0, len(e.Sets))
	for _, s := range e.Sets {
		voters := make([]rawJSON, 0, len(s.Voters))
		for _, v := range s.Voters {
			var o object
			o.put("name", v.Name)
			o.put("data", v.Data)
			voters = append(voters, o.bytes())
		}
		var o object
		o.put("voters", voters)
		o.put("wait", s.Wait)
		o.put("quorum", s.Quorum)
		sets = append(sets, o.bytes())
	}
	var o object
	o.put("epoch", e.Epoch)
	o.put("leader_data", e.LeaderData)
	o.put("sets", sets)
	return o.bytes()
}

// DecodeVote reads one pgha/vote/<name> key. A vote that was withdrawn, or cannot be understood, has
// no LeaderRevision.
func DecodeVote(kv KV) election.Vote {
	m, _ := parseObject(kv.Value)
	epoch, _ := asUint(m["epoch"])
	vote := election.Vote{
		Name:           strings.TrimPrefix(kv.Key, PrefixVote),
		Data:           asString(m["data"]),
		Epoch:          epoch,
		LeaderRevision: asRevision(m["leader_revision"]),
		Timeline:       asTimeline(m["timeline"]),
		LSN:            asLSN(m["lsn"]),
		ModRevision:    kv.ModRevision,
	}
	if vote.Data == "" || vote.Epoch == 0 || vote.LeaderRevision == 0 || vote.Timeline == 0 || vote.LSN == 0 {
		return election.Vote{Name: vote.Name, ModRevision: kv.ModRevision}
	}
	return vote
}

// EncodeVote writes a pgha/vote/<name> key. A vote that does not stand is {}.
func EncodeVote(v election.Vote) []byte {
	var o object
	if v.LeaderRevision == 0 {
		return o.bytes()
	}
	o.put("data", v.Data)
	o.put("epoch", v.Epoch)
	o.put("leader_revision", v.LeaderRevision)
	o.put("timeline", uint32(v.Timeline))
	o.put("lsn", uint64(v.LSN))
	return o.bytes()
}

// CastVote publishes where the frozen log ends, against the reign and the electorate that were seen,
// and over the own vote that was seen. The leader key must be the one that was seen, or absent as
// seen.
func CastVote(seen election.Cluster, vote election.Vote) Txn {
	own, _ := seen.Vote(vote.Name)
	return Txn{
		If: []Cmp{
			at(KeyLeader, seen.Leader.ModRevision),
			at(KeyEpoch, seen.Reign.ModRevision),
			at(KeySync, seen.Sync.ModRevision),
			at(VoteKey(vote.Name), own.ModRevision),
		},
		Then: []Op{put(VoteKey(vote.Name), EncodeVote(vote))},
	}
}

// WithdrawVote empties the own vote key of the revision that was seen, zero if it was absent. A vote
// that is still on its way compares that same revision, so it cannot arrive any more once this is
// known to be done (safety review, hole 1). With a leader revision it also demands that the leader
// voted against still holds the key; with zero, after another came to lead, it does not.
func WithdrawVote(name string, voteRevision, leaderRevision int64) Txn {
	t := Txn{
		If:   []Cmp{at(VoteKey(name), voteRevision)},
		Then: []Op{put(VoteKey(name), EncodeVote(election.Vote{}))},
	}
	if leaderRevision != 0 {
		t.If = append(t.If, at(KeyLeader, leaderRevision))
	}
	return t
}

// TakeOver replaces the leader key, or creates it, by the frozen votes that are counted. It compares
// everything that the count rests on: the leader key, or its absence, the reign, the electorate, the
// failsafe set and each vote by its revision (safety review, hole 1). It opens the next reign and
// publishes the electorate that inherits the old one; nothing is deleted.
func TakeOver(self string, lease election.LeaseID, seen election.Cluster, t election.TakeOver) Txn {
	txn := Txn{
		If: []Cmp{
			at(KeyLeader, t.Over),
			at(KeyEpoch, seen.Reign.ModRevision),
			at(KeySync, seen.Sync.ModRevision),
			at(KeyFailsafe, seen.FailsafeRev),
		},
		Then: []Op{
			putUnder(KeyLeader, []byte(self), lease),
			put(KeyEpoch, EncodeReign(t.Reign)),
			put(KeySync, EncodeSync(t.Sync)),
		},
	}
	for _, vote := range t.Votes {
		txn.If = append(txn.If, at(VoteKey(vote.Name), vote.ModRevision))
	}
	return txn
}
