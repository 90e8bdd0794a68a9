package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/dcs"
)

// session is one command's connection to a cluster.
type session struct {
	env      *env
	settings settings
	store    store
	agents   agents
}

// errNoContact says that a request certainly never reached the agent.
var errNoContact = errors.New("agent cannot be reached")

func (a *app) open(ctx context.Context, s settings) (*session, error) {
	st, err := a.env.openStore(ctx, s)
	if err != nil {
		return nil, withHint(fmt.Errorf("open the consensus store: %w", err), "%s", storeHint(s, err))
	}
	ag, err := a.env.openAgents(s)
	if err != nil {
		_ = st.Close() // the first error is the one to tell
		return nil, fmt.Errorf("set up the client of the agents: %w", err)
	}
	return &session{env: a.env, settings: s, store: st, agents: ag}, nil
}

func (s *session) close() {
	// Nothing that was asked for depends on how the connection ends.
	_ = s.store.Close()
}

// connect opens a session with a cluster that is named on the command line or in the settings.
func (a *app) connect(ctx context.Context, name string) (*session, error) {
	st, err := a.global.resolveCluster(a.env, name)
	if err != nil {
		return nil, err
	}
	return a.open(ctx, st)
}

// load reads one cluster that must exist.
func (a *app) load(ctx context.Context, name string) (*cluster, error) {
	s, err := a.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c, err := s.load(ctx)
	return c, err
}

func (s *session) load(ctx context.Context) (*cluster, error) {
	c, err := loadExisting(ctx, s.store, s.settings)
	if err != nil && hintOf(err) == "" {
		return nil, withHint(err, "%s", storeHint(s.settings, err))
	}
	return c, err
}

func storeHint(s settings, err error) string {
	switch {
	case errors.Is(err, dcs.ErrAuth):
		return "check etcd3.username and etcd3.password; " + s.origin()
	default:
		return fmt.Sprintf("is etcd running and reachable at %s? %s; -d HOST:PORT names another\nthe agents can be asked without it: pghactl why --agent HOST:PORT",
			strings.Join(s.etcd.endpoints, ", "), s.origin())
	}
}

// connectMembers opens a session for a command line "[CLUSTER] [MEMBER…]". The first word is the
// cluster, unless a cluster is configured and has a member of that name; with --scope all words are
// members.
func (a *app) connectMembers(ctx context.Context, args []string) (*session, *cluster, []string, error) {
	base, err := a.global.resolve(a.env, "")
	if err != nil {
		return nil, nil, nil, err
	}
	if base.scope != "" && (len(args) == 0 || a.global.scope != "" || args[0] != base.scope) {
		s, err := a.open(ctx, base)
		if err != nil {
			return nil, nil, nil, err
		}
		c, err := s.load(ctx)
		if err == nil && (len(args) == 0 || a.global.scope != "" || hasName(c, args[0])) {
			return s, c, args, nil
		}
		s.close()
		if err != nil && (len(args) == 0 || a.global.scope != "") {
			return nil, nil, nil, err
		}
	}
	s, err := a.connect(ctx, firstArg(args))
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := s.load(ctx)
	if err != nil {
		s.close()
		return nil, nil, nil, err
	}
	return s, c, args[1:], nil
}

// ask sends a request that is answered at once.
func (s *session) ask(ctx context.Context, m member, method, path string, body any) (reply, error) {
	return s.askFor(ctx, m, method, path, body, askTimeout)
}

// askTimeout bounds requests that an agent answers without waiting for anything.
const askTimeout = 5 * time.Second

func (s *session) askFor(ctx context.Context, m member, method, path string, body any, limit time.Duration) (reply, error) {
	if m.APIURL == "" {
		return reply{}, noContactError{errors.New("it publishes no API address")}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.agents.Do(ctx, m.APIURL, method, path, body)
}

// askJSON is ask for a GET whose answer is JSON.
func (s *session) askJSON(ctx context.Context, m member, path string, into any) error {
	r, err := s.ask(ctx, m, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.Code != http.StatusOK {
		return &statusError{code: r.Code, text: r.Text}
	}
	if err := json.Unmarshal(r.Body, into); err != nil {
		return fmt.Errorf("answer of member %s to %s: %w", m.Name, path, err)
	}
	return nil
}

// statusError is an answer that is not the one hoped for.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.code, e.text)
}

// leaderFirst orders members for requests that any of them can serve: the leader first, because it
// need not ask anybody else.
func leaderFirst(c *cluster) []member {
	var out []member
	if lead, ok := c.leader(); ok {
		out = append(out, lead)
	}
	for _, m := range c.members {
		if !c.isLeader(m) {
			out = append(out, m)
		}
	}
	return out
}
