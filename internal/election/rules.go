package election

import (
	"fmt"
	"strings"
)

//go:generate go run ./genrules -o ../../docs/rules.md

// Stage says at which point of a decision a rule is asked.
type Stage string

// Stages of a decision, in order.
const (
	// StageRole: exactly one of these rules makes the plan, the first that applies.
	StageRole Stage = "role"
	// StageReconcile: each of these that applies adds its action to a steady plan.
	StageReconcile Stage = "reconcile"
	// StageGuard: what a person sees when the second opinion refuses a plan.
	StageGuard Stage = "guard"
)

// RuleDoc describes one rule for documents and tools.
type RuleDoc struct {
	ID    RuleID
	Doc   string
	Stage Stage
	// Steady: the reconcile rules add their actions to this rule's plan.
	Steady bool
}

// Rules lists all rules in the order in which they are asked.
func Rules() []RuleDoc {
	var all []RuleDoc
	for _, r := range roleTable {
		all = append(all, RuleDoc{ID: r.id, Doc: r.doc, Stage: StageRole, Steady: r.steady})
	}
	for _, r := range reconcileTable {
		all = append(all, RuleDoc{ID: r.id, Doc: r.doc, Stage: StageReconcile})
	}
	return append(all, RuleDoc{
		ID: ruleRefused, Stage: StageGuard,
		Doc: "A plan broke one of the sacred rules that are checked a second time, in other words, on every finished plan. " +
			"It was dropped, and everything stays as it is. This is a defect of pgha: please report it with the reason shown.",
	}, RuleDoc{
		ID: ruleNone, Stage: StageGuard,
		Doc: "No role rule applied. Nothing is done. This is a defect of pgha: please report it.",
	})
}

// RulesMarkdown is the text of docs/rules.md.
func RulesMarkdown() string {
	var b strings.Builder
	b.WriteString(rulesPreface)
	rules := Rules()
	for _, s := range []struct {
		stage       Stage
		title, text string
	}{
		{StageRole, "Role rules", "The first that applies makes the plan. A rule marked *steady* leaves time for the reconcile rules."},
		{StageReconcile, "Reconcile rules", "Each that applies adds its action to a steady plan."},
		{StageGuard, "Defects", "Neither of these should ever be seen."},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| # | rule | meaning |\n|---|---|---|\n", s.title, s.text)
		n := 0
		for _, r := range rules {
			if r.Stage != s.stage {
				continue
			}
			n++
			steady := ""
			if r.Steady {
				steady = " *Steady.*"
			}
			fmt.Fprintf(&b, "| %d | `%s` | %s%s |\n", n, r.ID, strings.ReplaceAll(r.Doc, "|", `\|`), steady)
		}
	}
	return b.String()
}

const rulesPreface = `# Rules

Every decision of an agent carries the ID of the rule that made it: in the log (` + "`rule`" + `), in the
metric ` + "`pgha_decisions_total`" + `, in the REST API and in ` + "`pghactl why`" + `. The rules are asked from top to
bottom. This file is generated from the code (` + "`make gen`" + `); do not edit it.
`
