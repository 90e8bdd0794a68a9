package postgres

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/postgres/conf"
)

// defaultSettings stand first in postgresql.conf, so that the original file and the user's
// parameters override them.
func defaultSettings(major int) map[string]string {
	m := map[string]string{
		// At PostgreSQL's own 5 s a promotion or a re-pointed standby can sleep through all of it.
		"wal_retrieve_retry_interval": "100ms",
		// Nothing but this notices a primary that vanished without a word. A false alarm costs a
		// reconnection.
		"wal_receiver_timeout": "1s",
		// How old a standby's word may be on an idle primary. At 10 s a changed synchronous setting
		// is not seen to be in force for that long.
		"wal_receiver_status_interval": "1s",
		// A standby that vanished must not hold up a shutdown, nor stay in the synchronous set.
		"wal_sender_timeout": "5s",
	}
	if major >= 14 {
		// One call instead of opening each file: most of the time of a restart after a crash.
		m["recovery_init_sync_method"] = "syncfs"
	}
	return m
}

// controlledSetting is a setting that primary and standbys must agree on (rows C-170 to C-184).
type controlledSetting struct {
	name, value string
	least       int64 // smallest number accepted; 0: not a number
}

func controlledSettings() []controlledSetting {
	return []controlledSetting{
		{"max_connections", "100", 25},
		{"max_wal_senders", "10", 3},
		{"max_prepared_transactions", "0", 0},
		{"max_locks_per_transaction", "64", 32},
		{"track_commit_timestamp", "off", 0},
		{"max_replication_slots", "10", 4},
		{"max_worker_processes", "8", 2},
		{"wal_log_hints", "on", 0},
	}
}

func isRecoverySetting(name string) bool {
	switch name {
	case "primary_conninfo", "primary_slot_name", "restore_command", "archive_cleanup_command",
		"recovery_end_command", "recovery_min_apply_delay", "promote_trigger_file", "trigger_file", "standby_mode":
		return true
	}
	return strings.HasPrefix(name, "recovery_target")
}

func lowerKeys(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out[strings.ToLower(k)] = m[k]
	}
	return out
}

// compose merges defaults, the user's parameters and what pgha decides.
func (w *configWriter) compose() error {
	user := lowerKeys(w.spec.Parameters)
	for name := range user {
		if !conf.ValidName(name) || isRecoverySetting(name) || name == "data_directory" || name == "config_file" {
			delete(user, name)
		}
	}
	w.settings, w.cmdline = user, map[string]string{}
	w.decided(user)
	if err := w.keepSync(); err != nil {
		return err
	}
	for _, c := range controlledSettings() {
		v, given := user[c.name]
		if n, err := strconv.ParseInt(v, 10, 64); !given || c.least > 0 && (err != nil || n < c.least) {
			v = c.value
			if given && err == nil {
				v = strconv.FormatInt(c.least, 10)
			}
		}
		w.settings[c.name], w.cmdline[c.name] = v, v
	}
	if err := w.applyFloor(); err != nil {
		return err
	}
	w.keepWAL(user)
	return w.recoverySettings()
}

// decided are the settings that the user cannot override.
func (w *configWriter) decided(user map[string]string) {
	opt := w.s.opt
	set := func(name, value string) { w.settings[name], w.cmdline[name] = value, value }
	if opt.ListenAddresses != "" {
		set("listen_addresses", opt.ListenAddresses)
	}
	set("port", strconv.Itoa(opt.Port))
	if opt.Scope != "" {
		set("cluster_name", opt.Scope)
	}
	level := strings.ToLower(user["wal_level"])
	if level != "logical" {
		level = "replica"
	}
	set("wal_level", level)
	set("hot_standby", "on")
	if w.spec.SyncNames != nil {
		w.settings[SyncNamesSetting] = *w.spec.SyncNames
	}
	if w.spec.HotStandbyFeedback {
		w.settings["hot_standby_feedback"] = "on"
	}
	for _, f := range []struct{ guc, name string }{{"hba_file", "pg_hba.conf"}, {"ident_file", "pg_ident.conf"}} {
		path := w.userFile(f.guc)
		setDefault(&path, w.inConfig(f.name))
		delete(w.settings, f.guc)
		if _, err := os.Stat(path); err == nil {
			w.settings[f.guc] = path
		}
	}
}

// applyFloor lifts settings on a standby to what the primary had when it wrote pg_control:
// with less, replay refuses to go on (row C-191).
func (w *configWriter) applyFloor() error {
	if !w.spec.Standby {
		return nil
	}
	c, err := w.s.Control()
	if err != nil {
		return err
	}
	for name, floor := range map[string]int{
		"max_connections": c.MaxConnections, "max_prepared_transactions": c.MaxPreparedXacts,
		"max_locks_per_transaction": c.MaxLocksPerXact, "max_worker_processes": c.MaxWorkerProcesses,
		"max_wal_senders": c.MaxWALSenders,
	} {
		if n, err := strconv.Atoi(w.settings[name]); err == nil && n < floor {
			v := strconv.Itoa(floor)
			w.settings[name], w.cmdline[name] = v, v
			if w.changed.Raised == nil {
				w.changed.Raised = map[string]string{}
			}
			w.changed.Raised[name] = v
		}
	}
	return nil
}

// keepWAL renders wal_keep_size or its older form, whichever the server knows (row C-178).
func (w *configWriter) keepWAL(user map[string]string) {
	size, segments := user["wal_keep_size"], user["wal_keep_segments"]
	delete(w.settings, "wal_keep_size")
	delete(w.settings, "wal_keep_segments")
	if size == "" && segments != "" {
		if n, err := strconv.ParseInt(segments, 10, 32); err == nil {
			size = conf.KeepSizeFromSegments(n)
		}
	}
	if n, err := conf.ParseBytes(size, 1<<20); err != nil || n < 16<<20 {
		size = pick(err == nil, "16MB", "128MB")
	}
	if w.major >= 13 {
		w.settings["wal_keep_size"] = size
		return
	}
	if n, err := conf.SegmentsFromKeepSize(size); err == nil {
		w.settings["wal_keep_segments"] = strconv.FormatInt(n, 10)
	}
}

// recoverySettings are those of row H-091. A primary has only those that cannot change without a
// restart, as the standby that it was had them: taking them away would leave a restart pending
// after every promotion.
func (w *configWriter) recoverySettings() error {
	for _, name := range []string{"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"} {
		w.settings[name] = ""
	}
	w.settings["recovery_target_timeline"] = "latest"
	if !w.spec.Standby {
		return nil
	}
	for name, v := range lowerKeys(w.spec.RecoveryConf) {
		switch {
		case name == "standby_mode", name == "primary_conninfo", name == "primary_slot_name",
			strings.HasPrefix(name, "recovery_target"), strings.HasSuffix(name, "trigger_file"):
		default:
			w.settings[name] = v
		}
	}
	w.settings["primary_conninfo"], w.settings["primary_slot_name"] = "", ""
	if w.restoreOff {
		w.settings["restore_command"] = ""
	}
	if w.spec.Frozen || w.spec.Upstream == nil {
		return nil
	}
	info, err := w.s.primaryConnInfo(*w.spec.Upstream, w.major)
	if err != nil {
		return err
	}
	w.settings["primary_conninfo"] = info
	w.settings["primary_slot_name"] = w.spec.Upstream.Slot
	return nil
}

// primaryConnInfo renders the connection string of the walreceiver (row H-092).
func (s *Server) primaryConnInfo(src Source, major int) (string, error) {
	kv := connKeywords(s.opt.Replication, major)
	kv["user"], kv["host"], kv["port"] = s.opt.Replication.Username, src.Host, src.Port
	kv["dbname"] = src.Database
	if kv["dbname"] == "" {
		kv["dbname"] = s.opt.Database
	}
	if s.opt.Replication.Password != "" {
		kv["passfile"] = s.opt.PassFile
	}
	kv["application_name"], kv["krbsrvname"] = s.opt.Name, s.opt.KrbSrvName
	if strings.Contains(src.Host, ",") && src.Slot != "" {
		kv["target_session_attrs"] = "read-write"
	}
	return conf.RenderConnInfo(kv)
}

// connKeywords are the libpq keywords of a role that this version knows (row C-078).
func connKeywords(cred Credentials, major int) map[string]string {
	since := map[string]int{
		"sslmode": 0, "sslcert": 0, "sslkey": 0, "sslrootcert": 0, "sslcrl": 0,
		"gssencmode": 12, "channel_binding": 13, "sslpassword": 13, "sslcrldir": 14, "sslnegotiation": 17,
	}
	kv := map[string]string{"sslmode": "prefer", "gssencmode": "prefer"}
	if major >= 13 {
		kv["channel_binding"] = "prefer"
	}
	if major >= 17 {
		kv["sslnegotiation"] = "postgres"
	}
	for k, v := range cred.Extra {
		if from, known := since[k]; known && major >= from && v != "" {
			kv[k] = v
		}
	}
	return kv
}

// restartSettings are those that a reload does not take over: the server binary lists them.
// It is asked once in the life of the agent.
func (s *Server) restartSettings(major int) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.needRestart != nil {
		return s.needRestart
	}
	out := map[string]bool{}
	for _, n := range []string{"listen_addresses", "port", "cluster_name", "wal_level", "hot_standby", "hba_file", "ident_file", "shared_buffers", "shared_preload_libraries", "archive_mode", "unix_socket_directories"} {
		out[n] = true
	}
	for _, c := range controlledSettings() {
		out[c.name] = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, err := s.run(ctx, helper{Name: "postgres", Path: s.bin("postgres"), Args: []string{"--describe-config"}})
	if err != nil {
		s.log.Warn("the server does not list its settings; some that need a restart may go unseen", zap.Error(err))
	}
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Split(line, "\t"); len(f) > 2 && strings.EqualFold(f[1], "postmaster") {
			out[strings.ToLower(f[0])] = true
		}
	}
	out["primary_conninfo"], out["primary_slot_name"] = major < 13, major < 13
	out["restore_command"] = major < 14
	if err == nil {
		s.needRestart = out
	}
	return out
}

// dropRefused has the server itself read the new file, and takes the user's settings out that
// it would refuse to start with (rows C-188, C-189).
func (s *Server) dropRefused(w *configWriter) error {
	path := w.mainFile() + ".check"
	defer func() { _ = os.Remove(path) }()
	bad := regexp.MustCompile(`parameter "([^"]+)"`)
	for range 20 {
		text, err := w.render(w.settings)
		if err != nil {
			return err
		}
		if err := s.writeDurably(path, []byte(text), 0o600); err != nil {
			return err
		}
		out, err := s.checkConfig(path)
		if err == nil {
			return nil
		}
		found := false
		for line := range strings.SplitSeq(out, "\n") {
			m := bad.FindStringSubmatch(line)
			if m == nil || !w.userSetting(strings.ToLower(m[1])) {
				continue
			}
			found = true
			w.drop(strings.ToLower(m[1]), strings.TrimSpace(line))
		}
		if !found {
			w.changed.Refused = err.Error()
			s.log.Warn("the server refuses its configuration", zap.Error(err))
			return nil
		}
	}
	return nil
}

// refusal is a value that the server refused, and what it said.
type refusal struct{ value, why string }

// drop takes a setting out and remembers it, so that the server is not asked again each time.
func (w *configWriter) drop(name, why string) {
	w.s.mu.Lock()
	if w.s.refused == nil {
		w.s.refused = map[string]refusal{}
	}
	w.s.refused[name] = refusal{w.settings[name], why}
	w.s.mu.Unlock()
	w.forget(name, why)
}

func (w *configWriter) forget(name, why string) {
	if w.changed.Dropped == nil {
		w.changed.Dropped = map[string]string{}
	}
	w.changed.Dropped[name] = why
	delete(w.settings, name)
	delete(w.cmdline, name)
}

// forgetRefused takes out what the server refused before.
func (w *configWriter) forgetRefused() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for name, r := range w.s.refused {
		if v, in := w.settings[name]; in && v == r.value && w.userSetting(name) {
			w.forget(name, r.why)
		}
	}
}

// checkConfig has the server's own parser read a configuration file.
func (s *Server) checkConfig(path string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.run(ctx, helper{
		Name: "postgres", Path: s.bin("postgres"),
		Args: []string{"-D", s.opt.DataDir, "--config-file=" + path, "-C", "config_file"},
	})
}

// userSetting says whether a setting in the file is one that the user gave.
func (w *configWriter) userSetting(name string) bool {
	_, in := w.settings[name]
	_, given := lowerKeys(w.spec.Parameters)[name]
	_, given2 := lowerKeys(w.spec.RecoveryConf)[name]
	return in && (given || given2)
}
