package postgres

import (
	"fmt"
	"testing"

	"github.com/pgha/pgha/internal/postgres/pgtest"
)

// A standby that already streams from a server which is promoted must not release commits by the setting that
// stood before: its walsender cannot confirm the new timeline before it has begun to stream it, and loads the
// files when it is told to. So what is written before a promotion holds for a cascade's walsenders, also for
// one that slept all the while.
func TestAPromotionTakesTheWalsendersOfACascadeAlong(t *testing.T) {
	t.Parallel()
	a := newPrimary(t, "a")
	a.sql("CREATE TABLE t (i int)")
	b := newStandby(t, "b", a)
	b.waitStreaming(a)
	c := newStandby(t, "c", b)
	c.waitStreaming(b)
	if res, err := b.SetSync(t.Context(), anyOf(1, "c"), b.reload); err != nil || !res.Loaded {
		t.Fatalf("the setting that stood before: %+v, %v", res, err)
	}
	pid := b.sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'c'")

	resume := b.stopProcess("backend_type = 'walsender' AND application_name = 'c'")
	pgtest.Wait(t, "the setting of the promotion is loaded", func() (bool, string) {
		res, err := b.SetSync(t.Context(), anyOf(1, "d"), b.reload)
		return err == nil && res.Loaded, fmt.Sprintf("%+v %v", res, err)
	})
	a.pm.Stop()
	b.promote()
	waiting := b.beginCommit()
	resume()

	pgtest.Wait(t, "c has confirmed everything, the commit included", func() (bool, string) {
		out := b.sql("SELECT flush_lsn >= pg_current_wal_insert_lsn() FROM pg_stat_replication WHERE application_name = 'c'")
		return out == "t", out
	})
	if now := b.sql("SELECT pid FROM pg_stat_replication WHERE application_name = 'c'"); now != pid {
		t.Errorf("c streams by another walsender (%s, before %s): the case that this is about does not exist", now, pid)
	}
	// What comes after this was confirmed by c as well, so its walsender has looked at the commit twice.
	if b.commits(soon) {
		t.Error("c's walsender released a commit by the setting that stood before the promotion")
	}
	select {
	case err := <-waiting:
		t.Errorf("c's walsender released a commit that waited since the promotion: %v", err)
	default:
	}
	b.waitSync(anyOf(1, "c"))
	if err := <-waiting; err != nil {
		t.Errorf("the commit that waited, although c is asked for now: %v", err)
	}
}

// beginCommit begins a commit and returns when it waits for a standby; the channel gives its end.
func (n *node) beginCommit() <-chan error {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := pgtest.Query(n.t.Context(), n.dsn(), "INSERT INTO t VALUES (2)")
		done <- err
	}()
	pgtest.Wait(n.t, "a commit waits", func() (bool, string) {
		out := n.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT INTO t VALUES (2)%'")
		return out == "1", out
	})
	return done
}
