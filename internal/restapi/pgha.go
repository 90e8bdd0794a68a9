package restapi

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// apiError is the one shape of an error below /pgha/.
type apiError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (s *Server) writeError(w http.ResponseWriter, code int, e apiError) {
	s.writeJSON(w, code, struct {
		Error apiError `json:"error"`
	}{e})
}

func (s *Server) writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code = http.StatusInternalServerError
		body = []byte(`{"error":{"code":"internal","message":"the answer could not be encoded"}}`)
	}
	s.write(w, code, typeJSON, body)
}

// getPgha serves pgha's own endpoints. They only read.
func (s *Server) getPgha(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimSuffix(r.URL.Path, "/") {
	case "/pgha/why":
		s.getWhy(w, r)
	case "/pgha/status":
		s.getStatus(w)
	case "/pgha/caught-up":
		s.getCaughtUp(w, r)
	case "/pgha/pulse":
		s.getPulse(w, r)
	default:
		s.writeError(w, http.StatusNotFound, apiError{
			Code: "not_found", Message: "no such endpoint",
			Hint: "there are /pgha/why, /pgha/status, /pgha/caught-up and /pgha/pulse",
		})
	}
}

// WhyDocument is the body of GET /pgha/why.
type WhyDocument struct {
	Scope     string          `json:"scope"`
	Name      string          `json:"name"`
	Now       CurrentRule     `json:"now"`
	Decisions []DecisionEntry `json:"decisions"` // newest last
	// What binds this member's hands or its vote; each left out where there is nothing to say.
	Frozen     *frozenStatus `json:"frozen,omitempty"`
	LostLeader int64         `json:"lost_leader,omitempty"`
	PromiseMS  int64         `json:"promise_remaining_ms,omitempty"`
	Sync       *syncStatus   `json:"sync,omitempty"`
}

// syncStatus is synchronous replication as the leader runs it.
type syncStatus struct {
	Voters  []string `json:"voters"`
	Wait    int      `json:"wait"`
	Quorum  int      `json:"quorum"`
	InForce string   `json:"in_force"` // yes, no, unknown
}

func (m moment) sync() *syncStatus {
	s := m.State.Sync
	if len(s.Voters) == 0 && s.Wait == 0 {
		return nil
	}
	voters := s.Voters
	if voters == nil {
		voters = []string{}
	}
	return &syncStatus{voters, s.Wait, s.Quorum, tristate(s.InForce)}
}

// CurrentRule is the plan in force.
type CurrentRule struct {
	Rule     string   `json:"rule"`
	Reason   string   `json:"reason"`
	AgeMS    int64    `json:"age_ms"`
	Problems []string `json:"problems,omitempty"`
}

// DecisionEntry is one decision of the past.
type DecisionEntry struct {
	At      time.Time `json:"at"`
	Rule    string    `json:"rule"`
	Reason  string    `json:"reason"`
	Change  string    `json:"change,omitempty"` // what would have made it another one
	Actions []string  `json:"actions"`
	Result  string    `json:"result,omitempty"`
}

func (s *Server) getWhy(w http.ResponseWriter, r *http.Request) {
	limit := math.MaxInt
	if v, ok := parseQuery(r).get("last"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			s.writeError(w, http.StatusBadRequest, apiError{
				Code: "bad_request", Message: "last is not a number greater than zero", Hint: "for example /pgha/why?last=10",
			})
			return
		}
		limit = n
	}
	m := observe(s.node)
	doc := WhyDocument{
		Scope: m.Scope, Name: m.Name, Decisions: []DecisionEntry{},
		Now:    CurrentRule{m.Loop.Rule, m.Loop.Reason, (m.now - m.Loop.LastAt).Milliseconds(), m.Loop.Problems},
		Frozen: m.frozen(), LostLeader: m.LostLeader, Sync: m.sync(),
		PromiseMS: max(0, (m.State.Fencer.PromiseUntil - m.now).Milliseconds()),
	}
	kept := m.Decisions
	kept = kept[max(0, len(kept)-limit):]
	for _, d := range kept {
		actions := d.Actions
		if actions == nil {
			actions = []string{}
		}
		doc.Decisions = append(doc.Decisions, DecisionEntry{d.At.UTC(), d.Rule, d.Reason, d.Change, actions, d.Result})
	}
	s.writeJSON(w, http.StatusOK, doc)
}

// statusDocument is the body of GET /pgha/status: /patroni and everything behind it.
type statusDocument struct {
	memberStatus

	Lease    leaseStatus    `json:"lease"`
	Fencer   fencerStatus   `json:"fencer"`
	Loop     loopStatus     `json:"loop"`
	Cluster  viewStatus     `json:"cluster"`
	Sync     *syncStatus    `json:"sync,omitempty"`
	Decision *DecisionEntry `json:"last_decision,omitempty"`
}

type leaseStatus struct {
	Leader      bool  `json:"leader"`
	RemainingMS int64 `json:"remaining_ms"`
	TTLMS       int64 `json:"ttl_ms"`
}

type fencerStatus struct {
	Connected   bool     `json:"connected"`
	PID         int      `json:"pid,omitempty"`
	Armed       bool     `json:"armed"`
	Epoch       uint64   `json:"epoch,omitempty"`
	RemainingMS int64    `json:"remaining_ms,omitempty"`
	Postmaster  int      `json:"postmaster_pid,omitempty"`
	Priority    string   `json:"priority,omitempty"`
	KillMethod  string   `json:"kill_method,omitempty"`
	Wire        string   `json:"wire,omitempty"`
	FencedAgeMS *int64   `json:"fenced_age_ms,omitempty"`
	PromiseMS   int64    `json:"promise_remaining_ms,omitempty"`
	Problems    []string `json:"problems,omitempty"`
}

type loopStatus struct {
	Count    uint64   `json:"count"`
	AgeMS    int64    `json:"age_ms"`
	NextInMS int64    `json:"next_in_ms"`
	Rule     string   `json:"rule"`
	Reason   string   `json:"reason"`
	Problems []string `json:"problems,omitempty"`
}

type viewStatus struct {
	Valid           bool         `json:"valid"`
	ValidForMS      int64        `json:"valid_for_ms"`
	Leader          string       `json:"leader,omitempty"`
	LeaderOptime    election.LSN `json:"leader_optime"`
	SynchronousMode string       `json:"synchronous_mode,omitempty"`
	FailsafeMode    bool         `json:"failsafe_mode"`
	FailsafeMember  bool         `json:"failsafe_member"`
	StandbyCluster  bool         `json:"standby_cluster,omitempty"`
	MaximumLag      int64        `json:"maximum_lag_on_failover"`
}

func (s *Server) getStatus(w http.ResponseWriter) {
	m := observe(s.node)
	doc := statusDocument{memberStatus: m.status()}
	doc.Tags = encodableTags(m.Tags)
	doc.Pgha = m.pgha()
	doc.Sync = m.sync()
	remaining := func(t election.Instant) int64 { return max(0, (t - m.now).Milliseconds()) }
	doc.Lease = leaseStatus{m.leader, m.leaderFor().Milliseconds(), m.TTL.Milliseconds()}
	f := m.State.Fencer
	doc.Fencer = fencerStatus{
		Connected: f.Connected, PID: f.PID, Armed: f.Armed, Epoch: f.Epoch, RemainingMS: remaining(f.Until),
		Postmaster: f.Postmaster, Priority: f.Priority, KillMethod: f.KillMethod, Wire: f.Wire,
		PromiseMS: remaining(f.PromiseUntil), Problems: f.Problems,
	}
	if f.FencedAt > 0 {
		age := (m.now - f.FencedAt).Milliseconds()
		doc.Fencer.FencedAgeMS = &age
	}
	l := m.State.Loop
	doc.Loop = loopStatus{l.Count, (m.now - l.LastAt).Milliseconds(), remaining(m.NextLoop), l.Rule, l.Reason, l.Problems}
	v := m.View
	doc.Cluster = viewStatus{
		m.view, remaining(m.ViewUntil), v.Leader, v.LeaderOptime, v.SynchronousMode,
		v.FailsafeMode, v.FailsafeMember, v.StandbyCluster, v.MaximumLag,
	}
	if n := len(m.Decisions); n > 0 {
		d := m.Decisions[n-1]
		doc.Decision = &DecisionEntry{d.At.UTC(), d.Rule, d.Reason, d.Change, d.Actions, d.Result}
	}
	s.writeJSON(w, http.StatusOK, doc)
}

// caughtUp is the body of GET /pgha/caught-up.
type caughtUp struct {
	CaughtUp bool         `json:"caught_up"`
	Received election.LSN `json:"received_location"`
}

// maxWait bounds one long poll.
const maxWait = 30 * time.Second

// getCaughtUp answers 200 as soon as this server has received the log up to lsn, and 202 with the
// present position when the wait is over before that. A primary that hands over asks it.
func (s *Server) getCaughtUp(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	lsn, wait, ok := parseCaughtUp(q)
	if !ok {
		s.writeError(w, http.StatusBadRequest, apiError{
			Code: "bad_request", Message: "lsn or wait is missing or not understood",
			Hint: "for example /pgha/caught-up?lsn=0/3000060&wait=5000, wait in milliseconds up to 30000",
		})
		return
	}
	select {
	case s.polls <- struct{}{}:
		defer func() { <-s.polls }()
	default:
		s.writeError(w, http.StatusServiceUnavailable, apiError{
			Code: "busy", Message: "too many requests wait already", Hint: "try again in a moment",
		})
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + writeTimeout)) // as in runChange
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	received, done := s.node.CaughtUp(ctx, lsn)
	code := http.StatusAccepted
	if done {
		code = http.StatusOK
	}
	s.writeJSON(w, code, caughtUp{done, received})
}

func parseCaughtUp(q query) (election.LSN, time.Duration, bool) {
	text, _ := q.get("lsn")
	lsn, err := election.ParseLSN(text)
	if err != nil {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		lsn = election.LSN(n)
	}
	var wait time.Duration
	if v, ok := q.get("wait"); ok {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return 0, 0, false
		}
		wait = min(maxWait, time.Duration(n)*time.Millisecond)
	}
	return lsn, wait, true
}
