package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// WaitFor waits until cond is true. cond also describes what it saw; the description of the last
// look and a dump of the whole cluster are in the error.
func (c *Cluster) WaitFor(ctx context.Context, timeout time.Duration, what string, cond func(context.Context) (bool, string)) error {
	start := Mono()
	state, ok := poll(ctx, timeout, cond)
	if ok {
		return nil
	}
	return fmt.Errorf("waited %s for %s; last seen: %s\n%s",
		(Mono() - start).Round(time.Millisecond), what, state, c.Dump(context.WithoutCancel(ctx)))
}

// WaitPrimary waits until a member not in the exclusion answers /primary with 200 and accepts
// writes, and returns it.
func (c *Cluster) WaitPrimary(ctx context.Context, timeout time.Duration, not ...*Member) (*Member, error) {
	var primary *Member
	candidates := c.Others(not...)
	err := c.WaitFor(ctx, timeout, "a primary among "+names(candidates), func(ctx context.Context) (bool, string) {
		var seen strings.Builder
		for _, m := range candidates {
			code := m.Code(ctx, "/primary")
			fmt.Fprintf(&seen, "%s: /primary %d", m.Name, code)
			if code == 200 {
				readOnly, err := m.SQL(ctx, "SHOW transaction_read_only")
				if err == nil && readOnly == "off" {
					primary = m
					return true, m.Name
				}
				fmt.Fprintf(&seen, " (read only: %q, %v)", readOnly, err)
			}
			seen.WriteString("; ")
		}
		return false, seen.String()
	})
	return primary, err
}

// Primary is the member that answers /primary with 200 right now, nil if none does.
func (c *Cluster) Primary(ctx context.Context) *Member {
	for _, m := range c.Members {
		if m.Code(ctx, "/primary") == 200 {
			return m
		}
	}
	return nil
}

// WaitHealthy waits for a primary with n standbys that stream from it, and returns the primary.
func (c *Cluster) WaitHealthy(ctx context.Context, n int, timeout time.Duration) (*Member, error) {
	var primary *Member
	err := c.WaitFor(ctx, timeout, fmt.Sprintf("a primary with %d streaming standbys", n), func(ctx context.Context) (bool, string) {
		m := c.Primary(ctx)
		if m == nil {
			return false, "no primary"
		}
		streaming, err := m.SQL(ctx, "SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_replication WHERE state = 'streaming'")
		if err != nil {
			return false, err.Error()
		}
		state := fmt.Sprintf("primary %s, streaming: %s", m.Name, streaming)
		ready := 0
		for _, other := range c.Others(m) {
			if slices.Contains(strings.Fields(streaming), other.Name) && other.Code(ctx, "/replica") == 200 {
				ready++
			}
		}
		primary = m
		return ready >= n, fmt.Sprintf("%s, of them ready by /replica: %d", state, ready)
	})
	return primary, err
}

// WaitSynchronous waits until commits on the primary wait for a standby, where the mode says that
// they do: before that an acknowledged row is promised to nobody but the primary's disk.
func (c *Cluster) WaitSynchronous(ctx context.Context, primary *Member, timeout time.Duration) error {
	if c.Options.Mode == "" || c.Options.Mode == Asynchronous {
		return nil
	}
	if c.Options.Mode != AnyOne {
		return c.waitElectorate(ctx, timeout)
	}
	return c.WaitFor(ctx, timeout, "a synchronous standby of "+primary.Name, func(ctx context.Context) (bool, string) {
		n, err := primary.SQL(ctx, "SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
		if err != nil {
			return false, err.Error()
		}
		return n != "0", n + " synchronous standbys"
	})
}

// waitElectorate waits until the sync key names as many standbys as the mode makes of the members that run.
func (c *Cluster) waitElectorate(ctx context.Context, timeout time.Duration) error {
	want := -1
	for _, m := range c.Members {
		if m.Running() {
			want++
		}
	}
	if c.Options.Mode == Synchronous {
		want = min(want, 1)
	}
	return c.WaitVoters(ctx, want, timeout)
}

// WaitVoters waits until the sync key names so many standbys, and nothing of a change that is under way.
func (c *Cluster) WaitVoters(ctx context.Context, want int, timeout time.Duration) error {
	return c.WaitFor(ctx, timeout, fmt.Sprintf("%d standbys in the sync key", want), func(ctx context.Context) (bool, string) {
		text, err := c.Get(ctx, "sync")
		var key struct {
			Standbys string `json:"sync_standby"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), &key)
		}
		names := strings.FieldsFunc(key.Standbys, func(r rune) bool { return r == ',' })
		return err == nil && len(names) == want, fmt.Sprint(text, err)
	})
}

// WaitRole waits until the member answers the health check of a role (primary, replica, sync …).
func (c *Cluster) WaitRole(ctx context.Context, m *Member, role string, timeout time.Duration) error {
	return c.WaitFor(ctx, timeout, m.Name+" to be "+role, func(ctx context.Context) (bool, string) {
		code := m.Code(ctx, "/"+role)
		return code == 200, fmt.Sprintf("/%s answers %d", role, code)
	})
}

// WaitLog waits until the member's log has a line that contains all of the words.
func (c *Cluster) WaitLog(ctx context.Context, m *Member, timeout time.Duration, words ...string) error {
	what := fmt.Sprintf("a log line of %s with %q", m.Name, words)
	return c.WaitFor(ctx, timeout, what, func(context.Context) (bool, string) {
		return m.Logged(words...), "no such line"
	})
}

// MarkLogs makes WaitLog and Logged see only what is logged from now on.
func (c *Cluster) MarkLogs() {
	for _, m := range c.Members {
		if info, err := os.Stat(m.LogFile()); err == nil {
			m.logged = info.Size()
		}
	}
}

// Logged is true if a line of the agent's log since the last MarkLogs contains all of the words,
// in any case.
func (m *Member) Logged(words ...string) bool {
	text, err := os.ReadFile(m.LogFile())
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(strings.ToLower(string(text[min(m.logged, int64(len(text))):])), "\n") {
		hit := true
		for _, word := range words {
			hit = hit && strings.Contains(line, strings.ToLower(word))
		}
		if hit {
			return true
		}
	}
	return false
}

// Dump describes the cluster for a reader who was not there.
func (c *Cluster) Dump(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var b strings.Builder
	fmt.Fprintf(&b, "---- cluster in %s ----\n", c.Dir)
	for _, m := range c.Members {
		found, err := m.Processes(Agent | Fencers | Postmaster | EtcdProcess | Helper)
		fmt.Fprintf(&b, "== %s (%s): %s", m.Name, m.PG(), describeProcesses(found))
		if err != nil {
			fmt.Fprintf(&b, " (%v)", err)
		}
		fmt.Fprintf(&b, "\n-- /patroni: %s\n-- why: %s\n-- log:\n%s\n", m.brief(ctx, "/patroni"), m.Why(ctx), tail(m.LogFile(), 25))
		fmt.Fprintf(&b, "-- server log:\n%s\n", tail(filepath.Join(m.StateDir(), "postgres.log"), 15))
	}
	b.WriteString("== etcd\n")
	b.WriteString(c.dumpKeys(ctx))
	if c.Proxy != nil {
		fmt.Fprintf(&b, "== haproxy\n%s\n", tail(c.Proxy.log, 5))
	}
	return b.String()
}

func (m *Member) brief(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := m.HTTP(ctx, "GET", path, nil)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", answer.Code, answer.Body)
}

func (c *Cluster) dumpKeys(ctx context.Context) string {
	if c.Etcd == nil || c.Etcd.client == nil {
		return "no client\n"
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	answer, err := c.Etcd.client.Get(ctx, "/service/", clientv3.WithPrefix())
	if err != nil {
		return err.Error() + "\n"
	}
	var b strings.Builder
	for _, kv := range answer.Kvs {
		fmt.Fprintf(&b, "%s (rev %d, lease %x) = %.300s\n", kv.Key, kv.ModRevision, kv.Lease, kv.Value)
	}
	return b.String()
}

// Holds checks that cond stays true for a while. It is the opposite of WaitFor: the time passes
// with looking, and the first look that fails ends it.
func (c *Cluster) Holds(ctx context.Context, d time.Duration, what string, cond func(context.Context) (bool, string)) error {
	end := Mono() + d
	state, broken := poll(ctx, d+proofTimeout, func(ctx context.Context) (bool, string) {
		if Mono() >= end {
			return true, ""
		}
		ok, now := cond(ctx)
		return !ok, "broken: " + now
	})
	if broken && state == "" {
		return nil
	}
	return fmt.Errorf("%s did not hold for %s: %s\n%s", what, d, state, c.Dump(context.WithoutCancel(ctx)))
}
