package restapi

import (
	"encoding/json"

	"github.com/pgha/pgha/internal/election"
)

// memberStatus is the body of health checks and of GET /patroni (section 3.4, rows R-041 to
// R-061), with pgha's own part at the end.
type memberStatus struct {
	State               election.MemberState    `json:"state"`
	PostmasterStartTime string                  `json:"postmaster_start_time,omitempty"`
	Role                string                  `json:"role"`
	ServerVersion       int                     `json:"server_version,omitempty"`
	Xlog                any                     `json:"xlog,omitempty"`
	SyncStandby         bool                    `json:"sync_standby,omitempty"`
	QuorumStandby       bool                    `json:"quorum_standby,omitempty"`
	Timeline            election.Timeline       `json:"timeline,omitempty"`
	ReplicationState    string                  `json:"replication_state,omitempty"`
	Replication         []ReplicationRow        `json:"replication,omitempty"`
	Pause               bool                    `json:"pause,omitempty"`
	ClusterUnlocked     bool                    `json:"cluster_unlocked,omitempty"`
	FailsafeActive      bool                    `json:"failsafe_mode_is_active,omitempty"`
	DCSLastSeen         int64                   `json:"dcs_last_seen"`
	Tags                map[string]any          `json:"tags,omitempty"`
	SystemID            string                  `json:"database_system_identifier,omitempty"`
	PendingRestart      bool                    `json:"pending_restart,omitempty"`
	PendingReason       map[string]ChangedValue `json:"pending_restart_reason,omitempty"`
	Patroni             agentName               `json:"patroni"`
	ScheduledRestart    *scheduledRestart       `json:"scheduled_restart,omitempty"`
	WatchdogFailed      bool                    `json:"watchdog_failed,omitempty"`
	Pgha                *pghaStatus             `json:"pgha,omitempty"`
}

type primaryPosition struct {
	Location election.LSN `json:"location"`
}

type standbyPosition struct {
	Received          election.LSN `json:"received_location"`
	Replayed          election.LSN `json:"replayed_location"`
	ReplayedTimestamp *string      `json:"replayed_timestamp"`
	Paused            bool         `json:"paused"`
}

type agentName struct {
	Version string `json:"version"`
	Scope   string `json:"scope"`
	Name    string `json:"name"`
}

type scheduledRestart struct {
	Schedule        string `json:"schedule"`
	Role            string `json:"role,omitempty"`
	PostgresVersion string `json:"postgres_version,omitempty"`
	Timeout         int64  `json:"timeout,omitempty"`
	RestartPending  bool   `json:"restart_pending,omitempty"`
}

// pghaStatus is what pgha members tell each other beyond Patroni's fields. Only GET /patroni
// carries it: the ages in it would make every health body different.
type pghaStatus struct {
	Version         string            `json:"version"`
	Incarnation     string            `json:"incarnation,omitempty"`
	DataIncarnation string            `json:"data_incarnation,omitempty"`
	Epoch           uint64            `json:"epoch,omitempty"`
	Leader          string            `json:"leader,omitempty"` // as this member's valid view has it
	LeaderRemaining int64             `json:"leader_remaining_ms,omitempty"`
	Writable        string            `json:"writable"` // yes, no, unknown
	ObservedAge     int64             `json:"observed_age_ms"`
	UpstreamAge     *int64            `json:"upstream_age_ms,omitempty"`
	LatestEnd       election.LSN      `json:"latest_end,omitempty"`
	LostLeader      int64             `json:"lost_leader,omitempty"`
	Frozen          *frozenStatus     `json:"frozen,omitempty"`
	PromiseMS       int64             `json:"promise_remaining_ms,omitempty"`
	Job             *jobStatus        `json:"job,omitempty"`
	Rule            string            `json:"rule,omitempty"`
	Timeline        election.Timeline `json:"timeline,omitempty"` // known even when the server is silent
}

// frozenStatus is the freeze of a member that votes, or is about to.
type frozenStatus struct {
	Epoch          uint64            `json:"epoch"`
	LeaderRevision int64             `json:"leader_revision"`
	Age            int64             `json:"age_ms"`
	Proven         bool              `json:"proven"`
	Voted          bool              `json:"voted"`
	Timeline       election.Timeline `json:"timeline,omitempty"`
	LSN            election.LSN      `json:"lsn,omitempty"`
}

type jobStatus struct {
	Kind     string  `json:"kind"`
	Detail   string  `json:"detail,omitempty"`
	Age      int64   `json:"age_ms"`
	Done     int64   `json:"done_bytes"`
	Total    int64   `json:"total_bytes,omitempty"`
	Rate     float64 `json:"bytes_per_second,omitempty"`
	ETA      int64   `json:"eta_ms,omitempty"`
	Progress float64 `json:"progress,omitempty"` // 0 to 1
}

// status fills the body that both kinds of request share.
func (m moment) status() memberStatus {
	s := m.Server
	b := memberStatus{
		State:           m.serverState(),
		Role:            s.Role,
		Replication:     m.Replication,
		Pause:           m.Pause,
		ClusterUnlocked: m.clusterUnlocked(),
		FailsafeActive:  m.failsafeActive(),
		Tags:            m.Tags,
		SystemID:        s.SystemID,
		PendingRestart:  m.PendingRestart,
		Patroni:         agentName{m.Version, m.Scope, m.Name},
		WatchdogFailed:  m.WatchdogFailed,
	}
	if !m.DCSLastSeen.IsZero() {
		b.DCSLastSeen = m.DCSLastSeen.Unix()
	}
	if m.PendingRestart {
		b.PendingReason = m.PendingRestartReason
	}
	if r := m.State.ScheduledRestart; r != nil {
		b.ScheduledRestart = &scheduledRestart{
			Schedule: isoTime(r.Schedule), Role: r.Role, PostgresVersion: r.PostgresVersion,
			Timeout: int64(r.Timeout.Seconds()), RestartPending: r.RestartPending,
		}
	}
	if s.Answering {
		m.serverStatus(&b)
	}
	return b
}

// serverStatus adds what only an answering server can say.
func (m moment) serverStatus(b *memberStatus) {
	s := m.Server
	if !s.StartTime.IsZero() {
		b.PostmasterStartTime = stamp(s.StartTime)
	}
	b.ServerVersion = s.Version
	b.Timeline = s.Timeline
	if s.IsPrimary() {
		b.Xlog = primaryPosition{s.Location}
		return
	}
	pos := standbyPosition{Received: s.received(), Replayed: s.Replayed, Paused: s.ReplayPaused}
	if !s.ReplayedTimestamp.IsZero() {
		t := stamp(s.ReplayedTimestamp)
		pos.ReplayedTimestamp = &t
	}
	b.Xlog = pos
	b.ReplicationState = s.ReplicationState
	if m.view {
		b.SyncStandby = m.View.SyncStandby
		b.QuorumStandby = m.View.QuorumStandby
	}
}

// pgha fills pgha's own part of GET /patroni.
func (m moment) pgha() *pghaStatus {
	s := m.Server
	p := &pghaStatus{
		Version:         m.PghaVersion,
		Incarnation:     m.Incarnation,
		DataIncarnation: s.DataIncarnation,
		Epoch:           m.Epoch,
		LeaderRemaining: m.leaderFor().Milliseconds(),
		Writable:        tristate(s.Writable),
		ObservedAge:     (m.now - s.ObservedAt).Milliseconds(),
		LatestEnd:       s.LatestEnd,
		LostLeader:      m.LostLeader,
		Frozen:          m.frozen(),
		PromiseMS:       max(0, (m.State.Fencer.PromiseUntil - m.now).Milliseconds()),
		Job:             m.job(),
		Rule:            m.Loop.Rule,
		Timeline:        s.Timeline,
	}
	if m.view {
		p.Leader = m.View.Leader
	}
	if s.UpstreamSeen > 0 {
		age := (m.now - s.UpstreamSeen).Milliseconds()
		p.UpstreamAge = &age
	}
	return p
}

func (m moment) frozen() *frozenStatus {
	f := m.Server.Frozen
	if f == nil {
		return nil
	}
	st := &frozenStatus{
		Epoch: f.Epoch, LeaderRevision: f.LeaderRevision, Age: (m.now - f.Since).Milliseconds(), Proven: f.Proven, Voted: f.Voted,
	}
	if f.Proven {
		st.Timeline, st.LSN = f.Timeline, f.LSN
	}
	return st
}

func (m moment) job() *jobStatus {
	j := m.Job
	if j == nil {
		return nil
	}
	s := &jobStatus{
		Kind: j.Kind, Detail: j.Detail, Age: (m.now - j.Started).Milliseconds(),
		Done: j.Done, Total: j.Total, Rate: j.Rate, ETA: j.ETA.Milliseconds(),
	}
	if j.Total > 0 {
		s.Progress = min(1, float64(j.Done)/float64(j.Total))
	}
	return s
}

func tristate(t election.Tristate) string {
	switch t {
	case election.Yes:
		return "yes"
	case election.No:
		return "no"
	default:
		return "unknown"
	}
}

// encodeStatus cannot fail on anything but a tag of a kind that JSON does not have; such tags are
// left out rather than the whole answer.
func encodeStatus(b memberStatus) []byte {
	body, err := json.Marshal(b)
	if err != nil {
		b.Tags = encodableTags(b.Tags)
		body, err = json.Marshal(b)
	}
	if err != nil {
		return []byte(`{}`)
	}
	return body
}

func encodableTags(tags map[string]any) map[string]any {
	kept := make(map[string]any, len(tags))
	for k, v := range tags {
		if _, err := json.Marshal(v); err == nil {
			kept[k] = v
		}
	}
	return kept
}
