package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// electorateView says whose votes a takeover needs, as the leader published it.
type electorateView struct {
	Epoch uint64         `json:"epoch"`
	Sets  []voterSetView `json:"sets"`
}

// voterSetView is one set of voters. Of several, a takeover needs the votes of each.
type voterSetView struct {
	Voters []string `json:"voters"`
	Wait   int      `json:"wait"`
	Quorum int      `json:"quorum"`
}

// voteView is a vote that counts against the present leader, or for the next one while there is none.
type voteView struct {
	Member         string            `json:"member"`
	Epoch          uint64            `json:"epoch"`
	LeaderRevision int64             `json:"leader_revision"`
	Timeline       election.Timeline `json:"timeline"`
	LSN            string            `json:"lsn"`
}

func viewOfElectorate(c *cluster) *electorateView {
	e := c.Sync.Electorate
	if c.Sync.Leader == "" || e == nil {
		return nil
	}
	v := &electorateView{Epoch: e.Epoch, Sets: []voterSetView{}}
	for _, set := range e.Sets {
		s := voterSetView{Voters: []string{}, Wait: set.Wait, Quorum: set.Quorum}
		for _, voter := range set.Voters {
			s.Voters = append(s.Voters, voter.Name)
		}
		v.Sets = append(v.Sets, s)
	}
	return v
}

// standingVotes are those that were not withdrawn and are not against a leader of the past.
func standingVotes(c *cluster) []voteView {
	var out []voteView
	for _, vote := range c.Votes {
		if vote.LeaderRevision == 0 || c.Leader.Present && vote.LeaderRevision != c.Leader.ModRevision {
			continue
		}
		out = append(out, voteView{
			Member: vote.Name, Epoch: vote.Epoch, LeaderRevision: vote.LeaderRevision, Timeline: vote.Timeline, LSN: vote.LSN.String(),
		})
	}
	return out
}

// sentence says in words what a commit waits for and what a takeover needs.
func (e electorateView) sentence() string {
	switch len(e.Sets) {
	case 0:
		return "nobody but the leader may lead: no standby is known to hold every commit"
	case 1:
		s := e.Sets[0]
		return fmt.Sprintf("a commit waits for %d of %s; a takeover needs %s", s.Wait, strings.Join(s.Voters, ", "), plural(s.Quorum, "vote"))
	}
	var needs []string
	for _, s := range e.Sets {
		needs = append(needs, fmt.Sprintf("%d of %s", s.Quorum, strings.Join(s.Voters, ", ")))
	}
	return "the set of voters is changing: a takeover needs the votes of " + strings.Join(needs, " and of ")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func voteProblems(c *cluster) []problem {
	against := "while there is no leader"
	if c.Leader.Present {
		against = "against " + c.Leader.Name
	}
	var out []problem
	for _, vote := range standingVotes(c) {
		out = append(out, problem{
			Severity: severityWarning, Member: vote.Member,
			What: fmt.Sprintf("has frozen and voted %s; its log ends at %s on timeline %d", against, vote.LSN, vote.Timeline),
			Remedy: fmt.Sprintf("it takes over, follows the next leader or goes back to this one by itself; if not, see: pghactl why %s %s",
				c.scope, vote.Member),
		})
	}
	return out
}

// hasVoters says that some standby counts for commits, or is about to.
func (c *cluster) hasVoters() bool {
	if c.Sync.Leader == "" {
		return false
	}
	if e := c.Sync.Electorate; e != nil && len(e.Sets) > 0 {
		return true
	}
	return len(c.Sync.Standbys) > 0
}

// inSync says whether the sync key makes the member a synchronous standby.
func (c *cluster) inSync(name string) bool { return restapi.InSync(c.Sync, name) }

// bonds is what binds a member's hands, or its vote: a part of its answer to /pgha/why.
type bonds struct {
	Frozen     *frozenView    `json:"frozen,omitempty"`
	LostLeader int64          `json:"lost_leader,omitempty"`
	PromiseMS  int64          `json:"promise_remaining_ms,omitempty"`
	Sync       *syncLeaderDoc `json:"sync,omitempty"`
}

// frozenView is a member's freeze in order to vote.
type frozenView struct {
	Epoch          uint64            `json:"epoch"`
	LeaderRevision int64             `json:"leader_revision"`
	AgeMS          int64             `json:"age_ms"`
	Proven         bool              `json:"proven"`
	Voted          bool              `json:"voted"`
	Timeline       election.Timeline `json:"timeline,omitempty"`
	LSN            lsnText           `json:"lsn,omitempty"`
}

// syncLeaderDoc is synchronous replication as a leader runs it.
type syncLeaderDoc struct {
	Voters  []string `json:"voters"`
	Wait    int      `json:"wait"`
	Quorum  int      `json:"quorum"`
	InForce string   `json:"in_force"`
}

// lsnText is a position that agents send as a number and this tool prints as a text.
type lsnText election.LSN

// MarshalJSON writes "0/3000060".
func (l lsnText) MarshalJSON() ([]byte, error) { return json.Marshal(election.LSN(l).String()) }

// UnmarshalJSON reads the number.
func (l *lsnText) UnmarshalJSON(data []byte) error {
	var n uint64
	if _, err := fmt.Sscan(string(data), &n); err != nil {
		return fmt.Errorf("position %s: %w", data, err)
	}
	*l = lsnText(n)
	return nil
}

func (b bonds) print(w io.Writer) {
	span := func(ms int64) time.Duration { return roundDuration(time.Duration(ms) * time.Millisecond) }
	if f := b.Frozen; f != nil {
		text := fmt.Sprintf("for %s against the leader key of revision %d (epoch %d)", span(f.AgeMS), f.LeaderRevision, f.Epoch)
		switch {
		case !f.Proven:
			text += "; that nothing arrives any more is not proven yet"
		default:
			text += fmt.Sprintf("; the log ends at %s on timeline %d", election.LSN(f.LSN), f.Timeline)
		}
		if f.Voted {
			text += "; vote cast"
		} else {
			text += "; no vote yet"
		}
		paragraph(w, "  frozen  ", text)
	}
	if b.LostLeader != 0 {
		paragraph(w, "  lost  ", fmt.Sprintf("neither agent nor server of the holder of the leader key (revision %d) answers this member", b.LostLeader))
	}
	if b.PromiseMS > 0 {
		paragraph(w, "  promised  ", fmt.Sprintf("not to race for the leader key for another %s", span(b.PromiseMS)))
	}
	if s := b.Sync; s != nil {
		text := electorateView{Sets: []voterSetView{{s.Voters, s.Wait, s.Quorum}}}.sentence()
		if s.InForce != "yes" {
			text += "; that PostgreSQL goes by this is not proven yet"
		}
		paragraph(w, "  synchronous  ", text)
	}
}
