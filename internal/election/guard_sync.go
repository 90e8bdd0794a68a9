package election

import "slices"

// The sacred rules of the synchronous modes and of failsafe, in other words than the rules that keep
// them: by trying out what may have been acknowledged against who may take over.

// bruteLimit is the number of names up to which every possible set of acknowledging standbys is tried.
const bruteLimit = 16

// escapes says that a commit acknowledged by this setting can be missed by a quorum of the set: some
// choice of standbys that may have released it leaves a quorum of voters that knows nothing of it.
func escapes(s SyncSetting, set VoterSet) bool {
	if s.Wait <= 0 || len(s.Names) < s.Wait {
		return set.Quorum <= len(set.Voters) && s.Wait <= 0
	}
	names := s.Names
	if len(names) > bruteLimit {
		return tooLargeToTry(s, set)
	}
	for mask := range uint32(1) << len(names) {
		if countBits(mask) != s.Wait {
			continue
		}
		ignorant := 0
		for _, voter := range set.Voters {
			i := slices.Index(names, voter.Name)
			if i < 0 || mask&(1<<i) == 0 {
				ignorant++
			}
		}
		if ignorant >= set.Quorum {
			return true
		}
	}
	return false
}

func countBits(mask uint32) int {
	n := 0
	for ; mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}

// tooLargeToTry counts instead: the worst choice takes those that are no voters first.
func tooLargeToTry(s SyncSetting, set VoterSet) bool {
	strangers := 0
	for _, name := range s.Names {
		if _, ok := set.Voter(name); !ok {
			strangers++
		}
	}
	return len(set.Voters)-max(0, s.Wait-strangers) >= set.Quorum
}

// openSets are the sets whose quorums a takeover from this state of the key needs. Nobody may take over
// when there are none, which Patroni's fields say by naming nobody.
func openSets(s SyncState) []VoterSet {
	if s.Electorate != nil {
		return s.Electorate.Sets
	}
	if len(s.Standbys) == 0 {
		return nil
	}
	set := VoterSet{Quorum: min(s.Quorum+1, len(s.Standbys))}
	for _, name := range s.Standbys {
		set.Voters = append(set.Voters, Voter{Name: name})
	}
	return []VoterSet{set}
}

// covered says that no takeover that the key allows can miss a commit acknowledged by this setting.
func covered(s SyncSetting, key SyncState) bool {
	sets := openSets(key)
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set VoterSet) bool { return !escapes(s, without(set, key.Leader)) })
}

// without leaves the leader out of a set: it does not vote against itself.
func without(set VoterSet, leader string) VoterSet {
	set.Voters = slices.DeleteFunc(slices.Clone(set.Voters), func(v Voter) bool { return v.Name == leader })
	return set
}

func sameQuorum(a, b VoterSet) bool {
	return a.Quorum == b.Quorum && slices.Equal(a.Voters, b.Voters)
}

// includes says that every set of the first list is in the second.
func includes(old, all []VoterSet) bool {
	for _, s := range old {
		if !slices.ContainsFunc(all, func(o VoterSet) bool { return sameQuorum(s, o) }) {
			return false
		}
	}
	return true
}

func writeSyncViolation(v *View, s SyncState) string {
	next, have := openSets(s), v.Store.Cluster.Sync
	switch {
	case v.Own.Revision == 0:
		return "the sync key is written by one that does not lead"
	case s.Leader != v.Self.Name:
		return "the sync key names another leader than its writer"
	case s.Electorate != nil && s.Electorate.LeaderData != v.Local.DataID:
		return "the sync key names another copy of the data than the leader's"
	case len(s.Standbys) > 0 && (len(next) != 1 || !slices.Equal(s.Standbys, next[0].Names()) || s.Quorum != next[0].Quorum-1):
		return "the sync key tells Patroni members of a set that is not the only one"
	case len(next) == 0:
		return ""
	}
	now := v.Local.Sync
	if v.Store.SyncWrite.Sent && slices.Equal(s.Standbys, have.Standbys) && includes(next, openSets(have)) && includes(openSets(have), next) {
		return "" // what is there once more
	}
	own := have.Leader == v.Self.Name && (have.Electorate == nil || have.Electorate.LeaderData == v.Local.DataID)
	if before := openSets(have); own && len(before) > 0 && includes(before, next) {
		return "" // it only asks for more than before
	}
	if !now.Known || now.Foreign || !now.InForce || now.Barrier == 0 {
		return "a set is published alone whose setting is not proven to be in force"
	}
	for _, set := range next {
		if !escapes(now.Setting, set) && !missesBarrier(v, set) {
			return ""
		}
	}
	return "a set is published whose quorums may miss an acknowledged commit"
}

// missesBarrier says that some quorum of the set may lack what was acknowledged before the setting came
// into force.
func missesBarrier(v *View, set VoterSet) bool {
	ignorant := 0
	for _, voter := range set.Voters {
		have := false
		for _, w := range v.Local.Walsenders {
			other := v.Local.Sync.Copies != nil && voter.Data != "" && !slices.Contains(v.Local.Sync.Copies, voter)
			have = have || !other && w.Name == voter.Name && w.State == "streaming" && w.LSN >= v.Local.Sync.Barrier
		}
		if !have {
			ignorant++
		}
	}
	return ignorant >= set.Quorum
}

// settingViolation: nothing weaker than what is published, before the publishing is known.
func settingViolation(v *View, s SyncSetting) string {
	have := v.Store.Cluster.Sync
	switch {
	case v.Own.Revision == 0 && v.Local.Role == RoleStandby && s.Wait > 0:
		// No effect yet, and what stands when it gets one is judged with the promotion.
	case have.Active() && have.Leader != v.Self.Name:
		return "the setting is changed under the electorate of another leader"
	case have.Active() && !covered(s, have):
		return "a setting by which a commit may be acknowledged that the published quorums miss"
	case v.Store.SyncWrite.Sent && v.Store.SyncWrite.Over == have.ModRevision && have.ModRevision != 0 &&
		!s.Equal(v.Local.Sync.Setting):
		return "the setting is changed while the sync key may change under it"
	case slices.Contains(s.Names, "*"), slices.Contains(s.Names, v.Self.Name):
		return "a setting that anybody, or the leader itself, could satisfy"
	}
	return ""
}

func takeOverViolation(v *View, t TakeOver) string {
	c := &v.Store.Cluster
	old := c.Sync.Electorate
	switch {
	case v.Own.Revision != 0:
		return "a takeover by the holder of a title"
	case v.Lease == 0:
		return "a takeover without a lease"
	case t.Over != c.Leader.ModRevision:
		return "a takeover over another leader key than the one that is there"
	case old == nil || len(old.Sets) == 0 || c.Sync.Leader != c.Reign.Holder:
		return "a takeover by votes where no electorate is published for this reign"
	case v.Store.Vacancy.Replaced && !c.Leader.Present:
		return "a takeover by the votes of another store"
	case c.Leader.Present && c.Leader.ModRevision != c.Reign.ModRevision:
		return "a takeover by votes against a reign that another's followed"
	case !v.Local.Freeze.Recorded || !v.Local.Freeze.Proven || v.Local.Freeze.LeaderRevision != c.Reign.ModRevision:
		return "a takeover by a member that is not frozen itself"
	}
	if why := votesViolation(v, t.Votes); why != "" {
		return why
	}
	return electorateViolation(v, t.Sync, t.Reign.Epoch, true)
}

func votesViolation(v *View, votes []Vote) string {
	own := false
	for _, vote := range votes {
		if why := countedViolation(v, vote); why != "" {
			return why
		}
		own = own || vote.Name == v.Self.Name && vote.Data == v.Local.DataID
	}
	switch {
	case !own:
		return "a takeover without the own vote"
	case v.Local.Freeze.Timeline < v.Store.Cluster.Reign.ParentTimeline:
		return "a takeover by one whose log ends before the timeline that the leader came from"
	}
	for _, set := range v.Store.Cluster.Sync.Electorate.Sets {
		missing := set.Quorum
		for _, voter := range set.Voters {
			if slices.ContainsFunc(votes, func(o Vote) bool { return o.Name == voter.Name && o.Data == voter.Data && o.Data != "" }) {
				missing--
			}
		}
		if missing > 0 {
			return "a takeover without the quorum of every published set"
		}
	}
	return ""
}

// countedViolation judges one vote that a takeover counts.
func countedViolation(v *View, vote Vote) string {
	c := &v.Store.Cluster
	stored, ok := c.Vote(vote.Name)
	switch {
	case !ok || stored != vote || vote.ModRevision == 0:
		return "a takeover by a vote that is not in the store"
	case vote.Epoch != c.Reign.Epoch || vote.LeaderRevision != c.Reign.ModRevision || vote.LeaderRevision == 0:
		return "a takeover by a vote against another reign"
	case vote.Timeline > v.Local.Freeze.Timeline || vote.Timeline == v.Local.Freeze.Timeline && vote.LSN > v.Local.Freeze.LSN:
		return "a takeover by one that holds less than a vote it counts"
	case vote.Timeline > c.Reign.ParentTimeline && vote.Timeline < c.Reign.NextTimeline:
		return "a takeover by a vote from a branch that the leader's history left aside"
	}
	return ""
}

// electorateViolation judges the key that comes with a new reign: Patroni's fields name nobody, and what
// is open to a takeover asks for the old quorums as well.
func electorateViolation(v *View, s SyncState, epoch uint64, mustInherit bool) string {
	next := openSets(s)
	switch {
	case s.Leader != v.Self.Name:
		return "a reign begins with a sync key that names another leader"
	case len(s.Standbys) > 0 || s.Quorum != 0:
		return "a reign begins with a sync key that tells Patroni members whom to follow"
	case s.Electorate != nil && (s.Electorate.Epoch != epoch || s.Electorate.LeaderData != v.Local.DataID):
		return "a reign begins with the electorate of another"
	case len(next) == 0:
		return ""
	case !includes(openSets(v.Store.Cluster.Sync), next):
		return "a reign begins with an electorate that forgets the old quorums"
	case mustInherit && len(next) <= len(openSets(v.Store.Cluster.Sync)):
		return "a reign begins without a set of its own"
	}
	return ""
}

// acquireSyncViolation: time alone makes no leader of a synchronous cluster.
func acquireSyncViolation(v *View, a AcquireLeader) string {
	c := &v.Store.Cluster
	s, rel := c.Sync, c.Release
	if v.Fencer.PromiseUntil > v.Now && v.Own.Revision == 0 {
		return "a promise not to race is broken"
	}
	if s.Leader == "" || v.Own.Revision != 0 {
		return ""
	}
	copyLed := s.Leader == v.Self.Name && (s.Electorate == nil || s.Electorate.LeaderData == v.Local.DataID && v.Local.DataID != "")
	switch {
	case copyLed:
	case c.Failover.Candidate == v.Self.Name && c.Failover.Leader == "":
	case rel.Checkpoint != 0 && v.Local.LSN >= rel.Checkpoint && rel.Timeline == v.Local.Timeline && rel.LeaderRevision != 0:
	case v.Policy.Pause && v.Local.Role == RolePrimary:
	case s.Electorate != nil && !v.Policy.Sync.TimeOnly && !v.Store.Vacancy.Replaced:
		return "the key of a synchronous cluster is taken by time alone"
	}
	if a.Sync == nil {
		if !copyLed {
			return "the key of a synchronous cluster is taken under the electorate of another"
		}
		return ""
	}
	return electorateViolation(v, *a.Sync, a.Reign.Epoch, false)
}

// boundViolation: a member never follows the holder that its vote, or its freeze, is against.
func boundViolation(v *View) string {
	c, f := &v.Store.Cluster, v.Local.Freeze
	if !c.Leader.Present {
		return ""
	}
	if f.Recorded && f.LeaderRevision == c.Leader.ModRevision {
		return "a frozen member follows the leader it is frozen against"
	}
	vote, _ := c.Vote(v.Self.Name)
	if vote.LeaderRevision != 0 && (vote.LeaderRevision == c.Leader.ModRevision || vote.LeaderRevision == c.Reign.ModRevision) ||
		f.Recorded && f.VoteSent && f.LeaderRevision >= c.Reign.ModRevision {
		return "a member follows a leader while its vote stands, or may still arrive, in a reign that is not over"
	}
	return ""
}

func voteViolation(v *View, vote Vote) string {
	f, r := v.Local.Freeze, v.Store.Cluster.Reign
	switch {
	case !f.Recorded || !f.Proven:
		return "a vote by a server that is not proven frozen"
	case f.LeaderRevision != r.ModRevision || vote.LeaderRevision != r.ModRevision || vote.Epoch != r.Epoch || f.Epoch != r.Epoch:
		return "a vote against another reign than the freeze"
	case vote.Timeline != f.Timeline || vote.LSN != f.LSN || vote.LSN == 0:
		return "a vote that does not say where the frozen log ends"
	case vote.Name != v.Self.Name || vote.Data != v.Local.DataID || vote.Data == "":
		return "a vote for another copy of the data"
	case v.Local.Server != ServerRunning || v.Local.Role != RoleStandby:
		return "a vote by a server that is no running standby"
	}
	return ""
}

func thawViolation(v *View) string {
	vote, _ := v.Store.Cluster.Vote(v.Self.Name)
	if v.Local.Freeze.VoteSent || vote.LeaderRevision != 0 && vote.LeaderRevision >= v.Store.Cluster.Reign.ModRevision {
		return "a member thaws while its vote stands or may still arrive"
	}
	if l := v.Store.Cluster.Leader; !l.Present {
		return "a member thaws while nobody leads"
	}
	return ""
}

func withdrawViolation(v *View, w WithdrawVote) string {
	c := &v.Store.Cluster
	vote, _ := c.Vote(v.Self.Name)
	against := vote.LeaderRevision
	if v.Local.Freeze.Recorded {
		against = max(against, v.Local.Freeze.LeaderRevision)
	}
	free := v.Own.Revision != 0 || v.Stopping && v.Local.Server == ServerDown // it follows nobody anyway
	if w.LeaderRevision == 0 && !free && against >= c.Reign.ModRevision && (!c.Leader.Present || c.Leader.ModRevision == against) {
		return "a vote is withdrawn without asking whether its leader still leads"
	}
	return ""
}

func promoteViolation(v *View, s SyncSetting) string {
	have, reign := v.Store.Cluster.Sync, v.Store.Cluster.Reign
	if v.Local.Server == ServerRunning && reign.Holder == v.Self.Name && reign.ModRevision == v.Own.Revision && reign.NextTimeline <= v.Local.Timeline && v.Local.Timeline > 0 {
		return "a promotion to a timeline that nobody reserved"
	}
	if v.Store.Cluster.Revision < v.Own.Revision && (v.Policy.Sync.Mode != SyncOff || have.Active()) && v.Local.Server == ServerRunning && v.Local.Role == RoleStandby {
		return "a promotion before the electorate that came with the title is known"
	}
	if have.Leader == v.Self.Name && !covered(s, have) {
		return "a promotion with a setting by which a commit may be acknowledged that the published quorums miss"
	}
	return ""
}

func handOverSyncViolation(v *View, h HandOver) string {
	if h.OfferRevision == 0 || !v.Store.Cluster.Sync.Active() {
		return ""
	}
	switch {
	case h.Sync == nil:
		return "the key of a synchronous cluster is handed over under the electorate of another"
	case h.Sync.Leader != h.Candidate || len(h.Sync.Standbys) > 0 || h.Sync.Quorum != 0:
		return "a hand-over with a sync key that is not the candidate's own"
	}
	sets := openSets(*h.Sync)
	whole := func(s VoterSet) bool { // each of its voters holds everything
		return !slices.ContainsFunc(s.Voters, func(o Voter) bool { return o.Name != v.Self.Name && o.Name != h.Candidate })
	}
	if len(sets) > 0 && !slices.ContainsFunc(sets, whole) {
		return "a hand-over with an electorate whose quorums may miss an acknowledged commit"
	}
	return ""
}
