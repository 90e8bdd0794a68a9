package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/pgha/pgha/internal/config"
)

// What is asked for and not done is named, and nothing else is.
func TestWhatIsNotDoneIsNamed(t *testing.T) {
	c := &config.Config{}
	c.PostgreSQL.CreateReplicaMethods = []string{config.BaseBackupMethod, "pgbackrest"}
	c.Watchdog.Mode = config.WatchdogRequired
	c.Tags = config.Tags{"nostream": true}
	d, _, err := config.ParseDynamic([]byte(`{"slots": {"keep": {"type": "physical"}}, "standby_cluster": {"host": "h"}}`))
	if err != nil {
		t.Fatal(err)
	}
	named := append(unsupported(c), unsupportedDynamic(d)...)
	for _, word := range []string{"pgbackrest", "watchdog.mode", "tags.nostream", "slots: keep", "standby_cluster"} {
		if !slices.ContainsFunc(named, func(s string) bool { return strings.Contains(s, word) }) {
			t.Errorf("%s is not named: %q", word, named)
		}
	}
	if quiet := append(unsupported(&config.Config{}), unsupportedDynamic(config.DefaultDynamic())...); len(quiet) > 0 {
		t.Errorf("named without reason: %q", quiet)
	}
}
