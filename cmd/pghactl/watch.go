package main

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// watchOptions are -W and -w of rows L-11.
type watchOptions struct {
	every2  bool
	seconds float64
}

func (o *watchOptions) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&o.every2, "watch-every-2", "W", false, "show it again every 2 seconds")
	cmd.Flags().Float64VarP(&o.seconds, "watch", "w", 0, "show it again every so many seconds")
}

func (o *watchOptions) interval() time.Duration {
	switch {
	case o.seconds > 0:
		return time.Duration(o.seconds * float64(time.Second))
	case o.every2:
		return 2 * time.Second
	default:
		return 0
	}
}

const clearScreen = "\x1b[H\x1b[2J"

// repeat shows something once, or again and again until interrupted. A look that fails while
// watching is shown and tried again: a watch is most wanted when things break.
func (a *app) repeat(ctx context.Context, opt watchOptions, show func(context.Context, io.Writer) error) error {
	interval := opt.interval()
	if opt.seconds < 0 {
		return usagef("--watch needs a positive number of seconds")
	}
	if interval == 0 {
		return show(ctx, a.env.stdout)
	}
	for {
		var screen bytes.Buffer
		if err := show(ctx, &screen); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // called off by the person who watches
			}
			reportError(&screen, err)
		}
		if a.env.stdoutTTY {
			if _, err := io.WriteString(a.env.stdout, clearScreen); err != nil {
				return err
			}
		}
		if _, err := a.env.stdout.Write(screen.Bytes()); err != nil {
			return err
		}
		if a.env.pause(ctx, interval) != nil {
			return nil //nolint:nilerr // called off by the person who watches
		}
	}
}
