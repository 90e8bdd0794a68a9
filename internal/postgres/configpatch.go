package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pgha/pgha/internal/postgres/conf"
)

// Reload has the running server read its files again. It returns once the signal is sent.
type Reload func(context.Context) error

func (s *Server) mainFile() string {
	return filepath.Join(s.opt.ConfigDir, s.opt.ConfigBaseName+".conf")
}

// patchConfig changes single settings in pgha's postgresql.conf and nothing else: what is done in a
// hurry must not depend on the rest of the configuration. The caller holds the files. It returns the
// values that were there; a setting that was missing is not among them.
func (s *Server) patchConfig(change map[string]string) (was map[string]string, err error) {
	b, err := os.ReadFile(s.mainFile())
	if err != nil {
		return nil, err
	}
	text := string(b)
	if !strings.HasPrefix(text, "# "+generatedHeader()[0]) {
		return nil, errors.New(s.mainFile() + " is not pgha's: it is to be written as a whole first")
	}
	was = map[string]string{}
	var out []string
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		set, err := conf.ParseFile(line)
		if err != nil || len(set) != 1 {
			out = append(out, line)
			continue
		}
		if _, mine := change[set[0].Name]; mine {
			was[set[0].Name] = set[0].Value
			continue
		}
		out = append(out, line)
	}
	for _, set := range conf.Sorted(change) {
		if v, ok := was[set.Name]; ok && v == set.Value {
			continue
		}
		return was, s.writePatched(out, change)
	}
	return was, nil
}

// writePatched puts the changed settings where the next rendering would put them: sorted by name,
// after the include, so that it finds nothing to change.
func (s *Server) writePatched(lines []string, change map[string]string) error {
	for _, set := range conf.Sorted(change) {
		q, err := conf.Quote(set.Value)
		if err != nil {
			return fmt.Errorf("setting %s: %w", set.Name, err)
		}
		line, at := set.Name+" = "+q, len(lines)
		for at > 0 {
			name, _, ok := strings.Cut(lines[at-1], " = ")
			if !ok || name < set.Name {
				break
			}
			at--
		}
		lines = append(lines[:at], append([]string{line}, lines[at:]...)...)
	}
	return s.writeDurably(s.mainFile(), []byte(strings.Join(lines, "\n")+"\n"), s.fileMode())
}

// fileSetting reads one setting from pgha's postgresql.conf.
func (s *Server) fileSetting(name string) (value string, given bool, err error) {
	b, err := readSmall(s.mainFile(), smallFileMax)
	if err != nil {
		return "", false, err
	}
	k := &s.parsed
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settings == nil || string(b) != k.text {
		set, err := conf.ParseFile(string(b))
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", s.mainFile(), err)
		}
		k.text, k.settings = string(b), conf.SettingsMap(set)
	}
	value, given = k.settings[name]
	return value, given, nil
}

// parsedFile is a text that was parsed, and what came of it: the file is read at every look at the server,
// and hardly ever another.
type parsedFile struct {
	mu       sync.Mutex
	text     string
	settings map[string]string
}
