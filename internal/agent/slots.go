package agent

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// slotTend is how often slots that nobody needs any more are looked for.
const slotTend = time.Minute

// setSlots makes the slots of the members that stream from here.
func (a *Agent) setSlots(ctx context.Context, members []string) error {
	want := wantSlots(members)
	changes, err := a.pg.SetSlots(ctx, want, a.keepSlot)
	if err != nil {
		return fmt.Errorf("set replication slots: %w", err)
	}
	if len(changes.Created)+len(changes.Dropped) > 0 {
		a.log.Info("replication slots", zap.Strings("created", changes.Created), zap.Strings("dropped", changes.Dropped))
	}
	a.lookNow()
	return nil
}

func wantSlots(members []string) []postgres.WantSlot {
	want := make([]postgres.WantSlot, 0, len(members))
	for _, m := range members {
		want = append(want, postgres.WantSlot{Name: conf.SlotName(m)})
	}
	return want
}

// prepareSlots makes the slots of all other members before this one leads: of a synchronous leader's
// commits none is acknowledged before a standby streams from it, which fails without its slot. Those of a
// candidate that did not come to lead are tidied up later.
func (a *Agent) prepareSlots(ctx context.Context, v election.View) {
	if !v.Policy.UseSlots || !managed(v.Policy.Sync.Mode, v.Store.Cluster.Sync) {
		return
	}
	var want []postgres.WantSlot
	for _, m := range v.Store.Cluster.Members {
		if m.Name != v.Self.Name && !m.Tags.NoStream {
			want = append(want, postgres.WantSlot{Name: conf.SlotName(m.Name)})
		}
	}
	a.once(ctx, "prepare slots", storeCall, func(ctx context.Context) error {
		_, err := a.pg.SetSlots(ctx, want, func(postgres.Slot) bool { return true })
		return err
	})
}

// keepSlot spares every slot that is not known to be a member's of this cluster, every one in use,
// and a member's for member_slots_ttl after the member was last seen (row H-117).
func (a *Agent) keepSlot(s postgres.Slot) bool {
	keep := true
	a.facts.with(func(f *facts) {
		seen, ours := f.slotSeen[s.Name]
		keep = !ours || s.Active || Now()-seen < f.dynamic.MemberSlotsTTL
	})
	return keep
}

// tendSlots drops now and then what would hold back the log for nobody: slots of members that are
// long gone, and on a standby those that it made when it led.
func (a *Agent) tendSlots(ctx context.Context, v election.View) {
	standby := v.Local.Role == election.RoleStandby
	due := false
	a.facts.with(func(f *facts) {
		if f.slotSeen == nil {
			f.slotSeen = make(map[string]election.Instant)
		}
		for _, m := range v.Store.Cluster.Members {
			seen := v.Now
			if standby && m.Tags.ReplicateFrom != v.Self.Name {
				seen = v.Now - f.dynamic.MemberSlotsTTL // it streams from the leader, not from here
			}
			f.slotSeen[conf.SlotName(m.Name)] = seen
		}
		due = v.Now-f.slotsAt >= slotTend && f.answering && v.Policy.UseSlots && !v.Policy.Pause
		if due {
			f.slotsAt = v.Now
		}
	})
	if !due || v.Local.Server != election.ServerRunning || v.Job.Kind != election.JobNone || !v.Store.Cluster.Leader.Present {
		return
	}
	var members []string
	for _, m := range v.Store.Cluster.Members {
		if m.Name == v.Self.Name || m.Tags.NoStream {
			continue
		}
		if !standby && v.Own.Held() || m.Tags.ReplicateFrom == v.Self.Name {
			members = append(members, m.Name)
		}
	}
	var slots []postgres.Slot
	a.facts.with(func(f *facts) { slots = f.obs.Slots })
	if postgres.SlotsFit(slots, wantSlots(members), a.keepSlot) {
		return // nobody need connect for that
	}
	a.once(ctx, "tend slots", storeCall, func(ctx context.Context) error { return a.setSlots(ctx, members) })
}
