package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the expected texts anew")
	flag.Parse()
	os.Exit(m.Run())
}

// compareWithFile checks a text against a file; a missing file stands for an empty text.
func compareWithFile(t *testing.T, got, file string) {
	t.Helper()
	if got != "" && !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	if updating() {
		var err error
		if got == "" {
			err = os.RemoveAll(file)
		} else {
			err = os.WriteFile(file, []byte(got), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

func configFiles(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) == ".yml" {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

func TestGoodFilesLoadAndSayOnlyWhatIsExpected(t *testing.T) {
	files := configFiles(t, "testdata/good")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file, nil)
			if err != nil {
				t.Fatalf("load:\n%v", err)
			}
			var notes []string
			for _, ignored := range c.Ignored {
				notes = append(notes, "ignored: "+ignored)
			}
			for _, w := range c.Warnings {
				notes = append(notes, "warning: "+w.String())
			}
			compareWithFile(t, strings.Join(notes, "\n"), strings.TrimSuffix(file, ".yml")+".notes")
			if err := c.Validate(); err != nil {
				t.Errorf("a loaded configuration must stay valid:\n%v", err)
			}
			if _, err := c.InitialDynamic(); err != nil {
				t.Errorf("initial dynamic configuration: %v", err)
			}
		})
	}
}

func TestBadFilesAreRefusedWithTheExpectedMessages(t *testing.T) {
	files := configFiles(t, "testdata/bad")
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file, nil)
			if err == nil {
				t.Fatal("loaded without a problem")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is shown in: %v", err)
			}
			compareWithFile(t, err.Error(), strings.TrimSuffix(file, ".yml")+".want")
		})
	}
}

func TestThereAreAtLeastFortyFiles(t *testing.T) {
	n := len(configFiles(t, "testdata/good")) + len(configFiles(t, "testdata/bad"))
	if n < 40 {
		t.Errorf("got %d files, want 40 or more", n)
	}
}
