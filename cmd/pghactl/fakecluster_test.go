package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/memory"
)

// fakeCluster is a cluster in this process: a store in memory and agents that answer over HTTP the
// way pgha's do, as far as the operator's tool sees them.
type fakeCluster struct {
	t      testing.TB
	clock  *fakeClock
	server *memory.Server
	store  *memory.Store

	mu     sync.Mutex
	agents map[string]*fakeAgent
	log    []string // requests that change something, in order of arrival
}

// fakeClock moves only when somebody waits.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.Date(2031, 5, 4, 2, 0, 0, 0, time.UTC)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const fakeScope = "demo"

func newFakeCluster(t testing.TB) *fakeCluster {
	clock := newFakeClock()
	start := clock.Now()
	server := memory.NewServer(func() time.Duration { return clock.Now().Sub(start) })
	return &fakeCluster{t: t, clock: clock, server: server, store: server.Store("/service/" + fakeScope), agents: map[string]*fakeAgent{}}
}

func (f *fakeCluster) put(key, value string) error {
	_, err := f.store.Apply(f.t.Context(), dcs.Txn{Then: []dcs.Op{{Key: key, Value: []byte(value)}}})
	return err
}

func (f *fakeCluster) del(key string) error {
	_, err := f.store.Apply(f.t.Context(), dcs.Txn{Then: []dcs.Op{{Key: key, Delete: true}}})
	return err
}

func (f *fakeCluster) get(key string) string {
	snap, err := f.store.Load(f.t.Context())
	if err != nil {
		return err.Error()
	}
	kv, _ := snap.Get(key)
	return string(kv.Value)
}

// healthy writes three members of which a leads and b and c stream.
func (f *fakeCluster) healthy() error {
	for _, kv := range [][2]string{
		{"initialize", "7321456789012345678"},
		{"leader", "a"},
		{"config", `{"ttl":10,"loop_wait":3,"retry_timeout":3,"maximum_lag_on_failover":1048576,"postgresql":{"parameters":{"max_connections":100},"use_slots":true}}`},
		{"status", `{"optime":67108864}`},
		{"history", `[[1,25165824,"no recovery target specified","2031-05-03T01:02:03.456789+02:00","a"]]`},
	} {
		if err := f.put(kv[0], kv[1]); err != nil {
			return err
		}
	}
	for i, name := range []string{"a", "b", "c"} {
		if err := f.addMember(name, fmt.Sprintf("10.0.0.%d:5432", i+1), name == "a"); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeCluster) addMember(name, address string, leads bool) error {
	agent := f.startAgent(name)
	m := map[string]any{
		"conn_url": "postgres://" + address + "/postgres", "api_url": agent.server.URL + "/patroni",
		"state": "running", "role": "replica", "version": "4.1.4", "timeline": 2,
		"pgha": map[string]any{"version": "0.1.0", "incarnation": "x"},
	}
	if leads {
		m["role"], m["xlog_location"] = "primary", 67108864
	} else {
		m["replication_state"], m["receive_lsn"], m["replay_lsn"], m["xlog_location"] = "streaming", 67108864, 67108000, 67108864
	}
	return f.putMember(name, m)
}

func (f *fakeCluster) putMember(name string, m map[string]any) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return f.put(dcs.MemberKey(name), string(text))
}

// changeMember merges fields into a member key; null deletes one.
func (f *fakeCluster) changeMember(name string, fields map[string]any) error {
	m := map[string]any{}
	if old := f.get(dcs.MemberKey(name)); old != "" {
		if err := json.Unmarshal([]byte(old), &m); err != nil {
			return err
		}
	}
	mergePatch(m, fields)
	return f.putMember(name, m)
}

func (f *fakeCluster) members() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sortedKeys(f.agents)
}

func (f *fakeCluster) agent(name string) *fakeAgent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.agents[name]
}

func (f *fakeCluster) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.log, "")
}

// hideAddresses replaces what differs from run to run.
func (f *fakeCluster) hideAddresses(text string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, agent := range f.agents {
		text = strings.ReplaceAll(text, strings.TrimPrefix(agent.server.URL, "http://"), name+".example:8008")
	}
	return text
}

func (f *fakeCluster) close() {
	for _, name := range f.members() {
		f.agent(name).server.Close()
	}
	if err := f.store.Close(); err != nil {
		f.t.Errorf("close the store: %v", err)
	}
}

// fakeAgent answers for one member.
type fakeAgent struct {
	cluster *fakeCluster
	name    string
	server  *httptest.Server

	mu      sync.Mutex
	answers map[string]fakeAnswer // by "METHOD /path"
	clone   int                   // steps of a clone still to come, zero if none runs
}

type fakeAnswer struct {
	code int
	body string
}

func (f *fakeCluster) startAgent(name string) *fakeAgent {
	a := &fakeAgent{cluster: f, name: name, answers: map[string]fakeAnswer{}}
	a.server = httptest.NewServer(a)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.agents[name] = a
	return a
}

func (a *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.Method != http.MethodGet {
		a.cluster.mu.Lock()
		a.cluster.log = append(a.cluster.log, strings.TrimRight(fmt.Sprintf("%s %s %s %s", a.name, r.Method, r.URL.Path, body), " ")+"\n")
		a.cluster.mu.Unlock()
	}
	a.mu.Lock()
	answer, ok := a.answers[r.Method+" "+r.URL.Path]
	a.mu.Unlock()
	if !ok {
		answer = a.answer(r, body)
	}
	w.WriteHeader(answer.code)
	if _, err := io.WriteString(w, answer.body); err != nil {
		a.cluster.t.Logf("agent %s: %v", a.name, err)
	}
}

func (a *fakeAgent) answer(r *http.Request, body []byte) fakeAnswer {
	switch r.Method + " " + r.URL.Path {
	case "GET /patroni":
		return a.status()
	case "GET /pgha/why":
		return fakeAnswer{200, `{"scope":"demo","name":"` + a.name + `","now":{"rule":"standby.follow","reason":"a leads and this server streams from it","age_ms":65000},"decisions":[
			{"at":"2031-05-04T01:00:00Z","rule":"standby.start","reason":"the server was down","actions":["start"],"result":"done"},
			{"at":"2031-05-04T01:00:05.25Z","rule":"standby.follow","reason":"a leads and this server streams from it","change":"the leader key goes","actions":[]}]}`}
	case "GET /failsafe":
		peers := map[string]string{}
		for _, name := range a.cluster.members() {
			peers[name] = a.cluster.agent(name).server.URL + "/patroni"
		}
		text, err := json.Marshal(peers)
		if err != nil {
			return fakeAnswer{502, err.Error()}
		}
		return fakeAnswer{200, string(text)}
	case "PATCH /config":
		return a.patch(body)
	case "POST /switchover", "POST /failover":
		return a.switchover(r.URL.Path, body)
	case "DELETE /switchover":
		if err := a.cluster.put("failover", "{}"); err != nil {
			return fakeAnswer{502, err.Error()}
		}
		return fakeAnswer{200, "scheduled switchover deleted"}
	case "POST /restart":
		if strings.Contains(string(body), `"schedule"`) {
			return fakeAnswer{202, "Restart scheduled"}
		}
		return fakeAnswer{200, "restarted successfully"}
	case "DELETE /restart":
		return fakeAnswer{200, "scheduled restart deleted"}
	case "POST /reload":
		return fakeAnswer{202, "reload scheduled"}
	case "POST /reinitialize":
		a.mu.Lock()
		a.clone = 4
		a.mu.Unlock()
		return fakeAnswer{200, "reinitialize started"}
	default:
		return fakeAnswer{503, `{"state":"running"}`}
	}
}

// status is the body of GET /patroni. A clone is one step further at each look.
func (a *fakeAgent) status() fakeAnswer {
	a.mu.Lock()
	left := a.clone
	a.clone = max(0, a.clone-1)
	a.mu.Unlock()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.cluster.get(dcs.MemberKey(a.name))), &m); err != nil {
		return fakeAnswer{500, err.Error()}
	}
	doc := map[string]any{
		"state": m["state"], "role": m["role"], "timeline": m["timeline"], "server_version": 150004,
		"patroni": map[string]any{"version": "4.1.4", "scope": fakeScope, "name": a.name},
	}
	own := map[string]any{"version": "0.1.0"}
	if left > 0 {
		doc["state"] = "creating replica"
		const total = 4 << 30
		own["job"] = map[string]any{"kind": "clone", "detail": "from a", "done_bytes": total / 4 * (4 - left), "total_bytes": total, "bytes_per_second": 100 << 20}
	}
	if _, ok := m["pgha"]; ok {
		doc["pgha"] = own
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return fakeAnswer{500, err.Error()}
	}
	return fakeAnswer{200, string(text)}
}

func (a *fakeAgent) patch(body []byte) fakeAnswer {
	var patch map[string]any
	if err := json.Unmarshal(body, &patch); err != nil {
		return fakeAnswer{400, err.Error()}
	}
	doc, err := parseConfigJSON([]byte(a.cluster.get("config")))
	if err != nil {
		return fakeAnswer{503, err.Error()}
	}
	mergePatch(doc, patch)
	text, err := json.Marshal(doc)
	if err != nil {
		return fakeAnswer{500, err.Error()}
	}
	if err := a.cluster.put("config", string(text)); err != nil {
		return fakeAnswer{502, err.Error()}
	}
	for _, name := range a.cluster.members() {
		if err := a.cluster.changeMember(name, map[string]any{"pause": patch["pause"]}); err != nil {
			return fakeAnswer{502, err.Error()}
		}
	}
	return fakeAnswer{200, string(text)}
}

func (a *fakeAgent) switchover(path string, body []byte) fakeAnswer {
	var req struct {
		Leader, Candidate string
		ScheduledAt       string `json:"scheduled_at"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return fakeAnswer{400, err.Error()}
	}
	past := map[string]string{"/switchover": "switched", "/failover": "failed"}[path]
	if req.ScheduledAt != "" {
		text, err := json.Marshal(map[string]string{"leader": req.Leader, "member": req.Candidate, "scheduled_at": req.ScheduledAt})
		if err == nil {
			err = a.cluster.put("failover", string(text))
		}
		if err != nil {
			return fakeAnswer{503, err.Error()}
		}
		return fakeAnswer{202, "Switchover scheduled"}
	}
	to := req.Candidate
	if to == "" {
		names := a.cluster.members()
		to = names[(slices.Index(names, a.name)+1)%len(names)]
	}
	old := a.cluster.get("leader")
	err := a.cluster.changeMember(to, map[string]any{"role": "primary", "replication_state": nil, "timeline": 3})
	if err == nil && old != "" {
		err = a.cluster.changeMember(old, map[string]any{"role": "replica", "replication_state": "streaming", "timeline": 3, "receive_lsn": 67108864, "replay_lsn": 67108864})
	}
	if err == nil {
		err = a.cluster.put("leader", to)
	}
	if err != nil {
		return fakeAnswer{503, err.Error()}
	}
	return fakeAnswer{200, fmt.Sprintf("Successfully %s over to %q", past, to)}
}
