package sim

import (
	"errors"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// storeClient is one agent's way to the store. Its methods have the outcomes of dcs.Store: done,
// certainly not done, or unknown, and then either.
type storeClient struct {
	a *agent
}

// call sends a request. Do runs at the store; its error is the store's own answer.
func (c storeClient) call(t *task, timeout time.Duration, write bool, do func() error) error {
	k := &call{serve: serveStore, do: do}
	o := c.a.w.net.request(t, c.a.w.store.index(), timeout, k)
	switch {
	case o == answered:
		return k.res
	case o == silent && write:
		return dcs.ErrUnknownOutcome
	default:
		return dcs.ErrUnavailable
	}
}

// serveStore is the store's end of a request.
func serveStore(c *call) {
	if w := c.n.w; !w.store.up {
		if w.chance(0.5) {
			c.refuse()
		}
		return
	}
	c.res = c.do()
	c.reply()
}

func (c storeClient) grant(t *task, timeout, ttl time.Duration) (g dcs.Grant, err error) {
	err = c.call(t, timeout, true, func() error {
		g = c.a.w.store.grant(ttl)
		return nil
	})
	return g, err
}

func (c storeClient) keepAlive(t *task, timeout time.Duration, id election.LeaseID) (ka dcs.KeepAlive, err error) {
	err = c.call(t, timeout, false, func() error {
		var ok bool
		if ka, ok = c.a.w.store.keepAlive(id, c.a.n.index); !ok {
			return dcs.ErrLeaseNotFound
		}
		return nil
	})
	return ka, err
}

func (c storeClient) prove(t *task, timeout time.Duration) (p dcs.Proof, err error) {
	err = c.call(t, timeout, false, func() error {
		p = c.a.w.store.prove()
		return nil
	})
	return p, err
}

func (c storeClient) leaseGone(t *task, timeout time.Duration, id election.LeaseID) (gone bool, err error) {
	err = c.call(t, timeout, false, func() error {
		gone = c.a.w.store.leaseAt(id) < 0
		return nil
	})
	return gone, err
}

func (c storeClient) apply(t *task, timeout time.Duration, txn dcs.Txn) (res dcs.TxnResult, err error) {
	err = c.call(t, timeout, true, func() error {
		var err error
		res, err = c.a.w.store.apply(txn)
		return err
	})
	return res, err
}

// applyKnown is apply for a write that reads as is known.
func (c storeClient) applyKnown(t *task, timeout time.Duration, txn dcs.Txn, as known) (res dcs.TxnResult, err error) {
	err = c.call(t, timeout, true, func() error {
		var err error
		res, err = c.a.w.store.applyKnown(txn, as)
		return err
	})
	return res, err
}

// applyTakeOver is apply for a takeover by votes, so that the checks know it for one.
func (c storeClient) applyTakeOver(t *task, timeout time.Duration, txn dcs.Txn, votes []election.Vote) (res dcs.TxnResult, err error) {
	err = c.call(t, timeout, true, func() error {
		var err error
		s := c.a.w.store
		s.takingOver = true
		c.a.w.checks.votes(votes)
		res, err = s.apply(txn)
		s.takingOver = false
		return err
	})
	return res, err
}

// errNot is the error of a step whose condition does not hold.
func errNot(what string) error { return errors.New(what) }
