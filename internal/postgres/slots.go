package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// WantSlot is a physical slot that shall exist.
type WantSlot struct {
	Name string
	// AdvanceTo moves an inactive slot forward; zero: leave it.
	AdvanceTo election.LSN
	// Idle says that nobody should be using the slot on this server, so that an xmin in it is
	// stale and would hold back vacuum for ever (row H-110).
	Idle bool
}

// SlotChanges says what SetSlots did, by slot name.
type SlotChanges struct {
	Created, Dropped, Advanced []string
	// Kept are slots that nobody wants but that were left: active, temporary, synced from a
	// primary, or kept by the caller.
	Kept []string
}

// Any says whether something changed.
func (c SlotChanges) Any() bool { return len(c.Created)+len(c.Dropped)+len(c.Advanced) > 0 }

// SetSlots makes the wanted physical slots exist, mends them (row H-110), advances idle ones
// and drops slots that nobody wants (row H-111), save those for which keep returns true. It
// reads the slots itself; callers run it when an Observation shows a need.
func (s *Server) SetSlots(ctx context.Context, want []WantSlot, keep func(Slot) bool) (SlotChanges, error) {
	var done SlotChanges
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return done, fmt.Errorf("slots: %w", err)
	}
	defer closeConn(conn)
	have, err := readSlots(ctx, conn)
	if err != nil {
		return done, fmt.Errorf("slots: %w", err)
	}
	var errs []error
	for _, w := range want {
		if !conf.ValidSlotName(w.Name) {
			errs = append(errs, fmt.Errorf("slot %q: not a valid name", w.Name))
			continue
		}
		if err := setSlot(ctx, conn, w, have[w.Name], &done); err != nil {
			errs = append(errs, fmt.Errorf("slot %s: %w", w.Name, err))
		}
	}
	for name, sl := range have {
		if slices.ContainsFunc(want, func(w WantSlot) bool { return w.Name == name }) {
			continue
		}
		if sl.spared(keep) {
			done.Kept = append(done.Kept, name)
			continue
		}
		if err := dropSlot(ctx, conn, name); err != nil {
			errs = append(errs, fmt.Errorf("slot %s: drop: %w", name, err))
			continue
		}
		done.Dropped = append(done.Dropped, name)
	}
	slices.Sort(done.Kept)
	slices.Sort(done.Dropped)
	return done, errors.Join(errs...)
}

// spared says that a slot stays although nobody wants it.
func (sl Slot) spared(keep func(Slot) bool) bool {
	return sl.Active || sl.Temporary || sl.Failover || sl.Synced || keep != nil && keep(sl)
}

// broken says that a slot which is wanted must be made anew (row H-110).
func (w WantSlot) broken(have Slot) bool {
	return !have.Active && (!have.Physical || have.RestartLSN == 0 || have.WALStatus == "lost" || w.Idle && have.HasXmin)
}

// SlotsFit says that SetSlots would change nothing about the slots of an Observation.
func SlotsFit(have []Slot, want []WantSlot, keep func(Slot) bool) bool {
	for _, w := range want {
		i := slices.IndexFunc(have, func(sl Slot) bool { return sl.Name == w.Name })
		if i < 0 || w.broken(have[i]) || w.AdvanceTo != 0 && !have[i].Active && have[i].RestartLSN < w.AdvanceTo {
			return false
		}
	}
	return !slices.ContainsFunc(have, func(sl Slot) bool {
		return !slices.ContainsFunc(want, func(w WantSlot) bool { return w.Name == sl.Name }) && !sl.spared(keep)
	})
}

// setSlot makes one slot what is wanted.
func setSlot(ctx context.Context, conn *pgx.Conn, w WantSlot, have *Slot, done *SlotChanges) error {
	if have != nil && w.broken(*have) {
		if err := dropSlot(ctx, conn, w.Name); err != nil {
			return fmt.Errorf("drop: %w", err)
		}
		done.Dropped = append(done.Dropped, w.Name)
		have = nil
	}
	if have == nil {
		_, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", w.Name)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == codeDuplicateObject {
			return nil
		}
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		done.Created = append(done.Created, w.Name)
		return nil
	}
	if w.AdvanceTo == 0 || have.Active || have.RestartLSN >= w.AdvanceTo {
		return nil
	}
	if _, err := conn.Exec(ctx, "SELECT pg_replication_slot_advance($1, $2::text::pg_lsn)", w.Name, w.AdvanceTo.String()); err != nil {
		return fmt.Errorf("advance to %s: %w", w.AdvanceTo, err)
	}
	done.Advanced = append(done.Advanced, w.Name)
	return nil
}

func readSlots(ctx context.Context, conn *pgx.Conn) (map[string]*Slot, error) {
	rows, err := conn.Query(ctx, `SELECT s.slot_name, s.slot_type, s.temporary, s.active, s.restart_lsn::text,
		s.xmin IS NOT NULL, COALESCE(to_jsonb(s)->>'wal_status', ''),
		COALESCE((to_jsonb(s)->>'failover')::boolean, false), COALESCE((to_jsonb(s)->>'synced')::boolean, false)
		FROM pg_replication_slots s`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]*Slot{}
	for rows.Next() {
		var sl Slot
		var typ string
		var restart *string
		if err := rows.Scan(&sl.Name, &typ, &sl.Temporary, &sl.Active, &restart, &sl.HasXmin, &sl.WALStatus, &sl.Failover, &sl.Synced); err != nil {
			return nil, err
		}
		sl.Physical = typ == "physical"
		if restart != nil {
			if sl.RestartLSN, err = election.ParseLSN(*restart); err != nil {
				return nil, err
			}
		}
		out[sl.Name] = &sl
	}
	return out, rows.Err()
}

// DropSlot drops one slot; a missing one is no error.
func (s *Server) DropSlot(ctx context.Context, name string) error {
	conn, err := s.adminConnect(ctx, s.opt.Database)
	if err != nil {
		return fmt.Errorf("drop slot %s: %w", name, err)
	}
	defer closeConn(conn)
	if err := dropSlot(ctx, conn, name); err != nil {
		return fmt.Errorf("drop slot %s: %w", name, err)
	}
	return nil
}

func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", name)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeUndefinedObject {
		return nil
	}
	return err
}
