package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/postgres/conf"
)

// SyncNamesSetting names the standbys that commits wait for.
const SyncNamesSetting = "synchronous_standby_names"

// ErrForeignSync says that synchronous_standby_names holds what pgha never writes.
var ErrForeignSync = errors.New("not a synchronous setting of pgha's")

// SyncText renders a setting (rows H-133, H-147). It refuses "*" and doubled names, which would let
// a stranger acknowledge, and a wait for more standbys than are named.
func SyncText(set election.SyncSetting) (string, error) {
	if set.Wait == 0 && len(set.Names) == 0 {
		return "", nil
	}
	if set.Wait < 1 || set.Wait > len(set.Names) {
		return "", fmt.Errorf("%w: wait for %d of %d names", ErrForeignSync, set.Wait, len(set.Names))
	}
	seen := map[string]bool{}
	for _, n := range set.Names {
		// The server compares names without regard to case.
		if low := strings.ToLower(n); n == "*" || n == "" || seen[low] {
			return "", fmt.Errorf("%w: name %q", ErrForeignSync, n)
		}
		seen[strings.ToLower(n)] = true
	}
	method := conf.SyncPriority
	if set.Any {
		method = conf.SyncAny
	}
	return conf.SyncNames{Method: method, Num: set.Wait, Names: set.Names}.Render()
}

// ParseSyncText reads the text back. ErrForeignSync marks what SyncText would not write.
func ParseSyncText(text string) (election.SyncSetting, error) {
	names, err := conf.ParseSyncNames(text)
	if err != nil {
		return election.SyncSetting{}, fmt.Errorf("%w: %w", ErrForeignSync, err)
	}
	if len(names.Names) == 0 {
		return election.SyncSetting{}, nil
	}
	set := election.SyncSetting{Any: names.Method == conf.SyncAny, Wait: names.Num, Names: slices.Sorted(slices.Values(names.Names))}
	_, err = SyncText(set)
	return set, err
}

// SyncResult is what SetSync came to.
type SyncResult struct {
	Setting election.SyncSetting
	Text    string // as the server has it
	// Standby: the server is in recovery, where nothing waits and so nothing can be proven. Loaded:
	// its checkpointer, which tells commits to wait, was free to take the setting over.
	Standby, Loaded bool
	// InForce is proven; Barrier is an end of the log after all that did not wait by this setting.
	InForce bool
	Barrier election.LSN
	// Foreign is the server's value where somebody overrides pgha's file.
	Foreign string
	// Why it is not in force; empty if it is.
	Why string
}

// syncKnown is what was last proven, and for which life of the server.
type syncKnown struct {
	mu      sync.Mutex
	text    string
	barrier election.LSN
	life    serverLife
	loaded  time.Time // when the server had loaded the files
	proven  bool
	// doubted are standbys named by settings that were never proven to be gone again.
	doubted []string
}

// serverLife changes whenever the shared memory of a server is made anew: at a start, and when a
// crashed backend makes the postmaster begin again, which no start time shows.
type serverLife struct {
	start        time.Time
	checkpointer int
}

// SetSync writes synchronous_standby_names, has the server reload and proves that commits and
// walsenders go by it (safety review, hole 13). It takes at most two seconds; if the proof is not
// there by then InForce is false and Why says what is missing: call it again. The same setting is
// only proven again. On a standby it writes and loads.
//
// It loosens as readily as it tightens: what must be published before is the caller's to know.
func (s *Server) SetSync(ctx context.Context, want election.SyncSetting, reload Reload) (SyncResult, error) {
	text, err := SyncText(want)
	if err != nil {
		return SyncResult{}, fmt.Errorf("set synchronous standbys: %w", err)
	}
	named, err := s.writeSync(text)
	if err != nil {
		return SyncResult{}, fmt.Errorf("set synchronous standbys: %w", err)
	}
	if err := reload(ctx); err != nil {
		return SyncResult{}, fmt.Errorf("set synchronous standbys: reload: %w", err)
	}
	p := syncProof{s: s, named: named, out: SyncResult{Setting: want, Text: text}}
	if err := p.run(ctx); err != nil {
		return p.out, fmt.Errorf("set synchronous standbys: %w", err)
	}
	s.sync.mu.Lock()
	defer s.sync.mu.Unlock()
	if p.out.InForce && s.sync.text == text {
		s.sync.proven, s.sync.barrier, s.sync.life, s.sync.loaded = true, p.out.Barrier, p.life, p.loaded
		s.sync.doubted = slices.Clone(want.Names)
		s.log.Info("synchronous standbys are in force", zap.String("setting", text), zap.Stringer("barrier", p.out.Barrier))
	}
	return p.out, nil
}

// writeSync changes the file and forgets the proof. It returns every name that a walsender may
// still go by: those of the new value, of the file's old one, and of all that were never proven.
func (s *Server) writeSync(text string) ([]string, error) {
	s.files.Lock()
	defer s.files.Unlock()
	s.sync.mu.Lock()
	defer s.sync.mu.Unlock()
	was, err := s.patchConfig(map[string]string{SyncNamesSetting: text})
	if err != nil {
		return nil, err
	}
	s.sync.proven, s.sync.text = false, text
	for _, t := range []string{text, was[SyncNamesSetting]} {
		if names, err := conf.ParseSyncNames(t); err == nil {
			s.sync.doubted = append(s.sync.doubted, names.Names...)
		}
	}
	slices.Sort(s.sync.doubted)
	s.sync.doubted = slices.Compact(s.sync.doubted)
	return slices.Clone(s.sync.doubted), nil
}

// SyncNow gives the state of synchronous replication for an observation of the own server. The
// setting is what pgha's file holds; it is foreign if the server goes by something else.
func (s *Server) SyncNow(o Observation) (election.LocalSync, error) {
	s.sync.mu.Lock()
	defer s.sync.mu.Unlock()
	text, _, err := s.fileSetting(SyncNamesSetting)
	if err != nil {
		return election.LocalSync{}, fmt.Errorf("synchronous standbys: %w", err)
	}
	out := election.LocalSync{Known: true}
	set, err := ParseSyncText(text)
	if err != nil {
		out.Foreign = true
		return out, nil // that is the finding
	}
	out.Setting = set
	known := s.sync.proven && s.sync.text == text
	out.Foreign = !sameSync(text, o.SyncNames)
	// The kept session may not have read the files yet that a new one has already shown. The times
	// alone say nothing where it has: each process notes its own.
	if known && out.Foreign && o.ConfLoadTime.Before(s.sync.loaded) {
		out.Known, out.Foreign = false, false
		return out, nil
	}
	if known && !out.Foreign && o.Role == election.RolePrimary && s.sync.life == o.life() {
		out.InForce, out.Barrier = true, s.sync.barrier
	}
	return out, nil
}

func (o Observation) life() serverLife { return serverLife{o.StartTime.UTC(), o.CheckpointerPID} }

// sameSync compares two texts by what they mean.
func sameSync(a, b string) bool {
	x, err1 := ParseSyncText(a)
	y, err2 := ParseSyncText(b)
	if err1 != nil || err2 != nil {
		return a == b
	}
	return x.Any == y.Any && x.Wait == y.Wait && slices.Equal(x.Names, y.Names)
}

// keepSync takes synchronous_standby_names from pgha's file as it is.
func (w *configWriter) keepSync() error {
	if !w.spec.KeepSync {
		return nil
	}
	v, given, err := w.s.fileSetting(SyncNamesSetting)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a fresh directory has no file of ours
		return err
	}
	delete(w.settings, SyncNamesSetting)
	if given {
		w.settings[SyncNamesSetting] = v
	}
	return nil
}
