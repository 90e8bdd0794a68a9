package model

import (
	"fmt"
	"os"
	"testing"
)

// TestWorlds walks each world as far as PGHA_MODEL_STATES allows. With PGHA_MODEL_TABLE set it also appends a row
// for each to that file.
func TestWorlds(t *testing.T) {
	for _, c := range Worlds() {
		t.Run(c.Name, func(t *testing.T) {
			c.MaxStates = maxStates(t, 5_000)
			r := Explore(c)
			t.Log(r.String())
			if r.Violation != violNone {
				t.Fatal(r.Story())
			}
			if path := os.Getenv("PGHA_MODEL_TABLE"); path != "" {
				f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := fmt.Fprintln(f, r.Row()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
