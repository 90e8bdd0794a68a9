package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// PeerStatus is what a member says about itself in GET /patroni (row R-040). Fields that it did
// not send, or sent in a strange form, are zero.
type PeerStatus struct {
	Name    string
	Scope   string
	Version string // the Patroni version
	State   election.MemberState
	Role    string // as sent; "master" reads as "primary"
	// Answering says that the member's PostgreSQL answered. If not, the agent lives but nothing
	// is known of the positions, and the member is no candidate.
	Answering        bool
	ServerVersion    int
	Timeline         election.Timeline
	Location         election.LSN // of a primary
	Received         election.LSN // of a standby
	Replayed         election.LSN
	ReplicationState string
	Tags             map[string]any
	NoFailover       bool
	WatchdogFailed   bool
	Pause            bool
	ClusterUnlocked  bool
	FailsafeActive   bool
	SystemID         string
	PendingRestart   bool
	DCSLastSeen      time.Time
	Pgha             PeerPgha
}

// IsPghaMember says whether pgha rather than Patroni answered.
func (p PeerStatus) IsPghaMember() bool { return p.Pgha.Version != "" }

// PeerPgha is pgha's part of the answer, empty from a Patroni. Ages and remainders were true when
// the peer wrote the answer.
type PeerPgha struct {
	Version         string
	Incarnation     string
	DataIncarnation string
	Epoch           uint64
	// Leader is the leader in the peer's own valid view, empty if it has none.
	Leader          string
	LeaderRemaining time.Duration
	Writable        election.Tristate
	ObservedAge     time.Duration
	// UpstreamAge is how long ago the peer heard of the primary; UpstreamKnown is false if never.
	UpstreamAge   time.Duration
	UpstreamKnown bool
	LatestEnd     election.LSN
	// LostLeader is the revision of the leader key whose holder the peer has lost sight of; zero: none.
	LostLeader int64
	Frozen     PeerFrozen
	// PromiseRemaining is how long the peer has promised yet not to race for the leader key.
	PromiseRemaining time.Duration
	Job              string
	Rule             string
	Timeline         election.Timeline
}

// PeerFrozen is a peer's freeze in order to vote; the zero value is a peer that is not frozen.
type PeerFrozen struct {
	Frozen bool
	// Epoch and LeaderRevision name the reign that it is against.
	Epoch          uint64
	LeaderRevision int64
	// Proven: nothing can reach the peer's log any more. Voted: its vote stands.
	Proven, Voted bool
}

// Peer asks one member. apiURL is the member's api_url, used with its own path.
func (c *Client) Peer(ctx context.Context, apiURL string) (PeerStatus, error) {
	if _, err := Base(apiURL); err != nil {
		return PeerStatus{}, err
	}
	if u, err := url.Parse(apiURL); err == nil && (u.Path == "" || u.Path == "/") {
		u.Path = "/patroni"
		apiURL = u.String()
	}
	a, err := c.send(ctx, http.MethodGet, apiURL, nil)
	if err != nil {
		return PeerStatus{}, err
	}
	if err := a.Err(); err != nil {
		return PeerStatus{}, err
	}
	p, ok := ParsePeer(a.Body)
	if !ok {
		return PeerStatus{}, &Error{URL: apiURL, Kind: KindBadAnswer, Text: "the answer is not a JSON object"}
	}
	return p, nil
}

// Target is one member to ask.
type Target struct {
	Name   string
	APIURL string
}

// Probe is what came of asking one member. Err nil means that Status is an answer.
type Probe struct {
	Target
	Status PeerStatus
	Err    error
	Took   time.Duration
}

// Reachable says whether the member counts as reachable by row R-040: it answered, and so did its
// PostgreSQL.
func (p Probe) Reachable() bool { return p.Err == nil && p.Status.Answering }

// Probes asks all targets at the same time and delivers each answer as it comes. The channel is
// closed after the last one; a caller may stop reading at any time. Silence costs what ctx allows.
func (c *Client) Probes(ctx context.Context, targets []Target) <-chan Probe {
	out := make(chan Probe, len(targets))
	var asked sync.WaitGroup
	for _, t := range targets {
		asked.Go(func() {
			began := time.Now()
			p := Probe{Target: t}
			p.Status, p.Err = c.Peer(ctx, t.APIURL)
			p.Took = time.Since(began)
			out <- p
		})
	}
	go func() {
		asked.Wait()
		close(out)
	}()
	return out
}

// ProbeAll asks all targets at the same time and waits for all answers, at most for timeout.
// The result is in the order of targets.
func (c *Client) ProbeAll(ctx context.Context, targets []Target, timeout time.Duration) []Probe {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	probes := make([]Probe, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		asked.Go(func() {
			began := time.Now()
			probes[i].Target = t
			probes[i].Status, probes[i].Err = c.Peer(ctx, t.APIURL)
			probes[i].Took = time.Since(began)
		})
	}
	asked.Wait()
	return probes
}

// object is a JSON object read field by field, so that one strange field does not spoil the rest
// (row D-75).
type object map[string]json.RawMessage

func parseObject(data []byte) (object, bool) {
	var o object
	err := json.Unmarshal(data, &o)
	return o, err == nil && o != nil
}

func get[T any](o object, name string) T {
	var v T
	if raw, ok := o[name]; !ok || json.Unmarshal(raw, &v) != nil {
		var zero T
		return zero
	}
	return v
}

// ParsePeer reads the body of GET /patroni; ok is false if it is not a JSON object.
func ParsePeer(body []byte) (p PeerStatus, ok bool) {
	o, ok := parseObject(body)
	if !ok {
		return PeerStatus{}, false
	}
	p = PeerStatus{
		State: election.MemberState(get[string](o, "state")), Role: get[string](o, "role"),
		ServerVersion: get[int](o, "server_version"), Timeline: get[election.Timeline](o, "timeline"),
		ReplicationState: get[string](o, "replication_state"), Tags: get[map[string]any](o, "tags"),
		WatchdogFailed: get[bool](o, "watchdog_failed"), Pause: get[bool](o, "pause"),
		ClusterUnlocked: get[bool](o, "cluster_unlocked"), FailsafeActive: get[bool](o, "failsafe_mode_is_active"),
		SystemID: get[string](o, "database_system_identifier"), PendingRestart: get[bool](o, "pending_restart"),
	}
	if p.Role == "master" {
		p.Role = restapi.RolePrimary
	}
	if seen := get[int64](o, "dcs_last_seen"); seen > 0 {
		p.DCSLastSeen = time.Unix(seen, 0)
	}
	agent, _ := parseObject(o["patroni"])
	p.Name, p.Scope, p.Version = get[string](agent, "name"), get[string](agent, "scope"), get[string](agent, "version")
	p.NoFailover = noFailover(p.Tags)
	position, has := parseObject(o["xlog"])
	if !has {
		position, has = parseObject(o["wal"])
	}
	p.Answering = has
	p.Location = get[election.LSN](position, "location")
	p.Received = get[election.LSN](position, "received_location")
	p.Replayed = get[election.LSN](position, "replayed_location")
	if own, has := parseObject(o["pgha"]); has {
		p.Pgha = parsePgha(own)
	}
	return p, true
}

func parsePgha(o object) PeerPgha {
	ms := func(name string) time.Duration { return time.Duration(get[int64](o, name)) * time.Millisecond }
	p := PeerPgha{
		Version: get[string](o, "version"), Incarnation: get[string](o, "incarnation"),
		DataIncarnation: get[string](o, "data_incarnation"), Epoch: get[uint64](o, "epoch"),
		Leader: get[string](o, "leader"), LeaderRemaining: ms("leader_remaining_ms"),
		ObservedAge: ms("observed_age_ms"), UpstreamAge: ms("upstream_age_ms"),
		LatestEnd: get[election.LSN](o, "latest_end"), LostLeader: get[int64](o, "lost_leader"),
		PromiseRemaining: ms("promise_remaining_ms"),
		Rule:             get[string](o, "rule"), Timeline: get[election.Timeline](o, "timeline"),
	}
	_, p.UpstreamKnown = o["upstream_age_ms"]
	switch get[string](o, "writable") {
	case "yes":
		p.Writable = election.Yes
	case "no":
		p.Writable = election.No
	}
	if f, ok := parseObject(o["frozen"]); ok {
		p.Frozen = PeerFrozen{
			Frozen: true, Epoch: get[uint64](f, "epoch"), LeaderRevision: get[int64](f, "leader_revision"),
			Proven: get[bool](f, "proven"), Voted: get[bool](f, "voted"),
		}
	}
	if job, ok := parseObject(o["job"]); ok {
		p.Job = get[string](job, "kind")
	}
	return p
}

// noFailover is rows C-130 and C-131: any nofailover that is not empty or false counts, even the
// word "false"; without the tag, a failover_priority of zero or less does.
func noFailover(tags map[string]any) bool {
	if v, ok := tags["nofailover"]; ok && v != nil {
		switch v := v.(type) {
		case bool:
			return v
		case string:
			return v != ""
		case float64:
			return v != 0
		default:
			return true
		}
	}
	switch v := tags["failover_priority"].(type) {
	case float64:
		return v <= 0
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return err == nil && n <= 0
	}
	return false
}
