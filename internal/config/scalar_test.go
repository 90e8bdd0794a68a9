package config

import (
	"strings"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10": 10 * time.Second, "1.6": 1600 * time.Millisecond, "100ms": 100 * time.Millisecond, "30min": 30 * time.Minute, "30 min": 30 * time.Minute,
		"1h": time.Hour, "1d": 24 * time.Hour, "1m30s": 90 * time.Second, "5s": 5 * time.Second, "-1": -time.Second, "500us": 500 * time.Microsecond, "0": 0,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "soon", "1e99", "10 parsecs", "NaN", "9999999999", "400d", "--5", "1.2.3"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"5": 5, "1kB": 1024, "16MB": 16 << 20, "1 GB": 1 << 30, "0.5MB": 1 << 19, "7B": 7} {
		if got, err := parseBytes(text, 1); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "5 bananas", "1e99TB", "99999999999TB"} {
		if got, err := parseBytes(text, 1); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		text, host string
		port       int
	}{
		{"10.0.0.1:5432", "10.0.0.1", 5432},
		{"db.example.org:1", "db.example.org", 1},
		{"db", "db", 7},
		{"10.0.0.1", "10.0.0.1", 7},
		{"::1", "::1", 7},
		{"[::1]", "::1", 7},
		{"[::1]:5432", "::1", 5432},
		{"::1:5432", "::1", 5432},
		{"2001:db8::1:5432", "2001:db8::1", 5432},
		{"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8", 7},
		{"*:5432", "*", 5432},
		{":5432", "", 5432},
	} {
		host, port, err := SplitHostPort(tt.text, 7)
		if err != nil || host != tt.host || port != tt.port {
			t.Errorf("%q: got %q, %d, %v", tt.text, host, port, err)
		}
	}
	for _, text := range []string{"", "a:b", "a:0", "a:65536", "a:-1", "a b:1", "[::1", "a@b:1"} {
		if host, port, err := SplitHostPort(text, 7); err == nil {
			t.Errorf("%q: got %q, %d, want an error", text, host, port)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, tt := range []struct {
		etcd Etcd3
		want string
	}{
		{Etcd3{Host: "a", Protocol: "http", Port: 2379}, "http://a:2379"},
		{Etcd3{Hosts: []string{"a:1", "b", "a:1"}, Protocol: "https", Port: 9}, "https://a:1 https://b:9"},
		{Etcd3{Hosts: []string{"https://a:1/", "::1"}, Protocol: "http", Port: 2379}, "https://a:1 http://[::1]:2379"},
		{Etcd3{Hosts: []string{"a"}, URL: "http://u:5/", Protocol: "http", Port: 2379}, "http://u:5"},
		{Etcd3{URL: "http://u:5", Proxy: "http://p", Protocol: "http", Port: 2379}, "http://p:2379"},
		{Etcd3{SRV: "example.org", Protocol: "http", Port: 2379}, ""},
	} {
		if got := strings.Join(tt.etcd.Endpoints(), " "); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.etcd, got, tt.want)
		}
	}
}

func TestCredentialsOfAUrlMoveOutOfIt(t *testing.T) {
	e := mustLoad(t, "testdata/good/url-with-credentials.yml").Etcd3
	if e.URL != "https://etcd.example.org:2379" || e.Username != "root" || e.Password.Reveal() != "hunter2" || e.Protocol != "https" {
		t.Errorf("got %q, %q, %q", e.URL, e.Username, e.Protocol)
	}
}

func TestEmbeddedEtcdFeedsTheClient(t *testing.T) {
	c := mustLoad(t, "testdata/good/embedded-etcd-alone.yml")
	if got := strings.Join(c.Etcd3.Endpoints(), " "); got != "http://10.0.0.1:2379" {
		t.Errorf("endpoints: got %q", got)
	}
	if e := c.Pgha.Etcd; e.Name != "a" || e.AdvertisePeer != "10.0.0.1:2380" || strings.Join(e.Members(), " ") != "a" {
		t.Errorf("got %+v", e)
	}
	if c.PostgreSQL.ConnectAddress != "10.0.0.1:5432" || c.PostgreSQL.DataDir != "/data/pg" {
		t.Errorf("got %q and %q", c.PostgreSQL.ConnectAddress, c.PostgreSQL.DataDir)
	}
}

func TestNamespaces(t *testing.T) {
	for text, want := range map[string]string{"": "", "/": "", "service": "/service", "/service/": "/service", "//a///b//": "/a/b"} {
		if got := cleanNamespace(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"listen", "connect_address", "data_dir", "use_pg_rewind", "pg_hba"}
	for word, want := range map[string]string{
		"listn": "listen", "lisetn": "listen", "datadir": "data_dir", "data-dir": "data_dir", "Listen": "listen", "connectaddress": "connect_address",
		"use_pgrewind": "use_pg_rewind", "pg_hab": "pg_hba", "frobnicate": "", "x": "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
