package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

func sender(name string, lsn election.LSN) postgres.WalSender {
	return postgres.WalSender{PID: int(name[0]), ApplicationName: name, State: "streaming", FlushLSN: lsn, SentLSN: lsn}
}

// A primary that starts shows rows that nobody confirmed. It is not shown as one before they are.
func TestGateWaitsForTheStandbys(t *testing.T) {
	setting := election.LocalSync{Known: true, Setting: election.SyncSetting{Any: true, Wait: 1, Names: []string{"b", "c"}}}
	start := time.Unix(100, 0)
	look := func(senders ...postgres.WalSender) postgres.Observation {
		return postgres.Observation{Role: election.RolePrimary, StartTime: start, FlushLSN: 500, Replication: senders}
	}
	var g gate
	if g.look(look(), true, setting) {
		t.Error("open without a standby")
	}
	if g.look(look(sender("b", 499)), true, setting) {
		t.Error("open although the standby lacks the end of the log")
	}
	if g.look(look(sender("x", 900)), true, setting) {
		t.Error("opened by a standby that commits do not wait for")
	}
	if g.look(look(sender("b", 499), sender("b", 900)), true, election.LocalSync{Known: true, Setting: election.SyncSetting{Any: true, Wait: 2, Names: []string{"b", "c"}}}) {
		t.Error("one standby, connected twice, counts for two")
	}
	if !g.look(look(sender("b", 500)), true, setting) {
		t.Error("shut although the standby has everything")
	}
	if !g.look(look(), true, setting) {
		t.Error("shut again without a restart")
	}
	start = start.Add(time.Hour)
	if g.look(look(), true, setting) {
		t.Error("open after a restart, before anybody confirmed")
	}
	if g.look(look(sender("b", 900)), true, election.LocalSync{}) {
		t.Error("opened although it is not known what commits wait for")
	}
	if g.look(look(), true, election.LocalSync{Known: true, Foreign: true}) {
		t.Error("opened by a setting that is not pgha's")
	}
	for name, open := range map[string]bool{
		"asynchronous mode":            (&gate{}).look(look(), false, setting),
		"commits that wait for nobody": (&gate{}).look(look(), true, election.LocalSync{Known: true}),
	} {
		if !open {
			t.Errorf("shut in %s", name)
		}
	}
}

// PostgreSQL keeps the walsender of a dead node for a minute; nobody may wait for it that long.
func TestReplicasLeaveOutALeftover(t *testing.T) {
	var r replicas
	names := func(list []election.Walsender) (out []string) {
		for _, w := range list {
			out = append(out, w.Name)
		}
		return out
	}
	dead, live := sender("b", 100), sender("c", 100)
	dead.SentLSN = 200
	look := func(now election.Instant) []string {
		live.ReplyTime = time.Unix(0, int64(now))
		got, _ := r.look(postgres.Observation{Role: election.RolePrimary, Replication: []postgres.WalSender{dead, live}}, now)
		return names(got)
	}
	if diff := cmp.Diff([]string{"b", "c"}, look(time.Second)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b", "c"}, look(time.Second+staleReply)); diff != "" {
		t.Errorf("left out too early: %s", diff)
	}
	if diff := cmp.Diff([]string{"c"}, look(2*time.Second+staleReply)); diff != "" {
		t.Errorf("the leftover counts: %s", diff)
	}
	dead.SentLSN = dead.FlushLSN
	if diff := cmp.Diff([]string{"b", "c"}, look(time.Hour)); diff != "" {
		t.Errorf("a standby that has nothing to confirm was left out: %s", diff)
	}
	_, streamed := r.look(postgres.Observation{Role: election.RolePrimary}, 2*time.Hour)
	want := []election.Streamed{{Name: "b", At: time.Hour}, {Name: "c", At: time.Hour}}
	if diff := cmp.Diff(want, streamed); diff != "" {
		t.Errorf("last seen: %s", diff)
	}
}

// While another setting is on its way to the files, nothing may be concluded from the one that is there.
func TestAChangeUnderWayIsUncertain(t *testing.T) {
	have := election.LocalSync{
		Known: true, InForce: true, Barrier: 100, Setting: election.SyncSetting{Any: true, Wait: 1, Names: []string{"b", "c"}},
	}
	other, same := election.SyncSetting{}, have.Setting
	copies := []election.Voter{{Name: "b", Data: "db"}, {Name: "c", Data: "dc"}}
	for _, r := range []struct {
		name           string
		changing       *election.SyncSetting
		known, inForce bool
	}{
		{"no change", nil, true, true},
		{"another setting", &other, false, false},
		{"the same setting, proven anew", &same, true, false},
	} {
		s, l := syncFacts{changing: r.changing, copies: copies}, have
		s.overlay(&l)
		if l.Known != r.known || l.InForce != r.inForce {
			t.Errorf("%s: known %t, in force %t, want %t and %t", r.name, l.Known, l.InForce, r.known, r.inForce)
		}
		if diff := cmp.Diff(copies, l.Copies); r.inForce && diff != "" {
			t.Errorf("%s: %s", r.name, diff)
		}
	}
}

// The end of a change, with an error or without, leaves nothing known until somebody has looked since: the last
// look may have seen the setting before it, and what is published must cover the one after it.
func TestWhatWasSeenBeforeAChangeEndedIsForgotten(t *testing.T) {
	have := election.LocalSync{Known: true, InForce: true, Barrier: 100, Setting: election.SyncSetting{Any: true, Wait: 1, Names: []string{"b"}}}
	f := facts{local: election.Local{Sync: have}}
	f.sync.ended(&f.local.Sync, 2*time.Second)
	if f.local.Sync.Known || f.local.Sync.InForce {
		t.Errorf("after the change: %+v", f.local.Sync)
	}
	for began, known := range map[election.Instant]bool{time.Second: false, 3 * time.Second: true} {
		l := election.Local{Sync: have}
		f.lookSync(&l, postgres.Observation{Role: election.RolePrimary}, true, began)
		if l.Sync.Known != known || l.Sync.InForce != known {
			t.Errorf("a look that began at %s: %+v", began, l.Sync)
		}
	}
}
