package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pgha/pgha/test/cluster"
)

// Sabotages are what the checkers are tried with: a storm that stays green on one of these would be
// worth nothing. Both are made from outside, with the programs as they are shipped.
const (
	// noFencer: the primary's agent stands still, and so do both processes of its fencer, which
	// would bring the server down.
	noFencer = "fencer"
	// wrongSet: the published synchronous set promises more than commits waited for, so that one
	// vote is enough for a takeover although another member alone has the last commits.
	wrongSet = "set"
)

func sabotages() []string { return []string{noFencer, wrongSet} }

// sabotage makes one step of a storm that is made up, not drawn.
func (s *storm) sabotage(ctx context.Context) error {
	st := plan{seed: s.o.seed, ttl: s.o.ttl, kinds: s.o.kinds}.step(1)
	st.command = -1
	switch s.o.sabotage {
	case noFencer:
		st.kinds, st.hold = []kind{{name: "sabotage of the fencer", begin: disableFencer}}, 3*s.o.ttl
	case wrongSet:
		st.kinds, st.hold = []kind{{name: "sabotage of the set", begin: widenSet}}, s.o.ttl
	}
	return s.step(ctx, st)
}

func disableFencer(ctx context.Context, sc *scene) error {
	sc.moves, sc.what = true, sc.role(sc.primary)
	if err := sc.primary.Freeze(ctx, cluster.Agent|cluster.Fencers); err != nil {
		return err
	}
	sc.undoLater(sc.primary.Thaw)
	return nil
}

// widenSet lets one standby fall behind, kills the primary and the other one, which has all commits,
// and then publishes in the dead primary's name that one vote is enough.
func widenSet(ctx context.Context, sc *scene) error {
	if sc.s.o.mode != cluster.Quorum {
		return errors.New("this sabotage needs a set of which any member may confirm a commit: -mode quorum")
	}
	behind := sc.other()
	ahead := sc.s.c.Others(sc.primary, behind)[0]
	sc.moves, sc.what = true, fmt.Sprintf("%s leads, %s is up to date, %s is behind", sc.primary.Name, ahead.Name, behind.Name)
	if err := sc.linked(behind); err != nil {
		return err
	}
	if err := behind.CutFrom(ctx, sc.primary.PG()); err != nil {
		return err
	}
	// What the walsender had in its buffers may still have got there; these rows have not.
	if err := sc.s.clients.proxy.WaitAcks(ctx, 20, sc.s.o.heal); err != nil {
		return err
	}
	for _, m := range []*cluster.Member{sc.primary, ahead} {
		if err := sc.down(ctx, m, cluster.Node); err != nil {
			return err
		}
	}
	text, err := sc.s.c.Get(ctx, "sync")
	if err != nil {
		return err
	}
	wrong, err := oneVoteIsEnough(text)
	if err != nil {
		return err
	}
	if _, err := sc.s.c.Etcd.Client().Put(ctx, sc.s.c.Key("sync"), wrong); err != nil {
		return fmt.Errorf("publish the wrong set: %w", err)
	}
	_, err = sc.s.c.WaitPrimary(ctx, sc.s.o.heal, sc.primary, ahead)
	return err
}

// oneVoteIsEnough changes the content of /sync: every set claims that commits waited for all of its
// members, so that the vote of any one will do.
func oneVoteIsEnough(text string) (string, error) {
	var sync map[string]any
	if err := json.Unmarshal([]byte(text), &sync); err != nil {
		return "", fmt.Errorf("the published set: %w: %.200s", err, text)
	}
	electorate, _ := sync["pgha"].(map[string]any)
	sets, _ := electorate["sets"].([]any)
	if len(sets) == 0 {
		return "", fmt.Errorf("the published set is empty: %.200s", text)
	}
	for _, one := range sets {
		set, _ := one.(map[string]any)
		voters, _ := set["voters"].([]any)
		if len(voters) < 2 || slices.Contains([]any{nil, 1.0}, set["quorum"]) {
			return "", fmt.Errorf("the published set needs but one vote already: %.200s", text)
		}
		set["wait"], set["quorum"] = len(voters), 1
	}
	sync["quorum"] = 0
	out, err := json.Marshal(sync)
	return string(out), err
}
