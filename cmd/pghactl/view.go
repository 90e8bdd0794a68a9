package main

import (
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// The types of this file are the documented output of "list" and of everything that shows a
// cluster (OUTPUT.md). Fields are only ever added.

type clusterView struct {
	Cluster       string          `json:"cluster"`
	Namespace     string          `json:"namespace"`
	SystemID      string          `json:"system_id,omitempty"`
	Bootstrap     string          `json:"bootstrap"`
	Leader        string          `json:"leader,omitempty"`
	LeaderLSN     string          `json:"leader_lsn,omitempty"`
	Pause         bool            `json:"pause"`
	Synchronous   string          `json:"synchronous_mode"`
	SyncStandbys  []string        `json:"sync_standbys,omitempty"`
	Electorate    *electorateView `json:"electorate,omitempty"`
	Votes         []voteView      `json:"votes,omitempty"`
	Members       []memberView    `json:"members"`
	Switchover    *scheduledView  `json:"scheduled_switchover,omitempty"`
	Problems      []problem       `json:"problems"`
	StandbyOf     bool            `json:"standby_cluster,omitempty"`
	StoreRevision int64           `json:"store_revision"`
	source        *cluster        // not part of the output
}

type memberView struct {
	Name             string                  `json:"name"`
	Host             string                  `json:"host,omitempty"`
	Port             int                     `json:"port,omitempty"`
	Role             string                  `json:"role"`
	State            string                  `json:"state"`
	Timeline         election.Timeline       `json:"timeline,omitempty"`
	LSN              string                  `json:"lsn,omitempty"`
	ReceiveLSN       string                  `json:"receive_lsn,omitempty"`
	ReceiveLag       *uint64                 `json:"receive_lag_bytes,omitempty"`
	ReplayLSN        string                  `json:"replay_lsn,omitempty"`
	ReplayLag        *uint64                 `json:"replay_lag_bytes,omitempty"`
	PendingRestart   bool                    `json:"pending_restart,omitempty"`
	PendingReason    map[string]changedValue `json:"pending_restart_reason,omitempty"`
	ScheduledRestart *scheduledRestart       `json:"scheduled_restart,omitempty"`
	Tags             map[string]any          `json:"tags,omitempty"`
	APIURL           string                  `json:"api_url,omitempty"`
	Version          string                  `json:"version,omitempty"`
	PghaVersion      string                  `json:"pgha_version,omitempty"`
}

type scheduledView struct {
	At   time.Time `json:"at"`
	From string    `json:"from,omitempty"`
	To   string    `json:"to,omitempty"`
}

// viewOf prepares a cluster for showing. The lag of a member is counted against the leader's last
// published position, which is what failover decisions look at too.
func viewOf(c *cluster, s settings) *clusterView {
	v := &clusterView{
		Cluster:       c.scope,
		Namespace:     s.namespace,
		SystemID:      c.Initialize.SystemID,
		Bootstrap:     bootstrapWord(c.Initialize.State),
		Pause:         c.config.pause,
		Synchronous:   c.config.syncMode,
		Members:       []memberView{},
		Problems:      []problem{},
		StandbyOf:     c.config.standbyCluster,
		StoreRevision: c.Revision,
		source:        c,
	}
	if v.Synchronous == "" {
		v.Synchronous = "off"
	} else {
		v.SyncStandbys = c.Sync.Standbys
		v.Electorate = viewOfElectorate(c)
	}
	v.Votes = standingVotes(c)
	if c.Leader.Present {
		v.Leader = c.Leader.Name
	}
	if c.Status.Optime != 0 {
		v.LeaderLSN = c.Status.Optime.String()
	}
	if !c.Failover.IsZero() && !c.Failover.ScheduledAt.IsZero() {
		v.Switchover = &scheduledView{At: c.Failover.ScheduledAt.UTC(), From: c.Failover.Leader, To: c.Failover.Candidate}
	}
	for _, m := range c.members {
		v.Members = append(v.Members, viewOfMember(c, m))
	}
	return v
}

func viewOfMember(c *cluster, m member) memberView {
	host, port := m.hostPort()
	v := memberView{
		Name: m.Name, Host: host, Role: c.displayRole(m), State: c.displayState(m), Timeline: m.Timeline,
		PendingRestart: m.PendingRestart, PendingReason: m.PendingReason, ScheduledRestart: m.ScheduledRestart,
		Tags: m.Tags, APIURL: m.APIURL, Version: m.Version, PghaVersion: m.PghaVersion,
	}
	if n, err := strconv.Atoi(port); err == nil {
		v.Port = n
	}
	if m.XlogLocation != 0 {
		v.LSN = m.XlogLocation.String()
	}
	if c.isLeader(m) {
		return v
	}
	receive, replay := m.ReceiveLSN, m.ReplayLSN
	if receive == 0 && replay == 0 { // a member that publishes only the old field (row L-14)
		if m.ReplicationState == "streaming" {
			receive = m.XlogLocation
		} else {
			replay = m.XlogLocation
		}
	}
	v.ReceiveLSN, v.ReceiveLag = lsnAndLag(c, receive)
	v.ReplayLSN, v.ReplayLag = lsnAndLag(c, replay)
	return v
}

func lsnAndLag(c *cluster, lsn election.LSN) (string, *uint64) {
	if lsn == 0 {
		return "", nil
	}
	lag, ok := c.lag(lsn)
	if !ok {
		return lsn.String(), nil
	}
	return lsn.String(), &lag
}

func bootstrapWord(s election.BootstrapState) string {
	switch s {
	case election.BootstrapNever:
		return "never"
	case election.BootstrapRunning:
		return "running"
	case election.BootstrapDone:
		return "done"
	default:
		return "unknown"
	}
}

// identity is what stands in brackets behind the cluster's name (row L-13).
func (v *clusterView) identity() string {
	switch v.Bootstrap {
	case "done":
		return v.SystemID
	case "running":
		return "initializing"
	default:
		return "uninitialized"
	}
}
