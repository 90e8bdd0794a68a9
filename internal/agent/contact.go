package agent

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/restapi/client"
)

// paceOfSilence is into how many questions the silence is divided.
const paceOfSilence = 4

// contact asks the leader's agent, and failing that its server, whether it is there. It runs in the
// synchronous modes only, on the members whose word a takeover by votes rests on; everywhere else it
// sleeps and costs nothing.
type contact struct {
	// askAgent returns when the question was sent that the leader's agent answered.
	askAgent func(ctx context.Context, apiURL string, revision int64) (election.Instant, error)
	// askServer returns nil if the server at host:port answered anything.
	askServer func(ctx context.Context, addr string) error
	kick      chan struct{}

	mu     sync.Mutex
	target leaderTarget
	state  election.Contact
	lost   bool
}

// leaderTarget is whom to ask. Its zero value is nobody.
type leaderTarget struct {
	name     string
	revision int64
	apiURL   string
	server   string // host:port
	// mute: this member is bound against the leader, so its questions are no sign that the leader is heard
	// by one that could still follow it.
	mute bool
}

func (c *contact) init(peers *client.Client, self string) {
	c.kick = make(chan struct{}, 1)
	if peers == nil {
		return
	}
	pulser := peers.Pulser(client.PulserOptions{Name: self, Now: Now})
	c.askServer = client.AskPostgres
	c.askAgent = func(ctx context.Context, apiURL string, revision int64) (election.Instant, error) {
		pulse, err := pulser.Ask(ctx, apiURL, revision)
		return pulse.Sent, err
	}
}

// view is the contact as decisions see it.
func (c *contact) view() election.Contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// poke lets the loop look again whom to ask. It never blocks.
func (c *contact) poke() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// targetOf says whom a member asks: the leader, or for as long as there is none the last one, whose key
// vanished. Nobody where no takeover by votes is possible.
func targetOf(self string, p election.Policy, c election.Cluster, gap election.Vacancy, last leaderTarget) leaderTarget {
	if !c.Sync.Active() || p.Sync.TimeOnly || p.Pause || !asks(c.Sync.Electorate, self) {
		return leaderTarget{}
	}
	if !c.Leader.Present {
		if last.revision != 0 && (last.revision == gap.Revision || last.revision == c.Reign.ModRevision) {
			return last
		}
		return leaderTarget{}
	}
	if c.Leader.Name == self {
		return leaderTarget{}
	}
	t := leaderTarget{name: c.Leader.Name, revision: c.Leader.ModRevision}
	m, ok := c.Member(c.Leader.Name)
	if !ok && last.name == t.name {
		// Its member key went first. The addresses are what they were.
		t.apiURL, t.server = last.apiURL, last.server
	}
	if ok {
		t.apiURL = m.APIURL
		if src, err := postgres.ParseSource(m.Name, m.ConnURL); err == nil {
			t.server = net.JoinHostPort(src.Host, src.Port)
		}
	}
	if t.apiURL == "" && t.server == "" {
		return leaderTarget{} // a leader that nobody can ask cannot be silent
	}
	return t
}

// asks says that a member's word about the leader may be wanted: it is a voter, or some set is content
// with one vote, which another member then has to confirm (safety review, hole 19).
func asks(e *election.Electorate, self string) bool {
	if e == nil {
		return false
	}
	for _, s := range e.Sets {
		if s.Quorum == 1 && len(s.Voters) > 0 || slices.ContainsFunc(s.Voters, func(v election.Voter) bool { return strings.EqualFold(v.Name, self) }) {
			return true
		}
	}
	return false
}

// keepContact asks for as long as there is somebody to ask.
func (a *Agent) keepContact(ctx context.Context) error {
	for {
		var t leaderTarget
		var silence time.Duration
		c := &a.contact
		c.mu.Lock()
		last := c.target
		c.mu.Unlock()
		a.facts.with(func(f *facts) {
			t = targetOf(f.cfg.Name, policyOf(f.cfg, f.dynamic, f.effective), f.cluster, f.vacancy, last)
			silence = f.silence()
			t.mute = t.revision != 0 && (f.freeze.Recorded || f.freeze.VoteSent)
		})
		c.aim(t)
		if t == (leaderTarget{}) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.kick:
			}
			continue
		}
		pace := silence / paceOfSilence
		begun := Now()
		heard, ok := c.ask(ctx, t, pace)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.noteContact(t, heard, ok, silence)
		if left := begun + pace - Now(); left > 0 && !sleepCtx(ctx, left) {
			return ctx.Err()
		}
	}
}

// silent is the name of the leader that has been lost sight of; empty: none.
func (c *contact) silent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lost {
		return ""
	}
	return c.target.name
}

// aim begins to count anew when another leader is asked.
func (c *contact) aim(t leaderTarget) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.revision != c.state.Revision {
		c.state, c.lost = election.Contact{}, false
		if t.revision != 0 {
			c.state = election.Contact{Revision: t.revision, HeardAt: Now()}
		}
	}
	c.target = t
}

// ask puts one question to the leader's agent, and if that has not answered by half the time, or has
// refused, to its server as well. It returns when the answered question was sent. An agent that answers
// costs no goroutine: this goes on all the time.
func (c *contact) ask(ctx context.Context, t leaderTarget, bound time.Duration) (election.Instant, bool) {
	actx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if t.apiURL == "" {
		sent := Now()
		return sent, c.askServer(actx, t.server) == nil
	}
	var second election.Instant // when the server was asked that answered
	asked := make(chan struct{})
	server := func() {
		defer close(asked)
		if t.server == "" {
			return
		}
		sent := Now()
		if c.askServer(actx, t.server) == nil {
			second = sent
			cancel() // no need to wait for the agent
		}
	}
	patience := time.AfterFunc(bound/2, server)
	revision := t.revision
	if t.mute {
		revision = 0
	}
	sent, err := c.askAgent(actx, t.apiURL, revision)
	unasked := patience.Stop()
	if err == nil {
		return sent, true
	}
	if unasked {
		server()
	}
	<-asked
	return second, second != 0
}

// noteContact takes up what a question came to, and wakes the loop when the leader was lost or found.
func (a *Agent) noteContact(t leaderTarget, heard election.Instant, ok bool, silence time.Duration) {
	c := &a.contact
	c.mu.Lock()
	if c.state.Revision != t.revision {
		c.mu.Unlock()
		return
	}
	if ok {
		c.state.HeardAt, c.state.Silent = max(c.state.HeardAt, heard), 0
	} else {
		c.state.Silent++
	}
	was := c.lost
	c.lost = c.state.Lost(Now(), silence)
	is, state := c.lost, c.state
	c.mu.Unlock()
	if was == is {
		return
	}
	if is {
		a.log.Warn("the leader does not answer", zap.String("leader", t.name), zap.Int64("leader_revision", t.revision),
			zap.Duration("silent_for", Now()-state.HeardAt), zap.Int("questions", state.Silent))
	} else {
		a.log.Info("the leader answers again", zap.String("leader", t.name), zap.Int64("leader_revision", t.revision))
	}
	a.publish()
	a.poke()
}
