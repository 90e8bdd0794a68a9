package restapi

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// moment is everything that one answer depends on, read once when the request arrived.
type moment struct {
	*State
	now    election.Instant
	until  election.Instant // how long this node may say that it leads
	leader bool             // until lies ahead
	view   bool             // the last loaded view may still be used
}

func observe(node Observer) moment { return observeAs(node, node.State()) }

// observeAs is observe with a State that the caller has already.
func observeAs(node Observer, st *State) moment {
	// LeaderUntil is read before Now: if the deadline passes between the two reads, the
	// comparison says so.
	until := node.LeaderUntil()
	now := node.Now()
	return moment{State: st, now: now, until: until, leader: now < until, view: now < st.ViewUntil}
}

// leaderFor is the time left for which this node may say that it leads.
func (m moment) leaderFor() time.Duration { return max(0, m.until-m.now) }

// serverState is the state word that may be shown now (row R-041). A running server that does not
// answer is unknown. So is one that nobody looked at for two ttl: then the main loop hangs, and an
// old observation must not keep a standby in a load balancer.
func (m moment) serverState() election.MemberState {
	s := m.Server
	if s.State == "" || s.State == election.StateRunning && !s.Answering {
		return election.StateUnknown
	}
	if s.State == election.StateRunning && m.TTL > 0 && m.now > s.ObservedAt+2*m.TTL {
		return election.StateUnknown
	}
	return s.State
}

func (m moment) running() bool { return m.serverState() == election.StateRunning }

func (m moment) clusterUnlocked() bool { return !m.view || m.View.Leader == "" }

func (m moment) failsafeActive() bool { return m.now < m.FailsafeUntil }

// roleDecides is row R-016: in pause nobody demotes a primary for a lost consensus store, so the
// server's role is all there is to go by. It is the one case in which /primary may answer 200
// past the lease deadline, and it needs both: pause, and a view that has run out.
func (m moment) roleDecides() bool { return m.Pause && !m.view }

func (m moment) primary() bool {
	if m.Server.Writable == election.No {
		return false
	}
	if m.roleDecides() {
		return m.Server.IsPrimary()
	}
	return m.leader && !m.View.StandbyCluster
}

func (m moment) standbyLeader() bool {
	if m.roleDecides() {
		return m.Server.Role == RoleStandbyLeader
	}
	return m.leader && m.View.StandbyCluster && (m.Server.Role == RoleReplica || m.Server.Role == RoleStandbyLeader)
}

func (m moment) anyLeader() bool {
	if m.roleDecides() {
		return m.Server.IsPrimary() || m.Server.Role == RoleStandbyLeader
	}
	return m.leader
}

// leaderPosition is the furthest position of the leader that this node has heard of.
func (m moment) leaderPosition() election.LSN {
	p := m.Server.LatestEnd
	if m.view {
		p = max(p, m.View.LeaderOptime)
	}
	return p
}

func (m moment) replica(q query) bool {
	if !m.running() || m.Server.Role != RoleReplica || m.NoLoadBalance {
		return false
	}
	if m.leader && m.View.StandbyCluster {
		return false
	}
	if want, ok := q.get("replication_state"); ok && want != m.Server.ReplicationState {
		return false
	}
	limit, ok := q.bytes("lag")
	return !ok || !behind(m.leaderPosition(), m.Server.Replayed, limit)
}

// behind says whether own is more than limit bytes behind leader.
func behind(leader, own election.LSN, limit int64) bool {
	if limit < 0 {
		// A negative allowance asks to be ahead of the leader; nobody is.
		return true
	}
	return leader > own && uint64(leader-own) > uint64(limit)
}

// healthy answers one health check. The order of the names, and that they match anywhere in the
// path, is row R-004: load balancers out there use paths such as /replica/ and /master?x.
func (m moment) healthy(path string, q query) bool {
	has := func(s string) bool { return strings.Contains(path, s) }
	switch {
	case path == "/" || path == "":
		return m.primary()
	case has("standby_leader") || has("standby-leader"):
		return m.standbyLeader()
	case has("leader"):
		return m.anyLeader()
	case has("master") || has("primary") || has("read-write"):
		return m.primary()
	}
	return m.healthyTagged(path, q) && m.tagsMatch(q)
}

// healthyTagged holds the checks to which tag_ parameters apply (row R-031).
func (m moment) healthyTagged(path string, q query) bool {
	has := func(s string) bool { return strings.Contains(path, s) }
	writer := func() bool { return m.primary() || m.standbyLeader() }
	switch {
	case has("replica"):
		return m.replica(q)
	case has("read-only") && !has("sync") && !has("quorum"):
		return writer() || m.replica(q)
	case has("health"):
		return m.running()
	case !m.view:
		return false // row R-024: who is synchronous is not known
	}
	switch path {
	case "/sync", "/synchronous":
		return m.View.SyncStandby && m.replica(q)
	case "/quorum":
		return m.View.QuorumStandby && m.replica(q)
	case "/async", "/asynchronous":
		return !m.View.SyncStandby && !m.View.QuorumStandby && m.replica(q)
	case "/read-only-sync", "/read-only-synchronous":
		return writer() || m.View.SyncStandby && m.replica(q)
	case "/read-only-quorum":
		return writer() || m.View.QuorumStandby && m.replica(q)
	}
	return false
}

func (m moment) tagsMatch(q query) bool {
	for name, values := range q {
		tag, ok := strings.CutPrefix(name, "tag_")
		if !ok {
			continue
		}
		have, ok := m.Tags[tag]
		if !ok || tagText(have) != values[0] {
			return false
		}
	}
	return true
}

// live is row R-026. A server that is not the leader gets twice the time, because nothing waits
// for it.
func (m moment) live() bool {
	if m.Pause {
		return true
	}
	allowance := 2 * m.TTL
	if m.Server.IsPrimary() && m.Server.State == election.StateRunning {
		allowance = m.TTL
	}
	return m.now < m.NextLoop+allowance
}

// ready is rows.
func (m moment) ready(q query) bool {
	if m.leader {
		return true
	}
	if !m.running() || m.Server.ReplicationState != "streaming" {
		return false
	}
	if !m.view && m.Server.LatestEnd == 0 {
		return m.failsafeActive()
	}
	own := m.Server.Replayed
	if mode, _ := q.get("mode"); mode == "write" {
		own = m.Server.received()
	}
	limit, ok := q.bytes("lag")
	if !ok {
		limit = m.View.MaximumLag
	}
	return !behind(m.leaderPosition(), own, limit)
}

// received is the position of row R-045: what has been received, or replayed where a standby that
// never streamed has received nothing.
func (s ServerState) received() election.LSN {
	if s.Received == 0 {
		return s.Replayed
	}
	return s.Received
}

// query holds the parameters of a request. Only the first value of each counts (row R-032).
type query url.Values

func (q query) get(name string) (string, bool) {
	v := q[name]
	if len(v) == 0 {
		return "", false
	}
	return v[0], true
}

// bytes reads a parameter such as 10MB; ok is false where it is absent or makes no sense, and a
// limit that makes no sense is no limit (row R-029).
func (q query) bytes(name string) (int64, bool) {
	v, ok := q.get(name)
	if !ok {
		return 0, false
	}
	return parseBytes(v)
}

func parseQuery(r *http.Request) query {
	if r.URL.RawQuery == "" {
		return nil
	}
	// ParseQuery returns what it understood beside the error; a health check goes on with that.
	values, _ := url.ParseQuery(r.URL.RawQuery)
	return query(values)
}
