package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// settings is where the cluster is and how to talk to it, put together from flags, environment,
// file and defaults, in this order.
type settings struct {
	scope     string
	namespace string
	file      string // the configuration file that was read, empty if none
	ownAPI    string // of the agent whose file that is, empty if it is none

	etcd etcdSettings
	rest restSettings
}

// etcdSettings is how to reach the consensus store.
type etcdSettings struct {
	endpoints          []string // URLs
	srv, srvSuffix     string   // or a domain that names them
	username, password string
	caFile             string
	certFile, keyFile  string
}

// restSettings is how to talk to the agents (rows C-119 to C-124).
type restSettings struct {
	username, password string
	caFile             string
	certFile, keyFile  string
	keyPassword        string
	insecure           bool
}

// basePath is the prefix of the cluster's keys (row D-01).
func (s settings) basePath() string {
	var parts []string
	for part := range strings.SplitSeq(s.namespace+"/"+s.scope, "/") {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return "/" + strings.Join(parts, "/") + "/"
}

// origin says where the settings come from, for hints.
func (s settings) origin() string {
	if s.file == "" {
		return "no configuration file was read"
	}
	return "read from " + s.file
}

// globalFlags are the options that every command has.
type globalFlags struct {
	configFile string
	dcsURL     string
	scope      string
	namespace  string
	insecure   bool
}

// resolve finds out which cluster is meant. cluster is the name given as an argument, if any.
func (g *globalFlags) resolve(e *env, cluster string) (settings, error) {
	path, err := g.findFile(e)
	if err != nil {
		return settings{}, err
	}
	s, err := loadSettings(e, path)
	if err != nil {
		return settings{}, err
	}
	dcsURL := g.dcsURL
	if dcsURL == "" {
		dcsURL = e.getenv("DCS_URL")
	}
	if dcsURL != "" {
		if err := s.applyDCSURL(dcsURL); err != nil {
			return settings{}, err
		}
	}
	if g.namespace != "" {
		s.namespace = "/" + strings.Trim(g.namespace, "/")
	}
	if g.scope != "" {
		s.scope = g.scope
	}
	if cluster != "" {
		s.scope = cluster
	}
	if g.insecure {
		s.rest.insecure = true
	}
	if len(s.etcd.endpoints) == 0 && s.etcd.srv == "" {
		s.etcd.endpoints = []string{"http://127.0.0.1:2379"}
	}
	return s, nil
}

// resolveCluster is resolve for a command that needs to know the cluster.
func (g *globalFlags) resolveCluster(e *env, cluster string) (settings, error) {
	s, err := g.resolve(e, cluster)
	if err != nil {
		return s, err
	}
	if s.scope == "" {
		return s, withHint(usagef("which cluster?"),
			"name it as an argument, or give a configuration file with a scope (-c FILE); %s", s.origin())
	}
	return s, nil
}

// findFile chooses the configuration file: the flag, the environment, then the usual places. A file
// that was named must exist; of the usual places the first that exists is taken.
func (g *globalFlags) findFile(e *env) (string, error) {
	named, from := g.configFile, "-c"
	for _, name := range []string{"PGHACTL_CONFIG_FILE", "PATRONICTL_CONFIG_FILE"} {
		if named == "" {
			named, from = e.getenv(name), name
		}
	}
	if named != "" {
		if _, err := os.Stat(named); err != nil {
			return "", withHint(fmt.Errorf("configuration file: %w", err), "it was named by %s", from)
		}
		return named, nil
	}
	if e.configDir != "" {
		for _, name := range []string{"pgha/pghactl.yaml", "patroni/patronictl.yaml"} {
			path := filepath.Join(e.configDir, name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return onlyFile(e.etcDir), nil
}

// onlyFile is the one configuration file of a directory, or nothing: with two agents on a machine
// nobody can know which one is meant.
func onlyFile(dir string) string {
	var found []string
	for _, pattern := range []string{"*.yml", "*.yaml"} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return ""
		}
		found = append(found, matches...)
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// applyDCSURL reads "[scheme://]host[:port][,host…][/namespace]" (row L-03). It replaces whatever
// the file says about the store's endpoints.
func (s *settings) applyDCSURL(text string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest = "etcd3", text
	}
	transport := "http"
	switch strings.ToLower(scheme) {
	case "etcd", "etcd3", "http":
	case "https", "etcds", "etcd3s":
		transport = "https"
	default:
		return withHint(usagef("unknown store %q in the URL %q", scheme, text),
			"pgha keeps its state in etcd v3: write etcd3://HOST:PORT or https://HOST:PORT")
	}
	hosts, namespace, _ := strings.Cut(rest, "/")
	if transport == "http" && s.etcd.caFile != "" && strings.HasPrefix(scheme, "etcd") {
		transport = "https"
	}
	s.etcd.endpoints, s.etcd.srv = nil, ""
	for host := range strings.SplitSeq(hosts, ",") {
		if host == "" {
			return withHint(usagef("no host in the URL %q", text), "write etcd3://HOST:PORT")
		}
		endpoint := &url.URL{Scheme: transport, Host: withPort(host, "2379")}
		s.etcd.endpoints = append(s.etcd.endpoints, endpoint.String())
	}
	if namespace = strings.Trim(namespace, "/"); namespace != "" {
		s.namespace = "/" + namespace
	}
	return nil
}

func withPort(host, port string) string {
	u := url.URL{Host: host}
	if u.Port() != "" {
		return host
	}
	return host + ":" + port
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
