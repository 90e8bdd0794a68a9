//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

// longTTL is a lease that no test waits for: what happens within a third of it did not wait for its end.
const longTTL = 30 * time.Second

// synchronous are options for a cluster whose agents keep the synchronous set.
func synchronous(t *testing.T, mode cluster.Mode, ttl time.Duration) cluster.Options {
	t.Helper()
	o := cluster.Options{HAProxy: true, TTL: ttl}
	if err := o.SetMode(mode); err != nil {
		t.Fatal(err)
	}
	return o
}

// voters waits until the sync key tells so many standbys, and nothing of a change that is under way.
func (s *story) voters(n int) {
	s.Helper()
	s.ok(s.WaitVoters(s.ctx, n, healTime))
}

// chosen is the standby that the sync key names, where it names one.
func (s *story) chosen() *cluster.Member {
	s.Helper()
	text, err := s.Get(s.ctx, "sync")
	s.ok(err)
	for _, m := range s.Members {
		if strings.Contains(text, fmt.Sprintf("%q:%q", "sync_standby", m.Name)) {
			return m
		}
	}
	s.Fatalf("the sync key names no standby alone: %s", text)
	return nil
}

// soon checks that writes stood still for no longer than a third of the lease: nobody waited for its end.
func (s *story) soon(w *cluster.Writer, fault time.Duration) {
	s.Helper()
	if got := s.outage(w, fault); got > s.Options.TTL/3 {
		s.Errorf("writes stood still for %s with a ttl of %s: the takeover waited for the lease", got, s.Options.TTL)
	}
}

// strike does something to a member, or undoes it.
type strike func(*cluster.Member, context.Context) error

func cutOff(from cluster.From) strike {
	return func(m *cluster.Member, ctx context.Context) error { return m.Partition(ctx, from) }
}

// takenFrom strikes the primary under load, waits for its successor to be written to, undoes the fault, and
// judges: no wait for the lease, one writer, nothing lost. By the time that the successor shows itself as the
// primary, the old one must not any more, even to those on its own machine.
func (s *story) takenFrom(fault, undo strike) {
	s.Helper()
	s.voters(2)
	w := s.load(cluster.WriterOptions{})
	witness := s.witness()
	old := s.settle()
	begin := cluster.Mono()
	s.ok(fault(old, s.ctx))
	successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
	s.ok(err)
	if code := old.LocalCode(s.ctx, "/primary"); code == http.StatusOK {
		s.Errorf("%s calls itself primary beside %s", old.Name, successor.Name)
	}
	s.resumed(w, successor)
	s.soon(w, begin)
	s.ok(undo(old, s.ctx))
	s.judge(nothingLost, begin, w, witness)
}

// TestTakeoverByVotes takes the primary away from a cluster in quorum mode, whose standbys then need not
// wait for its lease.
func TestTakeoverByVotes(t *testing.T) {
	t.Parallel()
	o := synchronous(t, cluster.Quorum, longTTL)
	o.Network = cluster.Namespaces
	s := begin(t, o)
	s.chapter("the primary's node dies", func(s *story) {
		s.takenFrom((*cluster.Member).PowerOff, (*cluster.Member).PowerOn)
	})
	s.chapter("the primary is cut off from everyone", func(s *story) {
		s.takenFrom(cutOff(cluster.FromEveryone), (*cluster.Member).Heal)
	})
	s.chapter("the primary is cut off from its standbys, and has etcd and its clients", func(s *story) {
		s.takenFrom(cutOff(cluster.FromMembers), (*cluster.Member).Heal)
	})
	s.chapter("the primary's whole node stands still, and runs on later", func(s *story) {
		s.takenFrom(func(m *cluster.Member, ctx context.Context) error { return m.Freeze(ctx, cluster.Node) }, (*cluster.Member).Thaw)
	})
	s.chapter("a voter is cut off: the primary stays", func(s *story) {
		s.voters(2)
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		voter := s.Others(primary)[0]
		fault := cluster.Mono()
		s.ok(voter.Partition(s.ctx, cluster.FromEveryone))
		s.ok(s.Holds(s.ctx, s.Options.TTL/3, "the primary stays", func(ctx context.Context) (bool, string) {
			code := primary.Code(ctx, "/primary")
			return code == http.StatusOK, fmt.Sprintf("/primary answers %d", code)
		}))
		s.ok(w.WaitAcks(s.ctx, 50, noticeTime))
		s.soon(w, fault)
		s.ok(voter.Heal(s.ctx))
		s.judge(nothingLost, fault, w, nil)
	})
	s.chapter("a switchover under load", func(s *story) {
		s.voters(2)
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		start := cluster.Mono()
		for range 2 {
			old := s.settle()
			s.voters(2)
			candidate := s.Others(old)[0]
			fault := cluster.Mono()
			s.post("/switchover", map[string]any{"leader": old.Name, "candidate": candidate.Name}, http.StatusOK, candidate.Name)
			s.ok(s.WaitRole(s.ctx, candidate, "primary", promoteTime))
			s.resumed(w, candidate)
			s.soon(w, fault)
		}
		s.judge(nothingLost, start, w, witness)
	})
}

// TestKillsInQuorumMode kills the processes of the primary's node, alone and together. An agent that lives
// gives the key up when its server is gone, and the standbys take over without any silence.
func TestKillsInQuorumMode(t *testing.T) {
	t.Parallel()
	s := begin(t, synchronous(t, cluster.Quorum, longTTL))
	for _, kinds := range []cluster.Kind{
		cluster.Postmaster,
		cluster.Server,
		cluster.Agent | cluster.Server,
		cluster.Fencers,
		cluster.Agent | cluster.Fencers,
		cluster.Agent | cluster.Fencers | cluster.Server,
	} {
		s.chapter(fmt.Sprintf("kill -9 of %s", kinds), func(s *story) {
			s.voters(2)
			w := s.load(cluster.WriterOptions{})
			witness := s.witness()
			old := s.settle()
			fault := cluster.Mono()
			s.ok(old.Kill9(s.ctx, kinds))
			if kinds&cluster.Server == 0 {
				s.ok(old.Start())
			}
			s.stillServed(w, old)
			s.soon(w, fault)
			s.ok(old.PowerOn(s.ctx))
			s.judge(nothingLost, fault, w, witness)
		})
	}
}

// TestVotesOutliveRestarts kills agents and servers of voters while they are frozen: a vote that was cast
// against the leader must neither be forgotten nor block its caster for ever.
func TestVotesOutliveRestarts(t *testing.T) {
	t.Parallel()
	o := synchronous(t, cluster.Quorum, longTTL)
	o.Network = cluster.Namespaces
	s := begin(t, o)
	s.chapter("one voter froze alone, and its agent dies: it follows the leader again", func(s *story) {
		s.voters(2)
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		fault := cluster.Mono()
		lone := s.Others(primary)[0]
		other := s.Others(primary)[1]
		// With the other voter gone there are too few for a takeover, however often this one tries.
		s.ok(other.PowerOff(s.ctx))
		s.ok(primary.Freeze(s.ctx, cluster.Node))
		s.ok(s.WaitFor(s.ctx, noticeTime, "the voter to notice", func(ctx context.Context) (bool, string) {
			answer, err := lone.HTTP(ctx, http.MethodGet, "/patroni", nil)
			return err == nil && strings.Contains(answer.Body, "lost_leader"), fmt.Sprint(answer, err)
		}))
		s.ok(lone.Kill9(s.ctx, cluster.Agent))
		s.ok(lone.Start())
		s.ok(primary.Thaw(s.ctx))
		s.ok(other.PowerOn(s.ctx))
		s.ok(w.WaitAcks(s.ctx, 50, promoteTime))
		s.judge(nothingLost, fault, w, nil)
	})
}

// TestSynchronousModeOfChosenStandbys: one standby is chosen, and commits wait for it alone.
func TestSynchronousModeOfChosenStandbys(t *testing.T) {
	t.Parallel()
	o := synchronous(t, cluster.Synchronous, longTTL)
	o.DCS["synchronous_mode_strict"] = true
	s := begin(t, o)
	leaves := func(what string, leave, back func(*cluster.Member)) {
		s.chapter("the synchronous standby "+what+": no commit waits for it", func(s *story) {
			s.settle()
			s.voters(1)
			w := s.load(cluster.WriterOptions{})
			fault := cluster.Mono()
			chosen := s.chosen()
			leave(chosen)
			s.voters(1)
			if now := s.chosen(); now == chosen {
				s.Errorf("%s is the synchronous standby still", now.Name)
			}
			s.ok(w.WaitAcks(s.ctx, 20, noticeTime))
			if got := s.outage(w, fault); got > 2*noise {
				s.Errorf("writes stood still for %s", got)
			}
			back(chosen)
			s.judge(nothingLost, fault, w, nil)
		})
	}
	leaves("stops", func(m *cluster.Member) { s.ok(m.Stop(s.ctx)) }, func(m *cluster.Member) { s.ok(m.Start()) })
	leaves("is restarted", func(m *cluster.Member) {
		before := m.PostmasterPID()
		if a, err := m.HTTP(s.ctx, http.MethodPost, "/restart", map[string]any{}); err != nil || a.Code != http.StatusOK {
			s.Fatalf("/restart: %v %v", a, err)
		}
		if m.PostmasterPID() == before {
			s.Error("its server was not restarted")
		}
	}, func(*cluster.Member) {})
	s.chapter("the primary's node dies", func(s *story) {
		s.voters(1)
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		fault := cluster.Mono()
		s.ok(old.PowerOff(s.ctx))
		successor, err := s.WaitPrimary(s.ctx, promoteTime, old)
		s.ok(err)
		s.resumed(w, successor)
		s.soon(w, fault)
		s.ok(old.PowerOn(s.ctx))
		s.judge(nothingLost, fault, w, witness)
	})
	s.chapter("both standbys' nodes die: commits wait, and nothing is lost", func(s *story) {
		s.voters(1)
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		fault := cluster.Mono()
		for _, m := range s.Others(primary) {
			s.ok(m.PowerOff(s.ctx))
		}
		gone := cluster.Mono()
		s.ok(s.Holds(s.ctx, s.Options.TTL/6, "no commit is acknowledged", func(context.Context) (bool, string) {
			acks := w.Ledger.Acks()
			last := acks[len(acks)-1]
			return last.Received < gone+noise, fmt.Sprintf("one was, %s after the last standby died", last.Received-gone)
		}))
		for _, m := range s.Others(primary) {
			s.ok(m.PowerOn(s.ctx))
		}
		s.ok(w.WaitAcks(s.ctx, 50, promoteTime))
		s.judge(nothingLost, fault, w, nil)
	})
}

// TestSynchronousModesChangeUnderLoad switches between the modes while a client writes, and checks what each
// of them is for: with both standbys gone commits wait, or go on, as the mode says.
func TestSynchronousModesChangeUnderLoad(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{HAProxy: true, TTL: longTTL})
	s.chapter("off, quorum, on, off: no write fails", func(s *story) {
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		begin := cluster.Mono()
		s.patch(map[string]any{"synchronous_mode": "quorum"})
		s.voters(2)
		s.patch(map[string]any{"synchronous_node_count": 2})
		s.waitsFor(primary, "ANY 2")
		s.patch(map[string]any{"synchronous_node_count": nil})
		s.waitsFor(primary, "ANY 1")
		s.patch(map[string]any{"synchronous_mode": true})
		s.voters(1)
		s.patch(map[string]any{"synchronous_mode": false})
		s.ok(s.WaitFor(s.ctx, healTime, "the sync key to go", func(ctx context.Context) (bool, string) {
			text, err := s.Get(ctx, "sync")
			return err == nil && text == "", fmt.Sprint(text, err)
		}))
		s.waitsFor(primary, "")
		s.ok(w.WaitAcks(s.ctx, 20, noticeTime))
		if got := s.outage(w, begin); got > 2*noise {
			s.Errorf("writes stood still for %s", got)
		}
		s.judge(nothingLost, begin, w, nil)
	})
	s.chapter("not strict, and both standbys die: commits go on before long", func(s *story) {
		s.patch(map[string]any{"synchronous_mode": "quorum"})
		s.voters(2)
		w := s.load(cluster.WriterOptions{})
		primary := s.settle()
		fault := cluster.Mono()
		for _, m := range s.Others(primary) {
			s.ok(m.PowerOff(s.ctx))
		}
		s.waitsFor(primary, "")
		s.ok(w.WaitAcks(s.ctx, 20, noticeTime))
		s.soon(w, fault)
		for _, m := range s.Others(primary) {
			s.ok(m.PowerOn(s.ctx))
		}
		s.voters(2)
		s.judge(nothingLost, fault, w, nil)
	})
}

// waitsFor waits until the primary's synchronous_standby_names begins like this; empty: it is empty.
func (s *story) waitsFor(primary *cluster.Member, prefix string) {
	s.Helper()
	s.ok(s.WaitFor(s.ctx, healTime, fmt.Sprintf("synchronous_standby_names of %q", prefix), func(ctx context.Context) (bool, string) {
		text, err := primary.SQL(ctx, "SHOW synchronous_standby_names")
		return err == nil && strings.HasPrefix(text, prefix) && (prefix != "" || text == ""), fmt.Sprint(text, err)
	}))
}

// TestFailsafe takes etcd away from a cluster whose members promise the primary not to race.
func TestFailsafe(t *testing.T) {
	t.Parallel()
	s := begin(t, cluster.Options{
		Network: cluster.Namespaces, HAProxy: true, TTL: 10 * time.Second, DCS: map[string]any{"failsafe_mode": true},
	})
	s.chapter("etcd is gone for two leases, and all members are there", func(s *story) {
		s.failsafeOf(len(s.Members))
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		old := s.settle()
		fault := cluster.Mono()
		_, err := s.Etcd.KillMajority(s.ctx)
		s.ok(err)
		s.undisturbed(w, old, fault, 2*s.Options.TTL)
		s.ok(s.Etcd.Restore(s.ctx))
		s.undisturbed(w, old, fault, s.Options.TTL)
		s.judge(nothingLost, fault, w, witness)
	})
	s.chapter("etcd is gone, and a member is cut off: read only until either is back", func(s *story) {
		s.failsafeOf(len(s.Members))
		w := s.load(cluster.WriterOptions{})
		witness := s.witness()
		primary := s.settle()
		missing := s.Others(primary)[0]
		s.ok(missing.Partition(s.ctx, cluster.FromEveryone))
		fault := cluster.Mono()
		_, err := s.Etcd.KillMajority(s.ctx)
		s.ok(err)
		s.ok(s.WaitFor(s.ctx, s.Options.TTL+noise, "the primary to step down before its lease is over", func(ctx context.Context) (bool, string) {
			code := primary.Code(ctx, "/primary")
			return code != http.StatusOK, fmt.Sprintf("/primary answers %d", code)
		}))
		s.ok(s.WaitFor(s.ctx, noticeTime, "the writes to end", func(context.Context) (bool, string) {
			acks := w.Ledger.Acks()
			last := acks[len(acks)-1].Received
			if last > fault+s.Options.TTL {
				s.Errorf("a write was acknowledged %s after etcd went, with a ttl of %s", last-fault, s.Options.TTL)
			}
			return cluster.Mono()-last > time.Second, fmt.Sprintf("the last one %s ago", cluster.Mono()-last)
		}))
		s.ok(missing.Heal(s.ctx))
		s.ok(s.Etcd.Restore(s.ctx))
		s.settle()
		s.ok(w.WaitAcks(s.ctx, 50, promoteTime))
		s.outage(w, fault)
		s.judge(nothingLost, fault, w, witness)
	})
}

// failsafeOf waits until the failsafe key names so many members.
func (s *story) failsafeOf(n int) {
	s.Helper()
	s.ok(s.WaitFor(s.ctx, healTime, fmt.Sprintf("%d members in the failsafe key", n), func(ctx context.Context) (bool, string) {
		text, err := s.Get(ctx, "failsafe")
		members := map[string]string{}
		if err == nil {
			err = json.Unmarshal([]byte(text), &members)
		}
		return err == nil && len(members) == n, fmt.Sprint(text, err)
	}))
}
