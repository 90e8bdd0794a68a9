package postgres

import "testing"

// What fits is what SetSlots would leave as it is.
func TestSlotsFit(t *testing.T) {
	good := Slot{Name: "b", Physical: true, RestartLSN: 5}
	change := func(f func(*Slot)) []Slot {
		sl := good
		f(&sl)
		return []Slot{sl}
	}
	spare := func(Slot) bool { return true }
	b := []WantSlot{{Name: "b"}}
	for _, tt := range []struct {
		name string
		have []Slot
		want []WantSlot
		keep func(Slot) bool
		fit  bool
	}{
		{"nothing wanted, nothing there", nil, nil, nil, true},
		{"as wanted", []Slot{good}, b, nil, true},
		{"missing", nil, b, nil, false},
		{"not wanted any more", []Slot{good}, nil, nil, false},
		{"not wanted, but spared by the caller", []Slot{good}, nil, spare, true},
		{"not wanted, but in use", change(func(s *Slot) { s.Active = true }), nil, nil, true},
		{"not wanted, but synced from a primary", change(func(s *Slot) { s.Synced = true }), nil, nil, true},
		{"of another kind", change(func(s *Slot) { s.Physical = false }), b, spare, false},
		{"reserves nothing", change(func(s *Slot) { s.RestartLSN = 0 }), b, nil, false},
		{"reserves nothing yet, but in use", change(func(s *Slot) { s.RestartLSN, s.Active = 0, true }), b, nil, true},
		{"lost its log", change(func(s *Slot) { s.WALStatus = "lost" }), b, nil, false},
		{"holds back vacuum for nobody", change(func(s *Slot) { s.HasXmin = true }), []WantSlot{{Name: "b", Idle: true}}, nil, false},
		{"behind", []Slot{good}, []WantSlot{{Name: "b", AdvanceTo: 6}}, nil, false},
		{"far enough", []Slot{good}, []WantSlot{{Name: "b", AdvanceTo: 5}}, nil, true},
	} {
		if got := SlotsFit(tt.have, tt.want, tt.keep); got != tt.fit {
			t.Errorf("%s: fit %v", tt.name, got)
		}
	}
}
