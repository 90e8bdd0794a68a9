package agent

import (
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

const (
	// receiverAge is how long a walreceiver must have been streaming to be believed. PostgreSQL calls it
	// that from when its connection is made, before it is known whether the source has what it asks for.
	receiverAge = 50 * time.Millisecond
	// receiverAgain is the same for one that had stopped before. A source whose timeline this server has
	// left behind sends it the end of the old one over and over again, several times a second, and the
	// process stays the same.
	receiverAgain = 500 * time.Millisecond
)

// receiver is what was seen of the walreceiver by one look after the other.
type receiver struct {
	pid   int
	since election.Instant // the first look in a row that saw it stream; zero: the last one did not
	again bool             // it had stopped before that
}

// look says whether the standby streams.
func (r *receiver) look(w *postgres.WalReceiver, now election.Instant) bool {
	if w == nil {
		*r = receiver{}
		return false
	}
	if r.pid != w.PID {
		*r = receiver{pid: w.PID}
	}
	if w.Status != "streaming" {
		r.again = r.again || r.since != 0
		r.since = 0
		return false
	}
	if r.since == 0 {
		r.since = now
	}
	age := receiverAge
	if r.again {
		age = receiverAgain
	}
	return now-r.since >= age
}
