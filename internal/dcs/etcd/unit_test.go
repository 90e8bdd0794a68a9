package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pgha/pgha/internal/dcs"
)

func TestEndpointsInEverySpelling(t *testing.T) {
	for in, want := range map[string]string{
		"a":                   "http://a:2379",
		"a:1":                 "http://a:1",
		" a:1 ":               "http://a:1",
		"https://a":           "https://a:2379",
		"https://a:1/":        "https://a:1",
		"http://10.0.0.1:2":   "http://10.0.0.1:2",
		"[::1]:2":             "http://[::1]:2",
		"::1":                 "http://[::1]:2379",
		"[fe80::1]":           "http://[fe80::1]:2379",
		"https://[fe80::1]:5": "https://[fe80::1]:5",
		"":                    "error",
		"ftp://a":             "error",
		"a b:1":               "error",
		"http://":             "error",
	} {
		got, err := parseEndpoint(in, "http", 2379)
		text := got.String()
		if err != nil {
			text = "error"
		}
		if text != want {
			t.Errorf("%q: got %s (%v), want %s", in, text, err, want)
		}
	}
	if got, _ := parseEndpoint("a", "https", 99); got.String() != "https://a:99" {
		t.Errorf("with another protocol and port: got %s", got)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"a", "[::1]:2", "https://x:1", "::", "a:b:c", "%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseEndpoint(s, "http", 2379)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(got.address); err != nil {
			t.Errorf("%q gave %q", s, got.address)
		}
	})
}

func TestFaultyVersionsAreNamed(t *testing.T) {
	for version, want := range map[string]bool{
		"3.4.23": true, "3.4.30": true, "3.4.31": true, "3.4.37": true, "3.4.38": false, "3.4.45": false,
		"3.5.0": true, "3.5.12": true, "3.5.13": true, "3.5.22": true, "3.5.23": false,
		"3.6.0": true, "3.6.4": true, "3.6.5": false, "3.6.16": false, "3.7.0": false, "4.0.0": false,
		"3.3.27": true, "2.3.8": true, "": false, "nonsense": false,
	} {
		got, why := KnownStaleLessor(version)
		if got != want || got == (why == "") {
			t.Errorf("%s: got %v, %q, want %v", version, got, why, want)
		}
	}
	// The two faults are told apart: only the first lets a deposed leader revoke live leases.
	if _, why := KnownStaleLessor("3.4.23"); !strings.Contains(why, "15247") {
		t.Errorf("3.4.23: got %q", why)
	}
	if _, why := KnownStaleLessor("3.5.13"); strings.Contains(why, "15247") {
		t.Errorf("3.5.13: got %q", why)
	}
}

// TestEveryCodeIsTranslated: an error that nobody thought of must read as "no answer", never as a
// definite refusal.
func TestEveryCodeIsTranslated(t *testing.T) {
	for code := codes.Code(1); code <= codes.Unauthenticated; code++ {
		v, err := judge(status.Error(code, "something new"))
		switch code {
		case codes.Unauthenticated:
			if v != verdictFinal || !errors.Is(err, dcs.ErrAuth) {
				t.Errorf("%v: got %v, %v", code, v, err)
			}
		case codes.InvalidArgument:
			if v != verdictFinal {
				t.Errorf("%v: got %v, %v", code, v, err)
			}
		case codes.Unimplemented:
			if v != verdictRefused || !errors.Is(err, dcs.ErrUnavailable) {
				t.Errorf("%v: got %v, %v", code, v, err)
			}
		default:
			if v != verdictFailed || !errors.Is(err, dcs.ErrUnavailable) {
				t.Errorf("%v: got %v, %v, want a failed request", code, v, err)
			}
		}
	}
	for _, tc := range []struct {
		in   error
		v    verdict
		want error
	}{
		{rpctypes.ErrGRPCLeaseNotFound, verdictFinal, dcs.ErrLeaseNotFound},
		{rpctypes.ErrGRPCPermissionDenied, verdictFinal, dcs.ErrAuth},
		{rpctypes.ErrGRPCAuthFailed, verdictFinal, dcs.ErrAuth},
		{rpctypes.ErrGRPCUserEmpty, verdictFinal, dcs.ErrAuth},
		{rpctypes.ErrGRPCNoLeader, verdictRefused, dcs.ErrUnavailable},
		{rpctypes.ErrGRPCNoSpace, verdictRefused, dcs.ErrUnavailable},
		{rpctypes.ErrGRPCTimeout, verdictFailed, dcs.ErrUnavailable},
		{rpctypes.ErrGRPCTimeoutDueToLeaderFail, verdictFailed, dcs.ErrUnavailable},
		{rpctypes.ErrGRPCStopped, verdictFailed, dcs.ErrUnavailable},
		{rpctypes.ErrGRPCLeaderChanged, verdictFailed, dcs.ErrUnavailable},
		{errors.New("not primary lessor"), verdictFailed, dcs.ErrUnavailable},
		{errStale, verdictFailed, dcs.ErrUnavailable},
		{context.DeadlineExceeded, verdictFailed, dcs.ErrUnavailable},
	} {
		if v, err := judge(tc.in); v != tc.v || !errors.Is(err, tc.want) {
			t.Errorf("%v: got %v, %v, want %v, %v", tc.in, v, err, tc.v, tc.want)
		}
	}
}

func newTestStore(t *testing.T, n int) *Store {
	t.Helper()
	o := Options{BasePath: "/service/demo", RequestTimeout: 400 * time.Millisecond, HedgeDelay: 20 * time.Millisecond}
	for i := range n {
		o.Endpoints = append(o.Endpoints, fmt.Sprintf("e%d:1", i))
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAnAnswerOfAnOlderTermIsRefused(t *testing.T) {
	s := newTestStore(t, 1)
	for _, tc := range []struct {
		cluster, term uint64
		ok            bool
	}{{1, 5, true}, {1, 5, true}, {1, 6, true}, {1, 5, false}, {1, 6, true}, {2, 1, true}, {2, 2, true}} {
		err := s.checkTerm(&pb.ResponseHeader{ClusterId: tc.cluster, RaftTerm: tc.term})
		if (err == nil) != tc.ok {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
}

// fate is what one copy of a write meets.
type fate struct {
	done   bool  // the answer says that it took effect
	err    error // instead of an answer
	unsent bool  // the error came before anything was sent
	hang   bool  // no answer until the context ends
}

func TestCopiesOfAWrite(t *testing.T) {
	lost := status.Error(codes.Unavailable, "connection broke")
	yes, no := fate{done: true}, fate{}
	broken, unsent := fate{err: lost}, fate{err: lost, unsent: true}
	noLeader, noLease := fate{err: rpctypes.ErrGRPCNoLeader}, fate{err: rpctypes.ErrGRPCLeaseNotFound}
	hang := fate{hang: true}
	for _, tc := range []struct {
		name   string
		once   bool
		fates  []fate
		copies int
		done   bool
		want   error
	}{
		{"the first answers", false, []fate{yes, no}, 1, true, nil},
		{"a condition fails", true, []fate{no, yes}, 1, false, nil},
		{"not sent, the next answers", false, []fate{unsent, yes}, 2, true, nil},
		{"refused before proposing, the next answers", false, []fate{noLeader, yes}, 2, true, nil},
		{"sent and lost: never twice", false, []fate{broken, yes}, 1, false, dcs.ErrUnknownOutcome},
		{"hangs: never twice", false, []fate{hang, yes}, 1, false, dcs.ErrUnknownOutcome},
		{"sent and lost, once: the second tells", true, []fate{broken, yes}, 2, true, nil},
		{"hangs, once: the second tells", true, []fate{hang, yes}, 2, true, nil},
		{"sent and lost, once: the second finds it changed", true, []fate{broken, no}, 2, false, dcs.ErrUnknownOutcome},
		{"hangs, once: the second finds it changed", true, []fate{hang, no}, 2, false, dcs.ErrUnknownOutcome},
		{"sent and lost, once: the second finds no lease", true, []fate{broken, noLease}, 2, false, dcs.ErrUnknownOutcome},
		{"unsent, then no lease", true, []fate{unsent, noLease}, 2, false, dcs.ErrLeaseNotFound},
		{"no lease", false, []fate{noLease, yes}, 1, false, dcs.ErrLeaseNotFound},
		{"nobody was reached", false, []fate{unsent, unsent}, 2, false, dcs.ErrUnavailable},
		{"nobody has a leader", true, []fate{noLeader, noLeader}, 2, false, dcs.ErrUnavailable},
		{"unsent, then lost", false, []fate{unsent, broken}, 2, false, dcs.ErrUnknownOutcome},
		{"all hang", true, []fate{hang, hang}, 2, false, dcs.ErrUnknownOutcome},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTestStore(t, len(tc.fates))
			copies := make(chan struct{}, len(tc.fates))
			begin := time.Now()
			done, err := write(t.Context(), s, tc.once, func(ctx context.Context, e *endpoint) (bool, error) {
				copies <- struct{}{}
				var i int
				if _, err := fmt.Sscanf(e.target.address, "e%d:1", &i); err != nil {
					t.Error(err)
				}
				f := tc.fates[i]
				if !f.unsent {
					markSent(ctx)
				}
				if f.hang {
					<-ctx.Done()
					return false, status.FromContextError(ctx.Err()).Err()
				}
				return f.done, f.err
			}, func(done bool) bool { return done })
			if done != tc.done || !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("got %v, %v, want %v, %v", done, err, tc.done, tc.want)
			}
			if got := len(copies); got != tc.copies {
				t.Errorf("got %d copies, want %d", got, tc.copies)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestServiceRecordsNameTheEndpoints(t *testing.T) {
	var asked []string
	records := map[string][]*net.SRV{"etcd-client-x": {{Target: "h1.example.", Port: 5}, {Target: "h2.example.", Port: 6}}}
	s, err := New(Options{
		BasePath: "/service/demo", SRV: "example", SRVSuffix: "x",
		LookupSRV: func(_ context.Context, service, proto, name string) ([]*net.SRV, error) {
			asked = append(asked, fmt.Sprintf("_%s._%s.%s", service, proto, name))
			if r := records[service]; r != nil {
				return r, nil
			}
			return nil, errors.New("no such record")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	order, err := s.endpoints(t.Context())
	if err != nil || len(order) != 2 || order[0].target.String() != "http://h1.example:5" || order[1].target.String() != "http://h2.example:6" {
		t.Errorf("got %v, %v", order, err)
	}
	if want := []string{"_etcd-client-ssl-x._tcp.example", "_etcd-client-x._tcp.example"}; fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

func TestNoServiceRecordIsNotFatal(t *testing.T) {
	s, err := New(Options{
		BasePath: "/service/demo", SRV: "example", RequestTimeout: time.Second,
		LookupSRV: func(context.Context, string, string, string) ([]*net.SRV, error) {
			return nil, errors.New("no such record")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Load(t.Context()); !errors.Is(err, dcs.ErrUnavailable) || !strings.Contains(err.Error(), "no such record") {
		t.Errorf("got %v", err)
	}
}

func TestPrefixEnd(t *testing.T) {
	for in, want := range map[string]string{"/a/": "/a0", "a\xff": "b", "\xff\xff": "\x00"} {
		if got := string(prefixEnd(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
