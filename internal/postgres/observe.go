package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgha/pgha/internal/election"
)

// observeTimeout is the server's own limit for the observing statement.
const observeTimeout = 2 * time.Second

// observer keeps one connection and what does not change while it lives.
type observer struct {
	turn    chan struct{} // holds one token: who takes it may use the rest
	conn    *pgx.Conn
	addr    *address // what worked last
	query   string
	version int
	loaded  time.Time // configuration load time for which pending was read
	pending []PendingSetting
	waits   waitWatch
}

func (o *observer) init() {
	o.turn = make(chan struct{}, 1)
	o.turn <- struct{}{}
}

func (o *observer) close() {
	<-o.turn
	o.drop()
	o.turn <- struct{}{}
}

func (o *observer) drop() {
	if o.conn != nil {
		closeConn(o.conn)
	}
	o.conn, o.pending, o.loaded = nil, nil, time.Time{}
}

// Observe asks the local server everything in one statement over a kept connection, which is
// made anew when it broke. The error is ErrNotRunning when nobody answers, ErrOtherServer when
// the server found is not that of the data directory, and else the server's own.
func (s *Server) Observe(ctx context.Context) (Observation, error) {
	o := &s.obs
	select {
	case <-o.turn:
		defer func() { o.turn <- struct{}{} }()
	case <-ctx.Done():
		return Observation{}, fmt.Errorf("observe: %w", ctx.Err())
	}
	kept := o.conn != nil
	obs, err := s.observeOnce(ctx)
	var pg *pgconn.PgError
	if err != nil && kept && (!errors.As(err, &pg) || pg.Severity == "FATAL") && ctx.Err() == nil {
		// The end of a connection, perhaps to the server before its restart, says nothing about
		// the one that runs now.
		obs, err = s.observeOnce(ctx)
	}
	if err != nil {
		return Observation{}, fmt.Errorf("observe: %w", err)
	}
	return obs, nil
}

func (s *Server) observeOnce(ctx context.Context) (Observation, error) {
	o := &s.obs
	if o.conn == nil {
		if err := s.observerConnect(ctx); err != nil {
			return Observation{}, err
		}
	}
	begun := time.Now()
	var loaded *time.Time
	if !o.loaded.IsZero() {
		loaded = &o.loaded
	}
	var text []byte
	if err := o.conn.QueryRow(ctx, o.query, loaded).Scan(&text); err != nil {
		o.drop()
		return Observation{}, err
	}
	var row observedRow
	if err := json.Unmarshal(text, &row); err != nil {
		o.drop()
		return Observation{}, fmt.Errorf("the answer: %w", err)
	}
	if row.Pending != nil {
		o.pending = *row.Pending
	}
	o.loaded = row.Loaded
	obs, err := row.observation()
	obs.Version, obs.PendingRestart, obs.Took = o.version, o.pending, time.Since(begun)
	if err == nil {
		obs.CancelledWaits, err = s.cancelledWaits(ctx, obs, row.Waits)
	}
	if err != nil {
		o.drop()
	}
	return obs, err
}

func (s *Server) observerConnect(ctx context.Context) error {
	o := &s.obs
	conn, addr, err := s.connectLocal(ctx, s.opt.Database, map[string]string{
		"statement_timeout": strconv.FormatInt(observeTimeout.Milliseconds(), 10),
		"lock_timeout":      "1000",
		"jit":               "off",
		"search_path":       "pg_catalog",
		"DateStyle":         "ISO",
	}, o.addr)
	if err != nil {
		return err
	}
	var version string
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')", pgx.QueryExecModeSimpleProtocol).Scan(&version)
	if err == nil {
		o.version, err = strconv.Atoi(version)
	}
	if err == nil && o.version >= 140000 {
		_, err = conn.Exec(ctx, "SET idle_session_timeout = 0", pgx.QueryExecModeSimpleProtocol)
	}
	if err != nil {
		closeConn(conn)
		return err
	}
	o.conn, o.addr = conn, &addr
	o.query = observeQuery(o.version)
	o.pending, o.loaded = nil, time.Time{}
	return nil
}

// jsonLSN reads a position from its text; null is zero.
type jsonLSN election.LSN

// UnmarshalJSON implements json.Unmarshaler.
func (l *jsonLSN) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	v, err := election.ParseLSN(*s)
	*l = jsonLSN(v)
	return err
}

// observedRow is the statement's answer.
type observedRow struct {
	InRecovery bool              `json:"rec"`
	SystemID   string            `json:"sysid"`
	Start      time.Time         `json:"start"`
	Ckpt       *int              `json:"ckpt_pid"`
	WALFile    string            `json:"walfile"`
	Write      jsonLSN           `json:"write"`
	Flush      jsonLSN           `json:"flush"`
	Receive    jsonLSN           `json:"receive"`
	Replay     jsonLSN           `json:"replay"`
	ReplayTime *time.Time        `json:"replay_time"`
	Paused     string            `json:"paused"`
	Startup    string            `json:"startup"`
	CkptTLI    election.Timeline `json:"ckpt_tli"`
	MinTLI     election.Timeline `json:"min_tli"`
	Conninfo   string            `json:"conninfo"`
	Restore    string            `json:"restore"`
	Sync       string            `json:"sync"`
	Waits      []observedWait    `json:"waits"`
	Lowered    int               `json:"lowered"`
	Loaded     time.Time         `json:"loaded"`
	Receiver   *observedReceiver `json:"receiver"`
	Senders    []observedSender  `json:"senders"`
	Slots      []observedSlot    `json:"slots"`
	Pending    *[]PendingSetting `json:"pending"`
}

type observedReceiver struct {
	PID       int               `json:"pid"`
	Status    string            `json:"status"`
	TLI       election.Timeline `json:"tli"`
	Start     jsonLSN           `json:"start"`
	Written   jsonLSN           `json:"written"`
	Flushed   jsonLSN           `json:"flushed"`
	LatestEnd jsonLSN           `json:"latest_end"`
	LastMsg   *time.Time        `json:"last_msg"`
	Slot      string            `json:"slot"`
	Host      string            `json:"host"`
	Port      int               `json:"port"`
}

type observedSender struct {
	PID       int        `json:"pid"`
	User      string     `json:"usename"`
	App       string     `json:"app"`
	Addr      string     `json:"addr"`
	State     string     `json:"state"`
	SyncState string     `json:"sync_state"`
	Priority  int        `json:"sync_priority"`
	Sent      jsonLSN    `json:"sent"`
	Write     jsonLSN    `json:"write"`
	Flush     jsonLSN    `json:"flush"`
	Replay    jsonLSN    `json:"replay"`
	Reply     *time.Time `json:"reply"`
}

type observedSlot struct {
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	Plugin      string  `json:"plugin"`
	Database    string  `json:"database"`
	Temporary   bool    `json:"temporary"`
	Active      bool    `json:"active"`
	ActivePID   int     `json:"active_pid"`
	Restart     jsonLSN `json:"restart"`
	Confirmed   jsonLSN `json:"confirmed"`
	Xmin        string  `json:"xmin"`
	CatalogXmin string  `json:"catalog_xmin"`
	WALStatus   string  `json:"wal_status"`
	Failover    bool    `json:"failover"`
	Synced      bool    `json:"synced"`
}

func (r observedRow) observation() (Observation, error) {
	sysid, err := strconv.ParseInt(r.SystemID, 10, 64)
	if err != nil {
		return Observation{}, fmt.Errorf("system identifier %q: %w", r.SystemID, err)
	}
	o := Observation{
		Role:               election.RolePrimary,
		SystemID:           uint64(sysid), // shown signed by the function, unsigned everywhere else
		StartTime:          r.Start,
		WriteLSN:           election.LSN(r.Write),
		FlushLSN:           election.LSN(r.Flush),
		CheckpointTimeline: r.CkptTLI,
		PrimaryConnInfo:    r.Conninfo,
		RestoreCommand:     r.Restore,
		SyncNames:          r.Sync,
		Lowered:            r.Lowered,
		ConfLoadTime:       r.Loaded,
	}
	if r.Ckpt != nil {
		o.CheckpointerPID = *r.Ckpt
	}
	if r.InRecovery {
		o.Role = election.RoleStandby
		o.ReceiveLSN, o.ReplayLSN = election.LSN(r.Receive), election.LSN(r.Replay)
		o.ReplayPaused, o.StartupWait = r.Paused, r.Startup
		o.Timeline = max(r.CkptTLI, r.MinTLI)
		if r.ReplayTime != nil {
			o.ReplayTime = *r.ReplayTime
		}
		r.addReceiver(&o)
	} else {
		tli, err := strconv.ParseUint(r.WALFile[:min(8, len(r.WALFile))], 16, 32)
		if err != nil {
			return Observation{}, fmt.Errorf("wal file name %q: %w", r.WALFile, err)
		}
		o.Timeline = election.Timeline(tli)
	}
	for _, w := range r.Senders {
		o.Replication = append(o.Replication, w.sender())
	}
	for _, sl := range r.Slots {
		o.Slots = append(o.Slots, sl.slot())
	}
	return o, nil
}

func (r observedRow) addReceiver(o *Observation) {
	w := r.Receiver
	if w == nil {
		return
	}
	o.WrittenLSN = election.LSN(w.Written)
	o.WalReceiver = &WalReceiver{
		PID: w.PID, Status: w.Status, ReceivedTLI: w.TLI, StartLSN: election.LSN(w.Start),
		FlushedLSN: election.LSN(w.Flushed), LatestEndLSN: election.LSN(w.LatestEnd),
		Host: w.Host, Port: w.Port, Slot: w.Slot,
	}
	if w.LastMsg != nil {
		o.WalReceiver.LastMessage = *w.LastMsg
	}
	o.Timeline = max(o.Timeline, w.TLI)
}

func (w observedSender) sender() WalSender {
	out := WalSender{
		PID: w.PID, User: w.User, ApplicationName: w.App, ClientAddr: w.Addr, State: w.State,
		SyncState: w.SyncState, SyncPriority: w.Priority, SentLSN: election.LSN(w.Sent),
		WriteLSN: election.LSN(w.Write), FlushLSN: election.LSN(w.Flush), ReplayLSN: election.LSN(w.Replay),
	}
	if w.Reply != nil {
		out.ReplyTime = *w.Reply
	}
	return out
}

func (sl observedSlot) slot() Slot {
	xmin, _ := strconv.ParseUint(sl.CatalogXmin, 10, 32) // empty: none
	return Slot{
		Name: sl.Name, Physical: sl.Type == "physical", Plugin: sl.Plugin, Database: sl.Database,
		Temporary: sl.Temporary, Active: sl.Active, ActivePID: sl.ActivePID,
		RestartLSN: election.LSN(sl.Restart), ConfirmedFlush: election.LSN(sl.Confirmed),
		HasXmin: sl.Xmin != "", CatalogXmin: uint32(xmin), WALStatus: sl.WALStatus,
		Failover: sl.Failover, Synced: sl.Synced,
	}
}
