package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// node is one member of a test cluster: the Server under test and its postmaster.
type node struct {
	*Server
	t  *testing.T
	pm *pgtest.Postmaster
}

var testHBA = []string{
	"local all all scram-sha-256",
	"host all all 127.0.0.1/32 scram-sha-256",
	"host replication all 127.0.0.1/32 scram-sha-256",
}

func newNode(t *testing.T, name string, change ...func(*Options)) *node {
	t.Helper()
	dir := pgtest.Dir(t)
	opt := Options{
		Name: name, Scope: "test", DataDir: filepath.Join(dir, "data"), BinDir: pgtest.BinDir(t),
		ListenAddresses: "127.0.0.1", Port: pgtest.FreePort(t),
		Superuser:   Credentials{Username: "postgres", Password: "su:per's"},
		Replication: Credentials{Username: "repl", Password: `re\pl:"x`},
		Rewind:      Credentials{Username: "rewinder", Password: "re wind"},
	}
	for _, c := range change {
		c(&opt)
	}
	s, err := New(opt, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &node{Server: s, t: t}
}

func (n *node) source() Source {
	return Source{Name: n.opt.Name, Host: "127.0.0.1", Port: strconv.Itoa(n.opt.Port)}
}

func (n *node) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password='su:per\\'s' dbname=postgres sslmode=disable", n.opt.Port)
}

func (n *node) sql(sql string) string {
	n.t.Helper()
	out, err := pgtest.Query(n.t.Context(), n.dsn(), sql)
	if err != nil {
		n.t.Fatalf("%s on %s: %v", sql, n.opt.Name, err)
	}
	return out
}

// parameters for small fast servers.
func (n *node) parameters() map[string]string {
	return map[string]string{
		"unix_socket_directories": filepath.Dir(n.opt.DataDir), "fsync": "off", "shared_buffers": "16MB",
		"max_connections": "30", "min_wal_size": "32MB", "max_wal_size": "128MB", "log_statement": "all",
	}
}

func (n *node) configure(spec ConfigSpec) Changed {
	n.t.Helper()
	if spec.Parameters == nil {
		spec.Parameters = n.parameters()
	}
	spec.HBA = testHBA
	ch, err := n.WriteConfig(spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return ch
}

// launch starts the server and waits until it can be observed.
func (n *node) launch() Observation {
	n.t.Helper()
	bin, args, env := n.StartArgs()
	n.pm = pgtest.Launch(n.t, bin, args, env)
	pgtest.Wait(n.t, n.opt.Name+" takes connections", func() (bool, string) {
		r, err := n.Ready(n.t.Context())
		return r == Accepting, fmt.Sprint(r, err)
	})
	return n.observe()
}

func (n *node) observe() Observation {
	n.t.Helper()
	o, err := n.Observe(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return o
}

func (n *node) waitFor(what string, ok func(Observation) bool) Observation {
	n.t.Helper()
	var o Observation
	pgtest.Wait(n.t, n.opt.Name+": "+what, func() (bool, string) {
		var err error
		o, err = n.Observe(n.t.Context())
		return err == nil && ok(o), fmt.Sprintf("%+v %v", o, err)
	})
	return o
}

func (n *node) promote() {
	n.t.Helper()
	n.sql("SELECT pg_promote()")
	n.waitFor("primary", func(o Observation) bool { return o.Role == election.RolePrimary })
}

// newPrimary makes and starts a primary with its roles.
func newPrimary(t *testing.T, name string, change ...func(*Options)) *node {
	t.Helper()
	n := newNode(t, name, change...)
	if err := n.InitDB(t.Context(), InitOptions{Options: []Option{{"wal-segsize", "1"}, {"locale", "C"}}}, nil); err != nil {
		t.Fatal(err)
	}
	n.configure(ConfigSpec{})
	n.launch()
	if err := n.PostBootstrap(t.Context(), BootstrapSpec{}); err != nil {
		t.Fatal(err)
	}
	return n
}

// newStandby clones a running server and starts the copy as its standby.
func newStandby(t *testing.T, name string, from *node) *node {
	t.Helper()
	n := newNode(t, name)
	if err := n.BaseBackup(t.Context(), from.source(), BackupOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	n.follow(from)
	return n
}

// follow configures a stopped server as a standby of another, and starts it.
func (n *node) follow(from *node) {
	n.t.Helper()
	src := from.source()
	n.configure(ConfigSpec{Standby: true, Upstream: &src, StandbySignal: true})
	n.launch()
}

func (n *node) waitStreaming(from *node) Observation {
	n.t.Helper()
	want := from.observe().FlushLSN
	return n.waitFor("streams", func(o Observation) bool {
		return o.WalReceiver != nil && o.WalReceiver.Status == "streaming" && o.ReplayLSN >= want
	})
}

func (n *node) divergence(from *node) Divergence {
	n.t.Helper()
	d, err := n.Divergence(n.t.Context(), from.source())
	if err != nil {
		n.t.Fatalf("%+v: %v", d, err)
	}
	return d
}

func wantVerdict(t *testing.T, d Divergence, want Verdict) {
	t.Helper()
	if d.Verdict != want {
		t.Fatalf("verdict %s, want %s: %+v", d.Verdict, want, d)
	}
}

// The whole life of a pair of servers, in one test because each step needs the one before:
// goal is that a former primary comes back, with and without a rewind, and loses only what the
// verdict said it would lose.
func TestFormerPrimaryComesBackByStreamingOrByRewind(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	o := a.observe()
	if o.Role != election.RolePrimary || o.Timeline != 1 || o.SystemID == 0 || o.WriteLSN == 0 || o.Version < 120000 {
		t.Fatalf("primary observed as %+v", o)
	}
	a.sql("CREATE TABLE t (id int primary key, v text)")
	a.sql("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i")

	b := newStandby(t, "b", a)
	ob := b.waitStreaming(a)
	if ob.Role != election.RoleStandby || ob.Timeline != 1 || ob.SystemID != o.SystemID || ob.WalReceiver.Port != a.opt.Port {
		t.Fatalf("standby observed as %+v", ob)
	}
	pgtest.Wait(t, "the primary reports its standby", func() (bool, string) {
		o := a.observe()
		return len(o.Replication) == 1 && o.Replication[0].ApplicationName == "b" && o.Replication[0].State == "streaming", fmt.Sprintf("%+v", o.Replication)
	})
	if d := b.divergence(a); d.Verdict != VerdictStreamable || d.Proven != election.Yes {
		t.Fatalf("%+v", d)
	}

	// Clean switchover: a is shut down with everything sent, b promoted, a follows without rewind.
	a.pm.Stop()
	c, err := a.Control()
	if err != nil || c.State != ControlShutDown {
		t.Fatalf("%+v, %v", c, err)
	}
	end, err := a.ShutdownCheckpointEnd(c)
	if err != nil {
		t.Fatal(err)
	}
	b.waitFor("has the shutdown checkpoint", func(o Observation) bool { return o.ReplayLSN >= end })
	b.promote()
	d := a.divergence(b)
	wantVerdict(t, d, VerdictStreamable)
	if d.Proven != election.Yes || d.LocalLSN != end || d.ForkLSN != end || d.SourceTimeline != 2 {
		t.Fatalf("switch point not at the end of the shutdown checkpoint %s: %+v", end, d)
	}
	a.follow(b)
	if o := a.waitStreaming(b); o.Timeline != 2 {
		t.Fatalf("timeline %d after the switch", o.Timeline)
	}

	// Failover with lost transactions: a is cut off and promoted while b goes on writing.
	frozen := a.configure(ConfigSpec{Standby: true, Frozen: true})
	if !frozen.Files || frozen.RestartNeeded {
		t.Fatalf("freezing: %+v", frozen)
	}
	a.pm.Reload()
	a.waitFor("froze", func(o Observation) bool { return o.WalReceiver == nil && o.PrimaryConnInfo == "" })
	for i := range 5 {
		b.sql(fmt.Sprintf("INSERT INTO t VALUES (%d, 'lost')", 2000+i))
	}
	a.promote()
	a.sql("INSERT INTO t VALUES (3000, 'kept')")
	lost := b.divergence(a)
	wantVerdict(t, lost, VerdictNeedsRewind)
	if lost.LostTransactions != 5 || lost.LostBytes <= 0 {
		t.Fatalf("running server: %d transactions in %d bytes, want 5: %+v", lost.LostTransactions, lost.LostBytes, lost)
	}
	b.pm.Crash()
	lost = b.divergence(a)
	wantVerdict(t, lost, VerdictNeedsRewind)
	if lost.LostTransactions != 5 {
		t.Fatalf("crashed server: %d transactions, want 5: %+v", lost.LostTransactions, lost)
	}
	a.rewinds(b)
}

// rewinds brings the crashed former primary b back under n.
func (n *node) rewinds(b *node) {
	t := n.t
	t.Helper()
	pgtest.Wait(t, "a checkpoint on the new timeline", func() (bool, string) {
		if err := n.PromoteCheckpoint(t.Context(), n.observe().Timeline); err != nil {
			return false, err.Error()
		}
		tl, err := b.SourceCheckpointTimeline(t.Context(), n.source())
		return err == nil && tl == n.observe().Timeline, fmt.Sprint(tl, err)
	})
	hba, err := os.ReadFile(b.inData("pg_hba.conf"))
	if err != nil {
		t.Fatal(err)
	}
	own := string(hba) + "# b's own\n"
	if err := os.WriteFile(b.inData("pg_hba.conf"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	// As it is found when b had been started as a standby and then lost its power: the crash recovery
	// before the rewind must not stumble over the signal, nor over a process id that is another's now.
	if err := b.WriteStandbySignal(); err != nil {
		t.Fatal(err)
	}
	pid, err := os.ReadFile(n.inData("postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	number, _, _ := strings.Cut(string(pid), "\n")
	if err := os.WriteFile(b.inData("postmaster.pid"), []byte(number+"\n"+b.opt.DataDir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := b.Rewind(t.Context(), n.source(), RewindOptions{}, nil)
	if err != nil || !res.Done {
		t.Fatalf("%+v, %v", res, err)
	}
	if got, _ := os.ReadFile(b.inData("pg_hba.conf")); string(got) != own {
		t.Fatalf("pg_hba.conf came from the source:\n%s", got)
	}
	if st, err := b.DataDir(); st != DataCluster || err != nil {
		t.Fatalf("after the rewind: %s, %v", st, err)
	}
	b.follow(n)
	b.waitStreaming(n)
	if got := b.sql("SELECT count(*) FILTER (WHERE v = 'lost') || '/' || count(*) FILTER (WHERE v = 'kept') FROM t"); got != "0/1" {
		t.Fatalf("lost/kept rows after the rewind: %s", got)
	}
	wantVerdict(t, b.divergence(n), VerdictStreamable)
}

func TestCloneFailuresSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	for _, tc := range []struct {
		name   string
		change func(*Options)
		src    Source
		want   FailureKind
	}{
		{"wrong password", func(o *Options) { o.Replication.Password = "wrong" }, a.source(), FailurePassword},
		{"no password", func(o *Options) { o.Replication.Password = "" }, a.source(), FailurePassword},
		{"nobody listens", func(*Options) {}, Source{Name: "x", Host: "127.0.0.1", Port: "1"}, FailureUnreachable},
		{"role without replication", func(o *Options) { o.Replication = o.Rewind }, a.source(), FailureNotAllowed},
		{"slot is missing", func(*Options) {}, Source{Host: "127.0.0.1", Port: a.source().Port, Slot: "nosuch"}, FailureSlot},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newNode(t, "b", tc.change)
			err := b.BaseBackup(t.Context(), tc.src, BackupOptions{}, nil)
			var h *HelperError
			if !errors.As(err, &h) || h.Kind != tc.want || h.Hint == "" {
				t.Fatalf("got %v (%+v), want %s", err, h, tc.want)
			}
			if strings.Contains(err.Error(), "wrong\n") || strings.Contains(err.Error(), "re wind") {
				t.Errorf("the password is in the message: %v", err)
			}
			if st, err := b.DataDir(); st == DataCluster || err != nil {
				t.Errorf("after a failed clone: %s, %v", st, err)
			}
		})
	}
}

func TestInterruptedCloneIsPartialAndCanBeMovedAsideAndRepeated(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE big AS SELECT i, repeat('y', 500) AS v FROM generate_series(1, 40000) i")
	b := newNode(t, "b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var total int64
	err := b.BaseBackup(ctx, a.source(), BackupOptions{Options: []Option{{"max-rate", "2M"}}}, func(done, all int64) {
		if total = all; done > 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || total < 20<<20 {
		t.Fatalf("%v, total %d", err, total)
	}
	if st, err := b.DataDir(); st != DataPartial || err != nil {
		t.Fatalf("%s, %v", st, err)
	}
	if err := b.BaseBackup(t.Context(), a.source(), BackupOptions{}, nil); !errors.Is(err, ErrDataDir) {
		t.Fatalf("a partial directory was filled: %v", err)
	}
	path, err := b.MoveAside("clone failed")
	if err != nil || !strings.HasSuffix(path, "-clone-failed") {
		t.Fatalf("%s, %v", path, err)
	}
	if st, err := b.DataDir(); st != DataMissing || err != nil {
		t.Fatalf("%s, %v", st, err)
	}
	if err := b.BaseBackup(t.Context(), a.source(), BackupOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if st, err := b.DataDir(); st != DataCluster || err != nil {
		t.Fatalf("%s, %v", st, err)
	}
	b.follow(a)
	b.waitStreaming(a)
}
