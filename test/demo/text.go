package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgha/pgha/test/cluster"
)

func sortEvents(events []event) {
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// census says what a list of processes is made of: "agent, fencer, etcd, 9 PostgreSQL".
func census(all []cluster.Process) string {
	var parts []string
	servers := 0
	for _, p := range all {
		switch {
		case p.Comm == "postgres":
			servers++
		case len(p.Args) > 1 && (p.Args[1] == "fencer" || p.Args[1] == "etcd"):
			parts = append(parts, p.Args[1])
		case len(p.Args) > 0 && filepath.Base(p.Args[0]) == "pgha-agent":
			parts = append(parts, "agent")
		default:
			parts = append(parts, p.Comm)
		}
	}
	slices.Sort(parts)
	return strings.Join(append(parts, fmt.Sprintf("%d PostgreSQL", servers)), ", ")
}
