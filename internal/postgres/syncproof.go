package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgha/pgha/internal/election"
)

// What SHOW says is not yet what commits go by. "Empty to set" is carried out by the checkpointer:
// while it is busy, commits wait for nobody. And each walsender releases waiting commits by the
// value that it has itself loaded. So two things are seen before a setting counts as in force.
//
// A commit of our own is seen waiting. That it came back, and that the standbys have its position
// by then, would prove nothing: they have it a moment later in any case.
//
// Every walsender is seen asleep in its main loop by a session that began after the postmaster had
// signalled it: the first thing that it does when it wakes is to load the value, before it reads
// another reply. Those that the old or the new value names must also have replied twice since.

const (
	syncProofTime = 2 * time.Second
	// canaryBurst canaries follow one another at once; then they come every canaryPause.
	canaryBurst = 30
	canaryPause = 5 * time.Millisecond
	// The canary writes a few bytes of log that no table and no replication slot needs: an empty
	// message. A transaction number alone would not wait for a standby.
	canarySQL = "SELECT pg_logical_emit_message(true, 'pgha', '')"
)

// syncProof is one attempt to prove a setting.
type syncProof struct {
	s      *Server
	named  []string // names of walsenders that must reply
	out    SyncResult
	life   serverLife
	loaded time.Time

	probe   *pgx.Conn
	canary  *canary
	senders map[int]*provenSender // nil: not looked at yet
	pinged  time.Time
}

type provenSender struct {
	name    string
	asleep  bool
	idle    bool // between two commands
	reply   time.Time
	replies int
}

func (p *syncProof) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncProofTime)
	defer cancel()
	if err := p.connect(ctx); err != nil || p.out.Why != "" {
		return err
	}
	defer closeConn(p.probe)
	if p.out.Standby {
		return p.proveLoaded(ctx)
	}
	if err := p.prove(ctx); err != nil {
		return err
	}
	if p.out.Why != "" {
		return nil
	}
	return p.readBarrier(ctx)
}

// connect opens the session that began after the reload. A value that does not come is foreign.
func (p *syncProof) connect(ctx context.Context) error {
	half := syncProofTime / 2
	if end, ok := ctx.Deadline(); ok {
		half = time.Until(end) / 2
	}
	short, cancel := context.WithTimeout(ctx, half)
	defer cancel()
	quoted := strings.ReplaceAll(p.out.Text, "'", "''")
	conn, err := p.s.sessionAfterReload(short, "the setting", fmt.Sprintf("SELECT current_setting('%s') = E'%s'",
		SyncNamesSetting, strings.ReplaceAll(quoted, `\`, `\\`)))
	if err != nil {
		if short.Err() == nil || ctx.Err() != nil {
			return err
		}
		p.out.Why = "the server does not have the setting: " + err.Error()
		if o, err := p.s.Observe(ctx); err == nil && !sameSync(o.SyncNames, p.out.Text) {
			p.out.Foreign, p.out.Why = o.SyncNames, "somebody overrides the setting with "+o.SyncNames
		}
		return nil
	}
	p.probe = conn
	var start time.Time
	var checkpointer *int
	err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), pg_postmaster_start_time(), pg_conf_load_time(),
		(SELECT a.pid FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'checkpointer' LIMIT 1)`,
	).Scan(&p.out.Standby, &start, &p.loaded, &checkpointer)
	if err != nil || checkpointer == nil {
		closeConn(conn)
		return errors.Join(errors.New("the server cannot be looked at"), err)
	}
	p.life = serverLife{start.UTC(), *checkpointer}
	return nil
}

// proveLoaded is what can be said of a standby: nothing keeps its checkpointer from loading the
// setting before the promotion. The walsenders of a cascade need no proof: each loads the files before it
// begins the new timeline, and confirms nothing of that before.
func (p *syncProof) proveLoaded(ctx context.Context) error {
	p.out.Why = "the server is a standby and its checkpointer is busy"
	for ctx.Err() == nil {
		var wait string
		err := p.probe.QueryRow(ctx, "SELECT COALESCE((SELECT a.wait_event FROM pg_stat_get_activity($1) a), '')", p.life.checkpointer).Scan(&wait)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if wait == "CheckpointerMain" {
			p.out.Loaded = true
			p.out.Why = "the server is a standby: what a commit waits for shows after the promotion"
			break
		}
		_ = pause(ctx, 2*time.Millisecond) // the loop looks at the end of time itself
	}
	return nil
}

// prove looks until everything was seen, or time is up: then Why says what was not.
func (p *syncProof) prove(ctx context.Context) error {
	c, err := startCanary(ctx, p.s)
	if err != nil {
		return err
	}
	p.canary = c
	defer c.stop(p.probe)
	begun, waits := time.Now(), false
	for {
		if !waits {
			if waits, err = p.commitsGoByIt(ctx); err != nil {
				break
			}
		}
		missing, sendersErr := p.walsenders(ctx)
		if err = sendersErr; err != nil {
			break
		}
		switch {
		case !waits && p.out.Setting.Wait > 0:
			p.out.Why = "no commit was seen waiting: the checkpointer has not loaded the setting"
		case !waits:
			p.out.Why = "commits still wait: the checkpointer has not loaded the setting"
		case missing != "":
			p.out.Why = missing
		default:
			p.out.Why = ""
			return nil
		}
		if err = p.ping(ctx); err == nil && time.Since(begun) > 20*canaryPause {
			err = pause(ctx, canaryPause/2) // it takes longer: no need to hurry
		}
		if err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return nil // Why says what was missing
	}
	return err
}

// commitsGoByIt says whether a commit was seen waiting, or, where none shall, coming back.
func (p *syncProof) commitsGoByIt(ctx context.Context) (bool, error) {
	if err := p.canary.failed(); err != nil {
		return false, fmt.Errorf("canary: %w", err)
	}
	if p.out.Setting.Wait == 0 {
		return p.canary.returned.Load() > 0, nil
	}
	for range 5 {
		var wait string
		err := p.probe.QueryRow(ctx, "SELECT COALESCE((SELECT a.wait_event FROM pg_stat_get_activity($1) a), '')", p.canary.pid).Scan(&wait)
		if err != nil || wait == "SyncRep" {
			return err == nil, err
		}
	}
	return false, nil
}

// walsenders looks at those that ran when the probing session began; later ones began with the new
// value. It says what is missing.
func (p *syncProof) walsenders(ctx context.Context) (missing string, err error) {
	rows, err := p.probe.Query(ctx, `SELECT w.pid, w.state, COALESCE(a.wait_event, ''), COALESCE(a.application_name, ''), w.reply_time
		FROM pg_stat_get_wal_senders() w JOIN LATERAL pg_stat_get_activity(w.pid) a ON true WHERE w.state <> 'backup'`)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	first := p.senders == nil
	if first {
		p.senders = map[int]*provenSender{}
	}
	var there []int
	for rows.Next() {
		var pid int
		var state, wait, name string
		var reply *time.Time
		if err := rows.Scan(&pid, &state, &wait, &name, &reply); err != nil {
			return "", err
		}
		if first {
			p.senders[pid] = &provenSender{name: name}
		}
		there = append(there, pid)
		if w := p.senders[pid]; w != nil {
			w.see(state, wait, reply, first)
		}
	}
	for pid, w := range p.senders {
		if !slices.Contains(there, pid) {
			delete(p.senders, pid) // gone
			continue
		}
		if why := w.lacks(p.named); why != "" {
			missing = fmt.Sprintf("the walsender of %s (process %d) %s", w.name, pid, why)
		}
	}
	return missing, rows.Err()
}

// see takes one look at a walsender in.
func (w *provenSender) see(state, wait string, reply *time.Time, first bool) {
	switch {
	case wait == "WalSenderMain" || strings.EqualFold(wait, "WalSenderWaitForWAL"):
		w.asleep = true
	case state == "startup" && wait == "ClientRead":
		// It streams nothing and waits for a command. It loads the setting before it carries one out, and
		// confirms nothing until then.
		w.idle = true
	}
	if reply == nil {
		return
	}
	if !first && !reply.Equal(w.reply) {
		w.replies++
	}
	w.reply = *reply
}

// lacks says what of the proof is missing for this walsender.
func (w *provenSender) lacks(named []string) string {
	switch {
	case w.idle:
		return ""
	case !w.asleep:
		return "was not seen to load the setting"
	}
	if w.replies < 2 && slices.ContainsFunc(named, func(n string) bool { return n == "*" || strings.EqualFold(n, w.name) }) {
		return "has not replied twice since"
	}
	return ""
}

// ping writes a little log that waits for nobody, so that the standbys have something to reply to
// even while the canary waits.
func (p *syncProof) ping(ctx context.Context) error {
	if time.Since(p.pinged) < canaryPause {
		return ctx.Err()
	}
	p.pinged = time.Now()
	_, err := p.probe.Exec(ctx, canarySQL)
	return err
}

// readBarrier reads the end of the log, and writes a little more, because an end that lies at the
// beginning of a page is reached by no standby until something follows.
func (p *syncProof) readBarrier(ctx context.Context) error {
	var text string
	err := p.probe.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text)
	if err == nil {
		p.out.Barrier, err = election.ParseLSN(text)
	}
	if err == nil {
		_, err = p.probe.Exec(ctx, canarySQL)
	}
	if err != nil {
		p.out.Why = "the end of the log could not be read"
		return err
	}
	p.out.InForce = true
	return nil
}

// canary commits again and again over a session of its own, as a client would.
type canary struct {
	conn     *pgx.Conn
	pid      uint32
	returned atomic.Int64
	quit     chan struct{}
	done     chan struct{}
	err      error // valid once done is closed
}

func startCanary(ctx context.Context, s *Server) (*canary, error) {
	conn, _, err := s.connectLocal(ctx, s.opt.Database, map[string]string{
		// Waiting for the replay takes a little longer, which is all the easier to see.
		"synchronous_commit": "remote_apply", "statement_timeout": "0", "search_path": "pg_catalog",
		"default_transaction_read_only": "off",
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("canary: %w", err)
	}
	c := &canary{conn: conn, pid: conn.PgConn().PID(), quit: make(chan struct{}), done: make(chan struct{})}
	// Whoever asks may give up; the canary then ends by stop, which leaves nothing behind.
	go c.sing(context.WithoutCancel(ctx))
	return c, nil
}

func (c *canary) sing(ctx context.Context) {
	defer close(c.done)
	t := time.NewTimer(0)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-c.quit:
			return
		case <-t.C:
		}
		if _, c.err = c.conn.Exec(ctx, canarySQL); c.err != nil {
			return
		}
		c.returned.Add(1)
		next := time.Duration(0)
		if n > canaryBurst {
			next = canaryPause
		}
		t.Reset(next)
	}
}

// failed is the error that ended the canary, if any.
func (c *canary) failed() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// stop ends the canary, also one that waits for a standby that is not there: its wait is cancelled
// on the server, because a session that waits notices nothing else.
func (c *canary) stop(probe *pgx.Conn) {
	close(c.quit)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for grace := 20 * time.Millisecond; ; grace = 5 * time.Millisecond {
		t := time.NewTimer(grace)
		select {
		case <-c.done:
			t.Stop()
			closeConn(c.conn)
			return
		case <-t.C:
		}
		if _, err := probe.Exec(ctx, "SELECT pg_cancel_backend($1)", c.pid); err != nil {
			// Nothing answers any more. Without its connection the canary ends here; there the
			// server ends it.
			_ = c.conn.PgConn().Conn().Close()
			<-c.done
			return
		}
	}
}
