package fencer

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary play every process of the tests: the fencer and its second (as
// Connect starts them), a stand-in for a postmaster and its children, an agent, and a CPU hog.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		goleak.VerifyTestMain(m)
		return
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "fencer":
		err = Main(context.Background(), args)
	case "init":
		err = playInit(args)
	case "standin":
		err = playPostmaster(args)
	case "standin-child":
		err = playBackend(args)
	case "agent":
		err = playAgent(args)
	case "contained":
		err = playContained(args)
	case "hog":
		playHog()
	default:
		goleak.VerifyTestMain(m)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(1)
	}
}

func playHog() {
	for i := 0; ; i++ {
		_ = i
	}
}
