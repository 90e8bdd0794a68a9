package dcs

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgha/pgha/internal/election"
)

func TestEncodersGiveTheIncumbentsBytes(t *testing.T) {
	full := MemberData{
		ConnURL: "postgres://10.0.0.1:5432/postgres", APIURL: "http://10.0.0.1:8008/patroni", State: election.StateRunning, Role: "primary",
		Version: "4.0.5", ProxyURL: "postgres://10.0.0.9:6432/postgres", CheckpointAfterPromote: election.No,
		Tags: map[string]any{"nofailover": true, "zone": "zürich <1>"}, PendingRestart: true,
		PendingRestartReason: map[string]ParameterChange{"max_connections": {"100", "200"}},
		XlogLocation:         67108960, Timeline: 2,
		ScheduledRestart: &ScheduledRestart{Schedule: "2026-01-02T03:04:05+00:00", PostmasterStartTime: "2026-01-01 00:00:00.000 UTC", Timeout: "30"},
		Pause:            true, PghaVersion: "0.1.0", Incarnation: "abc", DataID: "d1",
	}
	for name, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"member": {EncodeMember(full), `{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni",` +
			`"state":"running","role":"primary","version":"4.0.5","proxy_url":"postgres://10.0.0.9:6432/postgres","checkpoint_after_promote":false,` +
			`"tags":{"nofailover":true,"zone":"z\u00fcrich <1>"},"pending_restart":true,` +
			`"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}},"xlog_location":67108960,"timeline":2,` +
			`"scheduled_restart":{"schedule":"2026-01-02T03:04:05+00:00","postmaster_start_time":"2026-01-01 00:00:00.000 UTC","timeout":30},` +
			`"pause":true,"pgha":{"version":"0.1.0","incarnation":"abc","data":"d1"}}`},
		"standby": {EncodeMember(MemberData{
			ConnURL: "c", APIURL: "a", State: election.StateRunning, Role: "replica", Version: "4.0.5",
			XlogLocation: 20, ReplayLSN: 19, ReceiveLSN: 20, ReplicationState: "streaming", Timeline: 1,
		}), `{"conn_url":"c","api_url":"a","state":"running","role":"replica","version":"4.0.5","xlog_location":20,"replay_lsn":19,"receive_lsn":20,"replication_state":"streaming","timeline":1}`},
		"pending restart's reason needs one": {EncodeMember(MemberData{PendingRestartReason: map[string]ParameterChange{"a": {}}, CheckpointAfterPromote: election.Yes}), `{"conn_url":"","api_url":"","state":"","role":"","version":""}`},
		"no failover":                        {EncodeFailover(election.FailoverRequest{ScheduledAt: time.Now()}), `{}`},
		"failover": {
			EncodeFailover(election.FailoverRequest{Leader: "a", Candidate: "b", ScheduledAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}),
			`{"leader":"a","member":"b","scheduled_at":"2026-01-02T03:04:05+00:00"}`,
		},
		"no sync":        {EncodeSync(election.SyncState{Quorum: 5, Standbys: []string{"x"}}), `{"leader":null,"quorum":null,"sync_standby":null}`},
		"sync":           {EncodeSync(election.SyncState{Leader: "a", Standbys: []string{"c", "b", "c"}}), `{"leader":"a","quorum":0,"sync_standby":"b,c"}`},
		"sync of nobody": {EncodeSync(election.SyncState{Leader: "a"}), `{"leader":"a","quorum":0,"sync_standby":null}`},
		"sync with votes": {
			EncodeSync(election.SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}, Electorate: &election.Electorate{
				Epoch: 3, LeaderData: "da", Sets: []election.VoterSet{{Voters: []election.Voter{{Name: "b", Data: "db"}, {Name: "c", Data: "dc"}}, Wait: 1, Quorum: 2}},
			}}),
			`{"leader":"a","quorum":1,"sync_standby":"b,c","pgha":{"epoch":3,"leader_data":"da","sets":[{"voters":[{"name":"b","data":"db"},{"name":"c","data":"dc"}],"wait":1,"quorum":2}]}}`,
		},
		"sync, nobody may vote": {
			EncodeSync(election.SyncState{Leader: "a", Electorate: &election.Electorate{Epoch: 3, LeaderData: "da"}}),
			`{"leader":"a","quorum":0,"sync_standby":null,"pgha":{"epoch":3,"leader_data":"da","sets":[]}}`,
		},
		"vote":             {EncodeVote(election.Vote{Name: "b", Data: "db", Epoch: 3, LeaderRevision: 9, Timeline: 2, LSN: 77}), `{"data":"db","epoch":3,"leader_revision":9,"timeline":2,"lsn":77}`},
		"vote, withdrawn":  {EncodeVote(election.Vote{Name: "b", Data: "db"}), `{}`},
		"status":           {EncodeStatus(election.Status{Optime: 1 << 60, Slots: []election.SlotPosition{{Name: "b", LSN: 2}, {Name: "a", LSN: 1}}, RetainSlots: []string{"z", "y"}}), `{"optime":1152921504606846976,"slots":{"a":1,"b":2},"retain_slots":["y","z"]}`},
		"status, position": {EncodeStatus(election.Status{Optime: 5}), `{"optime":5}`},
		"optime":           {EncodeOptime(5), `5`},
		"history": {
			EncodeHistory([]election.TimelineRecord{{Timeline: 1, Switch: 2, Reason: "r", Timestamp: "t", NewLeader: "a"}, {Timeline: 2, Switch: 3, Reason: "r"}}),
			`[[1,2,"r","t","a"],[2,3,"r"]]`,
		},
		"no history": {EncodeHistory(nil), `[]`},
		"failsafe":   {EncodeFailsafe([]election.FailsafeMember{{Name: "b", APIURL: "u"}, {Name: "a", APIURL: "v"}}), `{"a":"v","b":"u"}`},
		"reign":      {EncodeReign(election.Reign{Epoch: 1, Holder: "a"}), `{"epoch":1,"holder":"a","parent_timeline":0,"next_timeline":0,"lsn":0}`},
		"offer":      {EncodeOffer(election.Offer{Name: "a", Incarnation: "i", For: 5}), `{"incarnation":"i","for":5}`},
	} {
		if diff := cmp.Diff(tc.want, string(tc.got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSameMemberComparesContent(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":{"c":[1,2]}}`, `{ "b": {"c": [1, 2]}, "a": "1" }`, true},
		{`{"a":true}`, `{"a":"True"}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":1}`, `{"a":1,"b":null}`, false},
		{`{"a":{"b":1}}`, `{"a":{"c":1}}`, false},
		{`{"a":[1]}`, `{"a":{"0":1}}`, false},
		{`x`, `x`, true},
		{`x`, `y`, false},
		{`x`, `{}`, false},
	} {
		if got := SameMember([]byte(tc.a), []byte(tc.b)); got != tc.want {
			t.Errorf("%s and %s: got %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}

func names(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-zA-Z0-9_.\-äß😀]{1,12}`).Draw(t, label)
}

func lsn(t *rapid.T, label string) election.LSN {
	return election.LSN(rapid.Uint64().Draw(t, label))
}

// anyElectorate draws sets of these voters, each in its own copy.
func anyElectorate(t *rapid.T, voters []string) *election.Electorate {
	e := &election.Electorate{Epoch: rapid.Uint64Min(1).Draw(t, "electorate epoch"), LeaderData: names(t, "leader data")}
	sorted := slices.Clone(voters)
	slices.Sort(sorted)
	for range rapid.IntRange(0, 3).Draw(t, "sets") {
		s := election.VoterSet{Wait: rapid.IntRange(0, len(voters)).Draw(t, "wait"), Quorum: rapid.IntRange(1, len(voters)).Draw(t, "quorum")}
		for _, v := range sorted {
			s.Voters = append(s.Voters, election.Voter{Name: v, Data: names(t, "copy")})
		}
		e.Sets = append(e.Sets, s)
	}
	return e
}

func TestWhatIsEncodedDecodesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		same := func(what string, want, got any) {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: %s", what, diff)
			}
		}
		reign := election.Reign{
			Epoch: rapid.Uint64().Draw(t, "epoch"), Holder: names(t, "holder"), ParentTimeline: election.Timeline(rapid.Uint32().Draw(t, "tl")),
			NextTimeline: election.Timeline(rapid.Uint32().Draw(t, "next")), LSN: lsn(t, "lsn"), ModRevision: 7,
		}
		same("reign", reign, DecodeReign(kv("x", string(EncodeReign(reign)))))
		release := election.Release{
			LeaderRevision: rapid.Int64Min(0).Draw(t, "rev"), Name: names(t, "name"), Checkpoint: lsn(t, "cp"),
			Timeline: election.Timeline(rapid.Uint32().Draw(t, "tl")), Reason: rapid.String().Draw(t, "reason"), ModRevision: 7,
		}
		release.Reason = string([]rune(release.Reason)) // what is not text does not survive JSON
		same("release", release, DecodeRelease(kv("x", string(EncodeRelease(release)))))
		offer := election.Offer{Name: names(t, "name"), Lease: 9, Incarnation: names(t, "inc"), For: rapid.Int64Min(0).Draw(t, "for"), ModRevision: 7}
		same("offer", offer, DecodeOffer(kv(OfferKey(offer.Name), string(EncodeOffer(offer)))))
		request := election.FailoverRequest{Leader: names(t, "leader"), Candidate: names(t, "candidate"), ModRevision: 7}
		if rapid.Bool().Draw(t, "scheduled") {
			request.ScheduledAt = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")).UTC()
		}
		same("failover", request, DecodeFailover(kv("x", string(EncodeFailover(request)))))
		set := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{1,6}`), 0, 5, rapid.ID).Draw(t, "set")
		sync := DecodeSync(kv("x", string(EncodeSync(election.SyncState{Leader: names(t, "l"), Quorum: rapid.IntRange(0, 9).Draw(t, "q"), Standbys: set}))))
		same("sync", sync, DecodeSync(kv("x", string(EncodeSync(sync)))))
		if len(set) > 0 {
			withVotes := sync
			withVotes.Electorate = anyElectorate(t, set)
			same("electorate", withVotes, DecodeSync(kv("x", string(EncodeSync(withVotes)))))
		}
		vote := election.Vote{
			Name: "b", Data: names(t, "data"), Epoch: rapid.Uint64Min(1).Draw(t, "of"), LeaderRevision: rapid.Int64Min(1).Draw(t, "against"),
			Timeline: election.Timeline(rapid.Uint32Min(1).Draw(t, "vtl")), LSN: lsn(t, "vlsn") | 1, ModRevision: 7,
		}
		same("vote", vote, DecodeVote(kv(VoteKey("b"), string(EncodeVote(vote)))))
		if len(sync.Standbys) != len(set) {
			t.Fatalf("sync lost somebody: %v, %v", set, sync.Standbys)
		}
		var status election.Status
		status.Optime, status.ModRevision = lsn(t, "optime"), 7
		for _, s := range sync.Standbys {
			status.Slots = append(status.Slots, election.SlotPosition{Name: s, LSN: lsn(t, "slot")})
			status.RetainSlots = append(status.RetainSlots, s)
		}
		same("status", status, DecodeStatus(kv("x", string(EncodeStatus(status)))))
		var rows []election.TimelineRecord
		var safe []election.FailsafeMember
		for i, s := range sync.Standbys {
			rows = append(rows, election.TimelineRecord{Timeline: election.Timeline(i + 1), Switch: lsn(t, "switch"), Reason: s, Timestamp: "t", NewLeader: s})
			safe = append(safe, election.FailsafeMember{Name: s, APIURL: "http://" + s})
		}
		got, ok := DecodeHistory(EncodeHistory(rows))
		same("history", rows, got)
		same("failsafe", safe, DecodeFailsafe(EncodeFailsafe(safe)))
		if !ok {
			t.Fatal("history was not seen")
		}
	})
}

func TestMemberDataDecodesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := MemberData{
			ConnURL: "postgres://" + names(t, "host") + ":5432/postgres", APIURL: names(t, "api"), State: election.StateRunning, Role: "replica",
			Version: "4.0.5", ProxyURL: names(t, "proxy"), CheckpointAfterPromote: rapid.SampledFrom([]election.Tristate{election.Unknown, election.No}).Draw(t, "cap"),
			PendingRestart: true, PendingRestartReason: map[string]ParameterChange{names(t, "param"): {names(t, "old"), names(t, "new")}},
			XlogLocation: lsn(t, "x"), ReplayLSN: lsn(t, "r"), ReceiveLSN: lsn(t, "c"), ReplicationState: "streaming",
			Timeline: election.Timeline(rapid.Uint32().Draw(t, "tl")), Pause: rapid.Bool().Draw(t, "pause"), PghaVersion: "1", Incarnation: names(t, "inc"), DataID: names(t, "data"),
			Tags: map[string]any{names(t, "tag"): names(t, "value")}, PghaExtra: map[string]any{"feature": "on"},
			ScheduledRestart: &ScheduledRestart{Schedule: names(t, "s"), Role: "replica", Timeout: "5", RestartPending: true},
		}
		value := EncodeMember(d)
		if diff := cmp.Diff(d, DecodeMemberData(kv("members/a", string(value)))); diff != "" {
			t.Fatal(diff)
		}
		if !SameMember(value, EncodeMember(d)) {
			t.Fatal("a value differs from itself")
		}
		d.XlogLocation++
		if SameMember(value, EncodeMember(d)) {
			t.Fatal("another position passes for the same")
		}
	})
}

func TestWhatIsWrittenDirectlyIsWhatTheLibraryWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(
			rapid.String().AsAny(), rapid.StringMatching(`[ -~]*`).AsAny(), rapid.Int().AsAny(), rapid.Int64().AsAny(),
			rapid.Uint32().AsAny(), rapid.Uint64().AsAny(), rapid.Bool().AsAny(), rapid.Float64().AsAny(),
		).Draw(t, "value")
		if got, want := string(appendJSON(nil, v)), string(encodeJSON(v)); got != want {
			t.Errorf("%#v: got %s, want %s", v, got, want)
		}
	})
}
