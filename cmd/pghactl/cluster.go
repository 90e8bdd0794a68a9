package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// loadTimeout bounds one read of the consensus store.
const loadTimeout = 10 * time.Second

// cluster is what the store says about one cluster: decoded, with the fields of the raw values
// that only an operator looks at.
type cluster struct {
	election.Cluster
	scope    string
	snapshot dcs.Snapshot
	// members has the same order and length as Cluster.Members.
	members []member
	config  dynamicConfig
}

// member is one member with the fields that no decision rests on.
type member struct {
	election.Member
	Tags             map[string]any // as published, custom ones included
	PendingReason    map[string]changedValue
	ScheduledRestart *scheduledRestart
}

// changedValue is one reason of a pending restart (row D-35).
type changedValue struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// scheduledRestart is a restart that waits for its hour (row D-41).
type scheduledRestart struct {
	Schedule        string `json:"schedule"`
	Role            string `json:"role,omitempty"`
	PostgresVersion string `json:"postgres_version,omitempty"`
	RestartPending  bool   `json:"restart_pending,omitempty"`
}

// dynamicConfig is the config key: as stored, and as this tool has to understand it.
type dynamicConfig struct {
	exists      bool
	raw         []byte
	modRevision int64
	// refused says why the agents do not take the text, and keep what they had; nil if they do.
	refused error

	loopWait       time.Duration
	maximumLag     uint64
	pause          bool
	syncMode       string // "", "on" or "quorum"
	syncStrict     bool
	standbyCluster bool
}

// nobody stands in the sync key of a strictly synchronous cluster that has no synchronous standby.
const nobody = "__patroni_strict_sync_replica_placeholder__"

// loadCluster reads and decodes one cluster.
func loadCluster(ctx context.Context, st store, scope string) (*cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	snap, err := st.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("read cluster %s: %w", scope, err)
	}
	return decodeCluster(snap, scope), nil
}

// loadExisting reads a cluster that must be there.
func loadExisting(ctx context.Context, st store, s settings) (*cluster, error) {
	c, err := loadCluster(ctx, st, s.scope)
	if err != nil {
		return nil, err
	}
	if len(c.snapshot.KVs) == 0 {
		return nil, withHint(fmt.Errorf("cluster %s does not exist: nothing is stored under %s", s.scope, s.basePath()),
			"check the cluster name and the namespace (%s)", s.origin())
	}
	return c, nil
}

func decodeCluster(snap dcs.Snapshot, scope string) *cluster {
	c := &cluster{Cluster: dcs.Decode(snap), scope: scope, snapshot: snap}
	c.Sync.Standbys = slices.DeleteFunc(c.Sync.Standbys, func(name string) bool { return name == nobody })
	for _, m := range c.Members {
		kv, _ := snap.Get(dcs.MemberKey(m.Name))
		c.members = append(c.members, decodeMember(m, kv))
	}
	kv, ok := snap.Get(dcs.KeyConfig)
	c.config = decodeConfig(kv, ok, len(c.patroniMembers()) > 0)
	return c
}

func decodeMember(m election.Member, kv dcs.KV) member {
	data := dcs.DecodeMemberData(kv)
	out := member{Member: m, Tags: data.Tags}
	for name, change := range data.PendingRestartReason {
		if out.PendingReason == nil {
			out.PendingReason = map[string]changedValue{}
		}
		out.PendingReason[name] = changedValue{Old: change.OldValue, New: change.NewValue}
	}
	if r := data.ScheduledRestart; r != nil && r.Schedule != "" {
		out.ScheduledRestart = &scheduledRestart{
			Schedule: r.Schedule, Role: r.Role, PostgresVersion: r.PostgresVersion, RestartPending: r.RestartPending,
		}
	}
	return out
}

// decodeConfig reads the config key as the agents do. A text that they would refuse as a whole says
// nothing: they keep what they had.
func decodeConfig(kv dcs.KV, exists, patroniMembers bool) dynamicConfig {
	out := dynamicConfig{exists: exists, raw: kv.Value, modRevision: kv.ModRevision}
	d := config.DefaultDynamic()
	if exists {
		read, _, err := config.ParseDynamic(kv.Value)
		if err == nil {
			d = read
		}
		out.refused = err
	}
	if patroniMembers {
		d = d.ForPatroniPeers()
	}
	out.loopWait = d.LoopWait
	out.maximumLag = uint64(max(0, d.MaximumLagOnFailover))
	out.pause = d.Pause
	out.syncStrict = d.SynchronousModeStrict
	out.standbyCluster = d.StandbyCluster != nil
	if d.SynchronousMode != config.SyncOff && !out.standbyCluster {
		out.syncMode = d.SynchronousMode.String()
	}
	return out
}

// withoutStore says that the members are known from elsewhere.
func (c *cluster) withoutStore() bool { return len(c.snapshot.KVs) == 0 }

// leader returns the owner of the leader key, if it has a member key.
func (c *cluster) leader() (member, bool) {
	if !c.Leader.Present {
		return member{}, false
	}
	return c.find(c.Leader.Name)
}

func (c *cluster) find(name string) (member, bool) {
	for _, m := range c.members {
		if m.Name == name {
			return m, true
		}
	}
	return member{}, false
}

func (c *cluster) isLeader(m member) bool { return c.Leader.Present && c.Leader.Name == m.Name }

func (c *cluster) names() []string {
	var names []string
	for _, m := range c.members {
		names = append(names, m.Name)
	}
	return names
}

// patroniMembers are the names of the members that pgha does not run.
func (c *cluster) patroniMembers() []string {
	var names []string
	for _, m := range c.members {
		if !m.IsPgha() {
			names = append(names, m.Name)
		}
	}
	return names
}

// displayRole is the role word of row R-064.
func (c *cluster) displayRole(m member) string {
	switch {
	case c.isLeader(m) && m.Role == "standby_leader":
		return "standby_leader"
	case c.isLeader(m):
		return "leader"
	case c.config.syncMode != "" && c.Sync.Leader != "" && c.inSync(m.Name):
		if c.config.syncMode == "quorum" {
			return "quorum_standby"
		}
		return "sync_standby"
	default:
		return "replica"
	}
}

// displayState is the state word of row R-065: of a standby that runs, how it is fed.
func (c *cluster) displayState(m member) string {
	if !c.isLeader(m) && m.ReplicationState != "" {
		return m.ReplicationState
	}
	return string(m.State)
}

// lag is how many bytes lsn is behind the leader's last published position. The second result is
// false if either is not known.
func (c *cluster) lag(lsn election.LSN) (uint64, bool) {
	if lsn == 0 || c.Status.Optime == 0 {
		return 0, false
	}
	if lsn >= c.Status.Optime {
		return 0, true
	}
	return uint64(c.Status.Optime - lsn), true
}

// received is the position that failover decisions look at: what a member has, applied or not.
func (m member) received() election.LSN {
	return max(m.ReceiveLSN, m.ReplayLSN, m.XlogLocation)
}

// hostPort takes the server's address out of conn_url. The port is empty if it is not there.
func (m member) hostPort() (host, port string) {
	u, err := url.Parse(m.ConnURL)
	if err != nil || u.Host == "" {
		return "", ""
	}
	return u.Hostname(), u.Port()
}
