// Command pgha-agent runs beside one PostgreSQL server and keeps it highly available.
//
//	pgha-agent CONFIG.yml          the agent
//	pgha-agent fencer --dir …      the fencer (started by the agent)
//	pgha-agent etcd CONFIG.yml     a member of an embedded etcd
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/config"
	"github.com/pgha/pgha/internal/fencer"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fencer" {
		os.Exit(report(fencer.Main(context.Background(), os.Args[2:])))
	}
	os.Exit(report(newCommand().Execute()))
}

// exitError carries the exit code of a process that has said all it had to say.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report prints an error once, in the form that every command of pgha uses.
func report(err error) int {
	var code exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	for i, line := range strings.Split(strings.TrimRight(err.Error(), "\n"), "\n") {
		prefix := "pgha-agent: error: "
		if i > 0 {
			prefix = "pgha-agent:        "
		}
		fmt.Fprintln(os.Stderr, prefix+line)
	}
	return 1
}

type flags struct {
	checkConfig bool
	version     bool
	onStop      string
	underInit   bool
}

func newCommand() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "pgha-agent CONFIG.yml",
		Short: "High availability for one PostgreSQL server",
		Long: `pgha-agent runs beside a PostgreSQL server. The agents of a cluster hold a lease in etcd that says
which server is the primary; they start, promote, demote, clone and rewind their own server, and
answer the health checks of a load balancer.

CONFIG.yml is a Patroni configuration file, with a section "pgha" for what Patroni has no name for.
It may also be a directory of such files.`,
		Example: `  pgha-agent /etc/pgha/node1.yml
  pgha-agent --check-config /etc/pgha/node1.yml
  pgha-agent --on-stop=keep /etc/pgha/node1.yml   # a stop of the agent leaves PostgreSQL running`,
		Args:          cobra.MaximumNArgs(1),
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.version {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "pgha-agent "+version())
				return err
			}
			path := ""
			if len(args) == 1 {
				path = args[0]
			}
			if f.onStop != stopServer && f.onStop != keepServer {
				return fmt.Errorf("--on-stop: %q: want %s or %s", f.onStop, stopServer, keepServer)
			}
			if f.checkConfig {
				return checkConfig(cmd, path)
			}
			return runAgent(cmd.Context(), path, f)
		},
	}
	cmd.Flags().BoolVar(&f.checkConfig, "check-config", false, "check the configuration and exit")
	cmd.Flags().BoolVar(&f.checkConfig, "validate-config", false, "the same, by its name in Patroni")
	cmd.Flags().BoolVar(&f.version, "version", false, "print the version and exit")
	cmd.Flags().StringVar(&f.onStop, "on-stop", stopServer, "what SIGTERM does to PostgreSQL: stop or keep")
	cmd.Flags().BoolVar(&f.underInit, "under-init", false, "the parent is the fencer as process 1 (internal)")
	_ = cmd.Flags().MarkHidden("under-init")
	cmd.AddCommand(newEtcdCommand())
	return cmd
}

// checkConfig loads and validates, and says what was found.
func checkConfig(cmd *cobra.Command, path string) error {
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	for _, w := range c.Warnings {
		cmd.PrintErrln("warning: " + w.String())
	}
	for _, s := range c.Ignored {
		cmd.PrintErrln("without effect: " + s)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "configuration of member %s in cluster %s is valid\n", c.Name, c.Scope)
	return err
}
