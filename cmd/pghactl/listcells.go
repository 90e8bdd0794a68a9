package main

import (
	"fmt"
	"strings"
)

// memberRow is a member with its place in the tree.
type memberRow struct {
	memberView
	indent string
}

// orderMembers sorts members by name, or as a tree (row L-18).
func orderMembers(v *clusterView, tree bool) []memberRow {
	var rows []memberRow
	if !tree {
		for _, m := range v.Members {
			rows = append(rows, memberRow{memberView: m})
		}
		return rows
	}
	parents := treeParents(v)
	children := map[string][]memberView{}
	for _, m := range v.Members {
		children[parents[m.Name]] = append(children[parents[m.Name]], m)
	}
	var walk func(parent string, depth int)
	walk = func(parent string, depth int) {
		for _, m := range children[parent] {
			indent := ""
			if depth > 0 {
				indent = strings.Repeat("  ", depth-1) + "+ "
			}
			rows = append(rows, memberRow{memberView: m, indent: indent})
			walk(m.Name, depth+1)
		}
	}
	walk("", 0)
	return rows
}

// treeParents names the member above each one; nothing is above the leader, nor above anybody while
// there is none. A parent that is unknown, the member itself, or part of a circle counts as the leader.
func treeParents(v *clusterView) map[string]string {
	known := map[string]string{}
	for _, m := range v.Members {
		from, _ := m.Tags["replicatefrom"].(string)
		known[m.Name] = from
	}
	parents := map[string]string{}
	for _, m := range v.Members {
		parent := known[m.Name]
		if _, ok := known[parent]; !ok || parent == m.Name || inCircle(known, m.Name) {
			parent = v.Leader
		}
		if _, ok := known[parent]; !ok || m.Name == v.Leader {
			parent = ""
		}
		parents[m.Name] = parent
	}
	return parents
}

func inCircle(from map[string]string, start string) bool {
	seen := map[string]bool{}
	for at := from[start]; at != ""; at = from[at] {
		if at == start {
			return true
		}
		if seen[at] {
			return false
		}
		seen[at] = true
	}
	return false
}

// hostCell shows the port when any member's is not PostgreSQL's own, or when hosts repeat (row L-14).
func hostCell(v *clusterView, m memberView) string {
	if m.Host == "" {
		return ""
	}
	hosts := map[string]bool{}
	withPort := false
	for _, other := range v.Members {
		withPort = withPort || (other.Port != 0 && other.Port != 5432) || hosts[other.Host] && other.Host != ""
		hosts[other.Host] = true
	}
	host := m.Host
	if !withPort || m.Port == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, m.Port)
}

// titleRole writes a role word for humans: "sync_standby" is "Sync Standby".
func titleRole(role string) string {
	words := strings.Split(role, "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}
