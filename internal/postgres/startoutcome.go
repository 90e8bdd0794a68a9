package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgha/pgha/internal/election"
)

// Problem sorts failures by what may be done about them. Only ProblemData speaks against the data
// directory itself.
type Problem uint8

// Problems.
const (
	ProblemOther       Problem = iota
	ProblemData                // the directory: corrupt, history or WAL missing
	ProblemEnvironment         // port, disk, permission, setting, missing program
	ProblemPeer                // the other server: refused, wrong password, unreachable
)

// StartError is a server that exited right after its start, in its own words.
type StartError struct {
	Problem Problem
	Output  string
	Hint    string
}

func (e *StartError) Error() string {
	msg := "the server exited while starting"
	if last := fatalLines(e.Output); last != "" {
		msg += ": " + last
	}
	if e.Hint != "" {
		msg += " (" + e.Hint + ")"
	}
	return msg
}

type startRule struct {
	problem Problem
	hint    string
	words   []string
}

// startRules are tried in order. A cause outside the directory is looked for first: nothing may be
// removed because a port was taken or a disk was full.
func startRules() []startRule {
	return []startRule{
		{ProblemEnvironment, "no space left: free some or enlarge the volume", []string{"no space left on device", "disk quota exceeded"}},
		{ProblemEnvironment, "another program uses the port: see postgresql.listen", []string{"could not bind", "address already in use", "could not create any tcp/ip sockets", "could not create any unix-domain sockets"}},
		{ProblemEnvironment, "a setting is wrong: see postgresql.parameters", []string{"configuration file", "invalid value for parameter", "unrecognized configuration parameter", "could not access file", "insufficient shared memory", "could not load server certificate", "could not load pg_hba.conf", "could not map anonymous shared memory", "insufficient parameter settings"}},
		{ProblemEnvironment, "another server runs on this directory", []string{"lock file \"postmaster.pid\" already exists", "pre-existing shared memory block"}},
		{ProblemEnvironment, "a file is not the server's to use", []string{"permission denied", "has group or world access", "has wrong ownership", "has invalid permissions", "read-only file system"}},
		{ProblemData, "the data directory cannot be recovered from", []string{
			"could not locate a valid checkpoint record", "could not locate required checkpoint record",
			"invalid checkpoint record", "requested timeline", "not a child of server's history",
			"incorrect checksum in control file", "wal ends before end of online backup", "invalid page in block",
			"hot standby is not possible because", "could not find redo location", "pg_control",
			"is not a valid data directory", "backup_label",
		}},
	}
}

// LogMark is the present end of a log file, so that StartFailure reads only what came after.
func LogMark(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// StartFailure reads why a server exited, from what it wrote to its log since mark.
func StartFailure(path string, mark int64) error {
	out := tailOf(path, mark)
	low := strings.ToLower(out)
	for _, r := range startRules() {
		for _, w := range r.words {
			if strings.Contains(low, w) {
				return &StartError{Problem: r.problem, Output: out, Hint: r.hint}
			}
		}
	}
	return &StartError{Output: out, Hint: "see " + path}
}

func tailOf(path string, mark int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if st, err := f.Stat(); err == nil && st.Size()-mark > outputTail {
		mark = st.Size() - outputTail
	}
	if _, err := f.Seek(mark, io.SeekStart); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(f, outputTail))
	if err != nil {
		return ""
	}
	return string(b)
}

// fatalLines picks the lines that say why.
func fatalLines(out string) string {
	var picked []string
	for line := range strings.SplitSeq(out, "\n") {
		for _, level := range []string{"FATAL:", "PANIC:", "ERROR:", "could not"} {
			if i := strings.Index(line, level); i >= 0 {
				picked = append(picked, strings.TrimSpace(line[i:]))
				break
			}
		}
	}
	if len(picked) == 0 {
		return lastLines(out, 2)
	}
	return strings.Join(picked[max(0, len(picked)-2):], "; ")
}

// Classify sorts any error of this package.
func Classify(err error) Problem {
	if start, ok := errors.AsType[*StartError](err); ok {
		return start.Problem
	}
	var h *HelperError
	if !errors.As(err, &h) {
		switch {
		case errors.Is(err, os.ErrPermission), errors.Is(err, ErrDataDir):
			return ProblemEnvironment
		}
		return ProblemOther
	}
	switch h.Kind {
	case FailurePassword, FailureNotAllowed, FailureUnreachable, FailureNotReady, FailureTooManyConnections,
		FailureTooManySenders, FailureSlot, FailureOtherSystem:
		return ProblemPeer
	case FailureDiskFull, FailureNotEmpty, FailureFilePermission:
		return ProblemEnvironment
	case FailureWALRemoved, FailureDamaged, FailureNoHints:
		return ProblemData
	default:
		return ProblemOther
	}
}

// HasStandbySignal says that a start of this directory would be a standby's.
func (s *Server) HasStandbySignal() bool {
	_, err := os.Stat(s.inData("standby.signal"))
	return err == nil
}

// InRecovery asks the running server.
func (s *Server) InRecovery(ctx context.Context) (bool, error) {
	o, err := s.Observe(ctx)
	if err != nil {
		return false, err
	}
	return o.Role == election.RoleStandby, nil
}

// ReceivedLSN is the end of the log that this standby holds durably.
func (s *Server) ReceivedLSN(ctx context.Context) (election.LSN, error) {
	o, err := s.Observe(ctx)
	if err != nil {
		return 0, err
	}
	if o.Role != election.RoleStandby {
		return 0, fmt.Errorf("received position: the server is a %s", o.Role)
	}
	return max(o.ReceiveLSN, o.ReplayLSN), nil
}

// LocalStartArgs is StartArgs for a server that only this agent's own user can reach: it listens on
// a Unix socket in the state directory, which nobody else may enter, and trusts whoever comes in
// there. So roles can be made before any of them has a password.
func (s *Server) LocalStartArgs() (bin string, args, env []string, err error) {
	bin, args, env = s.StartArgs()
	hba := filepath.Join(s.opt.StateDir, "bootstrap_hba.conf")
	if err := s.writeDurably(hba, []byte("local all all trust\n"), 0o600); err != nil {
		return "", nil, nil, fmt.Errorf("pg_hba for the bootstrap: %w", err)
	}
	return bin, append(localOnly(args), "--listen_addresses=", "--unix_socket_directories="+s.opt.StateDir, "--hba_file="+hba), env, nil
}

// localOnly leaves out what the caller sets otherwise.
func localOnly(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return strings.HasPrefix(a, "--listen_addresses=") || strings.HasPrefix(a, "--unix_socket_directories=") ||
			strings.HasPrefix(a, "--hba_file=")
	})
}

// FinishInit declares a bootstrapped directory finished.
func (s *Server) FinishInit() error { return s.finish() }

// RunCommand runs an operator's script, with more arguments if given, as the server's user and
// waits for it.
func (s *Server) RunCommand(ctx context.Context, name, command string, more ...string) error {
	words, err := splitCommand(command)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = s.run(ctx, helper{Name: name, Path: words[0], Args: append(words[1:], more...)})
	return err
}
