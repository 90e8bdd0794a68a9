package election

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// startAttempts is how often a leader tries to start its own server again before it lets others in.
const startAttempts = 3

// vanishedRetry is when a holder whose key was deleted looks again for a lease to put it under.
const vanishedRetry = 50 * time.Millisecond

// snapshotOld says that the cluster as it is known is older than the own title, and so shows another's
// electorate in place of the one that came with the title.
func (v *View) snapshotOld() bool {
	return v.Own.Held() && v.Store.Cluster.Revision < v.Own.Revision
}

// titleGood says that the leader key is this agent's by its own revision, that nothing newer
// contradicts it, and that the margin is untouched.
func (v *View) titleGood() bool {
	return v.Own.Held() && !v.keyTaken() && v.Now < v.Own.DemoteAt(v.Policy.Margin)
}

// keyMoved says that a snapshot newer than the own title shows the key with another revision.
func (v *View) keyMoved() bool {
	c := &v.Store.Cluster
	return v.Own.Held() && c.Revision > v.Own.Revision && c.Leader.Present && c.Leader.ModRevision != v.Own.Revision
}

// keyOnOwnLease says that the leader key hangs on this agent's own lease. Nobody else puts it there
// but a leader that hands it over, so it is this agent's own write or a gift.
func (v *View) keyOnOwnLease() bool {
	l := v.Store.Cluster.Leader
	return l.Present && v.Lease != 0 && l.Lease == v.Lease && l.Name == v.Self.Name
}

// keyTaken says that the key is another's. An own write whose answer is still on its way while the
// watch shows it already (a key put back after it was deleted) is no reason to fall silent.
func (v *View) keyTaken() bool {
	return v.keyMoved() && !v.keyOnOwnLease() || v.Own.Held() && v.otherReign() && !v.Store.Cluster.Leader.Present
}

// otherReign says that another member's reign began after the own title was won: a key that is gone now
// was that one's.
func (v *View) otherReign() bool {
	r := v.Store.Cluster.Reign
	return r.ModRevision > v.Own.Revision && r.Holder != v.Self.Name
}

// keyVanished says that a snapshot newer than the own title shows no key at all.
func (v *View) keyVanished() bool {
	c := &v.Store.Cluster
	return v.Own.Held() && c.Revision > v.Own.Revision && !c.Leader.Present && !v.otherReign()
}

func titleRules() []rule {
	return []rule{
		{
			id:   "title.pause_lost",
			doc:  "Paused, and the title to the key is gone: it is forgotten, and the server left as it is.",
			when: func(v *View) bool { return v.Policy.Pause && v.Own.Held() && !v.titleGood() },
			then: func(v *View) Plan {
				return trouble("paused: the leader key is not safely held, the server is left as it is",
					"the end of the pause", ForgetLeader{})
			},
		},
		{
			id:   "title.forget",
			doc:  "The title is gone, and the server is down: nothing is left of the reign but the memory.",
			when: func(v *View) bool { return v.Own.Held() && !v.titleGood() && v.Local.Server == ServerDown },
			then: func(v *View) Plan {
				return Plan{Reason: "the leader key is lost and the server is down", Actions: []Action{ForgetLeader{}}}
			},
		},
		{
			id:   "title.taken",
			doc:  "The leader key bears another revision than the one this agent wrote: it is somebody else's, whatever name it shows. The server is silenced at once.",
			when: (*View).keyTaken,
			then: func(v *View) Plan {
				return trouble("the leader key was taken over by "+cmp.Or(v.Store.Cluster.Leader.Name, v.Store.Cluster.Reign.Holder), "",
					Demote{Why: "leader key taken"})
			},
		},
		{
			id:   "title.margin",
			doc:  "The time that the lease is proven for has run into its safety margin: the server is silenced before anybody else may lead, whatever kept the renewal from succeeding.",
			when: func(v *View) bool { return v.Own.Held() && v.Now >= v.Own.DemoteAt(v.Policy.Margin) },
			then: func(v *View) Plan {
				return trouble("the lease was last proven "+ago(v.Now-v.Own.Sent)+" ago and has reached its safety margin",
					"an answer from a majority of etcd", Demote{Why: "lease margin reached"})
			},
		},
		{
			id:  "title.vanished",
			doc: "The key of a good title was deleted by somebody (not by expiry, which lies ahead): nobody else may take it yet, so its rightful holder puts it back.",
			when: func(v *View) bool {
				return v.keyVanished() && v.titleGood()
			},
			then: func(v *View) Plan {
				if v.Lease == 0 {
					p := trouble("the leader key was deleted together with its lease", "a lease")
					p.Wake = vanishedRetry
					return p
				}
				return trouble("the leader key was deleted although its lease lives", "",
					AcquireLeader{Reign: nextReign(v)})
			},
		},
		{
			id:   "title.adopt",
			doc:  "The leader key hangs on this agent's own lease: it was handed over to it, or an own write whose outcome was unknown has arrived.",
			when: func(v *View) bool { return (!v.Own.Held() || v.keyMoved()) && v.keyOnOwnLease() },
			then: func(v *View) Plan {
				return Plan{
					Reason:  "the leader key was handed over to this member",
					Actions: []Action{AdoptHandOver{Revision: v.Store.Cluster.Leader.ModRevision}},
				}
			},
		},
	}
}

func ownerRules() []rule {
	owner := within // a good title
	server := func(s ServerState) func(*View) bool {
		return owner(func(v *View) bool { return v.Local.Server == s })
	}
	return append([]rule{
		{
			id:  "leader.unobserved",
			doc: "The leader's own server has not been looked at yet (the agent has just started): nothing follows from not knowing.",
			when: owner(func(v *View) bool {
				return v.Local.Data == DataUnknown || v.Local.Server == ServerUnknown
			}),
			then: func(*View) Plan {
				return Plan{Reason: "the local server has not been observed yet", Wake: time.Second}
			},
		},
		{
			id:   "leader.data_gone",
			doc:  "The leader's data directory is gone or cannot be read: the server is silenced, then the key released for somebody who has the data.",
			when: owner(func(v *View) bool { return v.Local.Data != DataCluster }),
			then: func(v *View) Plan {
				if v.Local.Server != ServerDown {
					return trouble("the data directory is gone under the running server: "+v.Local.DataDetail, "",
						Demote{Why: "data directory gone"})
				}
				return trouble("the data directory is gone: "+v.Local.DataDetail, "", ReleaseLeader{Why: "data directory gone"})
			},
		},
		{
			id:   "leader.fencer_lost",
			doc:  "The fencer does not answer: /primary answers 503 until it does, and the deadline it was given stands.",
			when: owner(func(v *View) bool { return !v.Fencer.Alive }),
			then: func(v *View) Plan {
				return trouble("the fencer does not answer", "a fencer that starts again and adopts the server")
			},
		},
		{
			id:   "leader.dying",
			doc:  "The postmaster is gone, but processes of the server may be left, which could still acknowledge: wait until it is proven silent.",
			when: server(ServerDying),
			then: idle("the postmaster exited, its processes are being cleared away", "proof that no process is left"),
		},
	}, slices.Concat(ownerStartRules(owner, server), ownerStartingRules(owner, server), ownerRunningRules(owner), switchoverRules(owner))...)
}

func ownerStartRules(owner func(func(*View) bool) func(*View) bool, server func(ServerState) func(*View) bool) []rule {
	return []rule{
		{
			id:   "leader.give_up",
			doc:  "The leader's server does not come up again: the key is released, so that a standby takes over.",
			when: owner(func(v *View) bool { return v.Local.Server == ServerDown && startHopeless(v) }),
			then: func(v *View) Plan {
				r := v.Result(JobStart)
				return trouble(fmt.Sprintf("the server failed to start %d times: %s", r.Failures, r.Err), "",
					ReleaseLeader{Why: "server does not start"})
			},
		},
		{
			id: "leader.reserve",
			doc: "The timeline number that the reign reserved is used: this server was promoted in this reign already, and must not be again under a number that the next reign " +
				"will reserve as well (hole 10). The key is given up, so that whoever leads next, this member perhaps, reserves another.",
			when: owner(func(v *View) bool {
				down := v.Local.Server == ServerDown && (v.Local.Signal || settingTooWeak(v))
				return reservationUsed(v) && (down || v.standby())
			}),
			then: func(v *View) Plan {
				why := fmt.Sprintf("timeline %d, reserved for this reign, is used", v.Store.Cluster.Reign.NextTimeline)
				if v.Local.Server == ServerDown {
					return trouble(why, "", ReleaseLeader{Why: why})
				}
				return trouble(why, "", StopServer{Fast: true, ReleaseAfter: true})
			},
		},
		{
			id: "leader.start_as_standby",
			doc: "The key was won while this was a standby that has stopped since: it is started as such and promoted then, never started straight into a new timeline. " +
				"So is a primary whose files hold a setting of synchronous_standby_names that the published set does not allow.",
			when: owner(func(v *View) bool { return v.Local.Server == ServerDown && (v.Local.Signal || settingTooWeak(v)) }),
			then: func(v *View) Plan {
				if !v.Local.Signal {
					return trouble("synchronous_standby_names as the files have it asks for less than what is published", "", StartStandby{})
				}
				return Plan{Reason: "the server stopped before its promotion", Actions: []Action{StartStandby{}}}
			},
		},
		{
			id: "leader.crash_release",
			doc: "The leader's server is down, the cluster is synchronous, and as many voters run as a takeover needs: the key is released rather than " +
				"the server started in place. The voters lose nothing and are faster than a crash recovery.",
			when: owner(func(v *View) bool { return v.Local.Server == ServerDown && votersRun(v) }),
			then: func(v *View) Plan {
				return trouble("the server is down, and the voters run", "", ReleaseLeader{Why: "server down"})
			},
		},
		{
			id:   "leader.restart_in_place",
			doc:  "The leader's server is down and was a primary: it is started again in place, which loses nothing and keeps the timeline.",
			when: server(ServerDown),
			then: func(v *View) Plan {
				return Plan{Reason: "the server of the leader is down", Actions: []Action{StartPrimary{}}}
			},
		},
	}
}

func ownerStartingRules(owner func(func(*View) bool) func(*View) bool, server func(ServerState) func(*View) bool) []rule {
	return []rule{
		{
			id: "leader.start_timeout",
			doc: "The leader's server takes longer to start than primary_start_timeout, and another member could lead: " +
				"it is stopped and the key released.",
			when: owner(func(v *View) bool {
				return v.Local.Server == ServerStarting && v.Policy.PrimaryStartTimeout > 0 &&
					v.Now-v.Local.Since > v.Policy.PrimaryStartTimeout && v.anotherCouldLead()
			}),
			then: func(v *View) Plan {
				return trouble("the server has been starting for "+ago(v.Now-v.Local.Since), "",
					StopServer{ReleaseAfter: true})
			},
		},
		{
			id:   "leader.starting",
			doc:  "The leader's server is starting (crash recovery); the key is kept.",
			when: server(ServerStarting),
			then: idle("the server is starting", "the end of its recovery, or primary_start_timeout"),
		},
		{
			id:   "leader.silent",
			doc:  "The leader's postmaster runs but does not answer. Killing it on a guess could cost more than it saves: the key is kept and a person is told.",
			when: server(ServerSilent),
			then: func(v *View) Plan {
				return trouble("the server has not answered for "+ago(v.Now-v.Local.Since), "an answer, its exit, or a failover by hand")
			},
		},
	}
}

func ownerRunningRules(owner func(func(*View) bool) func(*View) bool) []rule {
	return []rule{
		{
			id:  "leader.restart_command",
			doc: "An operator asked for a restart of the leader's server.",
			when: owner(func(v *View) bool {
				_, ok := v.command(CommandRestart)
				return ok && v.Local.Server == ServerRunning && v.Local.Role == RolePrimary
			}),
			then: func(v *View) Plan {
				c, _ := v.command(CommandRestart)
				return Plan{Reason: "an operator asked for a restart", Actions: []Action{RestartServer{Command: c.ID}}}
			},
		},
		{
			id:  "leader.wait_snapshot",
			doc: "This member holds the key of a synchronous cluster, and has not seen the electorate that came with it yet, which says what its commits must wait for.",
			when: owner(func(v *View) bool {
				return v.Local.Server == ServerRunning && v.Local.Role == RoleStandby && v.snapshotOld() &&
					(v.Policy.Sync.Mode != SyncOff || v.Store.Cluster.Sync.Active())
			}),
			then: func(*View) Plan {
				return Plan{Reason: "waiting for etcd to show the own takeover", Wake: vanishedRetry}
			},
		},
		{
			id:   "leader.promote",
			doc:  "This member holds the key and its server is a standby: promote it.",
			when: owner(func(v *View) bool { return v.Local.Server == ServerRunning && v.Local.Role == RoleStandby }),
			then: func(v *View) Plan {
				if r := v.Result(JobPromote); r.Err != "" && r.Failures >= startAttempts && r.For == v.Own.Revision {
					return trouble("promotion failed: "+r.Err, "", StopServer{Fast: true, ReleaseAfter: true})
				}
				return Plan{Reason: "this member holds the leader key", Actions: []Action{Promote{Sync: v.syncForPromotion()}}}
			},
		},
	}
}

// votersRun says that members which look well reach the quorum of every published set, and that one of
// them may lead.
func votersRun(v *View) bool {
	sets, mine := v.published()
	if !mine || len(sets) == 0 || v.Policy.Sync.TimeOnly {
		return false
	}
	able := false
	for _, s := range sets {
		n := 0
		for _, voter := range s.Voters {
			m, ok := v.Store.Cluster.Member(voter.Name)
			if ok && m.IsPgha() && m.State == StateRunning && m.DataID == voter.Data {
				n++
				able = able || !m.Tags.NoFailover
			}
		}
		if n < s.Quorum {
			return false
		}
	}
	return able
}

// reservationUsed says that the server is on the timeline that the present reign, its own, reserved, or on a
// newer one: its next promotion would make a number that nobody reserved.
func reservationUsed(v *View) bool {
	r := v.Store.Cluster.Reign
	return r.Holder == v.Self.Name && r.ModRevision == v.Own.Revision && v.Local.Timeline != 0 && v.Local.Timeline >= r.NextTimeline
}

func startHopeless(v *View) bool {
	r := v.Result(JobStart)
	return r.Err != "" && r.Class != ClassCanceled && r.Failures >= startAttempts
}

// anotherCouldLead says that some other member looks able to lead, by what it published.
func (v *View) anotherCouldLead() bool {
	for _, m := range v.Store.Cluster.Members {
		if m.Name != v.Self.Name && m.State == StateRunning && !m.Tags.NoFailover && m.APIURL != "" {
			return true
		}
	}
	return false
}

func ago(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
