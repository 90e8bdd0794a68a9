package deploy_test

import (
	"strings"
	"testing"
)

// A dependency without a reason is one too many: docs/decisions names each and why it is there.
func TestEveryDirectDependencyHasAReason(t *testing.T) {
	reasons := readFile(t, "../docs/decisions/0007-direct-dependencies.md")
	direct := map[string]bool{}
	inRequire := false
	for line := range strings.Lines(readFile(t, "../go.mod")) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "require" && len(fields) == 2:
			inRequire = true
		case fields[0] == ")":
			inRequire = false
		case inRequire && !strings.Contains(line, "// indirect"):
			direct[fields[0]] = true
		}
	}
	if len(direct) < 5 {
		t.Fatalf("found %d direct dependencies in go.mod: is it tidy?", len(direct))
	}
	for module := range direct {
		if !strings.Contains(reasons, "`"+module+"`") {
			t.Errorf("no reason is given for %s", module)
		}
	}
	for line := range strings.Lines(reasons) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for i, module := range strings.Split(cells[1], "`") {
			if i%2 == 1 && strings.Contains(module, "/") && !direct[module] {
				t.Errorf("a reason is given for %s, which is no direct dependency", module)
			}
		}
	}
}
