package restapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pgha/pgha/internal/election"
)

// heardOf is one report to the agent.
type heardOf struct {
	From     string
	Revision int64
	Heard    election.Instant
}

func TestPulseTellsTheAgentWhoHeardIt(t *testing.T) {
	const ms = time.Millisecond
	question := func(q PulseQuery) string { return PulsePath + "?" + q.Encode() }
	for _, tt := range []struct {
		name, target string
		want         *heardOf
	}{
		{"heard 100 ms ago, round trip 3 ms", question(PulseQuery{"b", 50, at - 100*ms, 3 * ms}), &heardOf{"b", 50, at - 103*ms}},
		{"this very moment", question(PulseQuery{"b", 50, at, 0}), &heardOf{"b", 50, at}},
		{"a name with odd letters", question(PulseQuery{"b&for=1 ü+", 50, at, ms}), &heardOf{"b&for=1 ü+", 50, at - ms}},
		{"longest round trip", question(PulseQuery{"b", 50, at, time.Minute}), &heardOf{"b", 50, at - time.Minute}},
		{"nothing heard yet", question(PulseQuery{From: "b", Revision: 50}), nil},
		{"no name", question(PulseQuery{"", 50, at - ms, ms}), nil},
		{"no revision", question(PulseQuery{"b", 0, at - ms, ms}), nil},
		{"stamp of the future", question(PulseQuery{"b", 50, at + 1, ms}), nil},
		{"round trip backwards in time", question(PulseQuery{"b", 50, at - ms, -time.Hour}), nil},
		{"round trip of an hour", question(PulseQuery{"b", 50, at - ms, time.Hour}), nil},
		{"stamp before the start of the machine", PulsePath + "?from=b&for=50&echo=5&trip=9", nil},
		{"name too long", question(PulseQuery{strings.Repeat("b", 256), 50, at - ms, ms}), nil},
		{"query too long", question(PulseQuery{"b", 50, at - ms, ms}) + "&x=" + strings.Repeat("x", 1024), nil},
		{"no number", PulsePath + "?from=b&for=50&echo=1e3&trip=1", nil},
		{"number too large", PulsePath + "?from=b&for=50&echo=9&trip=99999999999999999999", nil},
		{"name of a strange form", PulsePath + "?from=%zz&for=50&echo=900000000000&trip=1", nil},
		{"no parameters", PulsePath, nil},
		{"others beside", question(PulseQuery{"b", 50, at, 0}) + "&new=1&&=", &heardOf{"b", 50, at}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			node := newFakeNode(syncLeader).lead(time.Second)
			var got *heardOf
			node.PulseFunc = func(from string, revision int64, heard election.Instant) {
				got = &heardOf{from, revision, heard}
			}
			w := ask(newTestServer(t, node, nil), http.MethodGet, tt.target, "")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if w.Code != http.StatusOK || !json.Valid(w.Body.Bytes()) || w.Body.Len() > 200 {
				t.Errorf("got %d %q, want 200 and a small object whatever the question", w.Code, w.Body)
			}
			if n := node.calls.Load(); n != 0 {
				t.Errorf("a pulse called the agent %d times", n)
			}
		})
	}
}

func TestPulseOfANodeThatDoesNotCareIsAnswered(t *testing.T) {
	node := newFakeNode(syncLeader)
	s := newTestServer(t, struct{ Node }{node}, nil)
	w := ask(s, http.MethodGet, PulsePath+"?"+PulseQuery{"b", 50, at, 0}.Encode(), "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"revision":50`) {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

func TestPulseTurnsRedByItself(t *testing.T) {
	node := newFakeNode(syncLeader).lead(time.Second)
	s := newTestServer(t, node, nil)
	for _, tt := range []struct {
		late election.Instant
		want bool
	}{{-1, true}, {0, false}} {
		node.now.Store(int64(at + time.Second + tt.late))
		var body struct {
			At     election.Instant
			Leader bool
		}
		w := ask(s, http.MethodGet, PulsePath, "")
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Leader != tt.want || body.At != at+time.Second+tt.late {
			t.Errorf("%d ns after the deadline: got %q, %v", tt.late, w.Body, err)
		}
	}
}

func TestPulseQueryIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := PulseQuery{
			From: rapid.StringN(0, 40, 200).Draw(t, "from"), Revision: rapid.Int64().Draw(t, "revision"),
			Echo: election.Instant(rapid.Int64Range(1, 1<<62).Draw(t, "echo")), Trip: election.Instant(rapid.Int64().Draw(t, "trip")),
		}
		got, ok := parsePulseQuery(q.Encode())
		if !ok || got != q {
			t.Fatalf("%+v came back as %+v, %v", q, got, ok)
		}
	})
}
