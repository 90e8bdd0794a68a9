package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
)

// A promotion takes the first timeline number after its own for which the server finds no history
// file here. A number that another member reserved and perhaps used before it died must not be used
// again (safety review, hole 10), and cannot be chosen in any setting. So a history file is put down
// for each such number. It names no ancestor, so that no standby ever takes it for its future.
//
// A server that is started as a standby while such a file is the newest does trip over it. Hence it
// is put down right before a promotion, and taken away again before any start that follows.

const burntText = "# pgha: this number was reserved by a reign that is over, and is not to be used\n"

// ErrTimelineTaken says that a promotion here could not take the timeline number it was to take.
var ErrTimelineTaken = errors.New("the timeline number cannot be reserved here")

func (s *Server) historyPath(tl election.Timeline) string {
	return s.inData("pg_wal", fmt.Sprintf("%08X.history", uint32(tl)))
}

// ReserveTimeline makes the next promotion of this standby, which is on timeline current, take the
// number next. It comes right before the promotion, after the last WriteConfig. ErrTimelineTaken if
// next is in use here already, or this server has set out for a timeline that begins beyond its end.
func (s *Server) ReserveTimeline(current, next election.Timeline) error {
	if current == 0 || next <= current {
		return fmt.Errorf("%w: %d after %d", ErrTimelineTaken, next, current)
	}
	if _, err := os.Stat(s.historyPath(next)); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: %d: there is a history file of it", ErrTimelineTaken, next), err)
	}
	var missing []election.Timeline
	for tl := current + 1; tl < next; tl++ {
		h, err := s.TimelineHistory(tl)
		switch {
		case errors.Is(err, ErrNoHistory):
			missing = append(missing, tl)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrTimelineTaken, err)
		default:
			if err := s.mayBeFollowed(current, tl, h); err != nil {
				return err
			}
		}
	}
	for _, tl := range missing {
		if err := s.writeDurably(s.historyPath(tl), []byte(burntText), s.fileMode()); err != nil {
			return fmt.Errorf("reserve timeline %d: %w", next, err)
		}
		s.log.Info("timeline number burnt", zap.Uint32("timeline", uint32(tl)), zap.Uint32("next", uint32(next)))
	}
	return nil
}

// mayBeFollowed refuses a timeline that left ours at a point that this server has not reached: the
// startup process has it for its goal, and would make it a parent of the new one all the same. One
// that left at our end becomes an empty parent, one that left before it is no goal.
func (s *Server) mayBeFollowed(current, tl election.Timeline, h election.History) error {
	i := slices.IndexFunc(h, func(e election.HistoryEntry) bool { return e.Timeline == current })
	if i < 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), observeTimeout)
	defer cancel()
	o, err := s.Observe(ctx)
	if at := max(o.ReceiveLSN, o.ReplayLSN); err != nil || h[i].Switch > at {
		return errors.Join(fmt.Errorf("%w: timeline %d left %d at %s, which this server has not reached", ErrTimelineTaken, tl, current, h[i].Switch), err)
	}
	return nil
}

// ForgetReservations takes burnt numbers away that no promotion of this server used: those with
// nothing after them. A number between two real timelines stays, because those who follow look for
// an unbroken row.
func (s *Server) ForgetReservations() error {
	c, err := s.Control()
	if err != nil {
		return fmt.Errorf("forget reservations: %w", err)
	}
	newest := max(c.Timeline, c.MinRecoveryEndTimeline)
	first := newest
	for ; ; newest++ {
		if _, err := os.Stat(s.historyPath(newest + 1)); err != nil {
			break
		}
	}
	for ; newest > first; newest-- {
		b, err := os.ReadFile(s.historyPath(newest))
		if err != nil {
			return fmt.Errorf("forget reservations: %w", err)
		}
		if !strings.HasPrefix(string(b), burntText) {
			return nil
		}
		if err := removeDurably(s.historyPath(newest)); err != nil {
			return fmt.Errorf("forget reservations: %w", err)
		}
	}
	return nil
}

// forgetReservations comes before every start as a standby.
func (w *configWriter) forgetReservations() error {
	if !w.spec.Standby {
		return nil
	}
	return w.s.ForgetReservations()
}
