package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Kind of a member's process.
type Kind uint8

// Kinds of processes. They can be combined.
const (
	Agent       Kind = 1 << iota
	Fencer           // `pgha-agent fencer`, the first of the two
	Second           // its second process, which strikes if the first cannot
	Postmaster       // the one named in postmaster.pid
	Backend          // every other process of the server: its children, and orphans of a dead postmaster
	EtcdProcess      // `pgha-agent etcd`
	Helper           // pg_basebackup, initdb, scripts …

	// Fencers are both processes of the fencer.
	Fencers = Fencer | Second
	// Server is PostgreSQL whole.
	Server = Postmaster | Backend
	// Node is everything of the member.
	Node = Agent | Fencers | Server | EtcdProcess | Helper
)

func (k Kind) String() string {
	if k == Node {
		return "node"
	}
	var out []string
	for i, name := range []string{"agent", "fencer", "second fencer", "postmaster", "backends", "etcd", "helpers"} {
		if k&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return strings.Join(out, "+")
}

// Processes finds the member's live processes of the given kinds.
func (m *Member) Processes(kinds Kind) ([]Process, error) {
	found, err := ours(m.dir)
	if err != nil {
		return nil, fmt.Errorf("processes of %s: %w", m.Name, err)
	}
	// HAProxy's and other members' processes are elsewhere; what is found here is all the node's.
	postmaster := m.PostmasterPID()
	return slices.DeleteFunc(found, func(p Process) bool { return m.kind(p, postmaster)&kinds == 0 }), nil
}

func (m *Member) kind(p Process, postmaster int) Kind {
	switch {
	case p.PID == postmaster:
		return Postmaster
	case p.CWD == m.DataDir() && p.Comm == "postgres":
		return Backend
	case !p.isOneOf([]string{filepath.Base(m.c.Options.Agent)}):
		return Helper
	case len(p.Args) > 2 && p.Args[1] == "fencer" && p.Args[2] == "--second":
		return Second
	case len(p.Args) > 1 && p.Args[1] == "fencer":
		return Fencer
	case len(p.Args) > 1 && p.Args[1] == "etcd":
		return EtcdProcess
	case slices.Contains(p.Args, m.ConfigFile()), slices.Contains(p.Args, filepath.Base(m.ConfigFile())):
		return Agent
	}
	return Helper
}
