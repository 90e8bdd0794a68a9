package config

import (
	"slices"
	"strings"
)

// Prefixes of variables. A PGHA_ variable wins over the PATRONI_ one of the same name.
const (
	prefixPatroni = "PATRONI_"
	prefixPgha    = "PGHA_"
	// configurationVariable holds a whole file, for use without one.
	configurationVariable = "CONFIGURATION"
	embeddedPrefix        = "EMBEDDED_ETCD_"
)

// variable maps the name of a variable, without prefix, to a setting.
type variable struct {
	name string
	path string
}

// variables lists every variable that is read with either prefix. Of two names for one setting
// the later one wins.
func variables() []variable {
	list := []variable{
		{"NAME", "name"},
		{"SCOPE", "scope"},
		{"NAMESPACE", "namespace"},
		{"THREAD_POOL_SIZE", "thread_pool_size"},
		{"THREAD_STACK_SIZE", "thread_stack_size"},
		{"LOGLEVEL", "log.level"},
		{"LOGFORMAT", "log.format"},
		{"LOG_DATEFMT", "log.dateformat"},
		{"CITUS_GROUP", "citus.group"},
		{"CITUS_DATABASE", "citus.database"},
	}
	add := func(prefix, section string, names ...string) {
		for _, name := range names {
			list = append(list, variable{prefix + strings.ToUpper(name), section + "." + name})
		}
	}
	add("LOG_", "log", "type", "level", "traceback_level", "format", "dateformat", "static_fields", "max_queue_size",
		"dir", "mode", "file_num", "file_size", "loggers", "deduplicate_heartbeat_logs")
	for _, section := range []string{"etcd", "etcd3"} {
		add(strings.ToUpper(section)+"_", section, "host", "hosts", "url", "proxy", "srv", "srv_suffix", "use_proxies",
			"protocol", "port", "username", "password", "cacert", "cert", "key")
	}
	add("POSTGRESQL_", "postgresql", "listen", "connect_address", "proxy_address", "data_dir", "config_dir", "bin_dir", "pgpass")
	list = append(list, variable{"POSTGRESQL_BIN_IS_READY", "postgresql.bin_name.pg_isready"})
	add("POSTGRESQL_BIN_", "postgresql.bin_name", "pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready", "pg_rewind")
	for _, user := range []string{"superuser", "replication", "rewind"} {
		add(strings.ToUpper(user)+"_", "postgresql.authentication."+user, "username", "password", "sslmode", "sslcert", "sslkey",
			"sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "gssencmode", "channel_binding", "sslnegotiation")
	}
	add("RESTAPI_", "restapi", "listen", "connect_address", "certfile", "keyfile", "keyfile_password", "cafile", "ciphers",
		"verify_client", "allowlist", "allowlist_include_members", "http_extra_headers", "https_extra_headers",
		"request_queue_size", "server_tokens")
	add("RESTAPI_", "restapi.authentication", "username", "password")
	add("CTL_", "ctl", "insecure", "cacert", "certfile", "keyfile", "keyfile_password")
	add("CTL_", "ctl.authentication", "username", "password")
	return list
}

// ownVariables lists those that only the prefix PGHA_ has.
func ownVariables() []variable {
	list := []variable{
		{"STATE_DIR", "pgha.state_dir"},
		{"SAFETY_MARGIN", "pgha.safety_margin"},
		{"WIRE_FENCE", "pgha.wire_fence"},
	}
	for _, name := range []string{
		"enabled", "name", "data_dir", "listen_client", "listen_peer", "advertise_client", "advertise_peer", "client_hosts",
		"initial_cluster", "initial_cluster_state", "initial_cluster_token", "heartbeat_interval", "election_timeout",
		"certfile", "keyfile", "cafile", "peer_certfile", "peer_keyfile", "peer_cafile",
	} {
		list = append(list, variable{embeddedPrefix + strings.ToUpper(name), "pgha.etcd." + name})
	}
	return list
}

// parseEnviron turns NAME=value texts into a map. An empty value counts as not set.
func parseEnviron(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if ok && value != "" && (strings.HasPrefix(name, prefixPatroni) || strings.HasPrefix(name, prefixPgha)) {
			env[name] = value
		}
	}
	return env
}

// StripEnviron removes the variables that Load reads, which may hold passwords, from an
// environment that is handed to child processes.
func StripEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, prefixPatroni) || strings.HasPrefix(entry, prefixPgha)
	})
}

// fromEnvironment builds a tree from variables.
func fromEnvironment(env map[string]string) (*node, []Warning) {
	root := newMap("environment")
	read := map[string]bool{prefixPatroni + configurationVariable: true, prefixPgha + configurationVariable: true}
	apply := func(prefix string, list []variable) {
		for _, v := range list {
			name := prefix + v.name
			read[name] = true
			value, ok := env[name]
			if !ok || isServiceLink(name, value) {
				continue
			}
			keys := strings.Split(v.path, ".")
			last := len(keys) - 1
			root.at(keys[:last], name).set(keys[last], newText(value, name))
		}
	}
	apply(prefixPatroni, variables())
	apply(prefixPgha, variables())
	apply(prefixPgha, ownVariables())
	markOtherStores(root, env, read)
	return root, unknownVariables(env, read)
}

// markOtherStores notes that variables configure a store that pgha cannot use.
func markOtherStores(root *node, env map[string]string, read map[string]bool) {
	for _, store := range storeSections() {
		if store == "etcd" || store == "etcd3" {
			continue
		}
		prefix := prefixPatroni + strings.ToUpper(store) + "_"
		for name := range env {
			if strings.HasPrefix(name, prefix) && !isServiceLink(name, env[name]) {
				read[name] = true
				root.at([]string{store}, name).set(strings.ToLower(strings.TrimPrefix(name, prefix)), newText(env[name], name))
			}
		}
	}
}

// isServiceLink recognizes the variables that container platforms make for a service that happens
// to be called pgha or patroni: PGHA_ETCD3_PORT=tcp://10.0.0.1:2379.
func isServiceLink(name, value string) bool {
	return strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") ||
		strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.Contains(name, "_TCP_") || strings.Contains(name, "_UDP_")
}

// unknownVariables warns of names that look like a misspelt setting. Others with the prefix
// belong to images and platforms, and nothing is said about them.
func unknownVariables(env map[string]string, read map[string]bool) []Warning {
	known := make([]string, 0, len(read))
	for name := range read {
		known = append(known, name)
	}
	slices.Sort(known)
	var warnings []Warning
	for name, value := range env {
		if read[name] || isServiceLink(name, value) {
			continue
		}
		if near := nearest(name, known); near != "" && distance(name, near) <= 3 {
			warnings = append(warnings, Warning{Path: name, Message: "unknown variable, did you mean " + near + "?"})
		}
	}
	slices.SortFunc(warnings, func(a, b Warning) int { return strings.Compare(a.Path, b.Path) })
	return warnings
}
