package restapi

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// ClusterDocument is the body of GET /cluster (rows ).
type ClusterDocument struct {
	Members             []ClusterMember      `json:"members"`
	Pause               bool                 `json:"pause,omitempty"`
	ScheduledSwitchover *ScheduledSwitchover `json:"scheduled_switchover,omitempty"`
	Scope               string               `json:"scope"`
}

// ScheduledSwitchover is row R-070.
type ScheduledSwitchover struct {
	At   string `json:"at"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// ClusterMember is one member in GET /cluster. The lags are nil for the leader.
type ClusterMember struct {
	Name                 string            `json:"name"`
	Role                 string            `json:"role"`
	State                string            `json:"state"`
	APIURL               *string           `json:"api_url"`
	Host                 string            `json:"host,omitempty"`
	Port                 int               `json:"port,omitempty"`
	Timeline             election.Timeline `json:"timeline,omitempty"`
	PendingRestart       bool              `json:"pending_restart,omitempty"`
	PendingRestartReason json.RawMessage   `json:"pending_restart_reason,omitempty"`
	ScheduledRestart     json.RawMessage   `json:"scheduled_restart,omitempty"`
	Tags                 json.RawMessage   `json:"tags,omitempty"`
	ReceiveLSN           string            `json:"receive_lsn,omitempty"`
	ReceiveLag           *Lag              `json:"receive_lag,omitempty"`
	ReplayLSN            string            `json:"replay_lsn,omitempty"`
	ReplayLag            *Lag              `json:"replay_lag,omitempty"`
	LSN                  string            `json:"lsn,omitempty"`
	Lag                  *Lag              `json:"lag,omitempty"`
}

// Lag is a number of bytes, or the word "unknown" (row R-068).
type Lag struct {
	Bytes int64
	Known bool
}

const unknown = "unknown"

// MarshalJSON writes the number or the word.
func (l Lag) MarshalJSON() ([]byte, error) {
	if !l.Known {
		return []byte(`"` + unknown + `"`), nil
	}
	return strconv.AppendInt(nil, l.Bytes, 10), nil
}

// UnmarshalJSON reads a number; anything else is an unknown lag.
func (l *Lag) UnmarshalJSON(data []byte) error {
	n, err := strconv.ParseInt(string(data), 10, 64)
	*l = Lag{Bytes: n, Known: err == nil}
	return nil
}

// DescribeCluster renders the store's content the way GET /cluster shows it. pghactl uses it as
// well, where it reads the store itself.
func DescribeCluster(v ClusterView) ClusterDocument {
	c := v.Cluster
	doc := ClusterDocument{Members: []ClusterMember{}, Pause: v.Pause, Scope: v.Scope}
	for _, m := range c.Members {
		doc.Members = append(doc.Members, describeMember(v, m))
	}
	slices.SortFunc(doc.Members, func(a, b ClusterMember) int { return strings.Compare(a.Name, b.Name) })
	if f := c.Failover; !f.IsZero() && !f.ScheduledAt.IsZero() {
		doc.ScheduledSwitchover = &ScheduledSwitchover{
			At: isoTime(f.ScheduledAt), From: f.Leader, To: f.Candidate,
		}
	}
	return doc
}

func describeMember(v ClusterView, m election.Member) ClusterMember {
	owner := v.Cluster.Leader.Present && v.Cluster.Leader.Name == m.Name
	d := ClusterMember{
		Name: m.Name, Role: clusterRole(v, m.Name, owner), State: string(m.State),
		Timeline: m.Timeline, PendingRestart: m.PendingRestart,
	}
	if m.APIURL != "" {
		d.APIURL = &m.APIURL
	}
	if d.Role != "leader" && m.ReplicationState != "" {
		d.State = m.ReplicationState
	}
	if u, err := url.Parse(m.ConnURL); err == nil && u.Hostname() != "" {
		d.Host, d.Port = u.Hostname(), 5432
		if p, err := strconv.Atoi(u.Port()); err == nil {
			d.Port = p
		}
	}
	var raw struct {
		Reason    json.RawMessage `json:"pending_restart_reason"`
		Scheduled json.RawMessage `json:"scheduled_restart"`
		Tags      json.RawMessage `json:"tags"`
	}
	// A value that does not parse is a member about which nothing is known (row D-75).
	if json.Unmarshal(v.Members[m.Name], &raw) == nil {
		d.PendingRestartReason = presentObject(raw.Reason)
		d.ScheduledRestart = presentObject(raw.Scheduled)
		d.Tags = presentObject(raw.Tags)
	}
	if !owner {
		optime := v.Cluster.Status.Optime
		d.ReceiveLSN, d.ReceiveLag = lag(optime, m.ReceiveLSN)
		d.ReplayLSN, d.ReplayLag = lag(optime, m.ReplayLSN)
		d.LSN, d.Lag = lag(optime, m.XlogLocation)
	}
	return d
}

// presentObject drops what is not a JSON object with something in it.
func presentObject(raw json.RawMessage) json.RawMessage {
	var compact bytes.Buffer
	if !isObject(raw) || json.Compact(&compact, raw) != nil || compact.String() == "{}" {
		return nil
	}
	return compact.Bytes()
}

// clusterRole is row R-064.
func clusterRole(v ClusterView, name string, owner bool) string {
	switch {
	case owner && v.StandbyCluster:
		return RoleStandbyLeader
	case owner:
		return "leader"
	case v.SynchronousMode == "" || v.Cluster.Sync.Leader == "":
		return RoleReplica
	}
	switch {
	case !InSync(v.Cluster.Sync, name):
		return RoleReplica
	case v.SynchronousMode == "quorum":
		return "quorum_standby"
	default:
		return "sync_standby"
	}
}

// InSync says whether the sync key makes the member a synchronous standby: its list names it, whatever
// the case of the letters (row D-58). While the set of voters changes, that list is empty so that no
// Patroni believes it; then a member counts that votes in the set before the change as well as in
// the one after.
func InSync(s election.SyncState, name string) bool {
	same := func(other string) bool { return strings.EqualFold(other, name) }
	if s.Leader == "" || same(s.Leader) {
		return false
	}
	if len(s.Standbys) > 0 || s.Electorate == nil || len(s.Electorate.Sets) < 2 {
		return slices.ContainsFunc(s.Standbys, same)
	}
	for _, set := range s.Electorate.Sets {
		if !slices.ContainsFunc(set.Voters, func(v election.Voter) bool { return same(v.Name) }) {
			return false
		}
	}
	return true
}

// lag renders a position and how far it is behind the leader's last known one, never negative.
func lag(leader, own election.LSN) (string, *Lag) {
	if own == 0 {
		return unknown, &Lag{}
	}
	if own > leader {
		return own.String(), &Lag{Known: true}
	}
	return own.String(), &Lag{Bytes: int64(leader - own), Known: true}
}
