package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// The vacancy decides whether a key that is gone may be taken (safety review, hole 5), so what is
// believed about the key that went is tested case by case.
func TestVacancyAfter(t *testing.T) {
	const now = 100 * time.Second
	led := election.Cluster{ClusterID: 1, Leader: election.Leader{Present: true, Name: "a", ModRevision: 7, Lease: 70}}
	gone := election.Cluster{ClusterID: 1, Reign: election.Reign{Epoch: 3, Lease: 60}}
	key := func(rev int64, lease election.LeaseID) []dcs.KV {
		return []dcs.KV{{Key: dcs.KeyLeader, ModRevision: rev, Lease: lease}}
	}
	rows := []struct {
		name     string
		before   election.Vacancy
		from, to election.Cluster
		vanished []dcs.KV
		want     election.Vacancy
	}{
		{
			name: "a key that is there is no vacancy", before: election.Vacancy{Since: 1, Revision: 7}, from: gone, to: led,
			want: election.Vacancy{},
		},
		{
			name: "the key that was seen last is the one that went", from: led, to: gone, vanished: key(7, 70),
			want: election.Vacancy{Since: now, Revision: 7, Lease: 70},
		},
		{
			name: "a newer key came and went between two looks", from: led, to: gone, vanished: key(9, 90),
			want: election.Vacancy{Since: now, Revision: 9, Lease: 90},
		},
		{
			name: "the store has forgotten what it deleted, so only time counts", from: led, to: gone, vanished: key(0, 0),
			want: election.Vacancy{Since: now, Replaced: true},
		},
		{
			name: "a vacancy goes on from snapshot to snapshot", before: election.Vacancy{Since: 5, Revision: 7, Lease: 70, LeaseGone: election.No},
			from: gone, to: gone, want: election.Vacancy{Since: 5, Revision: 7, Lease: 70, LeaseGone: election.No},
		},
		{
			name: "at the first look the reign tells the lease", to: gone,
			want: election.Vacancy{Since: now, Lease: 60},
		},
		{
			name: "another store knows nothing about old leases", from: led,
			to:   election.Cluster{ClusterID: 2, Reign: election.Reign{Epoch: 3, Lease: 60}},
			want: election.Vacancy{Since: now, Replaced: true},
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if diff := cmp.Diff(r.want, vacancyAfter(r.before, r.from, r.to, r.vanished, now)); diff != "" {
				t.Errorf("vacancy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAWriteThatIsNotYetSeenIsNotRepeated(t *testing.T) {
	var e echo
	if e.awaits("offer", 10) {
		t.Error("nothing was written yet, and its echo is awaited")
	}
	e.sent("offer", 11)
	if !e.awaits("offer", 10) {
		t.Error("the snapshot is older than the write, and the write would be repeated")
	}
	if e.awaits("offer", 11) {
		t.Error("the snapshot shows the write, and it is still awaited")
	}
}

func TestOlderThan(t *testing.T) {
	for _, r := range []struct {
		have  int
		want  string
		older bool
	}{{150004, "15.5", true}, {150004, "15.4", false}, {150004, "16.0", true}, {90605, "9.6.10", false}, {140010, "14.2.1", false}} {
		if got := olderThan(r.have, r.want); got != r.older {
			t.Errorf("olderThan(%d, %q) = %v, want %v", r.have, r.want, got, r.older)
		}
	}
}

func TestTheJournalTellsNewsOnce(t *testing.T) {
	var j journal
	steady := election.Plan{Rule: "leader.steady", Reason: "leads", Actions: []election.Action{election.WriteStatus{Optime: 1}}}
	if !j.add(steady) {
		t.Error("the first decision is news")
	}
	steady.Actions = nil
	if j.add(steady) {
		t.Error("the same rule without a new job is no news")
	}
	if !j.add(election.Plan{Rule: "leader.steady", Actions: []election.Action{election.Promote{}}}) {
		t.Error("a new job is news")
	}
	if list, _ := j.view(); len(list) != 2 {
		t.Errorf("got %d entries, want 2: %+v", len(list), list)
	}
}
