package agent

import (
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// journalSize is how many decisions are remembered for `pghactl why`.
const journalSize = 100

// journal remembers the last decisions that differed from the one before.
type journal struct {
	mu   sync.Mutex
	list []restapi.Decision
	// lastRefusal is why the last switchover was refused, for the operator who waits for it.
	lastRefusal   string
	lastRefusalAt time.Time
	last          election.Plan
}

// add remembers a plan if it is news, and says whether it was.
func (j *journal) add(p election.Plan) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.Rule == j.last.Rule && p.Reason == j.last.Reason && sameActions(p, j.last) {
		return false
	}
	// A wait that counts down, a position that is published, a question asked again: the same rule
	// with no new job is no news.
	quiet := p.Rule == j.last.Rule && jobOf(p) == jobOf(j.last) && len(j.list) > 0
	j.last = p
	if quiet {
		j.list[len(j.list)-1].Reason = p.Reason
		return false
	}
	d := restapi.Decision{At: time.Now().UTC(), Rule: string(p.Rule), Reason: p.Reason, Change: p.Change}
	for _, a := range p.Actions {
		d.Actions = append(d.Actions, a.String())
	}
	j.list = append(j.list, d)
	if len(j.list) > journalSize {
		j.list = append([]restapi.Decision(nil), j.list[len(j.list)-journalSize:]...)
	}
	return true
}

// jobOf is the long piece of work that a plan starts, empty if none.
func jobOf(p election.Plan) string {
	for _, a := range p.Actions {
		if election.IsJob(a) {
			return a.String()
		}
	}
	return ""
}

func sameActions(a, b election.Plan) bool {
	if len(a.Actions) != len(b.Actions) {
		return false
	}
	for i := range a.Actions {
		if a.Actions[i].String() != b.Actions[i].String() {
			return false
		}
	}
	return true
}

// result notes what came of the last decision.
func (j *journal) result(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n := len(j.list); n > 0 {
		j.list[n-1].Result = s
	}
}

// complaintEvery is how often the same failure of the same action is logged.
const complaintEvery = 10 * time.Second

// complaints keeps a failure that repeats from filling the log.
type complaints struct {
	mu   sync.Mutex
	last map[string]complaint
}

type complaint struct {
	text     string
	at       time.Time
	failures int
}

// fresh says that a failure is worth a line.
func (c *complaints) fresh(action string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = make(map[string]complaint)
	}
	old := c.last[action]
	if old.text == err.Error() && time.Since(old.at) < complaintEvery {
		return false
	}
	old.text, old.at = err.Error(), time.Now()
	c.last[action] = old
	return true
}

// pause counts a failure and says how long to wait before the next try.
func (c *complaints) pause(action string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = make(map[string]complaint)
	}
	old := c.last[action]
	old.failures++
	c.last[action] = old
	return min(actionRetry<<min(old.failures-1, 10), actionRetryMost)
}

// forget ends the count after a success.
func (c *complaints) forget(action string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, action)
}

// refused notes why a request for a switchover was turned down.
func (j *journal) refused(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastRefusal, j.lastRefusalAt = why, time.Now()
}

func (j *journal) refusalSince(t time.Time) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lastRefusalAt.After(t) {
		return j.lastRefusal
	}
	return ""
}

func (j *journal) view() (list []restapi.Decision, last election.Plan) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]restapi.Decision(nil), j.list...), j.last
}
