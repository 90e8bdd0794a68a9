package agent

import (
	"time"

	"github.com/pgha/pgha/internal/election"
)

// smallestStep: shorter waits are for something that is under way, and are kept as they are.
const smallestStep = time.Second

// inStep is how long to wait, at most d, so that what waits for the same heartbeat is woken by the same
// multiple of it. Where nothing happens, waking up costs an agent more than what it does when awake.
func inStep(now election.Instant, d, heartbeat time.Duration) time.Duration {
	if heartbeat < smallestStep || d < heartbeat {
		return d
	}
	end := (now + d) / heartbeat * heartbeat
	if end <= now {
		return d
	}
	return end - now
}

// stepSlack is by how much two heartbeats may lie closer together than the time between them: what is to
// be done at each is not left to the next one because the last took a moment.
func stepSlack(heartbeat time.Duration) time.Duration { return heartbeat / 16 }
