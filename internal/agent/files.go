package agent

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// upstreamRecord says which source the written configuration follows. It is kept beside the data
// so that an agent that restarts knows without parsing the configuration.
type upstreamRecord struct {
	Name    string `json:"name"`
	ConnURL string `json:"conn_url"`
}

const upstreamFile = "upstream.json"

// loadUpstream reads the record; anything unreadable is "not known", which leads to Follow.
func loadUpstream(stateDir string) upstreamRecord {
	var r upstreamRecord
	b, err := os.ReadFile(filepath.Join(stateDir, upstreamFile))
	if err != nil || json.Unmarshal(b, &r) != nil {
		return upstreamRecord{}
	}
	return r
}

func saveUpstream(stateDir string, r upstreamRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(stateDir, upstreamFile+".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(stateDir, upstreamFile))
}

func (a *Agent) upstreamNow() upstreamRecord {
	var r upstreamRecord
	a.facts.with(func(f *facts) { r = f.upstream })
	return r
}

// forgetUpstream notes that the running server does not know yet what the files say: written is not
// followed.
func (a *Agent) forgetUpstream() error {
	a.facts.with(func(f *facts) {
		f.upstream, f.reloadOwed = upstreamRecord{}, true
		f.local.Upstream, f.local.UpstreamConnURL = "", ""
	})
	return saveUpstream(a.pg.Options().StateDir, upstreamRecord{})
}

// writeFiles renders the configuration for a role, with an upstream or none.
func (a *Agent) writeFiles(v election.View, standby bool, upstream, connURL string) (postgres.Changed, error) {
	var eff config.EffectivePostgres
	a.facts.with(func(f *facts) { eff = f.effective })
	major, err := a.pg.MajorVersion()
	if err != nil {
		return postgres.Changed{}, err
	}
	role := config.RolePrimary
	if standby {
		role = config.RoleReplica
	}
	files := eff.For(role, major)
	spec := postgres.ConfigSpec{
		Standby: standby, Parameters: files.Parameters, RecoveryConf: eff.RecoveryConf, CustomConf: eff.CustomConf,
	}
	if eff.ManageHBA {
		spec.HBA = files.PgHBA
	}
	if eff.ManageIdent {
		spec.Ident = files.PgIdent
	}
	if err := a.syncSpec(v, standby, &spec); err != nil {
		return postgres.Changed{}, err
	}
	if v.Store.Cluster.Leader.Present {
		spec.LeaderRevision = v.Store.Cluster.Leader.ModRevision
	}
	rec := upstreamRecord{}
	if connURL != "" {
		src, err := postgres.ParseSource(upstream, connURL)
		if err != nil {
			return postgres.Changed{}, err
		}
		if eff.UseSlots && v.Policy.UseSlots {
			src.Slot = conf.SlotName(v.Self.Name)
		}
		spec.Upstream = &src
		rec = upstreamRecord{Name: upstream, ConnURL: connURL}
	}
	a.filesMu.Lock()
	defer a.filesMu.Unlock()
	changed, err := a.pg.WriteConfig(spec)
	if err != nil {
		return changed, err
	}
	if err := saveUpstream(a.pg.Options().StateDir, rec); err != nil {
		return changed, err
	}
	a.facts.with(func(f *facts) {
		if f.upstream != rec {
			f.followedAt = Now()
		}
		f.upstream = rec
		f.local.Upstream, f.local.UpstreamConnURL = rec.Name, rec.ConnURL
		f.reloadOwed = f.reloadOwed || changed.Files
		if connURL != "" || !standby {
			f.released(spec.LeaderRevision)
		}
	})
	return changed, nil
}
