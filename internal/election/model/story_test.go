package model

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStories compares the shortest traces of a few deliberate bugs, told in plain words, with those on
// file. Set PGHA_MODEL_UPDATE=1 to write them anew.
func TestStories(t *testing.T) {
	files := map[string]string{
		"B1 votes not compared":                   "votes-not-compared.txt",
		"B2 unfrozen by a restart of the agent":   "unfrozen-by-restart.txt",
		"B6 acquired on the deletion":             "acquired-on-deletion.txt",
		"B13 in force because it was written":     "in-force-because-written.txt",
		"B21 thawed by an unknown outcome":        "thawed-by-unknown-outcome.txt",
		"a token taken up without a new revision": "token-without-new-revision.txt",
	}
	told := 0
	for _, c := range bugCases() {
		file, ok := files[c.name]
		if !ok {
			continue
		}
		told++
		t.Run(file, func(t *testing.T) {
			c.cfg.Bug, c.cfg.MaxStates = c.bug, 400_000
			got := Explore(c.cfg).Story()
			path := filepath.Join("testdata", file)
			if os.Getenv("PGHA_MODEL_UPDATE") != "" {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the shortest trace is another one:\n%s", got)
			}
		})
	}
	if told != len(files) {
		t.Errorf("%d of %d stories belong to no bug", len(files)-told, len(files))
	}
}
