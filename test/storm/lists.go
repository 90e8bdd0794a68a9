package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/test/cluster"
)

const (
	createLists = `CREATE TABLE IF NOT EXISTS lists (k bigint PRIMARY KEY, v bigint[] NOT NULL)`
	appendTo    = `INSERT INTO lists AS l (k, v) VALUES ($1, ARRAY[$2::bigint])
		ON CONFLICT (k) DO UPDATE SET v = l.v || excluded.v RETURNING v`
	readList = `SELECT v FROM lists WHERE k = $1`

	// openLists are written at the same time; a list is closed for a new one when it is this long,
	// since every append returns it whole.
	openLists  = 4
	listLength = 100

	listConnect = 300 * time.Millisecond
	listTimeout = 2 * time.Second
	listRetry   = 20 * time.Millisecond
)

// lister runs the list clients and keeps their history.
type lister struct {
	c      *cluster.Cluster
	nextID atomic.Int64
	// appended counts the appends tried to each of the open lists.
	appended [openLists]atomic.Int64

	mu      sync.Mutex
	history []listTxn

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startLister makes the table on the primary and starts the clients, each with hz transactions a
// second, one for every DSN.
func startLister(ctx context.Context, c *cluster.Cluster, primary *cluster.Member, seed uint64, hz int, dsns ...string) (*lister, error) {
	if _, err := primary.SQL(ctx, createLists); err != nil {
		return nil, fmt.Errorf("create the lists' table: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &lister{c: c, cancel: cancel}
	for i, dsn := range dsns {
		rng := rand.New(rand.NewPCG(seed, 1<<32+uint64(i)))
		l.wg.Go(func() { l.session(run, dsn, hz, rng) })
	}
	return l, nil
}

// stop ends the clients and returns the history.
func (l *lister) stop() []listTxn {
	l.cancel()
	l.wg.Wait()
	return l.history
}

// listSession is a client's connection, open or not.
type listSession struct {
	conn   *pgx.Conn
	server string
	warned bool // the server sent a warning: a commit that was not waited for
}

func (l *lister) session(ctx context.Context, dsn string, hz int, rng *rand.Rand) {
	tick := time.NewTicker(time.Second / time.Duration(hz))
	defer tick.Stop()
	retry := time.NewTicker(listRetry)
	defer retry.Stop()
	s := &listSession{}
	defer s.close()
	for {
		wake := tick.C
		if s.conn == nil {
			wake = retry.C
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		if s.conn == nil && s.open(ctx, l.c, dsn) != nil {
			continue // no server to write to: the next tick tries again
		}
		t := listTxn{Sent: cluster.Mono(), Server: s.server, Ops: l.draw(rng)}
		err := s.run(ctx, &t)
		t.Received = cluster.Mono()
		l.mu.Lock()
		l.history = append(l.history, t)
		l.mu.Unlock()
		var refused *pgconn.PgError
		if err != nil && (!errors.As(err, &refused) || s.conn.IsClosed()) {
			s.close()
		}
	}
}

// draw makes up a transaction: one to three steps, in the order of the keys so that transactions
// do not lock each other out.
func (l *lister) draw(rng *rand.Rand) []listOp {
	ops := make([]listOp, 1+rng.IntN(3))
	for i := range ops {
		slot := rng.IntN(openLists)
		generation := l.appended[slot].Load() / listLength
		if rng.IntN(10) < 7 {
			ops[i].Append = l.nextID.Add(1)
			generation = (l.appended[slot].Add(1) - 1) / listLength
		}
		ops[i].Key = generation*openLists + int64(slot)
	}
	slices.SortStableFunc(ops, func(a, b listOp) int { return int(a.Key - b.Key) })
	return ops
}

func (s *listSession) open(ctx context.Context, c *cluster.Cluster, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, listConnect)
	defer cancel()
	conn, err := c.Connect(ctx, dsn, func(config *pgx.ConnConfig) {
		config.RuntimeParams["log_min_messages"] = "panic" // refusals are expected, not worth a log
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
			s.warned = s.warned || notice.Code == "01000"
		}
	})
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, "SELECT host(inet_server_addr()) || ':' || inet_server_port()").Scan(&s.server)
	s.conn = conn
	if err != nil {
		s.close()
	}
	return err
}

func (s *listSession) close() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = s.conn.Close(ctx) // every answer that counts has been read
	s.conn = nil
}

// run runs a transaction and says how it ended.
func (s *listSession) run(ctx context.Context, t *listTxn) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	s.warned = false
	if err := s.steps(ctx, t.Ops); err != nil {
		t.Outcome = failed // COMMIT was not sent
		if !s.conn.IsClosed() {
			_, rollback := s.conn.Exec(ctx, "ROLLBACK")
			err = errors.Join(err, rollback)
		}
		return err
	}
	tag, err := s.conn.Exec(ctx, "COMMIT")
	t.Outcome = commitOutcome(tag.String(), err, s.warned)
	return err
}

func (s *listSession) steps(ctx context.Context, ops []listOp) error {
	if _, err := s.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	for i := range ops {
		op := &ops[i]
		statement, args := readList, []any{op.Key}
		if op.Append != 0 {
			statement, args = appendTo, append(args, op.Append)
		}
		err := s.conn.QueryRow(ctx, statement, args...).Scan(&op.List)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // a list that nobody has begun is empty
			return err
		}
	}
	return nil
}

// commitOutcome reads the answer to COMMIT. A refusal is certain; a connection that ended is not,
// and a warning takes the promise back.
func commitOutcome(tag string, err error, warned bool) outcome {
	var refused *pgconn.PgError
	switch {
	case err == nil && tag == "ROLLBACK":
		return failed
	case err == nil && !warned:
		return acknowledged
	case errors.As(err, &refused) && refused.Severity == "ERROR":
		return failed
	}
	return unknown
}

// readLists reads every list on a server.
func readLists(ctx context.Context, c *cluster.Cluster, m *cluster.Member) (map[int64][]int64, error) {
	conn, err := c.Connect(ctx, m.DSN(), nil)
	if err != nil {
		return nil, fmt.Errorf("read lists on %s: %w", m.Name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything has been read
	rows, err := conn.Query(ctx, "SELECT k, v FROM lists")
	if err != nil {
		return nil, fmt.Errorf("read lists on %s: %w", m.Name, err)
	}
	lists := map[int64][]int64{}
	var key int64
	var list []int64
	_, err = pgx.ForEachRow(rows, []any{&key, &list}, func() error {
		lists[key] = slices.Clone(list)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read lists on %s: %w", m.Name, err)
	}
	return lists, nil
}
