package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// asker puts questions to the operator. One reader serves all questions of a command, so that
// nothing typed ahead is lost between two of them.
type asker struct {
	env   *env
	in    *bufio.Reader
	force bool
}

func newAsker(e *env, force bool) *asker {
	return &asker{env: e, in: bufio.NewReader(e.stdin), force: force}
}

// canAsk says whether somebody is there to answer.
func (a *asker) canAsk() bool { return !a.force && a.env.stdinTTY }

// line asks for one line; an empty answer gives def.
func (a *asker) line(question, def string) (string, error) {
	if def != "" {
		question += " [" + def + "]"
	}
	fmt.Fprintf(a.env.stderr, "%s: ", question)
	text, err := a.in.ReadString('\n')
	if err != nil && (err != io.EOF || text == "") {
		fmt.Fprintln(a.env.stderr)
		return "", errAborted
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return def, nil
	}
	return text, nil
}

// confirm returns nil only if the operator agrees, or said so on the command line. With nobody to
// ask it refuses: a script must say --force.
func (a *asker) confirm(question string) error {
	if a.force {
		return nil
	}
	if !a.env.stdinTTY {
		return withHint(fmt.Errorf("standard input is not a terminal, so nobody can confirm"),
			"add --force (or --yes) to do it without a question")
	}
	answer, err := a.line(question+" [y/N]", "")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	default:
		return errAborted
	}
}
