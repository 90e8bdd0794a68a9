package sim

import (
	"slices"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// execute carries out a plan: short steps at once or beside the loop, long ones as the one job.
func (a *agent) execute(v *election.View, p election.Plan) {
	for _, act := range p.Actions {
		if election.IsJob(act) {
			a.lastUsed = true
			a.startJob(v, act)
			continue
		}
		a.short(v, act)
	}
}

// short runs one short action.
func (a *agent) short(v *election.View, act election.Action) {
	switch act := act.(type) {
	case election.ForgetLeader:
		a.once("forget leader", func(t *task) error {
			a.drop(t)
			return nil
		})
	case election.CancelJob:
		a.job.cancel(a, act.Why)
	case election.RefuseCommand:
		a.finishCommand(act.Command)
	case election.ProbePeers:
		members := v.Store.Cluster.Members
		a.onceApart("probe peers", func(t *task) error { return a.probe(t, members) })
	case election.AskLease:
		a.onceApart("ask lease", func(t *task) error {
			gone, err := a.store.leaseGone(t, storeCall, act.Lease)
			if err == nil && a.vacancy.Since != 0 && a.vacancy.Lease == act.Lease {
				a.vacancy.LeaseGone = election.KnownBool(gone)
			}
			if err == nil && !gone {
				t.sleep(askPause)
			}
			return err
		})
	case election.AcquireLeader:
		a.once(acquireKey, func(t *task) error { return a.acquire(t, v, act) })
	case election.AdoptHandOver:
		if a.underway(acquireKey) || a.underway(takeOverKey) {
			return // the watch was faster than the answer, whose arrival is news
		}
		a.once(adoptKey, func(t *task) error { return a.adopt(t, act.Revision) })
	case election.ReleaseLeader:
		a.once("release leader", func(t *task) error { return a.release(t, act.Why) })
	case election.Follow:
		a.once("follow", func(t *task) error { return a.follow(t, v, act) })
	case election.ApplyConfig:
		a.config = v.Store.Cluster.ConfigRev
		if rev := v.Store.Cluster.Leader.ModRevision; rev != 0 && (v.Local.Role == election.RolePrimary || a.upstream != "") {
			a.released(rev)
		}
		if v.Local.Server == election.ServerRunning && v.Local.Role == election.RoleStandby {
			a.n.pg.follow(a.n.upstream) // the agent before may have died before its reload
		}
		a.news.raise()
	case election.SetSlots:
		a.n.slots = slices.Clone(act.Members)
		a.look.raise()
	case election.CheckpointNow:
		a.once("checkpoint", func(t *task) error {
			t.sleep(a.w.tail(10*time.Millisecond, 2*time.Second) + a.n.slowDisk())
			a.n.pg.checkpoint()
			a.look.raise()
			return nil
		})
	default:
		if !a.shortSync(v, act) {
			a.storeWrite(v, act)
		}
	}
}

// storeWrite runs one of the plain writes to the store.
func (a *agent) storeWrite(v *election.View, act election.Action) {
	var (
		txn dcs.Txn
		as  known
	)
	c, own := &v.Store.Cluster, v.Own.Revision
	switch act := act.(type) {
	case election.ClaimBootstrap:
		a.once(claimKey, func(t *task) error { return a.claimBootstrap(t, v, act.Reclaim) })
		return
	case election.WriteHistory:
		rows := a.historyRows()
		if slices.Equal(rows, c.History) {
			// The numbers have a gap that no writing closes.
			a.historyDone = v.Local.Timeline
		}
		if a.historyDone == v.Local.Timeline || a.underway(act.String()) {
			return
		}
		txn = dcs.WriteHistory(own, rows)
	case election.WriteStatus:
		txn, as = a.statusValue(own, dcs.WithOptime(c.Status, act.Optime))
		a.statusAt = a.now()
	case election.ClearBootstrap:
		txn = dcs.ClearBootstrap(act.Revision)
	case election.WriteInitialize:
		txn = dcs.AdoptInitialize(c.Initialize, v.Local.SystemID)
		if v.Own.Held() {
			txn = dcs.WriteInitialize(own, c.Initialize, v.Local.SystemID)
		}
	case election.OfferLease:
		txn = dcs.PutOffer(election.Offer{Name: v.Self.Name, Lease: v.Lease, Incarnation: a.inc, For: act.For})
	case election.WithdrawOffer:
		txn = dcs.WithdrawOffer(v.Self.Name, act.Revision)
	case election.NameCandidate:
		f := c.Failover
		f.Candidate = act.Candidate
		txn = dcs.ReplaceFailover(act.Revision, f)
	case election.ClearFailover:
		a.note("failover request cleared: %s", act.Why)
		txn = dcs.ClearFailover(act.Revision)
	case election.RestoreConfig:
		txn = dcs.RestoreConfig(own, a.set.encode())
	default:
		a.w.fail("shell", a.n, "action not carried out: "+act.String())
		return
	}
	key := act.String()
	if a.awaitsEcho(key, c.Revision) {
		return
	}
	a.onceApart(key, func(t *task) error {
		res, err := a.store.applyKnown(t, storeCall, txn, as)
		if err != nil {
			return err
		}
		if !res.Done {
			return errNot("somebody else changed it at the same time")
		}
		a.echo = append(a.echo, echoed{key, res.Revision, a.now()})
		return nil
	})
}

// awaitsEcho says that a write was done and is not in the snapshot yet.
func (a *agent) awaitsEcho(key string, seen int64) bool {
	a.echo = slices.DeleteFunc(a.echo, func(e echoed) bool { return e.rev <= seen || a.now()-e.at > echoTime })
	return slices.ContainsFunc(a.echo, func(e echoed) bool { return e.key == key })
}

func (a *agent) historyRows() []election.TimelineRecord {
	var rows []election.TimelineRecord
	for _, h := range a.n.disk.hist {
		rows = append(rows, election.TimelineRecord{Timeline: h.Timeline, Switch: h.Switch, Reason: "no recovery target specified"})
	}
	return rows
}

// acquire tries to create the leader key. Of an unknown outcome nothing follows.
func (a *agent) acquire(t *task, v *election.View, act election.AcquireLeader) error {
	reign := act.Reign
	lease, sent, ttl, err := a.freshLease(t)
	if err != nil {
		return err
	}
	if a.givingAway(v.Own.Revision) {
		return errNot("the key may be gone because it was given away")
	}
	reign.Lease, reign.TTL = lease, ttl
	// Putting the own key back is no race: the promises were given to this very title.
	if why := a.race.begin(t, a, v.Store.Cluster.Reign.ModRevision, v.Own.Held()); why != "" {
		return errNot(why)
	}
	res, err := a.store.apply(t, storeCall, dcs.AcquireLeaderWithSync(v.Self.Name, lease, v.Store.Cluster, reign, act.Sync))
	a.race.end(stillOpen(res, err))
	if a.w.bug(BugSentAtReceive) {
		sent = a.now()
	}
	if err != nil {
		return err
	}
	if !res.Done {
		return errNot("the leader key went to another member")
	}
	a.reserved = reign.NextTimeline
	a.note("leader key acquired at revision %d, epoch %d", res.Revision, reign.Epoch)
	if !a.sureOf(res.RaftTerm) {
		return errNot("the raft term changed since the keep-alive; the title is proven anew")
	}
	return a.take(t, election.Own{Revision: res.Revision, Lease: lease, Epoch: reign.Epoch, Sent: sent, TTL: ttl}, false)
}

// release gives the leader key up with a record that the server is down.
func (a *agent) release(t *task, why string) error {
	own := a.own
	if a.claim || !own.Held() {
		return nil
	}
	before := a.giving
	a.giving = own.Revision
	if !a.isDown() && !a.w.bug(BugReleaseRunning) {
		a.giving = before
		return errNot("the server is not proven down")
	}
	rec := election.Release{Name: a.n.name, Reason: why}
	var status *election.Status
	if ctl := a.n.disk.ctl; ctl.state == shutDown {
		rec.Checkpoint, rec.Timeline = ctl.end, ctl.tl
		s := dcs.WithOptime(a.cluster.Status, ctl.checkpoint)
		status = &s
	}
	// Disarmed first: the fencer does that behind any start that is still under way.
	if epoch := a.armEpoch; epoch != 0 && !a.w.bug(BugReleaseRunning) {
		if err := a.fence(t, func(f *fencer) error { return f.disarm(epoch) }); err != nil {
			a.giving = before // an earlier request may still be on its way
			return err
		}
		a.guard.armed = false
	}
	res, err := a.store.apply(t, storeCall, dcs.ReleaseLeader(own.Revision, rec, status))
	if err != nil {
		if kept, berr := a.resolve(t, own, err); berr != nil || kept {
			return err
		}
	}
	a.note("leader key released (done %t): %s", res.Done, why)
	a.drop(t)
	return nil
}

// follow points the running standby at another source.
func (a *agent) follow(t *task, v *election.View, act election.Follow) error {
	if err := a.writeFiles(v, act.Upstream); err != nil {
		return err
	}
	t.sleep(a.w.between(5*time.Millisecond, 50*time.Millisecond))
	a.n.pg.follow(a.n.upstream) // what the files say by then
	a.look.raise()
	return nil
}

// writeFiles renders the configuration with an upstream or none. A member that is frozen follows nobody
// for the sake of the leader key that it froze against.
func (a *agent) writeFiles(v *election.View, upstream string) error {
	rev := v.Store.Cluster.Leader.ModRevision
	if rec := a.n.bound; upstream != "" && rec != nil && !a.w.bug(BugForgetFreeze) && (rev == 0 || rev == rec.revision) {
		return errNot("frozen")
	}
	if a.upstream != upstream {
		a.followedAt = a.now()
	}
	a.n.upstream, a.upstream = upstream, upstream
	a.local.Upstream, a.local.UpstreamConnURL = upstream, connURL(upstream)
	a.config = a.cluster.ConfigRev
	if upstream != "" {
		a.released(rev)
	}
	return nil
}

// probe asks all other members in parallel and keeps their answers.
func (a *agent) probe(t *task, members []election.Member) error {
	started := a.now()
	a.round.StartedAt = started
	a.look.raise()
	answers := &[]election.Probe{}
	open := true
	want := 0
	for _, m := range members {
		n := a.w.node(m.Name)
		if n == nil || n == a.n || m.APIURL == "" {
			continue
		}
		want++
		a.w.net.send(a.n.index, n.index, func() {
			a.w.answerProbe(n, func(p election.Probe) {
				a.w.net.send(n.index, a.n.index, func() {
					a.p.run(func() {
						if open {
							*answers = append(*answers, p)
						}
					})
				})
			})
		})
	}
	limit := started + probeTime
	for len(*answers) < want && a.now() < limit {
		t.sleep(min(20*time.Millisecond, limit-a.now()))
	}
	open = false
	for _, m := range members {
		known := slices.ContainsFunc(*answers, func(p election.Probe) bool { return p.Name == m.Name })
		if m.Name != a.n.name && !known {
			*answers = append(*answers, election.Probe{Name: m.Name})
		}
	}
	slices.SortFunc(*answers, func(x, y election.Probe) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	a.round = election.Probes{StartedAt: started, DoneAt: max(a.now(), started+1), Answers: *answers}
	return nil
}

// answerProbe is the other side of a probe: its agent looks at its server and says what it is.
func (w *World) answerProbe(n *node, reply func(election.Probe)) {
	b := n.agent
	if b == nil || !n.power {
		return
	}
	b.p.run(func() {
		w.after(w.tail(time.Millisecond, 50*time.Millisecond), func() {
			b.p.run(func() {
				pr := election.Probe{Name: n.name, Answered: true, NoFailover: n.tags.NoFailover, Priority: n.tags.FailoverPriority}
				pr.Role, pr.Timeline, pr.LSN, pr.Streaming = b.pub.role, b.pub.tl, b.pub.lsn, b.pub.streaming
				if fresh, ok := b.examine(b.local); ok {
					pr.Role, pr.Timeline, pr.LSN, pr.Streaming = fresh.Role, fresh.Timeline, fresh.LSN, fresh.Streaming
				}
				if b.last != nil {
					pr.Lost = election.LostLeader(*b.last)
				}
				pr.WatchdogFailed = b.last != nil && election.CannotLead(*b.last) != ""
				if pr.Role == election.RoleUnknown {
					pr.Role = election.RoleStandby
				}
				reply(pr)
			})
		})
	})
}
