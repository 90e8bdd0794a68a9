package sim

import (
	"slices"

	"github.com/pgha/pgha/internal/election"
)

// record is one entry of the write-ahead log. Its id is unique in the world, so two logs are on one
// history exactly if their records are the same ones.
type record struct {
	tl  election.Timeline
	end election.LSN
	id  uint64
}

// disk is a data directory.
type disk struct {
	kind   election.DataState
	system string
	// made: a bootstrap has finished it, and only the mark of an unfinished directory is left to go.
	made bool
	wal  []record
	tl   election.Timeline
	hist election.History
	// signal is standby.signal.
	signal bool
	ctl    control
	// data names this copy; told is the furthest position that a reply of it has named.
	data string
	told election.LSN
}

// control is what pg_control says.
type control struct {
	state      controlState
	checkpoint election.LSN // of the last checkpoint
	end        election.LSN // end of the record, for a shutdown checkpoint
	tl         election.Timeline
	minTL      election.Timeline
	minEnd     election.LSN
}

type controlState uint8

const (
	inProduction controlState = iota
	shutDown
	inRecovery
	shutDownInRecovery
)

func (d *disk) end() election.LSN {
	if len(d.wal) == 0 {
		return 0
	}
	return d.wal[len(d.wal)-1].end
}

// at finds the record that ends at a position.
func (d *disk) at(lsn election.LSN) (record, bool) {
	i, ok := slices.BinarySearchFunc(d.wal, lsn, func(r record, l election.LSN) int {
		switch {
		case r.end < l:
			return -1
		case r.end > l:
			return 1
		}
		return 0
	})
	if !ok {
		return record{}, false
	}
	return d.wal[i], true
}

// holds says whether a log contains a record.
func (d *disk) holds(r record) bool {
	got, ok := d.at(r.end)
	return ok && got.id == r.id
}

// prefixOf says whether the whole log is the beginning of another one.
func (d *disk) prefixOf(o *disk) bool {
	if len(d.wal) > len(o.wal) {
		return false
	}
	// Ids are unique and logs only ever grow by appending to a common beginning, so equal last
	// records mean equal logs.
	n := len(d.wal)
	return n == 0 || d.wal[n-1] == o.wal[n-1]
}

// copyOf is a data directory copied from a running server.
func copyOf(src *disk) disk {
	c := *src
	c.kind = election.DataCluster
	c.wal = slices.Clip(c.wal)
	c.hist = slices.Clone(c.hist)
	c.signal = true
	c.ctl.state = inRecovery
	c.ctl.minTL, c.ctl.minEnd = src.tl, src.end()
	c.told, c.made = 0, false
	return c
}

// append writes a record. The slice may be shared with copies, which never see what comes after
// their own length.
func (d *disk) append(r record) {
	d.wal = append(d.wal, r)
}

// span is a timeline and where it begins.
type span struct {
	tl    election.Timeline
	begin election.LSN
}

func spans(tl election.Timeline, h election.History) []span {
	var out []span
	begin := election.LSN(0)
	for _, e := range h {
		out = append(out, span{e.Timeline, begin})
		begin = e.Switch
	}
	return append(out, span{tl, begin})
}

// compare says how a local log stands to that of a source, the way the real comparison finds out:
// by the lists of timelines, and where those agree by the bytes of the log itself. Proof false
// leaves the second out.
func compare(local, source *disk, sourceInRecovery, proof bool) (election.Divergence, election.LSN) {
	if local.system != source.system {
		return election.DivergenceWrongOwner, 0
	}
	own, its := spans(local.tl, local.hist), spans(source.tl, source.hist)
	common := -1
	for common+1 < min(len(own), len(its)) && own[common+1] == its[common+1] {
		common++
	}
	if common < 0 {
		return election.DivergenceClone, local.end()
	}
	end := local.end()
	ownLast, itsLast := common == len(own)-1, common == len(its)-1
	switch {
	case ownLast && itsLast:
		if end > source.end() && !sourceInRecovery {
			return election.DivergenceClone, end - source.end()
		}
	case ownLast:
		fork := its[common+1].begin
		switch {
		case end > fork:
			return election.DivergenceRewind, end - fork
		case end < fork && local.ctl.state == shutDown && !proven(local, source):
			return election.DivergenceClone, 0
		}
	case itsLast:
		fork := own[common+1].begin
		if fork > source.end() {
			return election.DivergenceClone, end - source.end()
		}
		return apart(local, source, fork)
	default:
		return apart(local, source, min(own[common+1].begin, its[common+1].begin))
	}
	if proof && !proven(local, source) {
		return election.DivergenceClone, 0
	}
	return election.DivergenceNone, 0
}

func apart(local, source *disk, fork election.LSN) (election.Divergence, election.LSN) {
	lost := election.LSN(0)
	if local.end() > fork {
		lost = local.end() - fork
	}
	if local.tl == source.tl {
		return election.DivergenceClone, lost
	}
	return election.DivergenceRewind, lost
}

// proven compares what the logs hold up to the end of the shorter one.
func proven(local, source *disk) bool {
	if local.end() <= source.end() {
		return local.prefixOf(source)
	}
	return source.prefixOf(local)
}

// streamable is PostgreSQL's own test when a standby asks to stream: its timeline is one of the
// upstream's, and its position not beyond where the upstream left it. PostgreSQL compares numbers;
// that the logs are the same is for others to know.
func streamable(standby, upstream *disk) bool {
	if standby.system != upstream.system {
		return false
	}
	if standby.tl == upstream.tl {
		return standby.end() <= upstream.end()
	}
	for _, h := range upstream.hist {
		if h.Timeline == standby.tl {
			return standby.end() <= h.Switch
		}
	}
	return false
}
