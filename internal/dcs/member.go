package dcs

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// rawJSON is JSON that this package made, and that is written as it is.
type rawJSON []byte

// MemberData is what an agent publishes about itself in members/<name> (rows D-25 to D-42), with
// everything that election.Member leaves out because no decision needs it.
type MemberData struct {
	ConnURL  string // postgres://host:port/database, no credentials
	APIURL   string // http(s)://host:port/patroni
	State    election.MemberState
	Role     string // primary, replica, standby_leader, demoted, promoted, uninitialized
	Version  string // a Patroni-compatible number, at least 4.0.0 (row D-30)
	ProxyURL string // only with postgresql.proxy_address
	// CheckpointAfterPromote is written, as false, only when it is No (row D-32).
	CheckpointAfterPromote election.Tristate
	// Tags are the filtered tags (row C-129): any key, any value.
	Tags           map[string]any
	PendingRestart bool
	// PendingRestartReason says why, by parameter. Written only with PendingRestart.
	PendingRestartReason map[string]ParameterChange
	// Positions are in bytes; a zero is left out.
	XlogLocation     election.LSN
	ReplayLSN        election.LSN // standby only
	ReceiveLSN       election.LSN // standby only
	ReplicationState string       // standby only
	Timeline         election.Timeline
	ScheduledRestart *ScheduledRestart
	Pause            bool

	// PghaVersion and Incarnation are pgha's own; a Patroni ignores them.
	PghaVersion string
	Incarnation string
	// DataID names the copy of the data (safety review, hole 9); empty: not known.
	DataID string
	// PghaExtra holds further members of the "pgha" object, for features that come and go.
	PghaExtra map[string]any
}

// ParameterChange is one parameter that waits for a restart, in human units (row D-35).
type ParameterChange struct {
	OldValue string `json:"old_value"`
	NewValue string `json:"new_value"`
}

// ScheduledRestart is a restart that an operator asked for (row D-41).
type ScheduledRestart struct {
	Schedule            string // ISO 8601
	PostmasterStartTime string
	Role                string
	PostgresVersion     string
	Timeout             string // a number of seconds, or text with a unit, as asked
	RestartPending      bool
}

// EncodeMember writes the value of members/<name>: compact, fields in the incumbent's order, and
// only those that are present (rows D-25 to D-42).
func EncodeMember(m MemberData) []byte {
	var o object
	o.put("conn_url", m.ConnURL)
	o.put("api_url", m.APIURL)
	o.put("state", string(m.State))
	o.put("role", m.Role)
	o.put("version", m.Version)
	o.putString("proxy_url", m.ProxyURL)
	if m.CheckpointAfterPromote == election.No {
		o.put("checkpoint_after_promote", false)
	}
	if len(m.Tags) > 0 {
		o.put("tags", m.Tags)
	}
	if m.PendingRestart {
		o.put("pending_restart", true)
		if len(m.PendingRestartReason) > 0 {
			o.put("pending_restart_reason", m.PendingRestartReason)
		}
	}
	putPositions(&o, m)
	if m.ScheduledRestart != nil {
		o.put("scheduled_restart", rawJSON(encodeScheduledRestart(*m.ScheduledRestart)))
	}
	if m.Pause {
		o.put("pause", true)
	}
	if m.PghaVersion != "" {
		o.put("pgha", rawJSON(encodePgha(m)))
	}
	return o.bytes()
}

func putPositions(o *object, m MemberData) {
	for _, p := range []struct {
		key string
		lsn election.LSN
	}{{"xlog_location", m.XlogLocation}, {"replay_lsn", m.ReplayLSN}, {"receive_lsn", m.ReceiveLSN}} {
		if p.lsn != 0 {
			o.put(p.key, uint64(p.lsn))
		}
	}
	o.putString("replication_state", m.ReplicationState)
	if m.Timeline != 0 {
		o.put("timeline", uint32(m.Timeline))
	}
}

func encodePgha(m MemberData) []byte {
	var o object
	o.put("version", m.PghaVersion)
	o.putString("incarnation", m.Incarnation)
	o.putString("data", m.DataID)
	for _, key := range sortedKeys(m.PghaExtra) {
		if !ownPghaField(key) {
			o.put(key, m.PghaExtra[key])
		}
	}
	return o.bytes()
}

// ownPghaField tells the fields of the "pgha" object that MemberData has by name.
func ownPghaField(key string) bool { return key == "version" || key == "incarnation" || key == "data" }

func encodeScheduledRestart(r ScheduledRestart) []byte {
	var o object
	o.putString("schedule", r.Schedule)
	o.putString("postmaster_start_time", r.PostmasterStartTime)
	o.putString("role", r.Role)
	o.putString("postgres_version", r.PostgresVersion)
	if r.Timeout != "" {
		if n, err := strconv.ParseUint(r.Timeout, 10, 31); err == nil {
			o.put("timeout", n)
		} else {
			o.put("timeout", r.Timeout)
		}
	}
	if r.RestartPending {
		o.put("restart_pending", true)
	}
	return o.bytes()
}

// DecodeMember reads one members/<name> key, with the legacy forms of rows D-43 and D-44.
func DecodeMember(kv KV) election.Member {
	m := election.Member{
		Name:        strings.TrimPrefix(kv.Key, PrefixMembers),
		State:       election.StateUnknown,
		Tags:        DecodeTags(nil),
		Lease:       kv.Lease,
		ModRevision: kv.ModRevision,
	}
	if strings.HasPrefix(string(kv.Value), "postgres") {
		m.ConnURL, m.APIURL = legacyMember(string(kv.Value))
		return m
	}
	v, _ := parseObject(kv.Value)
	m.ConnURL, m.APIURL = asString(v["conn_url"]), asString(v["api_url"])
	if m.ConnURL == "" {
		m.ConnURL = connURLFromKwargs(asObject(v["conn_kwargs"]))
	}
	if state := asString(v["state"]); state != "" {
		m.State = election.MemberState(state)
	}
	m.Role = asString(v["role"])
	if m.Role == "master" {
		m.Role = "primary"
	}
	m.Version = asString(v["version"])
	m.Timeline = asTimeline(v["timeline"])
	m.XlogLocation = asLSN(v["xlog_location"])
	m.ReceiveLSN = asLSN(v["receive_lsn"])
	m.ReplayLSN = asLSN(v["replay_lsn"])
	m.ReplicationState = asString(v["replication_state"])
	m.Tags = DecodeTags(asObject(v["tags"]))
	m.Tags.CloneFrom = m.Tags.CloneFrom && m.ConnURL != ""
	m.PendingRestart = truthy(v["pending_restart"])
	m.Pause = truthy(v["pause"])
	m.CheckpointAfterPromote = checkpointAfterPromote(m, v)
	if own, ok := v["pgha"].(map[string]any); ok {
		m.PghaVersion = asString(own["version"])
		m.Incarnation = asString(own["incarnation"])
		m.DataID = asString(own["data"])
	}
	return m
}

// DecodeMemberData reads back everything that EncodeMember writes, for the tools that show it.
func DecodeMemberData(kv KV) MemberData {
	m := DecodeMember(kv)
	v, _ := parseObject(kv.Value)
	d := MemberData{
		ConnURL: m.ConnURL, APIURL: m.APIURL, State: m.State, Role: m.Role, Version: m.Version,
		ProxyURL: asString(v["proxy_url"]), CheckpointAfterPromote: m.CheckpointAfterPromote,
		Tags: asObject(v["tags"]), PendingRestart: m.PendingRestart,
		XlogLocation: m.XlogLocation, ReplayLSN: m.ReplayLSN, ReceiveLSN: m.ReceiveLSN,
		ReplicationState: m.ReplicationState, Timeline: m.Timeline, Pause: m.Pause,
		PghaVersion: m.PghaVersion, Incarnation: m.Incarnation, DataID: m.DataID,
	}
	for name, change := range asObject(v["pending_restart_reason"]) {
		c := asObject(change)
		if c == nil {
			continue
		}
		if d.PendingRestartReason == nil {
			d.PendingRestartReason = map[string]ParameterChange{}
		}
		d.PendingRestartReason[name] = ParameterChange{OldValue: asString(c["old_value"]), NewValue: asString(c["new_value"])}
	}
	if r := asObject(v["scheduled_restart"]); r != nil {
		d.ScheduledRestart = &ScheduledRestart{
			Schedule: asString(r["schedule"]), PostmasterStartTime: asString(r["postmaster_start_time"]),
			Role: asString(r["role"]), PostgresVersion: asString(r["postgres_version"]),
			Timeout: scalarText(r["timeout"]), RestartPending: truthy(r["restart_pending"]),
		}
	}
	for key, extra := range asObject(v["pgha"]) {
		if ownPghaField(key) {
			continue
		}
		if d.PghaExtra == nil {
			d.PghaExtra = map[string]any{}
		}
		d.PghaExtra[key] = extra
	}
	return d
}

// checkpointAfterPromote applies row D-32: false means not yet, and silence from a primary that
// knows the handshake means that pg_rewind from it is safe.
func checkpointAfterPromote(m election.Member, v map[string]any) election.Tristate {
	if b, ok := v["checkpoint_after_promote"].(bool); ok {
		return election.KnownBool(b)
	}
	if m.Role == "primary" && VersionNewer(m.Version, 1, 5, 6) {
		return election.Yes
	}
	return election.Unknown
}

// VersionNewer says whether a dot-separated version is greater than another. A version that does
// not parse is not newer than anything.
func VersionNewer(version string, than ...int) bool {
	if version == "" {
		return false
	}
	parts := strings.Split(version, ".")
	for i := range max(len(parts), len(than)) {
		have, want := 0, 0
		if i < len(parts) {
			n, err := strconv.Atoi(parts[i])
			if err != nil {
				return false
			}
			have = n
		}
		if i < len(than) {
			want = than[i]
		}
		if have != want {
			return have > want
		}
	}
	return false
}

// legacyMember reads a URL whose application_name parameter is the API's URL (row D-43).
func legacyMember(value string) (connURL, apiURL string) {
	u, err := url.Parse(value)
	if err != nil {
		return "", ""
	}
	apiURL = u.Query().Get("application_name")
	u.RawQuery, u.User = "", nil
	return u.String(), apiURL
}

// connURLFromKwargs builds the URL from host and port (row D-44).
func connURLFromKwargs(kwargs map[string]any) string {
	host := asString(kwargs["host"])
	if host == "" {
		return ""
	}
	port := scalarText(kwargs["port"])
	if port == "" {
		port = "5432"
	}
	return "postgres://" + hostPort(host, port) + "/postgres"
}

// DecodeTags reads raw tags as the incumbent does (rows C-129 to C-137). The same function serves
// the local configuration file.
func DecodeTags(raw map[string]any) election.Tags {
	t := election.Tags{
		NoLoadBalance: truthy(raw["noloadbalance"]),
		NoStream:      boolWord(raw["nostream"]),
		CloneFrom:     truthy(raw["clonefrom"]),
		ReplicateFrom: asString(raw["replicatefrom"]),
	}
	t.NoFailover, t.FailoverPriority = flagAndPriority(raw, "nofailover", "failover_priority")
	t.NoSync, t.SyncPriority = flagAndPriority(raw, "nosync", "sync_priority")
	return t
}

// flagAndPriority reads a pair of tags of which the flag wins: a priority of zero or less acts as
// the flag only where the flag is absent (rows C-130 to C-133).
func flagAndPriority(raw map[string]any, flag, priority string) (refuses bool, value int) {
	value = 1
	if n, ok := wholeNumber(raw[priority]); ok {
		value = max(n, 0)
	}
	set, present := raw[flag]
	if present && set != nil {
		refuses = truthy(set)
	} else {
		refuses = value <= 0
	}
	if refuses {
		value = 0
	}
	return refuses, value
}

// scalarText gives a JSON string or number as text.
func scalarText(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	default:
		return ""
	}
}
