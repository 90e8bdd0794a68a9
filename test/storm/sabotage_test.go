package main

import "testing"

func TestTheWrongSetIsWrongOnlyInItsQuorum(t *testing.T) {
	good := `{"leader":"a","sync_standby":"b,c","quorum":1,"pgha":{"epoch":3,"leader_data":"x","sets":[` +
		`{"voters":[{"name":"b","data":"y"},{"name":"c","data":"z"}],"wait":1,"quorum":2}]}}`
	want := `{"leader":"a","pgha":{"epoch":3,"leader_data":"x","sets":[{"quorum":1,"voters":[{"data":"y","name":"b"},` +
		`{"data":"z","name":"c"}],"wait":2}]},"quorum":0,"sync_standby":"b,c"}`
	got, err := oneVoteIsEnough(good)
	if err != nil || got != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	for _, text := range []string{"", "{}", `{"pgha":{"sets":[]}}`, `{"pgha":{"sets":[{"voters":[{"name":"b"}],"wait":1,"quorum":1}]}}`, want} {
		if got, err := oneVoteIsEnough(text); err == nil {
			t.Errorf("%s became %s: a sabotage that changes nothing", text, got)
		}
	}
}
