package main

import (
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// txn is a transaction sent at a moment and answered 10 ms later.
func txn(at time.Duration, o outcome, ops ...listOp) listTxn {
	return listTxn{Sent: at, Received: at + 10*ms, Server: "a", Outcome: o, Ops: ops}
}

// add is an append and the list that it returned.
func add(key, id int64, list ...int64) listOp { return listOp{Key: key, Append: id, List: list} }

func look(key int64, list ...int64) listOp { return listOp{Key: key, List: list} }

// goodHistory is one that every check must pass: three acknowledged appends, a failed one, an unknown
// one that is there and one that is not, and a read.
func goodHistory() []listTxn {
	return []listTxn{
		txn(0, acknowledged, add(1, 1, 1)),
		txn(20*ms, acknowledged, add(1, 2, 1, 2), add(2, 3, 3)),
		txn(40*ms, failed, add(1, 4, 1, 2, 4)),
		txn(60*ms, unknown, add(1, 5, 1, 2, 5)),
		txn(80*ms, unknown, add(1, 6)),
		txn(100*ms, acknowledged, look(1, 1, 2, 5), look(7)),
	}
}

func goodFinal() map[int64][]int64 { return map[int64][]int64{1: {1, 2, 5}, 2: {3}} }

func TestAGoodHistoryPasses(t *testing.T) {
	v := checkLists(goodHistory(), goodFinal())
	if len(v.Lost)+v.Ghosts+v.GhostReads+len(v.Violations) != 0 {
		t.Fatalf("got %+v", v)
	}
	if v.Acknowledged != 3 || v.Failed != 1 || v.Unknown != 2 || v.Appends != 3 || v.UnknownThere != 1 {
		t.Errorf("counted wrong: %+v", v)
	}
}

func TestEveryDoctoredHistoryIsFound(t *testing.T) {
	tests := []struct {
		name   string
		doctor func(h []listTxn, final map[int64][]int64) []listTxn
		want   string // part of a violation, or a word for a count
	}{
		{"an acknowledged append is gone", func(h []listTxn, f map[int64][]int64) []listTxn {
			h[5].Ops = nil
			f[1] = []int64{2, 5}
			h[1].Ops[0].List, h[3].Ops[0].List = []int64{2}, nil
			return h
		}, "lost 1"},
		{"an append twice", func(h []listTxn, f map[int64][]int64) []listTxn {
			f[1] = []int64{1, 2, 5, 2}
			return h
		}, "append 2 is there twice"},
		{"an append that nobody made", func(h []listTxn, f map[int64][]int64) []listTxn {
			f[1] = []int64{1, 2, 5, 99}
			return h
		}, "99, which nobody appended"},
		{"an append of a failed transaction", func(h []listTxn, f map[int64][]int64) []listTxn {
			f[1] = []int64{1, 2, 5, 4}
			return h
		}, "although its transaction failed"},
		{"an append in the wrong list", func(h []listTxn, f map[int64][]int64) []listTxn {
			f[1], f[2] = []int64{1, 2}, []int64{3, 5}
			h[5].Ops = nil
			return h
		}, "where it does not belong"},
		{"half a transaction", func(h []listTxn, f map[int64][]int64) []listTxn {
			h[1].Outcome = unknown
			delete(f, 2)
			return h
		}, "there in half"},
		{"two orders", func(h []listTxn, f map[int64][]int64) []listTxn {
			h[3].Sent, h[3].Received = 0, 200*ms // so that time does not say which order is right
			f[1] = []int64{1, 5, 2}
			return h
		}, "in another order"},
		{"an order against time", func(h []listTxn, f map[int64][]int64) []listTxn {
			f[1] = []int64{2, 1, 5}
			return []listTxn{h[0], txn(20*ms, acknowledged, add(1, 2)), txn(60*ms, unknown, add(1, 5)), h[2], txn(0, unknown, add(2, 3))}
		}, "was acknowledged before it was sent"},
		{"a transaction that does not see its own append", func(h []listTxn, f map[int64][]int64) []listTxn {
			h[1].Ops[0].List = []int64{1}
			return h
		}, "without the append 2"},
		{"a writer saw what is gone", func(h []listTxn, f map[int64][]int64) []listTxn {
			return append(h, txn(120*ms, acknowledged, add(2, 8, 3, 8), look(1, 1, 2, 6)))
		}, "ghost"},
		{"a reader saw what is gone", func(h []listTxn, f map[int64][]int64) []listTxn {
			return append(h, txn(120*ms, acknowledged, look(1, 1, 2, 6)))
		}, "ghost read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			final := goodFinal()
			h := test.doctor(goodHistory(), final)
			if strings.HasPrefix(test.want, "ghost") && test.want == "ghost" {
				final[2] = []int64{3, 8}
			}
			v := checkLists(h, final)
			found := strings.Join(v.Violations, "; ")
			if len(v.Lost) > 0 {
				found += " lost 1"
			}
			if v.Ghosts == 1 {
				found += " ghost"
			}
			if v.GhostReads == 1 {
				found += " ghost read"
			}
			if !strings.Contains(found, test.want) {
				t.Errorf("found %q, want %q", found, test.want)
			}
		})
	}
}

// An asynchronous failover may lose a tail and go on from there; that is a loss and ghosts, but
// no inconsistency.
func TestALostTailIsNoInconsistency(t *testing.T) {
	h := []listTxn{
		txn(0, acknowledged, add(1, 1, 1)),
		txn(20*ms, acknowledged, add(1, 2, 1, 2)),
		txn(40*ms, acknowledged, add(1, 3, 1, 2, 3)),
		txn(60*ms, acknowledged, add(1, 4, 1, 4)),
	}
	v := checkLists(h, map[int64][]int64{1: {1, 4}})
	if len(v.Lost) != 2 || len(v.Violations) != 0 {
		t.Errorf("got %+v, want 2 lost and nothing else", v)
	}
}

func TestAnAnswerToCommitIsReadRight(t *testing.T) {
	tests := []struct {
		name   string
		tag    string
		err    error
		warned bool
		want   outcome
	}{
		{"confirmed", "COMMIT", nil, false, acknowledged},
		{"confirmed with a warning", "COMMIT", nil, true, unknown},
		{"rolled back", "ROLLBACK", nil, false, failed},
		{"refused", "", pgError("ERROR"), false, failed},
		{"ended by the server", "", pgError("FATAL"), false, unknown},
		{"no answer", "", errVoid, false, unknown},
	}
	for _, test := range tests {
		if got := commitOutcome(test.tag, test.err, test.warned); got != test.want {
			t.Errorf("%s: got %d, want %d", test.name, got, test.want)
		}
	}
}
