package config

import (
	"encoding/json"
	"errors"
	"time"
)

// SyncMode is how many standbys a commit waits for, and who may take over.
type SyncMode uint8

// The modes of C-150.
const (
	SyncOff SyncMode = iota
	SyncOn
	SyncQuorum
)

func (m SyncMode) String() string {
	switch m {
	case SyncOn:
		return "on"
	case SyncQuorum:
		return "quorum"
	default:
		return "off"
	}
}

// Dynamic is the cluster-wide configuration, the value of the key config (rows C-141 to C-169).
type Dynamic struct {
	// TTL is the life of the leader's lease. LoopWait + 2*RetryTimeout fit into it.
	TTL          time.Duration
	LoopWait     time.Duration
	RetryTimeout time.Duration
	// PrimaryRaceBackoff delays the next race after a lost one; zero is off.
	PrimaryRaceBackoff time.Duration
	// MaximumLagOnFailover bars members further behind from leading.
	MaximumLagOnFailover Bytes
	// MaximumLagOnSyncnode replaces a synchronous standby further behind; zero or less is off.
	MaximumLagOnSyncnode Bytes
	// MaxTimelinesHistory limits the key history; zero keeps everything.
	MaxTimelinesHistory int
	// PrimaryStartTimeout is how long a failed primary may take to come back before another leads.
	PrimaryStartTimeout time.Duration
	// PrimaryStopTimeout bounds a stop of the primary in the synchronous modes; zero is no bound.
	PrimaryStopTimeout    time.Duration
	SynchronousMode       SyncMode
	SynchronousModeStrict bool
	// SynchronousNodeCount is at least 1.
	SynchronousNodeCount int
	FailsafeMode         bool
	CheckTimeline        bool
	Pause                bool
	// MemberSlotsTTL is how long the slot of an absent member is kept; zero drops it at once.
	MemberSlotsTTL time.Duration
	// Slots are the permanent slots, sorted by name.
	Slots []Slot
	// IgnoreSlots match slots that are left alone.
	IgnoreSlots []SlotMatcher
	// StandbyCluster is nil in a normal cluster.
	StandbyCluster *StandbyCluster
	// TakeoverSilence is how long a primary of a synchronous cluster answers none of its voters before
	// they freeze and vote (pgha.takeover_silence): from 300 ms to less than half of TTL.
	TakeoverSilence time.Duration
	// TakeoverTimeOnly switches the takeover by votes off (pgha.takeover: time): a successor then waits
	// for the lease in every mode.
	TakeoverTimeOnly bool
	// PostgreSQL is what Effective merges with the local file.
	PostgreSQL PostgresOptions
	// Raw is the text this was read from. Changes are made to it with Patch, so that keys
	// which pgha does not know stay as they are.
	Raw json.RawMessage
}

// SlotType is physical or logical.
type SlotType string

// Types of slots.
const (
	SlotPhysical SlotType = "physical"
	SlotLogical  SlotType = "logical"
)

// Slot is a permanent replication slot (C-161).
type Slot struct {
	Name string
	Type SlotType
	// Database and Plugin belong to logical slots.
	Database string
	Plugin   string
	// ClusterType is "", "primary" or "standby": in which kind of cluster a physical slot is made.
	ClusterType string
}

// SlotMatcher matches slots in all fields that are not empty.
type SlotMatcher struct {
	Name     string
	Type     SlotType
	Database string
	Plugin   string
}

// Matches says whether a slot is one of those meant.
func (m SlotMatcher) Matches(name string, typ SlotType, database, plugin string) bool {
	return (m.Name == "" || m.Name == name) && (m.Type == "" || m.Type == typ) &&
		(m.Database == "" || m.Database == database) && (m.Plugin == "" || m.Plugin == plugin)
}

// StandbyCluster describes the remote cluster that a standby cluster follows (C-162 to C-169).
type StandbyCluster struct {
	// Host may be a comma list. It is empty if only the archive is followed.
	Host string
	Port int
	// PrimarySlotName is as written; the name of the slot is made of it as of a member's name.
	PrimarySlotName       string
	CreateReplicaMethods  []string
	RestoreCommand        string
	ArchiveCleanupCommand string
	// RecoveryMinApplyDelay counts on the standby leader only; a PostgreSQL time such as "5min".
	RecoveryMinApplyDelay string
}

// Defaults of the dynamic configuration, where /config says nothing.
const (
	defaultTTL          = 10 * time.Second
	defaultLoopWait     = 3 * time.Second
	defaultRetryTimeout = 3 * time.Second
	defaultMaximumLag   = Bytes(1 << 20)
	defaultSilence      = 700 * time.Millisecond
)

// initialDynamic is what pgha writes into a new cluster's /config for keys that bootstrap.dcs
// does not name. They are written out, not implied, so that every member and every tool sees them.
func initialDynamic() map[string]any {
	return map[string]any{
		"ttl":                     int64(defaultTTL / time.Second),
		"loop_wait":               int64(defaultLoopWait / time.Second),
		"retry_timeout":           int64(defaultRetryTimeout / time.Second),
		"maximum_lag_on_failover": int64(defaultMaximumLag),
		"failsafe_mode":           true,
		"postgresql": map[string]any{
			"use_pg_rewind": true,
			"use_slots":     true,
		},
	}
}

// DefaultDynamic gives the dynamic configuration of a cluster that pgha initializes without
// any bootstrap.dcs.
func DefaultDynamic() Dynamic {
	raw, err := encodeJSON(initialDynamic())
	if err != nil {
		return Dynamic{Raw: json.RawMessage("{}")} // no value above can fail to encode
	}
	d, _, _ := ParseDynamic(raw)
	return d
}

// InitialDynamic gives the first value of the key config: bootstrap.dcs, with the defaults of a
// new cluster for what it does not name. The timing keys that were not named are made to fit
// those that were.
func (c *Config) InitialDynamic() ([]byte, error) {
	given := map[string]any{}
	if c.Bootstrap != nil && c.Bootstrap.DCS != nil {
		given = c.Bootstrap.DCS
	}
	base, err := encodeJSON(initialDynamic())
	if err != nil {
		return nil, err
	}
	raw, _, err := Patch(base, given)
	if err != nil {
		return nil, err
	}
	d, _, err := ParseDynamic(raw)
	if err != nil {
		return nil, err
	}
	fitted := map[string]any{}
	for key, value := range map[string]time.Duration{"ttl": d.TTL, "loop_wait": d.LoopWait, "retry_timeout": d.RetryTimeout} {
		if given[key] == nil {
			fitted[key] = int64(value / time.Second)
		}
	}
	raw, _, err = Patch(raw, fitted)
	return raw, err
}

// marginFloor is the smallest safe margin: clocks may drift by 1/16 each way, and 0.3 s is what it
// takes to wake up and to kill a server.
func marginFloor(ttl time.Duration) time.Duration {
	return ttl/8 + 300*time.Millisecond
}

// marginCeiling is where the margin leaves room for no renewal: a renewal is sent every ttl/3, and
// the primary steps down at ttl-2m.
func marginCeiling(ttl time.Duration) time.Duration { return ttl / 3 }

// Margin gives the safety margin m of the lease arithmetic: what was configured (zero for
// nothing), but at least ttl/8 + 0.3 s, and otherwise not so much that a primary steps down
// between two renewals.
func Margin(ttl, configured time.Duration) time.Duration {
	return max(marginFloor(ttl), min(configured, marginCeiling(ttl)))
}

// Patch changes a configuration the way PATCH /config does: null deletes a key, mappings
// merge, anything else replaces. It says whether anything changed. Keys it does not name keep
// their exact values.
func Patch(old []byte, patch map[string]any) (changed []byte, different bool, err error) {
	base, err := decodeObject(old)
	if err != nil {
		return nil, false, errors.Join(errors.New("patch config: the present value cannot be read"), err)
	}
	before, err := encodeJSON(base)
	if err != nil {
		return nil, false, err
	}
	mergePatch(base, patch)
	after, err := encodeJSON(base)
	if err != nil {
		return nil, false, err
	}
	return after, string(before) != string(after), nil
}

func mergePatch(base, patch map[string]any) {
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(base, key)
		case map[string]any:
			inner, ok := base[key].(map[string]any)
			if !ok {
				inner = map[string]any{}
			}
			mergePatch(inner, value)
			base[key] = inner
		default:
			base[key] = value
		}
	}
}
