// Command pghactl is the operator's tool of a pgha cluster: it shows who leads and why, moves the
// leader, changes the dynamic configuration, and restarts, reloads or rebuilds members.
//
// It reads the consensus store and asks the agents over their REST API. It decides nothing by
// itself: what it asks for is checked again by the agent that carries it out. It works against
// Patroni agents too, as far as the rows D and R of the interface go.
//
// Data goes to standard output and talk to standard error. The exit status is 0 if what was asked
// for is done, 1 if it failed or was refused, and 2 if the command line makes no sense.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, osEnv(), os.Args[1:])
	stop()
	os.Exit(code)
}

// run carries out one command line and returns the exit status. Errors are printed here and
// nowhere else.
func run(ctx context.Context, e *env, args []string) int {
	root := newRootCmd(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		reportError(e.stderr, err)
	}
	return exitCode(err)
}
