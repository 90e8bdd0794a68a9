package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgha/pgha/internal/dcs/memory"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

// scriptState is what one script has set up. The scripts run pghactl inside this process, so that
// the store and the agents can be too.
type scriptState struct {
	cluster *fakeCluster
	exit    int
	stdin   string
	tty     bool
}

type scriptKey struct{}

func state(ts *testscript.TestScript) *scriptState {
	return ts.Value(scriptKey{}).(*scriptState)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			st := &scriptState{cluster: newFakeCluster(t)}
			env.Values[scriptKey{}] = st
			env.Defer(st.cluster.close)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"pghactl":  cmdPghactl,
			"exits":    cmdExits,
			"healthy":  cmdHealthy,
			"put":      cmdPut,
			"del":      cmdDel,
			"get":      cmdGet,
			"member":   cmdMember,
			"agent":    cmdAgent,
			"requests": cmdRequests,
			"address":  cmdAddress,
			"typed":    cmdTyped,
			"input":    cmdInput,
		},
	})
}

// cmdPghactl runs a command line. A script says "! pghactl" where it must fail.
func cmdPghactl(ts *testscript.TestScript, neg bool, args []string) {
	st := state(ts)
	var stdout, stderr bytes.Buffer
	e := scriptEnv(ts, st, &stdout, &stderr)
	st.exit = run(context.Background(), e, args)
	st.stdin, st.tty = "", false
	fmt.Fprint(ts.Stdout(), st.cluster.hideAddresses(strings.ReplaceAll(stdout.String(), ts.Getenv("WORK"), "$WORK")))
	fmt.Fprint(ts.Stderr(), st.cluster.hideAddresses(strings.ReplaceAll(stderr.String(), ts.Getenv("WORK"), "$WORK")))
	if neg != (st.exit != 0) {
		ts.Fatalf("exit status %d\n[stdout]\n%s[stderr]\n%s", st.exit, stdout.String(), stderr.String())
	}
}

func scriptEnv(ts *testscript.TestScript, st *scriptState, stdout, stderr *bytes.Buffer) *env {
	work := ts.Getenv("WORK")
	e := &env{
		stdin: strings.NewReader(st.stdin), stdout: stdout, stderr: stderr,
		stdinTTY:   st.tty,
		version:    "1.2.3",
		now:        st.cluster.clock.Now,
		configDir:  filepath.Join(work, "config"),
		etcDir:     filepath.Join(work, "etc"),
		openAgents: openAgents,
		pause: func(ctx context.Context, d time.Duration) error {
			st.cluster.clock.Advance(d)
			return ctx.Err()
		},
		openStore: func(_ context.Context, s settings) (store, error) {
			h := st.cluster.server.Store(s.basePath())
			if strings.Contains(strings.Join(s.etcd.endpoints, ","), "unreachable") {
				h.SetFaults(memory.Faults{Partition: true})
			}
			return h, nil
		},
		edit: func(_ context.Context, path string) error {
			text, err := os.ReadFile(filepath.Join(work, "edited"))
			if err != nil {
				return errors.New("the script has no file called edited")
			}
			return os.WriteFile(path, text, 0o600)
		},
	}
	for _, name := range []string{"PGHACTL_CONFIG_FILE", "PATRONICTL_CONFIG_FILE", "DCS_URL", "PGHA_SCOPE", "PATRONI_SCOPE", "PATRONI_ETCD3_HOSTS", "PGHA_RESTAPI_CONNECT_ADDRESS"} {
		if v := ts.Getenv(name); v != "" {
			e.environ = append(e.environ, name+"="+v)
		}
	}
	return e
}

// cmdExits checks the exit status of the last pghactl.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := state(ts).exit; got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func cmdHealthy(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(state(ts).cluster.healthy()) }

// cmdPut writes a key: put KEY VALUE.
func cmdPut(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(state(ts).cluster.put(args[0], args[1]))
}

func cmdDel(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(state(ts).cluster.del(args[0]))
}

func cmdGet(ts *testscript.TestScript, _ bool, args []string) {
	fmt.Fprintln(ts.Stdout(), state(ts).cluster.get(args[0]))
}

// cmdMember changes fields of a member, adding the member if it is new: member NAME JSON.
func cmdMember(ts *testscript.TestScript, _ bool, args []string) {
	st := state(ts)
	if st.cluster.agent(args[0]) == nil {
		ts.Check(st.cluster.addMember(args[0], "10.0.0.9:5432", false))
	}
	var fields map[string]any
	ts.Check(json.Unmarshal([]byte(args[1]), &fields))
	ts.Check(st.cluster.changeMember(args[0], fields))
}

// cmdAgent changes an agent: agent NAME stop, or agent NAME METHOD PATH CODE TEXT.
func cmdAgent(ts *testscript.TestScript, _ bool, args []string) {
	a := state(ts).cluster.agent(args[0])
	if a == nil {
		ts.Fatalf("no agent %s", args[0])
	}
	if args[1] == "stop" {
		a.server.Close()
		return
	}
	code, err := strconv.Atoi(args[3])
	ts.Check(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[args[1]+" "+args[2]] = fakeAnswer{code, args[4]}
}

func cmdRequests(ts *testscript.TestScript, _ bool, _ []string) {
	fmt.Fprint(ts.Stdout(), state(ts).cluster.requests())
}

// cmdAddress puts an agent's host:port into a variable: address NAME VARIABLE.
func cmdAddress(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[1], strings.TrimPrefix(state(ts).cluster.agent(args[0]).server.URL, "http://"))
}

// cmdTyped lets the next pghactl run at a terminal where these lines are typed.
func cmdTyped(ts *testscript.TestScript, _ bool, args []string) {
	st := state(ts)
	st.tty = true
	st.stdin = strings.Join(args, "\n") + "\n"
}

// cmdInput lets the next pghactl read a file as its standard input.
func cmdInput(ts *testscript.TestScript, _ bool, args []string) {
	state(ts).stdin = ts.ReadFile(args[0])
}
