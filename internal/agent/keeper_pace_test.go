package agent

import (
	"testing"
	"time"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/election"
)

// resting is a leader whose next round is far away.
func resting(silence time.Duration) (*Agent, election.Own) {
	a := &Agent{}
	a.keeper = newKeeper(a)
	own := election.Own{Revision: 7, Lease: 1, Epoch: 1, Sent: Now(), TTL: time.Hour}
	a.keeper.own = own
	a.facts.dynamic.SynchronousMode = config.SyncQuorum
	a.facts.dynamic.TakeoverSilence = silence
	a.facts.cluster.Sync = election.SyncState{ModRevision: 1, Leader: "a", Electorate: voters(1, "b", "c")}
	return a, own
}

// A leader proves its title before its time when its voters fall silent, and not sooner.
func TestVotersThatAreHeardPutTheProofOff(t *testing.T) {
	const silence = 200 * time.Millisecond
	a, own := resting(silence)
	begun := Now()
	heard := make(chan election.Instant, 1)
	go func() {
		for range 50 {
			a.Pulse("b", own.Revision, Now())
			a.Pulse("C", own.Revision, Now())
			sleepCtx(t.Context(), 5*time.Millisecond)
		}
		heard <- Now()
	}()
	if err := a.keeper.rest(t.Context(), begun, Now()+time.Hour); err != nil {
		t.Fatal(err)
	}
	<-heard // on a machine that stood still the round may have come in between
	if err := a.keeper.rest(t.Context(), begun, Now()+time.Hour); err != nil {
		t.Fatal(err)
	}
	if due, ok := a.proofDue(own, begun); !ok || due > Now() {
		t.Errorf("a round %s before a proof is due (%t)", due-Now(), ok)
	}
	if first := begun + silence/paceOfSilence; Now() <= first {
		t.Errorf("nothing was put off: a round at %s, without voters due at %s", Now(), first)
	}
}

// Where no takeover by votes is possible, or no title is held, nothing but the regular time counts.
func TestNobodyIsWaitedForWithoutATakeover(t *testing.T) {
	for name, change := range map[string]func(*Agent){
		"by time only": func(a *Agent) { a.facts.dynamic.TakeoverTimeOnly = true },
		"no title":     func(a *Agent) { a.keeper.own = election.Own{} },
		"no voters":    func(a *Agent) { a.facts.cluster.Sync = election.SyncState{} },
	} {
		t.Run(name, func(t *testing.T) {
			a, own := resting(time.Nanosecond)
			change(a)
			next := Now() + 100*time.Millisecond
			begun := Now()
			a.keeper.pace.begin(a.keeper, begun)
			a.Pulse("b", own.Revision, Now())
			a.keeper.pace.fire(a.keeper)
			a.keeper.pace.end()
			if err := a.keeper.rest(t.Context(), begun, next); err != nil {
				t.Fatal(err)
			}
			if Now() < next {
				t.Errorf("a round %s before its time", next-Now())
			}
		})
	}
}
