package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func tagsOf(t *testing.T, text string) Tags {
	t.Helper()
	return localWith(t, "tags: "+text+"\n").Tags
}

func TestAMemberThatSignsOffIsNoSynchronousStandby(t *testing.T) {
	for _, own := range []Tags{nil, {}, {tagNoSync: false, tagSyncPriority: 3}, {tagNoFailover: true}} {
		got := own.SignedOff()
		if !Tags(got).NoSync() || Tags(got).NoFailover() != own.NoFailover() {
			t.Errorf("%v: signed off as %v", own, got)
		}
		if own[tagNoSync] == true || own[tagSyncPriority] == 0 {
			t.Errorf("the tags themselves were changed: %v", own)
		}
	}
}

func TestMeaningOfTags(t *testing.T) {
	for _, tt := range []struct {
		tags             string
		barred           bool
		priority         int
		noSync, noStream bool
		replicateFrom    string
	}{
		{"{}", false, 1, false, false, ""},
		{"{nofailover: true}", true, 0, false, false, ""},
		{"{nofailover: no}", false, 1, false, false, ""},
		{`{nofailover: "false"}`, true, 0, false, false, ""}, // any text is true
		{"{failover_priority: 0}", true, 0, false, false, ""},
		{"{failover_priority: 5}", false, 5, false, false, ""},
		{`{failover_priority: "5"}`, false, 5, false, false, ""},
		{"{nofailover: false, failover_priority: 0}", false, 0, false, false, ""},
		{"{nofailover: true, failover_priority: 5}", true, 0, false, false, ""},
		{"{nofailover: null, failover_priority: 0}", true, 0, false, false, ""},
		{"{nosync: yes}", false, 1, true, false, ""},
		{"{sync_priority: 0}", false, 1, true, false, ""},
		{`{nostream: "on"}`, false, 1, false, true, ""},
		{`{nostream: "off"}`, false, 1, false, false, ""},
		{"{replicatefrom: b}", false, 1, false, false, "b"},
		{"{replicatefrom: ''}", false, 1, false, false, ""},
	} {
		tags := tagsOf(t, tt.tags)
		if tags.NoFailover() != tt.barred || tags.FailoverPriority() != tt.priority || tags.NoSync() != tt.noSync ||
			tags.NoStream() != tt.noStream || tags.ReplicateFrom() != tt.replicateFrom {
			t.Errorf("%s: got nofailover %t, priority %d, nosync %t, nostream %t, replicatefrom %q", tt.tags,
				tags.NoFailover(), tags.FailoverPriority(), tags.NoSync(), tags.NoStream(), tags.ReplicateFrom())
		}
	}
}

func TestPublishedTags(t *testing.T) {
	for _, tt := range []struct {
		tags string
		want map[string]any
	}{
		{"{clonefrom: false, nofailover: false, noloadbalance: no, nosync: off, nostream: 0}", map[string]any{}},
		{"{clonefrom: true, noloadbalance: 1}", map[string]any{"clonefrom": true, "noloadbalance": int64(1)}},
		{"{nofailover: false, failover_priority: 2}", map[string]any{"nofailover": false, "failover_priority": int64(2)}},
		{"{nosync: false, sync_priority: 2}", map[string]any{"nosync": false, "sync_priority": int64(2)}},
		{"{rack: off, zone: '', list: [1, a], replicatefrom: b}", map[string]any{"rack": false, "zone": "", "list": []any{int64(1), "a"}, "replicatefrom": "b"}},
	} {
		if diff := cmp.Diff(tt.want, tagsOf(t, tt.tags).Published()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.tags, diff)
		}
	}
	more := tagsOf(t, "{clonefrom: [x], noloadbalance: {a: 1}, sync_priority: 4}")
	if !more.CloneFrom() || !more.NoLoadBalance() || more.SyncPriority() != 4 {
		t.Errorf("got %t, %t, %d", more.CloneFrom(), more.NoLoadBalance(), more.SyncPriority())
	}
	if got := Tags(nil).Published(); len(got) != 0 {
		t.Errorf("no tags: got %v", got)
	}
}
