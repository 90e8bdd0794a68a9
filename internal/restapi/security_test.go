package restapi

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"
)

type route struct{ method, path, body string }

func mutatingRoutes() []route {
	return []route{
		{"PATCH", "/config", `{"ttl":20}`},
		{"PUT", "/config", `{"ttl":20}`},
		{"POST", "/reload", ""},
		{"POST", "/restart", ""},
		{"DELETE", "/restart", ""},
		{"POST", "/reinitialize", ""},
		{"POST", "/failover", `{"candidate":"b"}`},
		{"POST", "/switchover", `{"leader":"a"}`},
		{"DELETE", "/switchover", ""},
		{"POST", "/failsafe", `{"name":"a"}`},
	}
}

func readingRoutes() []route {
	var routes []route
	for _, path := range append(checks(), "/patroni", "/cluster", "/history", "/config", "/failsafe", "/metrics", "/pgha/pulse",
		"/liveness", "/readiness", "/pgha/why", "/pgha/status", "/pgha/caught-up?lsn=1") {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			routes = append(routes, route{method, path, ""})
		}
	}
	return routes
}

func TestChangesNeedCredentials(t *testing.T) {
	credentials := map[string]struct {
		set  func(*http.Request)
		text string // empty: let in
	}{
		"missing":        {func(*http.Request) {}, "no auth header received"},
		"wrong password": {func(r *http.Request) { r.SetBasicAuth("admin", "wrong") }, "not authenticated"},
		"wrong user":     {func(r *http.Request) { r.SetBasicAuth("Admin", "secret") }, "not authenticated"},
		"empty":          {func(r *http.Request) { r.SetBasicAuth("", "") }, "not authenticated"},
		"shifted colon":  {func(r *http.Request) { r.SetBasicAuth("admin:", "secret") }, "not authenticated"},
		"other scheme":   {func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }, "not authenticated"},
		"garbage":        {func(r *http.Request) { r.Header.Set("Authorization", "Basic ///") }, "not authenticated"},
		"right":          {func(r *http.Request) { r.SetBasicAuth("admin", "secret") }, ""},
	}
	node := newFakeNode(nil)
	s := newTestServer(t, node, func(o *Options) { o.Username, o.Password = "admin", "secret" })
	for name, c := range credentials {
		for _, r := range mutatingRoutes() {
			before := node.calls.Load()
			w := ask(s, r.method, r.path, r.body, c.set)
			reached := node.calls.Load() > before
			switch {
			case c.text == "" && (w.Code >= 300 || !reached):
				t.Errorf("%s %s with %s credentials: got %d %q, want to be let in", r.method, r.path, name, w.Code, w.Body)
			case c.text != "" && (w.Code != http.StatusUnauthorized || reached || w.Body.String() != c.text):
				t.Errorf("%s %s with %s credentials: got %d %q, want 401 %q", r.method, r.path, name, w.Code, w.Body, c.text)
			case c.text != "" && w.Header().Get("WWW-Authenticate") != `Basic realm="Patroni"`:
				t.Errorf("%s %s: no challenge in %v", r.method, r.path, w.Header())
			}
		}
	}
}

func TestReadingNeedsNoCredentials(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), func(o *Options) {
		o.Username, o.Password, o.Allowlist = "admin", "secret", []string{"10.9.9.9"}
	})
	for _, r := range readingRoutes() {
		if w := ask(s, r.method, r.path, ""); w.Code == 401 || w.Code == 403 {
			t.Errorf("%s %s: got %d, want an answer", r.method, r.path, w.Code)
		}
	}
}

func TestAllowlist(t *testing.T) {
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	for _, tt := range []struct {
		name           string
		list           []string
		members        bool
		peer           string
		in, inFailsafe bool
	}{
		{"no list", nil, false, "10.0.0.9:1", true, true},
		{"address in the list", []string{"10.0.0.9"}, false, "10.0.0.9:1", true, true},
		{"address not in the list", []string{"10.0.0.9"}, false, "10.0.0.8:1", false, false},
		{"network", []string{"10.0.0.0/24"}, false, "10.0.0.8:1", true, true},
		{"network with host bits", []string{"10.0.0.77/24"}, false, "10.0.0.8:1", true, true},
		{"outside the network", []string{"10.0.0.0/24"}, false, "10.0.1.8:1", false, false},
		{"mapped address", []string{"10.0.0.9"}, false, "[::ffff:10.0.0.9]:1", true, true},
		{"address of version 6", []string{"fd00::/8"}, false, "[fd00::1]:1", true, true},
		{"name", []string{"localhost"}, false, "127.0.0.1:1", true, true},
		{"name that does not resolve", []string{"nobody.invalid"}, false, "127.0.0.1:1", false, false},
		{"member with members only", nil, true, "127.0.0.2:1", true, true},
		{"stranger with members only", nil, true, "10.0.0.9:1", false, true},
		{"member beside a list", []string{"10.0.0.9"}, true, "127.0.0.2:1", true, false},
		{"stranger beside both", []string{"10.0.0.9"}, true, "10.0.0.8:1", false, false},
		{"no address", []string{"10.0.0.9"}, false, "@", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, newFakeNode(nil), func(o *Options) {
				o.Allowlist, o.AllowlistIncludeMembers = tt.list, tt.members
			})
			for _, r := range mutatingRoutes() {
				want := tt.in
				if r.path == "/failsafe" {
					want = tt.inFailsafe // row R-007
				}
				w := ask(s, r.method, r.path, r.body, from(tt.peer))
				if want && w.Code >= 300 || !want && (w.Code != 403 || w.Body.String() != "Access is denied") {
					t.Errorf("%s %s: got %d %q, want let in: %v", r.method, r.path, w.Code, w.Body, want)
				}
			}
		})
	}
}

func TestAddressIsCheckedBeforeCredentials(t *testing.T) {
	s := newTestServer(t, newFakeNode(nil), func(o *Options) {
		o.Username, o.Password, o.Allowlist = "admin", "secret", []string{"10.9.9.9"}
	})
	if w := ask(s, "POST", "/reload", ""); w.Code != 403 {
		t.Errorf("got %d, want 403 (row R-006)", w.Code)
	}
}

func TestForeignPagesMayNotMakeChanges(t *testing.T) {
	node := newFakeNode(nil)
	s := newTestServer(t, node, nil)
	for _, r := range mutatingRoutes() {
		w := ask(s, r.method, r.path, r.body, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") })
		if w.Code != http.StatusForbidden {
			t.Errorf("%s %s from a foreign page: got %d, want 403", r.method, r.path, w.Code)
		}
	}
	if n := node.calls.Load(); n != 0 {
		t.Errorf("the agent was called %d times", n)
	}
}

// Client certificates are tried over real connections: with and without one, from the right and
// from a foreign authority, for each setting.
func TestClientCertificates(t *testing.T) {
	ca, foreign := newAuthority(t, "ours"), newAuthority(t, "foreign")
	certFile, keyFile := ca.issue(t, "server", 2)
	mine, mineKey := ca.issue(t, "client", 3)
	theirs, theirsKey := foreign.issue(t, "client", 4)
	const noHandshake = 0
	for _, tt := range []struct {
		verify              VerifyClient
		cert                string
		reading, changing   int
		rightCredentialsToo bool
	}{
		{VerifyNone, "", 200, 200, false},
		{VerifyNone, "mine", 200, 200, false},
		{VerifyNone, "theirs", 200, 200, false},
		{VerifyOptional, "", 200, 403, false},
		{VerifyOptional, "mine", 200, 200, false},
		{VerifyOptional, "theirs", noHandshake, noHandshake, false},
		{VerifyRequired, "", noHandshake, noHandshake, false},
		{VerifyRequired, "mine", 200, 200, false},
		{VerifyRequired, "theirs", noHandshake, noHandshake, false},
		{VerifyOptional, "", 200, 403, true},
	} {
		t.Run(string(tt.verify)+" "+tt.cert, func(t *testing.T) {
			s := newTestServer(t, newFakeNode(nil), func(o *Options) {
				o.CertFile, o.KeyFile, o.VerifyClient, o.CAFile = certFile, keyFile, tt.verify, ca.file
				if tt.rightCredentialsToo {
					o.Username, o.Password = "admin", "secret"
				}
			})
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			var c *tls.Config
			switch tt.cert {
			case "mine":
				c = ca.clientTLS(t, mine, mineKey)
			case "theirs":
				c = ca.clientTLS(t, theirs, theirsKey)
			default:
				c = ca.clientTLS(t, "", "")
			}
			if code := fetch(t, s, c, "GET", "/health"); code != tt.reading {
				t.Errorf("reading: got %d, want %d", code, tt.reading)
			}
			for _, method := range []string{"POST", "DELETE"} {
				if code := fetch(t, s, c, method, "/restart"); code != tt.changing {
					t.Errorf("%s: got %d, want %d", method, code, tt.changing)
				}
			}
		})
	}
}

// fetch makes one request over a connection of its own; zero means that there was no answer.
func fetch(t *testing.T, s *Server, c *tls.Config, method, path string) int {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	scheme := "http://"
	if c != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, scheme+s.Addrs()[0]+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "secret")
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		if strings.Contains(err.Error(), "Client.Timeout") {
			t.Errorf("%s %s: %v", method, path, err)
		}
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestHalfOrImpossibleProtectionIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"username alone":        func(o *Options) { o.Username = "admin" },
		"password alone":        func(o *Options) { o.Password = "secret" },
		"verify without cafile": func(o *Options) { o.CertFile, o.VerifyClient = "x", VerifyRequired },
		"verify without tls":    func(o *Options) { o.CAFile, o.VerifyClient = "x", VerifyOptional },
		"unknown verify":        func(o *Options) { o.VerifyClient = "maybe" },
		"unknown tokens":        func(o *Options) { o.ServerTokens = "loud" },
		"missing certificate":   func(o *Options) { o.CertFile = "/nonexistent" },
		"no address":            func(o *Options) { o.Listen = nil },
	} {
		o := Options{Listen: []string{"127.0.0.1:0"}}
		change(&o)
		if s, err := New(o, newFakeNode(nil), nil, nopLogger()); err == nil {
			t.Errorf("%s: accepted", name)
			_ = s.Stop(t.Context())
		}
	}
}
