package etcd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const etcdBinary = "/usr/bin/etcd"

// freeAddress gives a loopback address whose port is free and below the ephemeral range.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close()
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// node is one etcd process.
type node struct {
	name, client, peer, dir string
	cluster                 string
	extra                   []string
	cmd                     *exec.Cmd
	exited                  chan struct{}
}

// startCluster starts n members and waits until each answers a linearizable read.
func startCluster(t *testing.T, n int, extra ...string) []*node {
	t.Helper()
	dir := t.TempDir()
	nodes := make([]*node, n)
	var cluster []string
	for i := range nodes {
		name := string(rune('a' + i))
		nodes[i] = &node{name: name, client: freeAddress(t), peer: freeAddress(t), dir: filepath.Join(dir, name), extra: extra}
		cluster = append(cluster, fmt.Sprintf("%s=http://%s", name, nodes[i].peer))
	}
	for _, nd := range nodes {
		nd.cluster = strings.Join(cluster, ",")
		nd.start(t)
		t.Cleanup(func() { nd.stop(t) })
	}
	for _, nd := range nodes {
		nd.ready(t)
	}
	return nodes
}

func (nd *node) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(nd.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"--name", nd.name, "--data-dir", nd.dir, "--logger", "zap", "--log-level", "warn",
		"--listen-client-urls", "http://" + nd.client, "--advertise-client-urls", "http://" + nd.client,
		"--listen-peer-urls", "http://" + nd.peer, "--initial-advertise-peer-urls", "http://" + nd.peer,
		"--initial-cluster", nd.cluster, "--heartbeat-interval", "30", "--election-timeout", "300", "--unsafe-no-fsync",
	}, nd.extra...)
	nd.cmd = exec.Command(etcdBinary, args...)
	nd.cmd.Stdout, nd.cmd.Stderr = log, log
	nd.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := nd.cmd.Start(); err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	nd.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // it is killed in the end
		_ = log.Close()
		close(exited)
	}(nd.cmd, nd.exited)
}

func (nd *node) stop(t *testing.T) {
	t.Helper()
	_ = nd.cmd.Process.Kill() // it may have ended already
	select {
	case <-nd.exited:
	case <-time.After(10 * time.Second):
		t.Errorf("etcd %s does not end", nd.name)
	}
}

func (nd *node) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := nd.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	if s != syscall.SIGSTOP {
		return
	}
	// The call returns before every thread stands still, and a thread that runs may still answer.
	eventually(t, nd.name+" stands still", func() (bool, string) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", nd.cmd.Process.Pid))
		if err != nil || len(stats) == 0 {
			t.Fatal("no threads", err)
		}
		for _, f := range stats {
			b, err := os.ReadFile(f)
			if _, rest, ok := strings.Cut(string(b), ") "); err != nil || !ok || rest[0] != 'T' {
				return false, string(b)
			}
		}
		return true, ""
	})
}

// conn is a plain connection of the test's own.
func (nd *node) conn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+nd.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (nd *node) ready(t *testing.T) {
	t.Helper()
	kv := pb.NewKVClient(nd.conn(t))
	eventually(t, "etcd answers", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("x")})
		if err == nil {
			return true, ""
		}
		log, _ := os.ReadFile(nd.dir + ".log")
		return false, fmt.Sprintf("%v; log:\n%s", err, log)
	})
}

// compact makes the server forget all history.
func (nd *node) compact(t *testing.T) {
	t.Helper()
	kv := pb.NewKVClient(nd.conn(t))
	r, err := kv.Range(t.Context(), &pb.RangeRequest{Key: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Compact(t.Context(), &pb.CompactionRequest{Revision: r.Header.Revision, Physical: true}); err != nil {
		t.Fatal(err)
	}
}

// pass really waits: leases live by the server's clock.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal("the test ended")
	}
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
