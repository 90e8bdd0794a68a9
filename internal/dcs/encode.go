package dcs

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// isoTime is how time stamps are written: ISO 8601 with microseconds and a numeric zone.
const isoTime = "2006-01-02T15:04:05.999999-07:00"

// EncodeFailover writes the failover key (row D-52). No request is {}.
func EncodeFailover(f election.FailoverRequest) []byte {
	var o object
	if f.IsZero() {
		return o.bytes()
	}
	o.putString("leader", f.Leader)
	o.putString("member", f.Candidate)
	if !f.ScheduledAt.IsZero() {
		o.put("scheduled_at", f.ScheduledAt.Round(time.Microsecond).Format(isoTime))
	}
	return o.bytes()
}

// EncodeSync writes the sync key (row D-56): three fields always, null where there is nothing, and
// pgha's own part behind them, which a Patroni neither reads nor keeps.
func EncodeSync(s election.SyncState) []byte {
	var o object
	if s.Leader == "" {
		o.put("leader", nil)
		o.put("quorum", nil)
		o.put("sync_standby", nil)
		return o.bytes()
	}
	o.put("leader", s.Leader)
	o.put("quorum", s.Quorum)
	if len(s.Standbys) == 0 {
		o.put("sync_standby", nil)
	} else {
		names := slices.Clone(s.Standbys)
		slices.Sort(names)
		o.put("sync_standby", strings.Join(slices.Compact(names), ","))
	}
	if s.Electorate != nil {
		o.put("pgha", rawJSON(encodeElectorate(*s.Electorate)))
	}
	return o.bytes()
}

// EncodeStatus writes the status key (rows D-62 to D-66). Empty parts are left out.
func EncodeStatus(s election.Status) []byte {
	var o object
	o.put("optime", uint64(s.Optime))
	if len(s.Slots) > 0 {
		var slots object
		sorted := slices.Clone(s.Slots)
		slices.SortFunc(sorted, func(a, b election.SlotPosition) int { return strings.Compare(a.Name, b.Name) })
		for _, slot := range sorted {
			slots.put(slot.Name, uint64(slot.LSN))
		}
		o.put("slots", rawJSON(slots.bytes()))
	}
	if len(s.RetainSlots) > 0 {
		retain := slices.Clone(s.RetainSlots)
		slices.Sort(retain)
		o.put("retain_slots", slices.Compact(retain))
	}
	return o.bytes()
}

// EncodeOptime writes the optime/leader key for members older than 2.1.0 (row D-69).
func EncodeOptime(lsn election.LSN) []byte {
	return strconv.AppendUint(nil, uint64(lsn), 10)
}

// EncodeHistory writes the history key (row D-70). Rows keep as many items as they are known to have.
func EncodeHistory(rows []election.TimelineRecord) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, r := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		row := []any{uint32(r.Timeline), uint64(r.Switch), r.Reason}
		if r.Timestamp != "" || r.NewLeader != "" {
			row = append(row, r.Timestamp)
		}
		if r.NewLeader != "" {
			row = append(row, r.NewLeader)
		}
		b.Write(encodeJSON(row))
	}
	b.WriteByte(']')
	return b.Bytes()
}

// EncodeFailsafe writes the failsafe key (row D-72).
func EncodeFailsafe(members []election.FailsafeMember) []byte {
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b election.FailsafeMember) int { return strings.Compare(a.Name, b.Name) })
	var o object
	for i, m := range sorted {
		if i > 0 && sorted[i-1].Name == m.Name {
			continue
		}
		o.put(m.Name, m.APIURL)
	}
	return o.bytes()
}

// EncodeReign writes the pgha/epoch key.
func EncodeReign(r election.Reign) []byte {
	var o object
	o.put("epoch", r.Epoch)
	o.put("holder", r.Holder)
	o.put("parent_timeline", uint32(r.ParentTimeline))
	o.put("next_timeline", uint32(r.NextTimeline))
	o.put("lsn", uint64(r.LSN))
	if r.Lease != 0 {
		o.put("lease", int64(r.Lease))
	}
	if r.TTL > 0 {
		o.put("ttl_ms", r.TTL.Milliseconds())
	}
	return o.bytes()
}

// EncodeRelease writes the pgha/release key.
func EncodeRelease(r election.Release) []byte {
	var o object
	o.put("leader_revision", r.LeaderRevision)
	o.put("name", r.Name)
	o.put("checkpoint", uint64(r.Checkpoint))
	o.put("timeline", uint32(r.Timeline))
	o.putString("reason", r.Reason)
	return o.bytes()
}

// EncodeOffer writes a pgha/offer/<name> key. The lease is not in the value: the key hangs on it.
func EncodeOffer(of election.Offer) []byte {
	var o object
	o.put("incarnation", of.Incarnation)
	o.put("for", of.For)
	return o.bytes()
}

// EncodeBootstrap writes the pgha/bootstrap and pgha/claim keys: who bootstraps.
func EncodeBootstrap(name, incarnation string) []byte {
	var o object
	o.put("name", name)
	o.putString("incarnation", incarnation)
	return o.bytes()
}
