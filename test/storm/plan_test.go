package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// outline of a plan: everything but the functions.
func outline(p plan, steps int) []string {
	var out []string
	for n := range steps {
		st := p.step(n + 1)
		out = append(out, fmt.Sprint(st.number, st.gap, st.name(), st.apart, st.hold, st.command, st.rng.Int64()))
	}
	return out
}

func TestASeedGivesTheSamePlanAndAnotherSeedAnother(t *testing.T) {
	p := plan{seed: 7, ttl: 5 * time.Second, kinds: allKinds()}
	once, again := outline(p, 200), outline(p, 200)
	p.seed++
	other := outline(p, 200)
	same := 0
	for i := range once {
		if once[i] != again[i] {
			t.Fatalf("step %d: %s, then %s", i+1, once[i], again[i])
		}
		if once[i] == other[i] {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d steps are the same with another seed", same)
	}
}

func TestAPlanHasEveryKindAndTwoAtOnceAndCommands(t *testing.T) {
	p := plan{seed: 1, ttl: 5 * time.Second, kinds: allKinds()}
	seen, two, commands := map[string]bool{}, 0, 0
	for n := range 1000 {
		st := p.step(n)
		for i, k := range st.kinds {
			seen[k.name] = true
			if k.alone && (i > 0 || len(st.kinds) > 1 || st.command >= 0) {
				t.Errorf("step %d: %s is not alone", n, k.name)
			}
		}
		if len(st.kinds) == 2 {
			two++
		}
		if st.command >= 0 {
			commands++
		}
		if st.hold <= 0 || st.hold > 3*p.ttl {
			t.Errorf("step %d holds for %s", n, st.hold)
		}
	}
	for _, k := range allKinds() {
		if !seen[k.name] {
			t.Errorf("%q is in none of 1000 steps", k.name)
		}
	}
	if two < 100 || commands < 100 {
		t.Errorf("of 1000 steps %d have two faults and %d a command", two, commands)
	}
}

func TestFlagsAreChecked(t *testing.T) {
	for _, args := range [][]string{{"-mode", "any"}, {"-faults", "flood"}, {"-etcd", "1"}, {"-sabotage", "x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	o, err := parse([]string{"-faults", "freeze node,pause", "-minutes", "0.5", "-mode", "quorum"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.kinds) != 2 || o.length != 30*time.Second || o.seed == 0 {
		t.Errorf("got %d kinds, %s, seed %d", len(o.kinds), o.length, o.seed)
	}
}

func TestARelayDelaysEachWayAndPassesEverythingOn(t *testing.T) {
	echo := listen(t)
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	r := newRelay(t.Context(), listen(t), func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", echo.Addr().String())
	})
	t.Cleanup(r.close)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, delay := range []time.Duration{0, 100 * ms} {
		r.setDelay(delay)
		begin := time.Now()
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 5)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "hello" {
			t.Fatalf("got %q, %v", answer, err)
		}
		if took := time.Since(begin); took < 2*delay {
			t.Errorf("delay %s each way: an answer took %s", delay, took)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
