package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTakeoverSettings(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name, text string
		silence    time.Duration
		timeOnly   bool
		warning    string // what it begins with
	}{
		{"nothing given", `{}`, 700 * ms, false, ""},
		{"null is not given", `{"pgha":null}`, 700 * ms, false, ""},
		{"nulls inside", `{"pgha":{"takeover":null,"takeover_silence":null}}`, 700 * ms, false, ""},
		{"seconds", `{"pgha":{"takeover_silence":1.5}}`, 1500 * ms, false, ""},
		{"seconds as text", `{"pgha":{"takeover_silence":"2"}}`, 2 * time.Second, false, ""},
		{"with a unit", `{"pgha":{"takeover_silence":"450 ms"}}`, 450 * ms, false, ""},
		{"the minimum", `{"pgha":{"takeover_silence":"300ms"}}`, 300 * ms, false, ""},
		{"below it", `{"pgha":{"takeover_silence":"299ms"}}`, 300 * ms, false, `pgha.takeover_silence: "299ms": using 300ms, the minimum`},
		{"zero", `{"pgha":{"takeover_silence":0}}`, 300 * ms, false, `pgha.takeover_silence: "0": using 300ms, the minimum`},
		{"negative", `{"pgha":{"takeover_silence":-1}}`, 300 * ms, false, `pgha.takeover_silence: "-1": using 300ms`},
		{"the maximum", `{"pgha":{"takeover_silence":4.9}}`, 4900 * ms, false, ""},
		{"half of the ttl", `{"pgha":{"takeover_silence":5}}`, 4900 * ms, false, `pgha.takeover_silence: "5": using 4.9s, the maximum with a ttl of 10 s`},
		{"milliseconds without their unit", `{"pgha":{"takeover_silence":700}}`, 4900 * ms, false, `pgha.takeover_silence: "700": using 4.9s`},
		{"against the shortest ttl", `{"ttl":3,"loop_wait":1,"retry_timeout":1,"pgha":{"takeover_silence":2}}`, 1400 * ms, false, `pgha.takeover_silence: "2": using 1.4s, the maximum with a ttl of 3 s`},
		{"no duration", `{"pgha":{"takeover_silence":"soon"}}`, 700 * ms, false, `pgha.takeover_silence: "soon": want a number of seconds`},
		{"a flag", `{"pgha":{"takeover_silence":true}}`, 700 * ms, false, `pgha.takeover_silence: "true": want a number of seconds`},
		{"a list", `{"pgha":{"takeover_silence":[1]}}`, 700 * ms, false, `pgha.takeover_silence: a list: want a number of seconds`},
		{"time only", `{"pgha":{"takeover":"Time"}}`, 700 * ms, true, ""},
		{"votes", `{"pgha":{"takeover":"quorum"}}`, 700 * ms, false, ""},
		{"misspelt key", `{"pgha":{"takover":"time"}}`, 700 * ms, false, "pgha.takover: unknown key: did you mean takeover?"},
		{"misspelt section", `{"pgah":{"takeover":"time"}}`, 700 * ms, false, "pgah: unknown key: did you mean pgha?"},
		{"key of a newer version", `{"pgha":{"something_else":{"deep":1}}}`, 700 * ms, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, warnings := parseOK(t, tt.text)
			if d.TakeoverSilence != tt.silence || d.TakeoverTimeOnly != tt.timeOnly {
				t.Errorf("got %s, time only %v, want %s, %v", d.TakeoverSilence, d.TakeoverTimeOnly, tt.silence, tt.timeOnly)
			}
			switch {
			case tt.warning == "" && len(warnings) > 0, tt.warning != "" && len(warnings) != 1:
				t.Errorf("got warnings %v, want %q", warnings, tt.warning)
			case tt.warning != "" && !strings.HasPrefix(warnings[0].String(), tt.warning):
				t.Errorf("got warning %q, want %q", warnings[0], tt.warning)
			}
			if d.TakeoverSilence < silenceFloor || d.TakeoverSilence >= d.TTL/2 {
				t.Errorf("silence %s does not fit into half of a ttl of %s", d.TakeoverSilence, d.TTL)
			}
		})
	}
}

func TestMisspeltKindOfTakeoverIsNoGuess(t *testing.T) {
	for text, want := range map[string]string{
		`{"pgha":{"takeover":"timer"}}`: `pgha.takeover: "timer": want quorum or time`,
		`{"pgha":{"takeover":true}}`:    `pgha.takeover: "true": want quorum or time`,
		`{"pgha":{"takeover":{}}}`:      `pgha.takeover: a mapping: want quorum or time`,
		`{"pgha":"time"}`:               `pgha: "time": want a mapping`,
	} {
		if _, _, err := ParseDynamic([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// The bound follows the ttl that counts while a Patroni is a member, and a change of another setting
// leaves this part of the stored text alone.
func TestTakeoverSettingsBesidePatroni(t *testing.T) {
	d, _ := parseOK(t, `{"ttl":5,"pgha":{"takeover_silence":4}}`)
	if got := d.ForPatroniPeers(); d.TakeoverSilence != 2400*time.Millisecond || got.TakeoverSilence != 4*time.Second {
		t.Errorf("ttl 5: got %s; with a Patroni, ttl 20: got %s", d.TakeoverSilence, got.TakeoverSilence)
	}
	changed, different, err := Patch([]byte(`{"pgha":{"takeover":"time","takeover_silence":"1s"},"ttl":10}`), map[string]any{
		"ttl": 20, "pgha": map[string]any{"takeover": nil},
	})
	if diff := cmp.Diff(`{"pgha":{"takeover_silence":"1s"},"ttl":20}`, string(changed)); diff != "" || !different || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// The settings are the cluster's: two members that went by two files would not agree on when a
// primary counts as lost.
func TestTakeoverSettingsInTheLocalFileHaveNoEffect(t *testing.T) {
	c := localWith(t, "pgha: {takeover: time, takeover_silence: 1}\n")
	if got := strings.Join(c.Ignored, "\n"); !strings.Contains(got, "pgha.takeover: "+whyDynamic) || !strings.Contains(got, "pgha.takeover_silence: "+whyDynamic) {
		t.Errorf("got %q", got)
	}
}
