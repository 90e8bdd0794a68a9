package etcdserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The server leaves idle connections to its peers behind when it stops (in production its process
// ends then), so only goroutines of this package count as leaks.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		code = ownGoroutines()
	}
	os.Exit(code)
}

// ownGoroutines waits until none is left, and says which are.
func ownGoroutines() int {
	for left := 100; ; left-- {
		buf := make([]byte, 4<<20)
		var own []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "internal/dcs/etcdserver.") && !strings.Contains(g, "ownGoroutines") {
				own = append(own, g)
			}
		}
		if len(own) == 0 {
			return 0
		}
		if left == 0 {
			fmt.Fprintf(os.Stderr, "goroutines left:\n%s\n", strings.Join(own, "\n\n"))
			return 1
		}
		<-time.After(20 * time.Millisecond)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// running is a member and the hands to stop it.
type running struct {
	cfg    Config
	cancel context.CancelFunc
	done   chan error
	ready  chan *Member
	member *Member
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cfg: cfg, cancel: cancel, done: make(chan error, 1), ready: make(chan *Member, 1)}
	cfg.Ready = func(m *Member) { r.ready <- m }
	go func() { r.done <- Run(ctx, cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))) }()
	t.Cleanup(func() { _ = r.stop(t) })
	return r
}

func (r *running) wait(t *testing.T) *Member {
	t.Helper()
	select {
	case r.member = <-r.ready:
	case err := <-r.done:
		r.done <- err
		t.Fatalf("member %s ended: %v", r.cfg.Name, err)
	case <-time.After(30 * time.Second):
		t.Fatalf("member %s is not ready in time", r.cfg.Name)
	}
	return r.member
}

// result waits until Run has returned.
func (r *running) result(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("member %s does not end", r.cfg.Name)
		return nil
	}
}

func (r *running) stop(t *testing.T) error {
	t.Helper()
	r.cancel()
	return r.result(t)
}

func configs(t *testing.T, names ...string) []Config {
	t.Helper()
	dir := t.TempDir()
	cluster := map[string]string{}
	cfgs := make([]Config, len(names))
	for i, name := range names {
		cfgs[i] = Config{
			Name: name, DataDir: filepath.Join(dir, name), ListenClient: freeAddress(t), ListenPeer: freeAddress(t),
			HeartbeatInterval: 30 * time.Millisecond, ElectionTimeout: 300 * time.Millisecond, noFsync: true,
		}
		cluster[name] = cfgs[i].ListenPeer
	}
	for i := range cfgs {
		cfgs[i].InitialCluster = cluster
	}
	return cfgs
}

func startAll(t *testing.T, cfgs []Config) []*running {
	t.Helper()
	rs := make([]*running, len(cfgs))
	for i := range cfgs {
		rs[i] = start(t, cfgs[i])
	}
	for _, r := range rs {
		r.wait(t)
	}
	return rs
}

func client(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func eventually(t *testing.T, what string, cond func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not so in time: %s; last state: %s", what, state)
		}
		<-tick.C
	}
}

func put(t *testing.T, addr, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := pb.NewKVClient(client(t, addr)).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func get(t *testing.T, addr, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := pb.NewKVClient(client(t, addr)).Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func leader(rs []*running) *running {
	for _, r := range rs {
		if r.member.IsLeader() {
			return r
		}
	}
	return nil
}

func TestMembersFormAClusterAndKeepDataAcrossRestarts(t *testing.T) {
	cfgs := configs(t, "a", "b", "c")
	rs := startAll(t, cfgs)
	put(t, cfgs[0].ListenClient, "k", "v")
	if got := get(t, cfgs[2].ListenClient, "k"); got != "v" {
		t.Errorf("got %q through another member, want v", got)
	}
	if err := rs[1].stop(t); err != nil {
		t.Fatalf("stop: %v", err)
	}
	// The configured state says "new"; the data says otherwise, and wins.
	again := start(t, cfgs[1])
	again.wait(t)
	if got := get(t, cfgs[1].ListenClient, "k"); got != "v" {
		t.Errorf("got %q after a restart, want v", got)
	}
}

func TestStoppingTheLeaderMovesLeadershipFirst(t *testing.T) {
	rs := startAll(t, configs(t, "a", "b", "c"))
	var old *running
	eventually(t, "a leader", func() (bool, string) { old = leader(rs); return old != nil, "" })
	term := old.member.etcd.Server.Term()
	begin := time.Now()
	if err := old.stop(t); err != nil {
		t.Fatalf("stop: %v", err)
	}
	t.Logf("stopping took %v", time.Since(begin))
	var rest []*running
	for _, r := range rs {
		if r != old {
			rest = append(rest, r)
		}
	}
	now := leader(rest)
	if now == nil {
		t.Fatal("no leader right after the stop: leadership was not moved")
	}
	if got := now.member.etcd.Server.Term(); got != term+1 {
		t.Errorf("term went from %d to %d: leadership was elected more than once", term, got)
	}
	put(t, now.cfg.ListenClient, "k", "v")
}

func TestStopWithAnOpenWatchIsPrompt(t *testing.T) {
	cfgs := configs(t, "a")
	r := startAll(t, cfgs)[0]
	stream, err := pb.NewWatchClient(client(t, cfgs[0].ListenClient)).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.stop(t); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v with one watch open", took)
	}
}

func TestCanStopRefusesWhenTheOthersWouldLoseTheMajority(t *testing.T) {
	rs := startAll(t, configs(t, "a", "b", "c"))
	eventually(t, "every member knows the leader", func() (bool, string) {
		err := rs[0].member.CanStop(t.Context())
		return err == nil, fmt.Sprint(err)
	})
	if err := rs[2].stop(t); err != nil {
		t.Fatal(err)
	}
	err := rs[0].member.CanStop(t.Context())
	if !errors.Is(err, ErrMajority) {
		t.Fatalf("with one of three down: got %v, want ErrMajority", err)
	}
	for _, want := range []string{"2 of 3", "would be: b", "not answering: c"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestLostDataIsRefusedAndComesBackAsALearner(t *testing.T) {
	cfgs := configs(t, "a", "b", "c")
	rs := startAll(t, cfgs)
	put(t, cfgs[0].ListenClient, "k", "v")
	if err := rs[2].stop(t); err != nil {
		t.Fatal(err)
	}
	lose := func() {
		if err := os.RemoveAll(cfgs[2].DataDir); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	err := start(t, cfgs[2]).result(t)
	if !errors.Is(err, ErrDataLost) || !strings.Contains(err.Error(), fmt.Sprintf("member remove %x", rs[2].member.ID())) {
		t.Fatalf("got %v, want ErrDataLost with the remedy", err)
	}
	existing := cfgs[2]
	existing.InitialClusterState = "existing"
	if err := start(t, existing).result(t); !errors.Is(err, ErrDataLost) {
		t.Fatalf("as existing: got %v, want ErrDataLost", err)
	}

	// The remedy.
	cluster := pb.NewClusterClient(client(t, cfgs[0].ListenClient))
	if _, err := cluster.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: rs[2].member.ID()}); err != nil {
		t.Fatal(err)
	}
	if err := start(t, existing).result(t); !errors.Is(err, ErrNotMember) {
		t.Fatalf("removed: got %v, want ErrNotMember", err)
	}
	eventually(t, "the learner can be added", func() (bool, string) {
		_, err := cluster.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{"http://" + cfgs[2].ListenPeer}, IsLearner: true})
		return err == nil, fmt.Sprint(err)
	})
	back := start(t, existing)
	m := back.wait(t)
	if m.ID() == rs[2].member.ID() {
		t.Error("it came back under its old id")
	}
	eventually(t, "the learner became a voter", func() (bool, string) {
		return !m.etcd.Server.IsLearner(), "still a learner"
	})
	if got := get(t, cfgs[2].ListenClient, "k"); got != "v" {
		t.Errorf("got %q, want v", got)
	}
}

func TestLostDataIsRefusedEvenWhenNobodyAnswers(t *testing.T) {
	cfgs := configs(t, "a", "b")
	rs := startAll(t, cfgs)
	for _, r := range rs {
		if err := r.stop(t); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(cfgs[0].DataDir); err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfgs[0]).result(t); !errors.Is(err, ErrDataLost) {
		t.Errorf("got %v, want ErrDataLost: the note beside the data directory tells", err)
	}
}

func TestBadConfigurationNamesEverythingWrong(t *testing.T) {
	err := Run(t.Context(), Config{
		Name: "a", ListenClient: "nonsense", ListenPeer: "127.0.0.1:1", InitialCluster: map[string]string{"b": "127.0.0.1:2"},
		InitialClusterState: "old", HeartbeatInterval: time.Second, ElectionTimeout: time.Second,
	}, zap.NewNop())
	for _, want := range []string{"data_dir", "listen_client", "does not name this member", "initial_cluster_state", "election_timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
