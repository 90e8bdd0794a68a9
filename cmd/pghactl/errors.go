package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// hintedError is an error with an advice: what is wrong, then what to try.
type hintedError struct {
	err  error
	hint string
}

func (h *hintedError) Error() string { return h.err.Error() }
func (h *hintedError) Unwrap() error { return h.err }

// withHint adds an advice to an error. The innermost advice is the one printed, because whoever is
// nearest to the cause knows best.
func withHint(err error, format string, args ...any) error {
	return &hintedError{err: err, hint: fmt.Sprintf(format, args...)}
}

// usageError says that the command line itself is wrong, so that nothing was tried.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...)}
}

// errAborted is the answer "no" to a question.
var errAborted = errors.New("aborted, nothing was changed")

func exitCode(err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	default:
		return exitFailed
	}
}

// reportError prints an error and its advice.
func reportError(w io.Writer, err error) {
	fmt.Fprintf(w, "pghactl: error: %s\n", err)
	for line := range strings.SplitSeq(hintOf(err), "\n") {
		if line != "" {
			fmt.Fprintf(w, "pghactl: hint: %s\n", line)
		}
	}
}

func hintOf(err error) string {
	hint := ""
	for {
		var h *hintedError
		if !errors.As(err, &h) {
			return hint
		}
		hint, err = h.hint, h.err
	}
}
