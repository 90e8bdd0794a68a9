package conf

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseBytes reads a memory setting such as "128MB". base is the unit of a bare number, in
// bytes: 1024 for work_mem, 8192 for shared_buffers, 1 MiB for wal_keep_size.
func ParseBytes(s string, base int64) (int64, error) {
	num, unit, err := splitUnit(s)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	factor, ok := map[string]int64{
		"": base, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40,
	}[unit]
	if !ok {
		return 0, fmt.Errorf("size %q: unit %q: want B, kB, MB, GB or TB", s, unit)
	}
	v := math.Round(num * float64(factor))
	if math.Abs(v) >= math.MaxInt64 {
		return 0, fmt.Errorf("size %q: too large", s)
	}
	return int64(v), nil
}

// ParseDuration reads a time setting such as "100ms" or "5 min". base is the unit of a bare
// number: a millisecond for wal_receiver_timeout, a second for checkpoint_timeout.
func ParseDuration(s string, base time.Duration) (time.Duration, error) {
	num, unit, err := splitUnit(s)
	if err != nil {
		return 0, fmt.Errorf("time %q: %w", s, err)
	}
	factor, ok := map[string]time.Duration{
		"": base, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second,
		"min": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[unit]
	if !ok {
		return 0, fmt.Errorf("time %q: unit %q: want us, ms, s, min, h or d", s, unit)
	}
	v := math.Round(num * float64(factor))
	if math.Abs(v) >= math.MaxInt64 {
		return 0, fmt.Errorf("time %q: too long", s)
	}
	return time.Duration(v), nil
}

// FormatDuration writes a time the way PostgreSQL reads it exactly, in the largest unit that
// leaves a whole number. Parts of a microsecond are dropped.
func FormatDuration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if d != 0 && d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	if d < time.Microsecond && d > -time.Microsecond {
		return "0"
	}
	return strconv.FormatInt(d.Microseconds(), 10) + "us"
}

// FormatBytes writes a size in the largest unit that leaves a whole number.
func FormatBytes(n int64) string {
	for _, u := range []struct {
		unit int64
		name string
	}{{1 << 40, "TB"}, {1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "kB"}} {
		if n != 0 && n%u.unit == 0 {
			return strconv.FormatInt(n/u.unit, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// splitUnit parts a number from its unit.
func splitUnit(s string) (num float64, unit string, err error) {
	s = strings.TrimSpace(s)
	end := strings.LastIndexAny(s, "0123456789.") + 1
	num, err = strconv.ParseFloat(s[:end], 64)
	if err != nil || math.IsNaN(num) || math.IsInf(num, 0) {
		return 0, "", fmt.Errorf("%q is not a number", s[:end])
	}
	return num, strings.TrimSpace(s[end:]), nil
}

// ParseBool reads a boolean setting: on, off, true, false, yes, no, 1, 0 and their prefixes that
// mean only one of them, in any case.
func ParseBool(s string) (value, ok bool) {
	s = strings.ToLower(s)
	if s == "" || s == "o" {
		return false, false
	}
	for _, w := range []string{"on", "true", "yes", "1"} {
		if strings.HasPrefix(w, s) {
			return true, true
		}
	}
	for _, w := range []string{"off", "false", "no", "0"} {
		if strings.HasPrefix(w, s) {
			return false, true
		}
	}
	return false, false
}

// KeepSizeFromSegments turns wal_keep_segments into wal_keep_size (row C-178).
func KeepSizeFromSegments(segments int64) string { return FormatBytes(segments * 16 << 20) }

// SegmentsFromKeepSize turns wal_keep_size into wal_keep_segments, rounded up.
func SegmentsFromKeepSize(size string) (int64, error) {
	n, err := ParseBytes(size, 1<<20)
	if err != nil {
		return 0, err
	}
	const segment = 16 << 20
	return (n + segment - 1) / segment, nil
}
