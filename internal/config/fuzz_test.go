package config

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzParse checks that no file makes the agent panic, that problems are named, and that what
// loads can be written and read again.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata/good/", "testdata/bad/"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".yml") {
				data, err := os.ReadFile(dir + e.Name())
				if err != nil {
					f.Fatal(err)
				}
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data, nil)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		text, err := c.YAML()
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		if _, err := Parse("written", text, nil); err != nil {
			t.Errorf("the written form does not load: %v\n%s", err, text)
		}
		if _, err := c.InitialDynamic(); err != nil {
			t.Errorf("initial dynamic configuration: %v", err)
		}
	})
}

// FuzzParseDynamic checks the promises that hold for any text in /config.
func FuzzParseDynamic(f *testing.F) {
	f.Add([]byte(`{"ttl":30,"loop_wait":10,"retry_timeout":10,"postgresql":{"parameters":{"max_connections":100},"pg_hba":["a"]}}`))
	f.Add([]byte(`{"synchronous_mode":"quorum","slots":{"a":{"type":"logical","database":"d","plugin":"p"}},"standby_cluster":{"host":"h"}}`))
	f.Add([]byte(`{"postgresql":{"create_replica_methods":["x"],"x":{"command":"c","k":[1]},"basebackup":{"a":true},"callbacks":{"on_start":1}}}`))
	f.Add([]byte(`{"ttl":1e400,"maximum_lag_on_failover":-1e300,"member_slots_ttl":"9999999999999h"}`))
	local := Default()
	f.Fuzz(func(t *testing.T, data []byte) {
		d, _, err := ParseDynamic(data)
		if err != nil {
			return
		}
		for _, d := range []Dynamic{d, d.ForPatroniPeers()} {
			if d.TTL < 3*time.Second || d.LoopWait < time.Second || d.RetryTimeout < time.Second || d.LoopWait+2*d.RetryTimeout > d.TTL || d.TTL > longest {
				t.Errorf("ttl %v, loop_wait %v, retry_timeout %v", d.TTL, d.LoopWait, d.RetryTimeout)
			}
		}
		if d.MaximumLagOnFailover < 0 || d.SynchronousNodeCount < 1 || d.PrimaryStartTimeout < 0 || d.MemberSlotsTTL < 0 {
			t.Errorf("out of range: %+v", d)
		}
		e := Effective(local, d)
		for _, c := range controlledGUCs() {
			if _, err := c.check(e.Parameters[c.name]); err != nil {
				t.Errorf("%s = %q: %v", c.name, e.Parameters[c.name], err)
			}
		}
		_ = e.For(RolePrimary, 17)
		same, changed, err := Patch(d.Raw, nil)
		if err != nil || changed || !json.Valid(same) {
			t.Errorf("an empty patch: %v, changed %t: %s", err, changed, same)
		}
	})
}
