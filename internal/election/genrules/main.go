// Command genrules writes docs/rules.md from the rules of package election, to standard output or
// to the file named by -o. It stands here and not under tools, which is a module of its own.
package main

import (
	"errors"
	"flag"
	"log"
	"os"

	"github.com/pgha/pgha/internal/election"
)

func main() {
	log.SetFlags(0)
	out := flag.String("o", "", "file to write; standard output if empty")
	flag.Parse()
	if err := write(*out); err != nil {
		log.Fatalln("genrules: error:", err)
	}
}

func write(path string) (err error) {
	f := os.Stdout
	if path != "" {
		f, err = os.Create(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	_, err = f.WriteString(election.RulesMarkdown())
	return err
}
