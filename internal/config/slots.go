package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// validSlotName says whether PostgreSQL accepts the name of a slot.
func validSlotName(name string) bool {
	return regexp.MustCompile(`^[a-z0-9_]{1,63}$`).MatchString(name)
}

// slots reads the permanent slots under the first of their three names that is there.
func (r *dynamicReader) slots() []Slot {
	key := r.present("permanent_replication_slots", "permanent_slots", "slots")
	v := r.values[key]
	if v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		r.warn(key, "%s: want a mapping of slot names; ignored", describeAny(v))
		return nil
	}
	var list []Slot
	for _, name := range sortedKeys(m) {
		here := join(key, name)
		if !validSlotName(name) {
			r.warn(here, "not a slot name: want up to 63 of a-z, 0-9 and _; ignored")
			continue
		}
		slot, err := parseSlot(name, m[name])
		if err != nil {
			r.warn(here, "%v; ignored", err)
			continue
		}
		list = append(list, slot)
	}
	return list
}

func parseSlot(name string, v any) (Slot, error) {
	slot := Slot{Name: name, Type: SlotPhysical}
	if isFalsy(v) {
		return slot, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return slot, fmt.Errorf("%s: want a mapping with type, database and plugin", describeAny(v))
	}
	slot.Database, slot.Plugin = textOf(m["database"]), textOf(m["plugin"])
	slot.ClusterType = strings.ToLower(textOf(m["cluster_type"]))
	switch typ := strings.ToLower(textOf(m["type"])); {
	case typ == "" && slot.Database != "" && slot.Plugin != "", typ == string(SlotLogical):
		slot.Type = SlotLogical
	case typ == "", typ == string(SlotPhysical):
	default:
		return slot, fmt.Errorf("%s: want type physical or logical", describeAny(m["type"]))
	}
	switch slot.ClusterType {
	case "", "primary", "standby":
	default:
		return slot, fmt.Errorf("%s: want cluster_type primary or standby", describeAny(m["cluster_type"]))
	}
	if slot.Type == SlotLogical && (slot.Database == "" || slot.Plugin == "") {
		return slot, fmt.Errorf("a logical slot needs database and plugin")
	}
	return slot, nil
}

// ignoreSlots reads the matchers of foreign slots. A matcher without any field would match every
// slot; it is dropped.
func (r *dynamicReader) ignoreSlots() []SlotMatcher {
	const key = "ignore_slots"
	v := r.values[key]
	if v == nil {
		return nil
	}
	items, ok := v.([]any)
	if !ok {
		r.warn(key, "%s: want a list of mappings; ignored", describeAny(v))
		return nil
	}
	var list []SlotMatcher
	for i, item := range items {
		here := fmt.Sprintf("%s[%d]", key, i)
		m, ok := item.(map[string]any)
		if !ok {
			r.warn(here, "%s: want a mapping with name, type, database or plugin; ignored", describeAny(item))
			continue
		}
		matcher := SlotMatcher{
			Name: textOf(m["name"]), Type: SlotType(strings.ToLower(textOf(m["type"]))),
			Database: textOf(m["database"]), Plugin: textOf(m["plugin"]),
		}
		if matcher == (SlotMatcher{}) {
			r.warn(here, "has none of name, type, database and plugin; ignored")
			continue
		}
		list = append(list, matcher)
	}
	return list
}

// standbyCluster reads the section; without host, port and restore_command there is none (C-162).
func (r *dynamicReader) standbyCluster() *StandbyCluster {
	const key = "standby_cluster"
	v := r.values[key]
	if isFalsy(v) {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		// Ignoring it would turn a standby cluster into one that accepts writes.
		r.fatal = append(r.fatal, Problem{Path: key, Value: describeAny(v), Want: "want a mapping with host, port or restore_command"})
		return nil
	}
	if isFalsy(m["host"]) && isFalsy(m["port"]) && isFalsy(m["restore_command"]) {
		return nil
	}
	s := &StandbyCluster{
		Host: textOf(m["host"]), Port: portPostgreSQL, PrimarySlotName: textOf(m["primary_slot_name"]),
		RestoreCommand: textOf(m["restore_command"]), ArchiveCleanupCommand: textOf(m["archive_cleanup_command"]),
		RecoveryMinApplyDelay: textOf(m["recovery_min_apply_delay"]),
	}
	if hosts, ok := m["host"].([]any); ok {
		s.Host = joinTexts(hosts)
	}
	if !isFalsy(m["port"]) {
		port, err := parseInt(textOf(m["port"]))
		if err != nil || port < 1 || port > 65535 {
			r.warn(join(key, "port"), "%s: want a port number; using %d", describeAny(m["port"]), portPostgreSQL)
		} else {
			s.Port = int(port)
		}
	}
	for _, name := range []string{"create_replica_methods", "create_replica_method"} {
		switch methods := m[name].(type) {
		case []any:
			s.CreateReplicaMethods = strings.Split(joinTexts(methods), ",")
		case string:
			s.CreateReplicaMethods = splitList(methods, false)
		}
	}
	return s
}

func joinTexts(items []any) string {
	texts := make([]string, 0, len(items))
	for _, item := range items {
		texts = append(texts, textOf(item))
	}
	return strings.Join(texts, ",")
}

func isFalsy(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		text := textOf(v)
		return text == "" || text == "0"
	}
}

// describeAny shows a JSON value in a message.
func describeAny(v any) string {
	return fromAny(v).describe()
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func addressableOptions(o *PostgresOptions) reflect.Value { return reflect.ValueOf(o).Elem() }
