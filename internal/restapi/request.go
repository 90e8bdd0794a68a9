package restapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

func bad(format string, args ...any) *Reply {
	r := Refused(http.StatusBadRequest, fmt.Sprintf(format, args...))
	return &r
}

// fields is a JSON object whose values are looked at one by one: a field of a wrong type must be
// refused or ignored by itself, not spoil the others.
type fields map[string]json.RawMessage

func parseFields(body json.RawMessage) fields {
	var f fields
	if json.Unmarshal(body, &f) != nil {
		return nil
	}
	return f
}

// text reads a string; numbers are taken as they are written, everything else is absent.
func (f fields) text(names ...string) string {
	for _, name := range names {
		var s string
		if json.Unmarshal(f[name], &s) == nil && s != "" {
			return s
		}
		var n json.Number
		if json.Unmarshal(f[name], &n) == nil && n != "" {
			return n.String()
		}
	}
	return ""
}

// truth reads a flag, also as a word or a number.
func (f fields) truth(names ...string) bool {
	for _, name := range names {
		var b bool
		if json.Unmarshal(f[name], &b) == nil && b {
			return true
		}
		switch strings.ToLower(f.text(name)) {
		case "true", "on", "yes", "1":
			return true
		}
	}
	return false
}

// parseSwitchover checks the form of POST /switchover and /failover, in the order of rows R-104
// and R-105. Whether the cluster allows it is for the agent to say.
func parseSwitchover(body json.RawMessage, failover, paused bool, now time.Time) (SwitchoverRequest, *Reply) {
	f := parseFields(body)
	req := SwitchoverRequest{Leader: f.text("leader"), Candidate: f.text("candidate", "member")}
	at := f.text("scheduled_at")
	switch {
	case failover && req.Candidate == "":
		return req, bad("Failover could be performed only to a specific candidate")
	case failover && at != "" && req.Leader == "":
		return req, bad("Failover can't be scheduled")
	case !failover && req.Leader == "":
		return req, bad("Switchover could be performed only from a specific leader")
	case at != "" && paused:
		return req, bad("Can't schedule switchover in the paused state")
	}
	if at != "" {
		t, refusal := parseSchedule(at, "switchover", now)
		if refusal != nil {
			return req, refusal
		}
		req.ScheduledAt = t
	}
	switch {
	case paused && req.Candidate == "":
		return req, bad("Switchover is possible only to a specific candidate in a paused state")
	case req.Leader != "" && req.Leader == req.Candidate:
		return req, bad("Switchover target and source are the same")
	}
	return req, nil
}

// validVersion says whether s has the form X.Y or X.Y.Z.
func validVersion(s string) bool {
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 10); err != nil {
			return false
		}
	}
	return len(parts) == 2 || len(parts) == 3
}

// parseRestart checks the form of POST /restart (row R-101).
func parseRestart(body json.RawMessage, now time.Time) (RestartRequest, *Reply) {
	var req RestartRequest
	f := parseFields(body)
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := f.text(name)
		switch name {
		case "schedule":
			t, refusal := parseSchedule(value, "restart", now)
			if refusal != nil {
				return req, refusal
			}
			req.Schedule = t
		case "role":
			switch value {
			case RolePrimary, RoleStandbyLeader, RoleReplica:
				req.Role = value
			default:
				return req, bad("role must be one of primary, standby_leader, replica")
			}
		case "postgres_version":
			if !validVersion(value) {
				return req, bad("postgres_version must have the form X.Y or X.Y.Z")
			}
			req.PostgresVersion = value
		case "timeout":
			d, ok := parseSeconds(value)
			if !ok || d <= 0 {
				return req, bad("timeout must be a number of seconds greater than zero")
			}
			req.Timeout = d
		case "restart_pending":
			req.RestartPending = true // any value counts (row H-197)
		default:
			return req, bad("unknown filter %s for a restart", strconv.Quote(name))
		}
	}
	return req, nil
}

// parseReinitialize accepts both spellings of from_leader: the one that works elsewhere and the
// one that is documented (row R-103).
func parseReinitialize(body json.RawMessage) ReinitializeRequest {
	f := parseFields(body)
	return ReinitializeRequest{Force: f.truth("force"), FromLeader: f.truth("from_leader", "from-leader")}
}

// parseFailsafe reads row R-110 with pgha's part. Slots of a strange form are dropped, but a part of
// pgha's that is not understood is refused: it says how long the caller will rely on the promise.
func parseFailsafe(body json.RawMessage, received election.Instant) (FailsafeRequest, *Reply) {
	f := parseFields(body)
	req := FailsafeRequest{
		Name: f.text("name"), ConnURL: f.text("conn_url"), APIURL: f.text("api_url"), ReceivedAt: received,
	}
	for name, raw := range parseFields(f["slots"]) {
		var lsn uint64
		if json.Unmarshal(raw, &lsn) != nil {
			continue
		}
		if req.Slots == nil {
			req.Slots = map[string]election.LSN{}
		}
		req.Slots[name] = election.LSN(lsn)
	}
	raw, ok := f["pgha"]
	if !ok {
		return req, nil
	}
	var own FailsafeExtra
	if err := json.Unmarshal(raw, &own); err != nil {
		return req, bad("pgha: not understood: %v", err)
	}
	if own.TTLMillis <= 0 || own.TTLMillis > maxPromise.Milliseconds() {
		return req, bad("pgha.ttl_ms: %d: a promise may last from 1 ms to %s", own.TTLMillis, maxPromise)
	}
	req.TTL = time.Duration(own.TTLMillis) * time.Millisecond
	req.Epoch, req.LeaderRevision, req.Round = own.Epoch, own.LeaderRevision, own.Round
	return req, nil
}

// maxPromise bounds what a caller may ask a member to promise; the fencer keeps none that is longer.
const maxPromise = time.Hour

// FailsafeExtra is pgha's part of the body of POST /failsafe, under the name "pgha".
type FailsafeExtra struct {
	TTLMillis      int64  `json:"ttl_ms"`
	Epoch          uint64 `json:"epoch"`
	LeaderRevision int64  `json:"leader_revision"`
	Round          uint64 `json:"round"`
}

// scheduleLayouts are the forms of a timestamp with a time zone that are understood. Seconds may
// carry a fraction in any of them.
func scheduleLayouts() []string {
	var layouts []string
	for _, between := range []string{"T", " "} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			for _, zone := range []string{"Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " Z07", " MST"} {
				layouts = append(layouts, "2006-01-02"+between+clock+zone)
			}
		}
	}
	return layouts
}

// parseSchedule reads a point in time that must be ahead and name its time zone.
func parseSchedule(s, action string, now time.Time) (time.Time, *Reply) {
	unprocessable := func(text string) (time.Time, *Reply) {
		r := Refused(http.StatusUnprocessableEntity, text)
		return time.Time{}, &r
	}
	s = strings.TrimSpace(s)
	for _, layout := range scheduleLayouts() {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		// Only UTC and GMT are unambiguous as abbreviations; others parse as if they were UTC.
		if zone, offset := t.Zone(); strings.HasSuffix(layout, "MST") && (offset != 0 || zone != "UTC" && zone != "GMT") {
			continue
		}
		if !t.After(now) {
			return unprocessable("the " + action + " can not be scheduled in the past")
		}
		return t, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if _, err := time.Parse(layout, s); err == nil {
			return time.Time{}, bad("the time of the %s needs a time zone", action)
		}
	}
	return unprocessable("the time of the " + action + " is not understood, write it as 2006-01-02T15:04:05+00:00")
}
