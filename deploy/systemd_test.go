package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unitSettings reads "Section.Key" → values. The unit files use no continuation lines.
func unitSettings(t *testing.T, path string) map[string][]string {
	t.Helper()
	settings := map[string][]string{}
	section := ""
	for line := range strings.Lines(readFile(t, path)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		default:
			key, value, found := strings.Cut(line, "=")
			if !found {
				t.Fatalf("%s: no setting: %s", path, line)
			}
			settings[section+"."+key] = append(settings[section+"."+key], value)
		}
	}
	return settings
}

// A restart or a crash of the agent must leave PostgreSQL running (safety review, hole 7).
func TestAgentUnitLeavesPostgresRunning(t *testing.T) {
	settings := unitSettings(t, "systemd/pgha-agent.service")
	for key, want := range map[string]string{
		"Service.Type":              "notify",
		"Service.KillMode":          "process",
		"Service.RestartKillSignal": "SIGUSR1",
		"Service.OOMPolicy":         "continue",
		"Service.Restart":           "always",
		"Service.Delegate":          "yes",
	} {
		if got := strings.Join(settings[key], " "); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	// A private /tmp or PID namespace would hide what the fencer must find; as another user than root
	// the fencer could not have the priority that it needs.
	for _, forbidden := range []string{
		"Service.PrivateTmp", "Service.PrivatePIDs", "Service.KillSignal", "Service.User",
	} {
		if got, set := settings[forbidden]; set {
			t.Errorf("%s = %q must not be set", forbidden, got)
		}
	}
}

func TestUnitsPassSystemdsOwnCheck(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze on this machine: the units were only parsed")
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"pgha-agent.service", "pgha-etcd.service"} {
		settings := unitSettings(t, "systemd/"+name)
		if len(settings["Service.ExecStart"]) != 1 {
			t.Fatalf("%s: ExecStart = %q", name, settings["Service.ExecStart"])
		}
		// The check wants the program to exist, which here it need not.
		text := strings.ReplaceAll(readFile(t, "systemd/"+name), "/usr/bin/pgha-agent", "/bin/true")
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	if analyze == "" {
		return
	}
	out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}
