package restapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// sink is a ResponseWriter that keeps nothing.
type sink struct {
	header http.Header
	code   int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(code int)        { s.code = code }

func BenchmarkHealth(b *testing.B) {
	for _, bb := range []struct{ name, method, path string }{
		{"HEAD primary", http.MethodHead, "/primary"},
		{"OPTIONS root", http.MethodOptions, "/"},
		{"GET primary", http.MethodGet, "/primary"},
		{"GET pulse", http.MethodGet, "/pgha/pulse?from=b&for=50&echo=1000000000000&trip=400000"},
		{"GET replica with lag", http.MethodGet, "/replica?lag=1MB"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			node := newFakeNode(primaryState).lead(time.Hour)
			s := newTestServer(b, node, nil)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest(bb.method, bb.path, nil)
				w := &sink{header: http.Header{}}
				for pb.Next() {
					s.serve(w, r)
				}
			})
			if n := node.calls.Load(); n != 0 {
				b.Errorf("health checks called the agent %d times", n)
			}
		})
	}
}

// A check without a body allocates nothing of ours, so that a flood of checks can not make the
// garbage collector delay the one that matters.
func TestHealthCheckWithoutBodyDoesNotAllocate(t *testing.T) {
	s := newTestServer(t, newFakeNode(primaryState).lead(time.Hour), nil)
	pulse := PulsePath + "?" + PulseQuery{From: "b", Revision: 50, Echo: at, Trip: time.Millisecond}.Encode()
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodOptions, "/primary", nil), httptest.NewRequest(http.MethodGet, pulse, nil),
	} {
		w := &sink{header: http.Header{}}
		if n := testing.AllocsPerRun(1000, func() { s.serve(w, r) }); n > 0 && (!raceDetector || r.Method != http.MethodGet) {
			t.Errorf("%s: got %v allocations per check, want none", r.URL.Path, n)
		}
	}
}
