package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// WriterOptions of a load. The zero value writes 100 rows a second over two sessions, through the
// proxy if there is one, else to whichever member takes writes.
type WriterOptions struct {
	// DSN to write to; default as above. See ProxyDSN, DirectDSN and Member.DSN.
	DSN string
	// Hz is the number of writes per second of all sessions together.
	Hz int
	// Sessions that write in turn. Two, so that one that hangs does not blind the measurement.
	Sessions int
	// ConnectTimeout of one attempt at one host, StatementTimeout of one insert, both on the
	// client's clock. A statement that runs out has an unknown outcome and costs the session.
	ConnectTimeout, StatementTimeout time.Duration
	// Retry is the pause after a failure.
	Retry time.Duration
	// Unreachable: nothing need be acknowledged before StartWriter returns.
	Unreachable bool
	// Ledger to write into; default a new one.
	Ledger *Ledger
}

// Writer inserts ids and notes in its Ledger which were acknowledged, when and by whom.
type Writer struct {
	Ledger *Ledger

	c      *Cluster
	o      WriterOptions
	next   atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// ProxyDSN leads to the primary through the proxy.
func (c *Cluster) ProxyDSN() string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", superuser, superuserPassword, c.Proxy.PrimaryAddress())
}

// DirectDSN names every member and asks for the one that takes writes.
func (c *Cluster) DirectDSN() string {
	var hosts []string
	for _, m := range c.Members {
		hosts = append(hosts, m.PG())
	}
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable&target_session_attrs=read-write",
		superuser, superuserPassword, strings.Join(hosts, ","))
}

const createLedger = `CREATE TABLE IF NOT EXISTS ledger (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())`

// insertRow names the server in its answer, so that a client behind a proxy knows who promised.
// The answer arrives only after the commit: the driver reads on until the server is ready again.
const insertRow = `INSERT INTO ledger (id) VALUES ($1) RETURNING
	host(inet_server_addr()) || ':' || inet_server_port(), pg_backend_pid(),
	('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int,
	(pg_current_wal_insert_lsn() - '0/0')::bigint, clock_timestamp()`

// StartWriter makes the table on the primary and starts writing. It returns after the first
// acknowledgement. Stop ends it.
func (c *Cluster) StartWriter(ctx context.Context, o WriterOptions) (*Writer, error) {
	if o.DSN == "" && c.Proxy != nil {
		o.DSN = c.ProxyDSN()
	}
	setString(&o.DSN, c.DirectDSN())
	if o.Hz == 0 {
		o.Hz = 100
	}
	if o.Sessions == 0 {
		o.Sessions = 2
	}
	setDuration(&o.ConnectTimeout, 250*time.Millisecond)
	setDuration(&o.StatementTimeout, time.Second)
	setDuration(&o.Retry, 10*time.Millisecond)
	if o.Ledger == nil {
		o.Ledger = NewLedger()
	}
	w := &Writer{Ledger: o.Ledger, c: c, o: o}
	// No id is ever used twice in a run: a row of an earlier writer must not stand in for a lost one.
	w.next.Store(c.writers.Add(1) << 32)
	if !o.Unreachable {
		if err := w.createTable(ctx); err != nil {
			return nil, err
		}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	for i := range o.Sessions {
		w.wg.Add(1)
		go w.session(run, i)
	}
	if o.Unreachable {
		return w, nil
	}
	if err := w.WaitAcks(ctx, 1, 20*time.Second); err != nil {
		w.Stop()
		return nil, err
	}
	return w, nil
}

func (w *Writer) createTable(ctx context.Context) error {
	state, ok := poll(ctx, 20*time.Second, func(ctx context.Context) (bool, string) {
		conn, err := w.c.connect(ctx, w.o.DSN, time.Second, nil)
		if err != nil {
			return false, err.Error()
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		if _, err := conn.Exec(ctx, createLedger); err != nil {
			return false, err.Error()
		}
		return true, "created"
	})
	if !ok {
		return fmt.Errorf("create the ledger's table: %s", state)
	}
	return nil
}

// Stop ends the writer and returns its judgement.
func (w *Writer) Stop() Report {
	w.cancel()
	w.wg.Wait()
	return w.Ledger.Report()
}

// WaitAcks waits until n more writes have been acknowledged than now.
func (w *Writer) WaitAcks(ctx context.Context, n int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	goal := w.Ledger.Count() + n
	for {
		changed := w.Ledger.wait()
		if w.Ledger.Count() >= goal {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %d acknowledged writes: %s\n%s",
				timeout, n, w.Ledger.Report(), w.c.Dump(context.WithoutCancel(ctx)))
		}
	}
}

// session is one client: it writes at its share of the rate, and connects again when it must.
func (w *Writer) session(ctx context.Context, number int) {
	defer w.wg.Done()
	period := time.Second * time.Duration(w.o.Sessions) / time.Duration(w.o.Hz)
	// Sessions take turns: each starts a part of the period later than the one before.
	timer := time.NewTimer(period * time.Duration(number) / time.Duration(w.o.Sessions))
	defer timer.Stop()
	due := time.Now().Add(period * time.Duration(number) / time.Duration(w.o.Sessions))
	link := &link{w: w}
	defer link.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if !link.write(ctx) {
			timer.Reset(w.o.Retry)
			due = time.Now().Add(w.o.Retry)
			continue
		}
		if due = due.Add(period); time.Until(due) < 0 {
			due = time.Now() // late: do not catch up, that would be another rate
		}
		timer.Reset(time.Until(due))
	}
}

// link is a session's connection, open or not.
type link struct {
	w      *Writer
	conn   *pgx.Conn
	warned bool // the server sent a warning during this statement
}

func (k *link) close() {
	if k.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = k.conn.Close(ctx) // the answer, if any, has been read; nothing depends on the goodbye
	k.conn = nil
}

// write tries one row. True if it was acknowledged.
func (k *link) write(ctx context.Context) bool {
	w := k.w
	if k.conn == nil {
		conn, err := w.c.connect(ctx, w.o.DSN, w.o.ConnectTimeout, k.tune)
		if err != nil {
			w.failed(ctx, "connect: "+reason(err), false)
			return false
		}
		k.conn = conn
	}
	a := Ack{ID: w.next.Add(1), Sent: Mono()}
	k.warned = false
	limit, cancel := context.WithTimeout(ctx, w.o.StatementTimeout)
	err := k.conn.QueryRow(limit, insertRow, a.ID).Scan(&a.Server, &a.PID, &a.Timeline, &a.LSN, &a.Executed)
	cancel()
	if err == nil {
		a.Received, a.Local = Mono(), k.warned
		w.Ledger.ack(a)
		return true
	}
	var refused *pgconn.PgError
	answered := errors.As(err, &refused)
	// A server that says "read only" is certain; one that went away in the middle is not.
	w.failed(ctx, "insert: "+reason(err), !answered || refused.Severity == "FATAL")
	if !answered || k.conn.IsClosed() {
		k.close()
	}
	return false
}

func (k *link) tune(config *pgx.ConnConfig) {
	// Refusals are the writer's daily bread: they are counted here, not in the servers' logs.
	config.RuntimeParams["log_min_messages"] = "panic"
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Code == "01000" {
			k.warned = true
		}
	}
}

func (w *Writer) failed(ctx context.Context, what string, unknown bool) {
	if ctx.Err() == nil { // what Stop cut short says nothing about the server
		w.Ledger.fail(what, unknown)
	}
}

// reason is the class of an error: few different texts, so that they can be counted.
func reason(err error) string {
	var refused *pgconn.PgError
	var timeout net.Error
	text := err.Error()
	switch {
	case errors.As(err, &refused):
		return refused.Code + " " + refused.Message
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case strings.Contains(text, "connection refused"):
		return "connection refused"
	case strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"), strings.Contains(text, "broken pipe"):
		return "connection lost"
	case strings.Contains(text, "read only"), strings.Contains(text, "ValidateConnect failed"):
		return "no server takes writes"
	}
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	return text
}

// Verify reads every id on a server and returns the acknowledged ones that are missing. The
// server should be the primary of a cluster at rest.
func (c *Cluster) Verify(ctx context.Context, m *Member, ledgers ...*Ledger) (lost []int64, err error) {
	present, err := m.ids(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range ledgers {
		lost = append(lost, Lost(l.Acks(), present)...)
	}
	return lost, nil
}

func (m *Member) ids(ctx context.Context) ([]int64, error) {
	conn, err := m.c.connect(ctx, m.DSN(), 5*time.Second, nil)
	if err != nil {
		return nil, fmt.Errorf("read ids on %s: %w", m.Name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, "SELECT id FROM ledger")
	if err != nil {
		return nil, fmt.Errorf("read ids on %s: %w", m.Name, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read ids on %s: %w", m.Name, err)
	}
	return ids, nil
}
