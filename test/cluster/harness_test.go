package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// bare starts a PostgreSQL of its own, without any agent, where the member's would be. Two of
// them are two primaries: a split brain made to order.
func bare(t *testing.T, m *Member) {
	t.Helper()
	bin := m.c.Options.PostgresBin
	password := filepath.Join(m.dir, "pw")
	if err := os.WriteFile(password, []byte(superuserPassword), 0o644); err != nil {
		t.Fatal(err)
	}
	s := spec{
		name: "initdb", path: filepath.Join(bin, "initdb"), dir: m.dir, log: filepath.Join(m.dir, "bare.log"),
		user: m.c.user, ns: m.namespace(),
		args: []string{"-D", m.DataDir(), "-U", superuser, "--pwfile", password, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C"},
	}
	initdb, err := start(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := initdb.wait(t.Context()); err != nil || initdb.err != nil {
		t.Fatal(err, initdb.err, tail(s.log, 20))
	}
	hba := "host all all 10.77.0.0/24 scram-sha-256\n"
	file, err := os.OpenFile(filepath.Join(m.DataDir(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(hba); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s.name, s.path = "postgres", filepath.Join(bin, "postgres")
	s.args = []string{
		"-D", m.DataDir(), "-c", "listen_addresses=" + m.Address, "-p", fmt.Sprint(m.PGPort),
		"-c", "unix_socket_directories=" + filepath.Join(m.dir, "s"), "-c", "shared_buffers=16MB", "-c", "fsync=off",
	}
	if _, err := start(s); err != nil {
		t.Fatal(err)
	}
	if err := m.c.WaitFor(t.Context(), 20*time.Second, "bare PostgreSQL", func(ctx context.Context) (bool, string) {
		_, err := m.SQL(ctx, "SELECT 1")
		return err == nil, fmt.Sprint(err)
	}); err != nil {
		t.Fatal(err)
	}
}

// health answers a member's health checks the way the test wants.
type health struct {
	primary atomic.Bool
}

func serveHealth(t *testing.T, m *Member) *health {
	t.Helper()
	h := &health{}
	var listener net.Listener
	err := m.namespace().do(func() (err error) {
		listener, err = net.Listen("tcp", m.API())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/primary" || !h.primary.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go func() { _ = server.Serve(listener) }() // ends with Close below
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheWitnessCatchesASplitBrainAndTheVerifierALostRow(t *testing.T) {
	c := New(t, Options{Idle: true, HAProxy: true, Names: []string{"a", "b"}})
	a, b := c.Members[0], c.Members[1]
	bare(t, a)
	bare(t, b)
	ha, hb := serveHealth(t, a), serveHealth(t, b)
	ha.primary.Store(true)

	w, err := c.StartWriter(t.Context(), WriterOptions{})
	must(t, err)
	must(t, w.WaitAcks(t.Context(), 30, 10*time.Second))
	if got := w.Ledger.Acks()[0]; got.Server != a.PG() || got.Timeline != 1 || got.PID == 0 {
		t.Fatalf("the acknowledgement names %+v, want server %s", got, a.PG())
	}
	if _, err := b.SQL(t.Context(), createLedger); err != nil {
		t.Fatal(err)
	}
	// The proxy is led over to b while a lives on: an honest failover would have stopped a.
	fault := Mono()
	ha.primary.Store(false)
	hb.primary.Store(true)
	must(t, c.WaitFor(t.Context(), 10*time.Second, "writes on b", func(context.Context) (bool, string) {
		acks := w.Ledger.Acks()
		last := acks[len(acks)-1].Server
		return last == b.PG(), last
	}))
	must(t, w.WaitAcks(t.Context(), 20, 10*time.Second))
	witness, err := c.StartWitness(t.Context(), 50)
	must(t, err)
	must(t, c.WaitFor(t.Context(), 10*time.Second, "both servers to acknowledge", func(context.Context) (bool, string) {
		reigns := Reigns(witness.Ledger.Acks())
		return len(reigns) == 2 && reigns[0].Acks > 10 && reigns[1].Acks > 10, fmt.Sprint(reigns)
	}))
	report := witness.Stop()
	if len(report.Overlaps) == 0 || !report.Overlaps[0].Certain || len(report.Forks) == 0 {
		t.Errorf("two primaries were not noticed: %s", report)
	}
	proxy := w.Stop()
	t.Logf("through the proxy: %s; outage %s", proxy, w.Ledger.Outage(fault).Length())
	if len(proxy.Reigns) != 2 || len(proxy.Forks) == 0 {
		t.Errorf("the proxy's writer saw %v, want two servers on one timeline", proxy.Reigns)
	}
	// What a had acknowledged is not on b.
	lost, err := c.Verify(t.Context(), b, w.Ledger)
	must(t, err)
	if len(lost) != proxy.Reigns[0].Acks {
		t.Errorf("missing on b: %d rows, want all %d that a acknowledged", len(lost), proxy.Reigns[0].Acks)
	}
	lost, err = c.Verify(t.Context(), a, witness.Ledger)
	must(t, err)
	if len(lost) == 0 {
		t.Error("rows of b's witness cannot be on a, but none was missed")
	}
	// One single row taken away is found.
	victim := w.Ledger.Acks()[0].ID
	aOnly := NewLedger()
	for _, ack := range w.Ledger.Acks() {
		if ack.Server == a.PG() {
			aOnly.ack(ack)
		}
	}
	_, err = a.SQL(t.Context(), fmt.Sprintf("DELETE FROM ledger WHERE id = %d", victim))
	must(t, err)
	lost, err = c.Verify(t.Context(), a, aOnly)
	must(t, err)
	if !slices.Equal(lost, []int64{victim}) {
		t.Errorf("got %v, want exactly the deleted row %d", lost, victim)
	}
}

func TestPowerOffLeavesNothingOfTheServerAndFreezeStopsAllOfIt(t *testing.T) {
	c := New(t, Options{Idle: true, Names: []string{"a", "b"}})
	a, b := c.Members[0], c.Members[1]
	bare(t, a)
	bare(t, b)
	w, err := c.StartWriter(t.Context(), WriterOptions{DSN: a.DSN()})
	must(t, err)
	must(t, a.Freeze(t.Context(), Node))
	fault := Mono()
	if !a.Frozen() {
		t.Fatal("not frozen")
	}
	if _, err := a.SQL(t.Context(), "SELECT 1"); err == nil {
		t.Fatal("a frozen server answered")
	}
	must(t, a.Thaw(t.Context()))
	must(t, w.WaitAcks(t.Context(), 10, 10*time.Second))
	if gap := w.Ledger.Outage(fault); gap.Open || gap.Length() < time.Second {
		t.Errorf("the freeze lasted a second and more, the writer saw %s (open %t)", gap.Length(), gap.Open)
	}
	must(t, a.PowerOff(t.Context()))
	if left, err := a.Processes(Node); err != nil || len(left) > 0 {
		t.Errorf("left after the power-off: %v, %v", left, err)
	}
	if b.PostmasterPID() == 0 {
		t.Error("the other member was hit")
	}
	if err := a.PowerOff(t.Context()); err == nil {
		t.Error("a power-off of nothing was taken for a fault")
	}
	w.Stop()
}

func TestPartitionsDropPacketsAndHealBringsThemBack(t *testing.T) {
	c := New(t, Options{Idle: true, Network: Namespaces, HAProxy: true, EtcdMembers: 3})
	a, b := c.Members[0], c.Members[1]
	bare(t, a)
	bare(t, b)
	serveHealth(t, a).primary.Store(true)
	w, err := c.StartWriter(t.Context(), WriterOptions{})
	must(t, err)
	reach := func(address string) bool { return a.silent(t.Context(), address) != nil }
	etcd := c.Etcd.Members[0].endpoint()
	tests := []struct {
		from                   From
		client, etcd, standbys bool // still reachable
	}{
		{FromEveryone, false, false, false},
		{FromEtcd, true, false, true},
		{FromMembers, true, true, false},
	}
	for _, test := range tests {
		if !reach(etcd) || !reach(b.PG()) {
			t.Fatal("the network does not work before the cut")
		}
		fault := Mono()
		must(t, a.Partition(t.Context(), test.from))
		if got := reach(c.client.address + ":1"); got != test.client {
			t.Errorf("cut from %s: clients reachable: %t", test.from, got)
		}
		if got := reach(etcd); got != test.etcd {
			t.Errorf("cut from %s: etcd reachable: %t", test.from, got)
		}
		if got := reach(b.PG()); got != test.standbys {
			t.Errorf("cut from %s: standbys reachable: %t", test.from, got)
		}
		must(t, a.Heal(t.Context()))
		must(t, w.WaitAcks(t.Context(), 5, 20*time.Second))
		t.Logf("cut from %s: longest gap of writes %s", test.from, w.Ledger.Outage(fault).Length())
	}
	if err := a.proveCut(t.Context(), FromEtcd); err == nil {
		t.Error("a healed member was proven to be cut off")
	}
	w.Stop()
}

func TestEtcdLosesLeaderAndMajorityAndComesBack(t *testing.T) {
	c := New(t, Options{Idle: true, EtcdMembers: 3})
	first, err := c.Etcd.KillLeader(t.Context())
	must(t, err)
	second, err := c.Etcd.Leader(t.Context())
	must(t, err)
	if first == second {
		t.Fatalf("the dead member %s still leads", first.Name)
	}
	must(t, c.Etcd.Restore(t.Context()))
	frozen, err := c.Etcd.FreezeMajority(t.Context())
	must(t, err)
	if len(frozen) != 2 {
		t.Fatalf("frozen: %d of 3", len(frozen))
	}
	must(t, c.Etcd.Restore(t.Context()))
	if err := c.Etcd.proveSilent(t.Context()); err == nil {
		t.Error("a working etcd was proven to be silent")
	}
	_, err = c.Etcd.KillMajority(t.Context())
	must(t, err)
	must(t, c.Etcd.Restore(t.Context()))
	before, err := c.Etcd.Revision(t.Context())
	must(t, err)
	_, err = c.Etcd.Client().Put(t.Context(), c.Key("x"), "y")
	must(t, err)
	if after, err := c.Etcd.Revision(t.Context()); err != nil || after != before+1 {
		t.Errorf("revision went from %d to %d (%v), want one more", before, after, err)
	}
	if !strings.Contains(c.Dump(t.Context()), c.Key("x")) {
		t.Error("the dump does not show the key")
	}
}

func TestNothingIsLeftWhenTheClusterIsClosed(t *testing.T) {
	c, err := Start(t.Context(), Options{Idle: true, HAProxy: true, Names: []string{"a"}, Volumes: map[string]int64{"a": 200 << 20}})
	must(t, err)
	bare(t, c.Members[0])
	free, err := c.Members[0].FillVolume()
	must(t, err)
	must(t, free())
	if found, err := ours(c.Dir); err != nil || len(found) < 4 {
		t.Fatalf("found %v, %v; want etcd, haproxy and PostgreSQL", found, err)
	}
	must(t, c.Close())
	if found, err := ours(c.Dir); err != nil || len(found) > 0 {
		t.Errorf("left: %v, %v", found, err)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("directory: %v, want it gone", err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if strings.Contains(string(mounts), c.Dir) {
		t.Error("the volume is still mounted")
	}
}

// TestMain lets the test binary stand in for a test that dies without cleaning up.
func TestMain(m *testing.M) {
	if os.Getenv("PGHA_TEST_DIE") == "" {
		os.Exit(m.Run())
	}
	c, err := Start(context.Background(), Options{Idle: true, HAProxy: true})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(c.Dir)
	os.Exit(3)
}

func TestTheGuardCleansUpAfterATestThatDied(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGHA_TEST_DIE=1")
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	dir := strings.TrimSpace(string(out))
	state, ok := poll(t.Context(), 30*time.Second, func(context.Context) (bool, string) {
		found, err := ours(dir)
		_, gone := os.Stat(dir)
		return err == nil && len(found) == 0 && os.IsNotExist(gone), fmt.Sprint(found, err, gone)
	})
	if !ok {
		t.Errorf("the dead run left: %s", state)
	}
}
