package main

import (
	"fmt"
	"strings"
)

// memberRoles are the values of -r (row L-08).
func memberRoles() []string {
	return []string{"leader", "primary", "standby-leader", "replica", "standby", "any"}
}

// pickMembers finds the named members, in the order given; no names are all members. A name that
// does not exist is an error, because what was meant is not known.
func pickMembers(c *cluster, names []string) ([]member, error) {
	if len(names) == 0 {
		return c.members, nil
	}
	var out []member
	for _, name := range names {
		m, ok := c.find(name)
		if !ok {
			return nil, unknownMember(c, name)
		}
		out = append(out, m)
	}
	return out, nil
}

func unknownMember(c *cluster, name string) error {
	return withHint(fmt.Errorf("cluster %s has no member %q", c.scope, name), "its members are: %s", strings.Join(c.names(), ", "))
}

// ofRole keeps the members of a role (row L-08).
func ofRole(c *cluster, members []member, role string) ([]member, error) {
	var fits func(member) bool
	switch role {
	case "", "any":
		return members, nil
	case "leader":
		fits = c.isLeader
	case "primary", "master":
		fits = func(m member) bool { return c.isLeader(m) && m.Role != "standby_leader" }
	case "standby-leader", "standby_leader":
		fits = func(m member) bool { return c.isLeader(m) && !isPrimaryRole(m.Role) }
	case "replica", "standby":
		fits = func(m member) bool { return !c.isLeader(m) }
	default:
		return nil, withHint(usagef("unknown role %q", role), "use one of: %s", strings.Join(memberRoles(), ", "))
	}
	var out []member
	for _, m := range members {
		if fits(m) {
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return nil, withHint(fmt.Errorf("no %s among the members %s", role, joinMembers(members)), "see: pghactl list %s", c.scope)
	}
	return out, nil
}

func joinMembers(members []member) string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}
