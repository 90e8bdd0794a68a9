package election

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestRuleIDsAreUniqueAndWellFormed(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+\.[a-z]+(_[a-z]+)*$`)
	seen := make(map[RuleID]bool)
	for _, r := range Rules() {
		if !form.MatchString(string(r.ID)) {
			t.Errorf("rule %q: want an ID of the form area.behaviour_in_words", r.ID)
		}
		if seen[r.ID] {
			t.Errorf("rule %s is there twice", r.ID)
		}
		seen[r.ID] = true
	}
}

func TestEveryRuleHasASentenceThatExplainsIt(t *testing.T) {
	for _, r := range Rules() {
		if len(r.Doc) < 20 || !strings.HasSuffix(r.Doc, ".") || strings.ToUpper(r.Doc[:1]) != r.Doc[:1] || strings.Contains(r.Doc, "\n") {
			t.Errorf("rule %s: want a sentence, got %q", r.ID, r.Doc)
		}
	}
}

func TestEveryRuleHasItsParts(t *testing.T) {
	for _, r := range roleTable {
		if r.when == nil || r.then == nil {
			t.Errorf("rule %s lacks a part", r.id)
		}
	}
	for _, r := range reconcileTable {
		if r.when == nil || r.then == nil {
			t.Errorf("rule %s lacks a part", r.id)
		}
	}
}

func TestRulesDocumentIsWhatTheCodeGenerates(t *testing.T) {
	got, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatalf("%v: run `make gen`", err)
	}
	if string(got) != RulesMarkdown() {
		t.Error("docs/rules.md differs from what the rules say: run `make gen` and look at the difference")
	}
}

func TestActionNamesAreDistinctAndPlain(t *testing.T) {
	seen := make(map[string]bool)
	for _, a := range everyAction() {
		n := ActionName(a)
		if n == "" || strings.ContainsAny(n, ". *") || seen[n] {
			t.Errorf("action %T has the name %q", a, n)
		}
		seen[n] = true
		if a.String() == "" {
			t.Errorf("action %T does not say what it does", a)
		}
		if IsDestructive(a) && !IsJob(a) {
			t.Errorf("action %T destroys and is no job", a)
		}
	}
}

func everyAction() []Action {
	return []Action{
		ClaimBootstrap{},
		ClearBootstrap{},
		Bootstrap{},
		WriteInitialize{},
		ProbePeers{},
		AskLease{},
		AcquireLeader{},
		AdoptHandOver{},
		Promote{},
		StartPrimary{},
		StartStandby{},
		Follow{},
		Demote{},
		StopServer{},
		ReleaseLeader{},
		ForgetLeader{},
		HandOver{},
		OfferLease{},
		WithdrawOffer{},
		NameCandidate{},
		ClearFailover{},
		CompareHistory{},
		Rewind{},
		Clone{},
		RestartServer{},
		RefuseCommand{},
		CancelJob{},
		ApplyConfig{},
		SetSlots{},
		WriteStatus{},
		WriteHistory{},
		WriteFailsafe{},
		RestoreConfig{},
		CheckpointNow{},
		TakeOver{},
		SetSync{},
		WriteSync{},
		DeleteSync{},
		FreezeServer{},
		CastVote{},
		WithdrawVote{},
		Thaw{},
		AskPromises{},
	}
}
