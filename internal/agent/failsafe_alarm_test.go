package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// The alarm is put off by every proof of ownership, goes off when none comes, and is silent for a member
// that does not lead or has failsafe mode off.
func TestTheFailsafeAlarmGoesOffOnlyWithoutProofs(t *testing.T) {
	var rang atomic.Int32
	poke := func() { rang.Add(1) }
	leads := func(ttl time.Duration) election.View {
		v := election.View{Own: election.Own{Revision: 1, Sent: Now(), TTL: ttl}}
		v.Policy.FailsafeMode = true
		return v
	}
	var f failsafeAlarm
	defer func() { f.timer.Stop() }()
	v := leads(240 * time.Millisecond) // due after 100 ms
	f.set(v, poke)
	for end := Now() + time.Second; rang.Load() == 0; time.Sleep(time.Millisecond) {
		if Now() > end+10*time.Second {
			t.Fatal("no alarm without a proof")
		}
	}
	rang.Store(0)
	v = leads(time.Hour)
	f.set(v, poke)
	v.Own.Sent -= 25 * time.Minute
	f.proven(v.Own) // an old proof: due now, after the least wait of ttl/24
	if due := failsafeDue(v.Own, 0); due > Now() {
		t.Errorf("due in %s", due-Now())
	}
	if wait := f.wait(v.Own, 0); wait != time.Hour/24 {
		t.Errorf("the least wait is %s", wait)
	}
	promised := v.Own
	promised.Promised = promised.Sent + 30*time.Minute
	if due := failsafeDue(promised, 0); due != promised.Promised+20*time.Minute {
		t.Errorf("with promises due %s after the round", due-promised.Promised)
	}
	if due := failsafeDue(v.Own, v.Own.Sent+time.Hour); due != v.Own.Sent+time.Hour+5*time.Minute {
		t.Errorf("after a round that failed due %s after it", due-v.Own.Sent-time.Hour)
	}
	for name, change := range map[string]func(*election.View){
		"off":    func(v *election.View) { v.Policy.FailsafeMode = false },
		"nobody": func(v *election.View) { v.Own = election.Own{} },
	} {
		v := leads(24 * time.Millisecond)
		change(&v)
		f.set(v, poke)
		f.proven(election.Own{Revision: 1, Sent: Now() - time.Second, TTL: 24 * time.Millisecond})
		if f.timer.Stop() {
			t.Errorf("%s: the alarm is set", name)
		}
	}
	if rang.Load() != 0 {
		t.Errorf("%d alarms too many", rang.Load())
	}
}
