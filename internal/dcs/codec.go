package dcs

import (
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// maxTTLMillis bounds a time to live that is read: nobody grants more than a day.
const maxTTLMillis = 24 * 60 * 60 * 1000

// minSystemID is the least length of a system identifier that counts as one (row D-45).
const minSystemID = 10

// Decode turns a snapshot into the values that decisions are made of. It never fails: a value that
// cannot be understood reads as an empty one (row D-75), and unknown keys are ignored (row D-01).
//
// Three readings are on the safe side of that rule. A failover request whose scheduled_at cannot be
// understood is no request, so that it does not run at once. A history key that is not a list leaves
// HistorySeen false, because it says nothing about the timeline. An initialize key that is neither
// empty nor a system identifier leaves the bootstrap state unknown.
func Decode(s Snapshot) election.Cluster {
	c := election.Cluster{Revision: s.Revision, ClusterID: s.ClusterID}
	var optime LegacyOptime
	for _, kv := range s.KVs {
		switch kv.Key {
		case KeyLeader:
			c.Leader = DecodeLeader(kv)
		case KeyConfig:
			if _, ok := parseObject(kv.Value); ok {
				c.ConfigRev = kv.ModRevision
			}
		case KeyFailover:
			c.Failover = DecodeFailover(kv)
		case KeySync:
			c.Sync = DecodeSync(kv)
		case KeyStatus:
			c.Status = DecodeStatus(kv)
		case KeyOptime:
			optime = decodeLegacyOptime(kv)
		case KeyHistory:
			c.History, c.HistorySeen = DecodeHistory(kv.Value)
			c.HistoryRev = kv.ModRevision
		case KeyFailsafe:
			c.Failsafe = DecodeFailsafe(kv.Value)
			c.FailsafeRev = kv.ModRevision
		case KeyEpoch:
			c.Reign = DecodeReign(kv)
		case KeyRelease:
			c.Release = DecodeRelease(kv)
		default:
			decodeNamed(&c, kv)
		}
	}
	if _, present := s.Get(KeyStatus); !present && optime.Present {
		c.Status.Optime = optime.LSN
	}
	c.Initialize = decodeInitialize(s)
	sortCluster(&c)
	spellSync(&c)
	return c
}

// LegacyOptime is the optime/leader key of old members (row D-69).
type LegacyOptime struct {
	LSN     election.LSN
	Present bool
}

func decodeLegacyOptime(kv KV) LegacyOptime {
	v, _ := parseJSON(kv.Value)
	u, ok := asUint(v)
	return LegacyOptime{LSN: election.LSN(u), Present: ok}
}

// decodeNamed adds a member, an offer or a vote. A name with a slash in it is not one of ours.
func decodeNamed(c *election.Cluster, kv KV) {
	if name, ok := strings.CutPrefix(kv.Key, PrefixMembers); ok && name != "" && !strings.Contains(name, "/") {
		c.Members = append(c.Members, DecodeMember(kv))
		return
	}
	if name, ok := strings.CutPrefix(kv.Key, PrefixOffer); ok && name != "" && !strings.Contains(name, "/") {
		c.Offers = append(c.Offers, DecodeOffer(kv))
		return
	}
	if name, ok := strings.CutPrefix(kv.Key, PrefixVote); ok && name != "" && !strings.Contains(name, "/") {
		c.Votes = append(c.Votes, DecodeVote(kv))
	}
}

func sortCluster(c *election.Cluster) {
	slices.SortFunc(c.Members, func(a, b election.Member) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Offers, func(a, b election.Offer) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.Votes, func(a, b election.Vote) int { return strings.Compare(a.Name, b.Name) })
}

// spellSync gives the names in the sync key the spelling of the members they mean. Names match
// without regard to case (row D-58), so that everybody else can compare them plainly.
func spellSync(c *election.Cluster) {
	c.Sync.Leader = spelling(c.Members, c.Sync.Leader)
	for i, name := range c.Sync.Standbys {
		c.Sync.Standbys[i] = spelling(c.Members, name)
	}
	slices.Sort(c.Sync.Standbys)
	c.Sync.Standbys = slices.Compact(c.Sync.Standbys)
}

// spelling finds the one member that a name means; an exact match wins, two candidates are none.
func spelling(members []election.Member, name string) string {
	found := ""
	for _, m := range members {
		if m.Name == name {
			return name
		}
		if strings.EqualFold(m.Name, name) {
			if found != "" {
				return name
			}
			found = m.Name
		}
	}
	if found == "" {
		return name
	}
	return found
}

// DecodeLeader reads the leader key (row D-17).
func DecodeLeader(kv KV) election.Leader {
	return election.Leader{Present: true, Name: string(kv.Value), ModRevision: kv.ModRevision, Lease: kv.Lease}
}

// decodeInitialize reads the initialize key together with pgha's notes about who bootstraps.
func decodeInitialize(s Snapshot) election.Initialize {
	kv, ok := s.Get(KeyInitialize)
	if !ok {
		return election.Initialize{State: election.BootstrapNever}
	}
	init := election.Initialize{ModRevision: kv.ModRevision}
	switch value := string(kv.Value); {
	case value == "":
		init.State = election.BootstrapRunning
	case ValidSystemID(value):
		init.State = election.BootstrapDone
		init.SystemID = value
	}
	if run, ok := s.Get(KeyBootstrap); ok {
		init.Runner = bootstrapName(run.Value)
	}
	// Only the transaction that wrote this very initialize key counts: the mod revisions agree.
	claim, ok := s.Get(KeyClaim)
	init.RunnerEver = ok && claim.ModRevision == kv.ModRevision
	return init
}

func bootstrapName(value []byte) string {
	m, _ := parseObject(value)
	return asString(m["name"])
}

// ValidSystemID says whether a text can be PostgreSQL's system identifier (row D-45).
func ValidSystemID(s string) bool {
	if len(s) < minSystemID {
		return false
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// DecodeFailover reads the failover key (rows D-52 to D-55).
func DecodeFailover(kv KV) election.FailoverRequest {
	f := election.FailoverRequest{ModRevision: kv.ModRevision}
	v, ok := parseJSON(kv.Value)
	if !ok {
		leader, candidate, _ := strings.Cut(string(kv.Value), ":")
		candidate, _, _ = strings.Cut(candidate, ":")
		f.Leader, f.Candidate = strings.TrimSpace(leader), strings.TrimSpace(candidate)
		return f
	}
	m, _ := v.(map[string]any)
	f.Leader, f.Candidate = asString(m["leader"]), asString(m["member"])
	if !truthy(m["scheduled_at"]) || f.IsZero() {
		return f
	}
	at, ok := parseTime(asString(m["scheduled_at"]))
	if !ok {
		return election.FailoverRequest{ModRevision: kv.ModRevision}
	}
	f.ScheduledAt = at
	return f
}

// parseTime reads ISO 8601 with a time zone, in the spellings that people and programs use.
func parseTime(s string) (time.Time, bool) {
	for _, date := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"} {
		for _, zone := range []string{"Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " MST"} {
			t, err := time.Parse(date+zone, s)
			if err != nil {
				continue
			}
			if zone == " MST" && t.Location() != time.UTC {
				// A zone's letters other than UTC have no certain offset.
				return time.Time{}, false
			}
			return t, true
		}
	}
	return time.Time{}, false
}

// DecodeSync reads the sync key (rows D-56 and D-57). Without a leader nothing in it counts. The
// electorate is there only if pgha wrote the key last and every part of it can be understood.
func DecodeSync(kv KV) election.SyncState {
	s := election.SyncState{ModRevision: kv.ModRevision}
	m, _ := parseObject(kv.Value)
	s.Leader = asString(m["leader"])
	if s.Leader == "" {
		return s
	}
	if q, ok := asUint(m["quorum"]); ok && q < 1<<20 {
		s.Quorum = int(q)
	}
	for name := range strings.SplitSeq(asString(m["sync_standby"]), ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.Standbys = append(s.Standbys, name)
		}
	}
	slices.Sort(s.Standbys)
	s.Standbys = slices.Compact(s.Standbys)
	s.Electorate = decodeElectorate(m["pgha"])
	return s
}

// DecodeStatus reads the status key (rows D-62 to D-65, D-68).
func DecodeStatus(kv KV) election.Status {
	s := election.Status{ModRevision: kv.ModRevision}
	v, _ := parseJSON(kv.Value)
	if lsn, ok := asUint(v); ok {
		s.Optime = election.LSN(lsn)
		return s
	}
	m, _ := v.(map[string]any)
	s.Optime = asLSN(m["optime"])
	for name, pos := range asObject(m["slots"]) {
		if lsn, ok := asUint(pos); ok {
			s.Slots = append(s.Slots, election.SlotPosition{Name: name, LSN: election.LSN(lsn)})
		}
	}
	slices.SortFunc(s.Slots, func(a, b election.SlotPosition) int { return strings.Compare(a.Name, b.Name) })
	for _, v := range asList(m["retain_slots"]) {
		if name := asString(v); name != "" {
			s.RetainSlots = append(s.RetainSlots, name)
		}
	}
	slices.Sort(s.RetainSlots)
	s.RetainSlots = slices.Compact(s.RetainSlots)
	return s
}

// DecodeHistory reads the history key (row D-70). The second result is false if it is not a list.
// Rows without a timeline are left out.
func DecodeHistory(value []byte) ([]election.TimelineRecord, bool) {
	v, _ := parseJSON(value)
	rows, ok := v.([]any)
	if !ok {
		return nil, false
	}
	var out []election.TimelineRecord
	for _, r := range rows {
		row, _ := r.([]any)
		if len(row) < 2 {
			continue
		}
		rec := election.TimelineRecord{Timeline: asTimeline(row[0]), Switch: asLSN(row[1])}
		if rec.Timeline == 0 {
			continue
		}
		for i, field := range []*string{&rec.Reason, &rec.Timestamp, &rec.NewLeader} {
			if i+2 < len(row) {
				*field = asString(row[i+2])
			}
		}
		out = append(out, rec)
	}
	return out, true
}

// DecodeFailsafe reads the failsafe key, sorted by name (row D-72).
func DecodeFailsafe(value []byte) []election.FailsafeMember {
	m, _ := parseObject(value)
	var out []election.FailsafeMember
	for name, url := range m {
		if name != "" && asString(url) != "" {
			out = append(out, election.FailsafeMember{Name: name, APIURL: asString(url)})
		}
	}
	slices.SortFunc(out, func(a, b election.FailsafeMember) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// DecodeReign reads the pgha/epoch key.
func DecodeReign(kv KV) election.Reign {
	m, _ := parseObject(kv.Value)
	epoch, _ := asUint(m["epoch"])
	return election.Reign{
		Epoch:          epoch,
		Holder:         asString(m["holder"]),
		ParentTimeline: asTimeline(m["parent_timeline"]),
		NextTimeline:   asTimeline(m["next_timeline"]),
		LSN:            asLSN(m["lsn"]),
		Lease:          election.LeaseID(asRevision(m["lease"])),
		TTL:            time.Duration(min(asRevision(m["ttl_ms"]), maxTTLMillis)) * time.Millisecond,
		ModRevision:    kv.ModRevision,
	}
}

// DecodeRelease reads the pgha/release key.
func DecodeRelease(kv KV) election.Release {
	m, _ := parseObject(kv.Value)
	return election.Release{
		LeaderRevision: asRevision(m["leader_revision"]),
		Name:           asString(m["name"]),
		Checkpoint:     asLSN(m["checkpoint"]),
		Timeline:       asTimeline(m["timeline"]),
		Reason:         asString(m["reason"]),
		ModRevision:    kv.ModRevision,
	}
}

// DecodeOffer reads one pgha/offer/<name> key. The lease is the one that the key really hangs on.
func DecodeOffer(kv KV) election.Offer {
	m, _ := parseObject(kv.Value)
	return election.Offer{
		Name:        strings.TrimPrefix(kv.Key, PrefixOffer),
		Lease:       kv.Lease,
		Incarnation: asString(m["incarnation"]),
		For:         asRevision(m["for"]),
		ModRevision: kv.ModRevision,
	}
}
