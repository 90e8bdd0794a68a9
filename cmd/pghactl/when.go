package main

import (
	"strings"
	"time"
)

// parseWhen reads a time of day for something to be scheduled (row L-16). Empty and "now" mean at
// once, which is the zero time. A time without a zone is meant in the local one; "+30m" counts from
// now. The result is in UTC.
func parseWhen(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || strings.EqualFold(text, "now") {
		return time.Time{}, nil
	}
	var at time.Time
	if rest, ok := strings.CutPrefix(text, "+"); ok {
		d, err := time.ParseDuration(rest)
		if err != nil || d <= 0 {
			return time.Time{}, withHint(usagef("cannot read the time %q", text), "write a delay such as +30m or +2h")
		}
		return now.Add(d).UTC().Truncate(time.Second), nil
	}
	for _, layout := range whenLayouts() {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			at = t
			break
		}
	}
	if at.IsZero() {
		return time.Time{}, withHint(usagef("cannot read the time %q", text),
			"write it like 2031-05-04T03:00Z, 2031-05-04T03:00+02:00, \"2031-05-04 03:00\" (local time) or +30m")
	}
	if !at.After(now) {
		return time.Time{}, withHint(usagef("the time %s is in the past", at.UTC().Format(time.RFC3339)), "it is now %s", now.UTC().Format(time.RFC3339))
	}
	return at.UTC(), nil
}

func whenLayouts() []string {
	var layouts []string
	for _, clock := range []string{"15:04:05.999999", "15:04"} {
		for _, sep := range []string{"T", " "} {
			for _, zone := range []string{"Z07:00", "-0700", "-07", " Z07:00", " -0700", " MST", ""} {
				layouts = append(layouts, "2006-01-02"+sep+clock+zone)
			}
		}
	}
	return layouts
}
