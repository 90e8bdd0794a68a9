package config

import (
	"maps"
	"strconv"
	"strings"
)

// Names of the tags with a meaning (C-130 to C-137). Any other tag is published as it is.
const (
	tagNoFailover       = "nofailover"
	tagFailoverPriority = "failover_priority"
	tagNoSync           = "nosync"
	tagSyncPriority     = "sync_priority"
	tagCloneFrom        = "clonefrom"
	tagNoLoadBalance    = "noloadbalance"
	tagReplicateFrom    = "replicatefrom"
	tagNoStream         = "nostream"
)

// Tags is section tags as written: a value is nil, bool, int64, float64, string, []any or
// map[string]any. The methods give the meaning.
type Tags map[string]any

// Published gives the tags as other members see them (C-129). A tag that merely says "no" is left
// out, unless it stands beside the priority that it overrides.
func (t Tags) Published() map[string]any {
	out := maps.Clone(map[string]any(t))
	dropFalse := func(name, unlessBeside string) {
		if _, beside := t[unlessBeside]; beside || t.truthy(name) {
			return
		}
		delete(out, name)
	}
	dropFalse(tagCloneFrom, "")
	dropFalse(tagNoLoadBalance, "")
	dropFalse(tagNoStream, "")
	dropFalse(tagNoFailover, tagFailoverPriority)
	dropFalse(tagNoSync, tagSyncPriority)
	return out
}

// SignedOff is what a member publishes whose server is about to stop: Published, and nosync (row H-137).
func (t Tags) SignedOff() map[string]any {
	out := t.Published()
	if out == nil {
		out = make(map[string]any, 2)
	}
	out[tagNoSync], out[tagSyncPriority] = true, 0
	return out
}

// NoFailover says that this member never leads.
func (t Tags) NoFailover() bool { return t.barred(tagNoFailover, tagFailoverPriority) }

// FailoverPriority ranks members that are equally advanced; the default is 1.
func (t Tags) FailoverPriority() int { return t.priority(tagNoFailover, tagFailoverPriority) }

// NoSync says that this member is never a synchronous standby.
func (t Tags) NoSync() bool { return t.barred(tagNoSync, tagSyncPriority) }

// SyncPriority ranks candidates for synchronous standby; the default is 1.
func (t Tags) SyncPriority() int { return t.priority(tagNoSync, tagSyncPriority) }

// CloneFrom says that replicas are preferably made from this member.
func (t Tags) CloneFrom() bool { return t.truthy(tagCloneFrom) }

// NoLoadBalance says that the health checks for replicas answer 503.
func (t Tags) NoLoadBalance() bool { return t.truthy(tagNoLoadBalance) }

// ReplicateFrom names the member to stream from, if it is not the leader.
func (t Tags) ReplicateFrom() string {
	if !t.truthy(tagReplicateFrom) {
		return ""
	}
	return textOf(t[tagReplicateFrom])
}

// NoStream says that this member reads the archive only. Unlike the other tags it
// understands words: "off" is no.
func (t Tags) NoStream() bool {
	b, err := parseBool(textOf(t[tagNoStream]))
	return err == nil && b
}

// barred reads a veto and the priority beside it: a priority of zero or less is a veto too, but
// only where the veto itself is not given (C-131).
func (t Tags) barred(veto, priority string) bool {
	if v, given := t[veto]; given && v != nil {
		return t.truthy(veto)
	}
	n, ok := t.number(priority)
	return ok && n <= 0
}

func (t Tags) priority(veto, priority string) int {
	if t.barred(veto, priority) {
		return 0
	}
	if n, ok := t.number(priority); ok {
		return n
	}
	return 1
}

func (t Tags) number(name string) (int, bool) {
	v, ok := t[name]
	if !ok || v == nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(textOf(v)))
	return n, err == nil
}

// truthy follows the rule that members have always used for tags: any text that is not empty is
// true, "false" in quotes included (C-130).
func (t Tags) truthy(name string) bool {
	switch v := t[name].(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) != 0
	case map[string]any:
		return len(v) != 0
	default:
		return true
	}
}
