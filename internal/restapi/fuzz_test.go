package restapi

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// Any body to any changing endpoint gets an answer of HTTP, never a panic (500 is what a panic
// turns into), and only an object reaches the agent.
func FuzzChangeBodies(f *testing.F) {
	for _, row := range changeRows() {
		f.Add(uint8(0), row.body)
	}
	f.Add(uint8(7), `{"leader":{"a":[1,2]},"candidate":1e999,"scheduled_at":true}`)
	f.Add(uint8(3), `{"schedule":"2099-13-45T99:99:99Z","timeout":"99999999999999999999d"}`)
	f.Add(uint8(9), `{"slots":{"x":-1,"y":1e30},"pgha":{"ttl_ms":99999999999999999}}`)
	node := newFakeNode(nil)
	s := newTestServer(f, node, nil)
	routes := mutatingRoutes()
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		r := routes[int(which)%len(routes)]
		before := node.calls.Load()
		w := ask(s, r.method, r.path, body)
		if w.Code < 200 || w.Code == http.StatusInternalServerError || w.Code > 599 {
			t.Errorf("%s %s %q: got %d %q", r.method, r.path, body, w.Code, w.Body)
		}
		needsNone := r.body == "" && body == "" || r.method == "DELETE" || r.path == "/reload"
		if node.calls.Load() > before && !needsNone && !isObject([]byte(body)) {
			t.Errorf("%s %s %q reached the agent", r.method, r.path, body)
		}
	})
}

// Any path and query to a reading endpoint gets 200, 202, 400, 404, 502 or 503.
func FuzzReadingPaths(f *testing.F) {
	for _, r := range readingRoutes() {
		f.Add(r.path, "lag=1MB&tag_az=eu")
	}
	f.Add("/pgha/caught-up", "lsn=FFFFFFFF/FFFFFFFF&wait=0")
	f.Add("/pgha/pulse", "from=b&for=50&echo=1&trip=9223372036854775807&for=%zz;&from=%")
	f.Add("/replica", "lag=1e400&lag=%zz;&tag_=")
	s := newTestServer(f, newFakeNode(nil), nil)
	f.Fuzz(func(t *testing.T, path, rawQuery string) {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := httptest.NewRequest(method, "/", nil)
			r.URL.Path, r.URL.RawQuery = path, rawQuery
			w := httptest.NewRecorder()
			s.serve(w, r)
			if !slices.Contains([]int{200, 202, 400, 404, 502, 503}, w.Code) {
				t.Errorf("%s %q?%q: got %d %q", method, path, rawQuery, w.Code, w.Body)
			}
		}
	})
}

func FuzzUnits(f *testing.F) {
	for _, s := range []string{"1MB", "", "-1", "1e3", "1.5 GB", "NaN", "Inf", "9999999999999999999TB", "1min"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseBytes(s)
		if d, ok := parseSeconds(s); ok && strings.HasPrefix(s, "1") && d < 0 {
			t.Errorf("%q: got %v", s, d)
		}
	})
}
