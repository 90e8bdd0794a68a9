package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
)

// facts is what the observers found, under one lock that is never held across I/O.
type facts struct {
	mu sync.Mutex

	cfg       *config.Config
	dynamic   config.Dynamic
	rawConfig json.RawMessage
	effective config.EffectivePostgres // of cfg and dynamic

	// store
	seen       bool
	seenAt     election.Instant
	freshAt    election.Instant
	snapshot   dcs.Snapshot
	cluster    election.Cluster
	vacancy    election.Vacancy
	statusAt   election.Instant
	syncWrite  election.SyncWrite
	syncSent   []election.SyncState // what syncWrite may make of the key, a state for each try
	failoverAt election.Instant
	resumedAt  election.Instant // when a pause was seen to end
	storeErr   string

	// local server
	local      election.Local
	obs        postgres.Observation
	answering  bool
	observed   election.Instant
	observeErr string
	upstream   upstreamRecord
	followedAt election.Instant // when upstream last changed

	sync      syncFacts
	replicas  replicas
	receiver  receiver
	freeze    election.Freeze
	votesSent uint64 // counts the votes that were sent
	noVote    bool   // it is certain that no vote of an earlier life or copy can arrive any more
	failsafe  failsafeFacts

	results  []election.JobResult
	commands []election.Command
	answers  map[uint64]chan string // command → its outcome

	stopping        bool
	stopAsked       election.Instant
	leaving         bool                        // the server is about to go down on purpose
	slotSeen        map[string]election.Instant // slot: when its member was last one that needs it here
	slotsAt         election.Instant            // when slots were last tended
	historyDone     election.Timeline           // the published history cannot be made to fit this one better
	reloadOwed      bool                        // files were written that the server has not read yet
	contradictedRev int64                       // a proof showed that the key of this revision is another's
	cannotLead      string                      // why this member would not take the key now, for its peers
	appliedConfig   int64
	memberStale     bool
	memberValue     []byte
	memberQuiet     []byte // without positions
	memberAt        election.Instant
	memberFailed    bool
	memberLease     election.LeaseID
	memberRev       int64                // of the last write of the own member key that is known to be done
	state           election.MemberState // what a job says the server is doing; empty: derive
	nextCommand     uint64
}

func (f *facts) with(fn func(*facts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
}

// view builds the value that the next decision is made of.
func (a *Agent) view() election.View {
	own, lease := a.keeper.title()
	fenced := a.guard.view()
	promised, _ := a.guard.snapshot()
	job := a.jobs.view()
	probes := a.peered.view()
	heard := a.contact.view()
	racing := a.race.open()
	var v election.View
	a.facts.with(func(f *facts) {
		v = election.View{
			Now: Now(), Wall: time.Now(),
			Self:     selfOf(f.cfg),
			Policy:   policyOf(f.cfg, f.dynamic, f.effective),
			Own:      own,
			Lease:    lease,
			Local:    f.local,
			Fencer:   fenced,
			Contact:  heard,
			Failsafe: f.failsafeRound(own),
			Racing:   racing,
			Job:      job,
			Results:  slices.Clone(f.results),
			Probes:   probes,
			Commands: slices.Clone(f.commands),
			Stopping: f.stopping, StopAsked: f.stopAsked,
			Store: election.Store{
				Seen: f.seen, SeenAt: f.seenAt, FreshAt: f.freshAt,
				Cluster: f.cluster, Vacancy: f.vacancy, StatusAt: f.statusAt, FailoverAt: f.failoverAt,
				ResumedAt: f.resumedAt, SyncWrite: f.syncWrite,
			},
		}
		v.Local.ConfigRev = f.appliedConfig
		f.sync.overlay(&v.Local.Sync)
		v.Fencer.PromiseUntil = f.promisedUntil(promised)
	})
	return v
}

// configure makes a local or a dynamic configuration, or both, the ones in force.
func (f *facts) configure(c *config.Config, d config.Dynamic) {
	f.cfg, f.dynamic = c, d
	f.effective = config.Effective(c, d)
}

func selfOf(c *config.Config) election.Self {
	return election.Self{Name: c.Name, Tags: tagsOf(c), MayBootstrap: c.Bootstrap != nil}
}

// policyOf is the effective configuration as decisions see it.
func policyOf(c *config.Config, d config.Dynamic, e config.EffectivePostgres) election.Policy {
	return election.Policy{
		TTL:                 d.TTL,
		Margin:              config.Margin(d.TTL, c.Pgha.SafetyMargin),
		LoopWait:            d.LoopWait,
		MaximumLag:          uint64(max(0, d.MaximumLagOnFailover)),
		PrimaryStartTimeout: d.PrimaryStartTimeout,
		UseRewind:           e.UsePgRewind,
		CheckTimeline:       d.CheckTimeline,
		Pause:               d.Pause,
		StandbyCluster:      d.StandbyCluster != nil,
		UseSlots:            e.UseSlots,
		FailsafeMode:        d.FailsafeMode,
		Sync:                ownSync(syncPolicyOf(d), e),
	}
}

// ownSync adds the user's own setting, which counts where there is no synchronous mode.
func ownSync(p election.SyncPolicy, e config.EffectivePostgres) election.SyncPolicy {
	if p.Mode == election.SyncOff {
		// What cannot be read shows as foreign in the server, and is left alone for that.
		p.Own, _ = postgres.ParseSyncText(e.Parameters[postgres.SyncNamesSetting])
	}
	return p
}

// setResult records the outcome of a job.
func (f *facts) setResult(r election.JobResult) {
	for i := range f.results {
		if f.results[i].Kind == r.Kind {
			if r.Err != "" {
				r.Failures = f.results[i].Failures
				if r.Class != election.ClassCanceled {
					r.Failures++
				}
			}
			f.results[i] = r
			return
		}
	}
	if r.Err != "" {
		r.Failures = 1
	}
	f.results = append(f.results, r)
	slices.SortFunc(f.results, func(a, b election.JobResult) int {
		return strings.Compare(string(a.Kind), string(b.Kind))
	})
}

// forgetResults drops outcomes that no longer say anything, for instance after a fresh clone.
func (f *facts) forgetResults(kinds ...election.JobKind) {
	f.results = slices.DeleteFunc(f.results, func(r election.JobResult) bool {
		return slices.Contains(kinds, r.Kind)
	})
}

// finishCommand drops a command and tells whoever waits for it.
func (f *facts) finishCommand(id uint64, outcome string) {
	f.commands = slices.DeleteFunc(f.commands, func(c election.Command) bool { return c.ID == id })
	if ch, ok := f.answers[id]; ok {
		delete(f.answers, id)
		ch <- outcome // buffered by one
	}
}

// syncPolicyOf is the part of the synchronous modes.
func syncPolicyOf(d config.Dynamic) election.SyncPolicy {
	p := election.SyncPolicy{
		Strict: d.SynchronousModeStrict, Nodes: d.SynchronousNodeCount,
		MaximumLag: uint64(max(0, d.MaximumLagOnSyncnode)), Silence: d.TakeoverSilence, TimeOnly: d.TakeoverTimeOnly,
	}
	switch d.SynchronousMode {
	case config.SyncOn:
		p.Mode = election.SyncOn
	case config.SyncQuorum:
		p.Mode = election.SyncQuorum
	default:
	}
	return p
}
