package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app is what the commands share: the world and the global flags.
type app struct {
	env    *env
	global globalFlags
	out    outputFlag
}

func newRootCmd(e *env) *cobra.Command {
	a := &app{env: e}
	root := &cobra.Command{
		Use:   "pghactl",
		Short: "Look at and operate a pgha cluster",
		Long: `pghactl looks at and operates a PostgreSQL cluster run by pgha agents (or by Patroni's).

It finds the cluster from flags, then the environment (PGHACTL_CONFIG_FILE, PATRONICTL_CONFIG_FILE,
DCS_URL and the agents' own PGHA_… and PATRONI_… variables), then a configuration file: the agent's
own YAML will do. Without -c the first of these is read:
  ~/.config/pgha/pghactl.yaml, ~/.config/patroni/patronictl.yaml, /etc/pgha/*.yml if there is just one.

Exit status: 0 done, 1 failed or refused, 2 wrong usage.`,
		Example: `  pghactl list
  pghactl why demo
  pghactl switchover demo --candidate b`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.out.check() },
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.global.configFile, "config-file", "c", "", "configuration file (the agent's own YAML will do)")
	flags.StringVarP(&a.global.dcsURL, "dcs-url", "d", "", "consensus store: [etcd3://]HOST[:PORT][,HOST…][/NAMESPACE]")
	flags.StringVar(&a.global.dcsURL, "dcs", "", "the same as --dcs-url")
	flags.StringVar(&a.global.scope, "scope", "", "cluster name, so that all arguments are members")
	flags.StringVar(&a.global.namespace, "namespace", "", "prefix of all clusters' keys (default service)")
	flags.BoolVarP(&a.global.insecure, "insecure", "k", false, "do not verify the agents' TLS certificates")
	_ = flags.MarkHidden("dcs") // fails only for a flag that does not exist
	a.out.add(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(&usageError{err: err}, "see: %s --help", cmd.CommandPath())
	})
	root.AddCommand(
		newListCmd(a), newTopologyCmd(a), newWhyCmd(a), newHistoryCmd(a),
		newSwitchoverCmd(a), newFailoverCmd(a), newFlushCmd(a),
		newPauseCmd(a), newResumeCmd(a),
		newRestartCmd(a), newReloadCmd(a), newReinitCmd(a),
		newShowConfigCmd(a), newEditConfigCmd(a),
		newDSNCmd(a), newRemoveCmd(a), newVersionCmd(a),
	)
	return root
}

func unknownCommand(cmd *cobra.Command, name string) error {
	err := usagef("unknown command %q", name)
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return withHint(err, "did you mean: pghactl %s", strings.Join(like, ", or pghactl "))
	}
	return withHint(err, "see: pghactl --help")
}

// maxArgs, exactly and so on of cobra give plain errors; ours are usage errors with the command.
func argsBetween(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return withHint(usagef("%s takes %s, not %d arguments", cmd.Name(), what, len(args)), "see: %s --help", cmd.CommandPath())
		}
		return nil
	}
}

func optionalCluster() cobra.PositionalArgs { return argsBetween(0, 1, "at most one cluster name") }

func firstArg(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// completeWith offers fixed words for a flag.
func completeWith(cmd *cobra.Command, flag string, words ...string) {
	// It fails only for a flag that does not exist or has a completion already.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completionTimeout bounds the look-up behind the Tab key: a shell that hangs is worse than one
// that offers nothing.
const completionTimeout = 2 * time.Second

// completeMembers offers the cluster's members for a flag.
func (a *app) completeMembers(cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.memberCompletions(cmd.Context(), firstArg(args)), cobra.ShellCompDirectiveNoFileComp
	})
}

// memberArgs offers members as further arguments.
func (a *app) memberArgs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.memberCompletions(cmd.Context(), firstArg(args)), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) memberCompletions(ctx context.Context, first string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	if c, err := a.load(ctx, ""); err == nil && (first == "" || first == c.scope || hasName(c, first)) {
		return describeMembers(c)
	}
	if first == "" {
		return nil
	}
	c, err := a.load(ctx, first)
	if err != nil {
		return nil
	}
	return describeMembers(c)
}

func hasName(c *cluster, name string) bool {
	_, ok := c.find(name)
	return ok
}

func describeMembers(c *cluster) []string {
	var out []string
	for _, m := range c.members {
		out = append(out, fmt.Sprintf("%s\t%s, %s", m.Name, titleRole(c.displayRole(m)), c.displayState(m)))
	}
	return out
}

// buildVersion is what the build recorded: the module's tag, or the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "0.1.0-dev+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "0.1.0-dev"
}
