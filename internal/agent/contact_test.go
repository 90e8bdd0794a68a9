package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgha/pgha/internal/election"
)

func voters(quorum int, names ...string) *election.Electorate {
	set := election.VoterSet{Quorum: quorum, Wait: len(names) + 1 - quorum}
	for _, n := range names {
		set.Voters = append(set.Voters, election.Voter{Name: n, Data: "d" + n})
	}
	return &election.Electorate{Epoch: 1, LeaderData: "da", Sets: []election.VoterSet{set}}
}

// Who is asked decides who may find a leader silent.
func TestTargetOf(t *testing.T) {
	led := election.Cluster{
		Leader: election.Leader{Present: true, Name: "a", ModRevision: 7},
		Reign:  election.Reign{ModRevision: 7},
		Members: []election.Member{
			{Name: "a", APIURL: "http://10.0.0.1:8008/patroni", ConnURL: "postgres://10.0.0.1:5432/postgres"},
		},
		Sync: election.SyncState{Leader: "a", Electorate: voters(2, "b", "c")},
	}
	want := leaderTarget{name: "a", revision: 7, apiURL: "http://10.0.0.1:8008/patroni", server: "10.0.0.1:5432"}
	change := func(f func(*election.Cluster)) election.Cluster {
		c := led
		f(&c)
		return c
	}
	rows := []struct {
		name    string
		self    string
		policy  election.Policy
		cluster election.Cluster
		gap     election.Vacancy
		last    leaderTarget
		want    leaderTarget
	}{
		{name: "a voter asks the leader", self: "b", cluster: led, want: want},
		{name: "the leader asks nobody", self: "a", cluster: led},
		{name: "one that is no voter is not needed", self: "x", cluster: led},
		{
			name: "one that is no voter confirms a lone voter's word", self: "x", want: want,
			cluster: change(func(c *election.Cluster) { c.Sync.Electorate = voters(1, "b") }),
		},
		{name: "no takeover by votes, no question", self: "b", policy: election.Policy{Sync: election.SyncPolicy{TimeOnly: true}}, cluster: led},
		{name: "nothing in a pause", self: "b", policy: election.Policy{Pause: true}, cluster: led},
		{name: "nothing in asynchronous mode", self: "b", cluster: change(func(c *election.Cluster) { c.Sync = election.SyncState{} })},
		{
			name: "the last leader is asked on after its key went", self: "b", last: want, want: want,
			cluster: change(func(c *election.Cluster) { c.Leader = election.Leader{} }), gap: election.Vacancy{Revision: 7},
		},
		{
			name: "a key that went before this agent looked leaves nobody to ask", self: "b",
			cluster: change(func(c *election.Cluster) { c.Leader = election.Leader{} }),
		},
		{
			name: "a leader whose member key went first keeps its address", self: "b", last: want, want: want,
			cluster: change(func(c *election.Cluster) { c.Members = nil }),
		},
		{
			name: "a leader without an address cannot be silent", self: "b",
			cluster: change(func(c *election.Cluster) { c.Members = nil }),
		},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := targetOf(r.self, r.policy, r.cluster, r.gap, r.last); got != r.want {
				t.Errorf("got %+v, want %+v", got, r.want)
			}
		})
	}
}

var errSilent = errors.New("no answer")

// fakeLeader answers as told.
type fakeLeader struct {
	agent, server func(ctx context.Context) error
}

func (l fakeLeader) contact() *contact {
	c := &contact{kick: make(chan struct{}, 1)}
	c.askAgent = func(ctx context.Context, _ string, _ int64) (election.Instant, error) {
		sent := Now()
		return sent, l.agent(ctx)
	}
	c.askServer = func(ctx context.Context, _ string) error { return l.server(ctx) }
	return c
}

func answers(context.Context) error { return nil }
func refuses(context.Context) error { return errSilent }

func hangs(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAskTakesAnyAnswerAndWaitsForNoMoreThanTheBound(t *testing.T) {
	const bound = 200 * time.Millisecond
	target := leaderTarget{name: "a", revision: 7, apiURL: "http://a/patroni", server: "a:5432"}
	unexpected := func(context.Context) error {
		t.Error("the server is asked although the agent answered")
		return nil
	}
	rows := []struct {
		name   string
		leader fakeLeader
		heard  bool
	}{
		{"the agent answers", fakeLeader{answers, unexpected}, true},
		{"the agent is gone, the server answers", fakeLeader{refuses, answers}, true},
		{"the agent hangs, the server answers", fakeLeader{hangs, answers}, true},
		{"both are gone", fakeLeader{refuses, refuses}, false},
		{"both hang", fakeLeader{hangs, hangs}, false},
		{"the server is gone, the agent answers late", fakeLeader{func(ctx context.Context) error {
			sleepCtx(ctx, bound*3/4)
			return ctx.Err()
		}, refuses}, true},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			begun := Now()
			sent, heard := r.leader.contact().ask(t.Context(), target, bound)
			if heard != r.heard {
				t.Errorf("heard %t, want %t", heard, r.heard)
			}
			if heard && sent < begun {
				t.Errorf("heard at %s, asked at %s", sent, begun)
			}
			if took := Now() - begun; took > 10*bound {
				t.Errorf("took %s with a bound of %s", took, bound)
			}
		})
	}
}

// A leader is lost only after both the silence and several questions, and found again by one answer.
func TestContactLost(t *testing.T) {
	var c contact
	quiet := election.Contact{Revision: 7, HeardAt: 10 * time.Second, Silent: 3}
	for _, r := range []struct {
		name    string
		contact election.Contact
		now     election.Instant
		lost    bool
	}{
		{"silent for long enough", quiet, 11 * time.Second, true},
		{"silent for too short a time", quiet, 10*time.Second + 900*time.Millisecond, false},
		{"too few questions", election.Contact{Revision: 7, HeardAt: 10 * time.Second, Silent: 2}, time.Minute, false},
		{"nobody is asked", election.Contact{Silent: 100}, time.Hour, false},
	} {
		if got := r.contact.Lost(r.now, time.Second); got != r.lost {
			t.Errorf("%s: lost %t, want %t", r.name, got, r.lost)
		}
	}
	c.aim(leaderTarget{name: "a", revision: 7})
	if got := c.view(); got.Revision != 7 || got.HeardAt == 0 || got.Silent != 0 {
		t.Errorf("a new leader begins as %+v", got)
	}
	before := c.view().HeardAt
	c.aim(leaderTarget{name: "a", revision: 7})
	if got := c.view(); got.HeardAt != before {
		t.Errorf("asking the same leader on begins anew: %+v", got)
	}
	c.aim(leaderTarget{name: "a", revision: 9})
	if got := c.view(); got.Revision != 9 || got.HeardAt < before {
		t.Errorf("another key of the leader's does not begin anew: %+v", got)
	}
}
