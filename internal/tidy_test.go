// Package internal_test checks what no compiler does: the purity of the core, the size of files and
// functions, and what must not be left in the tree.
package internal_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/election"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 70
)

// allowed lists what may break a limit, with the reason. It is to stay short.
var allowed = map[string]string{}

// files are the paths below the repository's root, as slash paths, that match.
func files(t *testing.T, match func(path string) bool) []string {
	t.Helper()
	var out []string
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "node_modules"}, d.Name()):
			return fs.SkipDir
		case !d.IsDir() && match(path):
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatal("no file matches: the check looks in the wrong place")
	}
	return out
}

func isCode(path string) bool {
	return strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
}

func isCore(path string) bool { return isCode(path) && filepath.Dir(path) == "internal/election" }

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, path string) (*token.FileSet, *ast.File) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, read(t, path), parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return set, f
}

func TestTheCoreImportsNothingThatTouchesTheWorld(t *testing.T) {
	pure := []string{"cmp", "errors", "fmt", "maps", "math", "slices", "strconv", "strings", "time"}
	for _, path := range files(t, isCore) {
		_, f := parse(t, path)
		for _, imp := range f.Imports {
			if name := strings.Trim(imp.Path.Value, `"`); !slices.Contains(pure, name) {
				t.Errorf("%s imports %s: the core is made of values", path, name)
			}
		}
	}
}

func TestTheCoreHasNoGoroutineNoChannelNoClockAndNoMapInItsFacts(t *testing.T) {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "Sleep", "NewTimer", "NewTicker"}
	for _, path := range files(t, isCore) {
		set, f := parse(t, path)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a go statement in the core", set.Position(n.Pos()))
			case *ast.ChanType:
				t.Errorf("%s: a channel in the core", set.Position(n.Pos()))
			case *ast.StructType:
				for _, field := range n.Fields.List {
					ast.Inspect(field.Type, func(m ast.Node) bool {
						if _, ok := m.(*ast.MapType); ok {
							t.Errorf("%s: a map among the facts, whose order is not one", set.Position(m.Pos()))
						}
						return true
					})
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: time.%s in the core, whose clock is View.Now", set.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	used := make(map[string]bool)
	tooLong := func(what string, lines, limit int) {
		if lines <= limit {
			return
		}
		if allowed[what] != "" {
			used[what] = true
			return
		}
		t.Errorf("%s has %d lines, the limit is %d", what, lines, limit)
	}
	for _, path := range files(t, isCode) {
		tooLong(path, bytes.Count(read(t, path), []byte("\n")), maxFileLines)
		set, f := parse(t, path)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1
				tooLong(path+":"+fn.Name.Name, lines, maxFunctionLines)
			}
		}
	}
	for what := range allowed {
		if !used[what] {
			t.Errorf("%s is allowed to be long and is not: take it off the list", what)
		}
	}
}

func TestNothingIsLeftToDoInTheCode(t *testing.T) {
	marks := regexp.MustCompile(`\b(` + "FIX" + "ME|TO" + "DO|XX" + `X)\b`)
	for _, path := range files(t, func(path string) bool {
		return (strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "cmd/")) && strings.HasSuffix(path, ".go")
	}) {
		for i, line := range strings.Split(string(read(t, path)), "\n") {
			if m := marks.FindString(line); m != "" {
				t.Errorf("%s:%d: %s left in the code", path, i+1, m)
			}
		}
	}
}

func TestEveryRuleIsInTheRulesDocument(t *testing.T) {
	text := string(read(t, "docs/rules.md"))
	for _, r := range election.Rules() {
		if !strings.Contains(text, "| `"+string(r.ID)+"` |") {
			t.Errorf("docs/rules.md does not mention %s: run `make gen`", r.ID)
		}
	}
}

func TestDocumentsSpeakOnlyOfRulesThatExist(t *testing.T) {
	known := make(map[string]bool)
	areas := make(map[string]bool)
	for _, r := range election.Rules() {
		known[string(r.ID)] = true
		area, _, _ := strings.Cut(string(r.ID), ".")
		areas[area] = area != "bootstrap" // which is a section of the configuration as well
	}
	quoted := regexp.MustCompile("`([a-z]+)\\.([a-z]+(?:_[a-z]+)*)`")
	for _, path := range files(t, func(path string) bool { return strings.HasSuffix(path, ".md") }) {
		for _, m := range quoted.FindAllStringSubmatch(string(read(t, path)), -1) {
			id := m[1] + "." + m[2]
			if areas[m[1]] && !known[id] && m[2] != "go" {
				t.Errorf("%s speaks of the rule %s, which does not exist", path, id)
			}
		}
	}
}

func TestNoPathOfAWorkplaceIsInTheTree(t *testing.T) {
	paths := regexp.MustCompile(`(^|[\s"'=(` + "`" + `])(/wo` + `rk/|/tmp/pg` + `ha\b)|shared/ref` + `erence`)
	text := regexp.MustCompile(`\.(go|md|sh|yml|yaml|toml|txt|txtar|json|service|cfg|conf)$|(^|/)(Makefile|Dockerfile[^/]*|\.gitignore)$`)
	for _, path := range files(t, text.MatchString) {
		for i, line := range strings.Split(string(read(t, path)), "\n") {
			if m := paths.FindString(line); m != "" {
				t.Errorf("%s:%d: the path of a workplace: %s", path, i+1, strings.TrimSpace(m))
			}
		}
	}
}
