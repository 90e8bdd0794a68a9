package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// staleReply is how long a standby may leave log unconfirmed that was sent to it before its walsender,
// which PostgreSQL keeps for wal_sender_timeout, counts as a leftover of a standby that is gone.
const staleReply = 2 * time.Second

// replicas follows the standbys of the own primary from one look to the next.
type replicas struct {
	replied map[int]reply // by walsender's process
	seen    map[string]election.Instant
}

// reply is the last news from one walsender. The time in it is the standby's own clock, so it only tells
// one reply from another.
type reply struct {
	at      time.Time
	flushed election.LSN
	since   election.Instant
}

// look takes up an observation: the standbys that count as connected, and when each was last streaming.
func (r *replicas) look(o postgres.Observation, now election.Instant) ([]election.Walsender, []election.Streamed) {
	if o.Role != election.RolePrimary {
		*r = replicas{}
		return connected(o), nil
	}
	if r.seen == nil {
		r.seen = make(map[string]election.Instant)
	}
	next := make(map[int]reply, len(o.Replication))
	var senders []election.Walsender
	for _, w := range o.Replication {
		last, known := r.replied[w.PID]
		if !known || !last.at.Equal(w.ReplyTime) || last.flushed != w.FlushLSN {
			last = reply{w.ReplyTime, w.FlushLSN, now}
		}
		next[w.PID] = last
		if w.SentLSN > w.FlushLSN && now-last.since > staleReply {
			continue
		}
		senders = append(senders, walsender(w))
		if w.State == "streaming" {
			r.seen[w.ApplicationName] = now
		}
	}
	r.replied = next
	streamed := make([]election.Streamed, 0, len(r.seen))
	for name, at := range r.seen {
		streamed = append(streamed, election.Streamed{Name: name, At: at})
	}
	slices.SortFunc(streamed, func(a, b election.Streamed) int { return strings.Compare(a.Name, b.Name) })
	return senders, streamed
}

// connected are the standbys of a server that leads nobody.
func connected(o postgres.Observation) []election.Walsender {
	var out []election.Walsender
	for _, w := range o.Replication {
		out = append(out, walsender(w))
	}
	return out
}

func walsender(w postgres.WalSender) election.Walsender {
	return election.Walsender{Name: w.ApplicationName, State: w.State, LSN: w.FlushLSN, SyncState: w.SyncState}
}
