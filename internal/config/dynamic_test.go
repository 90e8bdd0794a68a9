package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func parseOK(t *testing.T, text string) (Dynamic, []Warning) {
	t.Helper()
	d, warnings, err := ParseDynamic([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d, warnings
}

func TestTimingIsCorrected(t *testing.T) {
	for _, tt := range []struct {
		name                string
		text                string
		ttl, loop, retry    int64
		patroni             [3]int64
		wantWarningsAtLeast int
	}{
		{"nothing given", `{}`, 10, 3, 3, [3]int64{30, 10, 10}, 0},
		{"fits", `{"ttl":30,"loop_wait":10,"retry_timeout":10}`, 30, 10, 10, [3]int64{30, 10, 10}, 0},
		{"loop_wait gives way", `{"ttl":30,"loop_wait":10,"retry_timeout":11}`, 30, 8, 11, [3]int64{30, 8, 11}, 1},
		{"then retry_timeout", `{"ttl":20,"loop_wait":10,"retry_timeout":10}`, 20, 1, 9, [3]int64{20, 1, 9}, 1},
		{"long loop", `{"ttl":25,"loop_wait":30,"retry_timeout":3}`, 25, 19, 3, [3]int64{25, 19, 3}, 1},
		{"long loop and retry", `{"ttl":40,"loop_wait":25,"retry_timeout":10}`, 40, 20, 10, [3]int64{40, 20, 10}, 1},
		{"shortest ttl", `{"ttl":3,"loop_wait":1,"retry_timeout":1}`, 3, 1, 1, [3]int64{20, 1, 3}, 0},
		{"shortest ttl with defaults", `{"ttl":3}`, 3, 1, 1, [3]int64{20, 1, 9}, 1},
		{"below every minimum", `{"ttl":1,"loop_wait":0,"retry_timeout":0}`, 3, 1, 1, [3]int64{20, 1, 3}, 3},
		{"negative", `{"ttl":-5,"loop_wait":-1,"retry_timeout":-1}`, 3, 1, 1, [3]int64{20, 1, 3}, 3},
		{"even ttl", `{"ttl":4,"loop_wait":4,"retry_timeout":4}`, 4, 1, 1, [3]int64{20, 4, 4}, 1},
		{"as text", `{"ttl":"30","loop_wait":" 5 ","retry_timeout":"10"}`, 30, 5, 10, [3]int64{30, 5, 10}, 0},
		{"null is not given", `{"ttl":null}`, 10, 3, 3, [3]int64{30, 10, 10}, 0},
		{"fractions are cut off", `{"ttl":10.9}`, 10, 3, 3, [3]int64{20, 1, 9}, 1},
		{"absurdly long", `{"ttl":1e300}`, 31536000, 3, 3, [3]int64{31536000, 10, 10}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, warnings := parseOK(t, tt.text)
			got := [3]int64{seconds(d.TTL), seconds(d.LoopWait), seconds(d.RetryTimeout)}
			if want := [3]int64{tt.ttl, tt.loop, tt.retry}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			if len(warnings) < tt.wantWarningsAtLeast || (tt.wantWarningsAtLeast == 0 && len(warnings) > 0) {
				t.Errorf("got warnings %v, want %d", warnings, tt.wantWarningsAtLeast)
			}
			p := d.ForPatroniPeers()
			if got := [3]int64{seconds(p.TTL), seconds(p.LoopWait), seconds(p.RetryTimeout)}; got != tt.patroni {
				t.Errorf("with Patroni members: got %v, want %v", got, tt.patroni)
			}
		})
	}
}

func TestTimingAlwaysFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom([]limits{pghaLimits(), patroniLimits()}).Draw(t, "limits")
		second := func(least time.Duration, name string) time.Duration {
			return max(least, time.Duration(rapid.Int64Range(0, 100).Draw(t, name))*time.Second)
		}
		ttl, loop, retry := fitTiming(second(l.ttlMin, "ttl"), second(l.loopMin, "loop"), second(l.retryMin, "retry"))
		if loop+2*retry > ttl || loop < l.loopMin || retry < l.retryMin || ttl < l.ttlMin {
			t.Fatalf("ttl %v, loop_wait %v, retry_timeout %v", ttl, loop, retry)
		}
	})
}

func TestUnusableDynamicConfigurationIsRefusedAsAWhole(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{``, "not valid JSON"},
		{`null`, "want a JSON object"},
		{`[]`, "want a JSON object"},
		{`{} {}`, "more than one JSON value"},
		{`{"ttl":"soon"}`, `ttl: "soon": want a whole number of seconds`},
		{`{"loop_wait":[1]}`, `loop_wait: a list: want a whole number of seconds`},
		{`{"retry_timeout":{}}`, `retry_timeout: a mapping: want a whole number of seconds`},
		{`{"ttl":"NaN"}`, `ttl: "NaN": want a whole number`},
		{`{"postgresql":{"parameters":["a"]}}`, `postgresql.parameters: a list: want a mapping`},
		{`{"postgresql":"x"}`, `postgresql: "x": want a mapping`},
		{`{"synchronous_mode":"sometimes"}`, `synchronous_mode: "sometimes": want true, false or quorum`},
		{`{"standby_cluster":"10.0.0.9"}`, `standby_cluster: "10.0.0.9": want a mapping`},
	} {
		_, _, err := ParseDynamic([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.text, err, tt.want)
		}
	}
	var problems Problems
	_, _, err := ParseDynamic([]byte(`{"ttl":"a","loop_wait":"b"}`))
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("got %v, want two Problems", err)
	}
}

func TestBadValuesGiveWayToDefaults(t *testing.T) {
	d, warnings := parseOK(t, `{
		"maximum_lag_on_failover": "1MB", "maximum_lag_on_syncnode": -2, "synchronous_node_count": 0, "failsafe_mode": "perhaps",
		"primary_start_timeout": "never", "member_slots_ttl": -1, "max_timelines_history": true, "maximum_lag_on_failver": 1,
		"somebodys_key": 1, "slots": [1], "ignore_slots": {"a": 1}
	}`)
	if d.MaximumLagOnFailover != 1<<20 || d.MaximumLagOnSyncnode != -1 || d.SynchronousNodeCount != 1 || d.FailsafeMode ||
		d.PrimaryStartTimeout != 300*time.Second || d.MemberSlotsTTL != 30*time.Minute || d.MaxTimelinesHistory != 0 || d.Slots != nil || d.IgnoreSlots != nil {
		t.Errorf("got %+v", d)
	}
	var paths []string
	for _, w := range warnings {
		paths = append(paths, w.Path)
	}
	want := []string{
		"maximum_lag_on_failover", "maximum_lag_on_syncnode", "max_timelines_history", "primary_start_timeout", "synchronous_node_count",
		"failsafe_mode", "member_slots_ttl", "slots", "ignore_slots", "maximum_lag_on_failver",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestEveryDynamicKeyIsRead(t *testing.T) {
	d, warnings := parseOK(t, `{
		"primary_race_backoff": 2, "maximum_lag_on_failover": 5, "maximum_lag_on_syncnode": 6, "max_timelines_history": 7,
		"master_start_timeout": 8, "master_stop_timeout": "1min", "synchronous_mode": "Quorum", "synchronous_mode_strict": "on",
		"synchronous_node_count": 2, "failsafe_mode": true, "check_timeline": 1, "pause": true, "member_slots_ttl": "30min",
		"standby_cluster": {"host": ["a","b"], "port": "5433", "primary_slot_name": "s", "create_replica_methods": ["x", "basebackup"],
			"restore_command": "cp", "archive_cleanup_command": "rm", "recovery_min_apply_delay": "5min", "other": 1},
		"slots": {"phys": null, "p2": {"type": "physical", "cluster_type": "primary"}, "cdc": {"database": "app", "plugin": "pgoutput"},
			"BAD": {}, "half": {"type": "logical", "database": "x"}, "odd": {"type": "virtual"}, "text": "x", "lsn": {"type": "physical", "lsn": 5}},
		"ignore_slots": [{"name": "x", "type": "logical"}, {}, 5], "pgha": {"takeover": "time", "takeover_silence": "1s"}
	}`)
	if len(warnings) != 6 {
		t.Errorf("got %d warnings, want 6: %v", len(warnings), warnings)
	}
	d.Raw = nil
	want := Dynamic{
		TTL: defaultTTL, LoopWait: defaultLoopWait, RetryTimeout: defaultRetryTimeout,
		PrimaryRaceBackoff: 2 * time.Second, MaximumLagOnFailover: 5, MaximumLagOnSyncnode: 6, MaxTimelinesHistory: 7,
		PrimaryStartTimeout: 8 * time.Second, PrimaryStopTimeout: time.Minute, SynchronousMode: SyncQuorum, SynchronousModeStrict: true,
		SynchronousNodeCount: 2, FailsafeMode: true, CheckTimeline: true, Pause: true, MemberSlotsTTL: 30 * time.Minute,
		StandbyCluster: &StandbyCluster{
			Host: "a,b", Port: 5433, PrimarySlotName: "s", CreateReplicaMethods: []string{"x", "basebackup"},
			RestoreCommand: "cp", ArchiveCleanupCommand: "rm", RecoveryMinApplyDelay: "5min",
		},
		Slots: []Slot{
			{Name: "cdc", Type: SlotLogical, Database: "app", Plugin: "pgoutput"},
			{Name: "lsn", Type: SlotPhysical},
			{Name: "p2", Type: SlotPhysical, ClusterType: "primary"},
			{Name: "phys", Type: SlotPhysical},
		},
		IgnoreSlots:     []SlotMatcher{{Name: "x", Type: SlotLogical}},
		TakeoverSilence: time.Second, TakeoverTimeOnly: true,
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewNamesWinOverOldOnes(t *testing.T) {
	d, _ := parseOK(t, `{"master_start_timeout": 8, "primary_start_timeout": 9,
		"slots": {"c": {}}, "permanent_slots": {"b": {}}, "permanent_replication_slots": {"a": {}}}`)
	if d.PrimaryStartTimeout != 9*time.Second || len(d.Slots) != 1 || d.Slots[0].Name != "a" {
		t.Errorf("got %v and %v", d.PrimaryStartTimeout, d.Slots)
	}
}

func TestStandbyClusterNeedsHostPortOrRestoreCommand(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: false, `{"standby_cluster":null}`: false, `{"standby_cluster":{}}`: false,
		`{"standby_cluster":{"primary_slot_name":"x"}}`:     false,
		`{"standby_cluster":{"host":"","port":0}}`:          false,
		`{"standby_cluster":{"port":5432}}`:                 true,
		`{"standby_cluster":{"restore_command":"cp %f"}}`:   true,
		`{"standby_cluster":{"host":"a","port":"nowhere"}}`: true,
	} {
		if d, _ := parseOK(t, text); (d.StandbyCluster != nil) != want {
			t.Errorf("%s: got %v", text, d.StandbyCluster)
		}
	}
}

func TestSynchronousModes(t *testing.T) {
	for text, want := range map[string]SyncMode{
		`{}`: SyncOff, `{"synchronous_mode":null}`: SyncOff, `{"synchronous_mode":false}`: SyncOff, `{"synchronous_mode":"off"}`: SyncOff,
		`{"synchronous_mode":true}`: SyncOn, `{"synchronous_mode":"on"}`: SyncOn, `{"synchronous_mode":1}`: SyncOn, `{"synchronous_mode":"quorum"}`: SyncQuorum,
	} {
		if d, _ := parseOK(t, text); d.SynchronousMode != want {
			t.Errorf("%s: got %v, want %v", text, d.SynchronousMode, want)
		}
	}
}

func TestDefaultsOfANewCluster(t *testing.T) {
	d := DefaultDynamic()
	if d.TTL != 10*time.Second || d.LoopWait != 3*time.Second || d.RetryTimeout != 3*time.Second || d.MaximumLagOnFailover != 1<<20 || !d.FailsafeMode {
		t.Errorf("got %+v", d)
	}
	want := `{"failsafe_mode":true,"loop_wait":3,"maximum_lag_on_failover":1048576,"postgresql":{"use_pg_rewind":true,"use_slots":true},"retry_timeout":3,"ttl":10}`
	if string(d.Raw) != want {
		t.Errorf("got %s", d.Raw)
	}
}

func TestBootstrapSettingsWinOverDefaultsOfANewCluster(t *testing.T) {
	for _, tt := range []struct {
		name string
		dcs  map[string]any
		want string
	}{
		{"no section", nil, string(DefaultDynamic().Raw)},
		{
			"given keys win and others fit",
			map[string]any{"ttl": int64(5), "failsafe_mode": false, "postgresql": map[string]any{"use_slots": false, "parameters": map[string]any{"a": true}}},
			`{"failsafe_mode":false,"loop_wait":1,"maximum_lag_on_failover":1048576,"postgresql":{"parameters":{"a":true},"use_pg_rewind":true,"use_slots":false},"retry_timeout":2,"ttl":5}`,
		},
		{
			"what is given stays as written, even if it does not fit",
			map[string]any{"ttl": int64(20), "loop_wait": int64(10), "retry_timeout": int64(10)},
			`{"failsafe_mode":true,"loop_wait":10,"maximum_lag_on_failover":1048576,"postgresql":{"use_pg_rewind":true,"use_slots":true},"retry_timeout":10,"ttl":20}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			if tt.dcs != nil {
				c.Bootstrap = &Bootstrap{DCS: tt.dcs}
			}
			got, err := c.InitialDynamic()
			if err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestPatch(t *testing.T) {
	for _, tt := range []struct {
		name, old string
		patch     string
		want      string
		changed   bool
	}{
		{"sets", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`, true},
		{"replaces", `{"a":1}`, `{"a":[2]}`, `{"a":[2]}`, true},
		{"null deletes", `{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`, true},
		{"null for what is not there", `{"b":2}`, `{"a":null}`, `{"b":2}`, false},
		{"mappings merge", `{"p":{"x":1,"y":{"z":1}}}`, `{"p":{"y":{"z":null,"w":2}}}`, `{"p":{"x":1,"y":{"w":2}}}`, true},
		{"mapping replaces a value", `{"p":1}`, `{"p":{"a":1,"b":null}}`, `{"p":{"a":1}}`, true},
		{"value replaces a mapping", `{"p":{"a":1}}`, `{"p":5}`, `{"p":5}`, true},
		{"same", `{"a":1,"p":{"b":2}}`, `{"p":{"b":2}}`, `{"a":1,"p":{"b":2}}`, false},
		{"exact numbers survive", `{"big":12345678901234567890,"f":1.10}`, `{"a":1}`, `{"a":1,"big":12345678901234567890,"f":1.10}`, true},
		{"commands stay readable", `{"c":"a && b > c"}`, `{"d":"<&>"}`, `{"c":"a && b > c","d":"<&>"}`, true},
		{"unknown keys are kept", `{"of_another_version":{"deep":[1,{"x":null}]}}`, `{"ttl":20}`, `{"of_another_version":{"deep":[1,{"x":null}]},"ttl":20}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			patch, err := decodeObject([]byte(tt.patch))
			if err != nil {
				t.Fatal(err)
			}
			got, changed, err := Patch([]byte(tt.old), patch)
			if err != nil || string(got) != tt.want || changed != tt.changed {
				t.Errorf("got %s, %t, %v; want %s, %t", got, changed, err, tt.want, tt.changed)
			}
		})
	}
	if _, _, err := Patch(nil, nil); err == nil {
		t.Error("nothing to patch: want an error")
	}
}

func TestMargin(t *testing.T) {
	for _, tt := range []struct{ ttl, configured, want time.Duration }{
		{10 * time.Second, 0, 1550 * time.Millisecond},
		{10 * time.Second, 1600 * time.Millisecond, 1600 * time.Millisecond},
		{10 * time.Second, time.Second, 1550 * time.Millisecond},
		{3 * time.Second, 0, 675 * time.Millisecond},
		{3 * time.Second, time.Hour, time.Second},
		{30 * time.Second, 5 * time.Second, 5 * time.Second},
	} {
		if got := Margin(tt.ttl, tt.configured); got != tt.want {
			t.Errorf("Margin(%v, %v) = %v, want %v", tt.ttl, tt.configured, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(3, 3600).Draw(t, "ttl")) * time.Second
		m := Margin(ttl, time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "configured")))
		if m < ttl/8+300*time.Millisecond {
			t.Fatalf("below the floor: %v for %v", m, ttl)
		}
		if ttl-2*m < ttl/3 {
			t.Fatalf("a primary would step down before its next renewal: %v for %v", m, ttl)
		}
	})
}

func TestSlotMatchersNeedAllTheirFields(t *testing.T) {
	for _, tt := range []struct {
		m    SlotMatcher
		want bool
	}{
		{SlotMatcher{Name: "a"}, true},
		{SlotMatcher{Name: "b"}, false},
		{SlotMatcher{Type: SlotLogical, Database: "d", Plugin: "p"}, true},
		{SlotMatcher{Name: "a", Plugin: "q"}, false},
		{SlotMatcher{Type: SlotPhysical}, false},
		{SlotMatcher{Database: "other"}, false},
	} {
		if got := tt.m.Matches("a", SlotLogical, "d", "p"); got != tt.want {
			t.Errorf("%+v: got %t", tt.m, got)
		}
	}
}
