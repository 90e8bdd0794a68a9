package election

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// row is one expectation: a View, made by mutating one that is in order, and the plan it must get.
type row struct {
	name string
	view View
	with func(*View)
	rule RuleID
	// want are the actions, in order.
	want []Action
	// also are the reconcile rules that must apply, and no others.
	also []RuleID
	// says is a part of the reason.
	says string
	// wake, if not zero, is the wanted Plan.Wake.
	wake time.Duration
	// trouble says that a person should hear about it.
	trouble bool
}

func (r row) build() View {
	v := r.view
	if r.with != nil {
		r.with(&v)
	}
	return v
}

func allRows() []row {
	var all []row
	for _, part := range [][]row{
		blockRows(), jobRows(), stopRows(), titleRows(), pauseRows(), ownerRows(), startRows(), switchoverRows(),
		memberDataRows(), memberDownRows(), memberRunningRows(), bootstrapRows(), vacantRows(), raceRows(), reconcileRows(),
		syncRows(), patroniRows(), freezeRows(), failsafeRows(), syncTitleRows(), syncSwitchoverRows(),
	} {
		all = append(all, part...)
	}
	return all
}

// reconcileHits are the reconcile rules that apply to a steady plan.
func reconcileHits(v View, p Plan) []RuleID {
	var ids []RuleID
	for _, r := range roleTable {
		if r.id != p.Rule || !r.steady {
			continue
		}
		for _, rr := range reconcileTable {
			if (!rr.leader || v.leadsRunning()) && rr.when(&v) {
				ids = append(ids, rr.id)
			}
		}
	}
	return ids
}

func TestDecide(t *testing.T) {
	for _, r := range allRows() {
		t.Run(string(r.rule)+"/"+r.name, func(t *testing.T) {
			v := r.build()
			got := Decide(v)
			if got.Rule != r.rule {
				t.Fatalf("got rule %s (%s), want %s", got.Rule, got, r.rule)
			}
			if diff := cmp.Diff(r.want, got.Actions, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(r.also, reconcileHits(v, got), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("reconcile rules (-want +got):\n%s", diff)
			}
			if !strings.Contains(got.Reason, r.says) {
				t.Errorf("got reason %q, want it to say %q", got.Reason, r.says)
			}
			if r.wake != 0 && got.Wake != r.wake {
				t.Errorf("got wake %s, want %s", got.Wake, r.wake)
			}
			if got.Trouble != r.trouble {
				t.Errorf("got trouble %t, want %t (%s)", got.Trouble, r.trouble, got)
			}
			if got.Reason == "" {
				t.Error("the plan gives no reason")
			}
		})
	}
}

func TestNoTwoRowsHaveTheSameName(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range allRows() {
		key := string(r.rule) + "/" + r.name
		if seen[key] {
			t.Errorf("row %q is there twice", key)
		}
		seen[key] = true
	}
}

func TestEveryRuleIsHitByARow(t *testing.T) {
	hit := make(map[RuleID]bool)
	for _, r := range allRows() {
		v := r.build()
		p := Decide(v)
		hit[p.Rule] = true
		for _, id := range reconcileHits(v, p) {
			hit[id] = true
		}
	}
	for _, r := range Rules() {
		if r.Stage != StageGuard && !hit[r.ID] {
			t.Errorf("rule %s is hit by no row of the tables: add one", r.ID)
		}
	}
}

func TestHealthyViewsAreSteadyAndAskForNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		view View
		rule RuleID
	}{
		"a leader": {healthyLeader(), "leader.steady"}, "a standby": {healthyStandby(), "member.steady"},
	} {
		if p := Decide(tc.view); p.Rule != tc.rule || len(p.Actions) != 0 || p.Trouble || p.Change != "" {
			t.Errorf("%s that lacks nothing got %s", name, p)
		}
	}
}
