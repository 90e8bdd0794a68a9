package sim

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// settings are the dynamic configuration, as far as the simulation knows it.
type settings struct {
	TTL      time.Duration     `json:"ttl"`
	Mode     election.SyncMode `json:"mode"`
	Strict   bool              `json:"strict"`
	Nodes    int               `json:"nodes"`
	Silence  time.Duration     `json:"silence"`
	TimeOnly bool              `json:"time_only"`
	Failsafe bool              `json:"failsafe"`
}

func (s settings) encode() []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and booleans only
	}
	return b
}

// settingsRead remembers what the last value read as: it is asked for much more often than it changes.
type settingsRead struct {
	value []byte
	set   settings
	ok    bool
}

func (r *settingsRead) read(value []byte) (settings, bool) {
	if r.value == nil || !bytes.Equal(r.value, value) {
		var s settings
		err := json.Unmarshal(value, &s)
		r.value, r.set, r.ok = value, s, err == nil && s.TTL > 0
	}
	return r.set, r.ok
}

func (s settings) sync() election.SyncPolicy {
	return election.SyncPolicy{Mode: s.Mode, Strict: s.Strict, Nodes: s.Nodes, Silence: s.Silence, TimeOnly: s.TimeOnly}
}

// change has an operator change the configuration.
func (w *World) change(what string, edit func(*settings)) {
	edit(&w.wanted)
	w.note(-1, "an operator changes the configuration: %s", what)
	w.store.write(dcs.PutConfig(w.wanted.encode()).Then)
}
