package model

import (
	"testing"
)

// TestWorlds walks each world as far as PGHA_MODEL_STATES allows.
func TestWorlds(t *testing.T) {
	for _, c := range Worlds() {
		t.Run(c.Name, func(t *testing.T) {
			c.MaxStates = maxStates(t, 6_000)
			r := Explore(c)
			t.Log(r.String())
			if r.Violation != violNone {
				t.Fatal(r.Story())
			}
		})
	}
}
