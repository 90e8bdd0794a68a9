package postgres

import "strings"

// observeQuery is the one statement of Observe, for a server version. Settings that wait for a
// restart are read only when the configuration was loaded since the time given as $1: the
// view behind them is by far the dearest part.
func observeQuery(version int) string {
	r := strings.NewReplacer(
		"@written", pick(version >= 130000, "w.written_lsn", "NULL::pg_lsn"),
		"@flushed", pick(version >= 130000, "w.flushed_lsn", "w.received_lsn"),
		"@paused", pick(version >= 140000, "pg_get_wal_replay_pause_state()",
			"CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE 'not paused' END"),
		"@slotwal", pick(version >= 130000, "s.wal_status", "NULL::text"),
		"@failover", pick(version >= 170000, "s.failover", "false"),
		"@synced", pick(version >= 170000, "s.synced", "false"),
		"@self", applicationName, // a commit that proves the setting is cancelled on purpose
	)
	return r.Replace(observeText)
}

func pick(cond bool, a, b string) string {
	if cond {
		return a
	}
	return b
}

const observeText = `
SELECT json_build_object(
 'rec', r.rec,
 'sysid', (SELECT system_identifier::text FROM pg_control_system()),
 'start', pg_postmaster_start_time(),
 'ckpt_pid', (SELECT a.pid FROM pg_stat_get_activity(NULL) a WHERE a.backend_type = 'checkpointer' LIMIT 1),
 'walfile', CASE WHEN NOT r.rec THEN pg_walfile_name(pg_current_wal_lsn()) END,
 'write', CASE WHEN NOT r.rec THEN pg_current_wal_lsn() END,
 'flush', CASE WHEN NOT r.rec THEN pg_current_wal_flush_lsn() END,
 'receive', pg_last_wal_receive_lsn(),
 'replay', pg_last_wal_replay_lsn(),
 'replay_time', pg_last_xact_replay_timestamp(),
 'paused', CASE WHEN r.rec THEN @paused END,
 'startup', CASE WHEN r.rec THEN
   (SELECT a.wait_event FROM pg_stat_activity a WHERE a.backend_type = 'startup' LIMIT 1) END,
 'ckpt_tli', (SELECT timeline_id FROM pg_control_checkpoint()),
 'min_tli', CASE WHEN r.rec THEN (SELECT min_recovery_end_timeline FROM pg_control_recovery()) END,
 'conninfo', current_setting('primary_conninfo'),
 'restore', current_setting('restore_command'),
 'sync', current_setting('synchronous_standby_names'),
 'waits', CASE WHEN r.waits THEN (SELECT json_agg(json_build_object(
   'pid', a.pid, 'backend', a.backend_start, 'query', a.query_start))
   FROM pg_stat_activity a WHERE a.wait_event = 'SyncRep' AND a.application_name <> '@self') END,
 'lowered', CASE WHEN r.waits THEN
   (SELECT count(*) FROM pg_db_role_setting d, unnest(d.setconfig) c
     WHERE c ~* '^synchronous_commit=(local|remote_write|off|no|false|0)$') +
   (current_setting('synchronous_commit') NOT IN ('on', 'remote_apply'))::int ELSE 0 END,
 'loaded', pg_conf_load_time(),
 'receiver', CASE WHEN r.rec THEN (SELECT json_build_object(
   'pid', w.pid, 'status', w.status, 'tli', w.received_tli, 'start', w.receive_start_lsn,
   'written', @written, 'flushed', @flushed, 'latest_end', w.latest_end_lsn,
   'last_msg', w.last_msg_receipt_time, 'slot', w.slot_name,
   'host', w.sender_host, 'port', w.sender_port)
   FROM pg_stat_wal_receiver w WHERE w.pid IS NOT NULL) END,
 'senders', (SELECT json_agg(json_build_object(
   'pid', p.pid, 'usename', p.usename, 'app', p.application_name, 'addr', host(p.client_addr),
   'state', p.state, 'sync_state', p.sync_state, 'sync_priority', p.sync_priority,
   'sent', p.sent_lsn, 'write', p.write_lsn, 'flush', p.flush_lsn, 'replay', p.replay_lsn,
   'reply', p.reply_time) ORDER BY p.application_name, p.pid)
   FROM pg_stat_replication p),
 'slots', (SELECT json_agg(json_build_object(
   'name', s.slot_name, 'type', s.slot_type, 'plugin', s.plugin, 'database', s.database,
   'temporary', s.temporary, 'active', s.active, 'active_pid', s.active_pid,
   'restart', s.restart_lsn, 'confirmed', s.confirmed_flush_lsn, 'xmin', s.xmin::text,
   'catalog_xmin', s.catalog_xmin::text, 'wal_status', @slotwal,
   'failover', @failover, 'synced', @synced) ORDER BY s.slot_name)
   FROM pg_replication_slots s),
 'pending', CASE WHEN pg_conf_load_time() IS DISTINCT FROM $1::timestamptz THEN
   COALESCE((SELECT json_agg(json_build_object(
     'name', g.name, 'current', g.setting, 'unit', COALESCE(g.unit, ''),
     'new', COALESCE((SELECT f.setting FROM pg_file_settings f WHERE lower(f.name) = g.name
        ORDER BY f.seqno DESC LIMIT 1), ''),
     'from_file', g.name IN (SELECT lower(f.name) FROM pg_file_settings f)) ORDER BY g.name)
     FROM pg_settings g WHERE g.pending_restart), '[]'::json) END
)::text
FROM (SELECT pg_is_in_recovery() AS rec,
  NOT pg_is_in_recovery() AND current_setting('synchronous_standby_names') <> '' AS waits OFFSET 0) r`
