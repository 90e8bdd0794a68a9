package cluster

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// WriteConfig writes the member's YAML file as it should be now.
func (m *Member) WriteConfig() error {
	config := m.config()
	if m.c.Options.Config != nil {
		m.c.Options.Config(m.Name, config)
	}
	return m.writeYAML(config)
}

// Reconfigure writes the member's YAML file with a change that lasts until the next WriteConfig.
func (m *Member) Reconfigure(change func(config map[string]any)) error {
	config := m.config()
	if m.c.Options.Config != nil {
		m.c.Options.Config(m.Name, config)
	}
	change(config)
	return m.writeYAML(config)
}

func (m *Member) writeYAML(config map[string]any) error {
	data, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("configuration of %s: %w", m.Name, err)
	}
	if err := os.WriteFile(m.ConfigFile(), data, 0o600); err != nil {
		return fmt.Errorf("configuration of %s: %w", m.Name, err)
	}
	return m.c.chown(m.ConfigFile())
}

// config is what an operator would write for this member.
func (m *Member) config() map[string]any {
	o := m.c.Options
	config := map[string]any{
		"scope":     o.Scope,
		"namespace": "/service/",
		"name":      m.Name,
		"log":       map[string]any{"level": "INFO"},
		"restapi":   map[string]any{"listen": m.API(), "connect_address": m.API()},
		"etcd3":     map[string]any{"hosts": m.c.Etcd.Endpoints()},
		"watchdog":  map[string]any{"mode": "off"},
		"bootstrap": map[string]any{
			"dcs":    m.c.dynamic(),
			"initdb": []any{map[string]any{"encoding": "UTF8"}, map[string]any{"locale": "C"}, "data-checksums"},
		},
		"postgresql": map[string]any{
			"listen":          m.PG(),
			"connect_address": m.PG(),
			"data_dir":        m.DataDir(),
			"bin_dir":         o.PostgresBin,
			"pgpass":          filepath.Join(m.dir, "pgpass"),
			"authentication": map[string]any{
				"superuser":   map[string]any{"username": superuser, "password": superuserPassword},
				"replication": map[string]any{"username": "replicator", "password": replicationPassword},
				"rewind":      map[string]any{"username": "rewinder", "password": rewindPassword},
			},
			"parameters": map[string]any{"unix_socket_directories": filepath.Join(m.dir, "s")},
			"pg_hba": []any{
				"local all all scram-sha-256",
				"host all all 127.0.0.0/8 scram-sha-256",
				"host all all 10.77.0.0/24 scram-sha-256",
				"host replication replicator 127.0.0.0/8 scram-sha-256",
				"host replication replicator 10.77.0.0/24 scram-sha-256",
			},
		},
	}
	if m.etcd != nil {
		config["pgha"] = map[string]any{"etcd": m.etcd.section()}
	}
	return config
}

// dynamic is bootstrap.dcs: the cluster-wide settings of the first start.
func (c *Cluster) dynamic() map[string]any {
	parameters := map[string]any{
		"shared_buffers":  "32MB",
		"max_connections": 50,
		"wal_keep_size":   "64MB",
		"max_wal_size":    "256MB",
	}
	maps.Copy(parameters, c.Options.Parameters)
	dynamic := map[string]any{
		"ttl":           int(c.Options.TTL.Seconds()),
		"loop_wait":     int(c.Options.LoopWait.Seconds()),
		"retry_timeout": int(c.Options.RetryTimeout.Seconds()),
		"postgresql": map[string]any{
			"use_pg_rewind": true, "use_slots": true, "parameters": parameters,
		},
	}
	maps.Copy(dynamic, c.Options.DCS)
	return dynamic
}
