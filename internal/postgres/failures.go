package postgres

import "strings"

// FailureKind says why a helper program or a connection failed, as far as its words tell.
type FailureKind uint8

// The kinds of failure.
const (
	FailureOther FailureKind = iota
	FailurePassword
	FailureNotAllowed // pg_hba.conf refuses, or the role lacks REPLICATION
	FailureUnreachable
	FailureNotReady // the source starts up or stops
	FailureTooManyConnections
	FailureTooManySenders
	FailureSlot
	FailureDiskFull
	FailureNotEmpty
	FailureFilePermission
	FailureWALRemoved
	FailureNotClean // pg_rewind: the target was not shut down
	FailureOtherSystem
	FailureNoHints // pg_rewind: neither checksums nor wal_log_hints
	FailureDamaged
)

func (k FailureKind) String() string {
	names := []string{
		"other", "password", "not_allowed", "unreachable", "not_ready", "too_many_connections",
		"too_many_senders", "slot", "disk_full", "not_empty", "file_permission", "wal_removed",
		"not_clean", "other_system", "no_hints", "damaged",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return "other"
}

type failureRule struct {
	kind  FailureKind
	hint  string
	words []string // any of these
}

// failureRules are tried in order: what is more to the point comes first.
func failureRules() []failureRule {
	return []failureRule{
		{FailureDiskFull, "no space left where the data goes: free some, or enlarge the volume", []string{"no space left on device", "disk quota exceeded", "file too large"}},
		{FailurePassword, "the password for this role is wrong: compare authentication in the configuration with the role's password", []string{"password authentication failed", "fe_sendauth: no password supplied", "pam authentication failed", "ldap authentication failed", "scram authentication failed"}},
		{FailureNotAllowed, "pg_hba.conf of the source does not let this role in for replication", []string{"no pg_hba.conf entry", "pg_hba.conf rejects"}},
		{FailureNotAllowed, "the role needs the REPLICATION attribute", []string{"must be superuser or replication role", "permission denied to start wal sender"}},
		{FailureNotAllowed, "the role may not read what pg_rewind needs: grant EXECUTE on pg_ls_dir, pg_stat_file and pg_read_binary_file", []string{"permission denied for function"}},
		{FailureTooManySenders, "raise max_wal_senders on the source", []string{"exceeds max_wal_senders", "number of requested standby connections"}},
		{FailureSlot, "raise max_replication_slots on the source, or drop slots that nobody uses", []string{"all replication slots are in use"}},
		{FailureSlot, "the slot is missing on the source or in use by another", []string{"replication slot"}},
		{FailureTooManyConnections, "the source has no free connection", []string{"too many clients", "remaining connection slots", "too many connections for role"}},
		{FailureWALRemoved, "the source no longer has the WAL that is needed", []string{"has already been removed", "could not find previous wal record", "could not find common ancestor"}},
		{FailureOtherSystem, "source and target are different clusters", []string{"are from different systems"}},
		{FailureNoHints, "neither data checksums nor wal_log_hints are on: clone instead", []string{"needs to use either data checksums"}},
		{FailureNotClean, "the server must be shut down cleanly first", []string{"must be shut down cleanly", "target server must be shut down"}},
		{FailureNotEmpty, "move the directory aside first", []string{"exists but is not empty"}},
		{FailureNotReady, "the source is not ready yet", []string{"the database system is starting up", "the database system is shutting down", "not yet accepting connections", "in recovery mode"}},
		{FailureUnreachable, "nobody answers there: is the source running, and the address right?", []string{"connection refused", "could not translate host name", "no route to host", "network is unreachable", "connection timed out", "timeout expired", "connection reset", "server closed the connection unexpectedly", "no such file or directory\n\tis the server running"}},
		{FailureDamaged, "pg_control is damaged: clone instead", []string{"incorrect checksum in control file", "unexpected control file size", "invalid control file"}},
		{FailureFilePermission, "a file in the data directory cannot be written by the server's user", []string{"permission denied"}},
	}
}

// classify reads the output of a helper program run with LC_ALL=C.
func classify(output string) (FailureKind, string) {
	low := strings.ToLower(output)
	for _, r := range failureRules() {
		for _, w := range r.words {
			if strings.Contains(low, w) {
				return r.kind, r.hint
			}
		}
	}
	return FailureOther, ""
}
