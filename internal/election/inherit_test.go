package election

import "testing"

// electorateOf is an electorate of one set.
func electorateOf(quorum int, names ...string) *Electorate {
	set := VoterSet{Wait: len(names) + 1 - quorum, Quorum: quorum}
	for _, n := range names {
		set.Voters = append(set.Voters, Voter{Name: n, Data: "data-" + n})
	}
	return &Electorate{Epoch: 1, LeaderData: "data-a", Sets: []VoterSet{set}}
}

// What a primary starts with that has lost its own setting must not let a published quorum miss a commit.
func TestPublishedSetting(t *testing.T) {
	inherited := electorateOf(2, "b", "c")
	inherited.Sets[0].Wait = 0
	rows := []struct {
		name string
		sync SyncState
		mode SyncMode
		want SyncSetting
	}{
		{name: "no sync key"},
		{
			name: "the published set", sync: SyncState{Leader: "a", Electorate: electorateOf(2, "b", "c")}, mode: SyncQuorum,
			want: SyncSetting{Any: true, Wait: 1, Names: []string{"b", "c"}},
		},
		{
			name: "a set that only inherits", sync: SyncState{Leader: "a", Electorate: inherited}, mode: SyncQuorum,
			want: SyncSetting{Any: true, Wait: 1, Names: []string{"b", "c"}},
		},
		{
			name: "all of the chosen", sync: SyncState{Leader: "a", Electorate: electorateOf(1, "b", "c")}, mode: SyncOn,
			want: SyncSetting{Wait: 2, Names: []string{"b", "c"}},
		},
		{
			name: "a Patroni's list", sync: SyncState{Leader: "a", Standbys: []string{"b", "c"}, Quorum: 1}, mode: SyncQuorum,
			want: SyncSetting{Any: true, Wait: 1, Names: []string{"b", "c"}},
		},
		{name: "nobody but the leader may lead", sync: SyncState{Leader: "a", Electorate: &Electorate{Epoch: 1}}, mode: SyncQuorum},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := PublishedSetting(r.sync, r.mode)
			if !got.Equal(r.want) {
				t.Errorf("got %s, want %s", got, r.want)
			}
			if r.sync.Electorate == nil {
				return
			}
			for _, s := range r.sync.Electorate.Sets {
				if got.Wait+s.Quorum <= len(s.Voters) {
					t.Errorf("%d acknowledgements and %d votes of %d need not meet", got.Wait, s.Quorum, len(s.Voters))
				}
			}
		})
	}
}
