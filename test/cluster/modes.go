package cluster

import (
	"fmt"
	"strings"
)

// Mode is how commits are replicated in a run.
type Mode string

const (
	// Asynchronous means that a commit waits for the primary's disk alone. What died with it may be lost.
	Asynchronous Mode = "async"
	// AnyOne means that PostgreSQL itself waits for one of the standbys, by synchronous_standby_names that
	// the operator set. The agents choose the most advanced standby, so nothing acknowledged is
	// lost while all the others are there to be asked.
	AnyOne Mode = "any"
	// Synchronous is the agents' own synchronous mode.
	Synchronous Mode = "sync"
	// Quorum is the agents' own quorum mode.
	Quorum Mode = "quorum"
)

// SetMode writes the mode into the options, after Names are set.
func (o *Options) SetMode(mode Mode) error {
	if o.DCS == nil {
		o.DCS = map[string]any{}
	}
	if o.Parameters == nil {
		o.Parameters = map[string]any{}
	}
	switch mode {
	case Asynchronous:
	case AnyOne:
		members := o.Names
		if len(members) == 0 {
			members = defaultNames()
		}
		o.Parameters["synchronous_standby_names"] = "ANY 1 (" + strings.Join(members, ", ") + ")"
	case Synchronous:
		o.DCS["synchronous_mode"] = true
	case Quorum:
		o.DCS["synchronous_mode"] = "quorum"
	default:
		return fmt.Errorf("replication mode %q: want async, any, sync or quorum", mode)
	}
	o.Mode = mode
	return nil
}

func defaultNames() []string { return []string{"a", "b", "c"} }
