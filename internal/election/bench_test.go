package election

import "testing"

// BenchmarkDecide is one decision for each of a few common Views.
func BenchmarkDecide(b *testing.B) {
	for _, bc := range []struct {
		name string
		view View
	}{
		{"leader", healthyLeader()},
		{"standby", healthyStandby()},
		{"vacant", vacant()},
		{"synchronous leader", syncLeader()},
		{"voter", syncVoter()},
		{"winner", winner()},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(bc.view)
			}
		})
	}
}
