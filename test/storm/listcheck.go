package main

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// outcome of a transaction as its client knows it.
type outcome uint8

const (
	// failed: certainly not committed. The server said so, or COMMIT was never sent.
	failed outcome = iota
	// unknown: COMMIT was sent and no answer, or an answer without a promise, came.
	unknown
	// acknowledged: the server confirmed the commit.
	acknowledged
)

// listOp is an append to one list, or only a read of it. Append is 0 for a read. List is the whole
// list as the server returned it, after the append if there was one.
type listOp struct {
	Key, Append int64
	List        []int64
}

// listTxn is one transaction of a list client. Times are the client's (cluster.Mono).
type listTxn struct {
	Sent, Received time.Duration
	Server         string
	Outcome        outcome
	Ops            []listOp
}

func (t listTxn) writes() bool {
	return slices.ContainsFunc(t.Ops, func(op listOp) bool { return op.Append != 0 })
}

// listVerdict is what the history of the lists says.
type listVerdict struct {
	Transactions, Acknowledged, Unknown, Failed int
	// Appends that were acknowledged, and those of unknown outcome that are there in the end.
	Appends, UnknownThere int
	// Lost are acknowledged appends that are not there in the end.
	Lost []int64
	// Ghosts are reads, by acknowledged transactions that wrote, of appends that are gone in the
	// end; GhostReads the same by transactions that only read.
	Ghosts, GhostReads int
	// Violations that no mode allows: an append twice, one that nobody made, one whose transaction
	// failed, half a transaction, lists in two orders, an order against time.
	Violations []string
}

// listChecker compares a history with the lists as they are in the end.
type listChecker struct {
	history []listTxn
	final   map[int64][]int64
	// where an append is in its final list, and whose it is.
	at     map[int64]int
	writer map[int64]*listTxn
	v      listVerdict
}

// checkLists judges a history. Final lists are those of the last primary, at rest.
func checkLists(history []listTxn, final map[int64][]int64) listVerdict {
	c := &listChecker{history: history, final: final, at: map[int64]int{}, writer: map[int64]*listTxn{}}
	c.v.Transactions = len(history)
	for i := range history {
		t := &history[i]
		switch t.Outcome {
		case acknowledged:
			c.v.Acknowledged++
		case unknown:
			c.v.Unknown++
		case failed:
			c.v.Failed++
		}
		for _, op := range t.Ops {
			if op.Append != 0 {
				c.writer[op.Append] = t
			}
		}
	}
	c.checkFinal()
	for i := range history {
		c.checkAppends(&history[i])
		if history[i].Outcome == acknowledged {
			c.checkReads(&history[i])
		}
	}
	return c.v
}

func (c *listChecker) violation(format string, args ...any) {
	c.v.Violations = append(c.v.Violations, fmt.Sprintf(format, args...))
}

// checkFinal looks at the lists alone: every element once, made by a transaction that may have
// committed, and in an order that agrees with time.
func (c *listChecker) checkFinal() {
	for _, key := range slices.Sorted(maps.Keys(c.final)) {
		list := c.final[key]
		for i, id := range list {
			w := c.writer[id]
			_, twice := c.at[id]
			switch {
			case twice:
				c.violation("append %d is there twice (list %d)", id, key)
			case w == nil:
				c.violation("list %d has %d, which nobody appended", key, id)
			case w.Outcome == failed:
				c.violation("append %d is there (list %d) although its transaction failed", id, key)
			case !slices.ContainsFunc(w.Ops, func(op listOp) bool { return op.Append == id && op.Key == key }):
				c.violation("append %d is in list %d, where it does not belong", id, key)
			}
			c.at[id] = i
		}
		c.checkOrder(key, list)
	}
}

// checkOrder: what was acknowledged before something else was even sent comes before it.
func (c *listChecker) checkOrder(key int64, list []int64) {
	var earliest *listTxn // of the acknowledged elements further right
	for _, id := range slices.Backward(list) {
		w := c.writer[id]
		if w == nil {
			continue
		}
		if earliest != nil && earliest.Received < w.Sent {
			c.violation("list %d: append %d stands before one that was acknowledged before it was sent", key, id)
		}
		if w.Outcome == acknowledged && (earliest == nil || w.Received < earliest.Received) {
			earliest = w
		}
	}
}

// checkAppends: what was acknowledged is there, and a transaction is there whole or not at all.
func (c *listChecker) checkAppends(t *listTxn) {
	there, gone := 0, 0
	for _, op := range t.Ops {
		if op.Append == 0 {
			continue
		}
		_, ok := c.at[op.Append]
		if ok {
			there++
		} else {
			gone++
		}
		switch {
		case t.Outcome == acknowledged && !ok:
			c.v.Appends++
			c.v.Lost = append(c.v.Lost, op.Append)
		case t.Outcome == acknowledged:
			c.v.Appends++
		case t.Outcome == unknown && ok:
			c.v.UnknownThere++
		}
	}
	if there > 0 && gone > 0 {
		c.violation("a transaction of %s is there in half: %d of %d appends", t.Server, there, there+gone)
	}
}

// checkReads: what a transaction saw of a list is a prefix of the list in the end, but for a tail
// that was lost altogether.
func (c *listChecker) checkReads(t *listTxn) {
	ghost := false
	for _, op := range t.Ops {
		final := c.final[op.Key]
		n := 0
		for n < len(op.List) && n < len(final) && op.List[n] == final[n] {
			n++
		}
		for _, id := range op.List[n:] {
			if _, ok := c.at[id]; ok {
				c.violation("list %d was read on %s in another order than it has in the end: %d", op.Key, t.Server, id)
				break
			}
			ghost = ghost || !slices.ContainsFunc(t.Ops, func(own listOp) bool { return own.Append == id })
		}
		if op.Append != 0 && !slices.Contains(op.List, op.Append) {
			c.violation("list %d was read on %s without the append %d of the same transaction", op.Key, t.Server, op.Append)
		}
	}
	switch {
	case ghost && t.writes():
		c.v.Ghosts++
	case ghost:
		c.v.GhostReads++
	}
}
