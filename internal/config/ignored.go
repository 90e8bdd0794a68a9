package config

import (
	"fmt"
	"slices"
	"strings"
)

// Reasons why a known setting has no effect.
const (
	whyThreads     = "pgha has no such pool"
	whyLogText     = "pgha writes its own line format"
	whyDynamic     = "it is read from /config only; change it with pghactl edit-config"
	whyCitus       = "pgha does not manage Citus"
	whyOtherStores = "another consensus store is configured, and it is used"
)

// ignoredKeys lists by path the settings of a Patroni file that are accepted without effect.
func ignoredKeys() map[string]string {
	keys := map[string]string{
		"thread_pool_size":           whyThreads,
		"thread_stack_size":          whyThreads,
		"restapi.thread_pool_size":   whyThreads,
		"restapi.request_queue_size": "the queue of the kernel is used",
		"restapi.ciphers":            "the cipher suites are those that Go holds to be safe",
		"log.format":                 whyLogText,
		"log.dateformat":             whyLogText,
		"log.traceback_level":        whyLogText,
		"log.max_queue_size":         "pgha logs without a queue",
		"bootstrap.users":            "users have not been made this way since Patroni 4.0; use post_bootstrap",
		"postgresql.use_slots":       whyDynamic,
		"pgha.takeover":              whyDynamic,
		"pgha.takeover_silence":      whyDynamic,
		"citus":                      whyCitus,
		"dcs_api":                    "give the store in section etcd3",
	}
	for _, key := range dynamicKeys() {
		keys[key] = whyDynamic
	}
	for _, key := range []string{"parameters", "postgresql"} {
		delete(keys, key)
	}
	return keys
}

// dynamicKeys lists the top-level keys of /config.
func dynamicKeys() []string {
	return []string{
		"ttl", "loop_wait", "retry_timeout", "primary_race_backoff", "maximum_lag_on_failover",
		"maximum_lag_on_syncnode", "max_timelines_history", "primary_start_timeout", "master_start_timeout",
		"primary_stop_timeout", "master_stop_timeout", "synchronous_mode", "synchronous_mode_strict",
		"synchronous_node_count", "failsafe_mode", "check_timeline", "pause", "member_slots_ttl", "slots",
		"permanent_slots", "permanent_replication_slots", "ignore_slots", "standby_cluster",
	}
}

// storeSections lists the sections that configure a consensus store, in the order in which
// Patroni looks at them: the first one that is configured is the one it uses (C-064).
func storeSections() []string {
	return []string{"consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"}
}

// isGiven says whether a section holds anything.
func isGiven(n *node) bool {
	return n != nil && n.kind != nullNode && (n.kind != mapNode || len(n.keys) > 0)
}

// chooseStore leaves at most one section for the consensus store in the tree, called etcd3.
// A cluster that agreed in one store must not be joined through another: the members would not
// see each other, and two of them could lead.
func chooseStore(root *node) (problems Problems, ignored []string, warnings []Warning) {
	var given []string
	for _, name := range storeSections() {
		if isGiven(root.get(name)) {
			given = append(given, name)
		} else {
			root.remove(name)
		}
	}
	if len(given) == 0 {
		return nil, nil, nil
	}
	chosen := given[0]
	if slices.Contains(given, "etcd3") && chosen == "etcd" {
		chosen = "etcd3"
	}
	for _, name := range given {
		if name == chosen {
			continue
		}
		ignored = append(ignored, name+": "+whyOtherStores)
		root.remove(name)
	}
	section := root.get(chosen)
	switch chosen {
	case "etcd3":
	case "etcd":
		root.remove("etcd")
		root.set("etcd3", section)
		warnings = append(warnings, Warning{Path: "etcd", Message: "pgha uses the v3 interface of etcd, under which nothing is seen of a cluster " +
			"that Patroni keeps with the v2 interface; rename the section to etcd3 once that is settled"})
	default:
		root.remove(chosen)
		problems = append(problems, Problem{
			Path:   chosen,
			Want:   "unsupported consensus store: pgha keeps its state in etcd; move the cluster to etcd, then replace this section by etcd3 with hosts",
			Origin: section.origin,
		})
	}
	return problems, ignored, warnings
}

// modernize rewrites old layouts of the tree into today's.
func modernize(root *node) {
	pg := root.get("postgresql")
	if pg == nil || pg.kind != mapNode {
		return
	}
	if name := pg.get("name"); name != nil {
		if root.get("name") == nil {
			root.set("name", name)
		}
		pg.remove("name")
	}
	for old, today := range map[string]string{"superuser": "superuser", "replication": "replication", "pg_rewind": "rewind"} {
		user := pg.get(old)
		if user == nil || user.kind != mapNode {
			continue
		}
		auth := pg.at([]string{"authentication"}, user.origin)
		if auth.get(today) == nil {
			auth.set(today, user)
		}
		pg.remove(old)
	}
	dropUnknownUserKeys(pg.get("authentication"))
}

// dropUnknownUserKeys removes what was once allowed beside the credentials, such as the network of
// the replication user.
func dropUnknownUserKeys(auth *node) {
	if auth == nil || auth.kind != mapNode {
		return
	}
	for _, user := range auth.values {
		if user.kind == mapNode {
			user.remove("network")
		}
	}
}

// describeList joins words for a message: a, b or c.
func describeList(words []string) string {
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return fmt.Sprintf("%s or %s", strings.Join(words[:len(words)-1], ", "), words[len(words)-1])
	}
}
