package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// controlled is a PostgreSQL setting that must be the same, or nearly so, on all members. It is
// read from /config only, and has a default and a minimum (C-173 to C-184).
type controlled struct {
	name  string
	value string
	check func(string) (string, error)
	// commandLine settings are also given to the server as arguments, which beats ALTER SYSTEM.
	commandLine bool
}

func controlledGUCs() []controlled {
	return []controlled{
		{"wal_level", "replica", walLevel, true},
		{"hot_standby", "on", mustBeOn, true},
		{"max_connections", "100", atLeast(25), true},
		{"max_wal_senders", "10", atLeast(3), true},
		{"wal_keep_segments", "8", atLeast(1), false},
		{"wal_keep_size", "128MB", megabytes(16), false},
		{"max_prepared_transactions", "0", atLeast(0), true},
		{"max_locks_per_transaction", "64", atLeast(32), true},
		{"track_commit_timestamp", "off", onOrOff, true},
		{"max_replication_slots", "10", atLeast(4), true},
		{"max_worker_processes", "8", atLeast(2), true},
		{"wal_log_hints", "on", onOrOff, true},
	}
}

// derivedGUCs follow from other settings; no value given for them counts (C-170 to C-172).
func derivedGUCs() []string { return []string{"listen_addresses", "port", "cluster_name"} }

// forbiddenGUCs would move the server away from the directory and files that pgha looks after.
func forbiddenGUCs() []string { return []string{"data_directory", "config_file"} }

func isControlled(name string) bool {
	return slices.ContainsFunc(controlledGUCs(), func(c controlled) bool { return c.name == name }) ||
		slices.Contains(derivedGUCs(), name)
}

func walLevel(s string) (string, error) {
	switch strings.ToLower(s) {
	case "hot_standby", "replica":
		return "replica", nil
	case "logical":
		return "logical", nil
	default:
		return "", errors.New("want replica or logical")
	}
}

func onOrOff(s string) (string, error) {
	b, err := parseBool(s)
	if err != nil {
		return "", errors.New("want on or off")
	}
	if b {
		return "on", nil
	}
	return "off", nil
}

func mustBeOn(s string) (string, error) {
	if v, err := onOrOff(s); err != nil || v != "on" {
		return "", errors.New("want on")
	}
	return "on", nil
}

// mostSlots is PostgreSQL's own limit for what is sized by the number of backends.
const mostSlots = 262143

func atLeast(least int64) func(string) (string, error) {
	return func(s string) (string, error) {
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if err != nil || n < least || n > mostSlots {
			return "", fmt.Errorf("want a number from %d to %d", least, mostSlots)
		}
		return strconv.FormatInt(n, 10), nil
	}
}

// megabytes checks a size whose bare numbers count megabytes.
func megabytes(least int64) func(string) (string, error) {
	return func(s string) (string, error) {
		n, err := parseBytes(s, 1<<20)
		if err != nil || n < least<<20 || n > math.MaxInt32<<20 {
			return "", fmt.Errorf("want at least %dMB", least)
		}
		return strconv.FormatInt((n+1<<20-1)>>20, 10) + "MB", nil
	}
}

// walSegment is the size at which wal_keep_segments and wal_keep_size are converted.
const walSegmentMB = 16

// keepWAL makes the two spellings of one setting agree: wal_keep_size, which PostgreSQL 13 brought,
// wins if it was given.
func keepWAL(values map[string]string, sizeGiven, segmentsGiven bool) {
	switch {
	case sizeGiven:
		size, _ := parseBytes(values["wal_keep_size"], 1<<20)
		segments := (size>>20 + walSegmentMB - 1) / walSegmentMB
		values["wal_keep_segments"] = strconv.FormatInt(segments, 10)
	case segmentsGiven:
		segments, _ := strconv.ParseInt(values["wal_keep_segments"], 10, 64)
		values["wal_keep_size"] = strconv.FormatInt(segments*walSegmentMB, 10) + "MB"
	}
}

// recoveryGUCs may stand among the parameters as well as in recovery_conf (C-089).
func recoveryGUCs() []string {
	return []string{
		"restore_command", "archive_cleanup_command", "recovery_end_command", "recovery_min_apply_delay",
		"promote_trigger_file", "trigger_file",
	}
}

// ownedRecovery are settings of a standby that the agent alone writes.
func ownedRecovery(name string) bool {
	return strings.HasPrefix(name, "recovery_target") || name == "primary_conninfo" || name == "primary_slot_name" || name == "standby_mode"
}
