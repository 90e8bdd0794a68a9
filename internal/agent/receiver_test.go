package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/postgres"
)

func TestAStreamIsBelievedWhenItLasts(t *testing.T) {
	const streaming, waiting = "streaming", "waiting"
	type look struct {
		after  time.Duration
		pid    int
		status string
	}
	const ms = time.Millisecond
	for _, tc := range []struct {
		name  string
		looks []look
		want  []bool
	}{
		{"one that stays", []look{{0, 7, streaming}, {100 * ms, 7, streaming}, {100 * ms, 7, streaming}}, []bool{false, true, true}},
		{"one that has just come", []look{{0, 7, streaming}, {10 * ms, 7, streaming}}, []bool{false, false}},
		{"another process each time", []look{{0, 7, streaming}, {100 * ms, 8, streaming}, {100 * ms, 9, streaming}}, []bool{false, false, false}},
		{"none in between", []look{{0, 7, streaming}, {100 * ms, 0, ""}, {100 * ms, 7, streaming}}, []bool{false, false, false}},
		{
			"the same process begins again and again",
			[]look{{0, 7, streaming}, {100 * ms, 7, streaming}, {100 * ms, 7, waiting}, {100 * ms, 7, streaming}, {100 * ms, 7, streaming}, {100 * ms, 7, waiting}, {100 * ms, 7, streaming}},
			[]bool{false, true, false, false, false, false, false},
		},
		{
			"the same process on the next timeline",
			[]look{{0, 7, streaming}, {100 * ms, 7, streaming}, {100 * ms, 7, waiting}, {100 * ms, 7, streaming}, {600 * ms, 7, streaming}},
			[]bool{false, true, false, false, true},
		},
		{"one that was seen before it streamed", []look{{0, 7, "starting"}, {100 * ms, 7, "starting"}, {100 * ms, 7, streaming}, {100 * ms, 7, streaming}}, []bool{false, false, false, true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r receiver
			var got []bool
			now := time.Hour
			for _, l := range tc.looks {
				now += l.after
				var w *postgres.WalReceiver
				if l.pid != 0 {
					w = &postgres.WalReceiver{PID: l.pid, Status: l.status}
				}
				got = append(got, r.look(w, now))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
