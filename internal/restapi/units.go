package restapi

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// parseBytes reads a number of bytes with an optional unit: B, kB, MB, GB, TB (powers of 1024).
func parseBytes(s string) (int64, bool) {
	number, unit := splitUnit(s)
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) {
		return 0, false
	}
	switch strings.ToLower(unit) {
	case "", "b":
	case "kb":
		f *= 1 << 10
	case "mb":
		f *= 1 << 20
	case "gb":
		f *= 1 << 30
	case "tb":
		f *= 1 << 40
	default:
		return 0, false
	}
	f = math.Round(f)
	if f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, false
	}
	return int64(f), true
}

// parseSeconds reads a duration in seconds with an optional unit: us, ms, s, min, h, d.
func parseSeconds(s string) (time.Duration, bool) {
	number, unit := splitUnit(s)
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) {
		return 0, false
	}
	scale := time.Second
	switch unit {
	case "", "s":
	case "us":
		scale = time.Microsecond
	case "ms":
		scale = time.Millisecond
	case "min":
		scale = time.Minute
	case "h":
		scale = time.Hour
	case "d":
		scale = 24 * time.Hour
	default:
		return 0, false
	}
	f *= float64(scale)
	if f >= math.MaxInt64 || f <= math.MinInt64 {
		return 0, false
	}
	return time.Duration(f), true
}

// splitUnit cuts "10 MB" into "10" and "MB".
func splitUnit(s string) (number, unit string) {
	s = strings.TrimSpace(s)
	i := strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && r != '.' && r != '+' && r != '-'
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// tagText is a tag's value as a tag_ parameter must spell it (row R-031): strings as they are,
// everything else in lower case.
func tagText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return "none"
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return strings.ToLower(v.String())
	default:
		return strings.ToLower(fmt.Sprint(v))
	}
}

// stamp writes a time the way Patroni's bodies do (row R-042).
func stamp(t time.Time) string {
	return t.UTC().Format("2006-01-02 15:04:05.000000-07:00")
}

// isoTime writes a schedule with a numeric zone: not every reader of the API knows the letter Z.
func isoTime(t time.Time) string {
	return t.Format("2006-01-02T15:04:05.999999-07:00")
}
