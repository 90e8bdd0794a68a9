package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgha/pgha/internal/election"
)

// metrics are pgha's own; what Patroni's dashboards expect is served by restapi. Label sets are
// closed: rule IDs, action names, job kinds.
type metrics struct {
	decisions *prometheus.CounterVec
	actions   *prometheus.CounterVec
	jobs      *prometheus.CounterVec
	jobTime   *prometheus.HistogramVec
	loopTime  prometheus.Histogram
	guarded   prometheus.Counter
	renewals  *prometheus.CounterVec
	writes    prometheus.Counter
	lostBytes prometheus.Counter
	lostTxns  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, version string) *metrics {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgha_decisions_total", Help: "Changed decisions, by rule."}, []string{"rule"}),
		actions:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgha_actions_total", Help: "Actions asked for by plans, by kind."}, []string{"action"}),
		jobs:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgha_jobs_total", Help: "Finished local jobs, by kind and result."}, []string{"job", "result"}),
		jobTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pgha_job_duration_seconds", Help: "How long local jobs took.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}, []string{"job"}),
		loopTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pgha_loop_duration_seconds", Help: "How long one round of deciding took.",
			Buckets: []float64{.0005, .001, .005, .025, .1, .5, 2},
		}),
		guarded:   prometheus.NewCounter(prometheus.CounterOpts{Name: "pgha_guard_violations_total", Help: "Plans that the guard refused. Any is a defect."}),
		renewals:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pgha_lease_renewals_total", Help: "Rounds of lease renewal and proof of ownership."}, []string{"result"}),
		writes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "pgha_dcs_writes_total", Help: "Writes to the consensus store beyond lease renewals."}),
		lostBytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "pgha_rejoin_lost_bytes_total", Help: "WAL of this member beyond the fork that rejoining gave up."}),
		lostTxns:  prometheus.NewCounter(prometheus.CounterOpts{Name: "pgha_rejoin_lost_transactions_total", Help: "Transactions of this member beyond the fork that rejoining gave up."}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pgha_build_info", Help: "Version of the agent."}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	for _, c := range []prometheus.Collector{
		m.decisions, m.actions, m.jobs, m.jobTime, m.loopTime, m.guarded, m.renewals, m.writes, m.lostBytes, m.lostTxns, info,
	} {
		// Two agents on one registry would be a defect of the caller; its counters then count
		// for nobody, which is better than a dead agent.
		_ = reg.Register(c)
	}
	return m
}

func (m *metrics) decision(p election.Plan) { m.decisions.WithLabelValues(string(p.Rule)).Inc() }
func (m *metrics) guard()                   { m.guarded.Inc() }
func (m *metrics) write()                   { m.writes.Inc() }
func (m *metrics) loop(d time.Duration)     { m.loopTime.Observe(d.Seconds()) }

func (m *metrics) action(a election.Action) {
	m.actions.WithLabelValues(election.ActionName(a)).Inc()
}

func (m *metrics) renewal(ok bool) { m.renewals.WithLabelValues(result(ok)).Inc() }

func (m *metrics) job(kind election.JobKind, err error, took time.Duration) {
	m.jobs.WithLabelValues(string(kind), result(err == nil)).Inc()
	m.jobTime.WithLabelValues(string(kind)).Observe(took.Seconds())
}

func (m *metrics) lost(bytes int64, txns int) {
	m.lostBytes.Add(float64(max(0, bytes)))
	m.lostTxns.Add(float64(max(0, txns)))
}

func result(ok bool) string {
	if ok {
		return "ok"
	}
	return "error"
}
