package restapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgha/pgha/internal/election"
)

// metricsHandler serves the metrics of rows from the published State, and those of
// extra, which the agent fills with its own.
func metricsHandler(node Observer, extra prometheus.Gatherer) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(node))
	gatherers := prometheus.Gatherers{registry}
	if extra != nil {
		gatherers = append(gatherers, extra)
	}
	return promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{
		// A broken metric of one part must not hide all others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 8,
		Timeout:             queryTimeout,
	})
}

// gauge is one metric: how it is called and how it follows from a moment. A value that is not to
// be shown has ok false.
type gauge struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(moment) (v float64, ok bool)
}

type collector struct {
	node   Observer
	gauges []gauge
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range c.gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector. All values are of one moment.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := observe(c.node)
	for _, g := range c.gauges {
		if v, ok := g.value(m); ok {
			ch <- prometheus.MustNewConstMetric(g.desc, g.kind, v, m.Scope, m.Name)
		}
	}
}

func newCollector(node Observer) *collector {
	c := &collector{node: node}
	c.addServer()
	c.addPositions()
	c.addCluster()
	c.addPgha()
	c.addTakeover()
	return c
}

func (c *collector) add(name, help string, kind prometheus.ValueType, value func(moment) (float64, bool)) {
	desc := prometheus.NewDesc(name, help, []string{"scope", "name"}, nil)
	c.gauges = append(c.gauges, gauge{desc, kind, value})
}

func (c *collector) number(name, help string, value func(moment) float64) {
	c.add(name, help, prometheus.GaugeValue, func(m moment) (float64, bool) { return value(m), true })
}

func (c *collector) counter(name, help string, value func(moment) float64) {
	c.add(name, help, prometheus.CounterValue, func(m moment) (float64, bool) { return value(m), true })
}

func (c *collector) flag(name, help string, value func(moment) bool) {
	c.number(name, help, func(m moment) float64 { return one(value(m)) })
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func epoch(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}

// addServer: rows.
func (c *collector) addServer() {
	c.number("patroni_version", "Patroni version that this agent is compatible with, without dots.",
		func(m moment) float64 { return versionNumber(m.Version) })
	c.flag("patroni_postgres_running", "1 if PostgreSQL is running.", moment.running)
	c.number("patroni_postmaster_start_time", "Start of the postmaster, seconds since the epoch, 0 if unknown.",
		func(m moment) float64 { return epoch(m.answered().StartTime) })
	c.flag("patroni_primary", "1 if PostgreSQL is a primary, whoever holds the leader key.",
		func(m moment) bool { return m.Server.Role == RolePrimary })
	c.flag("patroni_standby_leader", "1 if this node leads a standby cluster.",
		func(m moment) bool { return m.Server.Role == RoleStandbyLeader })
	c.flag("patroni_replica", "1 if PostgreSQL is a replica.",
		func(m moment) bool { return m.Server.Role == RoleReplica })
	known := func(value func(moment) bool) func(moment) (float64, bool) {
		return func(m moment) (float64, bool) {
			return one(value(m)), m.answered().Version >= 90600
		}
	}
	c.add("patroni_postgres_streaming", "1 if PostgreSQL is streaming.", prometheus.GaugeValue,
		known(func(m moment) bool { return m.Server.ReplicationState == "streaming" }))
	c.add("patroni_postgres_in_archive_recovery", "1 if PostgreSQL replays from the archive.", prometheus.GaugeValue,
		known(func(m moment) bool { return m.Server.ReplicationState == "in archive recovery" }))
	c.number("patroni_postgres_server_version", "Version of PostgreSQL, 0 if unknown.",
		func(m moment) float64 { return float64(m.answered().Version) })
	c.number("patroni_postgres_timeline", "Timeline of PostgreSQL, 0 if unknown.",
		func(m moment) float64 { return float64(m.answered().Timeline) })
	words, numbers := stateNumbers()
	c.number("patroni_postgres_state", "State of PostgreSQL as a number. Values: "+words,
		func(m moment) float64 { return stateNumber(numbers, m.serverState()) })
}

// addPositions: rows.
func (c *collector) addPositions() {
	standby := func(value func(ServerState) float64) func(moment) float64 {
		return func(m moment) float64 {
			if s := m.answered(); s.Answering && !s.IsPrimary() {
				return value(s)
			}
			return 0
		}
	}
	c.counter("patroni_xlog_location", "Write position of the primary in bytes, 0 on a standby.",
		func(m moment) float64 {
			if s := m.answered(); s.IsPrimary() {
				return float64(s.Location)
			}
			return 0
		})
	c.counter("patroni_xlog_received_location", "Position received by the standby in bytes, 0 on a primary.",
		standby(func(s ServerState) float64 { return float64(s.received()) }))
	c.counter("patroni_xlog_replayed_location", "Position replayed by the standby in bytes, 0 on a primary.",
		standby(func(s ServerState) float64 { return float64(s.Replayed) }))
	c.number("patroni_xlog_replayed_timestamp", "Commit time of the last replayed transaction, 0 if none.",
		standby(func(s ServerState) float64 { return epoch(s.ReplayedTimestamp) }))
	c.number("patroni_xlog_paused", "1 if replay is paused.",
		standby(func(s ServerState) float64 { return one(s.ReplayPaused) }))
}

// addCluster: rows.
func (c *collector) addCluster() {
	synchronous := func(value func(ViewState) bool) func(moment) bool {
		return func(m moment) bool { return m.view && !m.Server.IsPrimary() && value(m.View) }
	}
	c.flag("patroni_sync_standby", "1 if this node is a synchronous standby.",
		synchronous(func(v ViewState) bool { return v.SyncStandby }))
	c.flag("patroni_quorum_standby", "1 if this node is a quorum standby.",
		synchronous(func(v ViewState) bool { return v.QuorumStandby }))
	c.flag("patroni_cluster_unlocked", "1 if no leader is known.", moment.clusterUnlocked)
	c.flag("patroni_failsafe_mode_is_active", "1 if failsafe mode is active.", moment.failsafeActive)
	c.flag("patroni_failsafe_mode_enabled", "1 if failsafe mode is switched on.",
		func(m moment) bool { return m.View.FailsafeMode })
	c.flag("patroni_failsafe_member", "1 if this node is listed as a failsafe member.",
		func(m moment) bool { return m.View.FailsafeMember })
	c.number("patroni_dcs_last_seen", "When the consensus store was last reached, seconds since the epoch.",
		func(m moment) float64 {
			if m.DCSLastSeen.IsZero() {
				return 0
			}
			return float64(m.DCSLastSeen.Unix())
		})
	c.flag("patroni_pending_restart", "1 if PostgreSQL must be restarted for settings to take effect.",
		func(m moment) bool { return m.PendingRestart })
	c.flag("patroni_is_paused", "1 if automatic failover is paused.", func(m moment) bool { return m.Pause })
	c.number("patroni_failover_priority", "Effective failover priority of this node.",
		func(m moment) float64 { return float64(m.FailoverPriority) })
}

// addPgha adds what only this package knows at the moment of the request; the agent registers
// everything else that begins with pgha_.
func (c *collector) addPgha() {
	c.number("pgha_leader_remaining_seconds", "Time left for which this node may say that it is the leader.",
		func(m moment) float64 { return m.leaderFor().Seconds() })
	c.number("pgha_observation_age_seconds", "Age of the last look at the local server.",
		func(m moment) float64 { return (m.now - m.Server.ObservedAt).Seconds() })
}

// addTakeover: votes, promises and the set of voters.
func (c *collector) addTakeover() {
	count := func(name, help string, value func(Counters) uint64) {
		c.counter(name, help, func(m moment) float64 { return float64(value(m.State.Counters)) })
	}
	count("pgha_votes_cast_total", "Votes that this member cast.", func(n Counters) uint64 { return n.VotesCast })
	count("pgha_freezes_total", "Freezes of this member in order to vote.", func(n Counters) uint64 { return n.Freezes })
	count("pgha_fruitless_freezes_total", "Freezes that ended with the same leader.",
		func(n Counters) uint64 { return n.FruitlessFreezes })
	count("pgha_vote_takeovers_total", "Takeovers of this member by votes.", func(n Counters) uint64 { return n.VoteTakeovers })
	count("pgha_failsafe_promises_total", "Promises not to race that this member gave to a leader without a store.",
		func(n Counters) uint64 { return n.PromisesGiven })
	count("pgha_sync_waits_cancelled_total", "Commits that were acknowledged before they were replicated, because the wait was cancelled.",
		func(n Counters) uint64 { return n.SyncWaitsCancelled })
	c.labelled("pgha_failsafe_rounds_total", "Rounds in which this leader, without a store, asked the members for their promise.",
		"result", map[string]func(moment) float64{
			"ok":     func(m moment) float64 { return float64(m.State.Counters.FailsafeRoundsOK) },
			"failed": func(m moment) float64 { return float64(m.State.Counters.FailsafeRoundsFailed) },
		})
	c.number("pgha_sync_voters", "Members whose acknowledgement counts for a commit, 0 if this member does not lead a synchronous cluster.",
		func(m moment) float64 { return float64(len(m.State.Sync.Voters)) })
	c.number("pgha_sync_wait", "Voters that a commit waits for.", func(m moment) float64 { return float64(m.State.Sync.Wait) })
	c.number("pgha_sync_quorum", "Votes that a takeover needs.", func(m moment) float64 { return float64(m.State.Sync.Quorum) })
	c.number("pgha_sync_lowered_settings", "Settings (of server, databases, roles) by which commits wait for less than synchronous_commit = on.",
		func(m moment) float64 { return float64(m.State.Sync.Lowered) })
	c.flag("pgha_sync_in_force", "1 if PostgreSQL is proven to go by the present setting.",
		func(m moment) bool { return m.State.Sync.InForce == election.Yes })
}

// labelled is a counter with one label more.
func (c *collector) labelled(name, help, label string, values map[string]func(moment) float64) {
	for word, value := range values {
		desc := prometheus.NewDesc(name, help, []string{"scope", "name"}, prometheus.Labels{label: word})
		c.gauges = append(c.gauges, gauge{desc, prometheus.CounterValue, func(m moment) (float64, bool) { return value(m), true }})
	}
}

// answered is the server's state, empty where it did not answer.
func (m moment) answered() ServerState {
	if !m.Server.Answering {
		return ServerState{}
	}
	return m.Server
}

// versionNumber turns 4.1.4 into 40104 (row R-072).
func versionNumber(version string) float64 {
	var digits strings.Builder
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || n > 99 {
			return 0
		}
		if n < 10 {
			digits.WriteByte('0')
		}
		digits.WriteString(strconv.FormatUint(n, 10))
	}
	n, err := strconv.ParseFloat(digits.String(), 64)
	if err != nil {
		return 0
	}
	return n
}

// stateNumbers are the frozen numbers of row R-096, and a line that lists them.
func stateNumbers() (words string, numbers map[election.MemberState]float64) {
	order := []struct{ word, state string }{
		{"initdb", "initializing new cluster"},
		{"initdb_failed", "initdb failed"},
		{"custom_bootstrap", "running custom bootstrap script"},
		{"custom_bootstrap_failed", "custom bootstrap failed"},
		{"creating_replica", "creating replica"},
		{"running", "running"},
		{"starting", "starting"},
		{"bootstrap_starting", "starting after custom bootstrap"},
		{"start_failed", "start failed"},
		{"restarting", "restarting"},
		{"restart_failed", "restart failed"},
		{"stopping", "stopping"},
		{"stopped", "stopped"},
		{"stop_failed", "stop failed"},
		{"crashed", "crashed"},
	}
	numbers = map[election.MemberState]float64{}
	var list []string
	for i, o := range order {
		numbers[election.MemberState(o.state)] = float64(i)
		list = append(list, strconv.Itoa(i)+"="+o.word)
	}
	return strings.Join(append(list, "-1=unknown"), ", "), numbers
}

func stateNumber(numbers map[election.MemberState]float64, s election.MemberState) float64 {
	if n, ok := numbers[s]; ok {
		return n
	}
	return -1
}
