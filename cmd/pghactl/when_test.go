package main

import (
	"testing"
	"time"
)

func TestParseWhen(t *testing.T) {
	zone := time.FixedZone("east", 2*3600)
	now := time.Date(2031, 5, 4, 12, 0, 0, 0, zone)
	utc := func(day, hour, minute int) time.Time { return time.Date(2031, 5, day, hour, minute, 0, 0, time.UTC) }
	for name, tc := range map[string]struct {
		text string
		want time.Time
	}{
		"empty is at once":           {"", time.Time{}},
		"now in any case":            {"NOW", time.Time{}},
		"a delay":                    {"+90m", utc(4, 11, 30)},
		"utc":                        {"2031-05-05T03:00Z", utc(5, 3, 0)},
		"with seconds and an offset": {"2031-05-05T03:00:00+01:00", utc(5, 2, 0)},
		"offset without colon":       {"2031-05-05 03:00:00+0100", utc(5, 2, 0)},
		"short offset":               {"2031-05-05 03:00+01", utc(5, 2, 0)},
		"fractions":                  {"2031-05-05T03:00:00.000000+00:00", utc(5, 3, 0)},
		"local time":                 {"2031-05-05 03:00", utc(5, 1, 0)},
	} {
		got, err := parseWhen(tc.text, now)
		if err != nil || !got.Equal(tc.want) {
			t.Errorf("%s: %q gives %v, %v; want %v", name, tc.text, got, err, tc.want)
		}
	}
	for _, text := range []string{"tomorrow", "+", "+-3h", "+0s", "2031-05-04 11:59", "2031-13-01 00:00", "12:00"} {
		if got, err := parseWhen(text, now); exitCode(err) != exitUsage || hintOf(err) == "" {
			t.Errorf("%q gives %v, %v; want a usage error with a hint", text, got, err)
		}
	}
}

func FuzzParseWhen(f *testing.F) {
	f.Add("2031-05-05T03:00Z")
	f.Add("+1h")
	now := time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseWhen(text, now); err == nil && !got.IsZero() && !got.After(now) {
			t.Errorf("%q gives %v, which is not in the future", text, got)
		}
	})
}

func FuzzParseConfigObject(f *testing.F) {
	f.Add([]byte("ttl: 20\npostgresql: {parameters: {a: on}}\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := parseConfigObject(text)
		if err != nil {
			return
		}
		yaml, err := configYAML(doc)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := parseConfigObject(yaml)
		if err != nil {
			t.Fatalf("cannot be read back: %v\n%s", err, yaml)
		}
		if diff, err := configDiff(doc, again); err != nil || diff != "" {
			t.Errorf("changed on the way: %v\n%s", err, diff)
		}
	})
}
