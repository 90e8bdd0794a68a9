package agent

import (
	"context"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi/client"
)

// probeTime is how long one round of questions may take: an answer that never comes costs this
// much and no more.
const probeTime = 300 * time.Millisecond

// peerRound runs rounds of questions to the other members, one at a time.
type peerRound struct {
	mu    sync.Mutex
	round election.Probes
}

func (p *peerRound) view() election.Probes {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.round
}

// probePeers asks all other members in parallel and keeps their answers. The leader that was just found
// silent is left out: waiting for it once more would only cost the whole time allowed.
func (a *Agent) probePeers(ctx context.Context, members []election.Member) error {
	started := Now()
	a.peered.mu.Lock()
	a.peered.round.StartedAt = started
	a.peered.mu.Unlock()
	a.lookNow() // the own position is compared with theirs, so it must be as fresh
	var targets []client.Target
	self := a.name()
	silent := a.contact.silent()
	for _, m := range members {
		if m.Name != self && m.Name != silent && m.APIURL != "" {
			targets = append(targets, client.Target{Name: m.Name, APIURL: m.APIURL})
		}
	}
	var answers []election.Probe
	for _, p := range a.peers.ProbeAll(ctx, targets, probeTime) {
		answers = append(answers, probeOf(p))
	}
	a.peered.mu.Lock()
	a.peered.round = election.Probes{StartedAt: started, DoneAt: max(Now(), started+1), Answers: answers}
	a.peered.mu.Unlock()
	return nil
}

func probeOf(p client.Probe) election.Probe {
	out := election.Probe{Name: p.Target.Name, Answered: p.Reachable()}
	if !out.Answered {
		return out
	}
	s := p.Status
	out.Timeline, out.NoFailover, out.WatchdogFailed = s.Timeline, s.NoFailover, s.WatchdogFailed
	out.Priority = priorityOf(s.Tags)
	if s.Role == "primary" {
		out.Role, out.LSN = election.RolePrimary, s.Location
	} else {
		out.Role, out.LSN = election.RoleStandby, max(s.Received, s.Replayed)
	}
	out.Streaming = s.ReplicationState == "streaming"
	out.Lost = s.Pgha.LostLeader
	return out
}

// priorityOf reads failover_priority as a peer published it; the default is 1.
func priorityOf(tags map[string]any) int {
	switch v := tags["failover_priority"].(type) {
	case float64:
		return int(v)
	case int64:
		return int(v)
	case int:
		return v
	}
	return 1
}

// broadcaster wakes everybody who waits for the next look at the server.
type broadcaster struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcaster) init() { b.ch = make(chan struct{}) }

func (b *broadcaster) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *broadcaster) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}
