package election

import (
	"fmt"
	"time"
)

// Times of the rejoin ladder. They bound waiting, never safety.
const (
	// streamGrace is how long a standby may be without a stream before its history is compared.
	streamGrace = 2 * time.Second
	// rewindAttempts is how often pg_rewind may fail before the directory is moved aside and cloned.
	rewindAttempts = 2
	// retryFirst and retryMost bound the pause after failures, which doubles each time.
	retryFirst = time.Second
	retryMost  = time.Minute
	// retryStore bounds it where only the store did not answer.
	retryStore = 4 * time.Second
)

// retryWait is how long to wait after n failures in a row.
func retryWait(n int) time.Duration {
	if n <= 0 {
		return 0
	}
	if n > 7 {
		return retryMost
	}
	return min(retryFirst<<(n-1), retryMost)
}

// notYet says how long a kind of job must still wait after its last failure; zero: it may run.
func (v *View) notYet(kind JobKind) time.Duration {
	r := v.Result(kind)
	if r.Err == "" || r.Class == ClassCanceled {
		return 0
	}
	wait := retryWait(r.Failures)
	if r.Class == ClassStore { // what is there to do has not been tried
		wait = min(wait, retryStore)
	}
	return max(0, r.At+wait-v.Now)
}

// foreign says that another member (or another life of this one) holds the leader key.
func (v *View) foreign() bool { return v.Store.Cluster.Leader.Present && !v.Own.Held() }

// writable says that the server is a primary, or is on its way to be one.
func (v *View) writable() bool {
	return v.Local.Role == RolePrimary && (v.Local.Server == ServerRunning || v.Local.Server == ServerSilent ||
		v.Local.Server == ServerStarting && !v.Local.Signal)
}

// knownStandby says that the server, whatever it does at the moment, is no primary.
func (v *View) knownStandby() bool {
	return v.Local.Role == RoleStandby || v.Local.Role == RoleUnknown && v.Local.Signal
}

// source is the member to stream and clone from: the one named by replicatefrom if it runs, else
// the leader (rows H-089, H-100).
func (v *View) source() (*Member, bool) {
	c := &v.Store.Cluster
	if from := v.Self.Tags.ReplicateFrom; from != "" && from != v.Self.Name {
		if m := c.member(from); m != nil && m.State == StateRunning && m.ConnURL != "" {
			return m, true
		}
	}
	if c.Leader.Name == v.Self.Name {
		return &Member{}, false
	}
	m, ok := v.leaderMember()
	return m, ok && m.ConnURL != ""
}

// leaderMember is what the leader published.
func (v *View) leaderMember() (*Member, bool) {
	if m := v.Store.Cluster.member(v.Store.Cluster.Leader.Name); m != nil {
		return m, true
	}
	return &Member{}, false
}

// leaderServes says that the leader's server is known to be a primary, so that there is something
// to copy from or to compare with.
func (v *View) leaderServes() bool {
	m, ok := v.leaderMember()
	return ok && m.State == StateRunning && (m.Role == "primary" || m.Role == "promoted") && m.ConnURL != ""
}

// diverged is the comparison with the present leader, or Unknown if it was made for another one.
func (v *View) diverged() Divergence {
	if v.Local.DivergenceFor != v.Store.Cluster.Leader.ModRevision {
		return DivergenceUnknown
	}
	return v.Local.Divergence
}

func waitFor(v *View, kind JobKind, what string) Plan {
	r := v.Result(kind)
	return Plan{
		Reason: fmt.Sprintf("%s failed %d times, the last time: %s", what, r.Failures, r.Err), Trouble: true,
		Change: "the next try in " + ago(v.notYet(kind)), Wake: max(v.notYet(kind), 50*time.Millisecond),
	}
}

func memberGroups() []group {
	member := within // another's leader key
	data := func(d DataState) func(*View) bool {
		return member(func(v *View) bool { return v.Local.Data == d })
	}
	first := []rule{
		{
			id:   "member.demote",
			doc:  "The server is a primary while the leader key is another's: it is silenced at once.",
			when: member((*View).writable),
			then: func(v *View) Plan {
				return trouble("the server is a primary, and "+v.Store.Cluster.Leader.Name+" holds the leader key", "",
					Demote{Why: "another member leads"})
			},
		},
		{
			id:   "member.own_name",
			doc:  "The leader key bears this member's name but was not written in this life and no token proves it: it is somebody else's. It is neither renewed nor taken; it must expire.",
			when: member(func(v *View) bool { return v.Store.Cluster.Leader.Name == v.Self.Name }),
			then: func(v *View) Plan {
				return trouble("the leader key bears this member's name, but this agent did not write it",
					"its expiry", startForReads(v)...)
			},
		},
	}
	down := func(v *View) bool { return v.foreign() && v.Local.Server == ServerDown }
	return []group{
		{(*View).foreign, append(append(first, memberDataRules(data)...), reinitRule(member))},
		{down, memberDownRules()},
		{(*View).foreign, memberRunningRules(member)},
	}
}

// startForReads starts a stopped standby so that it serves reads, when nothing better can be done.
func startForReads(v *View) []Action {
	if v.Local.Data == DataCluster && v.Local.Server == ServerDown && v.notYet(JobStart) == 0 && !v.Policy.Pause {
		return []Action{StartStandby{}}
	}
	return nil
}

func memberDataRules(data func(DataState) func(*View) bool) []rule {
	empty, partial := data(DataEmpty), data(DataPartial)
	return []rule{
		{
			id:   "member.data_unreadable",
			doc:  "The data directory cannot be read: nothing is done to it.",
			when: data(DataUnreadable),
			then: func(v *View) Plan {
				return trouble("the data directory cannot be read: "+v.Local.DataDetail, "a readable directory")
			},
		},
		{
			id:   "member.data_foreign",
			doc:  "The data directory holds files that are no PostgreSQL cluster: it is never filled or emptied on a guess.",
			when: data(DataForeign),
			then: func(v *View) Plan {
				return trouble("the data directory holds foreign files: "+v.Local.DataDetail,
					"an empty directory, or another data_dir")
			},
		},
		{
			id:  "member.clone",
			doc: "The data directory is empty, or holds only our own unfinished copy, and a source is known: clone from it. Not while paused (row H-009).",
			when: func(v *View) bool {
				return (empty(v) || partial(v)) && v.Local.Server == ServerDown && !v.Policy.Pause
			},
			then: clonePlan,
		},
	}
}

func clonePlan(v *View) Plan {
	src, ok := v.source()
	switch {
	case v.Store.Cluster.Initialize.State != BootstrapDone:
		return Plan{Reason: "waiting for the bootstrap to finish", Change: "a leader that serves"}
	case !ok:
		return Plan{Reason: "nothing to clone from yet", Change: "a leader with a connection address"}
	case !v.leaderServes():
		// Even a copy from another standby waits: without a leader it could not follow anybody.
		return Plan{Reason: "the leader " + v.Store.Cluster.Leader.Name + " does not serve yet", Change: "its promotion"}
	case v.notYet(JobClone) > 0:
		return waitFor(v, JobClone, "the clone")
	}
	reason := "the data directory is empty"
	if v.Local.Data == DataPartial {
		reason = "the data directory holds an unfinished copy"
	}
	return Plan{Reason: reason, Actions: []Action{Clone{Source: src.Name, ConnURL: src.ConnURL, Partial: v.Local.Data == DataPartial}}}
}

func memberDownRules() []rule {
	down := within // another's leader key, and a server that is down
	return []rule{
		{
			id:   "member.pause_down",
			doc:  "Paused: a server that is down is not started.",
			when: down(func(v *View) bool { return v.Policy.Pause }),
			then: idle("paused: the server is down and stays so", "the end of the pause"),
		},
		{
			id: "member.start_bad_data",
			doc: "The server does not start because of what is in its data directory (not because of a port, a disk or a permission): " +
				"the directory is moved aside and cloned anew.",
			when: down(func(v *View) bool {
				r := v.Result(JobStart)
				return r.Class == ClassData && r.Failures >= 2 && v.diverged() != DivergenceWrongOwner
			}),
			then: func(v *View) Plan { return recloneOr(v, "the server does not start: "+v.Result(JobStart).Err) },
		},
		divergedRule("member.down_diverged", down),
		{
			id:  "member.compare",
			doc: "The server is down and may have gone its own way: its history is compared with the leader's before it starts.",
			when: down(func(v *View) bool {
				return v.diverged() == DivergenceUnknown && v.Result(JobCompare).Failures < startAttempts
			}),
			then: func(v *View) Plan {
				switch {
				case !v.leaderServes():
					return Plan{Reason: "the leader does not serve yet", Change: "its promotion", Actions: startOldStandby(v)}
				case v.notYet(JobCompare) > 0:
					return waitFor(v, JobCompare, "the comparison with the leader")
				}
				return Plan{Reason: "the server is down", Actions: []Action{CompareHistory{Leader: v.Store.Cluster.Leader.Name}}}
			},
		},
		{
			id:   "member.start",
			doc:  "The server is down and can stream from the leader: start it as a standby.",
			when: down(always),
			then: func(v *View) Plan {
				if v.notYet(JobStart) > 0 {
					return waitFor(v, JobStart, "the start")
				}
				src, _ := v.source()
				return Plan{Reason: "the server is down", Actions: []Action{StartStandby{Upstream: src.Name, ConnURL: src.ConnURL}}}
			},
		},
	}
}

// startOldStandby starts a server that was a standby anyway: that can lose nothing, and it serves
// reads while the leader is on its way.
func startOldStandby(v *View) []Action {
	if !v.Local.Signal {
		return nil
	}
	return startForReads(v)
}

func reinitRule(member func(func(*View) bool) func(*View) bool) rule {
	return rule{
		id:  "member.reinit_command",
		doc: "An operator asked for this member to be cloned anew.",
		when: member(func(v *View) bool {
			_, ok := v.command(CommandReinit)
			return ok && v.Local.Server == ServerDown || ok && v.knownStandby()
		}),
		then: func(v *View) Plan {
			src, ok := v.source()
			if c, _ := v.command(CommandReinit); c.FromLeader {
				src, ok = v.leaderMember()
			}
			why := ""
			switch {
			case !ok || !v.leaderServes():
				why = "the leader does not serve"
			case v.diverged() == DivergenceWrongOwner:
				why = "the leader serves another system"
			}
			if why != "" {
				c, _ := v.command(CommandReinit)
				return Plan{
					Reason: "reinitialize refused: " + why, Trouble: true,
					Actions: []Action{RefuseCommand{Command: c.ID, Why: why}},
				}
			}
			return Plan{Reason: "an operator asked for a fresh copy", Actions: []Action{Clone{Source: src.Name, ConnURL: src.ConnURL}}}
		},
	}
}

func divergedRule(id RuleID, applies func(func(*View) bool) func(*View) bool) rule {
	return rule{
		id:  id,
		doc: "The local history went its own way: pg_rewind brings it back, and when that is impossible the directory is moved aside and cloned. What is lost is counted first.",
		when: applies(func(v *View) bool {
			d := v.diverged()
			return (d == DivergenceRewind || d == DivergenceClone || d == DivergenceWrongOwner) && !v.Policy.Pause &&
				v.Local.Data == DataCluster
		}),
		then: func(v *View) Plan {
			switch {
			case v.diverged() == DivergenceWrongOwner:
				return trouble("the leader serves another system: "+v.Local.DivergenceDetail, "the right leader, or the right data_dir")
			case !v.leaderServes():
				return Plan{Reason: "diverged, and the leader does not serve yet", Change: "its promotion"}
			case v.diverged() == DivergenceRewind && v.Policy.UseRewind && rewindHopeful(v):
				if v.notYet(JobRewind) > 0 {
					return waitFor(v, JobRewind, "pg_rewind")
				}
				m, _ := v.Store.Cluster.Member(v.Store.Cluster.Leader.Name)
				return Plan{
					Reason: "diverged from the leader: " + v.Local.DivergenceDetail, Trouble: true,
					Actions: []Action{Rewind{Source: m.Name, ConnURL: m.ConnURL}},
				}
			}
			return recloneOr(v, "diverged from the leader: "+v.Local.DivergenceDetail)
		},
	}
}

// rewindHopeful says that pg_rewind is worth another try: it has not failed often yet, or it failed
// for reasons that lie with the other side or the surroundings and not in the directory.
func rewindHopeful(v *View) bool {
	r := v.Result(JobRewind)
	return r.Failures < rewindAttempts || r.Class == ClassPeer || r.Class == ClassEnv || r.Class == ClassStore
}

// recloneOr clones over a directory that is moved aside first.
func recloneOr(v *View, why string) Plan {
	src, ok := v.source()
	switch {
	case !ok || !v.leaderServes():
		return trouble(why, "a leader that serves")
	case v.notYet(JobClone) > 0:
		return waitFor(v, JobClone, "the clone")
	}
	return trouble(why, "", Clone{Source: src.Name, ConnURL: src.ConnURL})
}

func memberRunningRules(member func(func(*View) bool) func(*View) bool) []rule {
	running := func(when func(*View) bool) func(*View) bool {
		return member(func(v *View) bool {
			return v.Local.Server == ServerRunning && v.Local.Role == RoleStandby && when(v)
		})
	}
	all := []rule{
		{
			id:   "member.wait_server",
			doc:  "The server is on its way up or down.",
			when: member(func(v *View) bool { return v.Local.Server != ServerRunning || v.Local.Role == RoleUnknown }),
			then: func(v *View) Plan {
				return Plan{Reason: "the server is not ready", Change: "its start or its end", Wake: time.Second}
			},
		},
		signOffBeforeRestart(running),
		{
			id:  "member.restart_command",
			doc: "An operator asked for a restart of this standby.",
			when: running(func(v *View) bool {
				_, ok := v.command(CommandRestart)
				return ok
			}),
			then: func(v *View) Plan {
				c, _ := v.command(CommandRestart)
				return Plan{Reason: "an operator asked for a restart", Actions: []Action{RestartServer{Command: c.ID}}}
			},
		},
		divergedRule("member.diverged", running),
		{
			id:  "member.follow",
			doc: "The standby follows another source than it should: point it at the right one, by reload.",
			when: running(func(v *View) bool {
				src, ok := v.source()
				return ok && !v.Self.Tags.NoStream &&
					(v.Local.Upstream != src.Name || v.Local.UpstreamConnURL != src.ConnURL)
			}),
			then: func(v *View) Plan {
				src, _ := v.source()
				return Plan{Reason: "the source is now " + src.Name, Actions: []Action{Follow{Upstream: src.Name, ConnURL: src.ConnURL}}}
			},
			steady: true,
		},
		{
			id:  "member.compare_running",
			doc: "The standby has had no stream for a while: its history is compared with the leader's.",
			when: running(func(v *View) bool {
				return !v.Local.Streaming && v.leaderServes() && v.diverged() == DivergenceUnknown &&
					v.Now-max(v.Local.StreamingLostAt, v.Local.Since) > streamGrace && v.notYet(JobCompare) == 0 &&
					!v.Self.Tags.NoStream
			}),
			then: func(v *View) Plan {
				return Plan{
					Reason: "the standby does not stream", Trouble: true,
					Actions: []Action{CompareHistory{Leader: v.Store.Cluster.Leader.Name}},
				}
			},
		},
	}
	return append(all, memberStreamRules(running)...)
}

// memberStreamRules are those of a standby that follows the right source.
func memberStreamRules(running func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:  "member.offer",
			doc: "A switchover names this member, which may lead: it offers its lease, so that the leader can hand the key over to it.",
			when: running(func(v *View) bool {
				c := &v.Store.Cluster
				o, offered := c.Offer(v.Self.Name)
				return c.Failover.Candidate == v.Self.Name && c.Failover.Leader != v.Self.Name && ineligible(v) == "" &&
					v.Local.Streaming && (!offered || o.For != c.Leader.ModRevision || o.Lease != v.Lease) && v.untilScheduled() <= 0
			}),
			then: func(v *View) Plan {
				return Plan{
					Reason:  "a switchover names this member",
					Actions: []Action{OfferLease{For: v.Store.Cluster.Leader.ModRevision}},
				}
			},
			steady: true,
		},
		{
			id:  "member.withdraw_offer",
			doc: "An offer of the lease is left over from a switchover that nobody asks for any more.",
			when: running(func(v *View) bool {
				_, offered := v.Store.Cluster.Offer(v.Self.Name)
				return offered && v.Store.Cluster.Failover.Candidate != v.Self.Name
			}),
			then: func(v *View) Plan {
				o, _ := v.Store.Cluster.Offer(v.Self.Name)
				return Plan{Reason: "no switchover names this member any more", Actions: []Action{WithdrawOffer{Revision: o.ModRevision}}}
			},
			steady: true,
		},
		{
			id:   "member.not_streaming",
			doc:  "The standby does not stream, and its history is no reason why.",
			when: running(func(v *View) bool { return !v.Local.Streaming && !v.Self.Tags.NoStream }),
			then: func(v *View) Plan {
				p := Plan{Reason: "the standby does not stream from " + orNobody(v.Local.Upstream), Change: "the stream", Wake: time.Second}
				p.Trouble = v.Now-max(v.Local.StreamingLostAt, v.Local.Since) > 2*streamGrace
				return p
			},
			steady: true,
		},
		{
			id:   "member.steady",
			doc:  "The standby follows the leader.",
			when: running(always),
			then: func(v *View) Plan {
				return Plan{Reason: "following " + orNobody(v.Local.Upstream)}
			},
			steady: true,
		},
	}
}
