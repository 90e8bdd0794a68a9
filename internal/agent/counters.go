package agent

import (
	"sync/atomic"

	"github.com/pgha/pgha/internal/restapi"
)

// counters are what dashboards of a synchronous cluster ask for; restapi shows them.
type counters struct {
	votes, freezes, fruitless, takeovers atomic.Uint64
	failsafeOK, failsafeFailed, promises atomic.Uint64
	cancelled                            atomic.Uint64
}

func (c *counters) view() restapi.Counters {
	return restapi.Counters{
		VotesCast: c.votes.Load(), Freezes: c.freezes.Load(), FruitlessFreezes: c.fruitless.Load(),
		VoteTakeovers: c.takeovers.Load(), FailsafeRoundsOK: c.failsafeOK.Load(),
		FailsafeRoundsFailed: c.failsafeFailed.Load(), PromisesGiven: c.promises.Load(), SyncWaitsCancelled: c.cancelled.Load(),
	}
}
