package election

import (
	"strings"
	"testing"
	"time"
)

func TestWhoMayPromise(t *testing.T) {
	for _, tc := range []struct {
		name, asker string
		with        func(*View)
		want        string
	}{
		{"a standby promises its leader", "a", func(*View) {}, ""},
		{"without an answer of the store it promises the leader it knows", "a", func(v *View) { v.Store.FreshAt = testNow - time.Hour }, ""},
		{"without an answer of the store it promises another, too", "c", func(v *View) { v.Store.FreshAt = testNow - time.Hour }, ""},
		{"while nobody leads it promises", "a", gone, ""},
		{"another leads", "c", func(*View) {}, "a holds the leader key"},
		{"itself", "b", func(*View) {}, "itself"},
		{"it leads", "a", func(v *View) { v.Own = Own{Revision: 95} }, "holds the leader key"},
		{"it races (hole 15)", "a", func(v *View) { v.Racing = true }, "outcome"},
		{"its fencer is silent", "a", func(v *View) { v.Fencer.Alive = false }, "fencer"},
		{"its server is a primary", "a", func(v *View) { v.Local.Role = RolePrimary }, "primary"},
		{"it is frozen", "a", func(v *View) { v.Local.Freeze.Recorded = true }, "frozen"},
		{"it has sent a vote", "a", func(v *View) { v.Local.Freeze.VoteSent = true }, "voted"},
		{"it has voted", "a", func(v *View) { cast(v, voteOf("b", 100)) }, "voted"},
		{"it has voted in a reign that is over", "a", func(v *View) { old := voteOf("b", 100); old.LeaderRevision = 20; cast(v, old) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := syncVoter()
			tc.with(&v)
			got := MayPromise(v, tc.asker)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAPromiseIsAsLongAsTheLongestTimeToLive(t *testing.T) {
	v := syncVoter()
	if got := PromiseLength(v, 0); got != testTTL {
		t.Errorf("got %s, want the own %s", got, testTTL)
	}
	if got := PromiseLength(v, time.Minute); got != time.Minute {
		t.Errorf("got %s, want what was asked for", got)
	}
	v.Store.Cluster.Reign.TTL = 15 * time.Second
	if got := PromiseLength(v, 0); got != 15*time.Second {
		t.Errorf("got %s, want that of the reign", got)
	}
	setMember(&v, "c", func(m *Member) { m.PghaVersion = "" })
	if got := PromiseLength(v, 0); got != PatroniTTL {
		t.Errorf("got %s, want what a Patroni is configured with at least", got)
	}
}

func TestLostLeaderIsToldOnlyWhenItIsLost(t *testing.T) {
	if got := LostLeader(syncVoter()); got != 0 {
		t.Errorf("got %d from one that hears its leader", got)
	}
	if got := LostLeader(lostVoter()); got != leaderRev {
		t.Errorf("got %d from one that does not, want %d", got, leaderRev)
	}
	v := syncVoter()
	gone(&v)
	if got := LostLeader(v); got != leaderRev {
		t.Errorf("got %d for a key that is gone for good, want %d", got, leaderRev)
	}
	v.Store.Cluster.Reign = Reign{}
	if got := LostLeader(v); got != 0 {
		t.Errorf("got %d where nobody of pgha ever led", got)
	}
}

func TestARoundCountsOnlyByTheSetThatIsThereAtItsEnd(t *testing.T) {
	set := failsafeSet()
	asked := set[1:]
	for _, tc := range []struct {
		name string
		with func(*View)
		want string
	}{
		{"the same set", func(*View) {}, ""},
		{"a member left", func(v *View) { v.Store.Cluster.Failsafe = set[:2] }, ""},
		{"nobody else is left", func(v *View) { v.Store.Cluster.Failsafe = set[:1] }, ""},
		{"a member joined: it promised nothing", func(v *View) {
			v.Store.Cluster.Failsafe = append(failsafeSet(), FailsafeMember{"d", "http://d"})
		}, "d became"},
		{"a member moved: another answered", func(v *View) {
			v.Store.Cluster.Failsafe = []FailsafeMember{set[0], {"b", "http://elsewhere"}, set[2]}
		}, "b became"},
		{"a member may be about to join", func(v *View) { v.Failsafe.Unsettled = []FailsafeMember{{"d", "http://d"}} }, "d became"},
		{"the set was emptied, which bars nobody", func(v *View) { v.Store.Cluster.Failsafe = nil }, "given up"},
		{"the set may be about to be emptied", func(v *View) { v.Failsafe.Opening = true }, "given up"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := cutOff()
			tc.with(&v)
			got := RoundMisses(v, asked)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
