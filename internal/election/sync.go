package election

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// syncGraceFloor is the least time for which a voter that stopped streaming keeps its place.
const syncGraceFloor = 2 * time.Second

// syncGrace is how long a voter may be without a stream before the set does without it. One that has
// voted against this leader is frozen on purpose, and given longer to come back.
func (v *View) syncGrace(name string) Instant {
	grace := max(2*v.Policy.Sync.Silence, syncGraceFloor)
	if vote, ok := v.Store.Cluster.Vote(name); ok && v.againstThisReign(vote) {
		grace *= 4
	}
	return grace
}

// streamsStill says that a standby streams, or did so a moment ago.
func (v *View) streamsStill(name string) bool {
	if _, ok := walsender(v, name); ok {
		return true
	}
	seen := slices.ContainsFunc(v.Local.Streamed, func(s Streamed) bool { return s.Name == name })
	if !seen && len(v.Local.Walsenders) > 0 {
		return false // the others have come, and it has not
	}
	// Nobody can have streamed from a primary before it was one.
	at := max(v.Store.SeenAt, v.Local.Since, v.Result(JobPromote).At, v.Result(JobStart).At, v.Result(JobRestart).At)
	for _, s := range v.Local.Streamed {
		if s.Name == name {
			at = max(at, s.At)
		}
	}
	return v.Now-at < v.syncGrace(name)
}

// published is what the store shows of the own electorate: the sets, and whether they are this
// leader's at all, made from the copy of the data that it runs on.
func (v *View) published() (sets []VoterSet, mine bool) {
	s := v.Store.Cluster.Sync
	if s.Electorate == nil || s.Leader != v.Self.Name || v.Local.DataID == "" ||
		s.Electorate.LeaderData != v.Local.DataID || s.Electorate.Epoch > v.Store.Cluster.Reign.Epoch {
		return nil, false
	}
	return s.Electorate.Sets, true
}

// syncCandidate is a standby that may be in the set.
type syncCandidate struct {
	voter    Voter
	member   *Member
	current  bool
	lsn      LSN
	streams  bool
	failover bool
}

// syncCandidates lists who may be in the set, best first: who may lead before who may not, then by
// sync_priority, then who is in the set already, then the most advanced, then by name.
func syncCandidates(v *View) []syncCandidate {
	var all []syncCandidate
	best := v.Local.LSN
	for i := range v.Store.Cluster.Members {
		cand, ok := syncCandidateOf(v, &v.Store.Cluster.Members[i])
		if ok {
			all = append(all, cand)
		}
	}
	if len(all) > 1 { // with more than one, the lag is that behind the best of them (row H-130)
		best = 0
		for _, cand := range all {
			best = max(best, cand.lsn)
		}
	}
	all = slices.DeleteFunc(all, func(cand syncCandidate) bool {
		limit := v.Policy.Sync.MaximumLag
		return limit > 0 && cand.streams && behind(best, cand.lsn) > limit
	})
	slices.SortFunc(all, func(a, b syncCandidate) int {
		return cmp.Or(
			yesFirst(a.failover, b.failover), cmp.Compare(b.member.Tags.SyncPriority, a.member.Tags.SyncPriority),
			yesFirst(a.current, b.current), cmp.Compare(b.lsn, a.lsn), strings.Compare(a.voter.Name, b.voter.Name),
		)
	})
	return all
}

func yesFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func syncCandidateOf(v *View, m *Member) (syncCandidate, bool) {
	if m.Name == v.Self.Name || m.Tags.NoSync || m.Tags.NoStream || m.IsPgha() && m.DataID == "" {
		return syncCandidate{}, false
	}
	cand := syncCandidate{voter: Voter{Name: m.Name}, member: m, failover: !m.Tags.NoFailover}
	if m.IsPgha() {
		cand.voter.Data = m.DataID
	}
	cand.current = slices.Contains(v.Local.Sync.Setting.Names, m.Name)
	w, streams := walsender(v, m.Name)
	cand.lsn, cand.streams = w.LSN, streams
	if streams {
		return cand, m.State == StateRunning || cand.current
	}
	return cand, cand.current && v.streamsStill(m.Name)
}

// wantedSet is the set that the configuration and the standbys call for. No voters: there is nobody.
func wantedSet(v *View) VoterSet {
	nodes := max(v.Policy.Sync.Nodes, 1)
	var chosen []Voter
	for _, cand := range syncCandidates(v) {
		// A voter that may not lead can only get in the way of a takeover: it is taken for want of
		// better ones (rows H-128 and H-145).
		if len(chosen) >= nodes && (v.Policy.Sync.Mode == SyncOn || !cand.failover) {
			break
		}
		chosen = append(chosen, cand.voter)
	}
	chosen = keepMissing(v, chosen, nodes)
	slices.SortFunc(chosen, func(a, b Voter) int { return strings.Compare(a.Name, b.Name) })
	n := len(chosen)
	wait := min(nodes, n)
	if v.Policy.Sync.Mode == SyncOn {
		wait = n
	}
	return VoterSet{Voters: chosen, Wait: wait, Quorum: n - wait + 1}
}

// keepMissing adds the voters of the present setting whose member key is gone, because their agent is,
// while they stream or did so a moment ago.
func keepMissing(v *View, chosen []Voter, nodes int) []Voter {
	sets, mine := v.published()
	if !mine || len(sets) == 0 {
		return chosen
	}
	for _, voter := range sets[len(sets)-1].Voters {
		if v.Policy.Sync.Mode == SyncOn && len(chosen) >= nodes {
			break
		}
		if _, there := v.Store.Cluster.Member(voter.Name); there || voter.Name == v.Self.Name {
			continue
		}
		if slices.Contains(v.Local.Sync.Setting.Names, voter.Name) && v.streamsStill(voter.Name) {
			chosen = append(chosen, voter)
		}
	}
	return chosen
}

// hasPatroni says that some voter is no pgha member. Such a set gives no right to a takeover by votes.
func hasPatroni(set VoterSet) bool {
	return slices.ContainsFunc(set.Voters, func(v Voter) bool { return v.Data == "" })
}

// syncPublished is the sync key for these sets. Patroni's fields name voters only in the steady state
// of one set: until then a Patroni lets nobody but the leader lead.
func syncPublished(v *View, sets []VoterSet) SyncState {
	s := SyncState{Leader: v.Self.Name}
	if len(sets) == 1 {
		s.Standbys, s.Quorum = sets[0].Names(), sets[0].Quorum-1
	}
	if len(sets) == 1 && hasPatroni(sets[0]) {
		return s
	}
	s.Electorate = &Electorate{Epoch: v.Store.Cluster.Reign.Epoch, LeaderData: v.Local.DataID, Sets: sets}
	return s
}

// flushed says that enough voters of the set have all of the log up to the barrier.
func flushed(v *View, set VoterSet) bool {
	n := 0
	for _, voter := range set.Voters {
		if w, ok := walsender(v, voter.Name); ok && w.LSN >= v.Local.Sync.Barrier {
			n++
		}
	}
	return v.Local.Sync.Barrier != 0 && set.Wait > 0 && n >= set.Wait
}

// syncMove is one step of the set machine.
type syncMove uint8

const (
	syncRest syncMove = iota
	syncActivate
	syncAnnounce
	syncApply
	syncConfirm
	syncLoosen
	syncRelax
	syncTurnOff
	syncSettle
)

// syncStep is what the set machine does next. Every change goes the same way, each step from facts
// only, so that a leader that starts anew at any point goes on from there: publish the old sets
// together with the new one; make the new setting the one in force; when enough of the new voters hold
// all that was acknowledged by the old one, publish the new set alone.
type syncStep struct {
	move    syncMove
	state   SyncState
	setting SyncSetting
}

// action is what carries the step out.
func (s syncStep) action() Action {
	switch s.move {
	case syncApply, syncRelax:
		return SetSync{Setting: s.setting}
	case syncTurnOff:
		return DeleteSync{}
	default: // everything else is published
		return WriteSync{State: s.state}
	}
}

func nextSyncStep(v *View) syncStep {
	step := wantedSyncStep(v)
	// What a setting must cover is what the store shows, and what may still arrive there. Until that is
	// one and the same the setting stays; writing what the store shows once more makes it so.
	changes := step.move == syncApply && !v.Local.Sync.Setting.Equal(step.setting) || step.move == syncRelax
	if changes && v.syncUnsettled() && v.Store.Cluster.Sync.ModRevision != 0 {
		state := v.Store.Cluster.Sync
		state.ModRevision = 0
		return syncStep{move: syncSettle, state: state}
	}
	return step
}

func wantedSyncStep(v *View) syncStep {
	now := v.Local.Sync
	if v.Policy.Sync.Mode == SyncOff {
		switch {
		case v.Store.Cluster.Sync.ModRevision != 0:
			return syncStep{move: syncTurnOff}
		case now.Known && !now.Foreign && now.Setting.Wait != 0 && !now.Setting.Equal(v.Policy.Sync.Own):
			return syncStep{move: syncRelax}
		}
		return syncStep{}
	}
	if !now.Known || v.Local.DataID == "" || v.snapshotOld() {
		return syncStep{}
	}
	sets, mine := v.published()
	want := wantedSet(v)
	switch {
	case len(want.Voters) == 0 && v.Policy.Sync.Strict && namesVoters(v) && now.Setting.Wait > 0 && !now.Foreign:
		return syncStep{} // a set that a Patroni knows, too: it is kept, and commits wait
	case len(want.Voters) == 0 && !mine:
		return syncStep{move: syncActivate, state: syncPublished(v, nil)}
	case len(want.Voters) == 0:
		return syncWithNobody(v, sets)
	case hasPatroni(want):
		return syncWithPatroni(v, want, sets, mine)
	case !mine:
		return syncStep{move: syncActivate, state: syncPublished(v, nil)}
	}
	return syncWith(v, want, sets)
}

// namesVoters says that the key is this leader's and names, by Patroni's fields alone, who may lead.
func namesVoters(v *View) bool {
	s := v.Store.Cluster.Sync
	return s.Electorate == nil && s.Leader == v.Self.Name && len(s.Standbys) > 0
}

// settled says that the server is known to go by this very setting.
func settled(v *View, s SyncSetting) bool {
	now := v.Local.Sync
	return !now.Foreign && now.InForce && now.Setting.Equal(s)
}

// sameCopies says that the barrier was read for these very copies of the voters' data. One that was cloned
// anew goes by the same name, and lacks what the copy before it acknowledged since an older barrier.
func sameCopies(v *View, set VoterSet) bool {
	copies := v.Local.Sync.Copies
	return copies == nil || !slices.ContainsFunc(set.Voters, func(o Voter) bool { return o.Data != "" && !slices.Contains(copies, o) })
}

// CopiesNamed are the standbys of a setting with the copies of the data that stand behind the names now, for
// LocalSync.Copies. One whose member key is gone, because its agent is, goes by the copy that the newest
// published set names: whatever else comes back under that name publishes itself before it can become a voter.
func CopiesNamed(s SyncSetting, c Cluster) []Voter {
	out := make([]Voter, 0, len(s.Names))
	for _, name := range s.Names {
		m, there := c.Member(name)
		voter := Voter{Name: name, Data: m.DataID}
		if !there && c.Sync.Electorate != nil {
			for _, set := range slices.Backward(c.Sync.Electorate.Sets) {
				if known, in := set.Voter(name); in {
					voter = known
					break
				}
			}
		}
		out = append(out, voter)
	}
	return out
}

// syncWith moves towards a set of pgha members.
func syncWith(v *View, want VoterSet, sets []VoterSet) syncStep {
	setting := settingOf(want, v.Policy.Sync.Mode == SyncQuorum)
	alone := len(sets) == 1 && sets[0].Equal(want)
	switch {
	case len(sets) > 0 && !slices.ContainsFunc(sets, want.Equal):
		return syncStep{move: syncAnnounce, state: syncPublished(v, append(needed(v, sets), want))}
	case !settled(v, setting) || !sameCopies(v, want):
		return syncStep{move: syncApply, setting: setting}
	case alone && slices.Equal(v.Store.Cluster.Sync.Standbys, want.Names()) && v.Store.Cluster.Sync.Quorum == want.Quorum-1:
		return syncStep{}
	case alone || flushed(v, want):
		return syncStep{move: syncConfirm, state: syncPublished(v, []VoterSet{want})}
	}
	return syncStep{}
}

// needed are the published sets that cannot be left out yet: only the one that the setting in force
// belongs to, if its voters hold everything acknowledged before; otherwise all.
func needed(v *View, sets []VoterSet) []VoterSet {
	for _, s := range sets {
		if s.Wait > 0 && settled(v, settingOf(s, v.Local.Sync.Setting.Any)) && sameCopies(v, s) && flushed(v, s) {
			return []VoterSet{s}
		}
	}
	return slices.Clone(sets)
}

// syncWithPatroni moves towards a set with a Patroni in it. There is room for one set only, so the
// way leads through the set of nobody, in which only the leader may lead.
func syncWithPatroni(v *View, want VoterSet, sets []VoterSet, mine bool) syncStep {
	setting := settingOf(want, v.Policy.Sync.Mode == SyncQuorum)
	goal, have := syncPublished(v, []VoterSet{want}), v.Store.Cluster.Sync
	there := have.Leader == goal.Leader && have.Quorum == goal.Quorum && slices.Equal(have.Standbys, goal.Standbys) && have.Electorate == nil
	switch {
	case there && settled(v, setting):
		return syncStep{}
	case there && v.Local.Sync.Setting.Equal(setting), mine && len(sets) == 0 && !(settled(v, setting) && sameCopies(v, want)):
		return syncStep{move: syncApply, setting: setting}
	case mine && len(sets) == 0 && flushed(v, want):
		return syncStep{move: syncConfirm, state: goal}
	case mine && len(sets) == 0:
		return syncStep{}
	}
	return syncStep{move: syncActivate, state: syncPublished(v, nil)}
}

// syncWithNobody is for a leader without a single standby that could be in the set.
func syncWithNobody(v *View, sets []VoterSet) syncStep {
	now := v.Local.Sync
	if v.Policy.Sync.Strict {
		// Commits wait. The setting stays what it is, unless it waits for nobody.
		switch {
		case now.Setting.Wait > 0 && !now.Foreign:
			return syncStep{}
		case len(sets) == 0:
			return syncStep{move: syncApply, setting: strictSetting(v)}
		}
		return syncStep{move: syncApply, setting: settingOf(lastWaiting(sets), v.Policy.Sync.Mode == SyncQuorum)}
	}
	switch {
	case len(sets) > 0:
		return syncStep{move: syncLoosen, state: syncPublished(v, nil)}
	case now.Foreign || now.Setting.Wait != 0:
		return syncStep{move: syncRelax}
	}
	return syncStep{}
}

func strictSetting(v *View) SyncSetting {
	return SyncSetting{Any: v.Policy.Sync.Mode == SyncQuorum, Wait: 1, Names: []string{StrictPlaceholder}}
}

// lastWaiting is the newest published set that commits wait by; without voters: there is none.
func lastWaiting(sets []VoterSet) VoterSet {
	for _, s := range slices.Backward(sets) {
		if s.Wait > 0 {
			return s
		}
	}
	return VoterSet{}
}
