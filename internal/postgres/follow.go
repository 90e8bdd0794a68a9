package postgres

import (
	"context"
	"fmt"

	"github.com/pgha/pgha/internal/election"
)

// CanFollow says whether this running standby may be pointed at a source: VerdictStreamable if its
// log is a prefix of the source's, by the whole list of timelines and, where the source still has
// it, by the log itself: two members that were promoted apart may both call their timeline 2, and a
// standby of the one must not stream from the other. It takes a few round trips and no SQL at the source.
func (s *Server) CanFollow(ctx context.Context, src Source) (Divergence, error) {
	unknown := Divergence{LostTransactions: -1}
	o, err := s.Observe(ctx)
	if err != nil {
		unknown.Why = "the server does not answer"
		return unknown, fmt.Errorf("can follow: %w", err)
	}
	if o.Role != election.RoleStandby {
		unknown.Why = fmt.Sprintf("the server is a %s", o.Role)
		return unknown, fmt.Errorf("can follow: %w: %s", ErrDataDir, unknown.Why)
	}
	local, err := s.positionOf(o)
	if err != nil {
		unknown.Why = "the end of the local WAL is not known"
		return unknown, fmt.Errorf("can follow: %w", err)
	}
	source, err := s.IdentifySource(ctx, src)
	if err != nil {
		unknown.Why = "the source could not be asked"
		return unknown, fmt.Errorf("can follow: %w", err)
	}
	d := compareHistories(local, source)
	if d.Verdict == VerdictStreamable {
		s.prove(ctx, src, local, &d)
	}
	return d, nil
}
