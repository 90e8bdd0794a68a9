package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (v *validator) watchdog() {
	w := v.c.Watchdog
	if !slices.Contains([]WatchdogMode{WatchdogOff, WatchdogAutomatic, WatchdogRequired}, w.Mode) {
		v.bad("watchdog.mode", string(w.Mode), "want off, automatic or required")
	}
	if w.SafetyMargin < 0 && w.SafetyMargin != -time.Second {
		v.bad("watchdog.safety_margin", w.SafetyMargin.String(), "want a number of seconds, or -1 for half the ttl")
	}
	v.oneOf("watchdog.driver", w.Driver, "default", "testing")
	if w.Mode != WatchdogOff && !filepath.IsAbs(w.Device) {
		v.bad("watchdog.device", w.Device, "want an absolute path, e.g. /dev/watchdog")
	}
}

func (v *validator) tags() {
	t := v.c.Tags
	for _, pair := range [][2]string{{tagNoFailover, tagFailoverPriority}, {tagNoSync, tagSyncPriority}} {
		veto, priority := pair[0], pair[1]
		value, given := t[priority]
		if !given || value == nil {
			continue
		}
		n, ok := t.number(priority)
		if !ok || n < 0 {
			v.bad("tags."+priority, textOf(value), "want a whole number, 0 or more")
			continue
		}
		if _, both := t[veto]; both && t.truthy(veto) != (n <= 0) {
			v.warn("tags."+priority, "contradicts tags.%s, which wins", veto)
		}
	}
	for _, name := range []string{tagNoFailover, tagNoSync, tagNoLoadBalance, tagCloneFrom} {
		if text, ok := t[name].(string); ok {
			if b, err := parseBool(text); err != nil || !b {
				v.warn("tags."+name, "%s: any text in quotes means true", quoteValue(text))
			}
		}
	}
	if value := t[tagNoStream]; value != nil {
		if _, err := parseBool(textOf(value)); err != nil {
			v.bad("tags."+tagNoStream, textOf(value), "want true or false")
		}
	}
	if source := t.ReplicateFrom(); source != "" && source == v.c.Name {
		v.bad("tags."+tagReplicateFrom, source, "want the name of another member")
	}
}

// directories checks that nothing of pgha's lies where pg_basebackup and pg_rewind would copy it
// to other members, or where a clone would delete it.
func (v *validator) directories() {
	p, g := v.c.PostgreSQL, v.c.Pgha
	const want = "want an absolute path"
	data := p.DataDir
	switch {
	case data == "":
		v.missing("postgresql.data_dir", "the absolute path of the data directory, e.g. /var/lib/postgresql/17/main")
		return
	case !filepath.IsAbs(data):
		v.bad("postgresql.data_dir", data, want+", e.g. /var/lib/postgresql/17/main")
		return
	case data == "/":
		v.bad("postgresql.data_dir", data, "want a directory of its own")
		return
	}
	if !filepath.IsAbs(p.ConfigDir) {
		v.bad("postgresql.config_dir", p.ConfigDir, want)
	}
	if !filepath.IsAbs(p.Pgpass) {
		v.bad("postgresql.pgpass", p.Pgpass, want)
	} else if within(p.Pgpass, data) {
		v.warn("postgresql.pgpass", "%s: lies in postgresql.data_dir, of which other members get a copy", quoteValue(p.Pgpass))
	}
	v.outside("pgha.state_dir", g.StateDir, data, "postgresql.data_dir")
	if !slices.Contains([]WireFence{WireFenceOff, WireFenceAuto, WireFenceRequired}, g.WireFence) {
		v.bad("pgha.wire_fence", string(g.WireFence), "want auto, off or required")
	}
	if g.SafetyMargin != 0 {
		// 3 s is the shortest ttl there can be.
		if least := marginFloor(3 * time.Second); g.SafetyMargin < least {
			v.bad("pgha.safety_margin", g.SafetyMargin.String(), fmt.Sprintf("want at least ttl/8 + 0.3 s, that is %s with the shortest ttl; or leave it out", least))
		}
	}
	if e := g.Etcd; e.Enabled {
		if e.DataDir == "" {
			v.missing("pgha.etcd.data_dir", "an absolute path, e.g. /var/lib/pgha/etcd")
			return
		}
		v.outside("pgha.etcd.data_dir", e.DataDir, data, "postgresql.data_dir")
	}
}

// outside checks that a directory is neither inside another nor around it.
func (v *validator) outside(path, dir, other, otherPath string) {
	switch {
	case !filepath.IsAbs(dir):
		v.bad(path, dir, "want an absolute path")
	case within(dir, other):
		v.bad(path, dir, "want a directory outside "+otherPath+" ("+other+")")
	case within(other, dir):
		v.bad(path, dir, "want a directory that does not contain "+otherPath+" ("+other+")")
	}
}

// within says whether a path is a directory or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (v *validator) embeddedEtcd() {
	e := v.c.Pgha.Etcd
	if !e.Enabled {
		return
	}
	const section = "pgha.etcd."
	for _, listen := range []struct {
		key, value string
		port       int
	}{{"listen_client", e.ListenClient, portEtcd}, {"listen_peer", e.ListenPeer, portEtcdPeer}} {
		if _, _, err := SplitHostPort(listen.value, 0); err != nil {
			v.bad(section+listen.key, listen.value, fmt.Sprintf("%s%d", wantHostPort, listen.port))
		}
	}
	v.address(section+"advertise_client", e.AdvertiseClient, portEtcd)
	v.address(section+"advertise_peer", e.AdvertisePeer, portEtcdPeer)
	v.oneOf(section+"initial_cluster_state", e.InitialClusterState, "new", "existing")
	v.initialCluster(e)
	for i, host := range e.ClientHosts {
		v.endpoint(fmt.Sprintf("%sclient_hosts[%d]", section, i), host)
	}
	if len(e.InitialCluster) > 1 && len(e.ClientHosts) == 0 && v.origin("etcd3") == "" {
		v.warn(section+"client_hosts", "empty: the agent reaches etcd through this node's member only")
	}
	if e.HeartbeatInterval < 10*time.Millisecond {
		v.bad(section+"heartbeat_interval", e.HeartbeatInterval.String(), "want at least 10ms")
	}
	if e.ElectionTimeout < 5*e.HeartbeatInterval || e.ElectionTimeout > 50*time.Second {
		v.bad(section+"election_timeout", e.ElectionTimeout.String(),
			fmt.Sprintf("want from 5 times heartbeat_interval (%s) to 50s", 5*e.HeartbeatInterval))
	}
	v.pair("pgha.etcd", "certfile", e.CertFile, "keyfile", e.KeyFile)
	v.pair("pgha.etcd", "peer_certfile", e.PeerCertFile, "peer_keyfile", e.PeerKeyFile)
}

func (v *validator) initialCluster(e EmbeddedEtcd) {
	const path = "pgha.etcd.initial_cluster"
	for _, name := range sortedStringKeys(e.InitialCluster) {
		v.address(join(path, name), e.InitialCluster[name], portEtcdPeer)
	}
	peer, ok := e.InitialCluster[e.Name]
	switch {
	case !ok:
		v.wrong(path, fmt.Sprintf("has no member %s: add %s: %s (pgha.etcd.advertise_peer)", e.Name, e.Name, e.AdvertisePeer))
	case peer != e.AdvertisePeer:
		v.bad(join(path, e.Name), peer, "want "+e.AdvertisePeer+", the value of pgha.etcd.advertise_peer")
	}
	if n := len(e.InitialCluster); n > 0 && n%2 == 0 {
		v.warn(path, "%d members survive the loss of no more members than %d do", n, n-1)
	}
}

// listener is one address that this node listens on.
type listener struct {
	path  string
	hosts []string
	port  int
}

// ports finds two settings that would bind the same port of the same address.
func (v *validator) ports() {
	var all []listener
	add := func(path, address string) {
		if host, port, err := SplitHostPort(address, 0); err == nil {
			all = append(all, listener{path, []string{host}, port})
		}
	}
	if hosts, port := v.c.PostgreSQL.ListenAddresses(); port != 0 {
		all = append(all, listener{"postgresql.listen", hosts, port})
	}
	add("restapi.listen", v.c.RestAPI.Listen)
	if e := v.c.Pgha.Etcd; e.Enabled {
		add("pgha.etcd.listen_client", e.ListenClient)
		add("pgha.etcd.listen_peer", e.ListenPeer)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.port == b.port && overlap(a.hosts, b.hosts) {
				v.found = append(v.found, Problem{
					Path: a.path, Value: quoteValue(hostPort(a.hosts[0], a.port)),
					Want: "want another port: " + b.path + " has the same", Origin: v.origin(a.path),
				})
				break
			}
		}
	}
}

func overlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y || isAnyHost(x) || isAnyHost(y) || (isLoopbackHost(x) && isLoopbackHost(y)) {
				return true
			}
		}
	}
	return false
}

// Members lists the names in InitialCluster, sorted.
func (e EmbeddedEtcd) Members() []string { return slices.Sorted(maps.Keys(e.InitialCluster)) }
