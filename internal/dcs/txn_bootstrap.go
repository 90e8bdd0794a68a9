package dcs

import "github.com/pgha/pgha/internal/election"

// BootstrapClaim wins the race to make a new cluster (row D-46), and leaves two notes: who is at it,
// under that member's lease, and who began it, without one. So a bootstrapper that dies does not
// block the cluster for ever.
//
// The mod revision of the transaction is the claim: BootstrapFinish and BootstrapCancel demand it.
func BootstrapClaim(self, incarnation string, lease election.LeaseID) Txn {
	return Txn{
		If:   []Cmp{absent(KeyInitialize), absent(KeyLeader)},
		Then: claimOps(self, incarnation, lease),
	}
}

// BootstrapReclaim takes over from a pgha member that began and died: the initialize key is the one
// that was seen, the claim was written together with it, and the runner's lease is gone. It never
// takes over from a Patroni, which leaves no such notes.
func BootstrapReclaim(self, incarnation string, lease election.LeaseID, seen election.Initialize) Txn {
	return Txn{
		If: []Cmp{
			at(KeyInitialize, seen.ModRevision),
			at(KeyClaim, seen.ModRevision),
			absent(KeyBootstrap),
			absent(KeyLeader),
		},
		Then: claimOps(self, incarnation, lease),
	}
}

func claimOps(self, incarnation string, lease election.LeaseID) []Op {
	who := EncodeBootstrap(self, incarnation)
	return []Op{
		put(KeyInitialize, nil),
		putUnder(KeyBootstrap, who, lease),
		put(KeyClaim, who),
	}
}

// FinishSpec is what the end of a bootstrap writes.
type FinishSpec struct {
	Self  string
	Lease election.LeaseID
	// Claim is the revision of the BootstrapClaim or BootstrapReclaim transaction.
	Claim    int64
	SystemID string
	// Config is the dynamic configuration as the user wrote it. It is put only if the seen cluster
	// has none that can be read.
	Config []byte
	// ConfigRevision is the mod revision of the config key as stored, zero if it is absent. It
	// differs from Seen.ConfigRev only where the stored configuration cannot be read (row D-50).
	ConfigRevision int64
	// Seen gives the revisions of the readable configuration and of the reign.
	Seen  election.Cluster
	Reign election.Reign
	// History is the new cluster's, usually empty.
	History []election.TimelineRecord
}

// BootstrapFinish publishes the new cluster and takes its leader key in one step (rows D-20 and
// D-47; unlike there, nothing is overwritten). It fails if somebody reclaimed the bootstrap, or if a
// leader key exists.
func BootstrapFinish(f FinishSpec) Txn {
	t := Txn{
		If: []Cmp{
			at(KeyInitialize, f.Claim),
			absent(KeyLeader),
			at(KeyEpoch, f.Seen.Reign.ModRevision),
			at(KeyConfig, f.ConfigRevision),
		},
		Then: []Op{
			put(KeyInitialize, []byte(f.SystemID)),
			putUnder(KeyLeader, []byte(f.Self), f.Lease),
			put(KeyEpoch, EncodeReign(f.Reign)),
			put(KeyHistory, EncodeHistory(f.History)),
			del(KeyBootstrap),
			del(KeyClaim),
		},
	}
	if f.Seen.ConfigRev == 0 {
		t.Then = append(t.Then, put(KeyConfig, f.Config))
	}
	return t
}

// BootstrapCancel makes way for another try after a failed bootstrap (row D-48), unless somebody
// reclaimed it already.
func BootstrapCancel(claim int64) Txn {
	return Txn{
		If:   []Cmp{at(KeyInitialize, claim)},
		Then: []Op{del(KeyInitialize), del(KeyBootstrap), del(KeyClaim)},
	}
}

// ClearBootstrap deletes an empty initialize key that a dead bootstrapper left, at the revision that
// was seen and with no runner alive.
func ClearBootstrap(initializeRevision int64) Txn {
	t := BootstrapCancel(initializeRevision)
	t.If = append(t.If, absent(KeyBootstrap))
	return t
}

// WriteInitialize repairs a missing or invalid initialize key by the holder (row D-49).
func WriteInitialize(leaderRevision int64, seen election.Initialize, systemID string) Txn {
	return Txn{
		If:   []Cmp{at(KeyLeader, leaderRevision), at(KeyInitialize, seen.ModRevision)},
		Then: []Op{put(KeyInitialize, []byte(systemID))},
	}
}

// AdoptInitialize publishes the identifier of an existing data directory in a cluster that has no
// valid one and no leader (row D-49).
func AdoptInitialize(seen election.Initialize, systemID string) Txn {
	return Txn{
		If:   []Cmp{absent(KeyLeader), at(KeyInitialize, seen.ModRevision)},
		Then: []Op{put(KeyInitialize, []byte(systemID))},
	}
}
