package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// Names of the invariants of the synchronous modes. The I-numbers are those of docs/safety.md.
const (
	NoAckAboveCut  = "I-05 no acknowledgement above the cut"
	VoteFaithful   = "I-06 vote faithful"
	FrozenCounted  = "I-07 frozen while counted"
	QuorumCross    = "I-08 quorums cross"
	NoStaleSync    = "I-10 no stale sync key"
	PromiseKept    = "I-15 promise"
	WinnerHasVotes = "I-05 the winner holds every vote"
)

// cut is where a reign was ended by votes: what its successor held then.
type cut struct {
	log    disk
	winner string
}

// syncChecks watch what the synchronous modes and failsafe rest on.
type syncChecks struct {
	// since is when the sync key came to say that the cluster is synchronous; zero: it is not.
	since time.Duration
	on    bool
	// ended are the reigns that votes ended, by epoch. holders are those who led them, by revision of the
	// leader key.
	ended   map[uint64]cut
	holders map[int64]string
	// reigns are the last epoch in which each member led.
	reigns  map[string]uint64
	counted []election.Vote
}

// votes notes by which votes a takeover is tried.
func (c *checks) votes(v []election.Vote) { c.sync.counted = v }

// syncKeys looks at a revision in which the sync key or a vote may have changed.
func (c *checks) syncKeys(ops []dcs.Op) {
	for _, op := range ops {
		switch {
		case op.Key == dcs.KeySync:
			c.syncKey()
		case len(op.Key) > len(dcs.PrefixVote) && op.Key[:len(dcs.PrefixVote)] == dcs.PrefixVote:
			c.voteKey(op.Key[len(dcs.PrefixVote):])
		}
	}
}

func (c *checks) syncKey() {
	s, reign := c.w.store.decoded().Sync, c.w.store.decoded().Reign
	switch {
	case !s.Active():
		c.sync.on = false
	case !c.sync.on:
		c.sync.on, c.sync.since = true, c.w.now
	}
	if s.Active() {
		c.w.note(-1, "sync key: leader %s, standbys %v, %s", s.Leader, s.Standbys, electorate(s.Electorate))
	}
	n := c.w.node(s.Leader)
	if s.Active() && s.Leader != c.holder {
		c.fail(NoStaleSync, n, "the sync key says that %q leads, the leader key %q", s.Leader, c.holder)
	}
	if e := s.Electorate; e != nil && e.Epoch > reign.Epoch {
		c.fail(NoStaleSync, n, "the sync key is of epoch %d in epoch %d", e.Epoch, reign.Epoch)
	}
	if n != nil {
		c.crossing(n)
	}
}

func electorate(e *election.Electorate) string {
	if e == nil {
		return "no electorate"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d", e.Epoch)
	for _, s := range e.Sets {
		fmt.Fprintf(&b, ", %d of %v (wait %d)", s.Quorum, s.Names(), s.Wait)
	}
	return b.String()
}

// voteKey looks at a vote that was just cast: it must name all that its copy of the data ever confirmed.
func (c *checks) voteKey(name string) {
	vote, ok := c.w.store.decoded().Vote(name)
	n := c.w.node(name)
	if !ok || n == nil || !vote.Standing() || vote.Data != n.disk.data {
		return
	}
	if vote.LSN < n.disk.told {
		c.fail(VoteFaithful, n, "votes with %s and has confirmed %s", vote.LSN, n.disk.told)
	}
}

// replied looks at a reply of a standby to its upstream.
func (c *checks) replied(n, up *node) {
	at, ok := c.w.store.find(n.voteKey)
	if !ok || len(c.w.store.keys[at].value) < 4 {
		return
	}
	vote, _ := c.w.store.decoded().Vote(n.name)
	reign := c.w.store.decoded().Reign
	if vote.Standing() && vote.LeaderRevision == reign.ModRevision && c.sync.holders[vote.LeaderRevision] == up.name && vote.Data == n.disk.data {
		c.fail(FrozenCounted, n, "confirms log to %s while its vote against it stands", up.name)
	}
}

// crossing looks whether every set of standbys by which a commit may be acknowledged meets every set of
// members by which the leader may be replaced. It is asked whenever either changes.
func (c *checks) crossing(n *node) {
	s := c.w.store.decoded().Sync
	if n.name != c.holder || s.Leader != n.name || !n.pg.open || n.pg.local || c.w.now == 0 {
		return
	}
	if s.Electorate != nil && s.Electorate.LeaderData != n.disk.data {
		return
	}
	sets := readQuorums(s)
	if len(sets) == 0 {
		return
	}
	try := func(what string, set election.SyncSetting) {
		for _, q := range sets {
			if crosses(set, q, n.name) {
				return
			}
		}
		c.fail(QuorumCross, n, "a commit by %q (%s) may be missed by the quorums published: %s", set, what, electorate(s.Electorate))
	}
	// The checkpointer's copy says only whether commits wait at all, a walsender's by whom.
	if n.pg.sync.setting.Wait == 0 {
		try("whether commits wait", n.pg.sync.setting)
		return
	}
	for _, st := range n.pg.senders {
		if !st.over() && slices.Contains(st.sync.setting.Names, st.to.n.name) {
			try("the walsender of "+st.to.n.name, st.sync.setting)
		}
	}
}

// readQuorums are the sets whose quorums a takeover needs; none: nobody may take over.
func readQuorums(s election.SyncState) []election.VoterSet {
	if s.Electorate != nil {
		return s.Electorate.Sets
	}
	if len(s.Standbys) == 0 {
		return nil
	}
	q := election.VoterSet{Quorum: s.Quorum + 1}
	for _, name := range s.Standbys {
		q.Voters = append(q.Voters, election.Voter{Name: name})
	}
	return []election.VoterSet{q}
}

// crosses says that whichever standbys release a commit, too few voters are left that know nothing of it.
// The leader itself may be a voter of a set that it inherited; it knows.
func crosses(set election.SyncSetting, q election.VoterSet, leader string) bool {
	voters := len(q.Voters)
	if _, in := q.Voter(leader); in {
		voters--
	}
	if set.Wait == 0 {
		return voters < q.Quorum
	}
	strangers := 0 // of the standbys named, those that are no voters
	for _, name := range set.Names {
		if _, in := q.Voter(name); !in {
			strangers++
		}
	}
	// In the worst case the commit has reached all strangers first.
	know := max(0, min(set.Wait, len(set.Names))-strangers)
	if len(set.Names) < set.Wait {
		return true // nothing is ever released by it
	}
	return voters-know < q.Quorum
}

// tookOver looks at a takeover by votes at the moment it is true.
func (c *checks) tookOver(n *node, epoch uint64) {
	c.sync.ended[epoch] = cut{log: copyOf(&n.disk), winner: n.name}
	for _, vote := range c.sync.counted {
		o := c.w.node(vote.Name)
		if o == nil || o == n || o.disk.data != vote.Data || vote.Timeline != n.disk.tl {
			continue
		}
		if r, ok := o.disk.at(vote.LSN); ok && !n.disk.holds(r) && n.disk.end() <= vote.LSN {
			c.fail(WinnerHasVotes, n, "takes over at %s on timeline %d by a vote of %s at %s", n.disk.end(), n.disk.tl, o.name, vote.LSN)
		}
	}
}

// above looks at a commit that a server of an ended reign acknowledges.
func (c *checks) above(n *node, r record) {
	for epoch := n.pg.reign; epoch < c.epoch; epoch++ {
		if end, ok := c.sync.ended[epoch]; ok {
			if !end.log.holds(r) {
				c.fail(NoAckAboveCut, n, "acknowledges a commit at %s of epoch %d, which %s does not hold", r.end, epoch, end.winner)
			}
			return
		}
	}
}

// votedOut says that a server's reign was ended by votes: it may be writable for a while, and its commits
// wait for ever.
func (c *checks) votedOut(n *node) bool {
	for epoch := n.pg.reign; epoch < c.epoch; epoch++ {
		if _, ok := c.sync.ended[epoch]; ok {
			return true
		}
	}
	return false
}

// covered says that a missing commit was promised to outlive its leader: the cluster has been synchronous
// since before it was acknowledged.
func (c *checks) promisedToLast(a ack) bool {
	return c.sync.on && a.at >= c.sync.since && !c.byHand
}

// outside looks at a member that took the key by time while a failsafe set names others.
func (c *checks) outside(n *node, before election.Cluster) {
	if len(before.Failsafe) == 0 || slices.ContainsFunc(before.Failsafe, func(m election.FailsafeMember) bool { return m.Name == n.name }) {
		return
	}
	c.fail(PromiseKept, n, "takes the key and is not in the failsafe set")
}

// settled says what a healed synchronous cluster still lacks; empty: nothing.
func (c *checks) settled(primary *node) string {
	for _, n := range c.w.nodes {
		if n.bound != nil {
			return n.name + " is still frozen"
		}
	}
	s := c.w.store.decoded().Sync
	k, _ := c.w.store.get(dcs.KeyConfig)
	have, _ := c.w.config.read(k.value)
	switch {
	case have.Mode == election.SyncOff && s.Active():
		return "the sync key is still there"
	case have.Mode == election.SyncOff || len(c.w.nodes) < 2:
		return ""
	case s.Leader != primary.name:
		return "the sync key names " + s.Leader
	case s.Electorate == nil || len(s.Electorate.Sets) != 1 || s.Electorate.Sets[0].Wait == 0:
		return "the electorate is " + electorate(s.Electorate)
	}
	return ""
}

// promisedAll says that no other member of the failsafe set can race before a moment: it has promised so,
// durably, or has no power, or has just got it back and waits out whatever it may have promised before.
func (c *checks) promisedAll(n *node, until time.Duration) bool {
	cluster := c.w.store.decoded()
	for _, m := range cluster.Failsafe {
		o := c.w.node(m.Name)
		if o == nil || o == n || !o.power || o.fencer.file.boot != o.boots {
			continue
		}
		f := o.fencer.file
		held := f.promise
		if f.lostAt > 0 {
			held = max(held, f.lostAt+election.LongestPromise(*cluster, cluster.Reign.TTL))
		}
		if o.trueAt(held) < until {
			return false
		}
	}
	return len(cluster.Failsafe) > 0
}
