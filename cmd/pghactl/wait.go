package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// waitOptions are --wait and --timeout.
type waitOptions struct {
	wait    bool
	timeout time.Duration
}

func (o *waitOptions) add(cmd *cobra.Command, what string, timeout time.Duration) {
	cmd.Flags().BoolVar(&o.wait, "wait", false, "wait until "+what)
	cmd.Flags().DurationVar(&o.timeout, "wait-timeout", timeout, "give up waiting after this long")
}

// pollEvery is how often a condition is looked at. Reading the store costs it a millisecond.
const pollEvery = 500 * time.Millisecond

// errTimedOut says that a wait ended without its condition.
var errTimedOut = errors.New("timed out")

// waitFor looks until the condition holds. look returns what it waits for, in words, and whether
// that is over; its errors do not end the wait, because stores and agents may be away for a moment
// in the very situations in which one waits.
func (s *session) waitFor(ctx context.Context, limit time.Duration, look func(context.Context) (state string, done bool, err error)) error {
	deadline := s.env.now().Add(limit)
	var last string
	for {
		state, done, err := look(ctx)
		switch {
		case done && err == nil:
			return nil
		case done:
			return err
		case err != nil:
			last = err.Error()
		default:
			last = state
		}
		if !s.env.now().Before(deadline) {
			return fmt.Errorf("%w after %s; last seen: %s", errTimedOut, limit, last)
		}
		if err := s.env.pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("stopped waiting: %w; last seen: %s", err, last)
		}
	}
}
