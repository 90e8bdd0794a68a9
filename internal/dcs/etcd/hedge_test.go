package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/dcs/etcd"
	"github.com/pgha/pgha/internal/election"
)

// three is a cluster of three with a proxy before each, and a store that prefers the first.
type three struct {
	nodes   []*node
	proxies []*proxy
}

func startThree(t *testing.T) *three {
	t.Helper()
	th := &three{nodes: startCluster(t, 3)}
	for _, nd := range th.nodes {
		th.proxies = append(th.proxies, newProxy(t, nd.client))
	}
	return th
}

func (th *three) store(t *testing.T, change func(*etcd.Options)) *etcd.Store {
	t.Helper()
	o := etcd.Options{BasePath: fmt.Sprintf("/service/%s", t.Name()), Logger: zaptest.NewLogger(t)}
	for _, p := range th.proxies {
		o.Endpoints = append(o.Endpoints, p.addr())
	}
	if change != nil {
		change(&o)
	}
	s, err := etcd.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func (th *three) mend() {
	for _, p := range th.proxies {
		p.set(passing)
	}
}

// within: f has three seconds, which is what it takes where it hangs on one endpoint; limit is far
// from that and from a machine's hiccup.
func within(t *testing.T, what string, limit time.Duration, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	begin := time.Now()
	if err := f(ctx); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if took := time.Since(begin); took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

func TestAHalfOpenEndpointIsNotNoticed(t *testing.T) {
	th := startThree(t)
	var id election.LeaseID
	var rev int64
	calls := []struct {
		name string
		run  func(context.Context, *etcd.Store) error
	}{
		{"keep-alive", func(ctx context.Context, s *etcd.Store) error { _, err := s.KeepAlive(ctx, id); return err }},
		{"prove", func(ctx context.Context, s *etcd.Store) error { _, err := s.Prove(ctx); return err }},
		{"load", func(ctx context.Context, s *etcd.Store) error { _, err := s.Load(ctx); return err }},
		{"lease gone", func(ctx context.Context, s *etcd.Store) error { _, err := s.LeaseGone(ctx, id); return err }},
		{"grant", func(ctx context.Context, s *etcd.Store) error { _, err := s.Grant(ctx, 10*time.Second); return err }},
		{"guarded write", func(ctx context.Context, s *etcd.Store) error {
			res, err := s.Apply(ctx, dcs.Txn{
				If:   []dcs.Cmp{{Key: dcs.KeyLeader, Kind: dcs.CmpModRevision, Revision: rev}},
				Then: []dcs.Op{{Key: dcs.KeyLeader, Value: []byte("a"), Lease: id}},
			})
			if err == nil && !res.Done {
				return errors.New("not done")
			}
			rev = res.Revision
			return err
		}},
	}
	for _, m := range []mode{hanging, deaf} {
		for _, c := range calls {
			t.Run(fmt.Sprintf("mode %d %s", m, c.name), func(t *testing.T) {
				s := th.store(t, nil)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				g, err := s.Grant(ctx, 60*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				id = g.ID
				res, err := s.Apply(ctx, dcs.Txn{Then: []dcs.Op{{Key: dcs.KeyLeader, Value: []byte("a"), Lease: id}}})
				if err != nil {
					t.Fatal(err)
				}
				rev = res.Revision
				th.proxies[0].set(m) // the one that is preferred, with its connection open
				defer th.mend()
				if m == deaf && c.name == "guarded write" {
					// The first copy is carried out and its answer lost; the second finds its
					// condition gone. Nobody can tell the caller more than that.
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := c.run(ctx, s); !errors.Is(err, dcs.ErrUnknownOutcome) {
						t.Errorf("got %v, want ErrUnknownOutcome", err)
					}
				} else {
					within(t, "first call", 1500*time.Millisecond, func(ctx context.Context) error { return c.run(ctx, s) })
				}
				if p, err := s.Prove(ctx); err != nil {
					t.Fatal(err)
				} else {
					rev = p.Leader.ModRevision
				}
				within(t, "second call", 1500*time.Millisecond, func(ctx context.Context) error { return c.run(ctx, s) })
			})
		}
	}
}

func TestAWatchLeavesASilentEndpoint(t *testing.T) {
	th := startThree(t)
	for _, m := range []mode{hanging, refusing} {
		other := th.store(t, func(o *etcd.Options) { o.Endpoints = o.Endpoints[1:] })
		s := th.store(t, func(o *etcd.Options) { o.WatchProbe, o.WatchSilence = 500*time.Millisecond, 500*time.Millisecond })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		updates := s.Watch(ctx)
		<-updates
		th.proxies[0].set(m)
		begin := time.Now()
		want := fmt.Sprint("mode", m)
		if _, err := other.Apply(ctx, dcs.PutConfig([]byte(want))); err != nil {
			t.Fatal(err)
		}
		for got := ""; got != want; {
			u, ok := <-updates
			if !ok {
				t.Fatalf("mode %d: the watch ended; last value %q", m, got)
			}
			kv, _ := u.Snapshot.Get(dcs.KeyConfig)
			got = string(kv.Value)
		}
		if took := time.Since(begin); took > 2500*time.Millisecond {
			t.Errorf("mode %d: the change came after %v", m, took)
		}
		cancel()
		th.mend()
	}
}

// Between two probes it is the other requests that show that the watch's server is gone.
func TestAWatchLeavesAnEndpointThatIsSilentToOthers(t *testing.T) {
	th := startThree(t)
	other := th.store(t, func(o *etcd.Options) { o.Endpoints = o.Endpoints[1:] })
	s := th.store(t, func(o *etcd.Options) { o.WatchProbe, o.WatchSilence = time.Hour, 200*time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	updates := s.Watch(ctx)
	<-updates
	if _, err := other.Apply(ctx, dcs.PutConfig([]byte("before"))); err != nil {
		t.Fatal(err)
	}
	<-updates // the stream stands
	th.proxies[0].set(hanging)
	if _, err := other.Apply(ctx, dcs.PutConfig([]byte("after"))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prove(ctx); err != nil {
		t.Fatal(err)
	}
	for u := range updates {
		if kv, _ := u.Snapshot.Get(dcs.KeyConfig); string(kv.Value) == "after" {
			return
		}
	}
	t.Fatal("the watch ended without the change")
}

func TestAFrozenServerIsLeftBehind(t *testing.T) {
	th := startThree(t)
	s := th.store(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	g, err := s.Grant(ctx, 60*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, nd := range th.nodes {
		nd.signal(t, syscall.SIGSTOP)
		// Where it was etcd's leader, an election has to pass first.
		eventually(t, "keep-alive and proof with "+nd.name+" frozen", func() (bool, string) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := s.KeepAlive(ctx, g.ID)
			_, err2 := s.Prove(ctx)
			return err == nil && err2 == nil, fmt.Sprint(err, err2)
		})
		within(t, "keep-alive after that", 1500*time.Millisecond, func(ctx context.Context) error { _, err := s.KeepAlive(ctx, g.ID); return err })
		nd.signal(t, syscall.SIGCONT)
		eventually(t, nd.name+" is back", func() (bool, string) {
			st := s.Admin().Status(ctx)
			for _, e := range st {
				if e.Err != nil || e.Leader == 0 {
					return false, fmt.Sprintf("%+v", st)
				}
			}
			return true, ""
		})
	}
}

func TestAMinorityServesNobody(t *testing.T) {
	th := startThree(t)
	s := th.store(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := s.Load(ctx); err != nil {
		t.Fatal(err)
	}
	th.nodes[1].stop(t)
	th.nodes[2].stop(t)
	short, cancelShort := context.WithTimeout(ctx, time.Second)
	defer cancelShort()
	if _, err := s.Prove(short); !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("prove: got %v, want ErrUnavailable", err)
	}
	if gone, err := s.LeaseGone(short, 12345); err == nil {
		t.Errorf("lease gone: got %v without a majority", gone)
	}
	short2, cancel2 := context.WithTimeout(ctx, time.Second)
	defer cancel2()
	_, err := s.Apply(short2, dcs.PutConfig([]byte("{}")))
	if !errors.Is(err, dcs.ErrUnknownOutcome) && !errors.Is(err, dcs.ErrUnavailable) {
		t.Errorf("apply: got %v", err)
	}
}

func TestAWriteFailsOverWhenItWasCertainlyNotSent(t *testing.T) {
	th := startThree(t)
	for _, p := range th.proxies[:2] {
		p.set(refusing)
	}
	s := th.store(t, nil)
	within(t, "unguarded write", time.Second, func(ctx context.Context) error {
		_, err := s.Apply(ctx, dcs.PutConfig([]byte("{}")))
		return err
	})
}

func TestLeadershipOfTheStoreCanBeMoved(t *testing.T) {
	th := startThree(t)
	s := th.store(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	members, err := s.Admin().MemberList(ctx)
	if err != nil || len(members) != 3 {
		t.Fatalf("got %+v, %v", members, err)
	}
	for _, m := range members {
		eventually(t, "leadership moves to "+m.Name, func() (bool, string) {
			err := s.Admin().MoveLeader(ctx, m.ID)
			return err == nil, fmt.Sprint(err)
		})
		eventually(t, m.Name+" leads", func() (bool, string) {
			st := s.Admin().Status(ctx)
			return st[0].Leader == m.ID, fmt.Sprintf("%+v", st[0])
		})
	}
	if err := s.Admin().CanStop(ctx, members[0].ID); err != nil {
		t.Errorf("with all running: %v", err)
	}
	th.nodes[1].stop(t)
	for _, m := range members {
		if m.Name == "a" {
			err = s.Admin().CanStop(ctx, m.ID)
		}
	}
	if !errors.Is(err, etcd.ErrMajority) || !strings.Contains(err.Error(), "not answering: b") {
		t.Errorf("with one of three down: got %v, want ErrMajority", err)
	}
	th.nodes[1].start(t)
	th.nodes[1].ready(t)
	for _, v := range s.Version(ctx) {
		if v.Err != nil || v.Version != "3.4.23" {
			t.Errorf("got %+v, want version 3.4.23", v)
		}
	}
}

func TestEndpointsAreDiscovered(t *testing.T) {
	th := startThree(t)
	s := th.store(t, func(o *etcd.Options) { o.Endpoints, o.Discover = []string{th.nodes[0].client}, true })
	eventually(t, "all three are known", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Load(ctx)
		n := len(s.Admin().Status(ctx))
		return n == 3, fmt.Sprint(n, err)
	})
	th.nodes[0].stop(t)
	eventually(t, "the others answer", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Load(ctx)
		return err == nil, fmt.Sprint(err)
	})
}
