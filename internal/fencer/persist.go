package fencer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/fencer/wire"
)

// durable is what a fencer leaves to the next one, in fencer.json. It has to outlive processes, not
// the machine: times of CLOCK_BOOTTIME mean nothing after a reboot, so the file bears the boot id.
//
// A stale file is on the safe side in what matters: an older T strikes earlier. The promise must not
// be stale, so it is written before it is acknowledged.
type durable struct {
	Version int    `json:"version"`
	BootID  string `json:"boot_id"`

	Armed    bool          `json:"armed"`
	Token    Token         `json:"token"`
	UntilRaw time.Duration `json:"until_raw"`
	// LastEpoch was the greatest ever armed, EndedEpoch the greatest that a strike ended.
	LastEpoch    uint64        `json:"last_epoch"`
	EndedEpoch   uint64        `json:"ended_epoch"`
	FencedAt     time.Duration `json:"fenced_at"`
	PromiseUntil time.Duration `json:"promise_until"`
	// LostAt is when a fencer of this boot found no state; see State.
	LostAt      time.Duration `json:"lost_at,omitempty"`
	Policy      Policy        `json:"policy"`
	PolicyUntil time.Duration `json:"policy_until"`

	Server *durableServer `json:"server,omitempty"`

	// Wire is what may be closed on the wire, WireSecret opens it for a fencer that may do no more.
	Wire       wire.Endpoint `json:"wire"`
	WireSecret wire.Secret   `json:"wire_secret"`
}

// durableServer describes the postmaster that runs, or is just being started (Pid 0).
type durableServer struct {
	Pid      int    `json:"pid"`
	Start    int64  `json:"start"` // clock ticks since boot
	Primary  bool   `json:"primary"`
	Promoted bool   `json:"promoted"`
	Cgroup   string `json:"cgroup,omitempty"`
	// Control is the digest of pg_control as of the start; see controlWatch.
	Control string `json:"control,omitempty"`
	ExeDev  uint64 `json:"exe_dev"`
	ExeIno  uint64 `json:"exe_ino"`
}

const durableVersion = 1

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// loadDurable reads the file. Found is false if there is none of this boot; then only what holds
// over boots (the epochs) is returned.
func loadDurable(dir, boot string) (d durable, found bool, err error) {
	content, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, os.ErrNotExist) {
		return durable{}, false, nil
	}
	if err != nil {
		return durable{}, false, fmt.Errorf("read fencer state: %w", err)
	}
	d, err = decodeDurable(content)
	if err != nil {
		return durable{}, false, err
	}
	if d.BootID != boot {
		// Another boot, or a copy of the file on another machine: nothing runs and nothing is
		// promised here, but epochs only grow.
		return durable{LastEpoch: d.LastEpoch, EndedEpoch: d.EndedEpoch}, false, nil
	}
	return d, true, nil
}

func decodeDurable(content []byte) (durable, error) {
	var d durable
	if err := json.Unmarshal(content, &d); err != nil {
		return durable{}, fmt.Errorf("decode fencer state: %w", err)
	}
	if d.Version != durableVersion {
		return durable{}, fmt.Errorf("decode fencer state: version %d is unknown", d.Version)
	}
	return d, nil
}

func saveDurable(o owner, dir string, d durable) error {
	content, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode fencer state: %w", err)
	}
	if err := o.replace(filepath.Join(dir, stateName), append(content, '\n')); err != nil {
		return fmt.Errorf("write fencer state: %w", err)
	}
	return nil
}
