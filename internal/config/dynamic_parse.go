package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limits are the smallest and the default values of the timing keys.
type limits struct {
	ttlMin, loopMin, retryMin             time.Duration
	ttlDefault, loopDefault, retryDefault time.Duration
}

// pghaLimits hold in a cluster of pgha members only.
func pghaLimits() limits {
	return limits{
		ttlMin: 3 * time.Second, loopMin: time.Second, retryMin: time.Second,
		ttlDefault: defaultTTL, loopDefault: defaultLoopWait, retryDefault: defaultRetryTimeout,
	}
}

// patroniLimits are what a Patroni makes of the same keys (C-007).
func patroniLimits() limits {
	return limits{
		ttlMin: 20 * time.Second, loopMin: time.Second, retryMin: 3 * time.Second,
		ttlDefault: 30 * time.Second, loopDefault: 10 * time.Second, retryDefault: 10 * time.Second,
	}
}

// ParseDynamic reads the value of the key config. It is tolerant: a bad value gives a warning and
// the default, an unknown key is left alone (C-006 to C-009). An error means that the whole text
// must be refused and the configuration in force kept (C-008): no JSON object, a timing key that
// is no number, or PostgreSQL parameters that are no mapping.
func ParseDynamic(text []byte) (Dynamic, []Warning, error) {
	m, err := decodeObject(text)
	if err != nil {
		return Dynamic{}, nil, fmt.Errorf("dynamic config: %w", err)
	}
	r := &dynamicReader{values: m}
	d := Dynamic{Raw: slices.Clone(text)}
	r.timing(&d, pghaLimits())
	r.cluster(&d)
	r.takeover(&d)
	d.Slots = r.slots()
	d.IgnoreSlots = r.ignoreSlots()
	d.StandbyCluster = r.standbyCluster()
	r.postgresql(&d.PostgreSQL)
	r.unknownKeys()
	if err := r.fatal.err(); err != nil {
		return Dynamic{}, r.warnings, fmt.Errorf("dynamic config: %w", err)
	}
	return d, r.warnings, nil
}

// ForPatroniPeers gives the timing that a Patroni makes of the same text: ttl is at least 20 s and
// 30 s by default. While a Patroni is a member all must count alike, or leases and promises
// would not match.
func (d Dynamic) ForPatroniPeers() Dynamic {
	m, err := decodeObject(d.Raw)
	if err != nil {
		m = nil
	}
	r := &dynamicReader{values: m}
	r.timing(&d, patroniLimits())
	r.takeover(&d) // its bound follows the ttl
	return d
}

// dynamicReader takes values out of a JSON object.
type dynamicReader struct {
	values   map[string]any
	warnings []Warning
	fatal    Problems
}

func (r *dynamicReader) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{Path: path, Message: fmt.Sprintf(format, args...)})
}

// timing reads ttl, loop_wait and retry_timeout and makes them fit: loop_wait gives way first,
// then retry_timeout (C-007).
func (r *dynamicReader) timing(d *Dynamic, l limits) {
	ttl := r.timingKey("ttl", l.ttlDefault, l.ttlMin)
	loop := r.timingKey("loop_wait", l.loopDefault, l.loopMin)
	retry := r.timingKey("retry_timeout", l.retryDefault, l.retryMin)
	d.TTL, d.LoopWait, d.RetryTimeout = fitTiming(ttl, loop, retry)
	if d.LoopWait != loop || d.RetryTimeout != retry {
		r.warn("loop_wait", "loop_wait + 2*retry_timeout must not exceed ttl (%d s): using loop_wait %d and retry_timeout %d",
			seconds(ttl), seconds(d.LoopWait), seconds(d.RetryTimeout))
	}
}

// fitTiming enforces loop_wait + 2*retry_timeout <= ttl, in whole seconds.
func fitTiming(ttl, loop, retry time.Duration) (fittedTTL, fittedLoop, fittedRetry time.Duration) {
	const least = time.Second
	switch {
	case loop+2*retry <= ttl:
	case least+2*retry > ttl:
		loop, retry = least, ((ttl - least) / 2).Truncate(time.Second)
	default:
		loop = ttl - 2*retry
	}
	return ttl, loop, retry
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func (r *dynamicReader) timingKey(key string, def, least time.Duration) time.Duration {
	v := r.values[key]
	if v == nil {
		return def
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(textOf(v)), 64)
	if err != nil || math.IsNaN(f) {
		r.fatal = append(r.fatal, Problem{Path: key, Value: describeAny(v), Want: "want a whole number of seconds"})
		return def
	}
	if f != math.Trunc(f) {
		r.warn(key, "%s: fractions of seconds are cut off", describeAny(v))
	}
	switch f = math.Trunc(f); {
	case f < least.Seconds():
		r.warn(key, "%s: using %d, the minimum", describeAny(v), seconds(least))
		return least
	case f > longest.Seconds():
		r.warn(key, "%s: using %d, the maximum", describeAny(v), seconds(longest))
		return longest
	}
	return time.Duration(f) * time.Second
}

// cluster reads the plain keys.
func (r *dynamicReader) cluster(d *Dynamic) {
	d.PrimaryRaceBackoff = r.duration("primary_race_backoff", 0)
	d.MaximumLagOnFailover = Bytes(r.integer("maximum_lag_on_failover", int64(defaultMaximumLag), 0))
	d.MaximumLagOnSyncnode = Bytes(r.integer("maximum_lag_on_syncnode", -1, -1))
	d.MaxTimelinesHistory = int(r.integer("max_timelines_history", 0, 0))
	d.PrimaryStartTimeout = r.duration(r.present("primary_start_timeout", "master_start_timeout"), 300*time.Second)
	d.PrimaryStopTimeout = r.duration(r.present("primary_stop_timeout", "master_stop_timeout"), 0)
	d.SynchronousMode = r.syncMode()
	d.SynchronousModeStrict = r.boolean("synchronous_mode_strict")
	d.SynchronousNodeCount = int(r.integer("synchronous_node_count", 1, 1))
	d.FailsafeMode = r.boolean("failsafe_mode")
	d.CheckTimeline = r.boolean("check_timeline")
	d.Pause = r.boolean("pause")
	d.MemberSlotsTTL = r.duration("member_slots_ttl", 30*time.Minute)
}

// present gives the first of several names for a setting that is there.
func (r *dynamicReader) present(names ...string) string {
	for _, name := range names {
		if r.values[name] != nil {
			return name
		}
	}
	return names[0]
}

func (r *dynamicReader) integer(key string, def, least int64) int64 {
	v := r.values[key]
	if v == nil {
		return def
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(textOf(v)), 64)
	if _, isBool := v.(bool); err != nil || isBool || math.IsNaN(f) || math.Abs(f) > math.MaxInt32*1024.0*1024.0 {
		r.warn(key, "%s: want a plain whole number; using %d", describeAny(v), def)
		return def
	}
	if int64(f) < least {
		r.warn(key, "%s: want at least %d; using %d", describeAny(v), least, def)
		return def
	}
	return int64(f)
}

func (r *dynamicReader) duration(key string, def time.Duration) time.Duration {
	v := r.values[key]
	if v == nil {
		return def
	}
	d, err := parseDuration(textOf(v))
	if err != nil || d < 0 {
		r.warn(key, "%s: want a number of seconds; using %d", describeAny(v), seconds(def))
		return def
	}
	return d
}

// boolean reads a flag; what is not there or cannot be read is off.
func (r *dynamicReader) boolean(key string) bool {
	v := r.values[key]
	if v == nil {
		return false
	}
	b, err := parseBool(textOf(v))
	if err != nil {
		r.warn(key, "%s: want true or false; using false", describeAny(v))
		return false
	}
	return b
}

func (r *dynamicReader) syncMode() SyncMode {
	const key = "synchronous_mode"
	v := r.values[key]
	if v == nil {
		return SyncOff
	}
	if strings.EqualFold(textOf(v), "quorum") {
		return SyncQuorum
	}
	b, err := parseBool(textOf(v))
	if err != nil {
		// Reading a misspelt word as "off" would drop a promise; better to keep what is in force.
		r.fatal = append(r.fatal, Problem{Path: key, Value: describeAny(v), Want: "want true, false or quorum"})
		return SyncOff
	}
	if b {
		return SyncOn
	}
	return SyncOff
}

// localOnlyKeys are postgresql settings that count in the local file only (C-005).
func localOnlyKeys() []string {
	return []string{"connect_address", "proxy_address", "listen", "config_dir", "data_dir", "pgpass", "authentication"}
}

// postgresql reads the postgresql section key by key, so that one bad value does not take
// others with it.
func (r *dynamicReader) postgresql(into *PostgresOptions) {
	const section = "postgresql"
	v := r.values[section]
	if v == nil {
		return
	}
	m, ok := v.(map[string]any)
	if !ok {
		r.fatal = append(r.fatal, Problem{Path: section, Value: describeAny(v), Want: "want a mapping"})
		return
	}
	all := fromAny(m)
	for _, key := range all.keys {
		value, here := all.values[key], join(section, key)
		if slices.Contains(localOnlyKeys(), key) {
			r.warn(here, "is read from the local file only")
			continue
		}
		isParameters := strings.HasPrefix(key, "parameters")
		if isParameters && value.kind != mapNode && value.kind != nullNode {
			r.fatal = append(r.fatal, Problem{Path: here, Value: describeAny(m[key]), Want: "want a mapping"})
			continue
		}
		r.postgresqlKey(key, value, all, into, isParameters)
	}
}

func (r *dynamicReader) postgresqlKey(key string, value, all *node, into *PostgresOptions, keepGoodPart bool) {
	one := newMap("")
	one.set(key, value)
	// The list of methods is needed to tell the section of a method from a mistake.
	for _, name := range []string{"create_replica_methods", "create_replica_method"} {
		if list := all.get(name); list != nil && list.kind == listNode && key != name && value.kind == mapNode {
			one.set(name, list)
		}
	}
	d := newDecoder()
	d.unknownKey = func(path string, _ *node, suggestion string) {
		if suggestion != "" {
			r.warn(path, "unknown key: did you mean %s?", suggestion)
		}
	}
	var trial PostgresOptions
	d.structure("postgresql", one, addressableOptions(&trial))
	for _, p := range d.problems {
		r.warn(p.Path, "%s: %s; ignored", p.Value, p.Want)
	}
	if len(d.problems) > 0 && !keepGoodPart {
		return
	}
	silent := newDecoder()
	silent.unknownKey = func(string, *node, string) {}
	silent.structure("postgresql", one, addressableOptions(into))
	into.nameMethods()
}

// unknownKeys points out keys that look like misspelt ones. Others may belong to newer versions or
// other programs.
func (r *dynamicReader) unknownKeys() {
	known := append(dynamicKeys(), "postgresql", pghaSection)
	for _, key := range sortedKeys(r.values) {
		if slices.Contains(known, key) {
			continue
		}
		if near := nearest(key, known); near != "" {
			r.warn(key, "unknown key: did you mean %s?", near)
		}
	}
}
