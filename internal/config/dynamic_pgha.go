package config

import (
	"slices"
	"strings"
	"time"
)

// pghaSection is the key of /config under which pgha's own cluster-wide settings are. A Patroni leaves
// keys alone that it does not know.
const pghaSection = "pgha"

// The settings of that section.
const (
	keySilence  = "takeover_silence"
	keyTakeover = "takeover"
)

// silenceFloor keeps a voter from taking a moment's load for the loss of the primary: it has to miss
// several answers in a row.
const silenceFloor = 300 * time.Millisecond

// silenceCeiling is the longest silence there may be: beyond half of the ttl a takeover by votes would
// gain little on one that waits for the lease.
func silenceCeiling(ttl time.Duration) time.Duration { return ttl/2 - 100*time.Millisecond }

// takeover reads pgha.takeover_silence and pgha.takeover. TTL must have been read before.
func (r *dynamicReader) takeover(d *Dynamic) {
	d.TakeoverSilence, d.TakeoverTimeOnly = defaultSilence, false
	v := r.values[pghaSection]
	if v == nil {
		return
	}
	section, ok := v.(map[string]any)
	if !ok {
		r.fatal = append(r.fatal, Problem{Path: pghaSection, Value: describeAny(v), Want: "want a mapping"})
		return
	}
	d.TakeoverSilence = r.silence(section[keySilence], d.TTL)
	d.TakeoverTimeOnly = r.timeOnly(section[keyTakeover])
	known := []string{keySilence, keyTakeover}
	for _, key := range sortedKeys(section) {
		if slices.Contains(known, key) {
			continue
		}
		if near := nearest(key, known); near != "" {
			r.warn(join(pghaSection, key), "unknown key: did you mean %s?", near)
		}
	}
}

func (r *dynamicReader) silence(v any, ttl time.Duration) time.Duration {
	path := join(pghaSection, keySilence)
	if v == nil {
		return defaultSilence
	}
	d, err := parseDuration(textOf(v))
	if _, isBool := v.(bool); err != nil || isBool {
		r.warn(path, "%s: want a number of seconds, or a time such as 700ms; using %s", describeAny(v), defaultSilence)
		return defaultSilence
	}
	if d < silenceFloor {
		r.warn(path, "%s: using %s, the minimum", describeAny(v), silenceFloor)
		return silenceFloor
	}
	if most := silenceCeiling(ttl); d > most {
		r.warn(path, "%s: using %s, the maximum with a ttl of %d s", describeAny(v), most, seconds(ttl))
		return most
	}
	return d
}

func (r *dynamicReader) timeOnly(v any) bool {
	switch word := textOf(v); {
	case v == nil, strings.EqualFold(word, "quorum"):
		return false
	case strings.EqualFold(word, "time"):
		return true
	}
	// Whoever wrote this may rely on there being no takeover before the lease has run out; better to
	// keep what is in force than to guess.
	r.fatal = append(r.fatal, Problem{Path: join(pghaSection, keyTakeover), Value: describeAny(v), Want: "want quorum or time"})
	return false
}
