package dcs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/election"
)

func kv(key, value string) KV {
	return KV{Key: key, Value: []byte(value), CreateRevision: 3, ModRevision: 7, Lease: 9}
}

func TestDecodeReadsAWholeCluster(t *testing.T) {
	s := Snapshot{Revision: 40, ClusterID: 5, KVs: []KV{
		kv("config", `{"ttl":30}`),
		kv("failover", `{"leader":"a","member":"b"}`),
		kv("failsafe", `{"b":"http://b/patroni","a":"http://a/patroni","c":7}`),
		kv("history", `[[1,100,"no recovery target specified","2026-01-02T03:04:05+00:00","a"],[2,200,"x"]]`),
		kv("initialize", "7000000000000000001"),
		kv("leader", "a"),
		kv("members/b", `{"role":"replica"}`),
		kv("members/a", `{"role":"master","version":"3.0.0"}`),
		kv("members/x/y", `{}`),
		kv("members/", `{}`),
		kv("optime/leader", "99"),
		kv("pgha/epoch", `{"epoch":4,"holder":"a","parent_timeline":2,"next_timeline":3,"lsn":500}`),
		kv("pgha/offer/b", `{"incarnation":"i","for":7}`),
		kv("pgha/vote/c", `{"data":"dc","epoch":4,"leader_revision":7,"timeline":2,"lsn":490}`),
		kv("pgha/vote/b", `{}`),
		kv("pgha/release", `{"leader_revision":6,"name":"b","checkpoint":480,"timeline":2,"reason":"switchover"}`),
		kv("status", `{"optime":1000,"slots":{"z":5,"b":6,"bad":"x"},"retain_slots":["m","k",3]}`),
		kv("sync", `{"leader":"A","quorum":1,"sync_standby":"B, c,,"}`),
		kv("unknown", "whatever"),
	}}
	want := election.Cluster{
		Revision: 40, ClusterID: 5,
		Leader:     election.Leader{Present: true, Name: "a", ModRevision: 7, Lease: 9},
		Initialize: election.Initialize{State: election.BootstrapDone, SystemID: "7000000000000000001", ModRevision: 7},
		Members: []election.Member{
			{
				Name: "a", State: "unknown", Role: "primary", Version: "3.0.0", CheckpointAfterPromote: election.Yes, Lease: 9, ModRevision: 7,
				Tags: election.Tags{FailoverPriority: 1, SyncPriority: 1},
			},
			{
				Name: "b", State: "unknown", Role: "replica", Lease: 9, ModRevision: 7,
				Tags: election.Tags{FailoverPriority: 1, SyncPriority: 1},
			},
		},
		Failover: election.FailoverRequest{Leader: "a", Candidate: "b", ModRevision: 7},
		Sync:     election.SyncState{Leader: "a", Quorum: 1, Standbys: []string{"b", "c"}, ModRevision: 7},
		Status: election.Status{
			Optime: 1000, Slots: []election.SlotPosition{{Name: "b", LSN: 6}, {Name: "z", LSN: 5}},
			RetainSlots: []string{"k", "m"}, ModRevision: 7,
		},
		Reign:   election.Reign{Epoch: 4, Holder: "a", ParentTimeline: 2, NextTimeline: 3, LSN: 500, ModRevision: 7},
		Release: election.Release{LeaderRevision: 6, Name: "b", Checkpoint: 480, Timeline: 2, Reason: "switchover", ModRevision: 7},
		Offers:  []election.Offer{{Name: "b", Lease: 9, Incarnation: "i", For: 7, ModRevision: 7}},
		Votes: []election.Vote{
			{Name: "b", ModRevision: 7},
			{Name: "c", Data: "dc", Epoch: 4, LeaderRevision: 7, Timeline: 2, LSN: 490, ModRevision: 7},
		},
		History: []election.TimelineRecord{
			{Timeline: 1, Switch: 100, Reason: "no recovery target specified", Timestamp: "2026-01-02T03:04:05+00:00", NewLeader: "a"},
			{Timeline: 2, Switch: 200, Reason: "x"},
		},
		HistorySeen: true, HistoryRev: 7,
		Failsafe:    []election.FailsafeMember{{Name: "a", APIURL: "http://a/patroni"}, {Name: "b", APIURL: "http://b/patroni"}},
		FailsafeRev: 7, ConfigRev: 7,
	}
	if diff := cmp.Diff(want, Decode(s)); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeOfWrongTypesIsEmpty(t *testing.T) {
	for _, bad := range []string{``, `null`, `5`, `"x"`, `[]`, `[[]]`, `{`, `{"leader":5}`, `{} {}`, `{"leader":{}}`, "\xff\xfe", `{"optime":-1}`, `{"optime":1e400}`} {
		var s Snapshot
		for _, key := range []string{"config", "failsafe", "history", "pgha/epoch", "pgha/release", "pgha/offer/b", "sync", "status", "members/a"} {
			s.KVs = append(s.KVs, kv(key, bad))
		}
		c := Decode(s)
		if c.Sync.Leader != "" || len(c.Failsafe) != 0 || len(c.History) != 0 || c.Reign.Holder != "" || c.Reign.Epoch != 0 ||
			len(c.Members) != 1 || c.Members[0].ConnURL != "" || len(c.Offers) != 1 {
			t.Errorf("%q decoded as %+v", bad, c)
		}
		if bad != "5" && c.Status.Optime != 0 {
			t.Errorf("%q gave position %d", bad, c.Status.Optime)
		}
	}
}

func TestDecodeInitialize(t *testing.T) {
	claim := KV{Key: KeyClaim, Value: EncodeBootstrap("a", "i"), ModRevision: 7}
	runner := KV{Key: KeyBootstrap, Value: EncodeBootstrap("a", "i"), ModRevision: 7}
	other := claim
	other.ModRevision = 6
	for _, tc := range []struct {
		name string
		kvs  []KV
		want election.Initialize
	}{
		{"never", nil, election.Initialize{State: election.BootstrapNever}},
		{"by a Patroni", []KV{kv("initialize", "")}, election.Initialize{State: election.BootstrapRunning, ModRevision: 7}},
		{"by pgha", []KV{kv("initialize", ""), runner, claim}, election.Initialize{State: election.BootstrapRunning, ModRevision: 7, Runner: "a", RunnerEver: true}},
		{"by pgha, which died", []KV{kv("initialize", ""), claim}, election.Initialize{State: election.BootstrapRunning, ModRevision: 7, RunnerEver: true}},
		{"by a Patroni after pgha died", []KV{kv("initialize", ""), other}, election.Initialize{State: election.BootstrapRunning, ModRevision: 7}},
		{"done", []KV{kv("initialize", "1234567890")}, election.Initialize{State: election.BootstrapDone, SystemID: "1234567890", ModRevision: 7}},
		{"too short", []KV{kv("initialize", "123456789")}, election.Initialize{ModRevision: 7}},
		{"not digits", []KV{kv("initialize", "12345678901x")}, election.Initialize{ModRevision: 7}},
	} {
		if got := Decode(Snapshot{KVs: tc.kvs}).Initialize; got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestDecodeFailover(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for value, want := range map[string]election.FailoverRequest{
		``:                            {},
		`{}`:                          {},
		`{"leader":"","member":null}`: {},
		`{"leader":"a"}`:              {Leader: "a"},
		`{"member":"b","x":1}`:        {Candidate: "b"},
		`a:b`:                         {Leader: "a", Candidate: "b"},
		` a : b `:                     {Leader: "a", Candidate: "b"},
		`a:`:                          {Leader: "a"},
		`:b`:                          {Candidate: "b"},
		`{"scheduled_at":"2026-05-04T03:02:01Z"}`:                         {},
		`{"leader":"a","scheduled_at":"2026-05-04T03:02:01+00:00"}`:       {Leader: "a", ScheduledAt: at},
		`{"leader":"a","scheduled_at":"2026-05-04T05:02:01.000000+0200"}`: {Leader: "a", ScheduledAt: at},
		`{"leader":"a","scheduled_at":"2026-05-04 03:02:01 UTC"}`:         {Leader: "a", ScheduledAt: at},
		`{"leader":"a","scheduled_at":"tomorrow"}`:                        {},
		`{"leader":"a","scheduled_at":"2026-05-04T03:02:01"}`:             {},
		`{"leader":"a","scheduled_at":5}`:                                 {},
		`{"leader":"a","scheduled_at":null}`:                              {Leader: "a"},
	} {
		want.ModRevision = 7
		got := DecodeFailover(kv("failover", value))
		if !got.ScheduledAt.Equal(want.ScheduledAt) {
			t.Errorf("%s: got %v, want %v", value, got.ScheduledAt, want.ScheduledAt)
		}
		got.ScheduledAt, want.ScheduledAt = time.Time{}, time.Time{}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", value, got, want)
		}
	}
}

func TestDecodeLegacyForms(t *testing.T) {
	m := DecodeMember(kv("members/a", "postgres://user:pw@10.0.0.1:5432/postgres?application_name=http%3A%2F%2F10.0.0.1%3A8008%2Fpatroni"))
	if m.ConnURL != "postgres://10.0.0.1:5432/postgres" || m.APIURL != "http://10.0.0.1:8008/patroni" {
		t.Errorf("got %+v", m)
	}
	m = DecodeMember(kv("members/a", `{"conn_kwargs":{"host":"::1","port":5433}}`))
	if m.ConnURL != "postgres://[::1]:5433/postgres" {
		t.Errorf("got %q", m.ConnURL)
	}
	for value, want := range map[string]election.LSN{`4711`: 4711, `{"optime":4711,"slots":"{\"s\": 5}"}`: 4711} {
		if s := DecodeStatus(kv("status", value)); s.Optime != want {
			t.Errorf("%s: got %d", value, s.Optime)
		}
	}
	s := DecodeStatus(kv("status", `{"optime":1,"slots":"{\"s\": 5}","retain_slots":"[\"r\"]"}`))
	if len(s.Slots) != 1 || s.Slots[0].LSN != 5 || len(s.RetainSlots) != 1 {
		t.Errorf("got %+v", s)
	}
	if got := Decode(Snapshot{KVs: []KV{kv("optime/leader", "4711")}}).Status.Optime; got != 4711 {
		t.Errorf("without status: got %d", got)
	}
	if got := Decode(Snapshot{KVs: []KV{kv("optime/leader", "4711"), kv("status", `{"optime":5}`)}}).Status.Optime; got != 5 {
		t.Errorf("with status: got %d", got)
	}
}

func TestDecodeMemberFlags(t *testing.T) {
	for value, want := range map[string]election.Tristate{
		`{"role":"primary","version":"4.0.1","checkpoint_after_promote":false}`: election.No,
		`{"role":"primary","version":"4.0.1"}`:                                  election.Yes,
		`{"role":"master","version":"1.5.6"}`:                                   election.Unknown,
		`{"role":"master","version":"1.5.7"}`:                                   election.Yes,
		`{"role":"primary"}`:                                                    election.Unknown,
		`{"role":"primary","version":"nonsense"}`:                               election.Unknown,
		`{"role":"replica","version":"4.0.1"}`:                                  election.Unknown,
	} {
		if got := DecodeMember(kv("members/a", value)).CheckpointAfterPromote; got != want {
			t.Errorf("%s: got %v, want %v", value, got, want)
		}
	}
	m := DecodeMember(kv("members/a", `{"pgha":{"version":"0.1","incarnation":"abc","data":"d1"},"pending_restart":true,"pause":true,"timeline":3,"xlog_location":10,"receive_lsn":11,"replay_lsn":9}`))
	if !m.IsPgha() || m.Incarnation != "abc" || m.DataID != "d1" || !m.PendingRestart || !m.Pause || m.Timeline != 3 || m.XlogLocation != 10 || m.ReceiveLSN != 11 || m.ReplayLSN != 9 {
		t.Errorf("got %+v", m)
	}
}

func TestDecodeTags(t *testing.T) {
	plain := election.Tags{FailoverPriority: 1, SyncPriority: 1}
	with := func(f func(*election.Tags)) election.Tags { tags := plain; f(&tags); return tags }
	for value, want := range map[string]election.Tags{
		`{}`:                                         plain,
		`{"nofailover":true}`:                        with(func(t *election.Tags) { t.NoFailover, t.FailoverPriority = true, 0 }),
		`{"nofailover":"false"}`:                     with(func(t *election.Tags) { t.NoFailover, t.FailoverPriority = true, 0 }),
		`{"nofailover":false}`:                       plain,
		`{"failover_priority":0}`:                    with(func(t *election.Tags) { t.NoFailover, t.FailoverPriority = true, 0 }),
		`{"failover_priority":-3}`:                   with(func(t *election.Tags) { t.NoFailover, t.FailoverPriority = true, 0 }),
		`{"failover_priority":"5"}`:                  with(func(t *election.Tags) { t.FailoverPriority = 5 }),
		`{"failover_priority":"x"}`:                  plain,
		`{"nofailover":false,"failover_priority":0}`: with(func(t *election.Tags) { t.FailoverPriority = 0 }),
		`{"nofailover":true,"failover_priority":9}`:  with(func(t *election.Tags) { t.NoFailover, t.FailoverPriority = true, 0 }),
		`{"nosync":true}`:                            with(func(t *election.Tags) { t.NoSync, t.SyncPriority = true, 0 }),
		`{"sync_priority":3}`:                        with(func(t *election.Tags) { t.SyncPriority = 3 }),
		`{"noloadbalance":"no"}`:                     with(func(t *election.Tags) { t.NoLoadBalance = true }),
		`{"nostream":"off"}`:                         plain,
		`{"nostream":"on"}`:                          with(func(t *election.Tags) { t.NoStream = true }),
		`{"clonefrom":1}`:                            with(func(t *election.Tags) { t.CloneFrom = true }),
		`{"replicatefrom":"b","colour":"red"}`:       with(func(t *election.Tags) { t.ReplicateFrom = "b" }),
	} {
		raw, ok := parseObject([]byte(value))
		if !ok {
			t.Fatalf("bad test value %s", value)
		}
		if got := DecodeTags(raw); got != want {
			t.Errorf("%s: got %+v, want %+v", value, got, want)
		}
	}
}

func TestSyncNamesTakeTheMembersSpelling(t *testing.T) {
	c := Decode(Snapshot{KVs: []KV{
		kv("members/Node1", `{}`), kv("members/node2", `{}`), kv("members/x", `{}`), kv("members/X", `{}`),
		kv("sync", `{"leader":"node1","quorum":null,"sync_standby":"NODE2,gone,X,Node2"}`),
	}})
	if c.Sync.Leader != "Node1" {
		t.Errorf("got leader %q", c.Sync.Leader)
	}
	if diff := cmp.Diff([]string{"X", "gone", "node2"}, c.Sync.Standbys); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryThatIsNoListSaysNothingOfTheTimeline(t *testing.T) {
	for value, seen := range map[string]bool{`[]`: true, ``: false, `{}`: false, `[[5,6]]`: true} {
		if c := Decode(Snapshot{KVs: []KV{kv("history", value)}}); c.HistorySeen != seen || c.HistoryRev != 7 {
			t.Errorf("%q: got %v at %d, want %v", value, c.HistorySeen, c.HistoryRev, seen)
		}
	}
}
