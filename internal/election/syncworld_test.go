package election

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// syncWorld is a cluster in which standbys come and go, agents restart between any two steps of a change,
// configuration changes, writes arrive late, and leaders are replaced. Commits are numbers, and a log is
// a list of them. It knows what was acknowledged, which is what no rule can see.
type syncWorld struct {
	r      *rand.Rand
	bug    worldBug
	now    Instant
	policy SyncPolicy
	nodes  []*worldNode
	leader *worldNode
	epoch  uint64
	parent Timeline // that the leader came from

	store, seen SyncState // the sync key, and as the leader's snapshot shows it
	revision    int64
	unsettled   SyncWrite
	late        []SyncState // writes on their way, over the revision that each bears

	setting  SyncSetting
	possible []SyncSetting // settings that some process may still go by
	inForce  bool
	again    bool // another proof is asked for
	barrier  LSN
	copies   []Voter

	acked   map[int]bool
	commits int
	trace   []string

	acks, takeovers, confirmed, refused int
}

type worldNode struct {
	name, data string
	log        []int
	streams    bool
	gone       bool // its agent, and with it its member key
	noSync     bool
	noFailover bool
	patroni    bool
	streamed   Instant
	copies     int
}

// worldBug is a deliberate mistake (safety review, section 4).
type worldBug string

const (
	bugNone         worldBug = ""
	bugNoBarrier    worldBug = "B3: the new set is published before it holds what the old one acknowledged"
	bugEmptyPromote worldBug = "B4: no commit waits after a promotion"
	bugSetFirst     worldBug = "B13: commits wait no more before that is published"
	bugOneStep      worldBug = "B14: a set is replaced in one step"
	bugNotInForce   worldBug = "hole 13: a setting counts as in force when it is written"
	bugNotBest      worldBug = "B18: the winner holds less than a vote it counts"
	bugFromConfig   worldBug = "B20: the quorum is made from the configuration"
	bugLastSetOnly  worldBug = "B3: only the quorum of the newest set is asked for"
	bugNoInherit    worldBug = "B3: a new reign forgets the sets of the one before"
	bugOtherCopy    worldBug = "B11: the vote of another copy of the data counts"
	bugDeadBranch   worldBug = "hole 17: the highest timeline wins, whatever branch it is"
	bugUnsettled    worldBug = "B21: a write of unknown outcome counts as not done"
	bugRecompute    worldBug = "a new reign waits for fewer than it published"
)

func newSyncWorld(seed uint64, bug worldBug) *syncWorld {
	w := &syncWorld{
		r: rand.New(rand.NewPCG(seed, 1)), bug: bug, now: testNow, epoch: 1, acked: map[int]bool{}, revision: syncRev,
		policy: SyncPolicy{Mode: SyncQuorum, Nodes: 1, Silence: testSilence},
	}
	for _, n := range []string{"a", "b", "c", "d"}[:3+w.r.IntN(2)] {
		w.nodes = append(w.nodes, &worldNode{name: n, data: n + "0", streams: true, streamed: w.now})
	}
	w.leader = w.nodes[0]
	w.possible = []SyncSetting{{}}
	return w
}

func (w *syncWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// prefix says that a log continues another.
func prefix(short, long []int) bool {
	return len(short) <= len(long) && slices.Equal(short, long[:len(short)])
}

// end is where a log ends. Zero means "not known" to the rules.
func (n *worldNode) end() LSN { return LSN(len(n.log) + 1) }

// timeline is that of the last promotion in the log.
func (n *worldNode) timeline() Timeline {
	for _, c := range slices.Backward(n.log) {
		if c < 0 {
			return Timeline(-c)
		}
	}
	return 1
}

func (n *worldNode) contains(acked map[int]bool) bool {
	for c := range acked {
		if !slices.Contains(n.log, c) {
			return false
		}
	}
	return true
}

// view is what the leader's agent sees.
func (w *syncWorld) view(n *worldNode) View {
	v := healthyLeader()
	v.Now, v.Self.Name, v.Policy.Sync = w.now, n.name, w.policy
	v.Own.Sent = w.now
	c := &v.Store.Cluster
	c.Leader = Leader{Present: true, Name: w.leader.name, ModRevision: leaderRev, Lease: leaseOf(w.leader.name)}
	c.Reign = Reign{Epoch: w.epoch, Holder: w.leader.name, ModRevision: leaderRev, Lease: leaseOf(w.leader.name), ParentTimeline: w.parent, NextTimeline: Timeline(w.epoch)}
	c.Sync, c.Members = w.seen, nil
	if w.bug != bugUnsettled {
		v.Store.SyncWrite = w.unsettled
	}
	v.Store.FreshAt, v.Store.SeenAt, v.Local.Since = w.now, 0, 0
	v.Local.DataID, v.Local.LSN, v.Local.Timeline, v.Local.SlotsKnown = n.data, n.end(), n.timeline(), false
	v.Local.Sync = LocalSync{Known: true, Setting: w.setting, InForce: w.inForce, Barrier: w.barrier, Copies: w.copies}
	v.Local.Walsenders, v.Local.Streamed = nil, nil
	for _, o := range w.nodes {
		m := testMember(o.name, "replica")
		m.DataID, m.Tags.NoSync, m.Tags.NoFailover = o.data, o.noSync, o.noFailover
		if o.patroni {
			m.PghaVersion, m.DataID = "", ""
		}
		if !o.gone || o == n {
			c.Members = append(c.Members, m)
		}
		if o != n && o.streams && prefix(o.log, n.log) { // nobody streams who went another way
			v.Local.Walsenders = append(v.Local.Walsenders, Walsender{Name: o.name, State: "streaming", LSN: o.end()})
		}
		if o != n {
			v.Local.Streamed = append(v.Local.Streamed, Streamed{Name: o.name, At: o.streamed})
		}
	}
	return v
}

// step does one thing at random. It says what is wrong then; empty: nothing.
func (w *syncWorld) step() string {
	switch w.r.IntN(20) {
	case 0, 1, 2:
		w.commits++
		w.leader.log = append(slices.Clone(w.leader.log), w.commits)
	case 3, 4, 5:
		w.replicate(w.nodes[w.r.IntN(len(w.nodes))])
	case 6, 7, 8:
		w.acknowledge()
	case 9, 10, 11, 12, 13:
		if why := w.decide(); why != "" {
			return why
		}
	case 14, 15:
		w.prove()
	case 16:
		w.arrive()
		w.seen = w.store
	case 17:
		w.disturb()
	case 18:
		w.now += time.Duration(w.r.IntN(4000)) * time.Millisecond
		for _, n := range w.nodes {
			if n.streams {
				n.streamed = w.now
			}
		}
	case 19:
		if w.r.IntN(3) == 0 || w.bug == bugDeadBranch {
			if why := w.takeOver(); why != "" {
				return why
			}
		}
	}
	return w.check()
}

// replicate lets a standby receive a part of the leader's log, if its own leads there.
func (w *syncWorld) replicate(n *worldNode) {
	if n == w.leader || !n.streams {
		return
	}
	if !prefix(n.log, w.leader.log) {
		// It went its own way: rewound, which makes another copy of it.
		common := 0
		for common < min(len(n.log), len(w.leader.log)) && n.log[common] == w.leader.log[common] {
			common++
		}
		n.log = slices.Clone(w.leader.log)[:common]
		n.copies++
		n.data = fmt.Sprintf("%s%d", n.name, n.copies)
		w.note("%s is rewound", n.name)
	}
	if more := len(w.leader.log) - len(n.log); more > 0 {
		n.log = slices.Clone(w.leader.log)[:len(n.log)+1+w.r.IntN(more)]
	}
}

// acknowledge lets commits return that some process may release by some setting that may be in force.
func (w *syncWorld) acknowledge() {
	s := w.possible[w.r.IntN(len(w.possible))]
	for i, c := range w.leader.log {
		n := 0
		for _, o := range w.nodes {
			if o != w.leader && slices.Contains(s.Names, o.name) && len(o.log) > i && o.log[i] == c {
				n++
			}
		}
		if n >= s.Wait && c > 0 && !w.acked[c] {
			w.acked[c] = true
			w.acks++
			w.note("commit %d is acknowledged by %s", c, s)
		}
	}
}

// decide lets the leader's agent take a step.
func (w *syncWorld) decide() string {
	v := w.view(w.leader)
	p := Decide(v)
	if p.Rule != "leader.steady" {
		return "the leader does " + p.String()
	}
	for _, a := range p.Actions {
		a = w.mistake(v, a)
		if why := Violation(v, Plan{Actions: []Action{a}}); why != "" {
			w.refused++
			if w.bug == bugNone {
				return "the guard refuses: " + why
			}
		}
		switch a := a.(type) {
		case WriteSync:
			a.State.ModRevision = w.seen.ModRevision
			w.unsettled = SyncWrite{Sent: true, Over: w.seen.ModRevision}
			if w.r.IntN(4) == 0 {
				w.late = append(w.late, a.State)
				w.note("%s sends %s", w.leader.name, describe(a.State))
				continue
			}
			w.write(a.State)
		case SetSync:
			w.set(a.Setting)
		}
	}
	return ""
}

// write carries out a write of the sync key, if the key is what the write was made from.
func (w *syncWorld) write(s SyncState) {
	if s.ModRevision != w.store.ModRevision {
		return
	}
	w.revision++
	w.store = s
	w.store.ModRevision = w.revision
	if len(openSets(s)) == 1 {
		w.confirmed++
	}
	w.note("%s publishes %s", s.Leader, describe(s))
}

// arrive lets one of the writes on their way arrive.
func (w *syncWorld) arrive() {
	if len(w.late) > 0 && w.r.IntN(2) == 0 {
		i := w.r.IntN(len(w.late))
		w.write(w.late[i])
		w.late = slices.Delete(w.late, i, i+1)
	}
}

func (w *syncWorld) set(s SyncSetting) {
	w.again = true
	if !w.setting.Equal(s) {
		w.setting, w.inForce = s, false
		w.possible = append(w.possible, s)
		w.note("%s sets %s", w.leader.name, s)
	}
	if w.bug == bugNotInForce {
		w.inForce, w.barrier = true, w.leader.end()
	}
}

// mistake puts the deliberate bug of this world in place of what the rules say.
func (w *syncWorld) mistake(v View, a Action) Action {
	write, ok := a.(WriteSync)
	if !ok {
		return a
	}
	sets := openSets(write.State)
	switch {
	case w.bug == bugSetFirst && len(sets) == 0 && len(openSets(v.Store.Cluster.Sync)) > 0:
		return SetSync{}
	case w.bug == bugOneStep && len(sets) > 1:
		return WriteSync{State: syncPublished(&v, sets[len(sets)-1:])}
	}
	return a
}

// prove ends a change of the setting: every process goes by it.
func (w *syncWorld) prove() {
	w.possible = []SyncSetting{w.setting}
	if !w.inForce || w.again {
		w.inForce, w.barrier, w.again, w.copies = true, w.leader.end(), false, []Voter{}
		for _, n := range w.nodes {
			w.copies = append(w.copies, Voter{Name: n.name, Data: n.data})
		}
		if w.bug == bugNoBarrier {
			w.barrier = 1
		}
	}
}

// disturb changes something about the surroundings.
func (w *syncWorld) disturb() {
	n := w.nodes[w.r.IntN(len(w.nodes))]
	switch w.r.IntN(9) {
	case 0, 1, 2:
		n.streams = !n.streams
	case 3:
		n.gone = !n.gone
	case 4:
		n.noSync = !n.noSync
	case 5:
		n.noFailover = !n.noFailover
	case 6:
		if n != w.leader && w.r.IntN(2) == 0 {
			n.copies++
			n.data, n.log = fmt.Sprintf("%s%d", n.name, n.copies), slices.Clone(w.leader.log)
			// From a backup it may lack much, which a set with a Patroni in it cannot tell: it has no
			// names for copies.
			patroni := slices.ContainsFunc(w.nodes, func(o *worldNode) bool { return o.patroni })
			if len(n.log) > 0 && !patroni && w.r.IntN(2) == 0 {
				n.log = n.log[:w.r.IntN(len(n.log))]
			}
			w.note("%s is made anew with %d of %d", n.name, len(n.log), len(w.leader.log))
		}
	case 7:
		w.inForce, w.barrier = false, 0
		w.seen = w.store
		w.unsettled = SyncWrite{Sent: true, Over: w.store.ModRevision}
		w.note("the leader's agent restarts")
	case 8:
		w.policy.Mode = []SyncMode{SyncOn, SyncQuorum}[w.r.IntN(2)]
		w.policy.Nodes = 1 + w.r.IntN(2)
		w.policy.Strict = w.r.IntN(3) == 0
		w.note("the mode is %d, %d nodes", w.policy.Mode, w.policy.Nodes)
	}
}

func describe(s SyncState) string {
	var parts []string
	for _, set := range openSets(s) {
		parts = append(parts, fmt.Sprintf("%d of %v (waits for %d)", set.Quorum, set.Voters, set.Wait))
	}
	return "[" + strings.Join(parts, " and ") + "]"
}
