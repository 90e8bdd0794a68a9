package election

import "time"

// Lease arithmetic. All instants are the holder's CLOCK_BOOTTIME. Sent is the moment before the
// first byte of the keep-alive whose lease carries the leader key, in the last round that also
// proved ownership of the key by its revision. The store keeps the key at least until Sent+TTL,
// within an error that the margin covers.
//
//	Sent                 DemoteAt            FenceAt             ExpiresAt
//	 ├── renew every ttl/3 ──┼─ agent demotes ──┼─ fencer kills ──┼─ another may lead
//
// The kind of error that a renewal met moves none of these lines.

// MarginFloor is the smallest safety margin that is sound for a time to live: an eighth of it for
// clocks that run apart (chrony may slew by 8 %) and 300 ms for waking up and killing.
func MarginFloor(ttl time.Duration) time.Duration {
	return ttl/8 + 300*time.Millisecond
}

// Own is this agent's title to the leader key. The zero value is none.
type Own struct {
	// Revision is the mod revision of the leader key that this agent wrote, or was handed in a
	// transaction that named its offer. A value that bears the own name proves nothing.
	Revision int64
	Lease    LeaseID
	Epoch    uint64
	Sent     Instant
	TTL      time.Duration
	// Promised is when the round of failsafe promises was begun that every member gave last; each
	// promised not to race for TTL from then on. It stands beside Sent.
	Promised Instant
}

// since is the later of the two moments that the title's time is counted from.
func (o Own) since() Instant { return max(o.Sent, o.Promised) }

// Held says that there is a title at all; whether it is still good is a matter of time.
func (o Own) Held() bool { return o.Revision != 0 }

// DemoteAt is when the agent gives up by itself.
func (o Own) DemoteAt(margin time.Duration) Instant { return o.since() + o.TTL - 2*o.sound(margin) }

// FenceAt is when the fencer silences the server.
func (o Own) FenceAt(margin time.Duration) Instant { return o.since() + o.TTL - o.sound(margin) }

// sound is the margin, but never below the floor for the time to live that the store granted: that
// may be longer than the configured one, which the margin was made for (a lowered ttl that has not
// reached the lease yet, or a store with a minimum of its own).
func (o Own) sound(margin time.Duration) time.Duration {
	// A margin made for a longer time to live must not eat up a shorter one that still counts.
	return max(min(margin, o.TTL/3), MarginFloor(o.TTL))
}

// ExpiresAt is the earliest moment at which the store may give the key to another.
func (o Own) ExpiresAt() Instant { return o.Sent + o.TTL }

// RenewEvery is how often ownership is proven.
func RenewEvery(ttl time.Duration) time.Duration { return ttl / 3 }

// VacancyWait is how long a candidate waits before it takes a key that vanished without a release
// record and without word that its lease is gone: a deleted key is not an expired lease
// (safety review, hole 5).
func VacancyWait(ttl, margin time.Duration) time.Duration { return ttl + max(margin, MarginFloor(ttl)) }
