package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// versionView is the result of "version" (documented output).
type versionView struct {
	Pghactl string          `json:"pghactl"`
	Members []memberVersion `json:"members,omitempty"`
}

type memberVersion struct {
	Member     string `json:"member"`
	Pgha       string `json:"pgha,omitempty"`
	Patroni    string `json:"patroni,omitempty"`
	PostgreSQL string `json:"postgresql,omitempty"`
	Error      string `json:"error,omitempty"`
}

func newVersionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version [CLUSTER] [MEMBER…]",
		Short: "Print versions: of this tool, and of a cluster's agents and servers",
		Long: `Print the version of pghactl, and for a cluster that is named those of each member's agent and server.
"compatible with" is the version of Patroni's interface that a pgha agent speaks.`,
		Example: `  pghactl version
  pghactl version demo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runVersion(cmd.Context(), args)
		},
		ValidArgsFunction: a.memberArgs,
	}
}

func (a *app) runVersion(ctx context.Context, args []string) error {
	view := versionView{Pghactl: a.env.version}
	if len(args) > 0 || a.global.scope != "" {
		s, c, names, err := a.connectMembers(ctx, args)
		if err != nil {
			return err
		}
		defer s.close()
		members, err := pickMembers(c, names)
		if err != nil {
			return err
		}
		for _, m := range members {
			view.Members = append(view.Members, s.versionOf(ctx, m))
		}
	}
	if a.out.structured() {
		return encode(a.env.stdout, a.out.format, view)
	}
	fmt.Fprintf(a.env.stdout, "pghactl version %s\n", view.Pghactl)
	for _, m := range view.Members {
		switch {
		case m.Error != "":
			fmt.Fprintf(a.env.stdout, "%s: failed to get version: %s\n", m.Member, m.Error)
		case m.Pgha != "":
			fmt.Fprintf(a.env.stdout, "%s: pgha %s (compatible with Patroni %s) PostgreSQL %s\n", m.Member, m.Pgha, m.Patroni, m.PostgreSQL)
		default:
			fmt.Fprintf(a.env.stdout, "%s: Patroni %s PostgreSQL %s\n", m.Member, m.Patroni, m.PostgreSQL)
		}
	}
	return nil
}

func (s *session) versionOf(ctx context.Context, m member) memberVersion {
	v := memberVersion{Member: m.Name, Pgha: m.PghaVersion, Patroni: m.Version}
	st, err := s.statusOf(ctx, m)
	if err != nil {
		v.Error = err.Error()
		return v
	}
	if st.Patroni.Version != "" {
		v.Patroni = st.Patroni.Version
	}
	if st.Pgha != nil {
		v.Pgha = st.Pgha.Version
	}
	v.PostgreSQL = "unknown"
	if n := st.ServerVersion; n >= 100000 {
		v.PostgreSQL = fmt.Sprintf("%d.%d", n/10000, n%10000)
	} else if n > 0 {
		v.PostgreSQL = fmt.Sprintf("%d.%d.%d", n/10000, n/100%100, n%100)
	}
	return v
}
