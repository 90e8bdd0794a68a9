package cluster

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestBrokenLinksAreBrokenAsToldAndProven uses no server: the machines' kernels answer.
func TestBrokenLinksAreBrokenAsToldAndProven(t *testing.T) {
	c := New(t, Options{Idle: true, Network: Namespaces})
	a, b := c.Members[0], c.Members[1]
	ctx := t.Context()
	reach := func(from *Member, address string) bool { return from.silent(ctx, address) != nil }
	healthy := func() {
		t.Helper()
		if !reach(a, b.PG()) || !reach(b, a.PG()) || !reach(a, c.Client()) {
			t.Fatal("the network does not work before the cut")
		}
	}
	healthy()
	if err := a.proveDropped(Incoming); err == nil {
		t.Error("packets count as thrown away without any rule")
	}
	if err := a.proveCut(ctx, FromEveryone); err == nil {
		t.Error("a cut is proven that was never made")
	}
	for _, d := range []Direction{Incoming, Outgoing} {
		must(t, a.CutOneWay(ctx, d))
		out, err := a.host.ns.output("iptables", "-S")
		must(t, err)
		if n := strings.Count(out, "-j DROP"); n != 1 || !strings.Contains(out, "-A "+string(d)) {
			t.Errorf("%s: not one rule of one direction:\n%s", d, out)
		}
		if reach(a, b.PG()) || reach(b, a.PG()) {
			t.Errorf("%s: a connection got through", d)
		}
		must(t, a.Heal(ctx))
		healthy()
	}
	must(t, a.CutFrom(ctx, b.PG(), c.Client()))
	if reach(a, b.PG()) || reach(a, c.Client()) || !reach(a, c.Members[2].PG()) {
		t.Error("cut off from others than those named")
	}
	must(t, a.Heal(ctx))
	healthy()
	must(t, a.Lose(ctx, 0.5))
	must(t, a.Heal(ctx))
	healthy()
}

func TestANarrowLinkIsSlowAndLosesNothing(t *testing.T) {
	c := New(t, Options{Idle: true, Network: Namespaces})
	a, b := c.Members[0], c.Members[1]
	l, err := b.Listen(b.PG())
	must(t, err)
	defer func() { _ = l.Close() }()
	const size = 40_000
	send := func() time.Duration {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		conn, err := a.Dial(ctx, "tcp", b.PG())
		must(t, err)
		defer func() { _ = conn.Close() }()
		far, err := l.Accept()
		must(t, err)
		defer func() { _ = far.Close() }()
		begin := Mono()
		go func() { _, _ = conn.Write(make([]byte, size)) }()
		buffer := make([]byte, size)
		for got := 0; got < size; {
			n, err := far.Read(buffer)
			must(t, err)
			got += n
		}
		return Mono() - begin
	}
	wide := send()
	must(t, a.Narrow(160_000)) // two seconds for 40 kB
	narrow := send()
	must(t, a.Widen())
	if again := send(); narrow < time.Second || wide > narrow/2 || again > narrow/2 {
		t.Errorf("40 kB took %s, narrowed %s, widened %s", wide, narrow, again)
	}
}
