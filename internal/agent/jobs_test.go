package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

func TestAFailureIsSortedByWhatCanBeDoneAboutIt(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want election.FailureClass
	}{
		{errors.New("no idea"), election.ClassOther},
		{fmt.Errorf("rewind: %w", context.Canceled), election.ClassCanceled},
		{fmt.Errorf("clone: void the own vote: %w", dcs.ErrUnavailable), election.ClassStore},
		{fmt.Errorf("clone: void the own vote: %w", dcs.ErrUnknownOutcome), election.ClassStore},
		{fmt.Errorf("clone: %w", classified{election.ClassPeer, dcs.ErrUnavailable}), election.ClassPeer},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
	}
}
