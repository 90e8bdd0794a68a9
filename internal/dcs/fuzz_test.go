package dcs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seeds are values as Patroni, people and broken programs write them.
func seeds(f *testing.F) {
	f.Helper()
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `5`, `a:b`, `postgres://u:p@h:1/d?application_name=http%3A%2F%2Fh`, "\xff", `{"leader":"a","member":"b","scheduled_at":"2026-05-04T03:02:01Z"}`,
		`{"leader":"a","quorum":1,"sync_standby":"b,c"}`, `{"optime":67108960,"slots":{"a":1},"retain_slots":["b"]}`,
		`{"conn_url":"postgres://h:5432/postgres","api_url":"http://h:8008/patroni","state":"running","role":"replica","version":"4.0.5","xlog_location":5,"tags":{"nofailover":true}}`,
		`[[1,5,"reason","2026-05-04T03:02:01+00:00","a"]]`, `{"epoch":1,"holder":"a"}`, `{"a":{"b":{"c":[1,{"d":null}]}}}`,
		`{"leader":"a","quorum":1,"sync_standby":"b,c","pgha":{"epoch":3,"leader_data":"da","sets":[{"voters":[{"name":"b","data":"db"}],"wait":1,"quorum":1}]}}`,
		`{"data":"db","epoch":3,"leader_revision":9,"timeline":2,"lsn":77}`, `1e999`, `{"optime":1.0}`,
	} {
		f.Add([]byte(s))
	}
}

// FuzzDecode puts one foreign value under every key: decoding must not panic, must be repeatable, and
// what it understood must survive being written again.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, value []byte) {
		var s Snapshot
		for _, key := range []string{
			KeyConfig, KeyFailover, KeyFailsafe, KeyHistory, KeyInitialize, KeyLeader, MemberKey("a"), KeyOptime, KeyBootstrap, KeyClaim,
			KeyEpoch, OfferKey("b"), KeyRelease, KeyStatus, KeySync, VoteKey("c"),
		} {
			s.KVs = append(s.KVs, KV{Key: key, Value: value, ModRevision: 7, Lease: 9})
		}
		c := Decode(s)
		if diff := cmp.Diff(c, Decode(s)); diff != "" {
			t.Fatalf("decoded differently the second time: %s", diff)
		}
		again := func(key string, value []byte) KV { return KV{Key: key, Value: value, ModRevision: 7, Lease: 9} }
		if diff := cmp.Diff(c.Status, DecodeStatus(again(KeyStatus, EncodeStatus(c.Status)))); diff != "" {
			t.Errorf("status: %s", diff)
		}
		if diff := cmp.Diff(c.Reign, DecodeReign(again(KeyEpoch, EncodeReign(c.Reign)))); diff != "" {
			t.Errorf("reign: %s", diff)
		}
		if diff := cmp.Diff(c.Release, DecodeRelease(again(KeyRelease, EncodeRelease(c.Release)))); diff != "" {
			t.Errorf("release: %s", diff)
		}
		if diff := cmp.Diff(c.Votes[0], DecodeVote(again(VoteKey("c"), EncodeVote(c.Votes[0])))); diff != "" {
			t.Errorf("vote: %s", diff)
		}
		if e := c.Sync.Electorate; e != nil {
			if diff := cmp.Diff(c.Sync, DecodeSync(again(KeySync, EncodeSync(c.Sync)))); diff != "" {
				t.Errorf("electorate: %s", diff)
			}
			for _, s := range e.Sets {
				if s.Quorum < 1 || s.Quorum > len(s.Voters) {
					t.Errorf("a quorum that nobody, or nobody but all and more, can reach: %+v", s)
				}
			}
		}
		if diff := cmp.Diff(c.Failsafe, DecodeFailsafe(EncodeFailsafe(c.Failsafe))); diff != "" {
			t.Errorf("failsafe: %s", diff)
		}
		if c.Failover.IsZero() && !c.Failover.ScheduledAt.IsZero() {
			t.Errorf("a schedule without a request: %+v", c.Failover)
		}
		_ = DecodeMemberData(s.KVs[6])
	})
}

func FuzzSameMember(f *testing.F) {
	f.Add([]byte(`{"a":1}`), []byte(`{"a":"1"}`))
	f.Add([]byte(`{"a":[{}]}`), []byte(`x`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if SameMember(a, b) != SameMember(b, a) {
			t.Error("the comparison depends on the order")
		}
		if !SameMember(a, a) {
			t.Error("a value differs from itself")
		}
	})
}
