package agent

import (
	"context"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// rest waits for the next round: for its regular time, for whoever asks for one at once, or for the
// moment at which too few voters are known to hear this leader. /primary stays green then only as long
// as ownership was proven a moment ago, so a primary that has lost its standbys but not the store proves
// it at their pace.
func (k *keeper) rest(ctx context.Context, begun, next election.Instant) error {
	k.pace.begin(k, begun)
	defer k.pace.end()
	t := time.NewTimer(max(next-Now(), time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.kick:
	case <-t.C:
	}
	return nil
}

// pace asks for a round when a proof is due before its regular time. Every voter that is heard of puts
// that moment off, several times a second: so it is a timer that is moved, and nobody has to wake up for
// it as long as all is well.
type pace struct {
	mu    sync.Mutex
	begun election.Instant // of the round that is rested from; zero: a round is under way
	timer *time.Timer
}

func (p *pace) begin(k *keeper, begun election.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = begun
	p.set(k)
}

// heard moves the timer after a voter was heard of.
func (p *pace) heard(k *keeper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun != 0 {
		p.set(k)
	}
}

func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = 0
	if p.timer != nil {
		p.timer.Stop()
	}
}

// set moves the timer to when a proof is due. The caller holds the lock.
func (p *pace) set(k *keeper) {
	own, _ := k.title()
	due, ok := k.a.proofDue(own, p.begun)
	switch {
	case !ok:
		if p.timer != nil {
			p.timer.Stop()
		}
	case p.timer == nil:
		p.timer = time.AfterFunc(due-Now(), func() { p.fire(k) })
	default:
		p.timer.Reset(due - Now())
	}
}

// fire asks for the round, unless the timer was moved just as it ran out.
func (p *pace) fire(k *keeper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == 0 {
		return
	}
	own, _ := k.title()
	if due, ok := k.a.proofDue(own, p.begun); ok && due > Now() {
		p.timer.Reset(due - Now())
	} else if ok {
		k.now()
	}
}
